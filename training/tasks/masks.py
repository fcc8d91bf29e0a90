"""Masks: which pixels belong to each structure or lesion."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import cv2
import numpy as np

from keras_realmnet.tasks.masks import found_masks
from keras_realmnet.tasks.outputs import Masks
from training.scoring.by_kind.masks import LEVELS, MaskScorer, level_of, precision_and_recall
from training.scoring.statistics.bootstrap import Scorer
from training.tasks.kind import Array, Cases, TrainedKind
from training.tasks.motion import IGNORE, Motion

__all__ = ["MasksKind", "nearest", "pixels_of_labels"]

POINTS = 200  # of a curve


class MasksKind(TrainedKind[Masks]):
    """Truth uint8 over the square, see `keras_realmnet.tasks.outputs.Masks`; 255 (`IGNORE`) is left out.

    Exclusive: (n, side, side), 0 background, k + 1 label k. Not exclusive: (n, side, side, labels), 0 and 1. Beside the
    picture, and where augmentation moves in what is outside of the square, nothing is known: 255. The deployed network
    is not asked there either (`Task.findings`).
    """

    losses: ClassVar[tuple[str, ...]] = ("CrossentropyDice", "DualDice", "PixelCrossentropy", "PixelFocal")
    spatial = True
    beside_pixels = True
    figures: ClassVar = {"dice": True, "pixel_f1": True}

    def losses_of(self, output: Masks) -> Mapping[str, Mapping[str, Any]]:
        either, *not_exclusive = self.losses
        found: dict[str, Mapping[str, Any]] = {either: {"exclusive": output.exclusive}}
        return found if output.exclusive else {**found, **{name: {} for name in not_exclusive}}

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
        """See `MaskScorer`. What is found is found as on the box, by `keras_realmnet.tasks.masks.found_masks`.

        Where nothing is known of a pixel, the network is taken to find nothing there. "true_height", "found_height",
        (n, labels): of what is true and what is found, in fractions of the side; 0 without a pixel. "rest", int (n, 3),
        of exclusive masks: the pixels without a label that none is found at, those that none is found at, and those
        without one.
        """
        shape = len(truth), len(output.labels)
        hit, found, true = (np.zeros(shape, np.int64) for _ in range(3))
        known, peak = np.zeros(shape, np.bool_), np.zeros(shape, np.float32)
        true_height, found_height = np.zeros(shape), np.zeros(shape)
        rest = np.zeros((len(truth), 3), np.int64)
        ranked = np.zeros((*shape, LEVELS, 2), np.int32)
        for n, (mask, probability) in enumerate(zip(truth, predicted, strict=True)):
            asked, present = pixels_of_labels(output, mask)
            larger = enlarged(probability[..., int(output.exclusive) :], mask.shape[0])
            level = level_of(larger)
            inside = np.where(asked, larger, 0)
            said = found_masks(output, inside).astype(np.bool_) & asked
            known[n], peak[n] = asked.any(axis=(0, 1)), inside.max(axis=(0, 1))
            hit[n], found[n], true[n] = (each.sum(axis=(0, 1)) for each in (said & present, said, present))
            if output.exclusive:
                none_said, none = (asked[..., 0] & ~each.any(axis=-1) for each in (said, present))
                rest[n] = [each.sum() for each in (none_said & none, none_said, none)]
            for k in range(len(output.labels)):
                where, there = asked[..., k], present[..., k]
                true_height[n, k], found_height[n, k] = height(there), height(said[..., k])
                of_pixel = 2 * level[..., k][where] + there[where]
                ranked[n, k] = np.bincount(of_pixel, minlength=2 * LEVELS).reshape(LEVELS, 2)
        pixels = {"hit": hit, "found": found, "true": true, "known": known, "peak": peak, "ranked": ranked}
        pixels |= {"rest": rest} if output.exclusive else {}
        return {**pixels, "true_height": true_height, "found_height": found_height}

    def scorer(self, output: Masks, cases: Cases, units: Array) -> Scorer:
        return MaskScorer(output.labels, cases, units)

    def counts(self, output: Masks, cases: Cases) -> dict[str, Any]:
        """Of each label how many images have it, have it not, and in how many nothing is known of it."""
        there, known = cases["true"] > 0, cases["known"]
        said = cases["found"] > 0
        return {
            code: {
                "with": int(there[:, k].sum()),
                "without": int((known & ~there)[:, k].sum()),
                "unknown": int((~known)[:, k].sum()),
                "found where it is not": int((known & ~there & said)[:, k].sum()),
            }
            for k, code in enumerate(output.labels.codes)
        }

    def curves(self, output: Masks, cases: Cases) -> dict[str, Any]:
        """Of each label that some image has "precision" and "recall" from no pixel found to all, and its "share"."""
        curves = {}
        for code, ranked in zip(output.labels.codes, cases["ranked"].sum(axis=0), strict=True):
            precision, recall = precision_and_recall(ranked)
            if np.isnan(recall[-1]):
                continue
            rows = np.unique(np.searchsorted(recall, np.linspace(0, 1, POINTS + 1)[1:]))
            share = float(ranked[:, 1].sum() / ranked.sum())
            curves[code] = {"precision": precision[rows].tolist(), "recall": recall[rows].tolist(), "share": share}
        return curves

    def columns(self, name: str, output: Masks, cases: Cases) -> dict[str, Sequence[str]]:
        """Pixels of the square, nothing where nothing is known; dice: nothing in images without the label.

        CODE_peak: the highest probability of any pixel.
        """
        columns: dict[str, Sequence[str]] = {}
        for k, code in enumerate(output.labels.codes):
            hit, found, true, known, peak = (cases[each][:, k] for each in ("hit", "found", "true", "known", "peak"))
            for each, values in (("true", true), ("found", found), ("hit", hit), ("peak", peak)):
                columns[f"{code}_{each}"] = [
                    str(v) if is_known else "" for v, is_known in zip(values, known, strict=True)
                ]
            dice = 2 * hit / np.maximum(found + true, 1)
            columns[f"{code}_dice"] = [str(v) if t else "" for v, t in zip(dice, true, strict=True)]
        return columns


def height(there: Array) -> float:
    """The vertical diameter of a structure, bool (side, side), in fractions of the side; 0 without a pixel."""
    rows = np.flatnonzero(there.any(axis=1))
    return float(rows[-1] - rows[0] + 1) / len(there) if len(rows) else 0.0


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
