"""Stand-ins for NVIDIA's packages `tensorrt` and `cuda.bindings.runtime`: no GPU is at hand.

They have the calls that our code makes, with the documented names, arguments and results, and refuse what the vendor's
refuse: TensorRT 11 has no weakly typed flags, a graph that is being recorded cannot be synchronized, addresses must be
ones that were allocated. An "engine" is the ONNX model; running it runs ONNX Runtime on the memory at the addresses.
"""

import ctypes
import enum
import types

import numpy as np
import onnx
import onnxruntime


class DataType(enum.Enum):
    FLOAT = 0
    HALF = 1


class TensorIOMode(enum.Enum):
    NONE = 0
    INPUT = 1
    OUTPUT = 2


class MemoryPoolType(enum.Enum):
    WORKSPACE = 0


class NetworkDefinitionCreationFlag(enum.IntEnum):
    EXPLICIT_BATCH = 0
    STRONGLY_TYPED = 1


class HostMemory(bytes):
    """What TensorRT calls IHostMemory: has the buffer protocol."""


class Logger:
    ERROR, WARNING = 1, 2

    def __init__(self, min_severity=2):
        self.min_severity = min_severity


class ParserError:
    def __init__(self, text):
        self._text = text

    def desc(self):
        return self._text


class TimingCache:
    def __init__(self, content):
        self.content = content

    def serialize(self):
        return HostMemory(self.content)


class IProgressMonitor:
    """What a subclass hears of is what TensorRT calls its methods with; its constructor must be called."""

    def __init__(self):
        self.constructed = True


class BuilderConfig:
    progress_monitor = None

    def __init__(self, flags):
        self._flags, self._cache, self.cleared, self.pools = flags, None, set(), {}

    def set_memory_pool_limit(self, pool, pool_size):
        self.pools[MemoryPoolType(pool)] = int(pool_size)

    def clear_flag(self, flag):
        self.cleared.add(self._flags(flag))

    def create_timing_cache(self, serialized_timing_cache):
        damaged = bytes(serialized_timing_cache).strip(b"timed") != b""
        return None if damaged else TimingCache(bytes(serialized_timing_cache))

    def set_timing_cache(self, cache, ignore_mismatch):
        self._cache = cache
        return True

    def get_timing_cache(self):
        return self._cache


class Network:
    def __init__(self, flags):
        self.flags, self.content = flags, None


class OnnxParser:
    def __init__(self, network, logger):
        self._network, self._errors = network, []

    def parse(self, model):
        try:
            onnx.checker.check_model(onnx.load_from_string(model), full_check=True)
        except Exception as error:
            self._errors.append(ParserError(str(error)))
            return False
        self._network.content = model
        return True

    @property
    def num_errors(self):
        return len(self._errors)

    def get_error(self, index):
        return self._errors[index]


def tensorrt(version, memory, builds):
    """The module `tensorrt`. `builds` receives (network, config) of each engine that is built."""
    major = int(version.split(".")[0])
    weak = {} if major >= 11 else {"FP16": 0, "INT8": 1, "BF16": 17, "FP8": 15}
    flags = enum.Enum("BuilderFlag", {"TF32": 6, **weak})

    class Builder:
        def __init__(self, logger):
            self.logger = logger

        def create_network(self, flags=0):
            assert isinstance(flags, int)
            if not flags & 1 << NetworkDefinitionCreationFlag.STRONGLY_TYPED and major < 11:
                raise AssertionError("a weakly typed network computes in other types than its ONNX model")
            return Network(flags)

        def create_builder_config(self):
            return BuilderConfig(flags)

        def build_serialized_network(self, network, config):
            builds.append((network, config))
            monitor = config.progress_monitor
            if monitor is not None:
                assert monitor.constructed
                monitor.phase_start("Building engine", None, 3)
                monitor.phase_start("Tactic selection", "Building engine", 2)
                for step in range(2):
                    assert monitor.step_complete("Tactic selection", step) is True
                monitor.phase_finish("Tactic selection")
                for step in range(3):
                    assert monitor.step_complete("Building engine", step) is True  # False would cancel the build
                monitor.phase_finish("Building engine")
            if config.get_timing_cache():
                config.get_timing_cache().content += b"timed"
            return HostMemory(b"PLAN" + version.encode() + b"\0" + network.content)

    class Context:
        def __init__(self, engine):
            self._engine, self._addresses = engine, {}

        def set_tensor_address(self, name, memory_address):
            assert isinstance(memory_address, int)
            self._addresses[name] = memory_address
            return name in self._engine.tensors

        def execute_async_v3(self, stream_handle):
            assert isinstance(stream_handle, int)
            return memory.enqueue(stream_handle, self._execute)

        def _execute(self):
            views = {
                name: memory.device_array(self._addresses[name], shape)
                for name, (_, shape) in self._engine.tensors.items()
            }
            names = [n for n, (mode, _) in self._engine.tensors.items() if mode == TensorIOMode.OUTPUT]
            inputs = {n: views[n] for n, (mode, _) in self._engine.tensors.items() if mode == TensorIOMode.INPUT}
            for name, value in zip(names, self._engine.session.run(names, inputs), strict=True):
                views[name][...] = value

    class Engine:
        def __init__(self, content):
            self.session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
            self.tensors = {
                **{i.name: (TensorIOMode.INPUT, tuple(i.shape)) for i in self.session.get_inputs()},
                **{o.name: (TensorIOMode.OUTPUT, tuple(o.shape)) for o in self.session.get_outputs()},
            }

        num_io_tensors = property(lambda self: len(self.tensors))

        def get_tensor_name(self, index):
            return list(self.tensors)[index]

        def get_tensor_mode(self, name):
            return self.tensors[name][0]

        def get_tensor_shape(self, name):
            return self.tensors[name][1]

        def get_tensor_dtype(self, name):
            return DataType.FLOAT

        def create_execution_context(self):
            return Context(self)

    class Runtime:
        def __init__(self, logger):
            pass

        def deserialize_cuda_engine(self, serialized_engine):
            head, _, content = serialized_engine.partition(b"\0")
            return Engine(content) if head == b"PLAN" + version.encode() else None

    module = types.ModuleType("tensorrt")
    module.__version__ = version
    for thing in (Builder, Runtime, OnnxParser, IProgressMonitor, Logger, DataType, TensorIOMode, MemoryPoolType):
        setattr(module, thing.__name__, thing)
    module.NetworkDefinitionCreationFlag = NetworkDefinitionCreationFlag
    module.BuilderFlag = flags
    return module


class Memory:
    """The GPU's memory, streams and graphs, behind the calls of `cuda.bindings.runtime`."""

    def __init__(
        self, name=b"Orin\0\0", capability=(8, 7), multiprocessors=8, memory=int(15.3 * 2**30), refused=None, room=None
    ):
        """`refused`: the call that gives an error, once recording has begun. `room`: allocations that the GPU has."""
        self.name, self.capability, self.multiprocessors, self.total = name, capability, multiprocessors, memory
        self.refused, self.room = refused, room
        self.device, self.host, self.recording, self.pending = {}, {}, None, []
        self.launches, self.streams, self.graphs, self.executables, self.last_error = 0, set(), set(), set(), 0

    def device_array(self, address, shape):
        return np.ctypeslib.as_array(self.device[address]).view(np.float32).reshape(shape)

    def enqueue(self, stream, work):
        if self.recording is not None and self.refused == "execute_async_v3":
            return False
        (self.recording if self.recording is not None else self.pending).append(work)
        return True

    def module(self):
        class Error(enum.IntEnum):
            cudaSuccess = 0  # noqa: N815
            cudaErrorInvalidValue = 1  # noqa: N815
            cudaErrorMemoryAllocation = 2  # noqa: N815
            cudaErrorStreamCaptureUnsupported = 900  # noqa: N815

        good = (Error.cudaSuccess,)
        runtime = types.ModuleType("cuda.bindings.runtime")

        def refused(call):
            """A status other than success stays until it is asked for; a recording it happens in is void."""
            if self.refused != call:
                return None
            self.last_error = Error.cudaErrorStreamCaptureUnsupported
            return (self.last_error, None)

        def allocate(where, size):
            if where is self.device and self.room is not None and len(where) >= self.room:
                return (Error.cudaErrorMemoryAllocation, 0)
            buffer = (ctypes.c_byte * size)()
            where[ctypes.addressof(buffer)] = buffer
            return (*good, ctypes.addressof(buffer))

        def free(where, pointer):
            return good if where.pop(int(pointer), None) is not None else (Error.cudaErrorInvalidValue,)

        def copy(target, source, count, kind, stream):
            to, of = (self.device, self.host) if "HostToDevice" in kind else (self.host, self.device)
            if target not in to or source not in of:
                return (Error.cudaErrorInvalidValue,)
            self.enqueue(stream, lambda: ctypes.memmove(target, source, count))
            return good

        def synchronize(stream):
            if self.recording is not None:
                return (Error.cudaErrorStreamCaptureUnsupported,)
            while self.pending:
                self.pending.pop(0)()
            return good

        def begin(stream, mode):
            if error := refused("cudaStreamBeginCapture"):
                return error[:1]
            self.recording = []
            return good

        def new(kind, content):
            """A handle of `kind`, which its owner must destroy."""
            handle = types.SimpleNamespace(content=content)
            kind.add(id(handle))
            handle.kind = kind
            return (*good, handle)

        def destroy(handle):
            handle.kind.remove(id(handle))
            return good

        def end(stream):
            graph, self.recording = self.recording, None
            return refused("cudaStreamEndCapture") or new(self.graphs, graph)

        def instantiate(graph, flags):
            return refused("cudaGraphInstantiate") or new(self.executables, graph.content)

        def launch(executable, stream):
            self.launches += 1
            self.pending.extend(executable.content)
            return good

        def create_stream(flags):
            self.streams.add(7)
            return (*good, 7)

        def destroy_stream(stream):
            self.streams.remove(stream)
            return good

        def last_error():
            error, self.last_error = self.last_error, 0
            return (Error(error),)

        properties = types.SimpleNamespace(
            name=self.name,
            major=self.capability[0],
            minor=self.capability[1],
            multiProcessorCount=self.multiprocessors,
            totalGlobalMem=self.total,
        )
        kinds = {f"cudaMemcpy{kind}": kind for kind in ("HostToDevice", "DeviceToHost")}
        runtime.cudaStreamNonBlocking = 1
        runtime.cudaMemcpyKind = types.SimpleNamespace(**kinds)
        runtime.cudaStreamCaptureMode = types.SimpleNamespace(cudaStreamCaptureModeThreadLocal=1)
        runtime.cudaGetDeviceProperties = lambda device: (*good, properties)
        runtime.cudaMalloc = lambda size: allocate(self.device, size)
        runtime.cudaMallocHost = lambda size: allocate(self.host, size)
        runtime.cudaFree = lambda pointer: free(self.device, pointer)
        runtime.cudaFreeHost = lambda pointer: free(self.host, pointer)
        runtime.cudaMemcpyAsync = copy
        runtime.cudaGetLastError = last_error
        runtime.cudaStreamCreateWithFlags = create_stream
        runtime.cudaStreamDestroy = destroy_stream
        runtime.cudaStreamSynchronize = synchronize
        runtime.cudaStreamBeginCapture = begin
        runtime.cudaStreamEndCapture = end
        runtime.cudaGraphInstantiate = instantiate
        runtime.cudaGraphDestroy = destroy
        runtime.cudaGraphExecDestroy = destroy
        runtime.cudaGraphLaunch = launch
        return runtime
