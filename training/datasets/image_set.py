"""Images ready for the model, with their truth, names and patients."""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from keras_realmnet.errors import DataSetError
from keras_realmnet.tasks.outputs import Grades, Labels
from keras_realmnet.tasks.task import Task
from keras_realmnet.tasks.vocabulary import LabelSet
from training.data.label_table import LabelTable
from training.tasks.kinds import kind_of

__all__ = ["ImageSet", "content_hash", "resize_square"]


@dataclass(frozen=True)
class ImageSet:
    """n images ready for the model, with their truth.

    `pixels`: uint8 (m, side, side, 3), usually memory-mapped; image k is `pixels[rows[k]]`, so that several sets share
    one cache and a resampled set may hold an image more than once.

    `truth`: of each output of `task` with labels, grades or points, float32 (n, ...). `masks`: of each with masks,
    uint8 (m, side, side[, labels]); as the pixels, so that those of image k are `masks[name][rows[k]]`. `truth_of`
    gives either. The forms are in `training.tasks`, module by module; what is not known is NaN, in masks 255.

    `patients`: whose image it is, for patient-level intervals. `sha256`: of pixels, masks, truth and names.

    `sides`: float64 (n,), the square's side in longer sides of the picture, NaN where that is not known; None: nowhere.
    `longer_sides`: float64 (n,), the latter in pixels of the file, as `sides`.

    `taught`: what a teacher says of the images, of outputs with labels or grades: probabilities, float32 (n, labels).

    Raises ValueError for a truth that is not the task's, or a teacher that tells of more or fewer images.
    """

    pixels: NDArray[np.uint8]
    truth: Mapping[str, NDArray[np.float32]]
    names: tuple[str, ...]
    patients: tuple[str, ...]
    task: Task
    sha256: str
    rows: NDArray[np.intp] = None  # type: ignore[assignment]  # image k is pixels[k] when not given
    masks: Mapping[str, NDArray[np.uint8]] = field(default_factory=dict)
    sides: NDArray[np.float64] | None = None
    longer_sides: NDArray[np.float64] | None = None
    taught: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.rows is None:
            object.__setattr__(self, "rows", np.arange(len(self.names)))
        for name, output in self.task.trained.items():
            kind = kind_of(output)
            there, count = (self.masks, len(self.pixels)) if kind.beside_pixels else (self.truth, len(self))
            if name not in there or len(there[name]) != count:
                received = len(there[name]) if name in there else "none"
                raise ValueError(f"the truth of {name!r} must have {count} rows. Received: {received}")
            try:
                kind.check(output, there[name], self.pixels.shape[1])
            except ValueError as error:
                raise ValueError(f"the truth of {name!r} {error}") from error
        for name, values in self.taught.items():
            if len(values) != len(self):
                raise ValueError(f"a teacher must tell of {len(self)} images. Received: {len(values)} of {name!r}")
        unknown = {*self.truth, *self.masks} - set(self.task.trained)
        if unknown:
            known = ", ".join(self.task.trained)
            raise ValueError(
                f"the task {self.task.name!r} has the truth {known}. Received: {', '.join(sorted(unknown))}"
            )

    def __len__(self) -> int:
        return len(self.names)

    @property
    def images(self) -> NDArray[np.uint8]:
        """All of them, in memory: (n, side, side, 3)."""
        return self.pixels[self.rows]

    def image(self, k: int) -> NDArray[np.uint8]:
        """Image k, uint8 (side, side, 3)."""
        return self.pixels[self.rows[k]]

    def truth_of(self, output: str, chosen: NDArray[np.intp] | slice = slice(None)) -> NDArray[Any]:
        """The truth of all images, or of those at the indices `chosen`, for an output: (n, ...), in memory."""
        return self.masks[output][self.rows[chosen]] if output in self.masks else self.truth[output][chosen]

    @property
    def classified(self) -> str:
        """The output of labels, or else of grades, by which images are counted, shared out and resampled.

        Raises DataSetError where there is none.
        """
        for kind in (Labels, Grades):
            for name, output in self.task.trained.items():
                if isinstance(output, kind):
                    return name
        raise DataSetError(f"the task {self.task.name!r} has no labels or grades, by which images could be resampled")

    @property
    def labels(self) -> NDArray[np.float32]:
        """The truth of `classified`: float32 (n, classes), 1 present, 0 absent, NaN not known."""
        return self.truth[self.classified]

    @property
    def spread_by(self) -> NDArray[np.float32] | None:
        """By what patients are spread evenly over sets, (n, kinds): `labels`; of one label also where it is absent.

        None where there are none.
        """
        if not {type(output) for output in self.task.trained.values()} & {Labels, Grades}:
            return None
        return self.labels if self.labels.shape[1] > 1 else np.concatenate([self.labels, 1 - self.labels], axis=1)

    @property
    def label_set(self) -> LabelSet:
        """The vocabulary of `labels`."""
        return self.task.trained[self.classified].labels

    def select(self, rows: NDArray[np.intp], labels: NDArray[Any] | None = None) -> "ImageSet":
        """The images at these indices, each as often as it is named, with other labels where given."""
        truth = {name: values[rows] for name, values in self.truth.items()}
        if labels is not None:
            truth[self.classified] = labels.astype(np.float32)
        names, patients = (tuple(values[k] for k in rows) for values in (self.names, self.patients))
        return replace(
            self,
            rows=self.rows[rows],
            truth=truth,
            names=names,
            patients=patients,
            sha256=content_hash(self.sha256, truth.values(), names),
            sides=None if self.sides is None else self.sides[rows],
            longer_sides=None if self.longer_sides is None else self.longer_sides[rows],
            taught={name: values[rows] for name, values in self.taught.items()},
        )

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


def content_hash(pixels_hash: str, truth: Iterable[NDArray[np.float32]], names: Sequence[str]) -> str:
    """SHA-256 over the hash of pixels and masks, the truth (n, ...) and the names (n): what `ImageSet.sha256` is."""
    digest = hashlib.sha256(pixels_hash.encode())
    for values in truth:
        digest.update(values.tobytes())
    digest.update("\n".join(names).encode())
    return digest.hexdigest()
