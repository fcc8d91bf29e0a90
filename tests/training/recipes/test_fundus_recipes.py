"""The recipes for fundus photographs learn, at a tiny size, from folders laid out like their data."""

import csv
import json
from dataclasses import replace

import numpy as np
import pytest

from keras_realmnet.errors import RealMNetError
from tests.training.made_up_fundus import write_disc_and_cup, write_grades, write_landmarks, write_lesions, write_palm
from tests.training.scoring.test_folds import untrained
from training.datasets.found.lesions import LesionDataSet
from training.datasets.made.photograph import PhotographDataSet
from training.datasets.registry import in_folds
from training.fitting.fit import fit
from training.fitting.start import check_part_run, compile_model
from training.input.augmentation import Augmentation
from training.input.windows import Windows
from training.recipe import Phase, Recipe, load_recipe, with_data
from training.runs import load_run, read_task
from training.scoring.figures import figures_of

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("short_encoders", "eager")]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("fundus")
    write_palm(root / "PALM")
    write_landmarks(root / "landmarks")
    return root


def small(recipe: Recipe) -> Recipe:
    return replace(
        recipe, phases=(Phase(1, 64),), batch_size=4, warmup_epochs=0, weights=None, validate_every=1, ema_momentum=None
    )


@pytest.mark.parametrize(
    ("name", "outputs", "figure"),
    [
        ("palm_classifier_512", {"myopia": "grades"}, "val_accuracy"),
        ("palm_fovea_vgg19mixed", {"landmarks": "points"}, "val_mean_distance"),
        ("palm_disc_resnet34", {"disc": "masks"}, "val_pixel_f1"),
        ("palm_lite", {"probabilities": "labels"}, "val_pathologic_auroc"),
    ],
)
def test_palm(folder, tmp_path, name, outputs, figure):
    recipe = small(with_data(load_recipe(name), str(folder)))
    result = fit(recipe, tmp_path / "run", cache=folder / "cache")
    assert {key: output.kind for key, output in read_task(tmp_path / "run").trained.items()} == outputs
    with (tmp_path / "run" / "history.csv").open(newline="") as file:
        (row,) = csv.DictReader(file)
    assert np.isfinite([float(row["loss"]), float(row[figure])]).all()
    assert result["images"] == 4


def test_landmarks_from_sources_that_know_different_things(folder, tmp_path):
    recipe = small(with_data(load_recipe("fundus_landmarks"), str(folder / "landmarks")))
    drawn, *parts = recipe.data.parts
    drawn = PhotographDataSet(4, 0, 2, width=72)
    data = in_folds(replace(recipe.data, parts=(drawn, *parts), repeats=(1, 1, 1, 2, 2)), (2, 5))
    twins = {"images/I5.jpg", "D1.jpg"}  # one picture, once with a fovea, once with a mask
    sides = [set(data.load(split, recipe.spec(), folder / "cache").names) & twins for split in ("train", "test")]
    assert all(sides) is False
    left_out = twins - sides[0] - sides[1]
    result = fit(replace(recipe, data=data), tmp_path / "run", cache=folder / "cache")
    facts = json.loads((tmp_path / "run" / "run.json").read_text())
    assert facts["images"]["train"] + result["images"] == (4 + 2) + 10 + 5 + (1 + 2 * 4) + 2 * 1 - sum(
        2 if name == "D1.jpg" else 1 for name in left_out
    )
    assert result["images"] > 2 + 1  # drawn, and PALM's
    assert np.isfinite(result["scores"]["landmarks_mean_distance"]["value"])
    assert read_task(tmp_path / "run").trained["landmarks"].labels.codes == ("FOVEA", "DISC")


def test_disc_and_cup_on_the_edge_encoder(folder, tmp_path):
    """The ratio of their heights is a measure of what the run answers, and the cup lies in the disc."""
    write_disc_and_cup(folder / "nerve")
    recipe = small(with_data(load_recipe("disc_cup_lite"), str(folder / "nerve")))
    data = in_folds(recipe.data, (1, 4))
    result = fit(replace(recipe, data=data), tmp_path / "run", cache=folder / "cache")
    assert result["images"] == 2
    task = read_task(tmp_path / "run")
    assert [measure.code for measure in task.measures] == ["vCDR"]
    assert "mean_error_vCDR" in result["scores"]
    assert task.trained["disc_cup"].within == (("CUP", "DISC"),)
    images = data.load("test", recipe.spec(), folder / "cache")
    disc, cup = np.moveaxis(images.truth_of("disc_cup"), -1, 0) == 1
    assert disc.any(axis=(1, 2)).all()
    assert not (cup & ~disc).any()


def test_lesions_from_windows_of_pictures(folder, tmp_path):
    """The network that sees whole pictures is validated, kept and scored; it is as good as the history says."""
    write_lesions(folder / "lesions")
    recipe = with_data(load_recipe("lesions_lite"), str(folder / "lesions"))
    recipe = small(replace(recipe, windows=None))
    recipe = replace(recipe, phases=(Phase(1, 96),), windows=Windows(32, per_image=2), keep="val_pixel_f1")
    result = fit(recipe, tmp_path / "run", cache=folder / "cache")
    assert json.loads((tmp_path / "run" / "run.json").read_text())["images"] == {"train": 16, "validation": 1}
    with (tmp_path / "run" / "history.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["size"] for row in rows] == ["32"]
    model, read = load_run(tmp_path / "run")
    assert (read, model.image_size) == (recipe.resolved(recipe.data.task), (96, 96))
    validation = recipe.data.load("validation", recipe.spec(), folder / "cache")
    best = max(float(row["val_pixel_f1"]) for row in rows)
    assert figures_of(model, validation, 4)["val_pixel_f1"] == pytest.approx(best, abs=1e-6)
    assert result["images"] == 1


def test_a_network_that_learns_from_all_pictures_has_no_scores(folder, tmp_path, capsys):
    recipe = small(with_data(load_recipe("palm_lite"), str(folder)))
    recipe = replace(recipe, data=in_folds(recipe.data, None))
    for _ in range(2):  # again: it is finished
        assert fit(recipe, tmp_path / "run", cache=folder / "cache") == {}
    assert "the run has no scores" in capsys.readouterr().out
    assert (tmp_path / "run" / "weights.weights.h5").is_file()
    assert not (tmp_path / "run" / "scores.json").exists()


@pytest.fixture(scope="module")
def guided(folder):
    """The recipe that grades beside a Lesion-Net which learned from ten pictures; two of them are graded, too."""
    write_lesions(folder / "masks")
    write_grades(folder / "graded")
    lesions = with_data(load_recipe("lesion_net_lite_512"), str(folder / "masks"))
    lesions = replace(lesions, data=in_folds(lesions.data, None), phases=(Phase(1, 64),), windows=None)
    run = untrained(folder / "lesion_run", lesions, 0)
    recipe = small(with_data(load_recipe("grading_lesions_lite"), str(folder / "graded")))
    data = replace(recipe.data, without=("L2.jpg", "L3.jpg"), held_out=0.3)
    return replace(recipe, lesion_run=str(run), data=data)


def test_grades_with_and_without_a_look_at_lesions(guided, folder, tmp_path):
    plain = replace(guided, lesion_run=None, preset="grading_plain", model_options={"encoder": "efficientnet_lite0"})
    for name, recipe in (("guided", guided), ("plain", plain)):
        result = fit(recipe, tmp_path / name, cache=folder / "cache")
        with (tmp_path / name / "history.csv").open(newline="") as file:
            (row,) = csv.DictReader(file)
        assert "val_kappa" in row
        assert np.isfinite(float(row["loss"]))
        assert result["outputs"]["grade"]["counts"]["known"] == result["images"] == 2
    learned = json.loads((tmp_path / "guided" / "run.json").read_text())["training_data"]
    assert "with the grade of retinopathy; its Lesion-Net: all of the train split" in learned
    images = [guided.data.load(split, guided.spec(), folder / "cache") for split in ("train", "validation", "test")]
    assert sorted(len(each) for each in images) == [2, 2, 9]
    assert not {"images/G2.jpg", "images/G3.jpg"} & {name for each in images for name in each.names}


def test_one_network_for_lesions_and_a_grade(tmp_path):
    """The Lesion-Net stays as it is, and has no loss: what there is of it is that of the grade."""
    write_lesions(tmp_path / "idrid")
    write_grades(tmp_path / "idrid_fovea_dr")
    lesions = replace(with_data(load_recipe("lesions_lite"), str(tmp_path / "idrid")), windows=None)
    lesions = small(replace(lesions, data=in_folds(lesions.data, None)))
    run = untrained(tmp_path / "lesions", lesions, 0)
    recipe = small(with_data(load_recipe("lesions_grade_lite"), str(tmp_path)))
    recipe = replace(recipe, part_run=str(run), data=in_folds(recipe.data, None))
    assert fit(recipe, tmp_path / "run", cache=tmp_path / "cache") == {}
    assert recipe.frozen_run == (str(run), "network of lesions")
    model, _ = load_run(tmp_path / "run")
    assert set(model.output) == set(read_task(tmp_path / "run").trained) == {"lesions", "grade"}
    images = recipe.data.load("train", recipe.spec(), tmp_path / "cache").images[:2]
    told = np.asarray(load_run(run)[0](images)["lesions"])
    np.testing.assert_allclose(np.asarray(model(images)["lesions"]), told, atol=1e-5)
    graded = compile_model(model, recipe, 1)
    assert set(graded._compile_config.config["loss"]) == {"grade"}


@pytest.mark.long
def test_lesion_net_and_the_grades_beside_it_as_published(guided, folder, tmp_path):
    """On a smaller encoder; the second epoch brings no gain: the learning rate falls, and the loss becomes the dual."""
    lesions = load_recipe("lesion_net_16s")
    smaller = {"phases": (Phase(3, 64),), "batch_size": 6, "weights": None, "drop_after": 1}
    data = LesionDataSet(str(folder / "masks"), held_out=0.3, layout="idrid_colours")
    encoder = {"encoder": "efficientnet_lite0"}
    lesions = replace(lesions, **smaller, data=data, model_options=encoder, augmentation=Augmentation.none())
    lesions = replace(lesions, learning_rate=1e-30)  # so that nothing else changes
    fit(lesions, tmp_path / "lesions", cache=folder / "cache")
    with (tmp_path / "lesions" / "history.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [float(row["learning_rate"]) for row in rows] == pytest.approx([1e-30, 1e-30, 1e-31])
    first, second, third = (float(row["loss"]) for row in rows)
    assert first == pytest.approx(second, abs=1e-5)
    assert abs(third - second) > 1e-3
    grading = replace(load_recipe("lesion_grading"), **smaller, data=guided.data)
    grading = replace(grading, model_options={**encoder, "lesions": 4}, lesion_run=str(tmp_path / "lesions"))
    result = fit(grading, tmp_path / "grades", cache=folder / "cache")
    assert result["outputs"]["grade"]["counts"]["known"] == 2


def test_a_lesion_net_has_not_learned_from_what_is_held_out(guided, folder, tmp_path, capfd):
    """One of its pictures is graded: in one of two folds it is tested, which is refused, in the other it trains."""
    data = in_folds(replace(guided.data, without=("L2.jpg",)), (1, 2))
    tested = [replace(data, fold=(k, 2)).load("test", guided.spec(), folder / "cache") for k in (1, 2)]
    (k,) = (k for k, images in enumerate(tested, 1) if "L3.jpg" in images.patients)
    recipe = replace(guided, data=replace(data, fold=(k, 2)))
    with pytest.raises(RealMNetError, match=r"run: the Lesion-Net learned from .* held out here.* Found: L3.jpg$"):
        fit(recipe, tmp_path / "run", cache=folder / "cache")
    check_part_run(*recipe.frozen_run, [tested[2 - k]], folder / "cache")
    assert not (tmp_path / "run").exists()
    (folder / "masks").rename(folder / "gone")
    check_part_run(*recipe.frozen_run, tested, folder / "cache")
    (folder / "gone").rename(folder / "masks")
    assert "note: " in (told := capfd.readouterr().err)
    assert "learned from pictures that are held out here is not known" in told
