"""Runs as one: the network says the mean, is scored as another run's is, never on what a member has learned from."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest

from keras_realmnet.errors import DataSetError, RealMNetError
from tests.training.scoring.test_folds import untrained
from training.datasets.cross_validation import CrossValidation
from training.datasets.made.phantom import PhantomDataSet
from training.input.augmentation import Augmentation
from training.recipe import Phase, Recipe
from training.runs import load_run, members_of, predict
from training.scoring.evaluate import evaluate, evaluate_on
from training.scoring.folds import score_folds
from training.studies.ensembles import write_ensemble

pytestmark = pytest.mark.usefixtures("eager")

DRAWN = PhantomDataSet(train_patients=6, validation_patients=4, test_patients=3, width=96)
TINY = Recipe(
    name="tiny",
    data=DRAWN,
    preset="refuge_findings",
    model_options={"filters": 2, "blocks": 0, "branch_filters": 2},
    phases=(Phase(1, 64),),
    batch_size=4,
    augmentation=Augmentation.none(),
)


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    root = tmp_path_factory.mktemp("runs")
    return [untrained(root / f"{seed}", replace(TINY, seed=seed), seed) for seed in (1, 2)]


@pytest.fixture(scope="module")
def folds(tmp_path_factory):
    root = tmp_path_factory.mktemp("folds")
    data = [CrossValidation(DRAWN, (k, 2)) for k in (1, 2)]
    return [untrained(root / f"{k}", replace(TINY, data=each), k) for k, each in enumerate(data, 1)]


def test_an_ensemble_is_a_run_that_says_the_mean(runs, cache, tmp_path):
    out = tmp_path / "ensemble"
    found = write_ensemble(runs, out, cache=cache, replicates=5)
    assert found == json.loads((out / "scores.json").read_text())
    images = DRAWN.load("test", TINY.spec(), cache)
    said = [predict(load_run(run)[0], images, 4)["probabilities"] for run in runs]
    model, recipe = load_run(out)
    np.testing.assert_allclose(predict(model, images, 4)["probabilities"], np.mean(said, axis=0), atol=1e-6)
    assert np.abs(said[0] - said[1]).max() > 1e-3
    assert (recipe.name, recipe.data) == ("tiny_ensemble", DRAWN)
    assert [each.seed for each in members_of(out)] == [1, 2]
    assert members_of(runs[0]) == []
    facts = json.loads((out / "run.json").read_text())
    assert facts["training_data"].endswith("the mean of 2 networks")
    assert facts["images"].keys() == {"train", "validation"}
    with pytest.raises(RealMNetError, match=r"ensemble holds a run: choose another --out"):
        write_ensemble(runs, out, cache=cache)
    with pytest.raises(RealMNetError, match=r"an ensemble is no member of one; name its members"):
        write_ensemble([runs[0], out], tmp_path / "other", cache=cache)


def test_of_all_folds_nothing_is_held_out(folds, cache, tmp_path, capsys):
    out = tmp_path / "ensemble"
    assert write_ensemble(folds, out, cache=cache) == {}
    assert "the run has no scores" in capsys.readouterr().out
    with pytest.raises(DataSetError, match=r"ensemble: its cross_validation data has no test split to score"):
        evaluate(out, cache=cache)
    with pytest.raises(DataSetError, match=r"members of this ensemble have learned .* Found: "):
        evaluate_on(out, DRAWN, "drawn", cache=cache, replicates=5)
    others = CrossValidation(DRAWN, None, part="validation")
    assert evaluate_on(out, others, "others", cache=cache, replicates=5)["images"] > 0


def test_ensembles_of_each_fold_are_cross_validated(folds, cache, tmp_path):
    """As the normalizations of one fold: each ensemble is tested on the fold that its members have not seen."""
    ensembles = []
    for k, run in enumerate(folds, 1):
        again = tmp_path / f"again{k}"
        shutil.copytree(run, again)
        ensembles.append(tmp_path / f"fold{k}")
        write_ensemble([run, again], ensembles[-1], cache=cache, replicates=5)
        assert load_run(ensembles[-1])[1].data.fold == (k, 2)
    alone, together = (score_folds(each, tmp_path / "out", cache=cache, replicates=5) for each in (folds, ensembles))
    scores = [each["parts"][0]["scores"]["macro_auroc"]["value"] for each in (alone, together)]
    assert scores[0] == pytest.approx(scores[1], abs=1e-6)


def test_runs_that_do_not_go_together_are_refused(runs, folds, cache, tmp_path):
    def refused(other, match):
        with pytest.raises(RealMNetError, match=match):
            write_ensemble([runs[0], other], tmp_path / "out", cache=cache)
        assert not (tmp_path / "out").exists()

    refused(runs[0], r"expected two runs or more, each once")
    refused(tmp_path / "nowhere", r"nowhere/recipe\.json: no such file")
    larger = untrained(tmp_path / "larger", replace(TINY, phases=(Phase(1, 128),)), 1)
    refused(larger, r"larger: sees pictures as .*'size': 128.*; expected .*'size': 64")
    refused(folds[0], r"1: learned from other data than .*; only their folds may differ")
    other = shutil.copytree(runs[1], tmp_path / "other")
    task = json.loads((other / "task.json").read_text())
    (other / "task.json").write_text(json.dumps({**task, "modality": "colour_fundus"}))
    refused(other, r"other: answers probabilities of colour_fundus, or by other vocabularies; expected what")
