"""Labels: probabilities, and the decisions that follow from them."""

from typing import ClassVar

import numpy as np

from export.contract.by_kind.figures import AtMost, Change, Decoding, Share, Values, largest_mean_p99
from export.contract.by_kind.kind import Array, KindContract
from export.conversion.body import CONVOLUTIONAL
from keras_realmnet.screening.engines.base import Prediction
from keras_realmnet.tasks.outputs import Labels
from keras_realmnet.tasks.task import Task

__all__ = ["OF_PROBABILITIES", "PROBABILITY_CELLS", "PROBABILITY_DECODING", "LabelsContract"]

OF_PROBABILITIES = {
    "max_probability": AtMost("largest |Δ probability|", "max_probability"),
    "p99_probability": AtMost("99th percentile of |Δ probability|", "p99_probability"),
    "mean_probability": AtMost("mean |Δ probability|", "mean_probability"),
}
PROBABILITY_CELLS = {
    "max |Δp|": lambda values, images: f"{values['max_probability']:.2g}",
    "99 % |Δp|": lambda values, images: f"{values['p99_probability']:.2g}",
    "mean |Δp|": lambda values, images: f"{values['mean_probability']:.2g}",
}
PROBABILITY_DECODING = Decoding("max_probability", 0.01, "change a probability by up to …", "largest |Δp|")

_INT8: dict[str, float | None] = {
    "max_probability": None,
    "p99_probability": 0.02,
    "mean_probability": 0.005,
    "flip_rate": 0.005,
    "min_score_change": -0.005,
}


class LabelsContract(KindContract[Labels]):
    """|Δ probability| over images and labels; `flips`: images whose referral by these labels differs."""

    figures: ClassVar = {**OF_PROBABILITIES, "flips": Share("decisions", "flip_rate")}
    changes: ClassVar = {
        "macro_auroc": Change("macro_auroc", "macro AUROC", "AUROC", "min_score_change"),
        "mean_ap": Change("map", "mAP", "mAP", "min_score_change"),
    }
    limits: ClassVar = {
        "float32": {"max_probability": 1e-4, "p99_probability": None, "mean_probability": None, "flip_rate": 0.0},
        "float16": {"max_probability": None, "p99_probability": 0.005, "mean_probability": None, "flip_rate": None},
        "int8": _INT8,
        CONVOLUTIONAL: {**_INT8, "p99_probability": 0.1},
    }
    cells: ClassVar = {
        **PROBABILITY_CELLS,
        "decisions changed": lambda values, images: f"{values['flips']} of {images}" if "flips" in values else "",
    }
    drawn_as = ("|Δ probability| to Keras", "images × labels")
    decoding = PROBABILITY_DECODING

    def compare(self, name: str, task: Task, size: int, expected: Prediction, received: Prediction) -> Values:
        figures = largest_mean_p99("probability", self.drawn(name, task, size, expected, received))
        labels = task.trained[name].labels
        of_keras, of_artifact = (
            task.rule.refers(name, task.calibrated(name, each[name]), labels) for each in (expected, received)
        )
        return figures if of_keras is None else {**figures, "flips": int((of_keras != of_artifact).sum())}

    def drawn(self, name: str, task: Task, size: int, expected: Prediction, received: Prediction) -> Array:
        return np.abs(received[name].astype("float64") - expected[name])

    def tells(self, output: Labels, values: Array) -> Array:
        return values.max(axis=1)

    def truth_form(self, output: Labels, images: int, size: int) -> tuple[str, tuple[int, ...]]:
        return "float32", (images, len(output.labels))

    def check_truth(self, output: Labels, truth: Array, size: int) -> None:
        if not (np.isnan(truth) | (truth == 0) | (truth == 1)).all():
            raise ValueError("0, 1 or NaN expected")
