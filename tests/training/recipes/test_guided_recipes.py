"""The recipes of guided networks learn, at a tiny size, and are scored, reported and read again."""

import csv
from dataclasses import replace

import numpy as np
import pytest

from keras_realmnet.models.networks import check_answers
from keras_realmnet.tasks.guidance import deployed
from tests.training.made_up_fundus import drawn, save
from training.data.annotations.records import Annotations, Picture, write_annotations
from training.datasets.made.drawn_annotated import DrawnAnnotatedDataSet
from training.datasets.registry import in_folds
from training.fitting.fit import fit
from training.prediction import predict_pictures
from training.recipe import Phase, Recipe, load_recipe, with_data
from training.report.page import write_report
from training.runs import read_task
from training.scoring.folds import score_folds
from training.scoring.pooled import compare_pooled

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("short_encoders", "eager")]
PUBLISHED = {"filters": 2, "pyramid_filters": 4}
EDGE = {"encoder": "mobilenet_v2", "pyramid_filters": 4, "map_stride": 16}


def small(recipe: Recipe, **changes) -> Recipe:
    usual = {"phases": (Phase(1, 64),), "batch_size": 4, "warmup_epochs": 0, "weights": None, "ema_momentum": None}
    return replace(recipe, **{**usual, **changes})


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Eight pictures, of which every second one has exudates in the macula."""
    root, pictures = tmp_path_factory.mktemp("annotated"), []
    for k in range(8):
        picture = drawn(200 + k)
        save(root / "images" / f"{k}.jpg", picture.image)
        said = {"masks": {"EX": ("macula",) if k % 2 else ()}}
        pictures.append(Picture(f"images/{k}.jpg", said, picture.disc_centre, picture.fovea))
    for name in ("hei_med.json", "annotations.json"):
        write_annotations(root / name, Annotations({"EX": "Hard exudate"}, tuple(pictures)))
    return root


def test_a_guided_network_is_fitted_scored_and_reported(tmp_path):
    data = DrawnAnnotatedDataSet(train_eyes=8, validation_eyes=8, test_eyes=10, width=96)
    recipe = small(load_recipe("guided_phantom"), data=data, model_options=EDGE)
    result = fit(recipe, tmp_path / "run", cache=tmp_path / "cache")
    with (tmp_path / "run" / "history.csv").open(newline="") as file:
        (row,) = csv.DictReader(file)
    losses = [float(row[f"{name}loss"]) for name in ("", "probabilities_", "class_maps_")]
    assert losses[0] == pytest.approx(2 * losses[1] + losses[2], rel=1e-3)
    assert losses[2] < 0
    assert 0 < float(row["val_class_maps_air"]) <= 1
    assert {"probabilities_macro_auroc", "class_maps_air_tp", "class_maps_air_fn"} <= set(result["scores"])
    counts = result["outputs"]["class_maps"]["counts"]["EX"]
    assert counts["true positives"] + counts["false negatives"] <= counts["with"]
    page = write_report([tmp_path / "run"], tmp_path / "report", cache=tmp_path / "cache", replicates=10)
    assert "AIR, found" in page.read_text(encoding="utf-8")
    assert (tmp_path / "report" / "figures" / "activation_maps_EX_run.png").is_file()
    assert not list((tmp_path / "report" / "figures").glob("pixel_curves*"))
    save(tmp_path / "picture.png", drawn(3).image)
    predict_pictures(tmp_path / "run", [tmp_path / "picture.png"], tmp_path / "said.csv")
    with (tmp_path / "said.csv").open(newline="") as file:
        assert list(next(csv.DictReader(file))) == ["file", "picture", "quality", "remarks", "EX"]
    assert [output.kind for output in deployed(read_task(tmp_path / "run")).outputs.values()] == ["labels", "maps"]


def test_with_and_without_guidance_are_compared_fold_by_fold(folder, tmp_path):
    for name, lam in (("guided", 1.0), ("plain", 0.0)):
        changes = {"preset": "guided_small", "model_options": PUBLISHED}  # fewer layers than the recipe's own
        base = small(with_data(load_recipe("guided_hei_med"), str(folder)), **changes)
        for k in (1, 2):
            options = {"class_maps": {"lam": lam}}
            recipe = replace(base, data=in_folds(base.data, (k, 2)), loss_options=options)
            fit(recipe, tmp_path / f"{name}{k}", cache=tmp_path / "cache")
        runs = [tmp_path / f"{name}{k}" for k in (1, 2)]
        (part,) = score_folds(runs, tmp_path / name, cache=tmp_path / "cache", replicates=20)["parts"]
        assert part["images"] == 8
        assert 0 < part["scores"]["class_maps_air"]["value"] <= 1
        with (runs[0] / "history.csv").open(newline="") as file:
            assert (float(next(csv.DictReader(file))["class_maps_loss"]) == 0) is (lam == 0)
    (part,) = compare_pooled(tmp_path / "plain", tmp_path / "guided", 20)["parts"]
    assert {"air", "air_tp", "air_fn"} <= set(part["outputs"]["class_maps"]["differences"])


def test_the_published_recipe_takes_a_step_and_the_other_network_answers_the_same(folder, tmp_path):
    recipe = small(with_data(load_recipe("guided_cnn"), str(folder)), model_options=PUBLISHED)
    assert (recipe.momentum, recipe.nesterov) == (0.9, True)
    fit(recipe, tmp_path / "run", cache=tmp_path / "cache")
    with (tmp_path / "run" / "history.csv").open(newline="") as file:
        (row,) = csv.DictReader(file)
    assert np.isfinite(float(row["val_loss"]))
    inception = load_recipe("guided_inception")
    check_answers(inception.preset, inception.data.task.trained)
    assert inception.data.task.trained["probabilities"] == recipe.data.task.trained["probabilities"]
