"""From the float32 LiteRT model of a convolutional network to static int8: all between the pixels and the head."""

import copy
import re
import tempfile
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from export.conversion.body import body_of
from export.conversion.calibration import activation_ranges
from export.conversion.quantize_litert import (
    CONVOLUTIONS,
    WEIGHTED,
    float16_weights,
    operation_name,
    quantize,
    read,
    with_room_for_biases,
)
from keras_realmnet.errors import RealMNetError

__all__ = ["to_litert_int8_convolutional", "to_litert_int8_masks", "with_corrected_biases"]


def to_litert_int8_convolutional(float_model: Path, path: Path, calibration: NDArray[np.uint8] | None = None) -> Path:
    """Writes `float_model` in static int8 from the first convolution to the last layer before the one that decides.

    Weights have a scale per output channel, activations a scale and a zero point per tensor; what is computed between
    is integer, but for operations that the quantizer does not know (LeakyReLU, a ReLU6 that no convolution takes in).
    Biases take back what the rounding of weights does in the mean (`with_corrected_biases`).
    Input and outputs stay float32, and with them the scale of the pixels, the head and its class maps, or the last
    convolution of a network without head (`body.body_of`).

    Args:
        calibration: uint8 (n, size, size, 3), preprocessed images, some dozens of the training images.

    Raises:
        ValueError: without calibration images.
        RealMNetError: `float_model` has nothing to quantize, or the result a number that cannot be represented.
    """
    return _static(float_model, path, calibration, whole_float=False)


def to_litert_int8_masks(float_model: Path, path: Path, calibration: NDArray[np.uint8] | None = None) -> Path:
    """As `to_litert_int8_convolutional`, but what leads to an answer about the whole picture keeps float16 weights.

    For networks that tell pixels and, from layers of their own, something else (`keras_realmnet.models.beside`): most
    of the time goes into the pixels, whose rounding errors average out over a lesion; those of a grade do not.

    Raises:
        ValueError, RealMNetError: as there.
    """
    return _static(float_model, path, calibration, whole_float=True)


def _static(float_model: Path, path: Path, calibration: NDArray[np.uint8] | None, whole_float: bool) -> Path:
    from litert_quantizer import qtyping
    from litert_quantizer.utils.tfl_flatbuffer_utils import get_op_scope

    if calibration is None or not len(calibration):
        raise ValueError("static int8 needs calibration images. Received: none")
    model = read(float_model)
    (subgraph,) = model.subgraphs
    spared = _leading_to_whole(subgraph) if whole_float else set()
    body = [subgraph.operators[number] for number in _body(model, subgraph) if number not in spared]
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
    half = [subgraph.operators[number] for number in sorted(spared)]
    half = [operation for operation in half if operation_name(model, operation) in WEIGHTED]
    rules = [
        (f"^{re.escape(get_op_scope(each, subgraph.tensors))}$", str(operation_name(model, each)), *how)
        for chosen, how in (
            (operations, (config, "min_max_uniform_quantize")),
            (half, (float16_weights(), "float_casting")),
        )
        for each in chosen
    ]
    ranges = activation_ranges(float_model, calibration, "min-max")
    for number in subgraph.inputs:  # pixels: with these ranges each whole number is itself
        pixels = {"min": np.zeros((1,) * 4, "float32"), "max": np.full((1,) * 4, 255, "float32")}
        ranges[subgraph.tensors[number].name.decode()] = pixels
    with tempfile.TemporaryDirectory() as folder:
        separate = with_own_constants(float_model, Path(folder) / "separate.tflite")
        corrected = with_corrected_biases(separate, Path(folder) / "corrected.tflite", operations, calibration)
        ready = with_room_for_biases(corrected, Path(folder) / "float32.tflite", operations, ranges)
        return quantize(ready, path, rules, ranges)


def _leading_to_whole(subgraph: Any) -> set[int]:
    """The numbers of the operations that lead to an output without places: labels, grades, points."""
    wanted = {number for number in subgraph.outputs if len(subgraph.tensors[number].shape) < 4}
    found: set[int] = set()
    for number, operation in reversed(list(enumerate(subgraph.operators))):
        if wanted.intersection(operation.outputs):
            found.add(number)
            wanted.update(operation.inputs)
    return found


def with_own_constants(float_model: Path, path: Path) -> Path:
    """Writes `float_model` so that no two convolutions or dense layers read the same weights or biases.

    Two encoders with the same frozen layers share their constants in a model. What goes into them differs, and with it
    how their biases are corrected, the scales of integer ones, and perhaps the precision.
    """
    from ai_edge_litert.tools.flatbuffer_utils import write_model

    model = read(float_model)
    (subgraph,) = model.subgraphs
    used: set[int] = set()
    for operation in subgraph.operators:
        if operation_name(model, operation) not in WEIGHTED:
            continue
        inputs = list(operation.inputs)
        for place, number in enumerate(inputs):
            tensor = subgraph.tensors[number] if number >= 0 else None
            if tensor is None or model.buffers[tensor.buffer].data is None:
                continue
            if tensor.buffer in used:
                tensor = copy.deepcopy(tensor)
                model.buffers.append(copy.deepcopy(model.buffers[tensor.buffer]))
                tensor.buffer = len(model.buffers) - 1
                tensor.name += f"_{len(subgraph.tensors)}".encode()
                subgraph.tensors.append(tensor)
                inputs[place] = len(subgraph.tensors) - 1
            used.add(tensor.buffer)
        operation.inputs = np.array(inputs, np.int32)
    write_model(model, str(path))
    return path


def with_corrected_biases(
    float_model: Path, path: Path, operations: Sequence[Any], calibration: NDArray[np.uint8]
) -> Path:
    """Writes `float_model` with biases that make up for the rounding of the weights to int8.

    Rounding shifts each channel of a convolution's output by Σ (rounded − exact weight) · input; the mean of that over
    the calibration images, their borders as their middle, leaves the bias (Nagel et al., ICCV 2019, section 4.2, with
    measured means). In a network of many small convolutions the shifts add up: without this EfficientNet-Lite0's
    probabilities move twice as far from Keras'.
    """
    from ai_edge_litert.tools.flatbuffer_utils import write_model

    model = read(float_model)
    (subgraph,) = model.subgraphs
    chosen = {tuple(operation.outputs) for operation in operations}
    found = [each for each in subgraph.operators if tuple(each.outputs) in chosen and _has_bias(model, each)]
    means = _channel_means(float_model, {subgraph.tensors[each.inputs[0]].name.decode() for each in found}, calibration)
    for operation in found:
        x, w, b = (subgraph.tensors[number] for number in operation.inputs)
        kernel, bias = (
            np.frombuffer(bytes(model.buffers[tensor.buffer].data), "<f4").reshape(tensor.shape) for tensor in (w, b)
        )
        mean = means[x.name.decode()]
        if operation_name(model, operation) == "DEPTHWISE_CONV_2D":  # (1, height, width, channels)
            shift = (_rounded(kernel, (0, 1, 2)) - kernel).sum(axis=(0, 1, 2)) * np.repeat(mean, len(bias) // len(mean))
        else:  # (channels, height, width, inputs)
            shift = (_rounded(kernel, (1, 2, 3)) - kernel).sum(axis=(1, 2)) @ mean
        model.buffers[b.buffer].data = np.frombuffer((bias - shift).astype("<f4").tobytes(), "uint8")
    write_model(model, str(path))
    return path


def _has_bias(model: Any, operation: Any) -> bool:
    return operation_name(model, operation) in ("CONV_2D", "DEPTHWISE_CONV_2D") and operation.inputs[2] >= 0


def _rounded(kernel: NDArray[np.float32], axes: tuple[int, ...]) -> NDArray[np.float32]:
    """As int8 has it, symmetric, with a scale for each channel, over whose `axes` it is the same."""
    scale = np.abs(kernel).max(axis=axes, keepdims=True) / 127
    scale[scale == 0] = 1  # a dead channel
    rounded: NDArray[np.float32] = np.round(kernel / scale) * scale
    return rounded


def _channel_means(
    float_model: Path, tensors: Collection[str], images: NDArray[np.uint8]
) -> dict[str, NDArray[np.float64]]:
    """{tensor: the mean of each of its channels over all images and places}."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(str(float_model), experimental_preserve_all_tensors=True)
    interpreter.allocate_tensors()
    runner = interpreter.get_signature_runner()
    (pixels,) = runner.get_input_details()
    places = {detail["name"]: detail["index"] for detail in interpreter.get_tensor_details()}
    sums = dict.fromkeys(tensors, 0.0)
    for image in images:
        runner(**{pixels: image[None].astype(np.float32)})
        for name in tensors:
            sums[name] = sums[name] + interpreter.get_tensor(places[name]).mean(axis=(0, 1, 2), dtype=np.float64)
    return {name: np.asarray(total) / len(images) for name, total in sums.items()}


def _body(model: Any, subgraph: Any) -> list[int]:
    made = {tensor: number for number, operation in enumerate(subgraph.operators) for tensor in operation.outputs}

    def is_weighted(operation: Any) -> bool:
        name = operation_name(model, operation)
        if name in ("FULLY_CONNECTED", "BATCH_MATMUL"):
            return model.buffers[subgraph.tensors[operation.inputs[1]].buffer].data is not None
        return name in CONVOLUTIONS

    sources = [[made[tensor] for tensor in operation.inputs if tensor in made] for operation in subgraph.operators]
    return body_of(sources, [is_weighted(operation) for operation in subgraph.operators])
