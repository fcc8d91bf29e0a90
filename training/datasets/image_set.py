"""Images ready for the model, with labels, names and patients."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from keras_realmnet.errors import DataSetError
from keras_realmnet.tasks.vocabulary import LabelSet
from training.data.label_table import LabelTable

__all__ = ["ImageSet", "content_hash", "resize_square"]


@dataclass(frozen=True)
class ImageSet:
    """Images ready for the model, with their truth.

    `pixels`: uint8 (m, size, size, 3), usually memory-mapped; image k is `pixels[rows[k]]`, so that several sets share
    one cache and a resampled set may hold an image more than once. `labels`: float32 (n, classes), 1 present, 0 absent,
    NaN not known. `patients`: whose image it is, for patient-level intervals. `sha256`: of pixels, labels and names.
    """

    pixels: NDArray[np.uint8]
    labels: NDArray[np.float32]
    names: tuple[str, ...]
    patients: tuple[str, ...]
    label_set: LabelSet
    sha256: str
    rows: NDArray[np.intp] = None  # type: ignore[assignment]  # image k is pixels[k] when not given

    def __post_init__(self) -> None:
        if self.rows is None:
            object.__setattr__(self, "rows", np.arange(len(self.names)))

    def __len__(self) -> int:
        return len(self.names)

    @property
    def images(self) -> NDArray[np.uint8]:
        """All of them, in memory: (n, size, size, 3)."""
        return self.pixels[self.rows]

    def image(self, k: int) -> NDArray[np.uint8]:
        """Image k, uint8 (size, size, 3)."""
        return self.pixels[self.rows[k]]

    def select(self, rows: NDArray[np.intp], labels: NDArray[Any] | None = None) -> "ImageSet":
        """The images at these indices, each as often as it is named, with other labels where given."""
        labels = self.labels[rows] if labels is None else labels.astype(np.float32)
        names, patients = (tuple(values[k] for k in rows) for values in (self.names, self.patients))
        digest = content_hash(self.sha256, labels, names)
        return replace(self, rows=self.rows[rows], labels=labels, names=names, patients=patients, sha256=digest)

    def table(self) -> LabelTable:
        """The label list of these images; `origins` are their indices. Raises DataSetError where a label is unknown."""
        if np.isnan(self.labels).any():
            raise DataSetError(f"{self.names[0]} and others have unknown labels: they cannot be resampled")
        return LabelTable(
            labels=self.labels.astype(np.uint8),
            names=np.array(self.names, np.str_),
            patients=np.array(self.patients, np.str_),
            origins=np.arange(len(self)).astype(np.str_),
            label_set=self.label_set,
        )

    def like(self, table: LabelTable) -> "ImageSet":
        """The images of a table made from `table()` by taking, repeating or relabelling rows."""
        return self.select(table.origins.astype(np.intp), table.labels)


def resize_square(image: NDArray[Any], size: int) -> NDArray[Any]:
    """uint8 (s, s, 3) → (size, size, 3); an image of that size is returned as it is."""
    if image.shape[0] == size:
        return image
    interpolation = cv2.INTER_AREA if image.shape[0] > size else cv2.INTER_LINEAR
    return cv2.resize(image, (size, size), interpolation=interpolation)


def content_hash(pixels_hash: str, labels: NDArray[np.float32], names: Sequence[str]) -> str:
    """SHA-256 over the hash of the pixels, the labels (n, classes) and the names (n): what `ImageSet.sha256` is."""
    digest = hashlib.sha256(pixels_hash.encode())
    digest.update(labels.tobytes())
    digest.update("\n".join(names).encode())
    return digest.hexdigest()
