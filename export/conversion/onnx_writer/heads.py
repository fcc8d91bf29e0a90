"""Heads and their class maps, as in `models.layers.heads`; what depends on the weights alone is computed here."""

import keras
import numpy as np
from onnx import helper

from export.conversion.onnx_writer.writer import PRECISIONS, Rule, Writer
from keras_realmnet.deploy.settings import expect
from keras_realmnet.models.edge import SoftArgmax
from keras_realmnet.models.layers.heads import MAX_POOLING, ClassMaps, LinearHead, ResidualAttentionHead, shift_matrix
from keras_realmnet.models.layers.offset_maps import OffsetPeaks

__all__ = ["RULES"]


def _positions(w: Writer, head, tensor) -> str:
    _, height, width, dim = tensor.shape
    return w.reshape(f"{head.name}_positions", w.get(tensor), -1, height * width, dim)


def _prefix(head) -> str:
    """Of names that the only head of a network, "head", is not named in."""
    return "" if head.name == "head" else f"{head.name}."


def _residual_attention(w: Writer, head) -> None:
    kernel = _unit_kernel(head)
    axis, x = w.integers("axis_1", 1), _positions(w, head, head.input)
    logits = []
    for k, temperature in enumerate(head.temperatures):
        name = f"{head.name}_{k}"
        scores = w.op(f"{name}_scores", "MatMul", x, w.constant(f"{name}.kernel", kernel[k]))
        if temperature == MAX_POOLING:
            attention = w.op(f"{name}_attention", "ReduceMax", scores, axis, keepdims=1)
        else:
            hot = w.op(f"{name}_hot", "Mul", scores, w.constant(f"{name}.temperature", temperature))
            weights = w.op(f"{name}_weights", "Softmax", hot, axis=1)
            attention = w.op(f"{name}_weighted", "Mul", scores, weights)
            attention = w.op(f"{name}_attention", "ReduceSum", attention, axis, keepdims=1)
        logits += [w.op(f"{name}_mean", "ReduceMean", scores, axis, keepdims=1)]
        logits += [w.op(f"{name}_residual", "Mul", attention, w.constant(f"{_prefix(head)}lambda", head.lam))]
    total = w.op(f"{_prefix(head)}logits_sum", "Sum", *logits)
    w.put(head.output, w.reshape(f"{_prefix(head)}logits", total, -1, head.num_classes))


def _unit_kernel(head):
    kernel = np.asarray(keras.ops.convert_to_numpy(head.kernel), "float64")
    return kernel / np.sqrt((kernel**2).sum(axis=1, keepdims=True))


def _mean(w: Writer, name: str, x: str, axis: str) -> str:
    return w.op(name, "ReduceMean", x, axis, keepdims=1)


def _normalized(w: Writer, head) -> tuple[str, str]:
    """The pooled and normalized features, (batch, 1, features), and their deviation before, (batch, 1, 1)."""
    across = w.integers("axis_last", -1)
    pooled = _mean(w, f"{head.name}_pooled", _positions(w, head, head.input), w.integers("axis_1", 1))
    centred = w.op(f"{head.name}_centred", "Sub", pooled, _mean(w, f"{head.name}_mean", pooled, across))
    variance = _mean(w, f"{head.name}_variance", w.op(f"{head.name}_squares", "Mul", centred, centred), across)
    variance = w.op(f"{head.name}_variance_eps", "Add", variance, w.constant(f"{head.name}.epsilon", head.EPSILON))
    deviation = w.op(f"{head.name}_deviation", "Sqrt", variance)
    return w.op(f"{head.name}_normalized", "Div", centred, deviation), deviation


def _linear(w: Writer, head) -> None:
    gamma, beta, kernel, bias = (np.asarray(value, "float64") for value in head.get_weights())
    x, _ = _normalized(w, head)
    logits = w.op(f"{head.name}_products", "MatMul", x, w.constant(f"{head.name}.kernel", gamma[:, None] * kernel))
    logits = w.op(f"{head.name}_logits", "Add", logits, w.constant(f"{head.name}.bias", beta @ kernel + bias))
    w.put(head.output, w.reshape(f"{_prefix(head)}logits", logits, -1, head.num_classes))


def _linear_gradients(w: Writer, head, maps: str) -> str:
    """Of the logits by the features, the same at every position: (batch, classes, features)."""
    gamma, _, kernel, _ = (np.asarray(value, "float64") for value in head.get_weights())
    x, deviation = _normalized(w, head)
    slope = (gamma[:, None] * kernel).T  # (classes, features)
    centred_slope = w.constant(f"{head.name}.slope", slope - slope.mean(axis=1, keepdims=True))
    along = w.op(f"{maps}_along", "Mul", x, w.constant(f"{head.name}.full_slope", slope))
    share = _mean(w, f"{maps}_share", along, w.integers("axis_last", -1))
    gradients = w.op(f"{maps}_lost", "Sub", centred_slope, w.op(f"{maps}_parallel", "Mul", x, share))
    positions = w.constant(f"{head.name}.positions", np.prod(head.input.shape[1:3]))
    return w.op(f"{maps}_gradients", "Div", gradients, w.op(f"{maps}_scale", "Mul", deviation, positions))


def _class_maps(w: Writer, layer) -> None:
    """Grad-CAM: the features by the mean gradient of each logit."""
    expect(layer, explanation="grad_cam")
    _, height, width, _ = layer.input.shape
    name = "maps" if layer.name == "class_maps" else layer.name
    if isinstance(layer.head, LinearHead):
        weights = w.transpose(f"{name}_by_feature", _linear_gradients(w, layer.head, name), 0, 2, 1)
    else:
        mean_slope = (1 + layer.head.lam) / (height * width)
        weights = w.constant(f"{name}.kernel", _unit_kernel(layer.head).sum(axis=0) * mean_slope)
    products = w.op(f"{name}_products", "MatMul", _positions(w, layer.head, layer.input), weights)
    maps = w.op(f"{name}_positive", "Relu", products)
    if any(layer.offset):
        moved = w.constant(f"{name}.moved_back", shift_matrix(height, width, layer.offset).T)
        maps = w.op(f"{name}_moved", "MatMul", moved, maps)
    w.put(layer.output, w.reshape(layer.name, maps, -1, height, width, layer.head.num_classes))


def _soft_argmax(w: Writer, layer) -> None:
    _, height, width, points = layer.input.shape
    positions = w.reshape(f"{layer.name}_positions", w.get(layer.input), -1, height * width, points)
    by_point = w.transpose(f"{layer.name}_by_point", positions, 0, 2, 1)
    shares = w.op(f"{layer.name}_shares", "Softmax", by_point, axis=-1)
    shares = w.reshape(f"{layer.name}_column", shares, -1, points, height * width, 1)
    weighted = w.op(
        f"{layer.name}_weighted", "Mul", shares, w.constant(f"{layer.name}.places", layer.places(height, width))
    )
    w.put(layer.output, w.op(layer.name, "ReduceSum", weighted, w.integers("axis_2", 2), keepdims=0))


def _offset_peaks(w: Writer, layer) -> None:
    _, height, width, channels = layer.input.shape
    points, cells, name = channels // 3, height * width, layer.name
    flat = w.reshape(f"{name}_cells", w.get(layer.input), -1, cells, channels)
    level, *offsets = (
        w.op(
            f"{name}_{part}",
            "Slice",
            flat,
            w.integers(f"{name}.{part}_from", k * points),
            w.integers(f"{name}.{part}_to", (k + 1) * points),
            w.integers("axis_2", 2),
        )
        for k, part in enumerate(("levels", "x_logits", "y_logits"))
    )
    axis, to = w.integers("axis_1", 1), helper.np_dtype_to_tensor_dtype(np.dtype(PRECISIONS[w.current]))

    def where_highest(part: str, values: str) -> str:
        highest = w.op(f"{name}_{part}_highest", "ReduceMax", values, axis, keepdims=1)
        return w.op(f"{name}_{part}_at", "Cast", w.op(f"{name}_{part}_is", "Equal", values, highest), to=to)

    order = w.op(f"{name}_order", "Mul", where_highest("level", level), w.constant(f"{name}.order", layer.order(cells)))
    at = where_highest("order", order)
    corners, found = layer.corners(height, width), []
    for k, (part, side) in enumerate((("x", width), ("y", height))):
        share = w.op(f"{name}_{part}_share", "Sigmoid", offsets[k])
        share = w.op(f"{name}_{part}_of_cell", "Add", share, w.constant(f"{name}.{part}_cells", corners[:, [k]]))
        share = w.op(f"{name}_{part}_at", "Mul", at, share)
        share = w.op(f"{name}_{part}_cell", "ReduceSum", share, axis, keepdims=0)  # (batch, points)
        share = w.op(f"{name}_{part}", "Mul", share, w.constant(f"{name}.{part}_scale", 1 / side))
        found.append(w.reshape(f"{name}_{part}_column", share, -1, points, 1))
    if layer.confidence:
        sure = w.op(f"{name}_confidence", "Sigmoid", f"{name}_level_highest")
        found.append(w.reshape(f"{name}_sure", sure, -1, points, 1))
    w.put(layer.output, w.op(name, "Concat", *found, axis=2))


RULES: dict[type, Rule] = {
    ResidualAttentionHead: _residual_attention,
    LinearHead: _linear,
    ClassMaps: _class_maps,
    SoftArgmax: _soft_argmax,
    OffsetPeaks: _offset_peaks,
}
