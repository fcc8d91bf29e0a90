"""The model files a bundle may hold, by name, and how each is made."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from export.conversion.body import CONVOLUTIONAL
from export.conversion.quantize_litert import LITERT_ARTIFACTS, allow_float16
from export.conversion.quantize_litert_convolutions import to_litert_int8_convolutional, to_litert_int8_masks
from export.conversion.quantize_onnx import to_onnx_int8, to_onnx_int8_dynamic
from export.conversion.quantize_onnx_convolutions import to_onnx_int8_convolutional
from export.conversion.to_litert import to_litert
from export.conversion.to_onnx import PORTABLE_OPSET, to_onnx
from keras_realmnet import compat
from keras_realmnet.errors import RealMNetError
from keras_realmnet.models.tiny_vit import WindowAttention
from keras_realmnet.screening.bundle.writing import ArtifactSource
from keras_realmnet.screening.engines.registry import engine_class

__all__ = [
    "ARTIFACTS",
    "CONVOLUTIONAL_ARTIFACTS",
    "DEFAULT_ARTIFACTS",
    "ArtifactMaker",
    "is_convolutional",
    "kind_of",
    "needs_calibration",
]

DEFAULT_ARTIFACTS = ("float32", "float16", "int8")
GOLDEN_TOLERANCE = {"float32": 1e-3, "float16": 5e-3, "int8": 2e-2}  # other processors sum in another order


@dataclass(frozen=True)
class Kind:
    """What an artifact is: who opens it, its precision, what it is made of and by which function.

    precision: as `export.contract.by_kind.kinds.precision_of` knows it; "int8_static" and `CONVOLUTIONAL`
        are made with calibration images.
    source: the artifact it is made from; `None` for the Keras model.
    make: (source, path, calibration images) → path; with what `deploy_graph` takes where the source is the Keras model.
    """

    engine: str
    precision: str
    source: str | None
    make: Callable[..., Path]

    @property
    def calibrated(self) -> bool:
        """Whether it is itself made with calibration images."""
        return self.precision.startswith("int8_static")


def _gpu_float(precision):
    return lambda model, path, _, **deployment: to_onnx(
        model, path, opset=PORTABLE_OPSET[precision], precision=precision, **deployment
    )


def _for_arm(source: str, precision: str) -> Kind:
    """The artifact `source`, computed in float16 where the processor can."""
    return Kind("litert", precision, source, lambda model, path, _: allow_float16(model, path))


# "-arm": other processors compute them as their sources. Whether they are faster has to be timed on a board.
ARM_ARTIFACTS = {"float16-arm": _for_arm("float16", "float16"), "int8-arm": _for_arm("int8", "int8")}

# "-gpu": what `export.conversion.to_tensorrt` builds from; ONNX Runtime opens them on any processor, for verification.
ARTIFACTS = {
    "float32": Kind("litert", "float32", None, lambda model, path, _, **given: to_litert(model, path, **given)),
    **{name: Kind("litert", name, "float32", make) for name, make in LITERT_ARTIFACTS.items()},
    **ARM_ARTIFACTS,
    "onnx-float32": Kind("onnxruntime", "float32", None, lambda model, path, _, **given: to_onnx(model, path, **given)),
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

# Those of a network without attention. "int8" is what a box runs by default: here static int8, since dynamic int8 does
# not reach depthwise convolutions, and would have to quantize each map anew before every other one. The other kinds of
# int8 are named after groups of a TinyViT's layers and do not exist.
CONVOLUTIONAL_ARTIFACTS = {
    **{name: ARTIFACTS[name] for name in ("float32", "float16", "float16-arm")},
    "int8": Kind("litert", CONVOLUTIONAL, "float32", to_litert_int8_convolutional),
    "int8-masks": Kind("litert", CONVOLUTIONAL, "float32", to_litert_int8_masks),
    **{name: ARTIFACTS[name] for name in ("onnx-float32", "onnx-float32-gpu", "onnx-float16-gpu")},
    "onnx-int8": Kind("onnxruntime", CONVOLUTIONAL, "onnx-float32-gpu", to_onnx_int8_convolutional),
    "onnx-int8-gpu": Kind(
        "onnxruntime",
        CONVOLUTIONAL,
        "onnx-float32-gpu",
        lambda model, path, images: to_onnx_int8_convolutional(model, path, images, target="tensorrt"),
    ),
}


class ArtifactMaker:
    """Makes artifacts of one network in a folder, each once.

    Args:
        calibration: uint8 (n, size, size, 3), training images; `None` where no artifact needs them.
        deployment: `outputs`, `activations`, `class_maps` and `features` of `keras_realmnet.deploy.graph.deploy_graph`.
    """

    def __init__(self, model: keras.Model, folder: Path, calibration: NDArray[np.uint8] | None, **deployment: Any):
        self._model, self._folder, self._calibration = model, folder, calibration
        self._deployment, self._convolutional = deployment, is_convolutional(model)
        self._made: dict[str, Path] = {}

    def make(self, name: str) -> ArtifactSource:
        """The artifact called `name`. Raises RealMNetError for an unknown one."""
        kind = kind_of(name, self._convolutional)
        tolerance = GOLDEN_TOLERANCE[kind.precision.split("_")[0]]
        return ArtifactSource(self._file(name, kind), kind.precision, tolerance, kind.engine)

    def _file(self, name, kind):
        if name not in self._made:
            path = self._folder / f"{name}{engine_class(kind.engine).SUFFIX}"
            images = self._calibration if kind.calibrated else None
            if kind.source is None:
                self._made[name] = kind.make(self._model, path, images, **self._deployment)
            else:
                source = self._file(kind.source, kind_of(kind.source, self._convolutional))
                self._made[name] = kind.make(source, path, images)
        return self._made[name]


def is_convolutional(model: keras.Model) -> bool:
    """Whether `model` has no attention: its artifacts are `CONVOLUTIONAL_ARTIFACTS`."""
    return not any(isinstance(layer, WindowAttention) for layer in compat.all_layers(model))


def needs_calibration(name: str, convolutional: bool = False) -> bool:
    """Whether the artifact called `name` is made with images. Raises RealMNetError for an unknown one."""
    kind = kind_of(name, convolutional)
    if kind.calibrated:
        return True
    return kind.source is not None and needs_calibration(kind.source, convolutional)


def kind_of(name: str, convolutional: bool = False) -> Kind:
    """What the artifact called `name` is, of a `convolutional` network or of one with attention.

    Raises RealMNetError for an unknown one.
    """
    known = CONVOLUTIONAL_ARTIFACTS if convolutional else ARTIFACTS
    if name not in known:
        of = " of a convolutional network" if convolutional else ""
        raise RealMNetError(f"an artifact{of} must be one of {', '.join(known)}. Received: {name!r}")
    return known[name]
