"""The report of networks that answer grades, masks and points: from run folders as `evaluate` leaves them."""

import csv
import json
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import pytest

from keras_realmnet.errors import RealMNetError
from keras_realmnet.tasks.outputs import Masks
from keras_realmnet.tasks.vocabulary import Label, LabelSet
from tests.training.fitting.marked import MarkedDataSet
from tests.training.report.test_page import Page
from training.datasets import registry
from training.input.augmentation import Augmentation
from training.recipe import Phase, Recipe
from training.report.by_kind.masks import example_rows
from training.report.page import write_report
from training.report.plots.files import png
from training.report.plots.masks import Drawn, Legend, overlays
from training.scoring.evaluated_runs import EvaluatedRun, Run, read_run


@dataclass(frozen=True)
class Marks:
    """Those of `MarkedDataSet` without the labels."""

    kind: ClassVar[str] = "marks"
    task: ClassVar = replace(
        MarkedDataSet.task,
        outputs={name: output for name, output in MarkedDataSet.task.outputs.items() if name != "lesions"},
    )

    def describe(self) -> str:
        return "drawn discs"

    def load(self, split, spec, cache):
        images = MarkedDataSet().load(split, spec, cache)
        truth = {name: values for name, values in images.truth.items() if name != "lesions"}
        return replace(images, truth=truth, task=self.task)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """An untrained network of every kind but labels, as `fit` and `evaluate` leave it."""
    from training.runs import TASK_FILE, WEIGHTS_FILE, build_model
    from training.scoring.evaluate import evaluate

    folder = tmp_path_factory.mktemp("runs") / "untrained"
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(registry.DATA_SETS, Marks.kind, Marks)
        recipe = Recipe(
            name="tiny",
            data=Marks(),
            preset="edge_mobilenet_v2",
            phases=(Phase(1, 64),),
            batch_size=6,
            drop_path_rate=0.0,
            augmentation=Augmentation(mixup=0, cutmix=0),
        )
        folder.mkdir()
        build_model(recipe, 64).save_weights(folder / WEIGHTS_FILE)
        (folder / "recipe.json").write_text(json.dumps(recipe.to_dict()))
        (folder / TASK_FILE).write_text(json.dumps(recipe.data.task.to_dict()))
        (folder / "history.csv").write_text("epoch,loss,val_dr_kappa,learning_rate\n1,3,,1e-3\n2,2,0.5,1e-4\n")
        evaluate(folder, cache=folder.parent / "cache", replicates=20)
        yield folder


def test_the_page_of_a_network_without_labels(run, tmp_path):
    page = Page(write_report([run], tmp_path / "report", cache=run.parent / "cache", replicates=20))
    scored = json.loads((run / "scores.json").read_text())["outputs"]
    kappa = scored["dr"]["scores"]["kappa"]["value"]
    assert page.row("κ (quadratic)")[1].startswith(f"{kappa:.4f} (")
    assert page.row("AUPR")[1].startswith(f"{scored['disc']['scores']['aupr']['value']:.4f} (")
    cup = page.row("cup Cup")
    assert cup[1:3] == ["untrained", str(scored["disc"]["counts"]["cup"]["with"])]
    assert cup[3].startswith(f"{scored['disc']['scores']['aupr_cup']['value']:.3f} (")
    assert "Missed ↓" in [row[0] for row in page.cells]
    assert "dr r0, r1, r2 (dr); disc disc, cup (disc); marks fovea, centre (marks)" in page.words
    assert "untrained, dr: not known of the 6 test images: the grade in 1." in page.words
    assert "untrained: no run.json" in page.words
    titles = [image["alt"].split(". ")[0] for image in page.images]
    assert titles == [
        "dr: confusion of the grades",
        "disc: precision and recall of pixels",
        "disc: examples of untrained",
        "marks: distances",
        "Learning curves",
    ]
    assert all(image["src"].startswith("data:image/") for image in page.images)
    assert all(link.startswith("#") or (tmp_path / "report" / link).is_file() for link in page.links)
    with (tmp_path / "report" / "figures" / "examples_disc_untrained.csv").open(newline="") as file:
        examples = list(csv.DictReader(file))
    assert [row["example"] for row in examples] == ["best", "median", "worst"]
    with (tmp_path / "report" / "figures" / "confusion_dr.csv").open(newline="") as file:
        assert [[int(row[code]) for code in ("r0", "r1", "r2")] for row in csv.DictReader(file)] == scored["dr"][
            "counts"
        ]["confusion"]


def test_without_the_pictures_it_is_said_why_there_are_no_examples(run, tmp_path):
    import shutil

    shutil.copytree(run, tmp_path / "moved", ignore=shutil.ignore_patterns("weights*"))
    page = Page(write_report([tmp_path / "moved"], tmp_path / "report", replicates=20))
    assert "Not shown: the run has no weights.weights.h5." in page.words


def test_runs_that_cannot_be_reported_are_one_error(run, tmp_path):
    import shutil

    other = tmp_path / "other"
    shutil.copytree(run, other, ignore=shutil.ignore_patterns("weights*"))
    task = json.loads((other / "task.json").read_text())
    del task["outputs"]["marks"]
    (other / "task.json").write_text(json.dumps(task))
    with pytest.raises(RealMNetError, match="other answers other questions than untrained: report them separately"):
        write_report([run, other], tmp_path / "out")
    with pytest.raises(RealMNetError, match="label lists describe the data of networks that answer labels"):
        write_report([run], tmp_path / "out", [tmp_path / "test.csv"])
    (other / "scores.json").unlink()
    with pytest.raises(RealMNetError, match=r"scores\.json: expected scores of dr, disc"):
        write_report([other], tmp_path / "out")
    assert not isinstance(read_run(run), Run)


def run_of(**columns: list[str]) -> EvaluatedRun:
    rows = [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]
    names = np.array([f"{k}.jpg" for k in range(len(rows))])
    return EvaluatedRun("run", None, None, {}, {}, {}, None, rows, names, names)


def test_examples_are_the_extremes_of_all_pixels_of_an_image():
    spots = Masks(LabelSet("spots", (Label("MA", "Microaneurysm", "m"), Label("HE", "Haemorrhage", "h"))))
    run = run_of(
        MA_hit=["30", "9", "0", "", "1"],
        MA_found=["40", "10", "5", "", "2"],
        MA_true=["40", "10", "0", "", "9"],
        HE_hit=["0", "9", "0", "", ""],
        HE_found=["0", "10", "0", "", ""],
        HE_true=["10", "10", "0", "", ""],
    )
    chosen = example_rows(run, "lesions", spots)
    assert chosen == {
        "best": (1, pytest.approx(0.9)),
        "median": (0, pytest.approx(60 / 90)),
        "worst": (4, pytest.approx(2 / 11)),
    }
    assert example_rows(run_of(MA_hit=["0"], MA_found=["3"], MA_true=["0"], HE_hit=[""], HE_found=[""], HE_true=[""]),
                        "lesions", spots) == {}  # fmt: skip


def test_a_lesion_of_one_pixel_is_seen_in_the_figure_and_the_picture_lies_grey_under_it():
    image = np.full((1000, 1000, 3), (200, 90, 30), np.uint8)
    truth, nothing = np.zeros((1000, 1000, 2), bool), np.zeros((1000, 1000, 2), bool)
    truth[500, 500, 0] = truth[200:260, 200:260, 1] = True
    known = np.ones((1000, 1000), bool)
    legend = [Legend("Microaneurysm", (255, 255, 255)), Legend("Haemorrhage", (86, 180, 233))]
    figure = overlays({"best": Drawn(image, truth, nothing, known)}, legend)
    picture, true, found = (axis.get_images()[0].get_array() for axis in figure.axes)
    side = picture.shape[0]
    assert (true[side // 2 - 2 : side // 2 + 3, side // 2 - 2 : side // 2 + 3] == 255).all(axis=-1).any()
    assert tuple(true[int(0.23 * side), int(0.23 * side)]) == (86, 180, 233)
    assert np.ptp(found, axis=-1).max() == 0
    assert tuple(picture[5, 5]) == (200, 90, 30)
    assert png(figure).startswith(b"\x89PNG")
