"""A run that learns labels, a grade, masks and points at once, from its recipe to its table of predictions."""

import csv
import json
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import ClassVar

import cv2
import keras
import numpy as np
import pytest

from keras_realmnet.errors import RealMNetError
from keras_realmnet.models.network import Network
from keras_realmnet.tasks.task import Task
from tests.training.fitting.marked import Drawn, MarkedDataSet
from tests.training.tasks.vocabularies import DISC, SEVERITY, task, vocabulary
from training.datasets import registry
from training.fitting.fit import fit
from training.fitting.start import compile_model, initial_model, losses_of
from training.input.augmentation import Augmentation
from training.input.input_pipeline import TrainingBatches
from training.prediction import predict_pictures, task_columns
from training.recipe import Phase, Recipe
from training.runs import build_model, load_run, predict, predict_parts, read_task
from training.scoring.figures import figures_of

pytestmark = pytest.mark.usefixtures("short_encoders")

MOVING = Augmentation(mixup=0, cutmix=0)
RECIPE = Recipe(
    name="marked",
    data=MarkedDataSet(),
    preset="edge_lite0",
    phases=(Phase(2, 64),),
    batch_size=4,
    drop_path_rate=0.0,
    learning_rate=1e-3,
    warmup_epochs=0,
    augmentation=MOVING,
    validate_every=1,
    validation_loss=True,
    keep="val_disc_dice",
    loss_weights={"marks": 2.0},
)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("marked")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(registry.DATA_SETS, "marked", MarkedDataSet)
        traced, step = [], Network.train_step
        patch.setattr(Network, "train_step", lambda self, data: traced.append(self) or step(self, data))
        result = fit(RECIPE, folder / "run", cache=folder / "cache")
        model, recipe = load_run(folder / "run")
        data = recipe.data.load("test", recipe.spec(), folder / "cache")
        yield SimpleNamespace(
            folder=folder / "run", result=result, model=model, recipe=recipe, data=data, traced=len(traced)
        )


def test_the_run_folder_says_what_was_learned(run):
    assert read_task(run.folder) == MarkedDataSet.task
    written = json.loads((run.folder / "recipe.json").read_text())
    assert written["loss"] == {
        "lesions": "AsymmetricLoss",
        "dr": "SoftmaxCrossentropy",
        "disc": "CrossentropyDice",
        "marks": "EuclideanDistance",
    }
    facts = json.loads((run.folder / "run.json").read_text())
    assert sum(facts["label_counts"]["train"].values()) > 0
    left = {path.name for path in run.folder.iterdir() if path.is_file()}
    tables = {"history.csv", "validation_scores.csv", "test_scores.csv"}
    assert left == {"recipe.json", "task.json", "run.json", "weights.weights.h5", "scores.json", *tables}


def test_tensorflow_traces_the_step_once(run):
    assert run.traced == 1  # the variables of several losses were there before


def test_history_has_the_figures_of_each_output(run):
    with (run.folder / "history.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 2
    for row in rows:
        each = [float(row[f"{name}_loss"]) for name in run.data.task.trained]
        assert float(row["loss"]) == pytest.approx(each[0] + each[1] + each[2] + 2 * each[3], rel=1e-4)
        for column in ("val_lesions_macro_auroc", "val_dr_kappa", "val_disc_dice", "val_marks_mean_distance"):
            assert np.isfinite(float(row[column])), column
        assert float(row["val_loss"]) > 0


def test_every_output_is_scored(run):
    result = json.loads((run.folder / "scores.json").read_text())
    assert result == json.loads(json.dumps(run.result))
    assert result["images"] == result["patients"] == 6
    assert result["rule"] == {"kind": "no_referral"}
    assert {name: output["kind"] for name, output in result["outputs"].items()} == {
        "lesions": "labels",
        "dr": "grades",
        "disc": "masks",
        "marks": "points",
    }
    figures = figures_of(run.model, run.data, 4)
    for score in ("dr_kappa", "dr_accuracy", "disc_dice", "disc_pixel_f1", "marks_mean_distance"):
        assert result["scores"][score]["value"] == figures[f"val_{score}"], score
    assert result["scores"]["lesions_macro_auroc"]["value"] == figures["val_lesions_macro_auroc"]
    disc = result["outputs"]["disc"]
    assert disc["counts"]["cup"] == {"with": 6, "without": 0, "unknown": 0, "found where it is not": 0}
    assert sum(map(sum, result["outputs"]["dr"]["counts"]["confusion"])) == 5  # of one image the grade is not known
    marks = result["outputs"]["marks"]
    assert marks["counts"]["fovea"] == {"visible": 5, "not visible": 0, "unknown": 1}
    # Discs of 21 px in squares of 64 of 72.
    ratio = marks["scores"]["mean_diameters_centre"]["value"] / marks["scores"]["mean_distance_centre"]["value"]
    assert ratio == pytest.approx(72 / 21, rel=0.1)
    with (run.folder / "test_scores.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["filename"] for row in rows] == list(run.data.names)
    assert rows[0]["true_ex"] == rows[1]["true_dr"] == rows[2]["true_fovea_x"] == rows[2]["fovea_distance"] == ""
    predicted = predict(run.model, run.data, 4)
    for n, row in enumerate(rows):
        np.testing.assert_allclose([float(row[code]) for code in ("r0", "r1", "r2")], predicted["dr"][n], rtol=1e-5)
        assert row["dr"] == SEVERITY.labels.codes[predicted["dr"][n].argmax()]
        assert float(row["fovea_x"]) == pytest.approx(predicted["marks"][n, 0, 0], rel=1e-5)
        assert 0 <= int(row["cup_hit"]) <= int(row["cup_true"])
    distances = [float(row[f"{code}_distance"] or "nan") for row in rows for code in ("fovea", "centre")]
    assert np.nanmean(distances) == pytest.approx(marks["scores"]["mean_distance"]["value"])


def test_the_validation_loss_is_that_of_keras(run):
    """On one batch that holds all images, where the mean over batches is the loss."""
    figures = figures_of(run.model, run.data, len(run.data), losses_of(run.recipe))
    compiled = compile_model(run.model, run.recipe, 1)
    x, y = TrainingBatches(run.data, 64, len(run.data), Augmentation.none(), seed=0, named=True)[0]
    assert figures["val_loss"] == pytest.approx(compiled.evaluate(x, y, verbose=0, return_dict=True)["loss"], rel=1e-4)


def test_predictions_are_what_a_deployed_network_gives(run):
    whole = predict(run.model, run.data, 4)
    run.data.task.check(whole)
    np.testing.assert_allclose(whole["disc"].sum(axis=-1), 1, rtol=1e-5)
    np.testing.assert_allclose(whole["dr"].sum(axis=-1), 1, rtol=1e-5)
    raw = run.model.predict(run.data.images.astype(np.float32), batch_size=4, verbose=0)
    np.testing.assert_allclose(whole["lesions"], keras.ops.sigmoid(raw["lesions"]), rtol=1e-5, atol=1e-7)
    np.testing.assert_array_equal(whole["marks"], raw["marks"])
    parts = list(predict_parts(run.model, run.data, 4))
    assert [part for part, _ in parts] == [slice(0, 6)]


def test_pictures_get_a_table_of_predictions(run, tmp_path):
    pictures = tmp_path / "pictures"
    (pictures / "more").mkdir(parents=True)
    for k in range(2):
        cv2.imwrite(str(pictures / "more" / f"{k}.png"), Drawn(5000 + k).scene()[0][..., ::-1])
    (pictures / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\nnothing")
    (pictures / "notes.txt").write_text("no picture")
    out = tmp_path / "scores.csv"
    assert predict_pictures(run.folder, [pictures], out) == (3, 1)
    with out.open(newline="") as file:
        rows = {row["file"]: row for row in csv.DictReader(file)}
    assert list(rows) == ["broken.png", "more/0.png", "more/1.png"]
    columns = task_columns(run.data.task)
    assert columns[:3] == ["he", "ex", "dr"]
    broken = rows["broken.png"]
    assert broken["quality"] == "unreadable"
    assert broken["remarks"]
    assert not any(broken[column] for column in columns)
    for name in ("more/0.png", "more/1.png"):
        assert rows[name]["quality"] in ("not_analysed", "insufficient")  # drawings of 72 px
        assert rows[name]["remarks"]
        assert rows[name]["dr"] in SEVERITY.labels.codes
        grades = [float(rows[name][code]) for code in SEVERITY.labels.codes]
        assert sum(grades) == pytest.approx(1, rel=1e-5)
        assert 0 <= float(rows[name]["he"]) <= 1
        assert int(rows[name]["disc_parts"]) >= 0
        assert 0 <= float(rows[name]["fovea_x"]) <= 71.5
    assert predict_pictures(run.folder, [pictures], out, only_gradable=True) == (3, 1)
    with out.open(newline="") as file:
        assert not any(row[column] for row in csv.DictReader(file) for column in columns)
    (tmp_path / "empty").mkdir()
    with pytest.raises(RealMNetError, match="no picture in"):
        predict_pictures(run.folder, [tmp_path / "empty"], out)


def test_what_does_not_fit_the_data_is_told_before_anything_is_read(tmp_path):
    for changes, message in (
        ({"augmentation": Augmentation()}, r"masks \(disc\) cannot be mixed"),
        ({"loss": "AsymmetricLoss"}, "loss must be {output: name} for lesions, dr, disc, marks"),
        ({"loss": {"disc": "AsymmetricLoss"}}, r"the loss of masks \(disc\) must be CrossentropyDice. Received"),
        ({"loss": {"x": "AsymmetricLoss"}}, "loss must name outputs of .*Received: 'x'"),
        ({"loss_options": {"disc": {"exclusive": False}}}, "loss_options of CrossentropyDice takes dice_weight"),
        ({"loss_options": {"dice_weight": 1.0}}, "loss_options must be {output: options}"),
        ({"loss_weights": {"disc": 0.0}}, "disc must be a number above 0. Received: 0.0"),
        ({"loss_weights": {"spots": 1.0}}, "loss_weights must name outputs"),
        ({"keep": "val_dice"}, "keep must be one of val_lesions_macro_auroc, .*Received: 'val_dice'"),
        ({"keep": "val_loss", "validation_loss": False}, "needs validation_loss=True"),
        ({"keep": None, "patience": 2}, "patience needs keep"),
    ):
        with pytest.raises(ValueError, match=message):
            replace(RECIPE, **changes)
    with pytest.raises(RealMNetError, match="realmnet_5m_224 answers one output of labels or grades"):
        fit(replace(RECIPE, preset="realmnet_5m_224"), tmp_path / "run", cache=tmp_path / "cache")
    assert not list(tmp_path.iterdir())


def test_a_network_without_named_outputs_learns_its_only_one():
    recipe = Recipe(name="x", data=MarkedDataSet(), augmentation=MOVING, preset="edge_lite0", phases=(Phase(1, 64),))
    asked = task(dr=SEVERITY)
    tiny = {"embed_dims": (8, 8, 8, 8), "depths": (1, 1, 1, 1), "num_heads": (1, 1, 1, 1)}
    model = build_model(replace(recipe, preset="realmnet_5m_224", model_options=tiny), 64, task=asked)
    assert model.output.shape == (None, 3)
    named = build_model(recipe, 64, task=task(disc=DISC))
    assert {name: output.shape[-1] for name, output in named.output.items()} == {"disc": 3}


@dataclass(frozen=True)
class OnlyDiscAndGrade(MarkedDataSet):
    """The disc under a vocabulary of another name, and grades with one more than the run knows."""

    task: ClassVar[Task] = task(
        disc=replace(DISC, labels=replace(DISC.labels, name="other")),
        dr=replace(SEVERITY, labels=vocabulary("other", "r0", "r1", "r2", "r3")),
    )


def test_a_run_s_ends_go_on_where_the_output_has_the_same_labels(run):
    recipe = replace(RECIPE, data=OnlyDiscAndGrade(), weights=str(run.folder), keep=None, loss_weights={})
    model = initial_model(recipe, 64)
    ends = {layer.name for layer in model.layers if layer.name.startswith("disc") and layer.weights}
    assert len(ends) > 5
    for name in ("encoder", *ends):
        pairs = zip(model.get_layer(name).get_weights(), run.model.get_layer(name).get_weights(), strict=True)
        assert all(np.array_equal(ours, theirs) for ours, theirs in pairs)
    assert model.output["dr"].shape == (None, 4)
