"""Other ways to run the same network, for comparison: timm's TinyViT in PyTorch, ONNX Runtime and OpenVINO.

Weights are random: they do not change the time. keras_cv_attention_models (1.4.3) is not among them: its TinyViT does
not build with Keras 3.15.

    python -m export.peers NETWORK SIZE FILE    writes timm's network as ONNX, in a process of its own
"""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from keras_realmnet.errors import RealMNetError

__all__ = ["PEERS", "REFERENCE", "open_peer", "timm_name"]

CLASSES = 7
REFERENCE = "timm-onnxruntime"  # what ratios are taken to

Predict = Callable[[np.ndarray], Any]  # uint8 (1, size, size, 3)


def timm_name(network: str, size: int) -> str:
    """timm's name of TinyViT `network` ("5m", "11m", "21m") at `size` pixels: its windows follow the size."""
    return f"tiny_vit_{network}_{size if (network, size) in (('21m', 384), ('21m', 512)) else 224}"


def open_peer(name: str, network: str, size: int, threads: int, onnx_file: Path) -> Predict:
    """Opens one of `PEERS` on `threads` cores.

    Args:
        onnx_file: timm's network, as this module's command writes it.

    Raises:
        RealMNetError: an unknown name, or its package is missing; says which and how to get it.
    """
    if name not in PEERS:
        raise RealMNetError(f"a peer must be one of {', '.join(PEERS)}. Received: {name!r}")
    try:
        return PEERS[name](network, size, threads, onnx_file)
    except ImportError as error:
        package = (error.name or str(error)).partition(".")[0]
        raise RealMNetError(f"{name}: needs the package {package} (pip install -r requirements-peers.txt)") from error


def _onnxruntime(network: str, size: int, threads: int, onnx_file: Path) -> Predict:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(str(onnx_file), options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return lambda images: session.run(None, {name: _channels_first(images)})


def _openvino(network: str, size: int, threads: int, onnx_file: Path) -> Predict:
    import openvino

    options = {
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_PRECISION_HINT": "f32",  # by default it computes in bfloat16 where the processor can
        "INFERENCE_NUM_THREADS": threads,
    }
    model = openvino.Core().compile_model(str(onnx_file), "CPU", options)
    return lambda images: model(_channels_first(images))[0]


def _eager(network: str, size: int, threads: int, onnx_file: Path) -> Predict:
    import torch

    torch.set_num_threads(threads)
    model = _timm(network, size)

    def predict(images: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            return model(torch.from_numpy(_channels_first(images))).numpy()

    return predict


def _compiled(network: str, size: int, threads: int, onnx_file: Path) -> Predict:
    import torch

    torch.set_num_threads(threads)
    model = torch.compile(_timm(network, size))

    def predict(images: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            return model(torch.from_numpy(_channels_first(images))).numpy()

    return predict


PEERS: dict[str, Callable[[str, int, int, Path], Predict]] = {
    REFERENCE: _onnxruntime,
    "timm-openvino": _openvino,
    "timm-pytorch": _eager,
    "timm-pytorch-compiled": _compiled,
}


def _channels_first(images: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(images.transpose(0, 3, 1, 2), np.float32) / 255


def _timm(network: str, size: int) -> Any:
    _with_any_torchvision()
    import timm

    return timm.create_model(timm_name(network, size), pretrained=False, num_classes=CLASSES).eval()


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
