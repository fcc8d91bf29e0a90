"""Two runs as one: each says what it says alone, is scored on what it held out; what cannot be beside is refused."""

import json
from dataclasses import replace

import numpy as np
import pytest

from keras_realmnet.errors import RealMNetError
from tests.training.scoring.test_folds import untrained
from training.datasets.made.photograph import PhotographDataSet
from training.input.augmentation import Augmentation
from training.input.windows import Windows
from training.recipe import Phase, Recipe
from training.runs import build_model, load_run, predict, read_task
from training.studies.beside import write_beside

pytestmark = [pytest.mark.tensorflow_only, pytest.mark.usefixtures("short_encoders")]

EYES = {"train_eyes": 4, "validation_eyes": 2, "test_eyes": 2, "width": 96}
GRADES = Recipe(
    name="grades",
    data=PhotographDataSet(outputs=("grade",), **EYES),
    preset="grading_plain",
    model_options={"encoder": "mobilenet_v2"},
    phases=(Phase(1, 32),),
    batch_size=2,
    augmentation=Augmentation.none(),
)
LESIONS = replace(
    GRADES,
    name="lesions",
    data=PhotographDataSet(outputs=("lesions",), seed=3, **EYES),
    preset="vessel_lite",
    model_options={},
    phases=(Phase(1, 96),),
    windows=Windows(side=32),
)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    root = tmp_path_factory.mktemp("runs")
    return [untrained(root / recipe.name, recipe, seed) for seed, recipe in enumerate((GRADES, LESIONS), 1)]


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


def test_a_run_of_two_says_what_each_says_and_is_scored_on_what_each_held_out(runs, cache, tmp_path):
    out = tmp_path / "both"
    found = write_beside(*runs, out, reduction=2, cache=cache, replicates=5)
    assert found == json.loads((out / "scores.json").read_text())
    model, recipe = load_run(out)
    assert (recipe.name, recipe.preset, recipe.image_size) == ("grades_lesions", "beside", 64)
    images = recipe.data.load("test", recipe.spec(), cache)
    assert len(images) == 4  # two of each
    alone = {name: load_run(run)[0] for name, run in zip(("main", "part"), runs, strict=True)}
    for name, network in alone.items():
        for own, theirs in zip(model.get_layer(name).weights, network.weights, strict=True):
            np.testing.assert_array_equal(own, theirs)
    same_size = build_model(LESIONS, 64)
    same_size.set_weights(alone["part"].get_weights())
    own = LESIONS.data.load("test", recipe.spec(), cache)
    masks = predict(same_size, own, 2)["lesions"]
    np.testing.assert_allclose(predict(model, images, 2)["lesions"][2:], masks, atol=1e-5)
    assert np.ptp(masks) > 1e-3
    parts = json.loads((out / "beside.json").read_text())
    assert [parts[name]["run"] for name in ("main", "part")] == [str(run) for run in runs]
    facts = json.loads((out / "run.json").read_text())
    assert "; its network of lesions: " in facts["training_data"]
    assert facts["images"] == {"train": 8, "validation": 4}
    assert set(read_task(out).trained) == {"grade", "lesions"}
    with pytest.raises(RealMNetError, match=r"both holds a run: choose another --out"):
        write_beside(*runs, out, cache=cache)


def test_what_cannot_be_beside_each_other_is_refused(runs, cache, tmp_path):
    grades, lesions = runs
    with pytest.raises(RealMNetError, match=r"part must answer one output of masks\. Received: grades"):
        write_beside(lesions, grades, tmp_path / "out", cache=cache)
    with pytest.raises(RealMNetError, match=r"lesions and lesions cannot be beside each other"):
        write_beside(lesions, lesions, tmp_path / "out", cache=cache)
    with pytest.raises(RealMNetError, match=r"expected the folder of a finished run"):
        write_beside(tmp_path, lesions, tmp_path / "out", cache=cache)
    assert not (tmp_path / "out").exists()
