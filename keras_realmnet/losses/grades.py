"""The loss of grades, of which exactly one holds."""

import keras
import numpy as np
from keras import ops

from keras_realmnet.losses.targets import (
    REDUCTION,
    ROUNDING,
    FunctionLoss,
    known_only,
    may_agree,
    mean_over,
    shape_of,
    values_of,
)

__all__ = ["SoftmaxCrossentropy", "softmax_crossentropy"]


def softmax_crossentropy(y_true, logits):
    """−Σ y·log softmax(logits), averaged over the images whose grade is known.

    For 3 grades and equal logits: log 3 = 1.0986.

    Args:
        y_true: (batch, grades), one-hot, or shares that add up to 1; a row with a NaN is unknown.
        logits: (batch, grades).

    Returns:
        A float32 scalar; 0 where no grade is known.

    Raises:
        ValueError: targets of another shape, below 0, or that do not add up to 1.
    """
    shapes = shape_of(y_true), shape_of(logits)
    if not may_agree(*shapes):
        raise ValueError(
            f"SoftmaxCrossentropy needs targets of the shape of the logits, {shapes[1]}. Received: {shapes[0]}"
        )
    values = values_of(y_true)
    if values is not None:
        values = values[~np.isnan(values).any(axis=-1)]
        if (values < -ROUNDING).any() or (abs(values.sum(axis=-1) - 1) > ROUNDING).any():
            raise ValueError(
                "SoftmaxCrossentropy needs targets that are not negative and add up to 1 in each row. "
                f"Received sums from {values.sum(axis=-1).min()} to {values.sum(axis=-1).max()}, "
                f"the smallest value {values.min()}"
            )
    y_true, known = known_only(ops.cast(y_true, "float32"))
    log_p = ops.log_softmax(ops.cast(logits, "float32"), axis=-1)
    return mean_over(-ops.sum(y_true * log_p, axis=-1), ops.min(known, axis=-1))


@keras.saving.register_keras_serializable("keras_realmnet")
class SoftmaxCrossentropy(FunctionLoss):
    """`softmax_crossentropy` on logits."""

    def __init__(self, name="softmax_crossentropy", reduction=REDUCTION, dtype=None):
        super().__init__(softmax_crossentropy, name, reduction, dtype)
