"""From the float32 LiteRT model to smaller and faster ones: float16 weights, or int8 in the layers that stand it.

Dynamic int8: weights int8 per output channel; each position's activations are quantized as they come, and the result
is float again. Static int8: the activations' ranges come from calibration images, and the result is int8, too. All
models run in XNNPACK as a whole: what its int8 kernels do not have (GELU, softmax, LayerNorm) stays float.
"""

import contextlib
import io
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from export.calibration import activation_ranges

__all__ = [
    "LAYER_GROUPS",
    "LITERT_ARTIFACTS",
    "quantize_groups",
    "to_litert_float16",
    "to_litert_int8",
    "to_litert_int8_mixed",
    "to_litert_int8_pointwise",
    "to_litert_int8_static",
]

# What is quantized together: a pattern of the operations' output names, and the operation.
LAYER_GROUPS = {
    "stem convolutions": ("patch_embed_conv", "CONV_2D"),
    "stage 0 pointwise": ("stages_0_blocks_._conv[13]_conv", "CONV_2D"),
    "stage 0 depthwise": ("stages_0_blocks_._conv2_conv", "DEPTHWISE_CONV_2D"),
    "downsampling pointwise": ("downsample_conv[13]_conv", "CONV_2D"),
    "downsampling depthwise": ("downsample_conv2_conv", "DEPTHWISE_CONV_2D"),
    "query, key, value": ("attn_(query|key|value)", "FULLY_CONNECTED"),
    "attention matmul": ("attn.*MatMul", "BATCH_MATMUL"),
    "attention softmax": ("attn.*Softmax", "SOFTMAX"),
    "attention proj": ("attn_1/(?!.*_(query|key|value)_)", "FULLY_CONNECTED"),  # its output is named after a Reshape
    "local convolution": ("local_conv_conv", "DEPTHWISE_CONV_2D"),
    "mlp fc1": ("mlp_fc1", "FULLY_CONNECTED"),
    "GELU": ("_act", "GELU"),
    "mlp fc2": ("mlp_fc2", "FULLY_CONNECTED"),
    "head and class maps": ("(head|class_maps)_1/", "FULLY_CONNECTED"),
}
BACKBONE_DENSE = ("query, key, value", "attention proj", "mlp fc1", "mlp fc2")


def to_litert_float16(float_model: Path, path: Path, calibration: NDArray[np.uint8] | None = None) -> Path:
    """Writes `float_model` with the weights of its convolutions and dense layers in float16, half the size.

    LiteRT expands them when it opens the model and computes in float32. No calibration.
    """
    from litert_quantizer import qtyping

    weights = qtyping.TensorQuantizationConfig(num_bits=16, dtype=qtyping.TensorDataType.FLOAT)
    config = qtyping.OpQuantizationConfig(
        weight_tensor_config=weights, compute_precision=qtyping.ComputePrecision.FLOAT, explicit_dequantize=True
    )
    operations = ("FULLY_CONNECTED", "CONV_2D", "DEPTHWISE_CONV_2D")
    return _quantize(float_model, path, [(".*", name, config, "float_casting") for name in operations])


def to_litert_int8(float_model: Path, path: Path, calibration: NDArray[np.uint8] | None = None) -> Path:
    """Writes `float_model` with the backbone's dense layers in dynamic int8.

    Everything else stays float32: the convolutions, which lose accuracy in int8 (early feature maps have channels of
    very different range), the attention itself, and the head with its class maps, which decide. No calibration.
    """
    return quantize_groups(float_model, path, dynamic=BACKBONE_DENSE)


def to_litert_int8_mixed(float_model: Path, path: Path, calibration: NDArray[np.uint8] | None = None) -> Path:
    """Writes `float_model` in dynamic int8 wherever that is faster and harmless: the fastest one within the contract.

    To the dense layers of `to_litert_int8` come the pointwise convolutions of stage 0, a tenth of the network's work.
    Those of the downsamplings stay float: their output is what all later layers build on. No calibration.
    """
    return quantize_groups(float_model, path, dynamic=(*BACKBONE_DENSE, "stage 0 pointwise"))


def to_litert_int8_pointwise(float_model: Path, path: Path, calibration: NDArray[np.uint8] | None = None) -> Path:
    """Writes `float_model` with the backbone's dense layers and all its pointwise convolutions in dynamic int8.

    For networks fine-tuned to it (`fake_quantization` of a training recipe): without that the downsamplings may cost
    more accuracy than allowed. No calibration.
    """
    pointwise = ("stage 0 pointwise", "downsampling pointwise")
    return quantize_groups(float_model, path, dynamic=(*BACKBONE_DENSE, *pointwise))


def to_litert_int8_static(float_model: Path, path: Path, calibration: NDArray[np.uint8] | None = None) -> Path:
    """Writes `float_model` with the backbone's dense layers in static int8, those after a GELU in dynamic int8.

    A GELU gives few large values among many near 0: one range for all of them costs more accuracy than the other
    dense layers together (`export.sensitivity`).

    Args:
        calibration: uint8 (n, size, size, 3), preprocessed images, some dozens of the training images.

    Raises:
        ValueError: without calibration images.
    """
    if calibration is None or not len(calibration):
        raise ValueError("static int8 needs calibration images. Received: none")
    ranges = activation_ranges(float_model, calibration)
    static = [group for group in BACKBONE_DENSE if group != "mlp fc2"]
    return quantize_groups(float_model, path, dynamic=["mlp fc2"], static=static, ranges=ranges)


# The artifacts of a bundle beside float32, all (float model, path, calibration images) → path.
LITERT_ARTIFACTS = {
    "float16": to_litert_float16,
    "int8": to_litert_int8,
    "int8_static": to_litert_int8_static,
    "int8_mixed": to_litert_int8_mixed,
    "int8_pointwise": to_litert_int8_pointwise,
}


def quantize_groups(
    float_model: Path,
    path: Path,
    dynamic: Collection[str] = (),
    static: Collection[str] = (),
    ranges: dict[str, Any] | None = None,
) -> Path:
    """Writes `float_model` with some of `LAYER_GROUPS` in int8; the others stay float.

    Args:
        dynamic, static: names of groups. Only dense layers and convolutions that are not depthwise can be dynamic.
        ranges: from `activation_ranges`, for the static ones.
    """
    from litert_quantizer import qtyping

    weights = qtyping.TensorQuantizationConfig(
        num_bits=8, symmetric=True, granularity=qtyping.QuantGranularity.CHANNELWISE
    )
    activations = {False: None, True: qtyping.TensorQuantizationConfig(num_bits=8, symmetric=False)}
    rules = []
    for group in (*dynamic, *static):
        config = qtyping.OpQuantizationConfig(
            weight_tensor_config=weights,
            activation_tensor_config=activations[group in static],
            compute_precision=qtyping.ComputePrecision.INTEGER,
        )
        rules.append((*LAYER_GROUPS[group], config, "min_max_uniform_quantize"))
    return _quantize(float_model, path, rules, ranges)


def _quantize(float_model, path, rules: Iterable[tuple[str, str, Any, str]], ranges=None):
    """Writes `float_model` to `path` after the quantizer followed `rules` (pattern, operation, config, algorithm)."""
    from litert_quantizer import qtyping, quantizer

    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)  # the quantizer does not overwrite
    work = quantizer.Quantizer(str(float_model))
    for pattern, operation, config, algorithm in rules:
        work.update_quantization_recipe(pattern, qtyping.TFLOperationName(operation), config, algorithm)
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        work.quantize(ranges).export_model(str(path))
    return path
