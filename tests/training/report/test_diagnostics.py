import numpy as np
import pytest
from sklearn.calibration import calibration_curve
from sklearn.metrics import confusion_matrix

from training.report.diagnostics import calibration, confusion_counts


def test_the_calibration_error_by_hand():
    bins, error = calibration(np.array([0, 1, 1, 1, np.nan]), np.array([0.1, 0.1, 0.9, 0.9, 0.9]))
    assert error == pytest.approx(0.25)
    assert bins.counts.tolist() == [0, 2, 0, 0, 0, 0, 0, 0, 0, 2]
    assert calibration(np.array([np.nan]), np.array([0.5]))[1] is None
    assert calibration(np.array([1.0]), np.array([1.0]))[0].counts[9] == 1


def test_reliability_is_scikit_learns():
    rng = np.random.default_rng(0)
    score = rng.random(500)
    truth = (rng.random(500) < score).astype(float)
    bins, _ = calibration(truth, score)
    observed, predicted = calibration_curve(truth, score, n_bins=10)
    np.testing.assert_allclose(bins.observed, observed, rtol=1e-12)
    np.testing.assert_allclose(bins.predicted, predicted, rtol=1e-12)


def test_confusion_is_scikit_learns_without_the_unknown():
    rng, columns = np.random.default_rng(0), list(range(2, 7))
    y_true = np.zeros((150, 7))
    y_true[np.arange(150), 2 + rng.choice(5, 150)] = 1
    y_score = y_true + rng.normal(size=y_true.shape)
    expected = confusion_matrix(y_true[:, 2:].argmax(1), y_score[:, 2:].argmax(1))
    np.testing.assert_array_equal(confusion_counts(y_true, y_score, columns), expected)
    y_true[:40, 2:] = np.nan
    assert confusion_counts(y_true, y_score, columns).sum() == 110
