"""Activations, layers with several inputs, normalizations, and changes of shape alone."""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import layers

from export.conversion.onnx_writer.writer import Rule, Writer
from keras_realmnet.deploy.layers import ScaleShift, erf_gelu
from keras_realmnet.deploy.settings import expect, expect_last_axis

__all__ = ["RULES", "layer_norm_op"]


def _input(w: Writer, layer) -> None:
    w.put(layer.output, layer.output.name)


# ---- activations: (writer, name of the node, name of its input, axis of the channels) → name of the output


def _one(op_type: str, **attributes: Any) -> Callable[..., str]:
    return lambda w, name, x, axis: w.op(name, op_type, x, **attributes)


def _clip(highest: float) -> Callable[..., str]:
    return lambda w, name, x, axis: w.op(
        name, "Clip", x, w.constant(f"{name}.lowest", 0), w.constant(f"{name}.highest", highest)
    )


def _silu(w: Writer, name: str, x: str, axis: int) -> str:
    return w.op(name, "Mul", x, w.op(f"{name}_sigmoid", "Sigmoid", x))


ACTIVATIONS: dict[Callable, Callable[..., str]] = {
    erf_gelu: _one("Gelu"),
    keras.activations.relu: _one("Relu"),
    keras.activations.relu6: _clip(6.0),
    keras.activations.leaky_relu: _one("LeakyRelu", alpha=0.2),  # Keras' own slope
    keras.activations.sigmoid: _one("Sigmoid"),
    keras.activations.hard_sigmoid: _one("HardSigmoid", alpha=1 / 6, beta=0.5),
    keras.activations.silu: _silu,
    keras.activations.hard_silu: _one("HardSwish"),
    keras.activations.tanh: _one("Tanh"),
    keras.activations.softmax: lambda w, name, x, axis: w.op(name, "Softmax", x, axis=axis),
}


def _elementwise(w: Writer, layer, write: Callable[..., str], axis: int = -1) -> None:
    layout = w.layout(layer.input)
    axis = w.axis(layer.input, axis, layout) if layout == "NCHW" else axis
    w.put(layer.output, write(w, layer.name, w.get(layer.input, layout), axis), layout)


def _activation(w: Writer, layer) -> None:
    write = ACTIVATIONS.get(layer.activation)
    if write is None:
        known = ", ".join(function.__name__ for function in ACTIVATIONS)
        received = getattr(layer.activation, "__name__", layer.activation)
        w.refuse(layer, f"activation {received} is not one of {known}")
    else:
        _elementwise(w, layer, write)


def _relu(w: Writer, layer) -> None:
    expect(layer, threshold=0.0)
    if layer.negative_slope and layer.max_value is not None:
        w.refuse(layer, f"a negative_slope, {layer.negative_slope}, together with a max_value, {layer.max_value}")
    if layer.negative_slope:
        _elementwise(w, layer, _one("LeakyRelu", alpha=float(layer.negative_slope)))
    else:
        _elementwise(w, layer, _one("Relu") if layer.max_value is None else _clip(float(layer.max_value)))


def _leaky_relu(w: Writer, layer) -> None:
    _elementwise(w, layer, _one("LeakyRelu", alpha=float(layer.negative_slope)))


def _softmax(w: Writer, layer) -> None:
    if not isinstance(layer.axis, int):
        w.refuse(layer, f"one axis expected. Received: {layer.axis}")
    _elementwise(w, layer, ACTIVATIONS[keras.activations.softmax], layer.axis)


# ---- several inputs


def _inputs(w: Writer, layer):
    """Names of what the layer works on, and the layout it works in: that of the last of its largest inputs."""
    tensors = layer.input
    if len({len(tensor.shape) for tensor in tensors}) > 1:
        w.refuse(layer, f"inputs of one rank expected. Received: {[tensor.shape for tensor in tensors]}")
    largest = max(reversed(tensors), key=lambda tensor: np.prod(tensor.shape[1:]))
    layout = w.layout(largest)
    return [w.get(tensor, layout) for tensor in tensors], layout


def _merging(op_type: str, several: str | None = None) -> Callable[[Writer, Any], None]:
    """The operation of two inputs, and that of more; one after the other where there is none."""

    def write(w: Writer, layer) -> None:
        (x, *others), layout = _inputs(w, layer)
        if len(others) == 1:
            x = w.op(layer.name, op_type, x, *others)
        elif several is not None:
            x = w.op(layer.name, several, x, *others)
        else:
            *others, last = others
            for number, other in enumerate(others):
                x = w.op(f"{layer.name}_{number}", op_type, x, other)
            x = w.op(layer.name, op_type, x, last)
        w.put(layer.output, x, layout)

    return write


def _average(w: Writer, layer) -> None:
    inputs, layout = _inputs(w, layer)
    total = w.op(f"{layer.name}_sum", "Sum", *inputs)
    w.put(layer.output, w.op(layer.name, "Mul", total, w.constant(f"{layer.name}.share", 1 / len(inputs))), layout)


def _concatenation(w: Writer, layer) -> None:
    inputs, layout = _inputs(w, layer)
    axis = w.axis(layer.output, layer.axis, layout)
    w.put(layer.output, w.op(layer.name, "Concat", *inputs, axis=axis), layout)


# ---- normalizations


def _scale_shift(w: Writer, layer) -> None:
    layout = w.layout(layer.input)
    by_channel = (-1, 1, 1) if layout == "NCHW" else (-1,)
    scale, shift = (values.reshape(by_channel) for values in layer.get_weights())
    x = w.get(layer.input, layout)
    x = w.op(f"{layer.name}_scaled", "Mul", x, w.constant(f"{layer.name}.scale_{layout.lower()}", scale))
    x = w.op(layer.name, "Add", x, w.constant(f"{layer.name}.shift_{layout.lower()}", shift))
    w.put(layer.output, x, layout)


def layer_norm_op(w: Writer, name: str, x: str, layer) -> str:
    expect(layer, rms_scaling=False)
    dim = layer.get_build_config()["input_shape"][-1]
    weights = iter(layer.get_weights())
    scale = next(weights) if layer.scale else None
    ones = f"ones_{dim}" if w.current == w.precision else f"ones_{dim}_{w.current}"
    gamma = w.constant(ones, np.ones(dim)) if scale is None else w.constant(f"{name}.scale", scale)
    beta = [w.constant(f"{name}.bias", next(weights))] if layer.center else []
    return w.op(name, "LayerNormalization", x, gamma, *beta, axis=-1, epsilon=layer.epsilon)


def _layer_norm(w: Writer, layer) -> None:
    expect_last_axis(layer)
    w.put(layer.output, layer_norm_op(w, layer.name, w.get(layer.input), layer))


# ---- shapes


def _reshape(w: Writer, layer) -> None:
    shape = layer.output.shape[1:]
    if len(shape) == 3 and shape[:2] == (1, 1):  # of one position the layouts differ in their axes alone
        channels = shape[-1]
        w.put(layer.output, w.reshape(layer.name, w.get(layer.input), -1, channels, 1, 1), "NCHW")
    else:
        w.put(layer.output, w.reshape(layer.name, w.get(layer.input), -1, *shape))


RULES: dict[type, Rule] = {
    layers.InputLayer: _input,
    layers.Activation: _activation,
    layers.ReLU: _relu,
    layers.LeakyReLU: _leaky_relu,
    layers.Softmax: _softmax,
    layers.Add: _merging("Add", "Sum"),
    layers.Subtract: _merging("Sub"),
    layers.Multiply: _merging("Mul"),
    layers.Maximum: _merging("Max", "Max"),
    layers.Minimum: _merging("Min", "Min"),
    layers.Average: _average,
    layers.Concatenate: _concatenation,
    ScaleShift: _scale_shift,
    layers.LayerNormalization: _layer_norm,
    layers.Reshape: _reshape,
    layers.Flatten: _reshape,
}
