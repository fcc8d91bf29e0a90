"""What all engines share: the prediction, the check of the images, batches."""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from keras_realmnet.errors import BundleMismatch, RealMNetError

__all__ = ["EngineRuntime", "Prediction", "available_threads"]

# What the model says about n images: {output: float32 array of n}, see `keras_realmnet.tasks.outputs`.
Prediction = dict[str, np.ndarray]


class EngineRuntime:
    """A model opened by some engine; the subclasses say how it is opened and run.

    The model has one float32 input (batch, size, size, 3) with values 0–255; its outputs have names and a batch axis in
    front, and are float32 also where the inside is quantized.

    Threads may share one: they take turns, since most engines have one set of buffers. Those who want inferences side
    by side open the model several times.

    Attributes:
        input_name: of the model's input.
        input_shape: (batch, size, size, 3); a batch of `None` is as large as the caller likes.
        outputs: the names of what `predict` gives.
    """

    SUFFIX: str  # of the model files the engine opens
    input_name: str
    input_shape: tuple[int | None, ...]
    outputs: tuple[str, ...]

    def __init__(self, model: Path | bytes, threads: int | None = None, outputs: Sequence[str] | None = None):
        """Opens the model at a path or in memory, on `threads` cores, by default all that the process may use.

        Args:
            outputs: those of the model's outputs that `predict` gives; None: all.

        Raises:
            RealMNetError: the engine's package is not installed.
            BundleMismatch: the engine cannot open the model, or it has not the input and outputs stated above.
        """
        if threads is not None and threads < 1:
            raise RealMNetError(f"The number of threads must be at least 1. Received: {threads}")
        self._turn = threading.Lock()
        self._wanted = outputs
        self._name = model.name if isinstance(model, Path) else "model"
        if isinstance(model, Path) and not model.is_file():
            raise BundleMismatch(f"{model}: no such file")
        self._open(model, threads or available_threads())

    @staticmethod
    def this_device() -> dict[str, str] | None:
        """What a model of this engine is bound to, or `None` where it runs everywhere."""
        return None

    def predict(self, images: np.ndarray) -> Prediction:
        """images: uint8 of shape (n, size, size, 3), RGB. Raises ValueError for anything else.

        They are run in the model's batches; the last one is filled up with its last image. The arrays of the prediction
        are the caller's own.
        """
        if images.dtype != np.uint8 or images.ndim != 4 or images.shape[1:] != self.input_shape[1:]:
            raise ValueError(
                f"`images` must be uint8 of shape (n, {', '.join(map(str, self.input_shape[1:]))}). "
                f"Received: {images.dtype} {images.shape}"
            )
        if len(images) == 0:
            raise ValueError("`images` must hold at least one image. Received: 0")
        size = self.input_shape[0] or len(images)
        outputs = []
        for start in range(0, len(images), size):
            batch = images[start : start + size]
            filled = np.concatenate([batch, np.repeat(batch[-1:], size - len(batch), axis=0)]).astype(np.float32)
            with self._turn:  # until the outputs are copied: they may be the engine's buffers
                outputs.append([np.array(output[: len(batch)], np.float32) for output in self._run(filled)])
        arrays = (np.concatenate(parts) for parts in zip(*outputs, strict=True))
        return dict(zip(self.outputs, arrays, strict=True))

    def _open(self, model: Path | bytes, threads: int) -> None:
        """Opens the model and sets `input_name` and `input_shape`."""
        raise NotImplementedError

    def _run(self, images: np.ndarray) -> Sequence[np.ndarray]:
        """float32 images, one batch → the arrays of `outputs`; one call at a time, the next may overwrite them."""
        raise NotImplementedError

    def _missing(self, package: str, where: str, error: Exception) -> RealMNetError:
        return RealMNetError(f"{self._name}: this model needs the package {package} ({where}): {error}")

    def _cannot_open(self, error: object) -> BundleMismatch:
        return BundleMismatch(f"{self._name}: {type(self).__name__} cannot open the model ({error})")

    def _check_signature(self, inputs: Sequence[tuple[str, str]], outputs: Sequence[str]) -> None:
        """Sets `input_name` and `outputs`. inputs: (name, element type) of each, "float32" as NumPy writes it."""
        wanted = tuple(outputs if self._wanted is None else self._wanted)
        if len(inputs) != 1 or inputs[0][1] != "float32" or not set(wanted) <= set(outputs) or not wanted:
            raise BundleMismatch(
                f"{self._name}: expected one float32 input and the outputs {' and '.join(wanted) or '(some)'}. "
                f"Received: inputs {list(inputs)}, outputs {list(outputs)}"
            )
        self.input_name, self.outputs = inputs[0][0], wanted


def available_threads() -> int:
    """The cores this process may run on (a container or `taskset` may allow fewer than the machine has)."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
