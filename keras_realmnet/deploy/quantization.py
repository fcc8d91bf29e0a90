"""Quantization-aware training: layers that compute in training what they will in dynamic int8, with float weights.

The weights stay ordinary floats: export sees nothing of it, and makes the same artifacts.
"""

import re

import keras
from keras import layers, ops

from keras_realmnet.deploy.settings import expect, expect_last_axis
from keras_realmnet.models.tiny_vit import WindowAttention
from keras_realmnet.presets import SCHEMES

__all__ = ["SCHEMES", "fake_quantize", "quantize_activations", "quantize_weights"]

SMALLEST_RANGE = 1e-9


def quantize_weights(kernel):
    """`kernel` (…, units) after rounding to symmetric int8 with one scale per unit, max |w| / 127; gradient 1."""
    axes = tuple(range(len(kernel.shape) - 1))
    scale = ops.maximum(ops.max(ops.abs(kernel), axis=axes, keepdims=True), SMALLEST_RANGE) / 127.0
    return _straight_through(kernel, ops.clip(ops.round(kernel / scale), -127, 127) * scale)


def quantize_activations(x):
    """`x` (…, dim) after rounding to int8 with a scale and a zero point per position; gradient 1.

    256 levels from the smallest to the largest value of the position, 0 being one of them: ONNX's
    DynamicQuantizeLinear, and what XNNPACK does to the input of a dense layer or pointwise convolution.
    """
    low = ops.minimum(ops.min(x, axis=-1, keepdims=True), 0.0)
    high = ops.maximum(ops.max(x, axis=-1, keepdims=True), 0.0)
    scale = ops.maximum(high - low, SMALLEST_RANGE) / 255.0
    zero = ops.clip(ops.round(-low / scale), 0, 255)
    return _straight_through(x, (ops.clip(ops.round(x / scale) + zero, 0, 255) - zero) * scale)


def _straight_through(x, quantized):
    """`quantized`, with the gradient of `x` (Bengio et al., arXiv 1308.3432)."""
    return x - ops.stop_gradient(x) + ops.stop_gradient(quantized)


def fake_quantize(model, scheme: str):
    """Lets the backbone of `model`, a RealMNet, compute as the artifact `scheme` will. Its weights stay what they are.

    The affine part of a LayerNorm counts to the dense layer after it, as in `deploy.graph`; BatchNorm and the scale
    of the attention only scale whole units, which quantization per unit does not feel.

    Args:
        scheme: one of `SCHEMES`.

    Returns:
        `model`.

    Raises:
        ValueError: for another scheme.
        RealMNetError: a layer to be quantized does more than multiply and add; names it.
    """
    if scheme not in SCHEMES:
        raise ValueError(f"scheme must be one of {', '.join(SCHEMES)}. Received: {scheme!r}")
    backbone = model.backbone
    for layer in backbone.layers:
        if isinstance(layer, WindowAttention):
            _quantize_after_norm(layer.norm, layer.qkv)
            _quantize(layer.proj)
        elif layer.name.endswith("_mlp_fc1"):
            _quantize_after_norm(backbone.get_layer(layer.name.removesuffix("_fc1") + "_norm"), layer)
        elif isinstance(layer, layers.Dense) or re.fullmatch(SCHEMES[scheme], layer.name):
            _quantize(layer)
    return model


# `call` is replaced on the layer itself: class, name and weights stay, and with them checkpoints and export.
def _quantize(layer):
    """A Dense, or a 1×1 Conv2D, which is a dense layer at every position."""
    expect(layer, activation=keras.activations.linear)
    if isinstance(layer, layers.Conv2D):
        expect(layer, kernel_size=(1, 1), strides=(1, 1), groups=1, data_format="channels_last")

    def call(inputs, training=None):
        kernel = ops.reshape(layer.kernel, layer.kernel.shape[-2:])
        outputs = _int8_matmul(inputs, kernel, layer.compute_dtype)
        return outputs + ops.cast(layer.bias, layer.compute_dtype) if layer.use_bias else outputs

    layer.call = call


def _quantize_after_norm(norm, dense):
    expect_last_axis(norm)
    expect(norm, center=True, scale=True, rms_scaling=False)
    expect(dense, activation=keras.activations.linear, use_bias=True)

    def normalize(inputs, training=None):
        x = ops.cast(inputs, "float32")
        x = x - ops.mean(x, axis=-1, keepdims=True)
        x = x * ops.rsqrt(ops.mean(ops.square(x), axis=-1, keepdims=True) + norm.epsilon)
        return ops.cast(x, norm.compute_dtype)

    def call(inputs, training=None):
        kernel = ops.convert_to_tensor(dense.kernel)
        bias = ops.matmul(ops.convert_to_tensor(norm.beta), kernel) + dense.bias
        outputs = _int8_matmul(inputs, ops.expand_dims(norm.gamma, -1) * kernel, dense.compute_dtype)
        return outputs + ops.cast(bias, dense.compute_dtype)

    norm.call, dense.call = normalize, call


def _int8_matmul(x, kernel, dtype):
    """x · kernel, both rounded in float32 however the layer computes."""
    x, kernel = quantize_activations(ops.cast(x, "float32")), quantize_weights(ops.cast(kernel, "float32"))
    return ops.matmul(ops.cast(x, dtype), ops.cast(kernel, dtype))
