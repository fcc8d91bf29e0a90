"""Scores of masks: of single images, of all pixels together, and whether an image has anything at all."""

from collections.abc import Mapping

import numpy as np

from keras_realmnet.tasks.vocabulary import LabelSet
from training.scoring.by_kind.sums import Means, mean_of, sums_by_unit, unit_count
from training.scoring.statistics.arrays import TINY, Array, ratio
from training.scoring.statistics.ranking import Ranking

__all__ = ["IMAGE_THRESHOLD", "LEVELS", "MaskScorer", "best_f1_threshold", "level_of", "precision_and_recall"]

IMAGE_THRESHOLD = 0.5  # Lesion-Net: from this probability of any of its pixels on an image has the lesion
BITS = 6  # of the mantissa: 64 levels from each power of two to the next
OCTAVES = 23  # of p below .5 and of 1 − p above: down to 2⁻²⁴, beyond which float32 knows no 1 − p
HALF = (OCTAVES << BITS) + 1
LEVELS = 2 * HALF  # of probability, by which pixels are ranked


def level_of(probability: Array) -> Array:
    """The level of each probability, int, 0 to LEVELS − 1, in their order; of the same shape.

    A level is 1/64 wide or less, relative to p or to 1 − p, whichever is smaller: a network trained by Dice says almost
    0 or almost 1 of every pixel, and levels of equal width would rank none of these.
    """
    probability = np.asarray(probability, np.float32)
    rest = np.maximum(np.minimum(probability, 1 - probability), np.float32(2.0**-24))
    lowest = np.float32(2.0**-24).view(np.int32) >> (23 - BITS)
    level = (rest.view(np.int32) >> (23 - BITS)) - lowest
    return np.where(probability < 0.5, level, LEVELS - 1 - level)


def _borders() -> Array:
    """Between which probabilities each level lies, rising, (LEVELS + 1,); the two at .5 hold no more than that."""
    lowest = np.float32(2.0**-24).view(np.int32) >> (23 - BITS)
    below = ((np.arange(1, HALF) + lowest) << (23 - BITS)).astype(np.int32).view(np.float32).astype(np.float64)
    return np.concatenate([[0.0], below, [0.5], 1 - below[::-1], [1.0]])


def best_f1_threshold(ranked: Array) -> float | None:
    """The probability from which pixels have the best F1; None where no pixel has the label.

    It lies in the middle of a level, of whose pixels half count on either side, or of as many levels as give the same
    F1; not on the border of one, where the values k/256 lie that an int8 network gives.

    Args:
        ranked: pixels of one label by level, those without and those with it, (LEVELS, 2).
    """
    above = np.cumsum(ranked[::-1], axis=0, dtype=np.float64)[::-1] - ranked / 2
    found, hit = above.sum(axis=1), above[:, 1]
    f1 = 2 * hit / (found + ranked[:, 1].sum() + TINY)
    borders = _borders()
    best = int(np.where(np.diff(borders) > 0, f1, -1).argmax())
    if f1[best] <= 0:
        return None
    last = best
    while last + 1 < LEVELS and f1[last + 1] == f1[best]:
        last += 1
    return float((borders[best] + borders[last + 1]) / 2)


def precision_and_recall(ranked: Array) -> tuple[Array, Array]:
    """The curve of pixels by their level, (LEVELS, 2), from the highest level down; (LEVELS,) each.

    Recall is NaN where there is no pixel of the label, precision 0 where nothing is found yet.
    """
    without, positives = np.cumsum(ranked[::-1], axis=0, dtype=np.float64).T
    return ratio(positives, without + positives + TINY), ratio(positives, np.full(len(positives), positives[-1]))


class MaskScorer:
    """Of numbers of n images and the labels; only pixels whose truth is known count.

    "hit", "found", "true", int (n, labels): pixels that are both, that are found, that are true. "known", bool (n,
    labels): whether anything is known of the image. "peak", (n, labels): the highest probability of any pixel.
    "ranked", int (n, labels, LEVELS, 2): pixels by the level of their probability, those without and those with the
    label. "rest", int (n, 3), of masks that exclude each other alone: "hit", "found" and "true" of the pixels without a
    label. "error_CODE", (n,), may be missing: of a measure of the masks what is said minus what is true, NaN where that
    is not known.

    - dice, iou: means over the images and labels that are there; dice_CODE and iou_CODE over the images with the label.
      An image without it has neither: what is found there counts in the others.
    - pixel_f1_CODE: of all pixels of all images together, those found at the output's threshold. aupr_CODE: the average
      precision of all pixels of all images in one ranking, scikit-learn's `average_precision_score` of their levels.
      pixel_auroc_CODE: the area under the ROC curve of the same ranking, pixels of one level counting half, as
      `roc_auc_score` has it; NaN where every pixel has the label or none.
    - image_f1_CODE: of whether an image has a pixel of it, which is said from a peak of IMAGE_THRESHOLD on.
      image_auroc_CODE: of the peaks.
    - pixel_f1, aupr, pixel_auroc, image_f1, image_auroc: means over the labels that some image has (and some has not).
    - Of masks that exclude each other also pixel_accuracy: of all pixels of all images together, the share that is told
      right; pixel_iou_CODE, and pixel_iou_rest of the pixels without a label: intersection over union of all pixels
      together; pixel_iou: their mean over what some image has, the rest included (the mIoU of semantic segmentation).
      pixel_iou_any: of the pixels with whichever label; pixel_iou_two: the mean of that and pixel_iou_rest, the mIoU of
      whether a pixel has a label.
    - mean_error_CODE: the mean absolute error of a measure.
    """

    def __init__(self, labels: LabelSet, cases: Mapping[str, Array], units: Array):
        self.codes = labels.codes
        hit, found, true = (cases[name].astype(np.float64) for name in ("hit", "found", "true"))
        there, known = true > 0, cases["known"]
        said = known & (cases["peak"] >= IMAGE_THRESHOLD)
        columns = {
            "hit": hit,
            "found": found,
            "true": true,
            "there": there,
            "dice": np.where(there, 2 * hit / np.maximum(found + true, 1), 0),
            "iou": np.where(there, hit / np.maximum(found + true - hit, 1), 0),
            "said": said,
            "both": said & there,
        }
        self.sums = {name: sums_by_unit(values, units) for name, values in columns.items()}
        self.rest = sums_by_unit(cases["rest"].astype(np.float64), units) if "rest" in cases else None  # (3, units)
        self.ranked = sums_by_unit(cases["ranked"][:, :, ::-1], units)  # (labels, LEVELS, 2, units), highest first
        self.has_positive = there.any(axis=0)
        self.has_both = self.has_positive & (known & ~there).any(axis=0)
        pixels = self.ranked.sum(axis=(1, 3))  # (labels, 2), without and with it
        self.has_both_pixels = (pixels > 0).all(axis=1)
        truth = np.where(known, there, np.nan)
        errors = {f"mean_{name}": np.abs(values) for name, values in cases.items() if name.startswith("error_")}
        self.errors, count = Means(errors, units), unit_count(units)
        self.rankings = [Ranking(truth[:, k], cases["peak"][:, k], units, count) for k in range(len(labels))]

    def __call__(self, weights: Array) -> dict[str, Array]:
        total = {name: sums @ weights for name, sums in self.sums.items()}  # (labels, replicates)
        without, positives = np.moveaxis(self.ranked @ weights, 2, 0)  # (labels, LEVELS, replicates)
        passed, false = np.cumsum(positives, axis=1), np.cumsum(without, axis=1)
        precision = passed / np.maximum(passed + false, TINY)
        lower = false[:, -1:] - false + without / 2  # pixels without the label that are ranked below, ties half

        def f1(both: Array, said: Array, true: Array) -> Array:
            return ratio(2 * both, np.where(true > 0, said + true, 0))

        by_label = {
            "dice": ratio(total["dice"], total["there"]),
            "iou": ratio(total["iou"], total["there"]),
            "aupr": ratio((precision * positives).sum(axis=1), positives.sum(axis=1)),
            "pixel_auroc": ratio((lower * positives).sum(axis=1), passed[:, -1] * false[:, -1]),
            "pixel_f1": f1(total["hit"], total["found"], total["true"]),
            "image_f1": f1(total["both"], total["said"], total["there"]),
            "image_auroc": np.array([ranking(weights)[0] for ranking in self.rankings]),
        }
        included = {"image_auroc": self.has_both, "pixel_auroc": self.has_both_pixels}
        means = {
            name: ratio(total[name].sum(axis=0), total["there"].sum(axis=0))
            if name in ("dice", "iou")
            else mean_of(list(values), included.get(name, self.has_positive))
            for name, values in by_label.items()
        }
        of_labels = {
            f"{name}_{code}": values[k] for name, values in by_label.items() for k, code in enumerate(self.codes)
        }
        return means | of_labels | self._exclusive(total, weights) | self.errors(weights)

    def _exclusive(self, total: Mapping[str, Array], weights: Array) -> dict[str, Array]:
        """The scores that masks have which exclude each other; `total`: of labels, (labels, replicates) each."""
        if self.rest is None:
            return {}
        hit, found, true = (
            np.concatenate([total[name], row[None]])
            for name, row in zip(("hit", "found", "true"), self.rest @ weights, strict=True)
        )
        iou = ratio(hit, np.where(true > 0, found + true - hit, 0))
        there = np.append(self.has_positive, self.rest[2].any())
        pixels = true.sum(axis=0)
        both, either = pixels - found[-1] - true[-1] + hit[-1], pixels - hit[-1]  # of those with a label
        labelled = ratio(both, np.where(pixels > true[-1], either, 0))
        return {
            "pixel_accuracy": ratio(hit.sum(axis=0), pixels),
            "pixel_iou": mean_of(list(iou), there),
            **{f"pixel_iou_{code}": values for code, values in zip((*self.codes, "rest"), iou, strict=True)},
            "pixel_iou_any": labelled,
            "pixel_iou_two": (labelled + iou[-1]) / 2,
        }
