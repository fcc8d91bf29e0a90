"""The engines by their names. Each engine's package is imported on use."""

from keras_realmnet.errors import RealMNetError
from keras_realmnet.screening.engines.base import EngineRuntime
from keras_realmnet.screening.engines.litert import LiteRTRuntime
from keras_realmnet.screening.engines.onnx import CudaOnnxRuntime, OnnxRuntime, OpenVINORuntime, TensorRTOnnxRuntime
from keras_realmnet.screening.engines.tensorrt import TensorRTRuntime

__all__ = ["ENGINES", "engine_class"]

# By the name that bundle.json and `open_runtime` use. Several of them may open the same file.
ENGINES: dict[str, type[EngineRuntime]] = {
    "litert": LiteRTRuntime,
    "onnxruntime": OnnxRuntime,
    "onnxruntime-cuda": CudaOnnxRuntime,
    "onnxruntime-tensorrt": TensorRTOnnxRuntime,
    "openvino": OpenVINORuntime,
    "tensorrt": TensorRTRuntime,
}


def engine_class(name: str) -> type[EngineRuntime]:
    """The class behind an engine's name. Raises RealMNetError for an unknown one."""
    try:
        return ENGINES[name]
    except KeyError:
        raise RealMNetError(f"The engine must be one of {', '.join(ENGINES)}. Received: {name!r}") from None
