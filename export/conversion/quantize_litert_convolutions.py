"""From the float32 LiteRT model of a convolutional network to static int8: all between the pixels and the head."""

import re
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from export.conversion.body import body_of
from export.conversion.calibration import activation_ranges
from export.conversion.quantize_litert import operation_name, quantize, read, with_room_for_biases
from keras_realmnet.errors import RealMNetError

__all__ = ["to_litert_int8_convolutional"]

CONVOLUTIONS = ("CONV_2D", "DEPTHWISE_CONV_2D", "CONV_2D_TRANSPOSE")


def to_litert_int8_convolutional(float_model: Path, path: Path, calibration: NDArray[np.uint8] | None = None) -> Path:
    """Writes `float_model` in static int8 from the first convolution to the last layer before the one that decides.

    Weights have a scale per output channel, activations a scale and a zero point per tensor; what is computed between
    is integer, but for operations that the quantizer does not know (LeakyReLU, a ReLU6 that no convolution takes in).
    Input and outputs stay float32, and with them the scale of the pixels, the head and its class maps, or the last
    convolution of a network without head (`body.body_of`).

    Args:
        calibration: uint8 (n, size, size, 3), preprocessed images, some dozens of the training images.

    Raises:
        ValueError: without calibration images.
        RealMNetError: `float_model` has nothing to quantize, or the result a number that cannot be represented.
    """
    from litert_quantizer import qtyping
    from litert_quantizer.utils.tfl_flatbuffer_utils import get_op_scope

    if calibration is None or not len(calibration):
        raise ValueError("static int8 needs calibration images. Received: none")
    model = read(float_model)
    (subgraph,) = model.subgraphs
    body = [subgraph.operators[number] for number in _body(model, subgraph)]
    operations = [operation for operation in body if operation_name(model, operation) is not None]
    if not operations:
        raise RealMNetError(f"{float_model}: nothing to quantize: no convolution before the layer that decides")
    config = qtyping.OpQuantizationConfig(
        weight_tensor_config=qtyping.TensorQuantizationConfig(
            num_bits=8, symmetric=True, granularity=qtyping.QuantGranularity.CHANNELWISE
        ),
        activation_tensor_config=qtyping.TensorQuantizationConfig(num_bits=8, symmetric=False),
        compute_precision=qtyping.ComputePrecision.INTEGER,
    )
    scopes = [f"^{re.escape(get_op_scope(operation, subgraph.tensors))}$" for operation in operations]
    names = [str(operation_name(model, operation)) for operation in operations]
    rules = [(scope, name, config, "min_max_uniform_quantize") for scope, name in zip(scopes, names, strict=True)]
    ranges = activation_ranges(float_model, calibration, "min-max")
    for number in subgraph.inputs:  # pixels: with these ranges each whole number is itself
        pixels = {"min": np.zeros((1,) * 4, "float32"), "max": np.full((1,) * 4, 255, "float32")}
        ranges[subgraph.tensors[number].name.decode()] = pixels
    with tempfile.TemporaryDirectory() as folder:
        float_model = with_room_for_biases(float_model, Path(folder) / "float32.tflite", operations, ranges)
        return quantize(float_model, path, rules, ranges)


def _body(model: Any, subgraph: Any) -> list[int]:
    made = {tensor: number for number, operation in enumerate(subgraph.operators) for tensor in operation.outputs}

    def is_weighted(operation: Any) -> bool:
        name = operation_name(model, operation)
        if name in ("FULLY_CONNECTED", "BATCH_MATMUL"):
            return model.buffers[subgraph.tensors[operation.inputs[1]].buffer].data is not None
        return name in CONVOLUTIONS

    sources = [[made[tensor] for tensor in operation.inputs if tensor in made] for operation in subgraph.operators]
    return body_of(sources, [is_weighted(operation) for operation in subgraph.operators])
