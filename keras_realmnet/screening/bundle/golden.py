"""golden.npz: an image and what each artifact made of it at export, by which a machine is told that computes otherwise.

`image` uint8 (1, size, size, 3); per artifact and output `OUTPUT_NAME`, float32, as `probabilities_int8`.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from keras_realmnet.screening.arrays import ArrayArchive
from keras_realmnet.screening.bundle.artifact import Artifact
from keras_realmnet.screening.bundle.document import refuse
from keras_realmnet.screening.engines.base import Prediction
from keras_realmnet.tasks.outputs import Masks
from keras_realmnet.tasks.task import Task

__all__ = ["GOLDEN_FILE", "golden_arrays", "golden_file", "read_golden"]

GOLDEN_FILE = "golden.npz"
ROUNDING = np.float32(4096)


def read_golden(path: Path, artifact: Artifact, task: Task, size: int) -> tuple[np.ndarray, Prediction]:
    """The golden image, uint8 of shape (1, size, size, 3), and what the artifact made of it.

    Raises:
        BundleMismatch: the file does not hold them, or not as `artifact` describes them.
    """
    try:
        with ArrayArchive(path) as arrays:
            image = arrays.read("image", "uint8", (1, size, size, 3))
            prediction = {
                output: arrays.read(f"{output}_{artifact.name}", "float32", shape)
                for output, shape in artifact.output_shapes.items()
            }
        task.check(prediction, artifact.output_shapes)
    except ValueError as error:
        refuse(path, error)
    return image, prediction


def golden_arrays(artifact: str, prediction: Prediction, task: Task) -> dict[str, np.ndarray]:
    """The arrays of an artifact, by their names in the file.

    Probabilities of pixels are rounded to 1 / 4096, much less than another machine may differ: the digits behind that
    would be most of the file.
    """
    return {
        f"{output}_{artifact}": _rounded(values) if isinstance(task.outputs[output], Masks) else values
        for output, values in prediction.items()
    }


def _rounded(probability: np.ndarray) -> np.ndarray:
    return np.asarray(np.round(probability * ROUNDING) / ROUNDING, probability.dtype)


def golden_file(arrays: Mapping[str, np.ndarray]) -> bytes:
    """The bytes of the file that holds `arrays`."""
    content = io.BytesIO()
    np.savez_compressed(content, **arrays)  # type: ignore[arg-type]
    return content.getvalue()
