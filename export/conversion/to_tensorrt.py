"""ONNX → TensorRT engine, on the machine that is to run it. Needs no Keras.

Written for TensorRT 10 and 11: networks are strongly typed, as 11 demands, so that the precision is that of the ONNX
model (float32, float16, bfloat16, QDQ int8 or float8) and not an option here. Not yet run on hardware.
"""

import os
import re
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, numpy_helper

from keras_realmnet.errors import BundleMismatch, RealMNetError
from keras_realmnet.screening.bundle.bundle import Bundle
from keras_realmnet.screening.bundle.writing import ArtifactSource, add_artifacts
from keras_realmnet.screening.engines.tensorrt import TensorRTRuntime, import_tensorrt

__all__ = ["add_engine", "tensorrt_violations", "to_tensorrt"]

# What the ONNX parser of TensorRT 10 reads, of what our models use (onnx-tensorrt, docs/operators.md).
OPERATORS = frozenset(
    {
        *("Add", "AveragePool", "Cast", "Clip", "Concat", "Conv", "ConvTranspose", "DequantizeLinear", "Div", "Exp"),
        *("Floor", "Gather", "Gelu", "Gemm", "HardSigmoid", "HardSwish", "Identity", "LayerNormalization", "LeakyRelu"),
        *("MatMul", "Max", "MaxPool", "Min", "Mul", "Pad", "QuantizeLinear", "ReduceMax", "ReduceMean", "ReduceSum"),
        *("Relu", "Reshape", "Resize", "Sigmoid", "Slice", "Softmax", "Sqrt", "Sub", "Sum", "Tanh", "Transpose"),
        *("Equal", "Unsqueeze"),
    }
)
ATTENTION_SINCE = (10, 14)  # release notes of onnx-tensorrt 10.14 GA: "Added support for the Attention operator"
QUANTIZED_TYPES = (TensorProto.INT8, TensorProto.FLOAT8E4M3FN)
# The oldest GPUs with arithmetic in these types.
COMPUTE_CAPABILITY = {TensorProto.BFLOAT16: (8, 0), TensorProto.FLOAT8E4M3FN: (8, 9)}


def to_tensorrt(
    onnx_model: Path,
    path: Path,
    tf32: bool = True,
    timing_cache: Path | None = None,
    workspace: int = 1 << 30,
    tell: Callable[[str], None] = lambda line: None,
) -> Path:
    """Builds the engine of `onnx_model` for this machine's GPU. That takes minutes; with a timing cache less.

    Args:
        tf32: multiply float32 with a mantissa of 10 bits, where the GPU can.
        timing_cache: folder of what earlier builds found out about the speed of kernels, one file per device.
        workspace: bytes of GPU memory that a kernel may use beside its input and output.
        tell: is handed a line as the build goes on.

    Raises:
        RealMNetError: no TensorRT here, a model that breaks its rules, or a type this GPU does not compute in.
    """
    onnx_model, path = Path(onnx_model), Path(path)
    model = onnx.load(onnx_model)
    trt = import_tensorrt()
    _check_readable(model, trt, onnx_model)
    device = TensorRTRuntime.this_device()
    _check_types(model, device, onnx_model)

    builder = trt.Builder(trt.Logger(trt.Logger.WARNING))
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, builder.logger)
    if not parser.parse(model.SerializeToString()):
        errors = "; ".join(parser.get_error(k).desc() for k in range(parser.num_errors))
        raise RealMNetError(f"{onnx_model}: TensorRT cannot read it: {errors}")
    config = builder.create_builder_config()
    config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, workspace)
    if not tf32:
        config.clear_flag(trt.BuilderFlag.TF32)  # set by default
    cache = timing_cache and Path(timing_cache) / f"{_file_name(device)}.timing"
    if cache:
        known = cache.read_bytes() if cache.is_file() else b""
        timings = config.create_timing_cache(known) or config.create_timing_cache(b"")  # it may be damaged
        config.set_timing_cache(timings, ignore_mismatch=False)
    monitor = _progress_monitor(trt, tell)  # it must outlive the build
    config.progress_monitor = monitor
    tell("building the engine: the first time this takes minutes")
    began = time.monotonic()
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise RealMNetError(f"{onnx_model}: TensorRT could not build an engine; its log above says why")
    tell(f"built in {time.monotonic() - began:.0f} s")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(bytes(plan))
    if cache:
        cache.parent.mkdir(parents=True, exist_ok=True)
        part = cache.with_name(f".{cache.name}.{os.getpid()}")  # of this process alone: several may share the cache
        part.write_bytes(bytes(config.get_timing_cache().serialize()))
        part.replace(cache)
    return path


def _check_readable(model: onnx.ModelProto, trt: Any, path: Path) -> None:
    """Raises RealMNetError where this TensorRT does not read the model of `path`."""
    version = _version(trt)
    if version < ATTENTION_SINCE and any(node.op_type == "Attention" for node in model.graph.node):
        raise RealMNetError(
            f"{path}: TensorRT below 10.14 does not read Attention: write the model with opset 20. "
            f"Received: TensorRT {trt.__version__}"
        )
    broken = tensorrt_violations(model, version)
    if broken:
        raise RealMNetError(f"{path}: not for TensorRT: {'; '.join(broken)}")


def add_engine(
    bundle: Bundle,
    source: str,
    tf32: bool = True,
    timing_cache: Path | None = None,
    tell: Callable[[str], None] = lambda line: None,
) -> Bundle:
    """`bundle` after the engine of its ONNX artifact `source` was built and added as `tensorrt-…`.

    The engine is stamped with `TensorRTRuntime.this_device()`. Operations and parameters are those of `source`; its
    memory, on the GPU above all, is not measured.

    Raises:
        RealMNetError: as `to_tensorrt`, or `source` is no ONNX model.
        BundleMismatch: on the golden image the engine's probabilities differ from those of `source` by more than the
            tolerance of `source`; the bundle stays as it was.
    """
    made_from = bundle.artifact(source)
    if not made_from.file.endswith(".onnx"):
        raise RealMNetError(f"{made_from.file}: an ONNX artifact expected")
    name = "tensorrt-" + made_from.name.removeprefix("onnx-").removesuffix("-gpu")
    with tempfile.TemporaryDirectory() as folder:
        plan = to_tensorrt(bundle.model_file(source), Path(folder) / f"{name}.plan", tf32, timing_cache, tell=tell)
        image, golden = bundle.golden(made_from.name)
        found = TensorRTRuntime(plan, outputs=tuple(golden)).predict(image)
        for output, values in golden.items():
            if not bundle.task.outputs[output].probability:
                continue  # the golden check of the box looks at the others
            difference = float(np.abs(found[output] - values).max())
            if not difference <= made_from.tolerance:  # also refuses NaN
                raise BundleMismatch(
                    f"{plan.name}: {output} differ from those of {made_from.file} by {difference:.3g}, "
                    f"allowed {made_from.tolerance:.3g}"
                )
        costs = made_from.costs and replace(made_from.costs, peak_memory_mb=None, peak_memory_of=None)
        added = ArtifactSource(plan, made_from.precision, made_from.tolerance, "tensorrt", costs)
        return add_artifacts(bundle, {name: added})


def _version(trt: Any) -> tuple[int, int]:
    major, minor, *_ = trt.__version__.split(".")
    return int(major), int(minor)


def _progress_monitor(trt: Any, tell: Callable[[str], None]) -> Any:
    """Tells each step of the outermost phases of a build."""

    class Monitor(trt.IProgressMonitor):
        def __init__(self):
            trt.IProgressMonitor.__init__(self)
            self._steps: dict[str, int] = {}

        def phase_start(self, phase_name, parent_phase, num_steps):
            if parent_phase is None:
                self._steps[phase_name] = num_steps

        def step_complete(self, phase_name, step):
            if phase_name in self._steps:
                tell(f"{phase_name}: {step + 1} of {self._steps[phase_name]}")
            return True  # False would cancel the build

        def phase_finish(self, phase_name):
            self._steps.pop(phase_name, None)

    return Monitor()


def tensorrt_violations(model: onnx.ModelProto, version: tuple[int, int] = (10, 0)) -> list[str]:
    """One line per rule of TensorRT's that `model` breaks; empty where it breaks none. `version`: TensorRT's.

    Operations its parser reads; shapes without open batch; Q and DQ with constant scales and zero points of 0, one
    scale per activation, one per output channel of a kernel, of int8 or float8; each Q read by DQ alone, and both
    factors of a product quantized or none. Source: TensorRT documentation, "Working with Quantized Types".
    """
    graph, broken = model.graph, []
    constants = {constant.name: constant for constant in graph.initializer}
    makers = {output: node for node in graph.node for output in node.output}
    readers: dict[str, list] = {}
    for node in graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)
        attention = node.op_type == "Attention" and version >= ATTENTION_SINCE
        if node.domain or not (node.op_type in OPERATORS or attention):
            broken.append(f"{node.name}: the operation {node.op_type} is not one TensorRT reads")
    for value in graph.input:
        if any(not side.dim_value for side in value.type.tensor_type.shape.dim):
            broken.append(f"{value.name}: a fixed shape expected")

    for node in graph.node:
        if node.op_type in ("QuantizeLinear", "DequantizeLinear"):
            broken += _quantization_violations(node, constants, readers)
        if node.op_type in ("Gemm", "MatMul", "Conv"):
            quantized = {makers[x].op_type == "DequantizeLinear" if x in makers else False for x in node.input[:2]}
            if len(quantized) > 1:
                broken.append(f"{node.name}: one of its factors is quantized, the other is not")
    return broken


def _quantization_violations(node, constants, readers):
    if any(name not in constants for name in node.input[1:3]) or len(node.input) < 3:
        return [f"{node.name}: scale and zero point must be constants"]
    scale, zero_point = (constants[name] for name in node.input[1:3])
    read_by, broken = readers.get(node.output[0], ()), []
    if zero_point.data_type not in QUANTIZED_TYPES:
        broken.append(f"{node.name}: int8 or float8 expected, not {TensorProto.DataType.Name(zero_point.data_type)}")
    if np.any(numpy_helper.to_array(zero_point).astype("float32")):
        broken.append(f"{node.name}: the zero point must be 0")
    if not (numpy_helper.to_array(scale).astype("float32") > 0).all():
        broken.append(f"{node.name}: scales must be positive")
    kernel = constants.get(node.input[0])
    if kernel is None and scale.dims:
        broken.append(f"{node.name}: an activation has one scale")
    if kernel is not None and scale.dims:
        (axis,) = [a.i for a in node.attribute if a.name == "axis"] or [1]
        transposed = any(a.name == "transB" and a.i for reader in read_by for a in reader.attribute)
        first = transposed or any(reader.op_type == "Conv" for reader in read_by)  # of its axes
        if axis != (0 if first else 1) or list(scale.dims) != [kernel.dims[axis]]:
            broken.append(f"{node.name}: a kernel has one scale per output channel")
    if node.op_type == "QuantizeLinear" and {reader.op_type for reader in read_by} != {"DequantizeLinear"}:
        broken.append(f"{node.name}: only DequantizeLinear may read what is quantized")
    return broken


def _check_types(model, device, path):
    available = tuple(int(number) for number in device["compute capability"].split("."))
    for kind in {constant.data_type for constant in model.graph.initializer}:
        needed = COMPUTE_CAPABILITY.get(kind, (0, 0))
        if available < needed:
            raise RealMNetError(
                f"{path}: {TensorProto.DataType.Name(kind)} needs compute capability {'.'.join(map(str, needed))}. "
                f"This is {device['GPU']}, {device['compute capability']}"
            )


def _file_name(device):
    return re.sub(r"[^A-Za-z0-9.]+", "-", "-".join(device.values()))
