"""Calibration error and the parts of the Brier score, against loops and scikit-learn."""

import numpy as np
import pytest
from sklearn.isotonic import IsotonicRegression
from sklearn.metrics import brier_score_loss

from training.calibrating.reliability import BINS, PARTS, make_scorer, reliability
from training.scoring.statistics.bootstrap import Bootstrap


def drawn(seed=0):
    rng = np.random.default_rng(seed)
    predicted = np.round(rng.random((120, 2)), 2).astype(np.float32)  # with ties
    truth = (rng.random((120, 2)) < predicted**2).astype(float)
    truth[:7, 1] = np.nan
    return predicted, truth


def ece(p, y):
    total = 0.0
    for low in np.arange(BINS) / BINS:
        inside = (p >= low) & (p < low + 1 / BINS) if low < 1 - 1.5 / BINS else p >= low
        total += abs((p[inside] - y[inside]).sum())
    return total / len(p)


def test_scores_are_those_of_loops_and_of_scikit_learn():
    predicted, truth = drawn()
    scores = reliability(predicted, truth, ("A", "B"), np.arange(120), Bootstrap("patient", 0))
    for k, code in enumerate(("A", "B")):
        known = ~np.isnan(truth[:, k])
        p, y = predicted[known, k].astype(float), truth[known, k]
        value = {part: scores[f"{part}_{code}"]["value"] for part in PARTS}
        assert value["ece"] == pytest.approx(ece(p, y), abs=1e-6)
        assert value["brier"] == pytest.approx(brier_score_loss(y, p))
        best = IsotonicRegression().fit(p, y).predict(p)
        assert value["miscalibration"] == pytest.approx(value["brier"] - ((best - y) ** 2).mean())
        assert value["uncertainty"] == pytest.approx(y.mean() * (1 - y.mean()))
        parts = value["miscalibration"] - value["discrimination"] + value["uncertainty"]
        assert value["brier"] == pytest.approx(parts)
    assert scores["ece"]["value"] == pytest.approx((scores["ece_A"]["value"] + scores["ece_B"]["value"]) / 2)


def test_a_replicate_is_the_images_of_the_drawn_patients():
    """The interval of the bootstrap is that of scoring repeated images."""
    predicted, truth = drawn(1)
    patients = np.arange(120) // 4
    units = np.unique(patients, return_inverse=True)[1]
    weights = np.random.default_rng(0).integers(0, 4, (30, 5)).astype(float)
    found = make_scorer(predicted, truth, ("A", "B"))(units)(weights)
    for r in range(5):
        rows = np.repeat(np.arange(120), weights[units, r].astype(int))
        again = reliability(predicted[rows], truth[rows], ("A", "B"), np.arange(len(rows)), Bootstrap("image", 0))
        for part in PARTS:
            assert found[f"{part}_B"][r] == pytest.approx(again[f"{part}_B"]["value"])


def test_true_probabilities_have_little_error_and_no_miscalibration_to_speak_of():
    rng = np.random.default_rng(3)
    predicted = rng.random((20_000, 1))
    truth = (rng.random((20_000, 1)) < predicted).astype(float)
    scores = reliability(predicted, truth, ("A",), np.arange(20_000), Bootstrap("patient", 0))
    assert scores["ece"]["value"] < 0.01
    assert scores["miscalibration"]["value"] < 0.002
