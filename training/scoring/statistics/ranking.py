"""AUROC and average precision for many weightings of the same images at once.

The curves behind both become running sums over images that are sorted once.
"""

import numpy as np
from scipy import sparse

from training.scoring.statistics.arrays import TINY, Array, ratio

__all__ = ["Ranking", "auroc", "average_precision"]


class Ranking:
    """AUROC and average precision of one column of scores, for many weightings at once.

    Only the distinct scores that positives have matter. For each of them ("step", highest first; G in all) sparse
    matrices of shape (G, units) hold how many rows of each unit are positives there, negatives tied with them, or
    anything since the step before.
    """

    def __init__(self, y_true: Array, y_score: Array, units: Array, count: int):
        known = ~np.isnan(y_true)
        y_true, y_score, units = y_true[known], y_score[known], units[known]
        order = np.argsort(-y_score, kind="stable")
        positive, score, units = y_true[order] == 1, y_score[order], units[order]
        distinct = np.cumsum(np.append(True, np.diff(score) != 0)[: len(score)]) - 1  # which distinct score
        is_step = np.bincount(distinct, positive) > 0
        step = (np.cumsum(is_step) - is_step)[distinct] if len(score) else distinct  # the next step at or below a row
        shape = (int(is_step.sum()), count)

        def counts(rows: Array) -> sparse.csr_matrix:
            return sparse.csr_matrix((np.ones(int(rows.sum())), (step[rows], units[rows])), shape)

        self.positives = counts(positive)
        self.passed = counts(step < shape[0])
        self.tied = counts(is_step[distinct] & ~positive)
        self.negatives = np.bincount(units[~positive], minlength=count).astype(np.float64)

    def __call__(self, weights: Array) -> tuple[Array, Array]:
        """AUROC and average precision, each (replicates,), for `weights` (units, replicates).

        NaN without a positive, and AUROC without a negative too.
        """
        if self.positives.shape[0] == 0:
            return (np.full(weights.shape[1], np.nan),) * 2
        positives = self.positives @ weights  # (G, replicates)
        found = np.cumsum(positives, axis=0)
        passed = np.cumsum(self.passed @ weights, axis=0)
        all_found, negatives = found[-1].copy(), self.negatives @ weights
        both = (all_found > 0) & (negatives > 0)
        below = negatives + found - passed  # negatives with a lower score
        if self.tied.nnz:
            below += (self.tied @ weights) / 2
        pairs = np.einsum("gr,gr->r", positives, below)
        np.maximum(passed, TINY, out=passed)  # nothing drawn yet: 0 of 0 adds nothing
        precision = np.divide(found, passed, out=found)
        return (
            ratio(pairs, np.where(both, all_found * negatives, 0)),
            ratio(np.einsum("gr,gr->r", positives, precision), all_found),
        )


def auroc(y_true: Array, y_score: Array, weights: Array | None = None) -> Array:
    """Area under the ROC curve, ties counting half, for many weightings of the same images at once.

    Args:
        y_true: of shape (n,); 1, 0 or NaN (left out).
        y_score: of shape (n,).
        weights: of shape (replicates, n), how often each image counts; `None` for once each.

    Returns:
        Of shape (replicates,); NaN where only one class is present. Equal to scikit-learn's `roc_auc_score` with
        `sample_weight`, without its sort for every replicate.
    """
    return _curves(y_true, y_score, weights)[0]


def average_precision(y_true: Array, y_score: Array, weights: Array | None = None) -> Array:
    """Σ (R_k − R_(k−1))·P_k over the thresholds; arguments and result as in `auroc`, but 1 without a negative.

    Equal to scikit-learn's `average_precision_score` with `sample_weight`.
    """
    return _curves(y_true, y_score, weights)[1]


def _curves(y_true: Array, y_score: Array, weights: Array | None) -> tuple[Array, Array]:
    weights = np.ones((1, len(y_true))) if weights is None else np.asarray(weights, np.float64)
    ranking = Ranking(np.asarray(y_true, np.float64), np.asarray(y_score), np.arange(len(y_true)), len(y_true))
    return ranking(np.ascontiguousarray(weights.T))
