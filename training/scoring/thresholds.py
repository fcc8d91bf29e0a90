"""Thresholds of the pathologic labels: chosen on data, or fixed."""

import numpy as np

from keras_realmnet.errors import DataSetError
from keras_realmnet.tasks.rules import OperatingPoint
from keras_realmnet.tasks.vocabulary import LabelSet
from training.scoring.arrays import Array

__all__ = ["choose_thresholds", "default_point"]


def choose_thresholds(
    y_true: Array,
    y_score: Array,
    label_set: LabelSet,
    data: str,
    min_sensitivity: float = 0.95,
) -> OperatingPoint:
    """For every pathologic label, the largest threshold that finds at least `min_sensitivity` of its images.

    It lies halfway between the scores of the last image found and the first one not: an image exactly on a threshold
    would change sides with the last digit of another machine's arithmetic.

    Args:
        data: what the scores come from, for the operating point's explanation.

    Raises:
        DataSetError: a pathologic label without a positive image, or no label that is pathologic.
    """
    if not label_set.pathologic:
        raise DataSetError(f"{label_set.name}: none of its labels is called pathologic")
    thresholds = {}
    for code in label_set.pathologic:
        k = label_set.codes.index(code)
        positive = np.sort(y_score[y_true[:, k] == 1, k])[::-1]
        if len(positive) == 0:
            raise DataSetError(f"{data}: no image with label {code}; its threshold cannot be chosen")
        last = positive[int(np.ceil(min_sensitivity * len(positive) - 1e-9)) - 1]
        below = y_score[y_score[:, k] < last, k]
        thresholds[code] = float((last + below.max(initial=0.0)) / 2)
    chosen = f"per label, the largest threshold with sensitivity of at least {min_sensitivity:.2f} on {data}"
    return OperatingPoint(thresholds=thresholds, chosen=chosen)


def default_point(label_set: LabelSet) -> OperatingPoint:
    """Where no data has chosen thresholds: 0.5 for every pathologic label."""
    return OperatingPoint(
        dict.fromkeys(label_set.pathologic, 0.5), "0.5 for every pathologic label, not chosen on data"
    )
