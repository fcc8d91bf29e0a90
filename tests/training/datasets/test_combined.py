from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest

from keras_realmnet.tasks.outputs import Grades, Labels, Masks, Points
from tests.training.datasets.drawn import SPEC
from tests.training.tasks.vocabularies import DISC, task, vocabulary
from training.datasets.combined import CombinedDataSet
from training.datasets.data_set import DataSet
from training.datasets.image_set import ImageSet

SIDE = SPEC.size


@dataclass(frozen=True)
class Made:
    """Three images of one grey level, and what is known of them; each patient has one in every split."""

    kind: ClassVar[str] = "made"

    level: int
    outputs: dict
    patients: tuple[str, ...]
    splits: tuple[str, ...] = ("train",)

    @property
    def task(self):
        return task(**self.outputs)

    def describe(self) -> str:
        return f"grey {self.level}"

    def load(self, split: str, spec, cache: Path) -> ImageSet | None:
        if split not in self.splits:
            return None
        n = len(self.patients)
        truth, masks = {}, {}
        for name, output in self.outputs.items():
            if isinstance(output, Masks):
                shape = (n, SIDE, SIDE) if output.exclusive else (n, SIDE, SIDE, len(output.labels))
                masks[name] = np.full(shape, 1, np.uint8)
            elif isinstance(output, Points):
                truth[name] = np.ones((n, len(output.labels), 3), np.float32) * np.float32([0.25, 0.5, 1])
            else:
                truth[name] = np.eye(len(output.labels), dtype=np.float32)[np.arange(n) % len(output.labels)]
        names = tuple(f"{self.level}-{split}-{k}" for k in range(n))
        pixels = np.full((n, SIDE, SIDE, 3), self.level, np.uint8)
        return ImageSet(pixels, truth, names, self.patients, self.task, f"{self.level}{split}", masks=masks)


FOVEA, BOTH = Points(vocabulary("marks", "fovea")), Points(vocabulary("marks", "centre", "fovea"))
FIRST = Made(10, {"marks": FOVEA, "found": Labels(vocabulary("found", "a", "b"))}, ("1", "2", "3"))
SECOND = Made(20, {"marks": BOTH}, ("4", "5", "6"), ("train", "test"))
THIRD = Made(30, {"disc": DISC, "found": Labels(vocabulary("found", "c", "a"))}, ("7",))


def combined(*parts: DataSet, **more) -> CombinedDataSet:
    return CombinedDataSet("all", parts, **more)


def test_each_part_knows_some_of_the_outputs(tmp_path):
    data = combined(FIRST, THIRD, SECOND)
    assert data.task.trained == {
        "marks": Points(vocabulary("marks", "fovea", "centre")),
        "found": Labels(vocabulary("found", "a", "b", "c")),
        "disc": DISC,
    }
    images = data.load("train", SPEC, tmp_path)
    marks = images.truth["marks"]
    assert images.names == ("10-train-0", "10-train-1", "10-train-2", "30-train-0")  # those of 4, 5, 6 are tested
    np.testing.assert_array_equal(images.image(3), np.full((SIDE, SIDE, 3), 30))
    np.testing.assert_array_equal(marks[0], [[0.25, 0.5, 1], [np.nan] * 3])
    assert np.isnan(marks[3]).all()
    np.testing.assert_array_equal(images.truth["found"][1], [0, 1, np.nan])
    np.testing.assert_array_equal(images.truth["found"][3], [0, np.nan, 1])
    assert [set(np.unique(mask).tolist()) for mask in images.truth_of("disc")] == [{255}] * 3 + [{1}]
    test = data.load("test", SPEC, tmp_path)
    np.testing.assert_array_equal(test.truth["marks"][2], [[0.25, 0.5, 1]] * 2)
    assert data.load("validation", SPEC, tmp_path) is None
    assert data.describe() == "grey 10; grey 30; grey 20"


def test_a_patient_who_is_held_out_in_one_part_trains_in_none(tmp_path, capsys):
    shared = Made(40, {"marks": FOVEA}, ("5", "8"))
    images = combined(SECOND, shared).load("train", SPEC, tmp_path)
    assert images.names == ("40-train-1",)
    assert "left out: 4 (20-train-0, 20-train-1, 20-train-2, 40-train-0)" in capsys.readouterr().err


def test_a_part_may_count_several_times(tmp_path):
    once, twice = (combined(FIRST, THIRD, repeats=each).load("train", SPEC, tmp_path) for each in ((), (1, 3)))
    assert twice.names == (*once.names, "30-train-0", "30-train-0")
    assert twice.pixels.filename == once.pixels.filename
    assert (twice.truth_of("disc")[3:] == 1).all()
    assert twice.sha256 != once.sha256
    data = combined(FIRST, SECOND, repeats=(2, 2))
    assert len(data.load("test", SPEC, tmp_path)) == 3


@pytest.mark.parametrize(
    ("mine", "theirs"),
    [
        (FOVEA, Points(vocabulary("others", "fovea"))),
        (FOVEA, Points(vocabulary("marks", "fovea"), confidence=True)),
        (FOVEA, Labels(vocabulary("marks", "fovea"))),
        (Grades(vocabulary("dr", "r0", "r1")), Grades(vocabulary("dr", "r0", "r2"))),
        (DISC, Masks(vocabulary("disc", "disc"), exclusive=True)),
    ],
)
def test_outputs_that_are_not_the_same(mine, theirs):
    data = combined(Made(1, {"x": mine}, ("1",)), Made(2, {"x": theirs}, ("2",)))
    with pytest.raises(ValueError, match=r"the output 'x' must be of one kind and vocabulary in all parts\. Rec"):
        _ = data.task


def test_parts_that_cannot_be_combined():
    with pytest.raises(ValueError, match=r"two or more parts\. Received: 1"):
        combined(FIRST)
    with pytest.raises(ValueError, match=r"for each of 2 parts. Received: \(1,\)"):
        combined(FIRST, SECOND, repeats=(1,))
    with pytest.raises(ValueError, match=r"for each of 2 parts. Received: \(1, 0\)"):
        combined(FIRST, SECOND, repeats=(1, 0))
