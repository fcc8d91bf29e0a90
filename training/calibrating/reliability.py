"""How true probabilities are: calibration error and the parts of the Brier score, as scores of images with intervals.

Expected calibration error: the mean over images of |mean probability − frequency| of their bin, of BINS bins of equal
width (Guo et al., arXiv 1706.04599), label by label. It is above 0 by chance alone where bins hold few images, and a
bootstrap interval lies above rather than around it.

The Brier score is miscalibration − discrimination + uncertainty, exactly: what the best curve that does not fall would
take from it, what the network then tells more than the mean does, and the Brier score of that mean (Dimitriadis,
Gneiting and Jordan, PNAS 2021).
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from sklearn.isotonic import isotonic_regression

from training.scoring.statistics.arrays import Array, ratio
from training.scoring.statistics.bootstrap import Bootstrap, MakeScorer, Scorer, with_intervals
from training.scoring.statistics.scores import as_json

__all__ = ["BINS", "PARTS", "make_scorer", "reliability"]

BINS = 15
PARTS = ("ece", "brier", "miscalibration", "discrimination", "uncertainty")


def reliability(
    predicted: Array, truth: Array, codes: Sequence[str], patients: Sequence[str] | Array, bootstrap: Bootstrap
) -> dict[str, Any]:
    """Every part, "ece_A3", and its mean over labels, "ece", with intervals; JSON-safe.

    Args:
        predicted, truth: (n, labels); 1, 0 or NaN where not known. patients: (n,).
    """
    return as_json(with_intervals(make_scorer(predicted, truth, codes), np.asarray(patients), bootstrap))


def make_scorer(predicted: Array, truth: Array, codes: Sequence[str]) -> MakeScorer:
    """See `training.scoring.statistics.bootstrap`."""

    def make(units: Array) -> Scorer:
        columns = [_Label.of(predicted[:, k], truth[:, k], units) for k in range(len(codes))]

        def score(weights: Array) -> Mapping[str, Array]:
            of_labels = [column.parts(weights) for column in columns]
            found = {part: np.mean([each[part] for each in of_labels], axis=0) for part in PARTS}
            return found | {
                f"{part}_{code}": each[part] for code, each in zip(codes, of_labels, strict=True) for part in PARTS
            }

        return score

    return make


class _Label:
    """The images of which one label is known, by rising probability."""

    def __init__(self, probability: Array, truth: Array, units: Array):
        self.probability, self.truth, self.units = probability, truth, units
        self.ties = np.flatnonzero(np.diff(probability, prepend=-1.0))  # where each distinct probability begins
        bins = np.minimum((probability * BINS).astype(int), BINS - 1)
        self.bins = np.flatnonzero(np.diff(bins, prepend=-1))

    @classmethod
    def of(cls, probability: Array, truth: Array, units: Array) -> "_Label":
        known = np.flatnonzero(~np.isnan(truth))
        order = known[np.argsort(probability[known], kind="stable")]
        return cls(probability[order].astype(np.float64), truth[order].astype(np.float64), units[order])

    def parts(self, weights: Array) -> dict[str, Array]:
        """{part: (replicates,)}, NaN where a replicate has no image of which the label is known."""
        w = weights[self.units]
        total = w.sum(axis=0)
        error = np.add.reduceat(w * (self.probability - self.truth)[:, None], self.bins, axis=0)
        brier = ratio(w.T @ (self.probability - self.truth) ** 2, total)
        base = ratio(w.T @ self.truth, total)
        uncertainty = base * (1 - base)
        recalibrated = ratio(self._isotonic(w), total)
        return {
            "ece": ratio(np.abs(error).sum(axis=0), total),
            "brier": brier,
            "miscalibration": brier - recalibrated,
            "discrimination": uncertainty - recalibrated,
            "uncertainty": uncertainty,
        }

    def _isotonic(self, w: Array) -> Array:
        """The sum of squared errors that is left by the best curve that does not fall, (replicates,)."""
        count = np.add.reduceat(w, self.ties, axis=0)
        positives = np.add.reduceat(w * self.truth[:, None], self.ties, axis=0)
        left = np.empty(w.shape[1])
        for r in range(w.shape[1]):
            there = count[:, r] > 0
            n, p = count[there, r], positives[there, r]
            curve = isotonic_regression(p / n, sample_weight=n)
            left[r] = (p * (1 - curve) ** 2 + (n - p) * curve**2).sum()
        return left
