"""Masks: which pixels belong to each structure or lesion."""

from collections.abc import Mapping
from typing import Any, ClassVar

import cv2
import numpy as np

from keras_realmnet.tasks.outputs import Masks
from training.tasks.kind import Array, Cases, TrainedKind
from training.tasks.motion import IGNORE, Motion

__all__ = ["MasksKind", "nearest", "pixels_of_labels"]


class MasksKind(TrainedKind[Masks]):
    """Truth uint8 over the square, see `keras_realmnet.tasks.outputs.Masks`; 255 (`IGNORE`) is left out.

    Exclusive: (n, side, side), 0 background, k + 1 label k. Not exclusive: (n, side, side, labels), 0 and 1. Beside the
    picture, and where augmentation moves in what is outside of the square, nothing is known: 255. The deployed network
    is not asked there either (`Task.findings`).
    """

    losses = ("CrossentropyDice", "DualDice")
    spatial = True
    beside_pixels = True
    figures: ClassVar = {"dice": True, "pixel_f1": True}

    def losses_of(self, output: Masks) -> Mapping[str, Mapping[str, Any]]:
        known: dict[str, Mapping[str, Any]] = {"CrossentropyDice": {"exclusive": output.exclusive}}
        return known if output.exclusive else {**known, "DualDice": {}}

    def check(self, output: Masks, truth: Array, side: int) -> None:
        expected = (side, side) if output.exclusive else (side, side, len(output.labels))
        if truth.dtype != np.uint8 or truth.shape[1:] != expected:
            shape = f"(n, {', '.join(map(str, expected))})"
            raise ValueError(f"must be uint8 of shape {shape}. Received: {truth.dtype} of shape {truth.shape}")

    def unknown(self, output: Masks, count: int, side: int) -> Array:
        labels = () if output.exclusive else (len(output.labels),)
        return np.full((count, side, side, *labels), IGNORE, np.uint8)

    def presence(self, output: Masks, truth: Array) -> tuple[Array, Array]:
        pairs = [pixels_of_labels(output, mask) for mask in truth]
        known, there = (np.stack([pair[k].any(axis=(0, 1)) for pair in pairs]) for k in range(2))
        return there, known

    def resized(self, truth: Array, size: int) -> Array:
        if truth.shape[0] == size:
            return truth
        at = nearest(truth.shape[0], size)
        return np.ascontiguousarray(truth[at[:, None], at])

    def moved(self, truth: Array, motion: Motion) -> Array:
        return motion.mask(truth)

    def cases(self, output: Masks, truth: Array, predicted: Array) -> dict[str, Array]:
        hit, found, true = (np.zeros((len(truth), len(output.labels)), np.int64) for _ in range(3))
        for n, (mask, probability) in enumerate(zip(truth, predicted, strict=True)):
            known, present = pixels_of_labels(output, mask)
            said = enlarged(probability[..., int(output.exclusive) :], mask.shape[0]) >= output.threshold
            said &= known
            hit[n], found[n], true[n] = ((each).sum(axis=(0, 1)) for each in (said & present, said, present))
        return {"hit": hit, "found": found, "true": true}

    def scores(self, output: Masks, cases: Cases) -> dict[str, float | None]:
        """dice: mean over images and labels that are there. pixel_f1: over all pixels together, mean over labels."""
        both = cases["found"] + cases["true"]
        there = cases["true"] > 0
        dice = float((2 * cases["hit"][there] / both[there]).mean()) if there.any() else None
        hits, sums = cases["hit"].sum(axis=0), both.sum(axis=0)
        pooled = float((2 * hits[sums > 0] / sums[sums > 0]).mean()) if sums.any() else None
        return {"dice": dice, "pixel_f1": pooled}


def nearest(source: int, target: int) -> Array:
    """Which of `source` pixels along a side lies at the centre of each of `target` pixels; int (target,)."""
    return np.minimum(((np.arange(target) + 0.5) * source / target).astype(np.intp), source - 1)


def pixels_of_labels(output: Masks, mask: Array) -> tuple[Array, Array]:
    """Of the mask of one image, bool (side, side, labels) each: where the truth is known, and where a label is."""
    if not output.exclusive:
        return mask != IGNORE, mask == 1
    known = np.repeat((mask != IGNORE)[..., None], len(output.labels), axis=-1)
    return known, mask[..., None] == np.arange(1, len(output.labels) + 1)


def enlarged(probability: Array, side: int) -> Array:
    """Probabilities (h, w, labels) over a square of `side` pixels, bilinear, as `Task.findings` enlarges them."""
    planes = [np.ascontiguousarray(probability[..., k], np.float32) for k in range(probability.shape[-1])]
    return np.stack([cv2.resize(plane, (side, side), interpolation=cv2.INTER_LINEAR) for plane in planes], axis=-1)
