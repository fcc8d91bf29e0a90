"""Fitted curves against independent optimizers, and the choice among them."""

import numpy as np
import pytest
from scipy.optimize import minimize
from sklearn.isotonic import isotonic_regression
from sklearn.metrics import log_loss

from keras_realmnet.errors import DataSetError
from keras_realmnet.tasks.fitted.calibration import Temperature, logit
from keras_realmnet.tasks.outputs import Grades, Labels
from keras_realmnet.tasks.vocabulary import PALM
from tests.tasks.made_up import GRADES
from training.calibrating.curves import choose_calibration, fit_calibration, fit_curve


def drawn(count=600, slope=0.5, intercept=-0.5, seed=0):
    """Probabilities of a network that is too sure and too high, and what is true: with σ(slope·logit + intercept)."""
    rng = np.random.default_rng(seed)
    score = rng.normal(0, 3, count)
    truth = rng.random(count) < 1 / (1 + np.exp(-slope * score - intercept))
    return (1 / (1 + np.exp(-score))).astype(np.float32), truth.astype(np.float64)


def loss(parameters, probability, truth):
    """Cross-entropy towards Platt's targets."""
    slope, intercept = parameters
    positives = truth.sum()
    target = np.where(truth == 1, (positives + 1) / (positives + 2), 1 / (len(truth) - positives + 2))
    score = slope * logit(probability) + intercept
    return (np.logaddexp(0, score) - target * score).mean()


def test_platt_and_temperature_are_the_optima():
    probability, truth = drawn()
    platt = fit_curve("platt", probability, truth)
    best = minimize(
        loss, (1.0, 0.0), (probability, truth), method="Nelder-Mead", options={"xatol": 1e-8, "fatol": 1e-12}
    )
    assert (platt.slope, platt.intercept) == pytest.approx(tuple(best.x), abs=1e-4)
    one = minimize(
        lambda s: loss((s[0], 0.0), probability, truth), (1.0,), method="Nelder-Mead", options={"xatol": 1e-8}
    )
    assert fit_curve("temperature", probability, truth).temperature == pytest.approx(1 / one.x[0], abs=1e-3)


def test_isotonic_is_that_of_the_images():
    probability, truth = drawn(100)
    order = np.argsort(probability)
    expected = isotonic_regression(truth[order])
    np.testing.assert_allclose(fit_curve("isotonic", probability, truth)(probability[order]), expected, atol=1e-9)


def test_labels_told_apart_without_error_have_a_curve():
    """A logistic regression towards 0 and 1 would not end."""
    probability = np.array([0.01, 0.02, 0.03, 0.98, 0.99] * 4)
    platt = fit_curve("platt", probability, (probability > 0.5).astype(float))
    assert 0 < platt.slope < 5
    assert platt(np.array([0.98]))[0] == pytest.approx(9 / 10, abs=0.05)  # Platt's target of eight positives


@pytest.mark.parametrize(
    ("truth", "method", "error", "message"),
    [
        (np.zeros(8), "platt", DataSetError, "Received: 0 of 8"),
        (np.array([1, 1, 1, 1, 0, 0, 0, 0]), "temperature", DataSetError, "does not rise"),
        (np.zeros(8), "beta", ValueError, "method must be one of"),
    ],
)
def test_what_has_no_curve_is_told(truth, method, error, message):
    with pytest.raises(error, match=message):
        fit_curve(method, np.linspace(0.1, 0.9, 8), truth)


def test_the_kind_is_chosen_on_patients_that_were_not_fitted_on():
    columns = [drawn(seed=seed) for seed in range(3)]
    predicted, truth = (np.stack([column[k] for column in columns], axis=1) for k in (0, 1))
    truth[:5, 1] = np.nan
    patients = np.arange(len(truth)) // 3
    chosen, scores = choose_calibration(Labels(PALM), predicted, truth, patients, "drawn images")
    known = [~np.isnan(truth[:, k]) for k in range(3)]
    losses = [log_loss(truth[known[k], k], predicted[known[k], k]) for k in range(3)]
    assert scores["none"] == pytest.approx(np.mean(losses), rel=1e-5)
    assert scores["platt"] < min(scores["isotonic"], scores["none"])
    assert scores["platt"] < scores["temperature"]
    assert {curve.kind for curve in chosen.curves.values()} == {"platt"}
    assert "least log loss" in chosen.chosen
    assert chosen.chosen.endswith("drawn images")
    true = np.stack([1 / (1 + np.exp(-0.5 * logit(predicted[:, k]) + 0.5)) for k in range(3)], axis=1)
    after, before = (np.abs(each - true).mean() for each in (chosen.apply(Labels(PALM), predicted), predicted))
    assert after < before / 4


def test_a_label_without_images_stays_as_it_is_and_is_told():
    predicted, truth = (np.stack([each, each], axis=1) for each in drawn())
    predicted, truth = np.c_[predicted, predicted[:, 0]], np.c_[truth, np.zeros(len(truth))]
    chosen, _ = choose_calibration(Labels(PALM), predicted, truth, np.arange(len(truth)), "drawn images", ("platt",))
    assert chosen.curves["P"] == Temperature(1.0)
    assert "too few images for P, which stays as it is" in chosen.chosen
    np.testing.assert_allclose(chosen.apply(Labels(PALM), predicted)[:, 2], predicted[:, 2], atol=1e-6)


def test_what_is_calibrated_already_stays():
    """Predictions that are the true frequencies: no curve does better on other patients."""
    rng = np.random.default_rng(1)
    predicted = rng.random((300, 3)).astype(np.float32)
    truth = (rng.random((300, 3)) < predicted).astype(float)
    chosen, scores = choose_calibration(Labels(PALM), predicted, truth, np.arange(300), "drawn images")
    assert chosen is None or scores[next(iter(chosen.curves.values())).kind] > scores["none"] - 0.002


def test_grades_are_calibrated_too():
    rng = np.random.default_rng(2)
    logits = rng.normal(0, 1, (500, 3))
    true = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    truth = np.eye(3)[[rng.choice(3, p=row) for row in true]]
    sure = np.exp(3 * logits) / np.exp(3 * logits).sum(axis=1, keepdims=True)
    calibration = fit_calibration(Grades(GRADES), "temperature", sure.astype(np.float32), truth)
    calibrated = calibration.apply(Grades(GRADES), sure)
    assert np.abs(calibrated - true).mean() < np.abs(sure - true).mean() / 3
