"""Masks: probabilities of pixels, and what lies inside of the outlines."""

from typing import Any, ClassVar

import cv2
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

    Of masks that are not `single` the Dice forgives one pixel: what one finds is also found by the other where that has
    a pixel beside it, diagonals as well. Most of a lesion of some pixels, or of a vessel, is its rim, and rounding
    moves a rim by a pixel; a part that only one finds counts in full. Source: the surface Dice at a tolerance of
    Nikolov et al., Deep learning to achieve clinically applicable segmentation of head and neck anatomy (2018), of
    areas here instead of surfaces. The change of the Dice to the truth, `dice_to_truth`, forgives nothing.
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
    # Of masks of many parts; set by the first export of lesions (.988 on 193 pictures, docs/lesion_net.md).
    many: ClassVar = {"int8": {**limits["int8"], "min_dice": 0.98}}
    cells: ClassVar = {
        "max |Δp|": lambda values, _: f"{values['max_probability']:.2g}",
        "99 % |Δp|": lambda values, _: f"{values['p99_probability']:.2g}",
        "Dice to Keras": lambda values, _: f"{values['dice']:.4f}",
    }
    drawn_as = ("1 − Dice to Keras", "images × labels that are found")
    decoding = Decoding("dice", 0.99, "leave masks with a Dice of …", "Dice", at_least=True)

    def limits_for(self, output: Masks) -> dict[str, dict[str, float | None]]:
        return self.limits if output.single else {**self.limits, **self.many}

    def compare(self, name: str, task: Task, size: int, expected: Prediction, received: Prediction) -> Values:
        before, after = expected[name], received[name]
        difference = np.abs(after - before)
        agreed, found = (counts.sum(axis=0) for counts in _agreement(task.outputs[name], before, after))
        dice = float((agreed[found > 0] / found[found > 0]).mean()) if found.any() else 1.0
        return {**largest_mean_p99("probability", difference), "dice": dice}

    def drawn(self, name: str, task: Task, size: int, expected: Prediction, received: Prediction) -> Array:
        agreed, found = _agreement(task.outputs[name], expected[name], received[name])
        return np.where(found > 0, 1 - agreed / np.maximum(found, 1), np.nan)

    def tells(self, output: Masks, values: Array) -> Array:
        """How many pixels are found."""
        thresholds = np.array(list(output.thresholds.values()), values.dtype)
        return (values[..., int(output.exclusive) :] >= thresholds).sum(axis=(1, 2, 3))

    def truth_form(self, output: Masks, images: int, size: int) -> tuple[str, tuple[int, ...]]:
        return "uint8", (images, size, size) if output.exclusive else (images, size, size, len(output.labels))


def _agreement(output: Any, expected: Array, received: Array) -> tuple[Array, Array]:
    """Of the pixels that each finds, those that the other finds as well; and all of them: int (n, labels) each."""
    agreed, found = (np.zeros((len(expected), len(output.labels)), np.int64) for _ in range(2))
    near = np.ones((1, 1) if output.single else (3, 3), np.uint8)
    for n in range(len(expected)):
        masks = [found_masks(output, values[n, ..., int(output.exclusive) :]) for values in (expected, received)]
        for k in range(len(output.labels)):
            a, b = (np.ascontiguousarray(mask[..., k]) for mask in masks)
            agreed[n, k] = a[cv2.dilate(b, near) > 0].sum() + b[cv2.dilate(a, near) > 0].sum()
            found[n, k] = a.sum() + b.sum()
    return agreed, found
