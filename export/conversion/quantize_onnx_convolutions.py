"""From the float32 ONNX model of a convolutional network to static int8, by ONNX Runtime's quantizer."""

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from export.conversion.body import body_of
from export.conversion.quantize_onnx import QDQ_OPSET, check_numbers
from export.conversion.to_onnx import opset_of, save_checked
from keras_realmnet.errors import RealMNetError

__all__ = ["to_onnx_int8_convolutional"]

# How activations become integers; as in `quantize_onnx`: TensorRT knows only symmetric types and float biases.
# Unlike there, weights keep 8 bits: with 7 a small untrained network was off by .035 in the mean: too much.
TARGETS: dict[str, dict[str, Any]] = {
    "onnxruntime": {"ActivationSymmetric": False, "QuantizeBias": True},
    "tensorrt": {"ActivationSymmetric": True, "QuantizeBias": False},
}
WEIGHTED = ("Conv", "ConvTranspose", "Gemm", "MatMul")


def to_onnx_int8_convolutional(
    float_model: Path, path: Path, calibration: NDArray[np.uint8] | None, target: str = "onnxruntime"
) -> Path:
    """Writes `float_model` with QuantizeLinear and DequantizeLinear around all between the pixels and what decides.

    Weights are int8 with a scale per output channel, activations have a scale per tensor, from the least and largest
    value on the calibration images. What stays float: `body.body_of`.

    Args:
        float_model: from `to_onnx.to_onnx`, in float32, opset 21 or older.
        calibration: uint8 (n, size, size, 3), training images.
        target: "onnxruntime" or "tensorrt".

    Raises:
        ValueError: for another target, or without calibration images.
        RealMNetError: `float_model` is of a newer opset, or has nothing to quantize; or a scale or bias of the result
            cannot be represented: names it.
    """
    from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_static

    if target not in TARGETS:
        raise ValueError(f"target must be one of {', '.join(TARGETS)}. Received: {target!r}")
    if calibration is None or not len(calibration):
        raise ValueError("static int8 needs calibration images. Received: none")
    model = onnx.load(float_model)
    if opset_of(model) > QDQ_OPSET:
        raise RealMNetError(f"{float_model}: opset {QDQ_OPSET} or older expected. Received: {opset_of(model)}")
    nodes = _body(model.graph)
    if not nodes:
        raise RealMNetError(f"{float_model}: nothing to quantize: no convolution before the layer that decides")

    class Images(CalibrationDataReader):
        def __init__(self):
            self._batches = ({"images": image[None].astype("float32")} for image in calibration)

        def get_next(self):
            return next(self._batches, None)

    with tempfile.TemporaryDirectory() as folder:
        written = Path(folder) / "int8.onnx"
        quantize_static(
            model,
            written,
            Images(),
            per_channel=True,
            activation_type=QuantType.QUInt8 if target == "onnxruntime" else QuantType.QInt8,
            weight_type=QuantType.QInt8,
            nodes_to_quantize=nodes,
            extra_options=TARGETS[target],
        )
        quantized = onnx.load(written)
    if target == "tensorrt":
        _spare_factors(quantized.graph)
    check_numbers(quantized)
    return save_checked(quantized, path)


def _spare_factors(graph: onnx.GraphProto) -> None:
    """Lets products with float weights read what was quantized for them: TensorRT wants both factors so, or none."""
    makers = {name: node for node in graph.node for name in node.output}
    for node in graph.node:
        if node.op_type in WEIGHTED:
            activations, weights = (makers.get(name) for name in node.input[:2])
            if activations is not None and _is_dequantized(activations) and not _is_dequantized(weights):
                node.input[0] = makers[activations.input[0]].input[0]
    outputs = {output.name for output in graph.output}
    while unread := [node for node in graph.node if not (_read(graph) | outputs).intersection(node.output)]:
        for node in unread:
            graph.node.remove(node)


def _read(graph: onnx.GraphProto) -> set[str]:
    return {name for node in graph.node for name in node.input}


def _is_dequantized(node: onnx.NodeProto | None) -> bool:
    return node is not None and node.op_type == "DequantizeLinear"


def _body(graph: onnx.GraphProto) -> list[str]:
    """Names of the nodes to quantize."""
    constants = {constant.name for constant in graph.initializer}
    made = {name: number for number, node in enumerate(graph.node) for name in node.output}
    sources = [[made[name] for name in node.input if name in made] for node in graph.node]
    weighted = [node.op_type in WEIGHTED and bool(constants.intersection(node.input)) for node in graph.node]
    return [graph.node[number].name for number in body_of(sources, weighted)]
