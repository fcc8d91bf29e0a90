"""The model files a bundle may hold, by name, and how each is made."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from export.conversion.quantize_litert import LITERT_ARTIFACTS
from export.conversion.quantize_onnx import to_onnx_int8, to_onnx_int8_dynamic
from export.conversion.to_litert import to_litert
from export.conversion.to_onnx import PORTABLE_OPSET, to_onnx
from keras_realmnet import RealMNet
from keras_realmnet.errors import RealMNetError
from keras_realmnet.screening.bundle.writing import ArtifactSource
from keras_realmnet.screening.engines.registry import engine_class

__all__ = ["ARTIFACTS", "DEFAULT_ARTIFACTS", "ArtifactMaker", "kind_of", "needs_calibration"]

DEFAULT_ARTIFACTS = ("float32", "float16", "int8")
GOLDEN_TOLERANCE = {"float32": 1e-3, "float16": 5e-3, "int8": 2e-2}  # other processors sum in another order


@dataclass(frozen=True)
class Kind:
    """What an artifact is: who opens it, its precision, what it is made of and by which function.

    precision: as `export.contract.parity.limits_of` knows it; "int8_static" is made with calibration images.
    source: the artifact it is made from; `None` for the Keras model.
    make: (source, path, calibration images) → path.
    """

    engine: str
    precision: str
    source: str | None
    make: Callable[..., Path]


def _gpu_float(precision):
    return lambda model, path, _: to_onnx(model, path, opset=PORTABLE_OPSET[precision], precision=precision)


# "-gpu": what `export.conversion.to_tensorrt` builds from; ONNX Runtime opens them on any processor, for verification.
ARTIFACTS = {
    "float32": Kind("litert", "float32", None, lambda model, path, _: to_litert(model, path)),
    **{name: Kind("litert", name, "float32", make) for name, make in LITERT_ARTIFACTS.items()},
    "onnx-float32": Kind("onnxruntime", "float32", None, lambda model, path, _: to_onnx(model, path)),
    "onnx-int8": Kind("onnxruntime", "int8_static", "onnx-float32-gpu", to_onnx_int8),  # an opset that boards read
    "onnx-int8-dynamic": Kind("onnxruntime", "int8", "onnx-float32", to_onnx_int8_dynamic),
    "onnx-float32-gpu": Kind("onnxruntime", "float32", None, _gpu_float("float32")),
    "onnx-float16-gpu": Kind("onnxruntime", "float16", None, _gpu_float("float16")),
    "onnx-int8-gpu": Kind(
        "onnxruntime",
        "int8_static",
        "onnx-float16-gpu",
        lambda model, path, images: to_onnx_int8(model, path, images, target="tensorrt"),
    ),
}


class ArtifactMaker:
    """Makes artifacts of one network in a folder, each once.

    Args:
        calibration: uint8 (n, size, size, 3), training images; `None` where no artifact needs them.
    """

    def __init__(self, model: RealMNet, folder: Path, calibration: NDArray[np.uint8] | None):
        self._model, self._folder, self._calibration = model, folder, calibration
        self._made: dict[str, Path] = {}

    def make(self, name: str) -> ArtifactSource:
        """The artifact called `name`. Raises RealMNetError for an unknown one."""
        kind = kind_of(name)
        tolerance = GOLDEN_TOLERANCE[kind.precision.split("_")[0]]
        return ArtifactSource(self._file(name, kind), kind.precision, tolerance, kind.engine)

    def _file(self, name, kind):
        if name not in self._made:
            source = self._model if kind.source is None else self._file(kind.source, kind_of(kind.source))
            path = self._folder / f"{name}{engine_class(kind.engine).SUFFIX}"
            self._made[name] = kind.make(source, path, self._calibration if kind.precision == "int8_static" else None)
        return self._made[name]


def needs_calibration(name: str) -> bool:
    """Whether the artifact called `name` is made with images. Raises RealMNetError for an unknown one."""
    kind = kind_of(name)
    return kind.precision == "int8_static" or (kind.source is not None and needs_calibration(kind.source))


def kind_of(name: str) -> Kind:
    """What the artifact called `name` is. Raises RealMNetError for an unknown one."""
    if name not in ARTIFACTS:
        raise RealMNetError(f"an artifact must be one of {', '.join(ARTIFACTS)}. Received: {name!r}")
    return ARTIFACTS[name]
