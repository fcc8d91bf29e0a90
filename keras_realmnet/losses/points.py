"""The loss of points: how far each lies from its place, and whether it is there at all."""

import keras
import numpy as np
from keras import ops

from keras_realmnet.arguments import LOSSES, check
from keras_realmnet.losses.targets import REDUCTION, FunctionLoss, known_only, may_agree, mean_over, shape_of, values_of

__all__ = ["EuclideanDistance", "euclidean_distance"]

_SMALLEST = 1e-12  # under the square root, whose slope is infinite at 0; a distance is at least 1e-6
_SMALLEST_PROBABILITY = 1e-7


def euclidean_distance(y_true, points, confidence_weight=0.1):
    """The mean distance of the points that are visible, in fractions of the square's side.

    A network that gives a confidence c besides x and y pays `confidence_weight` times the mean of
    −[visible·log c + (1 − visible)·log(1 − c)] over the points of which it is known whether they are visible. The
    weight is ours: a distance is a tenth or a hundredth, a cross-entropy is near 1. A point that lies at (.5, .5) and
    is placed at (.8, .9) costs .5.

    Args:
        y_true: (batch, points, 3): x, y, and visible: 1, 0, or NaN for not known. x and y count where visible is 1.
        points: (batch, points, 2) or, with a confidence from 0 to 1, (batch, points, 3).
        confidence_weight: not negative.

    Returns:
        A float32 scalar.

    Raises:
        ValueError: other shapes, a visible that is neither 0 nor 1 nor NaN, or no place for a visible point.

    Source of the mean distance: Xie et al., PALM (SPIE 2019).
    """
    check("EuclideanDistance", LOSSES["EuclideanDistance"], {"confidence_weight": confidence_weight})
    shapes = shape_of(y_true), shape_of(points)
    if None not in shapes and not (
        len(shapes[0]) == len(shapes[1]) == 3
        and shapes[0][2] == 3
        and shapes[1][2] in (2, 3)
        and may_agree(shapes[0][:2], shapes[1][:2])
    ):
        raise ValueError(
            "EuclideanDistance needs targets (batch, points, 3) for points (batch, points, 2 or 3). "
            f"Received: {shapes[0]} for {shapes[1]}"
        )
    values = values_of(y_true)
    if values is not None:
        seen = values[values[..., 2] == 1]
        if not (np.isnan(values[..., 2]) | np.isin(values[..., 2], (0, 1))).all() or np.isnan(seen).any():
            raise ValueError(
                "EuclideanDistance needs a visible of 0, 1 or NaN, and x and y where it is 1. "
                f"Received: {np.unique(values[..., 2])} and {int(np.isnan(seen[..., :2]).any(axis=-1).sum())} "
                "visible points without a place"
            )
    points = ops.cast(points, "float32")
    places, (visible, known) = ops.cast(y_true, "float32"), known_only(ops.cast(y_true, "float32")[..., 2])
    seen = ops.cast(visible == 1, "float32")
    away = ops.where(seen[..., None] == 1, places[..., :2], 0.0) - points[..., :2]
    loss = mean_over(ops.sqrt(ops.sum(ops.square(away), axis=-1) + _SMALLEST), seen)
    if points.shape[-1] == 2:
        return loss
    c = points[..., 2]
    right = ops.where(seen == 1, c, 1 - c)  # the probability of what is so
    return loss + confidence_weight * mean_over(-ops.log(ops.maximum(right, _SMALLEST_PROBABILITY)), known)


@keras.saving.register_keras_serializable("keras_realmnet")
class EuclideanDistance(FunctionLoss):
    """`euclidean_distance` on points as the network gives them."""

    def __init__(self, confidence_weight=0.1, name="euclidean_distance", reduction=REDUCTION, dtype=None):
        super().__init__(euclidean_distance, name, reduction, dtype, confidence_weight=confidence_weight)
