"""Losses of labels, of which any number may hold; a target of NaN is unknown and masked. See the package."""

import keras
import numpy as np
from keras import ops

from keras_realmnet.arguments import LOSSES, check
from keras_realmnet.losses.targets import (
    REDUCTION,
    ROUNDING,
    FunctionLoss,
    focal_crossentropy,
    known_only,
    may_agree,
    power,
    shape_of,
    values_of,
)

__all__ = [
    "AsymmetricLoss",
    "BinaryCrossentropy",
    "FocalLoss",
    "TwoWayLoss",
    "asymmetric_loss",
    "binary_crossentropy",
    "focal_loss",
    "two_way_loss",
]

_SMALLEST_PROBABILITY = 1e-8  # under the logarithm, as in the ASL reference code
_EXCLUDED = -100.0  # added to a logit that a log-sum-exp shall leave out, as in the two-way reference code


def _checked(loss, y_true, logits, **parameters):
    """Targets with 0 where they are unknown, logits, and 1 where targets are known, 0 where not; all float32.

    Raises:
        ValueError: see the package.
    """
    check(loss, LOSSES[loss], parameters)
    shapes = shape_of(y_true), shape_of(logits)
    if not may_agree(*shapes):
        raise ValueError(f"{loss} needs targets of the shape of the logits, {shapes[1]}. Received: {shapes[0]}")
    values = values_of(y_true)
    if values is not None and ((values < -ROUNDING) | (values > 1 + ROUNDING)).any():
        raise ValueError(
            f"{loss} needs targets from 0 to 1, or NaN. Received: {np.nanmin(values)} to {np.nanmax(values)}"
        )
    y_true, known = known_only(ops.cast(y_true, "float32"))
    return y_true, ops.cast(logits, "float32"), known


def _sigmoid(x):
    """sigmoid(x), correctly rounded, with the gradient p·(1 − p).

    TensorFlow's own is a few units in the last place off, which 1 − p and the logarithm would magnify to 1e-4.
    """
    p = ops.stop_gradient(1 / (1 + ops.exp(-x)))
    return p + p * (1 - p) * (x - ops.stop_gradient(x))


def binary_crossentropy(y_true, logits, alpha=0.5):
    """α-balanced binary cross-entropy: −[α·y·log p + (1−α)·(1−y)·log(1−p)] with p = sigmoid(logits).

    With α = 0.5 it is half the usual cross-entropy: at logit 0 each element costs 0.5·log 2 = 0.3466.

    Args:
        y_true: (batch, classes), 0–1, or NaN: unknown, which costs 0.
        logits: (batch, classes).
        alpha: weight of the positives, 0–1.

    Returns:
        (batch, classes), float32.
    """
    y_true, logits, known = _checked("BinaryCrossentropy", y_true, logits, alpha=alpha)
    return focal_crossentropy(y_true, logits, alpha, gamma=0.0) * known


def focal_loss(y_true, logits, alpha=0.25, gamma=2.0):
    """Focal loss: −[α·y·(1−p)^γ·log p + (1−α)·(1−y)·p^γ·log(1−p)] with p = sigmoid(logits).

    The formula of arXiv 1708.02002, eq. 5; RealMNet's printed one drops y and misplaces the powers. At logit 0,
    y = 1, α = .25, γ = 2: .25 · .25 · log 2 = 0.0433.

    Args:
        y_true: (batch, classes), 0–1, or NaN: unknown, which costs 0.
        logits: (batch, classes).
        alpha: weight of the positives, 0–1.
        gamma: focusing exponent, ≥ 0.

    Returns:
        (batch, classes), float32.
    """
    y_true, logits, known = _checked("FocalLoss", y_true, logits, alpha=alpha, gamma=gamma)
    return focal_crossentropy(y_true, logits, alpha, gamma) * known


def asymmetric_loss(y_true, logits, gamma_pos=3.0, gamma_neg=4.0, margin=0.0):
    """Asymmetric loss (arXiv 2009.14119): −[y·(1−p)^γ+·log p + (1−y)·p_m^γ−·log(1−p_m)], p_m = max(p − m, 0).

    Soft labels as in RealMNet's code: p_t = p·y + (1 − p_m)·(1 − y), loss −log p_t · (1 − p_t)^(γ+·y + γ−·(1−y)).
    At logit 0, y = 1, γ+ = 3: (1/2)³ · log 2 = 0.0866.

    Args:
        y_true: (batch, classes), 0–1, or NaN: unknown, which costs 0.
        logits: (batch, classes).
        gamma_pos, gamma_neg: focusing exponents of positives and negatives, ≥ 0; RealMNet's are 3 and 4.
        margin: m, probability below which a negative costs nothing, 0 up to below 1.

    Returns:
        (batch, classes), float32.
    """
    parameters = {"gamma_pos": gamma_pos, "gamma_neg": gamma_neg, "margin": margin}
    y_true, logits, known = _checked("AsymmetricLoss", y_true, logits, **parameters)
    p = _sigmoid(logits)
    not_p = ops.minimum(1 - p + margin, 1.0) if margin else 1 - p  # 1 − p_m
    p_t = p * y_true + not_p * (1 - y_true)
    loss = -ops.log(ops.maximum(p_t, _SMALLEST_PROBABILITY))
    return loss * power(1 - p_t, gamma_pos * y_true + gamma_neg * (1 - y_true)) * known


def two_way_loss(y_true, logits, positive_temperature=4.0, negative_temperature=1.0):
    """Two-way multi-label loss (Kobayashi, CVPR 2023).

    softplus(T_N·LSE(x/T_N over the negatives) + T_P·LSE(−x/T_P over the positives)), once per sample over its classes
    and once per class over the batch; the mean of each, added. Samples and classes without a positive are skipped.

    Args:
        y_true: (batch, classes); positive where > 0; NaN: unknown, which is neither positive nor negative.
        logits: (batch, classes).
        positive_temperature, negative_temperature: T_P and T_N, > 0.

    Returns:
        A float32 scalar.
    """
    temperatures = {"positive_temperature": positive_temperature, "negative_temperature": negative_temperature}
    y_true, logits, known = _checked("TwoWayLoss", y_true, logits, **temperatures)
    positive = ops.cast(y_true > 0, "float32")
    negative = known - positive
    hard_positives = -logits / positive_temperature + _EXCLUDED * (1 - positive)
    hard_negatives = logits / negative_temperature + _EXCLUDED * (1 - negative)
    total = 0.0
    for axis in (0, 1):  # class-wise, then sample-wise
        x = positive_temperature * ops.logsumexp(hard_positives, axis=axis)
        x = x + negative_temperature * ops.logsumexp(hard_negatives, axis=axis)
        counts = ops.max(positive, axis=axis)
        total = total + ops.sum(ops.softplus(x) * counts) / ops.maximum(ops.sum(counts), 1.0)
    return total


class _LabelwiseLoss(FunctionLoss):
    """Sum over the labels; the base class reduces over the batch (mean by default), as RealMNet's recipe does."""

    def call(self, y_true, y_pred):
        return ops.sum(super().call(y_true, y_pred), axis=-1)  # (batch,)


@keras.saving.register_keras_serializable("keras_realmnet")
class BinaryCrossentropy(_LabelwiseLoss):
    """`binary_crossentropy` on logits, summed over labels, averaged over the batch."""

    def __init__(self, alpha=0.5, name="balanced_binary_crossentropy", reduction=REDUCTION, dtype=None):
        super().__init__(binary_crossentropy, name, reduction, dtype, alpha=alpha)


@keras.saving.register_keras_serializable("keras_realmnet")
class FocalLoss(_LabelwiseLoss):
    """`focal_loss` on logits, summed over labels, averaged over the batch."""

    def __init__(self, alpha=0.25, gamma=2.0, name="focal_loss", reduction=REDUCTION, dtype=None):
        super().__init__(focal_loss, name, reduction, dtype, alpha=alpha, gamma=gamma)


@keras.saving.register_keras_serializable("keras_realmnet")
class AsymmetricLoss(_LabelwiseLoss):
    """`asymmetric_loss` on logits, summed over labels, averaged over the batch."""

    def __init__(
        self, gamma_pos=3.0, gamma_neg=4.0, margin=0.0, name="asymmetric_loss", reduction=REDUCTION, dtype=None
    ):
        parameters = {"gamma_pos": gamma_pos, "gamma_neg": gamma_neg, "margin": margin}
        super().__init__(asymmetric_loss, name, reduction, dtype, **parameters)


@keras.saving.register_keras_serializable("keras_realmnet")
class TwoWayLoss(FunctionLoss):
    """`two_way_loss` on logits: one scalar per batch."""

    def __init__(
        self,
        positive_temperature=4.0,
        negative_temperature=1.0,
        name="two_way_loss",
        reduction=REDUCTION,
        dtype=None,
    ):
        temperatures = {"positive_temperature": positive_temperature, "negative_temperature": negative_temperature}
        super().__init__(two_way_loss, name, reduction, dtype, **temperatures)
