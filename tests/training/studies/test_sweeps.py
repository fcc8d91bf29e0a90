import csv
import json
from dataclasses import fields

import pytest

from keras_realmnet.errors import RealMNetError
from training.data.psmm import ORIGINAL_TRAIN
from training.recipe import Phase, Recipe, load_recipe
from training.studies.sweeps import SWEEPS, run_sweep, variants


@pytest.mark.parametrize("name", SWEEPS)
@pytest.mark.parametrize("base", ["realmnet_21m_384", "study_realmnet"])
def test_variants_differ_only_in_what_they_say(name, base):
    base = load_recipe(base)
    recipes = variants(name, base)
    assert len({json.dumps(recipe.to_dict(), sort_keys=True) for recipe in recipes.values()}) == len(recipes) > 1
    for variant, recipe in recipes.items():
        assert recipe.name == f"{base.name}-{name}-{variant}"
        assert Recipe.from_dict(json.loads(json.dumps(recipe.to_dict()))).to_dict() == recipe.to_dict()
        changed = {item.name for item in fields(Recipe) if getattr(recipe, item.name) != getattr(base, item.name)}
        assert changed - {"name"} <= set(SWEEPS[name].variants[variant])


def test_the_studies_of_the_paper_are_there():
    assert set(SWEEPS) == {
        *("loss", "alpha", "gamma", "asymmetric_gammas", "margin", "temperatures", "head", "lam", "num_heads"),
        *("resampling", "augmentation", "drop_path", "frozen_stages", "resolution", "scratch", "label_efficiency"),
    }
    base = load_recipe("realmnet_21m_384")
    assert [r.head_options["lam"] for r in variants("lam", base).values()] == [0.2, 0.4, 0.6, 0.8, 1.0, 1.2, 1.4]
    assert [r.head_options["num_heads"] for r in variants("num_heads", base).values()] == [1, 2, 4, 6, 8]
    assert [r.train_share for r in variants("label_efficiency", base).values()] == [0.2, 0.4, 0.6, 0.8, 1.0]
    assert [r.model_options["frozen_stages"] for r in variants("frozen_stages", base).values()] == [0, 1, 2, 3, 4]
    assert {r.data.train_list for r in variants("resampling", base).values()} == {ORIGINAL_TRAIN}
    assert variants("scratch", base)["scratch"].weights is None
    augmentation = variants("augmentation", base)["without_mixing"].augmentation
    assert (augmentation.mixup, augmentation.cutmix, augmentation.affine) == (0, 0, 0.3)


def test_other_sizes_keep_the_phases():
    base = Recipe(name="x", phases=(Phase(5, 96), Phase(2, 224)))
    assert variants("resolution", base)["384"].phases == (Phase(5, 160), Phase(2, 384))


def scores(value):
    return {"scores": {"map": {"value": value, "low": value - 0.1, "high": value + 0.1, "replicates": 1000}}}


def test_a_sweep_goes_on_where_it_stopped(tmp_path):
    """Finished variants are not trained again; the table has a row for each finished one, in the sweep's order."""
    base, trained = load_recipe("study_realmnet"), []

    def train(recipe, folder):
        if recipe.head_options["lam"] == 0.6 and not stopped:
            stopped.append(recipe)
            raise KeyboardInterrupt
        trained.append(recipe.head_options["lam"])
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "scores.json").write_text(json.dumps(scores(recipe.head_options["lam"] / 2)))

    stopped = []
    with pytest.raises(KeyboardInterrupt):
        run_sweep("lam", base, tmp_path, train, only=["1.2", "0.6"])
    assert trained == [1.2]
    rows = run_sweep("lam", base, tmp_path, train, only=["0.6", "1.2"])
    assert trained == [1.2, 0.6]
    assert [row["variant"] for row in rows] == ["0.6", "1.2"]
    with (tmp_path / "sweep.csv").open(newline="") as file:
        read = list(csv.DictReader(file))
    assert [float(row["map"]) for row in read] == [0.3, 0.6]
    assert float(read[0]["map_low"]) == pytest.approx(0.2)


def test_what_does_not_exist_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"sweep must be one of loss, .*Received: 'colour'"):
        variants("colour", load_recipe("smoke"))
    with pytest.raises(RealMNetError, match=r"variants of head are residual_attention, linear\. Received: none"):
        run_sweep("head", load_recipe("study_realmnet"), tmp_path, print, only=["none"])
