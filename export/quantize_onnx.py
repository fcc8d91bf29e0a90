"""From the float ONNX model to int8 or float8: the dense layers of the attention and MLP blocks, nothing else.

Convolutions and the downsampling lose too much (early maps have channels of very different range), the attention
itself gains too little, and the head with its class maps decides. Weights are symmetric with a scale per output
channel, activations have a scale per tensor.
"""

from collections.abc import Callable
from pathlib import Path

import ml_dtypes
import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from export.calibration import RANGE_METHODS
from export.to_onnx import save_checked

__all__ = ["TARGETS", "to_onnx_int8", "to_onnx_int8_dynamic"]

BINS = 2048  # of an activation's histogram

# How activations become integers. ONNX Runtime's kernels for x86 multiply unsigned activations with signed weights
# (signed ones are four times slower) and add an int32 bias; TensorRT knows only symmetric types and float biases.
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
        float_model: from `export.to_onnx.to_onnx`; float32, or for TensorRT in another precision, too.
        calibration: uint8 (n, size, size, 3), training images.
        method: one of `RANGE_METHODS`, from the values an activation takes on them to its range.

    Raises:
        ValueError: for another target.
    """
    if target not in TARGETS:
        raise ValueError(f"target must be one of {', '.join(TARGETS)}. Received: {target!r}")
    model = onnx.load(float_model)
    ranges = _activation_ranges(model, calibration, RANGE_METHODS[method])
    return save_checked(_rewritten(model, _Static(*TARGETS[target], target == "onnxruntime", ranges)), path)


def to_onnx_int8_dynamic(float_model: Path, path: Path, calibration: NDArray[np.uint8] | None = None) -> Path:
    """Writes `float_model` with activations that are quantized as they come, to the range they have then.

    For ONNX Runtime, which does it in one operation. No calibration.
    """
    return save_checked(_rewritten(onnx.load(float_model), _dynamic), path)


def _is_quantized(node):
    return node.op_type == "Gemm" and node.name.startswith("stages_") and "_downsample" not in node.name


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
        ranges[name] = (min(float(low), 0.0), max(float(high), 0.0))
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


def _quantized_kernel(kernel, kind, highest):
    """The kernel (dim, units) as `kind` and its scale (units,)."""
    kernel = kernel.astype("float32")
    scale = np.maximum(np.abs(kernel).max(axis=0), 1e-12) / highest
    scaled = kernel / scale
    return (np.rint(scaled) if np.issubdtype(kind, np.integer) else scaled).astype(kind), scale


class _Static:
    """QuantizeLinear and DequantizeLinear before a Gemm, on its input, kernel and, for integer kernels, bias."""

    def __init__(self, kind, lowest, highest, integer_bias, ranges):
        self.kind, self.lowest, self.highest = kind, lowest, highest
        self.integer_bias, self.ranges = integer_bias, ranges

    def _scale(self, x):
        low, high = self.ranges[x]
        if self.lowest:  # symmetric
            low, high = -max(high, -low), max(high, -low)
        return max(high - low, 1e-12) / (self.highest - self.lowest), low

    def __call__(self, node, kernel, bias, constant):
        x, w, b = node.input
        float_type = kernel.dtype
        kernel_kind, kernel_highest = (np.int8, 127) if self.kind == np.uint8 else (self.kind, self.highest)
        kernel, kernel_scale = _quantized_kernel(kernel, kernel_kind, kernel_highest)
        scale, low = self._scale(x)
        zero = self.kind(0 if self.lowest else np.rint(-low / scale))
        on_input = (constant(f"{x}.scale", float_type.type(scale)), constant(f"{x}.zero_point", zero))
        on_kernel = (
            constant(f"{w}.scale", kernel_scale.astype(float_type)),
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
                constant(f"{b}.scale", bias_scale.astype(float_type)),
                constant(f"{b}.zero_point", np.zeros(len(bias), np.int32)),
            )
            bias = constant(b, np.rint(bias / bias_scale).astype(np.int32))
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
    name, (kernel, scale) = node.name, _quantized_kernel(kernel, np.int8, 127)
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
