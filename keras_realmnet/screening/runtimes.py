"""The engines that run a bundle's model, behind one `predict`. Each engine's package is imported on use."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from keras_realmnet.errors import BundleMismatch, RealMNetError

if TYPE_CHECKING:
    from keras_realmnet.screening.bundle import Bundle

__all__ = ["LiteRTRuntime", "Prediction", "Runtime", "available_threads", "open_runtime", "self_check"]


@dataclass(frozen=True)
class Prediction:
    """What the model says about n images.

    probabilities: float32 of shape (n, classes).
    class_maps: float32 of shape (n, h', w', classes); where in the model's square the evidence for a class lies.
    """

    probabilities: np.ndarray
    class_maps: np.ndarray


class Runtime(Protocol):
    """An opened model."""

    def predict(self, images: np.ndarray) -> Prediction:
        """images: uint8 of shape (n, size, size, 3), RGB."""


class LiteRTRuntime:
    """A LiteRT (.tflite) model with the signature `serving_default`.

    One float32 input of shape (1, size, size, 3) with values 0-255, outputs `probabilities` (1, classes) and
    `class_maps` (1, h', w', classes), also float32 where the inside is quantized.
    """

    SIGNATURE = "serving_default"
    OUTPUTS = ("probabilities", "class_maps")

    def __init__(self, model: Path | bytes, threads: int | None = None):
        """Opens the model at a path (mapped, not copied) or in memory.

        Raises:
            RealMNetError: the package ai-edge-litert is not installed.
            BundleMismatch: LiteRT cannot open the model, or it lacks the signature or its outputs.
        """
        try:
            from ai_edge_litert.interpreter import Interpreter
        except ImportError as error:
            raise RealMNetError(
                f"LiteRT models need the package ai-edge-litert (pip install -r requirements-edge.txt): {error}"
            ) from error
        if threads is not None and threads < 1:
            raise RealMNetError(f"The number of threads must be at least 1. Received: {threads}")
        name = model.name if isinstance(model, Path) else "model"
        content: dict[str, Any] = {"model_path": str(model)} if isinstance(model, Path) else {"model_content": model}
        try:
            self._interpreter = Interpreter(**content, num_threads=threads or available_threads())
            self._interpreter.allocate_tensors()
            signature = self._interpreter.get_signature_list().get(self.SIGNATURE)
        except (ValueError, RuntimeError) as error:
            raise BundleMismatch(f"{name}: LiteRT cannot open the model ({error})") from error
        if signature is None or len(signature["inputs"]) != 1 or not set(self.OUTPUTS) <= set(signature["outputs"]):
            raise BundleMismatch(
                f"{name}: expected a signature {self.SIGNATURE!r} with one input and the outputs "
                f"{' and '.join(self.OUTPUTS)}. Received: {signature}"
            )
        self.input_name: str = signature["inputs"][0]
        self._runner = self._interpreter.get_signature_runner(self.SIGNATURE)
        details = self._runner.get_input_details()[self.input_name]
        if np.dtype(details["dtype"]) != np.float32:
            raise BundleMismatch(f"{name}: the input must be float32. Received: {np.dtype(details['dtype'])}")
        self.input_shape: tuple[int, ...] = tuple(int(n) for n in details["shape"])

    def predict(self, images: np.ndarray) -> Prediction:
        """images: uint8 of shape (n, size, size, 3), RGB. Raises ValueError for anything else."""
        if images.dtype != np.uint8 or images.ndim != 4 or images.shape[1:] != self.input_shape[1:]:
            raise ValueError(
                f"`images` must be uint8 of shape (n, {', '.join(map(str, self.input_shape[1:]))}). "
                f"Received: {images.dtype} {images.shape}"
            )
        if len(images) == 0:
            raise ValueError("`images` must hold at least one image. Received: 0")
        outputs = [self._runner(**{self.input_name: image[None].astype(np.float32)}) for image in images]
        return Prediction(
            *(np.concatenate([np.asarray(out[name], np.float32) for out in outputs]) for name in self.OUTPUTS)
        )


def available_threads() -> int:
    """The cores this process may run on (a container or `taskset` may allow fewer than the machine has)."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def open_runtime(bundle: Bundle, artifact: str | None = None, threads: int | None = None) -> Runtime:
    """Opens an artifact of the bundle, by default its `default_artifact`, on `threads` cores, by default all.

    Raises:
        RealMNetError: no such artifact, or the engine's package is missing.
        BundleMismatch: the model does not open, or does not have the shapes that bundle.json states.
    """
    chosen = bundle.artifact(artifact)
    if chosen.engine != "litert":
        raise RealMNetError(f"{chosen.file}: the engine must be 'litert'. Received: {chosen.engine!r}")
    runtime = LiteRTRuntime(bundle.directory / chosen.file, threads)
    if runtime.input_name != chosen.input_name or runtime.input_shape != chosen.input_shape:
        raise BundleMismatch(
            f"{chosen.file}: bundle.json states the input {chosen.input_name!r} {chosen.input_shape}, "
            f"the model has {runtime.input_name!r} {runtime.input_shape}"
        )
    return runtime


def self_check(bundle: Bundle, runtime: Runtime, artifact: str | None = None) -> None:
    """Runs the golden image and compares with the golden output, as stored when the bundle was made.

    Raises:
        BundleMismatch: a shape differs, a probability differs by more than the artifact's tolerance, or a class map
            by more than that fraction of its largest absolute value; states the measured and the allowed difference.
    """
    chosen = bundle.artifact(artifact)
    image, golden = bundle.golden(chosen.name)
    prediction = runtime.predict(image)
    for name, scale in (("probabilities", 1.0), ("class_maps", float(np.abs(golden.class_maps).max()) or 1.0)):
        received, expected = getattr(prediction, name), getattr(golden, name)
        if received.shape != expected.shape:
            raise BundleMismatch(f"{chosen.file}: golden {name} have the shape {expected.shape}, got {received.shape}")
        difference = float(np.abs(received - expected).max()) / scale
        if not difference <= chosen.tolerance:  # also refuses NaN
            raise BundleMismatch(
                f"{chosen.file}: self-check failed on this machine: {name} differ from the golden output by "
                f"{difference:.3g}, allowed {chosen.tolerance:.3g}"
            )
