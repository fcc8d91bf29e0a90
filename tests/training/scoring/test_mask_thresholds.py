"""Thresholds of masks, from the pictures that validate to the bundle's task: runs of vessels with random networks."""

import json
from dataclasses import replace

import keras
import numpy as np
import pytest
from sklearn.metrics import f1_score, roc_auc_score

from export.bundling.from_run import _task
from tests.training.datasets.found.test_vessels import write_eye
from tests.training.scoring.test_folds import untrained
from training.datasets.cross_validation import CrossValidation
from training.datasets.found.vessels import VesselDataSet
from training.fitting.run_folder import check_same_task
from training.fitting.start import initial_model
from training.input.augmentation import Augmentation
from training.recipe import Phase, Recipe
from training.runs import load_run, predict, read_task
from training.scoring.evaluate import evaluate, evaluate_on
from training.scoring.evaluated_runs import read_runs
from training.scoring.folds import score_folds

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def recipe(tmp_path_factory):
    folder = tmp_path_factory.mktemp("chase")
    for child in range(1, 7):
        for eye in "LR":
            write_eye(folder, f"chase_{child:02}{eye}")
    return Recipe(
        name="tiny",
        data=CrossValidation(VesselDataSet(str(folder), "chase_db1_folders"), (1, 2), validation_share=0.3),
        preset="vessel_lite",
        model_options={"widths": (4, 4, 4, 4)},
        phases=(Phase(1, 64),),
        batch_size=4,
        augmentation=Augmentation.none(),
    )


def random_run(folder, recipe, seed):
    """One whose network is surer of what it says than those that are not trained, one way or the other."""
    model, _ = load_run(untrained(folder, recipe, seed))
    kernel = model.layers[-1].kernel
    kernel.assign(100 * keras.ops.convert_to_numpy(kernel))
    model.save_weights(folder / "weights.weights.h5")
    return folder


@pytest.fixture(scope="module")
def runs(recipe, tmp_path_factory):
    """Of two folds, each evaluated, and of all pictures."""
    root = tmp_path_factory.mktemp("runs")
    folds = [random_run(root / f"{k}", replace(recipe, data=replace(recipe.data, fold=(k, 2))), k) for k in (1, 2)]
    for run in folds:
        evaluate(run, cache=root / "cache", replicates=20)
    whole = random_run(root / "whole", replace(recipe, data=replace(recipe.data, fold=None)), 3)
    return [*folds, whole], root / "cache"


def pixels(run, split, cache):
    """Truth and probability of all known pixels of a split."""
    model, recipe = load_run(run)
    images = recipe.data.load(split, recipe.spec(), cache)
    truth, said = images.truth_of("vessels"), predict(model, images, 4)["vessels"]
    return truth[truth != 255], said[truth != 255]


def test_a_run_finds_by_the_threshold_with_the_best_f1_of_the_pictures_that_validate(runs):
    (run, *_), cache = runs
    threshold = read_task(run).trained["vessels"].threshold
    assert threshold != 0.5
    y, said = pixels(run, "validation", cache)
    best = max(f1_score(y, said >= each) for each in np.quantile(said, np.linspace(0, 0.999, 200)))
    assert f1_score(y, said >= threshold) > best - 0.01
    scores = json.loads((run / "scores.json").read_text())
    assert scores["mask_thresholds"]["vessels"] == {
        "thresholds": {"VES": threshold},
        "chosen": "the best F1 of pixels on 2 validation images of 1 patients",
    }
    assert not scores["thresholds_chosen_on_test"]
    y, said = pixels(run, "test", cache)
    assert scores["scores"]["pixel_f1"]["value"] == pytest.approx(f1_score(y, said >= threshold))
    assert scores["scores"]["pixel_auroc"]["value"] == pytest.approx(roc_auc_score(y, said), abs=0.01)
    assert evaluate(run, cache=cache, replicates=20) == json.loads(json.dumps(scores))  # again: the same


def test_folds_are_scored_by_their_own_thresholds_and_choose_one_for_the_network_of_all(runs, recipe):
    (*folds, whole), cache = runs
    assert read_task(whole).trained["vessels"].threshold == 0.5
    found = score_folds(folds, whole, cache=cache, replicates=20)
    own = [read_task(run).trained["vessels"].threshold for run in folds]
    sides = [pixels(run, "test", cache) for run in folds]
    y = np.concatenate([truth for truth, _ in sides])
    by_own = np.concatenate([said >= threshold for (_, said), threshold in zip(sides, own, strict=True)])
    assert found["parts"][0]["scores"]["pixel_f1"]["value"] == pytest.approx(f1_score(y, by_own))
    (chosen,) = found["mask_thresholds"]["vessels"]["thresholds"].values()
    assert found["mask_thresholds"]["vessels"]["chosen"].endswith("on 12 pictures in 2 folds of cross-validation")
    said = np.concatenate([probability for _, probability in sides])
    best = max(f1_score(y, said >= each) for each in np.quantile(said, np.linspace(0, 0.999, 200)))
    assert f1_score(y, said >= chosen) > best - 0.01
    task = read_task(whole)
    assert task.trained["vessels"].thresholds == {"VES": chosen}
    assert _task(whole, None) == task  # what a bundle takes
    elsewhere = evaluate_on(whole, recipe.data.of, "elsewhere", cache, 20)
    assert elsewhere["thresholds"] == {"vessels": {"VES": chosen}}
    y, said = pixels(whole, "train", cache)
    assert elsewhere["scores"]["pixel_f1"]["value"] == pytest.approx(f1_score(y, said >= chosen))


def test_what_was_chosen_does_not_make_it_another_network(runs, recipe):
    """It goes on learning, is reported beside others, and is the run that it was."""
    (first, second, _), _ = runs
    check_same_task(first, recipe.data.task)
    started = initial_model(replace(recipe, weights=str(first)), 64)
    trained, _ = load_run(first)
    for a, b in zip(started.get_weights(), trained.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    for run in (first, second):
        (run / "run.json").write_text("{}")
    own = [run.others["vessels"].threshold for run in read_runs([first, second])]
    assert own == [read_task(run).trained["vessels"].threshold for run in (first, second)]
