"""From the float32 LiteRT model to smaller and faster ones: float16 weights, or int8 in the layers that stand it.

Dynamic int8: weights int8 per output channel; each position's activations are quantized as they come, and the result
is float again. Static int8: the activations' ranges come from calibration images, and the result is int8, too. All
models run in XNNPACK as a whole: what its int8 kernels do not have (GELU, softmax, LayerNorm) stays float.
"""

import contextlib
import io
import re
import tempfile
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from export.conversion.calibration import activation_ranges
from keras_realmnet.errors import RealMNetError

__all__ = [
    "CONVOLUTIONS",
    "LAYER_GROUPS",
    "LITERT_ARTIFACTS",
    "WEIGHTED",
    "allow_float16",
    "float16_weights",
    "matching",
    "operation_name",
    "quantize",
    "quantize_groups",
    "read",
    "to_litert_float16",
    "to_litert_int8",
    "to_litert_int8_mixed",
    "to_litert_int8_pointwise",
    "to_litert_int8_static",
    "with_room_for_biases",
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
CONVOLUTIONS = ("CONV_2D", "DEPTHWISE_CONV_2D", "CONV_2D_TRANSPOSE")
WEIGHTED = ("FULLY_CONNECTED", *CONVOLUTIONS)  # operations with weights of their own
LARGEST_BIAS = 2**30  # aimed at for an integer bias: half of what it can hold
BACKBONE_DENSE = ("query, key, value", "attention proj", "mlp fc1", "mlp fc2")


def to_litert_float16(float_model: Path, path: Path, calibration: NDArray[np.uint8] | None = None) -> Path:
    """Writes `float_model` with the weights of its convolutions and dense layers in float16, half the size.

    LiteRT expands them when it opens the model and computes in float32. No calibration.
    """
    model = read(float_model)
    operations = [name for name in WEIGHTED if matching(model, ".*", name)]
    return quantize(float_model, path, [(".*", name, float16_weights(), "float_casting") for name in operations])


def float16_weights() -> Any:
    """What the quantizer is told for weights in float16 and arithmetic in float32."""
    from litert_quantizer import qtyping

    weights = qtyping.TensorQuantizationConfig(num_bits=16, dtype=qtyping.TensorDataType.FLOAT)
    return qtyping.OpQuantizationConfig(
        weight_tensor_config=weights, compute_precision=qtyping.ComputePrecision.FLOAT, explicit_dequantize=True
    )


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
    dense layers together (`export.contract.sensitivity`).

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


# A model's metadata by which XNNPACK is told that float16 is precise enough, in products and in their sums
# (tensorflow/lite/tools/optimize/reduced_precision_metadata.h).
REDUCED_PRECISION = (b"reduced_precision_support", b"fp16accfp16")


def allow_float16(model: Path, path: Path) -> Path:
    """Writes `model` so that its float operations are computed in float16 on Arm processors that can (from Armv8.2 on).

    Nothing but a line of metadata is added: others compute what they did.
    """
    from ai_edge_litert import schema_py_generated as schema
    from ai_edge_litert.tools.flatbuffer_utils import write_model

    content, (name, value) = read(model), REDUCED_PRECISION
    content.buffers.append(schema.BufferT(data=np.frombuffer(value, "uint8")))
    entry = schema.MetadataT(name=name, buffer=len(content.buffers) - 1)
    content.metadata = [*(content.metadata or []), entry]
    write_model(content, str(path))
    return Path(path)


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

    Raises:
        RealMNetError: a group has no operation in `float_model`, or the result a number that cannot be represented.
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
    with tempfile.TemporaryDirectory() as folder:
        if static:
            found = [operation for group in static for operation in matching(read(float_model), *LAYER_GROUPS[group])]
            float_model = with_room_for_biases(float_model, Path(folder) / "float32.tflite", found, ranges or {})
        return quantize(float_model, path, rules, ranges)


def quantize(float_model, path, rules: Iterable[tuple[str, str, Any, str]], ranges=None):
    """Writes `float_model` to `path` after the quantizer followed `rules` (pattern, operation, config, algorithm)."""
    from litert_quantizer import qtyping, quantizer

    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)  # the quantizer does not overwrite
    work = quantizer.Quantizer(str(float_model))
    model = read(float_model)
    for pattern, operation, config, algorithm in rules:
        if not matching(model, pattern, operation):
            raise RealMNetError(f"{float_model}: nothing to quantize: no {operation} is called {pattern}")
        work.update_quantization_recipe(pattern, qtyping.TFLOperationName(operation), config, algorithm)
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        work.quantize(ranges).export_model(str(path))
    _check_numbers(path)
    return path


def read(path: Path) -> Any:
    """The model at `path` as LiteRT's flatbuffer objects."""
    from ai_edge_litert.tools.flatbuffer_utils import read_model

    return read_model(str(path))


def matching(model: Any, pattern: str, operation: str) -> list[Any]:
    """The operations of the first subgraph that the quantizer finds by a rule of this pattern and operation."""
    from litert_quantizer.utils.tfl_flatbuffer_utils import get_op_scope

    (subgraph,) = model.subgraphs
    return [
        found
        for found in subgraph.operators
        if operation_name(model, found) == operation and re.search(pattern, get_op_scope(found, subgraph.tensors))
    ]


def operation_name(model: Any, operation: Any) -> str | None:
    """What the quantizer calls an operation of `model`; `None` for one that it does not know."""
    from litert_quantizer.utils.tfl_flatbuffer_utils import TFL_OP_CODE_TO_NAME

    name = TFL_OP_CODE_TO_NAME.get(model.operatorCodes[operation.opcodeIndex].builtinCode)
    return None if name is None else str(name.value)


def with_room_for_biases(float_model: Path, path: Path, operations: Sequence[Any], ranges: dict[str, Any]) -> Path:
    """Writes `float_model` so that every channel of `operations` has a scale with which its bias fits 32 bits.

    An integer bias counts in steps of (scale of the input) · (scale of the channel); that of a dead channel, whose
    weights are 0, would be too fine. So its largest weight grows, by what is no more than 4e-5 of the bias for any
    input in the range that was seen.
    """
    from ai_edge_litert.tools.flatbuffer_utils import write_model

    model = read(float_model)
    (subgraph,) = model.subgraphs
    chosen = {tuple(operation.outputs) for operation in operations}

    def values(tensor):
        return np.frombuffer(bytes(model.buffers[tensor.buffer].data), "<f4").reshape(tensor.shape).copy()

    for operation in (operation for operation in subgraph.operators if tuple(operation.outputs) in chosen):
        kind = operation_name(model, operation)
        if kind not in ("FULLY_CONNECTED", "CONV_2D", "DEPTHWISE_CONV_2D") or operation.inputs[2] < 0:  # no bias
            continue
        x, w, b = (subgraph.tensors[number] for number in operation.inputs)
        seen, kernel, bias = ranges[x.name.decode()], values(w), values(b)
        scale = float(max(seen["max"].max(), 0) - min(seen["min"].min(), 0)) / 255
        least = np.abs(bias) * 127 / (scale * LARGEST_BIAS)
        channels = np.moveaxis(kernel, -1 if kind == "DEPTHWISE_CONV_2D" else 0, 0)  # a view
        for channel in np.flatnonzero(np.abs(channels).reshape(len(bias), -1).max(axis=1) < least):
            place = np.unravel_index(np.abs(channels[channel]).argmax(), channels.shape[1:])
            channels[(channel, *place)] = least[channel]
        model.buffers[w.buffer].data = np.frombuffer(kernel.astype("<f4").tobytes(), "uint8")
    write_model(model, str(path))
    return path


def _check_numbers(path):
    """Refuses a scale that is not a normal positive number, and an integer bias at the end of its range."""
    from ai_edge_litert import schema_py_generated as schema

    model = read(path)
    for tensor in (tensor for subgraph in model.subgraphs for tensor in subgraph.tensors):
        scale = None if tensor.quantization is None else tensor.quantization.scale
        if scale is None or not len(scale):
            continue
        name = tensor.name.decode()
        if not (np.isfinite(scale) & (np.asarray(scale) >= np.finfo("float32").tiny)).all():
            raise RealMNetError(f"{path}: {name}: a scale must be a normal positive number. Received: {min(scale)}")
        data = model.buffers[tensor.buffer].data
        if tensor.type == schema.TensorType.INT32 and data is not None and len(data):
            largest = np.abs(np.frombuffer(bytes(data), "<i4").astype("int64")).max()
            if largest >= 2**31 - 1:
                raise RealMNetError(f"{path}: {name}: an integer bias does not fit 32 bits")
