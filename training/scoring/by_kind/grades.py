"""Scores of ordered grades of which exactly one holds."""

from collections.abc import Mapping

import numpy as np

from keras_realmnet.tasks.vocabulary import LabelSet
from training.scoring.by_kind.sums import mean_of, sums_by_unit, unit_count
from training.scoring.statistics.arrays import Array, ratio
from training.scoring.statistics.ranking import Ranking

__all__ = ["GradeScorer", "confusion"]


def confusion(true: Array, predicted: Array, grades: int) -> Array:
    """How many cases of each true grade (row) got each grade, int (grades, grades). Both (n,); −1: not known."""
    counts = np.zeros((grades, grades), np.int64)
    known = true >= 0
    np.add.at(counts, (true[known], predicted[known]), 1)
    return counts


class GradeScorer:
    """Of the cases "grade", int (n,), −1 where not known, "predicted", int (n,), and "probabilities", (n, grades).

    kappa: Cohen's with quadratic weights, 1 − Σ w·observed / Σ w·expected, w = (i − j)², none where nothing differs:
    for grades 0, 1, 2 and predictions 0, 2, 2 it is 1 − 1 / 5 = .8. f1_CODE and auroc_CODE: of one grade against the
    rest, with their means macro_f1 and macro_auroc. Equal to scikit-learn's `cohen_kappa_score(weights="quadratic")`,
    `f1_score` and `roc_auc_score` for the grades that there are.
    """

    def __init__(self, grades: LabelSet, cases: Mapping[str, Array], units: Array):
        self.codes = grades.codes
        known, count = cases["grade"] >= 0, unit_count(units)
        true, predicted, probabilities = (cases[name][known] for name in ("grade", "predicted", "probabilities"))
        one_hot = np.eye(len(grades))
        # (true grade, predicted grade, units)
        self.pairs = np.zeros((len(grades), len(grades), count))
        np.add.at(self.pairs, (true, predicted, units[known]), 1)
        self.rankings = [
            Ranking(one_hot[true, k], probabilities[:, k], units[known], count) for k in range(len(grades))
        ]
        totals = sums_by_unit(one_hot[true], units[known]).sum(axis=-1)
        self.has_positive, self.has_both = totals > 0, (totals > 0) & (totals < known.sum())

    def __call__(self, weights: Array) -> dict[str, Array]:
        pairs = self.pairs @ weights  # (true grade, predicted grade, replicates)
        true, said = pairs.sum(axis=1), pairs.sum(axis=0)  # (grades, replicates)
        hit, total = np.einsum("iir->ir", pairs), pairs.sum(axis=(0, 1))
        places = np.arange(len(self.codes))
        far = np.square(np.subtract.outer(places, places)).astype(np.float64)
        observed = np.einsum("ij,ijr->r", far, pairs)
        expected = ratio(np.einsum("ij,ir,jr->r", far, true, said), total)
        f1 = ratio(2 * hit, np.where(true > 0, true + said, 0))
        auroc = [ranking(weights)[0] for ranking in self.rankings]
        return {
            "kappa": 1 - ratio(observed, expected),
            "macro_f1": mean_of(list(f1), self.has_positive),
            "macro_auroc": mean_of(auroc, self.has_both),
            "accuracy": ratio(hit.sum(axis=0), total),
            **{f"f1_{code}": values for code, values in zip(self.codes, f1, strict=True)},
            **{f"auroc_{code}": values for code, values in zip(self.codes, auroc, strict=True)},
        }
