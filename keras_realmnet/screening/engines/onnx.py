"""ONNX models (.onnx): ONNX Runtime on the processor or an NVIDIA GPU, OpenVINO on x86."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from keras_realmnet.errors import RealMNetError
from keras_realmnet.screening.engines.base import EngineRuntime

__all__ = ["CudaOnnxRuntime", "OnnxRuntime", "OpenVINORuntime", "TensorRTOnnxRuntime"]


class OnnxRuntime(EngineRuntime):
    """ONNX Runtime on the processor."""

    SUFFIX = ".onnx"
    PROVIDERS: tuple[str, ...] = ("CPUExecutionProvider",)  # preferred first

    def _open(self, model: Path | bytes, threads: int) -> None:
        try:
            import onnxruntime
        except ImportError as error:
            raise self._missing("onnxruntime", "pip install onnxruntime", error) from error
        lacking = set(self.PROVIDERS) - set(onnxruntime.get_available_providers())
        if lacking:
            raise RealMNetError(
                f"{self._name}: this needs an ONNX Runtime with {' and '.join(sorted(lacking))}; "
                f"{onnxruntime.__version__} is installed and has {', '.join(onnxruntime.get_available_providers())}"
            )
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 3  # errors; warnings tell of optimizations left out
        content = str(model) if isinstance(model, Path) else model
        try:
            self._session = onnxruntime.InferenceSession(content, options, providers=list(self.PROVIDERS))
        except Exception as error:  # its exceptions share no base class
            raise self._cannot_open(error) from error
        types = {"tensor(float)": "float32"}
        inputs = self._session.get_inputs()
        self._check_signature(
            [(i.name, types.get(i.type, i.type)) for i in inputs], [o.name for o in self._session.get_outputs()]
        )
        self.input_shape = tuple(n if isinstance(n, int) else None for n in inputs[0].shape)

    def _run(self, images: np.ndarray) -> Sequence[np.ndarray]:
        outputs: list[np.ndarray] = self._session.run(list(self.outputs), {self.input_name: images})
        return outputs


class CudaOnnxRuntime(OnnxRuntime):
    """ONNX Runtime on an NVIDIA GPU."""

    PROVIDERS = ("CUDAExecutionProvider", "CPUExecutionProvider")


class TensorRTOnnxRuntime(OnnxRuntime):
    """ONNX Runtime with TensorRT inside, which builds its engine whenever the model is opened: that takes minutes."""

    PROVIDERS = ("TensorrtExecutionProvider", "CUDAExecutionProvider", "CPUExecutionProvider")


class OpenVINORuntime(EngineRuntime):
    """OpenVINO on the processor. Floats stay float32: by default it computes in bfloat16 where the CPU can."""

    SUFFIX = ".onnx"

    def _open(self, model: Path | bytes, threads: int) -> None:
        try:
            import openvino
        except ImportError as error:
            raise self._missing("openvino", "pip install openvino", error) from error
        options: dict[str, Any] = {
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_PRECISION_HINT": "f32",
            "INFERENCE_NUM_THREADS": threads,
        }
        core = openvino.Core()
        try:
            read = core.read_model(str(model)) if isinstance(model, Path) else core.read_model(model, b"")
            compiled = core.compile_model(read, "CPU", options)
        except RuntimeError as error:
            raise self._cannot_open(error) from error
        types = {"f32": "float32"}
        self._check_signature(
            [(i.node.friendly_name, types.get(i.element_type.get_type_name(), "other")) for i in compiled.inputs],
            [name for output in compiled.outputs for name in output.names],  # a tensor may have several
        )
        shape = compiled.inputs[0].partial_shape
        self.input_shape = tuple(n.get_length() if n.is_static else None for n in shape)
        self._request = compiled.create_infer_request()

    def _run(self, images: np.ndarray) -> Sequence[np.ndarray]:
        self._request.infer([images], share_inputs=True)
        return [self._request.get_tensor(name).data for name in self.outputs]
