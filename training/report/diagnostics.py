"""What the figures of predictions show: calibration and confusion, counted."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from training.report.plots.predictions import Bins

__all__ = ["BINS", "calibration", "confusion_counts"]

Array = NDArray[Any]

BINS = 10  # of the reliability diagram, equally wide


def calibration(y_true: Array, y_score: Array) -> tuple[Bins, float | None]:
    """Ten equally wide bins of predicted probability, and the expected calibration error.

    ECE = Σ n_b/n · |mean probability − share of positives| over the bins (Guo et al., ICML 2017, for one label). For
    probabilities .1, .1, .9, .9 with truth 0, 1, 1, 1: ½·|.1 − .5| + ½·|.9 − 1| = .25.

    Args:
        y_true: of shape (n,); 1, 0 or NaN (left out).
        y_score: of shape (n,), 0 to 1.

    Returns:
        The bins, with an empty summary, and the ECE; `None` without a known truth.
    """
    known = ~np.isnan(y_true)
    truth, score = y_true[known], y_score[known].astype(np.float64)
    which = np.minimum((score * BINS).astype(int), BINS - 1)  # bin b holds b/10 ≤ p < (b + 1)/10, the last one 1 too
    counts = np.bincount(which, minlength=BINS)
    nothing = np.full(BINS, np.nan)
    predicted = np.divide(np.bincount(which, score, BINS), counts, out=nothing.copy(), where=counts > 0)
    observed = np.divide(np.bincount(which, truth, BINS), counts, out=nothing.copy(), where=counts > 0)
    error = float(np.nansum(counts * np.abs(predicted - observed)) / counts.sum()) if counts.sum() else None
    return Bins(predicted, observed, counts, ""), error


def confusion_counts(y_true: Array, y_score: Array, columns: Sequence[int]) -> Array:
    """int (grades, grades), rows true, columns predicted: the grade with the highest score.

    Images of which not exactly one grade is known to be present are left out.

    Args:
        columns: of the grades, which exclude each other.
    """
    truth, score = y_true[:, columns] == 1, y_score[:, columns]
    graded = truth.sum(axis=1) == 1
    counts = np.zeros((len(columns), len(columns)), int)
    np.add.at(counts, (truth[graded].argmax(axis=1), score[graded].argmax(axis=1)), 1)
    return counts
