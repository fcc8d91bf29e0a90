"""Other ways to run the same network, for comparison: timm's TinyViT in PyTorch, ONNX Runtime and OpenVINO.

Their weights are random: they do not change the time. keras_cv_attention_models (1.4.3) is not among them: its TinyViT
does not build with Keras 3.15. Our own network also takes part with probabilities as its only output, which tells what
class maps and features cost.

    python -m export.speed.networks.peers NETWORK SIZE FILE    writes timm's network as ONNX, in a process of its own
"""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from keras_realmnet.errors import RealMNetError

__all__ = [
    "HALVED",
    "PEERS",
    "PROBABILITIES_ONLY",
    "REFERENCE",
    "keep_probabilities",
    "open_peer",
    "timm_name",
    "timm_windows",
]

CLASSES = 7
REFERENCE = "timm-onnxruntime"  # what ratios are taken to
HALVED = "_w"  # ends the name of a network with the windows of stage 2 halved
# Our network without class maps and features, and the engine whose float32 model it is cut from.
PROBABILITIES_ONLY = {"probabilities-only-litert": "litert", "probabilities-only-onnxruntime": "onnxruntime"}

Predict = Callable[[np.ndarray], Any]  # uint8 (1, size, size, 3)


def timm_name(network: str, size: int) -> str:
    """timm's name of TinyViT `network` ("5m", "11m" or "21m", with or without HALVED) at `size` pixels."""
    width = network.removesuffix(HALVED)
    return f"tiny_vit_{width}_{size if (width, size) in (('21m', 384), ('21m', 512)) else 224}"


def timm_windows(network: str, size: int) -> list[int]:
    """The windows of each stage, as ours has them: those of stage 2 are its whole map, or half of that."""
    side = size // 32
    return [side, side, side if network.endswith(HALVED) else 2 * side, side]


def open_peer(name: str, network: str, size: int, threads: int, file: Path) -> Predict:
    """Opens one of `PEERS` on `threads` cores.

    Args:
        file: timm's network, as this module's command writes it, or ours, as `keep_probabilities` does.

    Raises:
        RealMNetError: its package is missing; says which and how to get it.
    """
    try:
        return PEERS[name](network, size, threads, file)
    except ImportError as error:
        package = (error.name or str(error)).partition(".")[0]
        raise RealMNetError(f"{name}: needs the package {package} (pip install -r requirements-peers.txt)") from error


def _onnxruntime(network: str, size: int, threads: int, file: Path) -> Predict:
    session = _session(threads, file)
    name = session.get_inputs()[0].name
    return lambda images: session.run(None, {name: _channels_first(images)})


def _session(threads: int, file: Path) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    return onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])


def _openvino(network: str, size: int, threads: int, file: Path) -> Predict:
    import openvino

    options = {
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_PRECISION_HINT": "f32",  # by default it computes in bfloat16 where the processor can
        "INFERENCE_NUM_THREADS": threads,
    }
    model = openvino.Core().compile_model(str(file), "CPU", options)
    return lambda images: model(_channels_first(images))[0]


def _eager(network: str, size: int, threads: int, file: Path) -> Predict:
    import torch

    torch.set_num_threads(threads)
    model = _timm(network, size)

    def predict(images: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            return model(torch.from_numpy(_channels_first(images))).numpy()

    return predict


def _compiled(network: str, size: int, threads: int, file: Path) -> Predict:
    import torch

    torch.set_num_threads(threads)
    model = torch.compile(_timm(network, size))

    def predict(images: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            return model(torch.from_numpy(_channels_first(images))).numpy()

    return predict


def _probabilities_by_litert(network: str, size: int, threads: int, file: Path) -> Predict:
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(str(file), num_threads=threads)
    interpreter.allocate_tensors()
    runner = interpreter.get_signature_runner()
    return lambda images: runner(images=images.astype(np.float32))["probabilities"]


def _probabilities_by_onnxruntime(network: str, size: int, threads: int, file: Path) -> Predict:
    session = _session(threads, file)
    return lambda images: session.run(["probabilities"], {"images": images.astype(np.float32)})[0]


PEERS: dict[str, Callable[[str, int, int, Path], Predict]] = {
    REFERENCE: _onnxruntime,
    "timm-openvino": _openvino,
    "timm-pytorch": _eager,
    "timm-pytorch-compiled": _compiled,
    "probabilities-only-litert": _probabilities_by_litert,
    "probabilities-only-onnxruntime": _probabilities_by_onnxruntime,
}


def keep_probabilities(model: Path, path: Path) -> None:
    """Writes the .tflite or .onnx file `model` without its other outputs and what only they need."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(f".part{path.suffix}")
    {".tflite": _cut_litert, ".onnx": _cut_onnx}[model.suffix](str(model), str(temporary))
    temporary.replace(path)


def _cut_litert(model: str, path: str) -> None:
    from ai_edge_litert.tools.flatbuffer_utils import read_model, write_model

    content = read_model(model)
    (graph,), (signature,) = content.subgraphs, content.signatureDefs
    signature.outputs = [output for output in signature.outputs if output.name == b"probabilities"]
    graph.outputs = [output.tensorIndex for output in signature.outputs]
    needed, kept = set(graph.outputs), []
    for operation in reversed(graph.operators):
        if needed.intersection(operation.outputs):
            kept.append(operation)
            needed.update(operation.inputs)
    graph.operators = kept[::-1]
    write_model(content, path)


def _cut_onnx(model: str, path: str) -> None:
    import onnx

    onnx.utils.extract_model(model, path, ["images"], ["probabilities"])


def _channels_first(images: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(images.transpose(0, 3, 1, 2), np.float32) / 255


def _timm(network: str, size: int) -> Any:
    _with_any_torchvision()
    import timm
    import torch

    torch.manual_seed(0)
    windows = timm_windows(network, size)
    model = timm.create_model(timm_name(network, size), pretrained=False, num_classes=CLASSES, window_sizes=windows)
    for name, parameter in model.named_parameters():
        if name.endswith("attention_biases"):  # zero at first, and then one table for all blocks: as `preset_models`
            torch.nn.init.normal_(parameter, 0, 0.5)
    return model.eval()


def _with_any_torchvision() -> None:
    """Lets timm import torchvision where its compiled operators do not load: PyPI's are built for PyTorch with CUDA.

    TinyViT uses none of them, but torchvision declares the shapes of two on import and fails where they do not exist.
    """
    try:
        import torchvision  # noqa: F401
    except RuntimeError:
        import torch

        for name in ("nms", "qnms"):
            torch.library.define(f"torchvision::{name}", "(Tensor x) -> Tensor")
        for name in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
            del sys.modules[name]


def write_onnx(network: str, size: int, path: Path) -> None:
    """timm's network as PyTorch exports it, static shape, batch 1."""
    import torch

    model = _timm(network, size)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".part.onnx")
    images = torch.zeros(1, 3, size, size)
    with torch.no_grad():
        torch.onnx.export(model, (images,), str(temporary), dynamo=True, external_data=False, verbose=False)
    temporary.replace(path)


if __name__ == "__main__":
    write_onnx(sys.argv[1], int(sys.argv[2]), Path(sys.argv[3]))
