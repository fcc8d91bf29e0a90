"""Thresholds for a stated sensitivity of patients, with its exact lower bound (Clopper, Pearson, Biometrika 1934)."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import beta

from keras_realmnet.errors import DataSetError
from training.scoring.statistics.arrays import Array

__all__ = ["Chosen", "exact_interval", "lower_bound", "patient_scores", "patient_threshold", "patients_needed"]


@dataclass(frozen=True)
class Chosen:
    """A threshold; how many of the patients with the label have an image at or above it; that share's lower bound."""

    threshold: float
    found: int
    patients: int
    lower: float

    def __str__(self) -> str:
        return f"{self.found} of {self.patients} patients, at least {self.lower:.3f}"


def lower_bound(found: int, cases: int, confidence: float = 0.95) -> float:
    """The one-sided lower bound of a share: .9513 for 60 of 60 with a confidence of .95."""
    return float(beta.ppf(1 - confidence, found, cases - found + 1)) if found else 0.0


def exact_interval(found: int, cases: int, confidence: float = 0.95) -> tuple[float, float]:
    """The two-sided interval of a share: .692 to 1 for 10 of 10 with a confidence of .95."""
    outside = (1 - confidence) / 2
    low = 0.0 if found == 0 else float(beta.ppf(outside, found, cases - found + 1))
    return low, 1.0 if found == cases else float(beta.ppf(1 - outside, found + 1, cases - found))


def patients_needed(sensitivity: float, confidence: float) -> int:
    """How many patients with the label it takes that the bound can be reached, if all of them are found: 59 for .95."""
    return int(np.ceil(np.log(1 - confidence) / np.log(sensitivity)))


def patient_scores(truth: Array, score: Array, patients: Sequence[str] | Array) -> Array:
    """Of each patient with an image that has the label, the largest score of such images, (patients,), by name."""
    positive = truth == 1
    names, group = np.unique(np.asarray(patients)[positive], return_inverse=True)
    largest = np.full(len(names), -np.inf)
    np.maximum.at(largest, group, score[positive])
    return largest


def patient_threshold(
    truth: Array,
    score: Array,
    patients: Sequence[str] | Array,
    sensitivity: float,
    confidence: float = 0.95,
) -> Chosen:
    """The largest threshold whose sensitivity, of patients, has a lower bound of at least `sensitivity`.

    A patient is found where one of the images with the label is at or above the threshold; it lies halfway between the
    last score that is needed and the next lower one of any image, as in `training.scoring.thresholds`. Choosing it by
    this bound keeps the bound: thresholds are tried from the lowest on, and the first that misses it ends the search
    (fixed-sequence testing, Angelopoulos et al., arXiv 2110.01052).

    Args:
        truth, score, patients: (n,), of images; the truth 1, 0 or NaN.

    Raises DataSetError: too few patients with the label.
    """
    needed = np.sort(patient_scores(truth, score, patients))[::-1]
    bounds = [lower_bound(found, len(needed), confidence) for found in range(len(needed) + 1)]
    enough = [found for found, bound in enumerate(bounds) if bound >= sensitivity]
    if not enough:
        raise DataSetError(
            f"a sensitivity of at least {sensitivity:g} with a confidence of {confidence:g} needs "
            f"{patients_needed(sensitivity, confidence)} patients with the label. Received: {len(needed)}"
        )
    last = needed[enough[0] - 1]
    threshold = float((last + score[score < last].max(initial=0.0)) / 2)
    found = int((needed >= threshold).sum())
    return Chosen(threshold, found, len(needed), lower_bound(found, len(needed), confidence))
