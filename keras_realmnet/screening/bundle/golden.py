"""golden.npz: an image and what each artifact made of it at export, by which a machine is told that computes otherwise.

`image` uint8 (1, size, size, 3); per artifact `probabilities_NAME` and `class_maps_NAME`, float32.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from keras_realmnet.screening.bundle.arrays import ArrayArchive
from keras_realmnet.screening.bundle.artifact import Artifact
from keras_realmnet.screening.bundle.document import refuse
from keras_realmnet.screening.engines.base import OUTPUTS, Prediction

__all__ = ["GOLDEN_FILE", "check_values", "golden_arrays", "golden_file", "read_golden"]

GOLDEN_FILE = "golden.npz"


def read_golden(path: Path, artifact: Artifact, size: int) -> tuple[np.ndarray, Prediction]:
    """The golden image, uint8 of shape (1, size, size, 3), and what the artifact made of it.

    Raises:
        BundleMismatch: the file does not hold them, or not as `artifact` describes them.
    """
    try:
        with ArrayArchive(path) as arrays:
            image = arrays.read("image", "uint8", (1, size, size, 3))
            outputs = {
                output: arrays.read(f"{output}_{artifact.name}", "float32", artifact.output_shapes[output])
                for output in OUTPUTS
            }
        prediction = Prediction(**outputs)
        check_values(prediction)
    except ValueError as error:
        refuse(path, error)
    return image, prediction


def golden_arrays(artifact: str, prediction: Prediction) -> dict[str, np.ndarray]:
    """The arrays of an artifact, by their names in the file."""
    return {f"{output}_{artifact}": getattr(prediction, output) for output in OUTPUTS}


def golden_file(arrays: Mapping[str, np.ndarray]) -> bytes:
    """The bytes of the file that holds `arrays`."""
    content = io.BytesIO()
    np.savez_compressed(content, **arrays)  # type: ignore[arg-type]
    return content.getvalue()


def check_values(prediction: Prediction) -> None:
    """Raises ValueError for what no network gives that works."""
    if not all(np.isfinite(getattr(prediction, output)).all() for output in OUTPUTS):
        raise ValueError("the output for the golden image is not finite")
    if not ((prediction.probabilities >= 0) & (prediction.probabilities <= 1)).all():
        raise ValueError("the probabilities for the golden image do not lie in [0, 1]")
