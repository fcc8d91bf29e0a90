"""Curves of `keras_realmnet.tasks.fitted.calibration`, fitted with scikit-learn, their kind by cross-validation."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupKFold

from keras_realmnet.errors import DataSetError
from keras_realmnet.tasks.fitted.calibration import SMALLEST, Calibration, Curve, Isotonic, Platt, Temperature, logit
from keras_realmnet.tasks.outputs import Grades, Labels
from training.scoring.statistics.arrays import Array

__all__ = ["AS_IT_IS", "METHODS", "choose_calibration", "fit_calibration", "fit_curve"]

METHODS = ("temperature", "platt", "isotonic")
FOLDS = 5
AS_IT_IS = Temperature(1.0)


def fit_curve(method: str, probability: Array, truth: Array) -> Curve:
    """The curve of a label.

    Temperature and Platt's sigmoid are logistic regressions on the logit, the first without an intercept, towards
    Platt's targets, (n₊ + 1) / (n₊ + 2) and 1 / (n₋ + 2): labels that are told apart without error have no other finite
    optimum.

    Args:
        probability, truth: (n,), the truth 0 or 1.

    Raises:
        ValueError: an unknown method.
        DataSetError: scores that fall where the truth rises; no image of the label, or none without it.
    """
    if method not in METHODS:
        raise ValueError(f"method must be one of {', '.join(METHODS)}. Received: {method!r}")
    positives = int(truth.sum())
    if not 0 < positives < len(truth):
        raise DataSetError(f"a curve needs images with and without the label. Received: {positives} of {len(truth)}")
    if method == "isotonic":
        fitted = IsotonicRegression(y_min=0, y_max=1, out_of_bounds="clip").fit(probability.astype(np.float64), truth)
        knots = {float(x): float(y) for x, y in zip(fitted.X_thresholds_, fitted.y_thresholds_, strict=True)}
        return Isotonic(tuple(knots), tuple(knots.values()))
    high, low = (positives + 1) / (positives + 2), 1 / (len(truth) - positives + 2)
    target = np.where(truth == 1, high, low)
    x, y = np.tile(logit(probability), 2)[:, None], np.repeat([1, 0], len(truth))
    model = LogisticRegression(C=np.inf, fit_intercept=method == "platt", tol=1e-8, max_iter=1000)
    model.fit(x, y, sample_weight=np.concatenate([target, 1 - target]))
    slope = float(model.coef_[0, 0])
    if not slope > 0:
        raise DataSetError("the probability of a label does not rise with its truth: nothing can be calibrated")
    return Platt(slope, float(model.intercept_[0])) if method == "platt" else Temperature(1 / slope)


def fit_calibration(
    output: Labels | Grades, method: str, predicted: Array, truth: Array, chosen: str = "by hand"
) -> Calibration:
    """The curves of all labels, each on the images of which it is known; one that cannot be fitted stays as it is.

    Args:
        predicted, truth: (n, labels); 1, 0 or NaN where not known.
    """
    curves: dict[str, Curve] = {}
    for k, code in enumerate(output.labels.codes):
        known = ~np.isnan(truth[:, k])
        try:
            curves[code] = fit_curve(method, predicted[known, k], truth[known, k])
        except DataSetError:
            curves[code] = AS_IT_IS
    return Calibration(curves, chosen)


def choose_calibration(
    output: Labels | Grades,
    predicted: Array,
    truth: Array,
    patients: Sequence[str] | Array,
    on: str,
    methods: Sequence[str] = METHODS,
) -> tuple[Calibration | None, Mapping[str, Any]]:
    """The kind of curve with the least log loss on images of patients that it was not fitted on, fitted on all.

    The log loss, which curves are fitted by, punishes sure errors most: a curve that says never where something is.

    Args:
        predicted, truth: (n, labels). patients: (n,). on: what the images are, for people.

    Returns:
        The calibration, None where the network's own probabilities have the least; and the log loss, the mean over
        labels, of each method and of "none".
    """
    patients = np.asarray(patients)
    folds = list(GroupKFold(FOLDS, shuffle=True, random_state=0).split(predicted, groups=patients))
    scores = {"none": _log_loss(predicted, truth)}
    for method in methods:
        held_out = np.empty(predicted.shape, np.float64)
        for learned, left in folds:
            fold = fit_calibration(output, method, predicted[learned], truth[learned])
            held_out[left] = fold.apply(output, predicted[left])
        scores[method] = _log_loss(held_out, truth)
    best = min(scores, key=lambda name: scores[name])
    if best == "none":
        return None, scores
    told = ", ".join(f"{name} {score:.5f}" for name, score in scores.items())
    fitted = fit_calibration(output, best, predicted, truth)
    left = [code for code, curve in fitted.curves.items() if curve == AS_IT_IS]
    but = f"; too few images for {', '.join(left)}, which stays as it is" if left else ""
    chosen = f"{best}, of the least log loss in {FOLDS} folds by patient ({told}){but}, on {on}"
    return replace(fitted, chosen=chosen), scores


def _log_loss(predicted: Array, truth: Array) -> float:
    given = np.clip(np.where(truth == 1, predicted, 1 - predicted), SMALLEST, 1)  # to what is true
    return float(np.nanmean(np.nanmean(np.where(np.isnan(truth), np.nan, -np.log(given)), axis=0)))
