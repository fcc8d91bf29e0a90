"""Thresholds for a sensitivity of patients, and the exact bounds."""

import numpy as np
import pytest
from scipy.stats import binomtest

from keras_realmnet.errors import DataSetError
from training.calibrating.operating import (
    exact_interval,
    lower_bound,
    patient_threshold,
    patients_needed,
)


@pytest.mark.parametrize(("found", "cases"), [(0, 5), (3, 10), (60, 60), (199, 200)])
def test_bounds_are_those_of_clopper_and_pearson(found, cases):
    one_sided = binomtest(found, cases, alternative="greater").proportion_ci(0.95, "exact")
    assert lower_bound(found, cases) == pytest.approx(one_sided.low)
    both = binomtest(found, cases).proportion_ci(0.95, "exact")
    assert exact_interval(found, cases) == pytest.approx((both.low, both.high))


def test_patients_that_are_needed():
    assert patients_needed(0.95, 0.95) == 59
    assert lower_bound(59, 59) >= 0.95 > lower_bound(58, 58)


def test_the_largest_threshold_with_that_bound():
    """100 patients of two images; the better one counts. 99 of 100 found: .9534; 98: .9385."""
    rng = np.random.default_rng(0)
    best = np.sort(rng.random(100))[::-1]
    score = np.concatenate([best, best * 0.5, np.full(50, 0.001)])
    truth = np.concatenate([np.ones(200), np.zeros(50)])
    patients = np.concatenate([np.tile(np.arange(100), 2), np.arange(100, 150)])
    chosen = patient_threshold(truth, score, patients, 0.95)
    assert (chosen.found, chosen.patients) == (99, 100)
    assert chosen.lower == pytest.approx(lower_bound(99, 100))
    assert best[98] >= chosen.threshold > score[score < best[98]].max()
    assert (best >= best[98] + 1e-9).sum() == 98  # a threshold above finds fewer
    assert lower_bound(98, 100) < 0.95
    lenient = patient_threshold(truth, score, patients, 0.8)
    assert lenient.threshold > chosen.threshold
    assert lenient.lower >= 0.8


def test_too_few_patients_are_told():
    with pytest.raises(DataSetError, match=r"needs 59 patients with the label\. Received: 2"):
        patient_threshold(np.array([1, 1, 1, 0]), np.linspace(0, 1, 4), np.array(["a", "a", "b", "c"]), 0.95)
