"""Losses of points: how far each lies from its place, or in which cell, and whether it is there at all."""

import keras
import numpy as np
from keras import ops

from keras_realmnet.arguments import LOSSES, check
from keras_realmnet.losses.targets import REDUCTION, FunctionLoss, known_only, may_agree, mean_over, shape_of, values_of

__all__ = ["ConfidenceOffsets", "EuclideanDistance", "confidence_offsets", "euclidean_distance"]

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
    _check_truth("EuclideanDistance", y_true)
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


def confidence_offsets(y_true, maps, offset_weight=1.0):
    """Of maps of cells: the cross-entropy of which cell has the point, plus the error of where in that cell it lies.

    A picture of h × w cells has a point at x, y in the cell of column ⌊x·w⌋ and row ⌊y·h⌋, at the offsets x·w and y·h
    beyond these. −[positive·log c + (1 − positive)·log(1 − c)], c = sigmoid(confidence), is summed over the cells and
    averaged over the points of which it is known whether they are visible; no cell is positive of one that is not.
    |sigmoid(offset) − truth| of x and y in the positive cell are added and averaged over the points that are visible. A
    point at (.875, .625) in 2 × 2 cells whose logits are all 0: 4 · log 2 + (.25 + .25) = 3.2726.

    What is decoded of the maps stands beside them in a network (`models.layers.offset_maps`) and is handed the same
    loss: of points it is their mean distance, a figure without a gradient.

    Args:
        y_true: as for `euclidean_distance`.
        maps: logits (batch, h, w, 3 · points): confidences, offsets x, offsets y; or points (batch, points, 2 or 3).
        offset_weight: of the offsets, not negative.

    Returns:
        A float32 scalar.

    Raises:
        ValueError: other shapes, a visible that is neither 0 nor 1 nor NaN, or no place for a visible point.

    Source: Son, MICCAI 2020 (REFUGE2 technical report), has the maps; both losses and their sums are ours.
    """
    check("ConfidenceOffsets", LOSSES["ConfidenceOffsets"], {"offset_weight": offset_weight})
    shapes = shape_of(y_true), shape_of(maps)
    if shapes[1] is not None and len(shapes[1]) == 3:
        return euclidean_distance(y_true, maps[..., :2])
    fits = shapes[1] is not None and len(shapes[1]) == 4 and None not in shapes[1][1:] and shapes[1][3] % 3 == 0
    if not fits or not may_agree(shapes[0], (shapes[1][0], shapes[1][3] // 3, 3)):
        raise ValueError(
            "ConfidenceOffsets needs targets (batch, points, 3) for maps (batch, h, w, 3 · points) of known size. "
            f"Received: {shapes[0]} for {shapes[1]}"
        )
    _check_truth("ConfidenceOffsets", y_true)
    _, height, width, channels = shapes[1]
    points = channels // 3
    y_true, maps = ops.cast(y_true, "float32"), ops.cast(maps, "float32")
    visible, known = known_only(y_true[..., 2])
    seen = ops.cast(visible == 1, "float32")  # (batch, points)
    positive, offsets = seen[:, None, None], []
    for axis, (side, shape) in enumerate(((width, (1, 1, -1, 1)), (height, (1, -1, 1, 1)))):
        place = side * ops.where(seen == 1, y_true[..., axis], 0.0)
        cell = ops.clip(ops.floor(place), 0, side - 1)
        number = ops.convert_to_tensor(np.arange(side, dtype="float32").reshape(shape))
        positive = positive * ops.cast(ops.equal(number, cell[:, None, None]), "float32")  # (batch, h, w, points)
        offsets.append((place - cell)[:, None, None])
    level = maps[..., :points]
    entropy = ops.sum(ops.softplus(level) - positive * level, axis=(1, 2))
    x, y = (ops.sigmoid(maps[..., k * points : (k + 1) * points]) for k in (1, 2))
    apart = ops.sum(positive * (ops.abs(x - offsets[0]) + ops.abs(y - offsets[1])), axis=(1, 2))
    return mean_over(entropy, known) + offset_weight * mean_over(apart, seen)


def _check_truth(loss, y_true):
    """Raises ValueError for points, (batch, points, 3), that no truth has, where values can be looked at."""
    values = values_of(y_true)
    if values is None:
        return
    seen = values[values[..., 2] == 1]
    if not (np.isnan(values[..., 2]) | np.isin(values[..., 2], (0, 1))).all() or np.isnan(seen).any():
        raise ValueError(
            f"{loss} needs a visible of 0, 1 or NaN, and x and y where it is 1. "
            f"Received: {np.unique(values[..., 2])} and {int(np.isnan(seen[..., :2]).any(axis=-1).sum())} "
            "visible points without a place"
        )


@keras.saving.register_keras_serializable("keras_realmnet")
class EuclideanDistance(FunctionLoss):
    """`euclidean_distance` on points as the network gives them."""

    def __init__(self, confidence_weight=0.1, name="euclidean_distance", reduction=REDUCTION, dtype=None):
        super().__init__(euclidean_distance, name, reduction, dtype, confidence_weight=confidence_weight)


@keras.saving.register_keras_serializable("keras_realmnet")
class ConfidenceOffsets(FunctionLoss):
    """`confidence_offsets` on maps of logits."""

    def __init__(self, offset_weight=1.0, name="confidence_offsets", reduction=REDUCTION, dtype=None):
        super().__init__(confidence_offsets, name, reduction, dtype, offset_weight=offset_weight)
