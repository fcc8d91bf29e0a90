"""Convolutions, their paddings, and dense layers."""

import re
from typing import Any

import keras
from keras import layers

from export.conversion.onnx_writer.writer import Rule, Writer
from keras_realmnet.deploy.settings import expect

__all__ = ["RULES", "dense_gemm", "pads_of"]

# TinyViT's 1 × 1 convolutions between the stages: the maps around them are channels last anyway.
PATCH_MERGING = re.compile(r"stages_\d+_downsample_conv\d+_conv")


def pads_of(size: int, kernel: int, stride: int, dilation: int = 1) -> tuple[int, int]:
    """Positions that padding "same" adds before and after a side of `size` positions, TensorFlow's rule.

    The output has ⌈size / stride⌉ positions; of an odd number the last side gets one more.
    """
    total = max((-(-size // stride) - 1) * stride + (kernel - 1) * dilation + 1 - size, 0)
    return total // 2, total - total // 2


def _padding(w: Writer, layer) -> None:
    """Becomes part of a convolution, or a Pad where another layer asks for the padded map."""
    expect(layer, data_format="channels_last")
    (top, bottom), (left, right) = layer.padding
    w.paddings[layer.output.name] = (layer.input, (top, left, bottom, right))


def _same_pads(layer, kernel_size, dilations=(1, 1)) -> tuple[int, ...]:
    sides = zip(layer.input.shape[1:3], kernel_size, layer.strides, dilations, strict=True)
    (top, bottom), (left, right) = (pads_of(*side) for side in sides)
    return top, left, bottom, right


def _pads(w: Writer, layer) -> tuple[Any, tuple[int, ...]]:
    """The tensor that the convolution works on, and the zeros it adds on each side: (top, left, bottom, right)."""
    if layer.padding == "same":
        return layer.input, _same_pads(layer, layer.kernel_size, layer.dilation_rate)
    if layer.padding != "valid":
        w.refuse(layer, f"padding must be valid or same. Received: {layer.padding}")
    tensor, pads = layer.input, [0, 0, 0, 0]
    while tensor.name in w.paddings:
        tensor, more = w.paddings[tensor.name]
        pads = [a + b for a, b in zip(pads, more, strict=True)]
    return tensor, tuple(pads)


def _expect_plain(layer) -> None:
    """Refuses a layer that does more than multiply and add; the deploy graph has none that does."""
    expect(layer, activation=keras.activations.linear)
    if not isinstance(layer, layers.Dense):
        expect(layer, data_format="channels_last")


def _convolution(w: Writer, layer) -> None:
    _expect_plain(layer)
    if PATCH_MERGING.fullmatch(layer.name) and layer.kernel_size == (1, 1) == layer.strides and layer.groups == 1:
        _dense(w, layer)
        return
    kernel, *bias = layer.get_weights()
    if isinstance(layer, layers.DepthwiseConv2D):  # (height, width, channels, multiplier)
        groups = kernel.shape[2]
        kernel = kernel.reshape(*kernel.shape[:2], -1, 1).transpose(2, 3, 0, 1)
    else:  # (height, width, input channels of a group, output channels)
        groups, kernel = layer.groups, kernel.transpose(3, 2, 0, 1)
    tensor, pads = _pads(w, layer)
    dilations = {"dilations": layer.dilation_rate} if layer.dilation_rate != (1, 1) else {}
    x = w.op(
        layer.name,
        "Conv",
        w.get(tensor, "NCHW"),
        w.constant(f"{layer.name}.kernel", kernel),
        *[w.constant(f"{layer.name}.bias", values) for values in bias],
        kernel_shape=layer.kernel_size,
        strides=layer.strides,
        pads=pads,
        group=groups,
        **dilations,
    )
    w.put(layer.output, x, "NCHW")


def _transposed_convolution(w: Writer, layer) -> None:
    """The gradient of a convolution, which "same" pads as TensorFlow does; what that lacks is added at the end."""
    _expect_plain(layer)
    expect(layer, dilation_rate=(1, 1))
    kernel, *bias = layer.get_weights()  # (height, width, output channels, input channels)
    begin, end, more = [], [], []
    sides = zip(layer.input.shape[1:3], layer.output.shape[1:3], layer.kernel_size, layer.strides, strict=True)
    for size, output, side, stride in sides:
        surplus = (size - 1) * stride + side - output
        begin.append(max(surplus, 0) // 2 if layer.padding == "same" else 0)
        end.append(max(surplus, 0) - begin[-1])
        more.append(max(-surplus, 0))
    x = w.op(
        layer.name,
        "ConvTranspose",
        w.get(layer.input, "NCHW"),
        w.constant(f"{layer.name}.kernel", kernel.transpose(3, 2, 0, 1)),
        *[w.constant(f"{layer.name}.bias", values) for values in bias],
        kernel_shape=layer.kernel_size,
        strides=layer.strides,
        pads=[*begin, *end],
        output_padding=more,
    )
    w.put(layer.output, x, "NCHW")


def dense_gemm(w: Writer, name: str, x: str, layer) -> str:
    """x (rows, dim) → (rows, units); `layer` may be a 1 × 1 convolution."""
    _expect_plain(layer)
    kernel, *bias = layer.get_weights()
    kernel = w.constant(f"{layer.name}.kernel", kernel.reshape(kernel.shape[-2:]))
    return w.op(name, "Gemm", x, kernel, *[w.constant(f"{layer.name}.bias", values) for values in bias])


def _dense(w: Writer, layer) -> None:
    *outer, dim = layer.input.shape
    if len(outer) == 1:
        w.put(layer.output, dense_gemm(w, layer.name, w.get(layer.input), layer))
        return
    x = w.reshape(f"{layer.name}_rows", w.get(layer.input), -1, dim)
    x = dense_gemm(w, f"{layer.name}_gemm", x, layer)
    w.put(layer.output, w.reshape(layer.name, x, -1, *outer[1:], layer.output.shape[-1]))


RULES: dict[type, Rule] = {
    layers.ZeroPadding2D: _padding,
    layers.Conv2D: _convolution,
    layers.DepthwiseConv2D: _convolution,
    layers.Conv2DTranspose: _transposed_convolution,
    layers.Dense: _dense,
}
