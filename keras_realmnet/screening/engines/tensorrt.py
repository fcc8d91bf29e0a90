"""TensorRT engines (.plan) on an NVIDIA GPU: pinned buffers, a stream, the whole inference as one CUDA graph.

Where a graph cannot be recorded the same calls are made anew for each inference.

Written for TensorRT 10 and 11 and cuda-python 12 and 13; not yet run on hardware.
"""

from __future__ import annotations

import ctypes
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from keras_realmnet.errors import BundleMismatch, RealMNetError
from keras_realmnet.screening.engines.base import EngineRuntime

__all__ = ["TensorRTRuntime", "import_tensorrt"]

INSTALL = "comes with JetPack, or pip install tensorrt; see docs/jetson.md"


class TensorRTRuntime(EngineRuntime):
    """An engine for a fixed batch, whose inputs and outputs lie in host memory that the GPU reads and writes itself.

    The copy to the GPU, the network and the copies back are recorded once as a CUDA graph; `predict` launches it. Some
    engines cannot be recorded (a layer that waits for the host): `predict` then makes the calls themselves. `threads`
    does not matter here.
    """

    SUFFIX = ".plan"

    @staticmethod
    def this_device() -> dict[str, str]:
        """What must be the same where an engine runs: GPU, compute capability, multiprocessors, memory, TensorRT.

        All Orins are called "Orin", 8.7; they differ in multiprocessors and memory, of which systems leave a GPU a
        little more or less: it is told as the next power of two.
        """
        tensorrt, cuda = import_tensorrt(), _cuda_runtime()
        properties = _check(cuda.cudaGetDeviceProperties(0))
        return {
            "GPU": properties.name.decode().rstrip("\0"),
            "compute capability": f"{properties.major}.{properties.minor}",
            "multiprocessors": str(properties.multiProcessorCount),
            "memory, at most": f"{2 ** math.ceil(math.log2(properties.totalGlobalMem / 2**30))} GiB",
            "TensorRT": tensorrt.__version__,
        }

    def _open(self, model: Path | bytes, threads: int) -> None:
        self._cuda = _cuda_runtime()
        self._stream: Any = None
        self._executable: Any = None  # the recorded graph
        self._host: dict[str, np.ndarray] = {}
        self._device: dict[str, int] = {}
        try:
            self._open_on_gpu(model)
        except BaseException:
            self._release()
            raise

    def _open_on_gpu(self, model: Path | bytes) -> None:
        tensorrt = import_tensorrt()
        self._logger = tensorrt.Logger(tensorrt.Logger.ERROR)
        self._tensorrt_runtime = tensorrt.Runtime(self._logger)
        content = model.read_bytes() if isinstance(model, Path) else model
        self._engine = self._tensorrt_runtime.deserialize_cuda_engine(content)
        if self._engine is None:
            raise self._cannot_open("TensorRT refused it: made by another version or for another GPU")
        self._context = self._engine.create_execution_context()
        if self._context is None:
            raise RealMNetError(f"{self._name}: TensorRT found no memory on the GPU to run it in")

        names = [self._engine.get_tensor_name(k) for k in range(self._engine.num_io_tensors)]
        floats = [name for name in names if self._engine.get_tensor_dtype(name) == tensorrt.DataType.FLOAT]
        inputs, self._outputs = (
            [name for name in names if self._engine.get_tensor_mode(name) == mode]
            for mode in (tensorrt.TensorIOMode.INPUT, tensorrt.TensorIOMode.OUTPUT)
        )
        self._check_signature(
            [(name, "float32" if name in floats else "other") for name in inputs],
            [name for name in self._outputs if name in floats],
        )
        shape = tuple(int(n) for n in self._engine.get_tensor_shape(self.input_name))
        if min(shape) < 0:
            raise BundleMismatch(f"{self._name}: an engine for a fixed batch expected. Received: {shape}")
        self.input_shape = shape

        self._stream = _check(self._cuda.cudaStreamCreateWithFlags(self._cuda.cudaStreamNonBlocking))
        for name in names:
            self._allocate(name, tuple(int(n) for n in self._engine.get_tensor_shape(name)))
        self._enqueue()  # TensorRT sets up what it needs in the first call, which a graph must not contain
        _check(self._cuda.cudaStreamSynchronize(self._stream))
        self._executable = self._record()

    def _allocate(self, name: str, shape: tuple[int, ...]) -> None:
        """A pinned float32 array on the host and as much memory on the GPU for the tensor `name`."""
        count = int(np.prod(shape)) * np.dtype(np.float32).itemsize
        pointer = _check(self._cuda.cudaMallocHost(count))
        memory = (ctypes.c_byte * count).from_address(int(pointer))
        self._host[name] = np.ctypeslib.as_array(memory).view(np.float32).reshape(shape)
        self._device[name] = int(_check(self._cuda.cudaMalloc(count)))
        if not self._context.set_tensor_address(name, self._device[name]):
            raise self._cannot_open(f"no address for the tensor {name!r}")

    def _record(self) -> Any:
        """The CUDA graph of one inference, ready to launch; `None` where it cannot be recorded."""
        cuda, graph = self._cuda, None
        try:
            mode = cuda.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal
            _check(cuda.cudaStreamBeginCapture(self._stream, mode))
            try:
                self._enqueue()
            finally:  # a stream that is left recording runs nothing any more
                status, graph = cuda.cudaStreamEndCapture(self._stream)
            _check((status,))
            return _check(cuda.cudaGraphInstantiate(graph, 0))
        except RealMNetError:
            cuda.cudaGetLastError()  # or the next call is blamed for it
            return None
        finally:
            if graph:
                cuda.cudaGraphDestroy(graph)

    def _enqueue(self) -> None:
        def copy(target: int, source: int, count: int, kind: str) -> None:
            _check(
                self._cuda.cudaMemcpyAsync(
                    target, source, count, getattr(self._cuda.cudaMemcpyKind, f"cudaMemcpy{kind}"), self._stream
                )
            )

        host, device = self._host, self._device
        name = self.input_name
        copy(device[name], host[name].ctypes.data, host[name].nbytes, "HostToDevice")
        if not self._context.execute_async_v3(int(self._stream)):
            raise RealMNetError(f"{self._name}: TensorRT could not run the engine")
        for name in self._outputs:
            copy(host[name].ctypes.data, device[name], host[name].nbytes, "DeviceToHost")

    def _run(self, images: np.ndarray) -> Sequence[np.ndarray]:
        self._host[self.input_name][...] = images
        if self._executable is None:
            self._enqueue()
        else:
            _check(self._cuda.cudaGraphLaunch(self._executable, self._stream))
        _check(self._cuda.cudaStreamSynchronize(self._stream))
        return [self._host[name] for name in self.outputs]

    def _release(self) -> None:
        """Gives back what was taken on the GPU and in pinned memory, however far opening it came."""
        if self._executable is not None:
            self._cuda.cudaGraphExecDestroy(self._executable)
        self._executable = None
        while self._device:
            self._cuda.cudaFree(self._device.popitem()[1])
        while self._host:
            self._cuda.cudaFreeHost(self._host.popitem()[1].ctypes.data)
        if self._stream is not None:
            self._cuda.cudaStreamDestroy(self._stream)
        self._stream = None

    def __del__(self) -> None:
        if "_stream" in self.__dict__:  # the packages were there
            self._release()


def import_tensorrt() -> Any:
    """The module `tensorrt`, 10 or newer.

    Raises:
        RealMNetError: it is missing or older.
    """
    try:
        import tensorrt
    except ImportError as error:
        raise RealMNetError(f"TensorRT engines need the package tensorrt ({INSTALL}): {error}") from error
    if int(tensorrt.__version__.split(".")[0]) < 10:
        raise RealMNetError(f"TensorRT 10 or newer is needed. Received: {tensorrt.__version__}")
    return tensorrt


def _cuda_runtime() -> Any:
    try:
        from cuda.bindings import runtime
    except ImportError as error:
        raise RealMNetError(
            f"TensorRT engines need the package cuda-python of JetPack's CUDA, 12.6 or newer ({INSTALL}): {error}"
        ) from error
    return runtime


def _check(result: tuple[Any, ...]) -> Any:
    """The value of a CUDA call, (status, value …). Raises RealMNetError where the status is an error."""
    status, *values = result
    if int(status) != 0:
        raise RealMNetError(f"CUDA: {status.name}")
    return values[0] if values else None
