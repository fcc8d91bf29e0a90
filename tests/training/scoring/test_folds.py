"""Runs of two folds with random networks: what is scored is theirs, each picture by the one that did not see it."""

import csv
import json
from dataclasses import replace

import keras
import numpy as np
import pytest
from PIL import Image

from keras_realmnet.errors import DataSetError, RealMNetError
from tests.training.made_up_fundus import write_landmarks, write_palm
from training.datasets.registry import in_folds
from training.prediction import predict_pictures
from training.recipe import Phase, load_recipe, with_data
from training.runs import build_model, load_run, read_task
from training.scoring.evaluate import evaluate, evaluate_on
from training.scoring.folds import score_folds
from training.scoring.pooled import compare_pooled

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("short_encoders")]


@pytest.fixture(scope="module")
def fundus(tmp_path_factory):
    root = tmp_path_factory.mktemp("fundus")
    write_landmarks(root)
    write_palm(root / "palm")
    return root


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


def untrained(folder, recipe, seed):
    """The folder of a run, but for the training."""
    keras.utils.set_random_seed(seed)
    folder.mkdir(parents=True)
    (folder / "recipe.json").write_text(json.dumps(recipe.to_dict()))
    (folder / "task.json").write_text(json.dumps(recipe.data.task.to_dict()))
    build_model(recipe, recipe.image_size).save_weights(folder / "weights.weights.h5")
    return folder


@pytest.fixture(scope="module")
def landmark_runs(fundus, tmp_path_factory):
    recipe = replace(load_recipe("fundus_landmarks"), weights=None, phases=(Phase(1, 64),))
    data = replace(recipe.data, parts=recipe.data.parts[1:], repeats=())  # without the drawings
    data = with_data(replace(recipe, data=data), str(fundus)).data
    root = tmp_path_factory.mktemp("runs")
    return [untrained(root / f"{k}", replace(recipe, data=in_folds(data, (k, 2))), k) for k in (1, 2)]


@pytest.fixture(scope="module")
def scored(landmark_runs, cache):
    out = landmark_runs[0].parent / "whole"
    score_folds(landmark_runs, out, cache=cache, replicates=20)
    return json.loads((out / "cross_validation.json").read_text())


def test_every_picture_is_scored_by_the_network_that_did_not_see_it(landmark_runs, scored, fundus, cache, tmp_path):
    """The distances against those in pixels of the pictures, which `predict` writes into a table."""
    distances, folder = {"FOVEA": [], "DISC": []}, fundus / "idrid_fovea_dr" / "images"
    with (folder.parent / "labels.csv").open(newline="") as file:
        truth = {row["image"]: row for row in csv.DictReader(file)}
    seen = []
    for run in landmark_runs:
        _, recipe = load_run(run)
        names = recipe.data.parts[0].load("test", recipe.spec(), cache).names
        seen += names
        predict_pictures(run, [folder / name.split("/")[-1] for name in names], tmp_path / "out.csv")
        with (tmp_path / "out.csv").open(newline="") as file:
            for row in csv.DictReader(file):
                true = truth[row["file"].split("/")[-1]]
                with Image.open(row["file"]) as picture:
                    longer = max(picture.size)
                for code, found in distances.items():
                    x, y = (float(true[f"{code.lower()}_{axis}"]) for axis in "xy")
                    if (x, y) != (0, 0):
                        found.append(np.hypot(float(row[f"{code}_x"]) - x, float(row[f"{code}_y"]) - y) / longer)
    assert sorted(seen) == sorted(f"images/I{k}.jpg" for k in range(10))
    part = scored["parts"][0]
    assert part["images"] == 10
    assert part["patients"] == 9  # one picture is there twice
    for code, found in distances.items():
        assert part["scores"][f"mean_picture_distance_{code}"]["value"] == pytest.approx(np.mean(found), abs=2e-4)
        assert part["scores"][f"median_picture_distance_{code}"]["value"] == pytest.approx(np.median(found), abs=2e-4)


def test_parts_that_are_cut_have_scores_of_their_own_outputs(scored):
    assert [part["images"] for part in scored["parts"]] == [10, 5, 5]
    assert [list(part["outputs"]) for part in scored["parts"]] == [["landmarks"], ["landmarks"], ["disc"]]
    assert "mean_distance_DISC" in scored["parts"][0]["scores"]
    assert "mean_distance_DISC" not in scored["parts"][1]["scores"]  # PALM knows the fovea alone
    assert scored["folds"] == 2
    assert scored["parts"][2]["data"].startswith("cross-validation in 2 folds: ")


def test_two_cross_validations_are_compared(landmark_runs, scored, cache, tmp_path):
    """With itself: nothing differs. What was kept gives the scores that were told."""
    whole = landmark_runs[0].parent / "whole"
    found = compare_pooled(whole, whole, replicates=20)
    assert [part["images"] for part in found["parts"]] == [10, 5, 5]
    for part, told in zip(found["parts"], scored["parts"], strict=True):
        for name, output in part["outputs"].items():
            for score, difference in output["differences"].items():
                assert difference["a"] == told["outputs"][name]["scores"][score]["value"], score
                assert difference["difference"] in (0, None)


def test_folds_that_are_missing_or_of_another_recipe_are_refused(landmark_runs, cache, tmp_path):
    first, second = landmark_runs
    for runs in ([first], [first, first]):
        with pytest.raises(RealMNetError, match=r"expected one run for each of 2 folds. Received: .* 1/2"):
            score_folds(runs, tmp_path, cache=cache)
    _, recipe = load_run(second)
    other = untrained(tmp_path / "other", replace(recipe, learning_rate=1e-5), 3)
    with pytest.raises(RealMNetError, match=rf"{other}: its recipe is not that of {first}"):
        score_folds([first, other], tmp_path, cache=cache)
    whole = untrained(tmp_path / "whole", replace(recipe, data=in_folds(recipe.data, None)), 3)
    with pytest.raises(RealMNetError, match=rf"{whole}: not a run of cross-validation; expected .* --fold K/N"):
        score_folds([whole, second], tmp_path, cache=cache)
    assert not (tmp_path / "cross_validation.json").exists()


def test_thresholds_are_those_of_cross_validation(fundus, cache, tmp_path):
    recipe = with_data(load_recipe("palm_lite"), str(fundus / "palm"))
    tiny = {"embed_dims": (8, 8, 16, 16), "depths": (1, 1, 1, 1), "num_heads": (1, 1, 1, 1)}
    recipe = replace(recipe, preset="realmnet_5m_224", model_options=tiny, weights=None, phases=(Phase(1, 64),))
    runs = [untrained(tmp_path / f"{k}", replace(recipe, data=in_folds(recipe.data, (k, 2))), k) for k in (1, 2)]
    whole = untrained(tmp_path / "whole", recipe, 3)
    before = evaluate(whole, cache=cache, replicates=20)
    assert before["thresholds_chosen_on_test"]
    found = score_folds(runs, whole, cache=cache, replicates=20)
    after = evaluate(whole, cache=cache, replicates=20)
    assert after["operating_point"] == found["operating_points"]["probabilities"]
    assert after["operating_point"] != before["operating_point"]
    assert "8 pictures in 2 folds of cross-validation" in after["operating_point"]["chosen"]
    assert not after["thresholds_chosen_on_test"]
    assert read_task(whole).operating_point.to_dict() == after["operating_point"]
    assert found["parts"][0]["outputs"]["probabilities"]["operating_point"] == after["operating_point"]


def test_a_run_is_scored_on_other_pictures_that_know_less(landmark_runs, fundus, cache, capsys):
    """Fewer outputs and fewer labels than the network answers, as `cross-validation` has them of one part."""
    run = landmark_runs[0]
    _, recipe = load_run(run)
    part = in_folds(recipe.data.parts[1], None)  # PALM's foveas
    found = evaluate_on(run, part, "palm", cache=cache, replicates=20)
    assert json.loads((run / "scores_on_palm.json").read_text()) == json.loads(json.dumps(found))
    assert list(found["outputs"]) == ["landmarks"]
    assert "FOVEA" in capsys.readouterr().out
    with (run / "scores_on_palm.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    mean = np.mean([float(row["FOVEA_distance"]) for row in rows])
    assert len(rows) == 5
    assert found["scores"]["mean_distance"]["value"] == pytest.approx(mean, abs=1e-6)
    grades = with_data(load_recipe("palm_classifier_512"), str(fundus / "palm")).data
    with pytest.raises(DataSetError, match=r"asks for myopia \(grades NO, P\); the network answers landmarks \(points"):
        evaluate_on(run, grades, "palm", cache=cache)
