"""Limits against scikit-learn-contrib's MAPIE and order statistics; coverage over random splits, in small.

At its full count: python -m export calibrate bundles/realmnet-demo --recipe phantom_5m_224 --splits 200
"""

from dataclasses import replace

import numpy as np
import pytest

from keras_realmnet.errors import DataSetError
from keras_realmnet.tasks.fitted.fitted import Fitted
from keras_realmnet.tasks.outputs import Labels
from keras_realmnet.tasks.rules import AnyAbove, OperatingPoint
from keras_realmnet.tasks.task import labels_task
from keras_realmnet.tasks.vocabulary import PSMM
from training.calibrating.conformal import fit_missed_risk, share_limit
from training.calibrating.fitting import Settings, Validation, fit_task, half, referral_costs, scale_of
from training.calibrating.measuring import coverage_of_splits, decisions, in_words, measure, splits_in_words, verdicts
from training.calibrating.operating import lower_bound

TASK = labels_task(PSMM, "uwf_red_green", OperatingPoint(dict.fromkeys(PSMM.pathologic, 0.5), "by hand"))


def drawn(patients=300, seed=0, noise=1.5):
    """Images of patients, two of each on average, as a network that is somewhat unsure and too sure of it sees them."""
    rng = np.random.default_rng(seed)
    owner = np.repeat(np.arange(patients), rng.integers(1, 4, patients))
    grade, staphyloma = rng.integers(0, 5, patients), rng.integers(0, 2, patients)
    truth = np.zeros((len(owner), 7), np.float32)
    truth[np.arange(len(owner)), staphyloma[owner]] = 1
    truth[np.arange(len(owner)), 2 + grade[owner]] = 1
    logits = 6 * truth - 3 + rng.normal(0, noise, (patients, 7))[owner] + rng.normal(0, noise, truth.shape)
    predicted = (1 / (1 + np.exp(-2 * logits))).astype(np.float32)
    return Validation({"probabilities": predicted}, {"probabilities": truth}, owner.astype(np.str_), "drawn images")


def test_with_one_image_a_patient_the_limit_is_an_order_statistic():
    share = np.random.default_rng(0).random(99)
    assert share_limit(share, np.arange(99), 0.9) == np.sort(share)[::-1][89]  # the ⌈100 · .9⌉-th largest
    assert share_limit(share[:5], np.arange(5), 0.9) == 0  # too few: every label


def test_each_patient_counts_once():
    share, patients = np.array([0.9, 0.8, 0.7, 0.6]), np.array(["a", "b", "c", "d"])
    again = np.repeat(np.arange(4), [50, 1, 1, 1])
    for coverage in (0.2, 0.4, 0.6, 0.8):
        assert share_limit(share[again], patients[again], coverage) == share_limit(share, patients, coverage)


def test_what_is_missed_is_bounded():
    """MAPIE's limit finds enough patients, and one much higher would not; few patients bound nothing."""
    pytest.importorskip("mapie", reason="mapie is not installed")
    images = drawn()
    output, known = Labels(PSMM), (images.predicted["probabilities"], images.truth["probabilities"], images.patients)
    found = fit_missed_risk("probabilities", output, *known, PSMM.pathologic, 0.05, 0.95, "drawn images")
    pathologic = known[1][:, [1, 4, 5, 6]].max(axis=1) == 1
    most = known[0][:, [1, 4, 5, 6]].max(axis=1)
    cases = set(images.patients[pathologic])
    seen = set(images.patients[pathologic & (most >= found.limit)])
    assert lower_bound(len(seen), len(cases)) >= 0.95
    assert found.limit > 0.01
    few = images.patients.astype(int) < 20
    with pytest.raises(DataSetError, match="needs more patients with something to refer"):
        fit_missed_risk("probabilities", output, *(each[few] for each in known), PSMM.pathologic, 0.05, 0.95, "few")


def test_costs_and_scales():
    assert referral_costs(3, 1, 4, 1) == ((0, 2, 3), (5, 0, 1), (6, 1, 0))
    assert scale_of(PSMM) == (("A0", "A1", "A2", "A3", "A4"), "A2")


def test_parts_are_of_whole_patients():
    patients = np.repeat(np.arange(30), 3)
    part = half(patients, 1, parts=3)
    assert sorted(np.bincount(part)) == [30, 30, 30]
    assert all(len(set(part[patients == each])) == 1 for each in range(30))
    assert (half(patients, 1) == half(patients, 1)).all()


@pytest.fixture(scope="module")
def fitting():
    pytest.importorskip("mapie", reason="mapie is not installed")
    return fit_task(TASK, drawn(), Settings(methods=("platt",), sensitivity=0.9))


def test_what_is_fitted_holds_on_other_patients(fitting):
    """Calibrated, referred, and missed no more than promised."""
    other = drawn(seed=1)
    result = measure(fitting.task, other, 0)
    of_labels = result["outputs"]["probabilities"]
    assert of_labels["after"]["ece"]["value"] < of_labels["before"]["ece"]["value"]
    assert of_labels["after"]["brier"]["value"] < of_labels["before"]["brier"]["value"]
    for group in of_labels["coverage"].values():
        assert group["of patients images"] > 0.9
    found = result["decisions"]["patients with"]
    assert found["negative"]["share"] <= 0.05
    assert found["refer"]["count"] + found["uncertain"]["count"] + found["negative"]["count"] == found["patients"]
    assert any("uncertain" in line for line in in_words(result))


def test_uncertain_comes_from_doubts_alone(fitting):
    """Without them the same pictures are negative: a doubt changes no referral."""
    sure = replace(fitting.task, fitted=Fitted(fitting.task.fitted.calibration))
    other = drawn(60, seed=2)
    for with_doubts, without in zip(
        verdicts(fitting.task, other.predicted), verdicts(sure, other.predicted), strict=True
    ):
        assert with_doubts.outcome == without.outcome or (with_doubts.outcome, without.outcome) == (
            "uncertain",
            "negative",
        )


def test_labels_without_a_scale_have_thresholds_of_their_own(fitting):
    """By thresholds every label has one, with its bound."""
    by_thresholds = fit_task(TASK, drawn(600), Settings(methods=("platt",), sensitivity=0.8, by_cost=False))
    rule = by_thresholds.task.rule
    assert isinstance(rule, AnyAbove)
    assert set(rule.point.thresholds) == set(PSMM.pathologic)
    assert all(each["lower"] >= 0.8 for each in by_thresholds.report["thresholds of probabilities"].values())
    assert decisions(by_thresholds.task, drawn(60, seed=3))["patients with"]["refer"]["share"] > 0.8


def test_coverage_holds_over_random_splits(fitting):
    """Thirty splits; the mean may stay below what is asked by chance alone, three standard errors of it."""
    found = coverage_of_splits(fitting.task, drawn(seed=4), 30, Settings(coverage=0.9, risk=0.1))
    assert len(found["coverage"]) == 2
    for group in found["coverage"].values():
        assert group["mean"] >= 0.9 - 3 * group["standard error"]
        assert group["mean"] < 0.96  # nor is it everything
    assert found["missed"]["mean"] <= 0.1
    assert sum("random splits" in line for line in splits_in_words(found)) == 3
    assert list(splits_in_words({})) == []
