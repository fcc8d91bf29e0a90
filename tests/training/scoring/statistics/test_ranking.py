import numpy as np
import pytest
from sklearn import metrics

from training.scoring.statistics.ranking import auroc, average_precision


@pytest.mark.parametrize(
    ("ours", "reference"),
    [(auroc, metrics.roc_auc_score), (average_precision, metrics.average_precision_score)],
)
def test_weighted_curves_are_scikit_learns(ours, reference, cohort):
    y_true, y_score, _ = cohort
    weights = np.random.default_rng(1).integers(0, 3, (5, 200))
    for k in range(7):
        assert ours(y_true[:, k], y_score[:, k]) == pytest.approx(reference(y_true[:, k], y_score[:, k]), abs=1e-12)
        for row, value in zip(weights, ours(y_true[:, k], y_score[:, k], weights), strict=True):
            expected = reference(y_true[:, k], y_score[:, k], sample_weight=row)
            assert value == pytest.approx(expected, abs=1e-12)
