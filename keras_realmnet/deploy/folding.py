"""Steps that only multiply and add become part of the convolutions and dense layers beside them.

Found by who reads what, never by a name: a step may vanish only into one that alone reads it, or that it alone reads.
"""

import keras
import numpy as np
from keras import layers

from keras_realmnet.deploy.arithmetic import (
    batch_norm_as_scale_shift,
    fold_layer_norm,
    fold_scale_shift_after,
    fold_scale_shift_before,
)
from keras_realmnet.deploy.layers import ScaleShift
from keras_realmnet.deploy.settings import refuse
from keras_realmnet.deploy.steps import CONVOLUTIONS, Step, Steps

__all__ = ["fold"]


def fold(network: Steps) -> None:
    """Folds, in this order and changing `network`, what can be folded exactly.

    BatchNormalization, Normalization and Rescaling are one thing, x·scale + shift. Two on top of each other are one.
    One after a convolution or dense layer becomes part of that, one before it as well where no padding lies between
    what is shifted and the kernel; any other stays, as a `ScaleShift`. The affine part of a LayerNorm becomes part of
    the dense layer after it.
    """
    for step in network.steps:
        if step.kind in (layers.BatchNormalization, layers.Normalization, layers.Rescaling):
            _as_scale_shift(step)
    for step in list(network.steps):
        if step.kind is ScaleShift:
            _fold_backwards(network, step)
    for step in list(network.steps):
        if step.kind is ScaleShift:
            _fold_forwards(network, step)
    for step in list(network.steps):
        if step.kind is layers.LayerNormalization:
            _fold_affine_part(network, step)


def _as_scale_shift(step: Step) -> None:
    layer, channels = step.layer, step.shape[-1]
    if step.kind is layers.BatchNormalization:
        weights = iter(step.weights)
        gamma = next(weights) if layer.scale else np.ones(channels)
        beta = next(weights) if layer.center else np.zeros(channels)
        mean, variance = weights
        scale, shift = batch_norm_as_scale_shift(gamma, beta, mean, variance, layer.epsilon)
    elif step.kind is layers.Normalization:
        mean, variance = (
            np.asarray(keras.ops.convert_to_numpy(value), "float64").reshape(-1)
            for value in (layer.mean, layer.variance)
        )
        scale = 1 / np.maximum(np.sqrt(variance), keras.config.epsilon())
        shift = -mean * scale
    else:
        scale, shift = (np.asarray(value, "float64") for value in (layer.scale, layer.offset))
        if any(value.size not in (1, channels) or value.ndim > 1 for value in (scale, shift)):
            refuse(layer, f"scale and offset must be one number or {channels}. Received: {layer.scale}, {layer.offset}")
    step.weights = [np.broadcast_to(value.ravel(), channels) for value in (scale, shift)]
    step.layer = ScaleShift(name=layer.name)


def _fold_backwards(network: Steps, step: Step) -> None:
    """Into what `step` alone reads: another ScaleShift, a convolution or a dense layer."""
    (before,) = step.inputs
    if network.only_reader(before) is not step:
        return
    scale, shift = step.weights
    if before.kind is ScaleShift:
        before.weights = [before.weights[0] * scale, before.weights[1] * scale + shift]
    elif before.kind in (*CONVOLUTIONS, layers.Dense):
        kernel, bias = _kernel_and_bias(before)
        if before.kind is layers.Conv2DTranspose:  # (…, output channels, input channels)
            kernel, bias = fold_scale_shift_after(kernel.swapaxes(-1, -2), bias, scale, shift)
            kernel = kernel.swapaxes(-1, -2)
        else:
            kernel, bias = fold_scale_shift_after(kernel, bias, scale, shift)
        _set(before, kernel, bias)
    else:
        return
    network.remove(step)


def _fold_forwards(network: Steps, step: Step) -> None:
    """Into the convolution or dense layer that alone reads `step`, if that is exact."""
    scale, shift = (value.astype("float32") for value in step.weights)
    reader, padded = network.only_reader(step), False
    while reader is not None and reader.kind is layers.ZeroPadding2D:
        reader, padded = network.only_reader(reader), True
    if reader is None or reader.kind not in (layers.Conv2D, layers.DepthwiseConv2D, layers.Dense):
        return
    padded = padded or getattr(reader.layer, "padding", "valid") != "valid"
    if (padded and shift.any()) or getattr(reader.layer, "groups", 1) != 1:
        return
    kernel, bias = _kernel_and_bias(reader)
    if reader.kind is layers.DepthwiseConv2D:  # (height, width, channels, multiplier): each output has one input
        multiplier = kernel.shape[-1]
        scale, shift = (np.repeat(value, multiplier).reshape(-1, multiplier) for value in (scale, shift))
        kernel, bias = kernel * scale, bias + (kernel.astype("float64") * shift).sum(axis=(0, 1)).ravel()
    else:
        kernel, bias = fold_scale_shift_before(kernel, bias, scale, shift)
    _set(reader, kernel, bias)
    network.remove(step)


def _fold_affine_part(network: Steps, norm: Step) -> None:
    dense, layer = network.only_reader(norm), norm.layer
    if not (layer.center or layer.scale):
        return
    if dense is None or dense.kind is not layers.Dense:
        return
    weights, dim = iter(norm.weights), norm.shape[-1]
    gamma = next(weights) if layer.scale else np.ones(dim)
    beta = next(weights) if layer.center else np.zeros(dim)
    _set(dense, *fold_layer_norm((gamma, beta), *_kernel_and_bias(dense)))
    norm.weights, norm.changes = [], {"center": False, "scale": False}


def _kernel_and_bias(step: Step) -> tuple[np.ndarray, np.ndarray]:
    """Of a convolution or dense layer, the bias zeros where it has none."""
    kernel, *bias = step.weights
    channels = kernel.shape[-2] * kernel.shape[-1] if step.kind is layers.DepthwiseConv2D else step.shape[-1]
    return kernel, bias[0] if bias else np.zeros(channels, "float32")


def _set(step: Step, kernel: np.ndarray, bias: np.ndarray) -> None:
    step.weights = [np.asarray(value, "float32") for value in (kernel, bias)]
    step.changes["use_bias"] = True
