"""Scores of masks: of single images, of all pixels together, and whether an image has anything at all."""

from collections.abc import Mapping

import numpy as np

from keras_realmnet.tasks.vocabulary import LabelSet
from training.scoring.arrays import TINY, Array, ratio
from training.scoring.by_kind.sums import mean_of, sums_by_unit

__all__ = ["LEVELS", "MaskScorer"]

LEVELS = 256  # of probability, by which pixels are ranked: rounded to 1 / 255


class MaskScorer:
    """Of numbers of n images and the labels; only pixels whose truth is known count.

    "hit", "found", "true", int (n, labels): pixels that are both, that are found, that are true. "known", bool (n,
    labels): whether anything is known of the image. "ranked", int (n, labels, LEVELS, 2): pixels by their probability,
    those without and those with the label.

    - dice, iou: means over the images and labels that are there; dice_CODE and iou_CODE over the images with the label.
      An image without it has neither: what is found there counts in the others.
    - pixel_f1_CODE: of all pixels of all images together. aupr_CODE: their average precision, scikit-learn's
      `average_precision_score` of the rounded probabilities. image_f1_CODE: of whether an image has a pixel of it.
      pixel_f1, aupr, image_f1: means over the labels that some image has.
    """

    def __init__(self, labels: LabelSet, cases: Mapping[str, Array], units: Array):
        self.codes = labels.codes
        hit, found, true = (cases[name].astype(np.float64) for name in ("hit", "found", "true"))
        there = true > 0
        columns = {
            "hit": hit,
            "found": found,
            "true": true,
            "there": there,
            "dice": np.where(there, 2 * hit / np.maximum(found + true, 1), 0),
            "iou": np.where(there, hit / np.maximum(found + true - hit, 1), 0),
            "said": (found > 0) & cases["known"],
            "both": (found > 0) & there,
        }
        self.sums = {name: sums_by_unit(values, units) for name, values in columns.items()}
        self.ranked = sums_by_unit(cases["ranked"][:, :, ::-1], units)  # (labels, LEVELS, 2, units), highest first
        self.has_positive = there.any(axis=0)

    def __call__(self, weights: Array) -> dict[str, Array]:
        total = {name: sums @ weights for name, sums in self.sums.items()}  # (labels, replicates)
        without, positives = np.moveaxis(self.ranked @ weights, 2, 0)  # (labels, LEVELS, replicates)
        passed = np.cumsum(positives, axis=1)
        precision = passed / np.maximum(passed + np.cumsum(without, axis=1), TINY)

        def f1(both: Array, said: Array, true: Array) -> Array:
            return ratio(2 * both, np.where(true > 0, said + true, 0))

        by_label = {
            "dice": ratio(total["dice"], total["there"]),
            "iou": ratio(total["iou"], total["there"]),
            "aupr": ratio((precision * positives).sum(axis=1), positives.sum(axis=1)),
            "pixel_f1": f1(total["hit"], total["found"], total["true"]),
            "image_f1": f1(total["both"], total["said"], total["there"]),
        }
        means = {
            name: ratio(total[name].sum(axis=0), total["there"].sum(axis=0))
            if name in ("dice", "iou")
            else mean_of(list(values), self.has_positive)
            for name, values in by_label.items()
        }
        return means | {
            f"{name}_{code}": values[k] for name, values in by_label.items() for k, code in enumerate(self.codes)
        }
