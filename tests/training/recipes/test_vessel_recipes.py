"""The recipes for vessels learn, at a tiny size, from folders laid out like their data."""

import csv
from dataclasses import replace

import numpy as np
import pytest

from tests.training.datasets.found.test_vessels import write_eye
from training.datasets.registry import in_folds, with_folder
from training.fitting.fit import fit
from training.input.windows import Windows
from training.recipe import Phase, load_recipe, recipe_names, with_data
from training.runs import read_task
from training.scoring.evaluate import evaluate_on
from training.scoring.folds import score_folds
from training.scoring.pooled import compare_pooled

SPLITS = ("train", "validation", "test")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """FUNDUS: ten children, six eyes of HRF, and four pictures of another camera."""
    root = tmp_path_factory.mktemp("fundus")
    for child in range(1, 11):
        for eye in "LR":
            write_eye(root / "chase_db1", f"chase_{child:02}{eye}")
    for name in ("01_dr", "01_g", "01_h", "02_dr", "02_g", "02_h"):
        write_eye(root / "hrf", name, "masks")
    for k in range(4):
        write_eye(root / "idrid_vessel", f"{k}", "masks")
    return root


def loaded(data, recipe, folder):
    return [data.load(split, recipe.spec(64), folder / "cache") for split in SPLITS]


@pytest.mark.parametrize("name", ["vessels_lite", "vessel_gan", "vessel_gan_lite"])
def test_folds_of_chase_db1_keep_the_eyes_of_a_child_together(name, folder):
    """Seven children train, one chooses the threshold, two are tested; of all pictures none is held out."""
    recipe = with_data(load_recipe(name), str(folder / "chase_db1"))
    tested = set()
    for k in range(1, 6):
        sets = loaded(in_folds(recipe.data, (k, 5)), recipe, folder)
        assert [len(images) for images in sets] == [14, 2, 4]
        assert [len(set(images.patients)) for images in sets] == [7, 1, 2]
        assert not tested & set(sets[2].patients)
        tested |= set(sets[2].patients)
    assert len(tested) == 10
    assert [each and len(each) for each in loaded(in_folds(recipe.data, None), recipe, folder)] == [20, None, None]


def test_what_is_shipped_learns_from_two_cameras_and_chooses_by_both(folder):
    recipe = with_data(load_recipe("vessels_photographs"), str(folder))
    train, validation, test = loaded(recipe.data, recipe, folder)
    assert len(train) == 16 + 2 * 4
    for held_out in (validation, test):
        assert sorted(patient.split("-")[0] for patient in held_out.patients) == ["chase", "chase", "hrf"]
        assert not set(held_out.patients) & set(train.patients)
    assert recipe.image_size == 960  # whole pictures, as on the box
    licensed = {"chase_db1_folders", "hrf"}
    assert {part.layout for part in recipe.data.parts} == licensed


def test_data_to_try_a_network_on_is_all_of_it(folder):
    names = sorted(name for name in recipe_names() if name.startswith("vessels_") and name not in TRAINED)
    assert names == ["vessels_drive", "vessels_hrf_av", "vessels_idrid", "vessels_uwf"]
    recipe = load_recipe("vessels_idrid")
    data = in_folds(with_folder(recipe.data, str(folder / "idrid_vessel")), None)
    assert len(data.load("train", recipe.spec(64), folder / "cache")) == 4
    for k, place in enumerate(("training", "test")):
        for number in range(1, 3 + k):
            kind = "training" if place == "training" else "test"
            write_eye(folder / "DRIVE" / place, f"{number}_{kind}", "unused")
            write_eye(folder / "masks", f"{number}_manual1", f"../DRIVE/{place}/1st_manual")
    recipe = load_recipe("vessels_drive")
    data = in_folds(with_folder(recipe.data, str(folder / "DRIVE")), None)
    images = data.load("train", recipe.spec(64), folder / "cache")
    assert images.names == ("1_test.png", "2_test.png", "3_test.png")


TRAINED = ("vessels_lite", "vessels_photographs")


@pytest.mark.slow
def test_adversarial_against_plain_loss_and_unseen_pictures(folder, tmp_path, eager):
    """From training to the paired difference, and to the matrix, by the thresholds of each run."""
    published = with_data(load_recipe("vessel_gan_lite"), str(folder / "chase_db1"))
    for preset, out in (("vessel_gan_pixel", "gan"), ("vessel_unet", "plain")):
        recipe = replace(
            published,
            preset=preset,
            model_options={"filters": 2, "levels": 2},
            phases=(Phase(1, 64),),
            windows=Windows(32, per_image=1),
            warmup_epochs=0,
            validate_every=1,
        )
        runs = [tmp_path / f"{out}_{k}" for k in (1, 2)]
        for k, run in enumerate(runs, 1):
            fit(replace(recipe, data=in_folds(recipe.data, (k, 2))), run, cache=folder / "cache")
            with (run / "history.csv").open(newline="") as file:
                (row,) = csv.DictReader(file)
            assert ("adversarial_loss" in row) == (out == "gan")
            assert np.isfinite([float(row["loss"]), float(row["val_pixel_f1"])]).all()
            assert read_task(run).trained["vessels"].threshold != 0.5
        score_folds(runs, tmp_path / out, cache=folder / "cache", replicates=20)
    (part,) = compare_pooled(tmp_path / "plain", tmp_path / "gan", replicates=20)["parts"]
    assert (part["images"], part["patients"]) == (20, 10)
    for score in ("pixel_f1", "aupr", "pixel_auroc"):
        difference = part["outputs"]["vessels"]["differences"][score]
        assert difference["low"] <= difference["difference"] <= difference["high"]
    unseen = with_folder(load_recipe("vessels_idrid").data, str(folder / "idrid_vessel"))
    found = evaluate_on(runs[0], unseen, "vessels_idrid", folder / "cache", 20)
    assert found["thresholds"]["vessels"] == read_task(runs[0]).trained["vessels"].thresholds
    assert found["images"] == 4
