"""Grades: probabilities, and which grade is the most probable one."""

from typing import ClassVar

import numpy as np

from export.contract.by_kind.figures import Change, Share, Values, largest_mean_p99
from export.contract.by_kind.kind import Array, KindContract
from export.contract.by_kind.labels import OF_PROBABILITIES, PROBABILITY_CELLS, PROBABILITY_DECODING
from export.conversion.body import CONVOLUTIONAL
from keras_realmnet.screening.engines.base import Prediction
from keras_realmnet.tasks.outputs import Grades
from keras_realmnet.tasks.task import Task

__all__ = ["GradesContract"]

_INT8: dict[str, float | None] = {
    "max_probability": None,
    "p99_probability": 0.02,
    "mean_probability": 0.005,
    "change_rate": 0.005,
    "min_score_change": -0.005,
}


class GradesContract(KindContract[Grades]):
    """|Δ probability| over images and grades; `grades_changed`: images that get another grade."""

    figures: ClassVar = {**OF_PROBABILITIES, "grades_changed": Share("grades", "change_rate")}
    changes: ClassVar = {"kappa": Change("kappa", "quadratic kappa", "κ", "min_score_change")}
    limits: ClassVar = {
        "float32": {"max_probability": 1e-4, "p99_probability": None, "mean_probability": None, "change_rate": 0.0},
        "float16": {"max_probability": None, "p99_probability": 0.005, "mean_probability": None, "change_rate": None},
        "int8": _INT8,
        CONVOLUTIONAL: {**_INT8, "p99_probability": 0.1},
    }
    cells: ClassVar = {
        **PROBABILITY_CELLS,
        "grades changed": lambda values, images: f"{values['grades_changed']} of {images}",
    }
    drawn_as = ("|Δ probability| to Keras", "images × grades")
    decoding = PROBABILITY_DECODING

    def compare(self, name: str, task: Task, size: int, expected: Prediction, received: Prediction) -> Values:
        grades = [task.calibrated(name, each[name]).argmax(axis=1) for each in (expected, received)]
        figures = largest_mean_p99("probability", self.drawn(name, task, size, expected, received))
        return {**figures, "grades_changed": int((grades[0] != grades[1]).sum())}

    def drawn(self, name: str, task: Task, size: int, expected: Prediction, received: Prediction) -> Array:
        return np.abs(received[name].astype("float64") - expected[name])

    def tells(self, output: Grades, values: Array) -> Array:
        """How far it is from the first grade."""
        return 1 - values[:, 0]

    def truth_form(self, output: Grades, images: int, size: int) -> tuple[str, tuple[int, ...]]:
        return "float32", (images, len(output.labels))
