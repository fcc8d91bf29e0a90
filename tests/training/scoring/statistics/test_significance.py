import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import stats

from keras_realmnet.tasks.rules import OperatingPoint
from keras_realmnet.tasks.vocabulary import PALM, PSMM
from training.benchmarks.scores import psmm_like
from training.scoring.statistics.bootstrap import Bootstrap
from training.scoring.statistics.cases import Cases
from training.scoring.statistics.scores import resample
from training.scoring.statistics.significance import (
    bootstrap_p_value,
    bootstrap_t_test,
    delong_covariance,
    delong_test,
    paired_difference,
    t_tests,
)

TRUTH = np.array([1, 1, 1, 0, 0, 0.0])
A = np.array([0.8, 0.6, 0.35, 0.7, 0.4, 0.2])
B = np.array([0.9, 0.8, 0.7, 0.6, 0.3, 0.1])


def slow_delong(y_true, y_scores):
    """DeLong et al. (1988) pair by pair: ψ is 1, ½ or 0; covariances of its row and column means."""
    positives, negatives = np.flatnonzero(y_true == 1), np.flatnonzero(y_true == 0)
    psi = np.zeros((len(y_scores), len(positives), len(negatives)))
    for (k, scores), (i, p), (j, n) in itertools.product(
        enumerate(y_scores), enumerate(positives), enumerate(negatives)
    ):
        psi[k, i, j] = (scores[p] > scores[n]) + 0.5 * (scores[p] == scores[n])
    values = psi.mean(axis=(1, 2))
    covariance = np.zeros((len(values), len(values)))
    for axis, count in ((2, len(positives)), (1, len(negatives))):
        centred = psi.mean(axis=axis) - values[:, None]
        covariance += centred @ centred.T / (count - 1) / count
    return values, covariance


@st.composite
def two_models(draw):
    n = draw(st.integers(4, 20))
    y_true = np.array([1, 1, 0, 0, *draw(st.lists(st.sampled_from([0, 1]), min_size=n - 4, max_size=n - 4))], float)
    elements = draw(st.sampled_from([st.sampled_from([0.0, 0.25, 0.5, 1.0]), st.floats(0, 1)]))
    return y_true, draw(hnp.arrays(np.float64, (2, n), elements=elements))


@settings(max_examples=200)
@given(two_models())
def test_delong_is_the_definition(data):
    y_true, y_scores = data
    values, covariance = delong_covariance(y_true, y_scores)
    expected_values, expected_covariance = slow_delong(y_true, y_scores)
    np.testing.assert_allclose(values, expected_values, rtol=0, atol=1e-12)
    np.testing.assert_allclose(covariance, expected_covariance, rtol=0, atol=1e-12)


def test_delong_worked_example():
    found = delong_test(TRUTH, A, B)
    assert found.a == pytest.approx(6 / 9)
    assert found.b == 1
    assert found.standard_error == pytest.approx(np.sqrt(2 / 27))
    assert found.p == pytest.approx(0.2207, abs=5e-5)
    assert (found.low, found.high) == pytest.approx((1 / 3 - 1.959964 * np.sqrt(2 / 27), 1 / 3 + 1.959964 * 0.2721655))


def test_delong_where_there_is_nothing_to_test():
    assert delong_test(TRUTH, A, A).p == 1
    assert delong_test(TRUTH, A, A**2).difference == 0  # the same order
    opposite = delong_test(TRUTH, 1 - TRUTH, TRUTH)
    assert (opposite.difference, opposite.standard_error, opposite.p) == (1, 0, None)
    assert delong_test(np.array([1, 0, 0, 0, np.nan, np.nan]), A, B).a is None  # one positive
    with pytest.raises(ValueError, match=r"two positives and two negatives. Received: 1 and 5"):
        delong_covariance(np.eye(6)[0], A[None])


def test_unknown_truth_is_left_out_of_delong():
    more = np.append(TRUTH, [np.nan, np.nan])
    assert delong_test(more, np.append(A, [0.1, 0.9]), np.append(B, [0.5, 0.5])) == delong_test(TRUTH, A, B)


def test_delong_keeps_its_level():
    """Of two equally good models one in twenty differs at p < .05."""
    rng = np.random.default_rng(0)
    y_true = np.repeat([1.0, 0.0], 60)
    p = [delong_test(y_true, *(y_true + rng.normal(0, 1, (2, 120)))).p for _ in range(1000)]
    assert np.mean(np.array(p) < 0.05) == pytest.approx(0.05, abs=0.02)


def test_bootstrap_p_value():
    assert bootstrap_p_value(np.array([-1.0, 1, 2, 3])) == pytest.approx(0.8)
    assert bootstrap_p_value(np.ones(999)) == pytest.approx(2 / 1000)
    assert bootstrap_p_value(np.zeros(100)) == 1


def better_and_worse():
    a = psmm_like(images=600, patients=120, seed=1)
    worse = np.clip(a.y_score + np.random.default_rng(2).normal(0, 0.3, a.y_score.shape), 0, 1)
    point = OperatingPoint(dict.fromkeys(PSMM.pathologic, 0.5), "by hand")
    return a, Cases.of_images(a.y_true, worse, PSMM, point, a.patients)


def test_paired_difference_is_of_the_same_replicates():
    a, b = better_and_worse()
    differences = paired_difference(a, b, replicates=200, seed=7)
    drawn = [resample(cases, Bootstrap("patient", 200, 7))["macro_auroc"] for cases in (a, b)]
    found = differences["macro_auroc"]
    assert (found.low, found.high) == pytest.approx(tuple(np.percentile(drawn[1] - drawn[0], [2.5, 97.5])))
    assert found.difference == pytest.approx(found.b - found.a)
    assert found.high < 0
    assert found.p == pytest.approx(2 / 201)
    unpaired = np.hypot(*(values.std() for values in drawn))
    assert (drawn[1] - drawn[0]).std() < unpaired
    assert paired_difference(a, b, replicates=200, seed=7) == differences


def test_a_model_does_not_differ_from_itself():
    a, _ = better_and_worse()
    for found in paired_difference(a, a, replicates=50).values():
        assert (found.difference, found.low, found.high, found.p) == (0, 0, 0, 1)


def test_paired_bootstrap_keeps_its_level_where_images_of_a_patient_are_alike():
    """Two networks that err by patient, equally often: about one in twenty differs at p < .05 (DeLong: far more)."""
    rng = np.random.default_rng(0)
    paired, delong = [], []
    for _ in range(80):
        truth = np.repeat(rng.permutation(np.repeat([0.0, 1.0], 40)), 5)  # 80 patients with five images each
        scores = [truth + np.repeat(rng.normal(0, 1, 80), 5) + rng.normal(0, 0.1, 400) for _ in range(2)]
        scaled = [1 / (1 + np.exp(-s)) for s in scores]
        patients = np.repeat(np.arange(80), 5)
        y_true = np.stack([1 - truth, 0 * truth, truth], axis=1)
        a, b = (
            Cases.of_images(y_true, np.stack([1 - s, 0 * s, s], axis=1), PALM, None, patients.astype(str))
            for s in scaled
        )
        paired.append(paired_difference(a, b, replicates=100)["auroc_P"].p)
        delong.append(delong_test(truth, *scaled).p)
    assert np.mean(np.array(paired) < 0.05) < 0.13
    assert np.mean(np.array(delong) < 0.05) > 0.2


def test_cases_must_be_the_same():
    a, b = better_and_worse()
    with pytest.raises(ValueError, match="the same cases in the same order"):
        paired_difference(a, b.take(np.arange(599)))


def test_the_published_t_test():
    rng = np.random.default_rng(0)
    a, b = rng.normal(0, 1, 50), rng.normal(0.3, 1, 40)
    pooled = np.sqrt((49 * a.var(ddof=1) + 39 * b.var(ddof=1)) / 88)
    t = (a.mean() - b.mean()) / (pooled * np.sqrt(1 / 50 + 1 / 40))
    assert bootstrap_t_test(a, b) == pytest.approx(2 * stats.t.sf(abs(t), 88))
    assert bootstrap_t_test(np.append(a, np.nan), b) == bootstrap_t_test(a, b)
    assert bootstrap_t_test(np.ones(5), np.ones(5)) == 1
    assert bootstrap_t_test(np.ones(5), np.zeros(5)) == 0


def test_the_published_t_test_sees_any_difference_with_enough_replicates():
    a, b = better_and_worse()
    p = t_tests(a, b, replicates=100)
    assert p["macro_auroc"] < 1e-10
    only_a = Cases.of_images(a.y_true[:, :3] * [1, 1, 0], a.y_score[:, :3], PALM)
    assert t_tests(only_a, only_a, replicates=20)["auroc_P"] is None
