"""The engines that run a bundle's models, opened by artifact and checked, behind one `predict`."""

from typing import Protocol

import numpy as np

from keras_realmnet.errors import BundleMismatch, RealMNetError
from keras_realmnet.screening.bundle.bundle import Bundle
from keras_realmnet.screening.engines.base import EngineRuntime, Prediction
from keras_realmnet.screening.engines.registry import engine_class

__all__ = ["Runtime", "open_runtime", "self_check"]


class Runtime(Protocol):
    """An opened model."""

    def predict(self, images: np.ndarray) -> Prediction:
        """images: uint8 of shape (n, size, size, 3), RGB."""


def open_runtime(
    bundle: Bundle, artifact: str | None = None, threads: int | None = None, engine: str | None = None
) -> EngineRuntime:
    """Opens an artifact of the bundle, by default its `default_artifact`, on `threads` cores, by default all.

    Args:
        engine: one of `ENGINES`, where another than the artifact's is to open its file ("openvino" an ONNX model).

    Raises:
        RealMNetError: no such artifact or engine, one that does not open the other, or the artifact's file or the
            engine's package is missing.
        BundleMismatch: the model does not open, is bound to another device, or has not the input bundle.json states.
    """
    chosen = bundle.artifact(artifact)
    runtime_class = engine_class(engine or chosen.engine)
    if not chosen.file.endswith(runtime_class.SUFFIX):
        raise RealMNetError(
            f"{chosen.file}: {(engine or chosen.engine)!r} opens {runtime_class.SUFFIX} files; this one is for "
            f"{chosen.engine!r}"
        )
    if chosen.device is not None and chosen.device != runtime_class.this_device():
        raise BundleMismatch(
            f"{chosen.file}: made on {_readable(chosen.device)}; this is {_readable(runtime_class.this_device())}. "
            "Such a model runs only where it was made: build it again here"
        )
    runtime = runtime_class(bundle.model_file(chosen.name), threads, tuple(bundle.task.outputs))
    if runtime.input_name != chosen.input_name or runtime.input_shape != chosen.input_shape:
        raise BundleMismatch(
            f"{chosen.file}: bundle.json states the input {chosen.input_name!r} {chosen.input_shape}, "
            f"the model has {runtime.input_name!r} {runtime.input_shape}"
        )
    return runtime


def _readable(device: dict[str, str] | None) -> str:
    return "no such device" if device is None else ", ".join(f"{key} {value}" for key, value in device.items())


def self_check(bundle: Bundle, runtime: Runtime, artifact: str | None = None) -> None:
    """Runs the golden image and compares with the golden output, as stored when the bundle was made.

    Raises:
        BundleMismatch: a shape differs, or a value by more than the artifact's tolerance, relative to the output's
            scale (`Output.scale`: 1 for a probability, for a class map its largest absolute value); states the measured
            and the allowed difference.
    """
    chosen = bundle.artifact(artifact)
    image, golden = bundle.golden(chosen.name)
    prediction = runtime.predict(image)
    for name, expected in golden.items():
        output, received = bundle.task.outputs[name], prediction[name]
        if received.shape != expected.shape:
            raise BundleMismatch(f"{chosen.file}: golden {name} have the shape {expected.shape}, got {received.shape}")
        difference = float(np.abs(received - expected).max()) / output.scale(expected)
        if not difference <= chosen.tolerance:  # also refuses NaN
            raise BundleMismatch(
                f"{chosen.file}: self-check failed on this machine: {name} differ from the golden output by "
                f"{difference:.3g}, allowed {chosen.tolerance:.3g}"
            )
