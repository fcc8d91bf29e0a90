"""What losses share: a look at the truth, the mean over what is known of it, and the focal cross-entropy."""

import keras
import numpy as np
from keras import ops

from keras_realmnet.arguments import LOSSES, check

__all__ = [
    "IGNORED",
    "REDUCTION",
    "ROUNDING",
    "FunctionLoss",
    "focal_crossentropy",
    "known_only",
    "may_agree",
    "mean_over",
    "power",
    "shape_of",
    "values_of",
]

ROUNDING = 1e-3  # by which a mixed label may miss 0–1
IGNORED = 255  # in a mask: a pixel of which nothing is known
REDUCTION = "sum_over_batch_size"  # Keras' name for the mean over the batch


def shape_of(values):
    """The shape of an array or tensor as far as it is known, sides that are not as None; None where nothing is."""
    shape = getattr(values, "shape", None)
    shape = np.shape(values) if shape is None else shape
    return None if getattr(shape, "rank", 0) is None else tuple(shape)  # TensorFlow's rank


def may_agree(a, b):
    """Whether two shapes, as far as they are known, are the same."""
    return None in (a, b) or (len(a) == len(b) and all(x == y or None in (x, y) for x, y in zip(a, b, strict=True)))


def values_of(tensor):
    """float32 NumPy values of what has any and need not be waited for, else None."""
    if getattr(getattr(tensor, "device", None), "type", "cpu") != "cpu":  # PyTorch's
        return None
    try:
        return np.asarray(ops.convert_to_numpy(tensor), "float32")
    except (NotImplementedError, TypeError, ValueError):  # symbolic: TensorFlow's graph, JAX's trace, a Keras tensor
        return None


def known_only(y_true):
    """`y_true`, float32, with 0 where it is NaN, and 1 where it is known, 0 where not."""
    unknown = ops.isnan(y_true)
    return ops.where(unknown, 0.0, y_true), ops.cast(ops.logical_not(unknown), "float32")


def mean_over(values, counts):
    """The mean of `values` where `counts` is 1 rather than 0; 0 where it is 1 nowhere."""
    return ops.sum(values * counts) / ops.maximum(ops.sum(counts), 1.0)


def power(base, exponent):
    """base ** exponent for base in 0–1 with a finite gradient at 0."""
    return ops.power(ops.maximum(base, 1e-12), exponent)


def focal_crossentropy(y_true, logits, alpha, gamma):
    """−[α·y·(1−p)^γ·log p + (1−α)·(1−y)·p^γ·log(1−p)] with p = sigmoid(logits), element by element, float32."""
    positive = alpha * y_true * ops.softplus(-logits)  # −log p
    negative = (1 - alpha) * (1 - y_true) * ops.softplus(logits)  # −log(1 − p)
    if gamma:
        positive = positive * power(ops.sigmoid(-logits), gamma)
        negative = negative * power(ops.sigmoid(logits), gamma)
    return positive + negative


class FunctionLoss(keras.losses.Loss):
    """A function of this package as a Keras loss. Of a scalar, a reduction over the batch leaves nothing to do."""

    def __init__(self, function, name, reduction, dtype, **parameters):
        super().__init__(name=name, reduction=reduction, dtype=dtype)
        check(type(self).__name__, LOSSES[type(self).__name__], parameters)
        self._function = function
        self._parameters = parameters

    def call(self, y_true, y_pred):
        return self._function(y_true, y_pred, **self._parameters)

    def change(self, **parameters):
        """Sets parameters anew; a step that is compiled already keeps the old ones. Raises ValueError as when made."""
        check(type(self).__name__, LOSSES[type(self).__name__], parameters)
        self._parameters = {**self._parameters, **parameters}

    def get_config(self):
        return {**super().get_config(), **self._parameters}
