"""Masks: probabilities of pixels, and what lies inside of the outlines."""

from typing import ClassVar

import numpy as np

from export.contract.by_kind.figures import AtLeast, AtMost, Change, Decoding, Values, largest_mean_p99
from export.contract.by_kind.kind import Array, KindContract
from keras_realmnet.screening.engines.base import Prediction
from keras_realmnet.tasks.masks import found_masks
from keras_realmnet.tasks.outputs import Masks
from keras_realmnet.tasks.task import Task

__all__ = ["MasksContract"]


class MasksContract(KindContract[Masks]):
    """|Δ probability| over all pixels; `dice`: of the artifact's masks to those of Keras.

    The Dice of a label is of its pixels in all images together, so that an image with one pixel of it does not weigh as
    much as one with a disc; the figure is the mean over the labels that either finds, 1 where there is none.
    """

    figures: ClassVar = {
        "max_probability": AtMost("largest |Δ probability| of a pixel", "max_probability"),
        "p99_probability": AtMost("99th percentile of |Δ probability| of pixels", "p99_probability"),
        "dice": AtLeast("Dice to Keras", "min_dice"),
    }
    changes: ClassVar = {"dice_to_truth": Change("dice", "Dice", "Dice", "min_score_change")}
    limits: ClassVar = {
        "float32": {"max_probability": 1e-3, "p99_probability": None, "min_dice": 0.9999},
        "float16": {"max_probability": None, "p99_probability": 0.005, "min_dice": 0.999},
        "int8": {"max_probability": None, "p99_probability": None, "min_dice": 0.99, "min_score_change": -0.005},
    }
    cells: ClassVar = {
        "max |Δp|": lambda values, _: f"{values['max_probability']:.2g}",
        "99 % |Δp|": lambda values, _: f"{values['p99_probability']:.2g}",
        "Dice to Keras": lambda values, _: f"{values['dice']:.4f}",
    }
    drawn_as = ("1 − Dice to Keras", "images × labels that are found")
    decoding = Decoding("dice", 0.99, "leave masks with a Dice of …", "Dice", at_least=True)

    def compare(self, name: str, task: Task, size: int, expected: Prediction, received: Prediction) -> Values:
        before, after = expected[name], received[name]
        difference = np.abs(after - before)
        both, either = (counts.sum(axis=0) for counts in _overlap(task.outputs[name], before, after))
        found = either > 0
        dice = float((2 * both[found] / either[found]).mean()) if found.any() else 1.0
        return {**largest_mean_p99("probability", difference), "dice": dice}

    def drawn(self, name: str, task: Task, size: int, expected: Prediction, received: Prediction) -> Array:
        both, either = _overlap(task.outputs[name], expected[name], received[name])
        return np.where(either > 0, 1 - 2 * both / np.maximum(either, 1), np.nan)

    def tells(self, output: Masks, values: Array) -> Array:
        """How many pixels are found."""
        return (values[..., int(output.exclusive) :] >= output.threshold).sum(axis=(1, 2, 3))

    def truth_form(self, output: Masks, images: int, size: int) -> tuple[str, tuple[int, ...]]:
        return "uint8", (images, size, size) if output.exclusive else (images, size, size, len(output.labels))


def _overlap(output, expected: Array, received: Array) -> tuple[Array, Array]:
    """Pixels that both find, and the sum of those that each finds, int (n, labels) each."""
    both, either = (np.zeros((len(expected), len(output.labels)), np.int64) for _ in range(2))
    for n in range(len(expected)):
        a, b = (found_masks(output, values[n, ..., int(output.exclusive) :]) for values in (expected, received))
        both[n], either[n] = (a & b).sum(axis=(0, 1)), a.sum(axis=(0, 1)) + b.sum(axis=(0, 1))
    return both, either
