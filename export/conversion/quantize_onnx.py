"""From the float ONNX model to int8 or float8: the dense layers of the attention and MLP blocks, nothing else.

Convolutions and the downsampling lose too much (early maps have channels of very different range), the attention
itself gains too little, and the head with its class maps decides. Weights are symmetric with a scale per output
channel, activations have a scale per tensor. A channel whose weights are zero, or nearly, has a scale all the same:
no scale is 0, and no integer bias leaves its 32 bits.
"""

from collections.abc import Callable
from pathlib import Path

import ml_dtypes
import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from export.conversion.calibration import RANGE_METHODS, with_zero
from export.conversion.to_onnx import opset_of, save_checked
from keras_realmnet.errors import RealMNetError

__all__ = ["QDQ_OPSET", "TARGETS", "check_numbers", "to_onnx_int8", "to_onnx_int8_dynamic"]

BINS = 2048  # of an activation's histogram
QDQ_OPSET = 21  # ONNX Runtime 1.23, the newest for Python 3.10, runs no newer QuantizeLinear
# Kernels are divided by the scale as it is stored, so that the few digits of a small float16 do no harm.
SMALLEST_SCALE = {"float32": 2.0**-126, "bfloat16": 2.0**-126, "float16": 2.0**-20}
LARGEST_BIAS = 2**30  # aimed at for an integer bias: half of what it can hold

# How activations become integers. ONNX Runtime's kernels for x86 multiply unsigned activations with signed weights
# (signed ones are four times slower) and add an int32 bias; TensorRT knows only symmetric types and float biases.
# On x86 processors without VNNI these kernels add products in pairs, in 16 bits: of weights of 7 bits 2 · 255 · 64 at
# most, which is no overflow.
LARGEST_WEIGHT = 64
TARGETS = {
    "onnxruntime": (np.uint8, 0, 255),
    "tensorrt": (np.int8, -127, 127),
    "tensorrt-float8": (ml_dtypes.float8_e4m3fn, -448, 448),
}


def to_onnx_int8(
    float_model: Path,
    path: Path,
    calibration: NDArray[np.uint8],
    target: str = "onnxruntime",
    method: str = "min-max",
) -> Path:
    """Writes `float_model` with QuantizeLinear and DequantizeLinear around what is quantized, for one of `TARGETS`.

    Args:
        float_model: from `to_onnx.to_onnx`, opset 21 or older; float32, or for TensorRT another precision, too.
        calibration: uint8 (n, size, size, 3), training images.
        method: one of `RANGE_METHODS`, from the values an activation takes on them to its range.

    Raises:
        ValueError: for another target.
        RealMNetError: `float_model` is of a newer opset, in a precision the target does not have, or has nothing to
            quantize; or a scale or bias of the result cannot be represented: names it.
    """
    if target not in TARGETS:
        raise ValueError(f"target must be one of {', '.join(TARGETS)}. Received: {target!r}")
    model = onnx.load(float_model)
    if opset_of(model) > QDQ_OPSET:
        raise RealMNetError(
            f"{float_model}: opset {QDQ_OPSET} or older expected, so that ONNX Runtime 1.23 opens what is made of it. "
            f"Received: {opset_of(model)}"
        )
    _check_kernels(model, float_model, all_float32=target == "onnxruntime")
    ranges = _activation_ranges(model, calibration, RANGE_METHODS[method])
    quantized = _rewritten(model, _Static(*TARGETS[target], target == "onnxruntime", ranges))
    check_numbers(quantized)
    return save_checked(quantized, path)


def to_onnx_int8_dynamic(float_model: Path, path: Path, calibration: NDArray[np.uint8] | None = None) -> Path:
    """Writes `float_model` with activations that are quantized as they come, to the range they have then.

    For ONNX Runtime, which does it in one operation. No calibration.

    Raises:
        RealMNetError: `float_model` is not in float32, or has nothing to quantize.
    """
    model = onnx.load(float_model)
    _check_kernels(model, float_model, all_float32=True)
    return save_checked(_rewritten(model, _dynamic), path)


def _is_quantized(node):
    return node.op_type == "Gemm" and node.name.startswith("stages_") and "_downsample" not in node.name


def _check_kernels(model, path, all_float32):
    """Refuses a model without layers to quantize, or with weights that cannot be."""
    constants = {constant.name: constant for constant in model.graph.initializer}
    nodes = [node for node in model.graph.node if _is_quantized(node)]
    if not nodes:
        raise RealMNetError(f"{path}: it has no dense layers of attention or MLP blocks to quantize")
    for name in (name for node in nodes for name in node.input[1:]):
        if all_float32 and constants[name].data_type != TensorProto.FLOAT:
            kind = TensorProto.DataType.Name(constants[name].data_type)
            raise RealMNetError(f"{path}: {name}: FLOAT expected for this kind of int8. Received: {kind}")
        if not np.isfinite(numpy_helper.to_array(constants[name]).astype("float32")).all():
            raise RealMNetError(f"{path}: {name}: not all of its values are finite")


def check_numbers(model):
    """Refuses a scale that is not a finite number above 0, and an integer bias at the end of its range."""
    constants = {constant.name: constant for constant in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type not in ("QuantizeLinear", "DequantizeLinear"):
            continue
        scale = numpy_helper.to_array(constants[node.input[1]])
        if not (np.isfinite(scale) & (scale >= SMALLEST_SCALE[scale.dtype.name])).all():
            raise RealMNetError(f"{node.name}: a scale must be a finite, positive number. Received: {scale.min()}")
        quantized = constants.get(node.input[0])
        if quantized is not None and quantized.data_type == TensorProto.INT32:
            largest = np.abs(numpy_helper.to_array(quantized).astype("int64")).max()
            if largest >= 2**31 - 1:
                raise RealMNetError(f"{node.name}: an integer bias does not fit 32 bits")


def _activation_ranges(model, images, method: Callable) -> dict[str, tuple[float, float]]:
    """Lowest and highest value to represent of the input of every quantized node; 0 is between them."""
    import onnxruntime
    from litert_quantizer.utils.histogram_utils import DynamicHistogram

    names = sorted({node.input[0] for node in model.graph.node if _is_quantized(node)})
    watched = onnx.ModelProto()
    watched.CopyFrom(model)
    known = {info.name: info for info in model.graph.value_info}
    watched.graph.output.extend(known[name] for name in names)
    session = onnxruntime.InferenceSession(watched.SerializeToString(), providers=["CPUExecutionProvider"])
    histograms = {name: DynamicHistogram(BINS) for name in names}
    for image in images:
        for name, values in zip(names, session.run(names, {"images": image[None].astype("float32")}), strict=True):
            histograms[name].add(np.asarray(values, "float32"))
    ranges = {}
    for name, histogram in histograms.items():
        (channel,) = histogram.to_dict()["channels"]
        low, high = method(channel["hist_counts"], channel["bin_edges"])
        # The bins reach beyond the outermost values.
        low, high = max(low, histogram.global_min[0]), min(high, histogram.global_max[0])
        ranges[name] = with_zero(float(low), float(high))
    return ranges


def _rewritten(model, rewrite):
    """`model` after `rewrite(node, kernel, bias, constant)` gave the nodes that replace each quantized one."""
    graph = model.graph
    constants = {constant.name: constant for constant in graph.initializer}

    def constant(name, values):
        if name not in constants:
            constants[name] = numpy_helper.from_array(np.asarray(values), name)
        return name

    nodes, made = [], set()
    for node in graph.node:
        if not _is_quantized(node):
            nodes.append(node)
            continue
        kernel, bias = (numpy_helper.to_array(constants.pop(name)) for name in node.input[1:])
        for new in rewrite(node, kernel, bias, constant):
            if new.output[0] not in made:  # layers with the same input share what quantizes it
                made.add(new.output[0])
                nodes.append(new)
    del graph.node[:], graph.initializer[:]
    graph.node.extend(nodes)
    graph.initializer.extend(constants.values())
    return model


def _quantized_kernel(kernel, kind, highest, least=0.0):
    """The kernel (dim, units) as `kind` and its scale (units,), in the kernel's own type.

    Args:
        least: (units,), the smallest scales that will do.
    """
    largest = np.abs(kernel).max(axis=0).astype("float64")
    # Weights that much smaller than the layer's largest count for nothing, and those of a dead channel are all zero.
    largest = np.maximum(largest, largest.max() * 2.0**-24 or 1.0)
    scale = np.maximum(largest / highest, np.maximum(least, SMALLEST_SCALE[kernel.dtype.name]))
    scale = scale.astype(kernel.dtype)
    scaled = np.clip(kernel.astype("float64") / scale.astype("float64"), -highest, highest)
    return (np.rint(scaled) if np.issubdtype(kind, np.integer) else scaled.astype("float32")).astype(kind), scale


class _Static:
    """QuantizeLinear and DequantizeLinear before a Gemm, on its input, kernel and, for integer kernels, bias."""

    def __init__(self, kind, lowest, highest, integer_bias, ranges):
        self.kind, self.lowest, self.highest = kind, lowest, highest
        self.integer_bias, self.ranges = integer_bias, ranges

    def _scale(self, x, dtype):
        low, high = self.ranges[x]
        if self.lowest:  # symmetric
            low, high = -max(high, -low), max(high, -low)
        scale = (high - low) / (self.highest - self.lowest)
        return np.maximum(scale, SMALLEST_SCALE[dtype.name]).astype(dtype), low

    def __call__(self, node, kernel, bias, constant):
        x, w, b = node.input
        of_onnxruntime = self.kind == np.uint8
        kernel_kind, kernel_highest = (np.int8, LARGEST_WEIGHT) if of_onnxruntime else (self.kind, self.highest)
        scale, low = self._scale(x, kernel.dtype)
        # ONNX Runtime's own quantizer widens the scale of a kernel for the sake of its bias, too.
        least = np.abs(bias.astype("float64")) / (float(scale) * LARGEST_BIAS) if self.integer_bias else 0.0
        kernel, kernel_scale = _quantized_kernel(kernel, kernel_kind, kernel_highest, least)
        zero = self.kind(0 if self.lowest else np.rint(-low / scale))
        on_input = (constant(f"{x}.scale", scale), constant(f"{x}.zero_point", zero))
        on_kernel = (
            constant(f"{w}.scale", kernel_scale),
            constant(f"{w}.zero_point", np.zeros(len(kernel_scale), kernel_kind)),
        )
        yield helper.make_node("QuantizeLinear", [x, *on_input], [f"{x}.quantized"], name=f"{x}.quantize")
        yield helper.make_node(
            "DequantizeLinear", [f"{x}.quantized", *on_input], [f"{x}.dequantized"], name=f"{x}.dequantize"
        )
        yield helper.make_node(
            "DequantizeLinear", [constant(w, kernel), *on_kernel], [f"{w}.dequantized"], name=f"{w}.dequantize", axis=1
        )
        if self.integer_bias:
            bias_scale = scale * kernel_scale
            on_bias = (
                constant(f"{b}.scale", bias_scale),
                constant(f"{b}.zero_point", np.zeros(len(bias), np.int32)),
            )
            bias = constant(b, np.rint(bias.astype("float64") / bias_scale).astype(np.int32))
            yield helper.make_node(
                "DequantizeLinear", [bias, *on_bias], [f"{b}.dequantized"], name=f"{b}.dequantize", axis=0
            )
            bias = f"{b}.dequantized"
        else:
            bias = constant(b, bias)
        yield helper.make_node(
            "Gemm", [f"{x}.dequantized", f"{w}.dequantized", bias], list(node.output), name=node.name
        )


def _dynamic(node, kernel, bias, constant):
    """What ONNX Runtime fuses to one DynamicQuantizeMatMul."""
    x, w, b = node.input
    name, (kernel, scale) = node.name, _quantized_kernel(kernel, np.int8, LARGEST_WEIGHT)
    quantized = [f"{x}.quantized", f"{x}.scale", f"{x}.zero_point"]
    scale = constant(f"{w}.scale", scale)
    yield helper.make_node("DynamicQuantizeLinear", [x], quantized, name=f"{x}.quantize")
    yield helper.make_node(
        "MatMulInteger", [quantized[0], constant(w, kernel), quantized[2]], [f"{name}.int32"], name=f"{name}.int32"
    )
    yield helper.make_node("Cast", [f"{name}.int32"], [f"{name}.float"], name=f"{name}.float", to=TensorProto.FLOAT)
    yield helper.make_node("Mul", [quantized[1], scale], [f"{name}.scale"], name=f"{name}.scale")
    yield helper.make_node("Mul", [f"{name}.float", f"{name}.scale"], [f"{name}.product"], name=f"{name}.product")
    yield helper.make_node("Add", [f"{name}.product", constant(b, bias)], list(node.output), name=name)
