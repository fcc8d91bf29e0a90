"""Several data sets as one, each of which knows only some of what is asked."""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from keras_realmnet.arguments import count
from keras_realmnet.screening.preprocessing import PreprocessSpec
from keras_realmnet.tasks.outputs import Grades, Labels, Masks, Points
from keras_realmnet.tasks.rules import NoReferral
from keras_realmnet.tasks.task import Task
from keras_realmnet.tasks.vocabulary import LabelSet
from training.data.files.notices import noticed, tell
from training.data.files.once import make_once
from training.datasets.cache import IMAGES, mask_array
from training.datasets.data_set import DataSet, check_split
from training.datasets.image_set import ImageSet, content_hash
from training.tasks.kinds import kind_of

__all__ = ["CombinedDataSet"]

Trained = Labels | Grades | Masks | Points


@dataclass(frozen=True)
class CombinedDataSet:
    """The pictures of all `parts`, for a task called `name` that has all of their outputs and measures.

    Where parts have an output of the same name and vocabulary, its labels or points are those of all of them, in the
    order in which they appear; grades and exclusive masks must be the same everywhere. What a part does not know is
    unknown in its pictures, and masked.

    `repeats`: how often each part's training pictures count, once where none is given. Patients go by their ids across
    all parts: training pictures of one who is in a part's validation or test set are left out and told.

    Raises ValueError for parts that do not fit together.
    """

    kind: ClassVar[str] = "combined"

    name: str
    parts: tuple[DataSet, ...]
    repeats: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "parts", tuple(self.parts))  # JSON has lists
        object.__setattr__(self, "repeats", tuple(self.repeats) or (1,) * len(self.parts))
        if len(self.parts) < 2:
            raise ValueError(f"combined data has two or more parts. Received: {len(self.parts)}")
        if len(self.repeats) != len(self.parts) or not all(map(count(1).holds, self.repeats)):
            raise ValueError(
                f"repeats must be a whole number, at least 1, for each of {len(self.parts)} parts. "
                f"Received: {self.repeats!r}"
            )

    @property
    def task(self) -> Task:
        tasks = [part.task for part in self.parts]
        modalities = list(dict.fromkeys(task.modality for task in tasks))
        if len(modalities) > 1:
            raise ValueError(f"combined pictures must be of one modality. Received: {', '.join(modalities)}")
        outputs: dict[str, Trained] = {}
        for task in tasks:
            for name, output in task.trained.items():
                outputs[name] = _united(name, outputs[name], output) if name in outputs else output
        rules = list(dict.fromkeys(task.rule for task in tasks if task.refers))
        measures = tuple(dict.fromkeys(measure for task in tasks for measure in task.measures))
        return Task(self.name, modalities[0], outputs, rules[0] if len(rules) == 1 else NoReferral(), measures)

    def describe(self) -> str:
        return "; ".join(part.describe() for part in self.parts)

    def load(self, split: str, spec: PreprocessSpec, cache: Path) -> ImageSet | None:
        check_split(split)
        loaded = [part.load(split, spec, cache) for part in self.parts]
        sets = [images for images in loaded if images is not None]
        repeats = [n for n, images in zip(self.repeats, loaded, strict=True) if images is not None]
        if not sets:
            return None
        if split == "train":
            sets = self._without_held_out(sets, spec, cache)
        joined = _joined(sets, self.task, cache)
        if split != "train" or set(repeats) == {1}:
            return joined
        counts = np.repeat(repeats, [len(images) for images in sets])
        return joined.select(np.repeat(np.arange(len(joined)), counts))

    def _without_held_out(self, sets: Sequence[ImageSet], spec: PreprocessSpec, cache: Path) -> list[ImageSet]:
        held_out: set[str] = set()
        for split in ("validation", "test"):
            for part in self.parts:
                images = part.load(split, spec, cache)
                held_out |= set() if images is None else set(images.patients)
        names, kept = [], []
        for images in sets:
            stays = np.array([patient not in held_out for patient in images.patients])
            names += [images.names[k] for k in np.flatnonzero(~stays).tolist()]
            kept.append(images if stays.all() else images.select(np.flatnonzero(stays)))
        tell(noticed(("training pictures of patients who are held out in another part, left out", names)))
        return kept


def _united(name: str, first: Trained, other: Trained) -> Trained:
    """One output with the labels of both."""
    mine, theirs = first.labels, other.labels
    known = {label.code: label for label in mine.labels}
    fits = type(first) is type(other) and replace(other, labels=mine) == first and mine.name == theirs.name
    fits &= all(known.get(label.code, label).name == label.name for label in theirs.labels)
    if isinstance(first, Grades) or (isinstance(first, Masks) and first.exclusive):
        fits &= mine.codes == theirs.codes
    if not fits:
        raise ValueError(
            f"the output {name!r} must be of one kind and vocabulary in all parts. Received: {first.kind} of "
            f"{_shown(mine)}, and {other.kind} of {_shown(theirs)}"
        )
    more = tuple(label for label in theirs.labels if label.code not in known)
    pathologic = tuple(dict.fromkeys((*mine.pathologic, *theirs.pathologic)))
    exclusive = tuple(dict.fromkeys((*mine.exclusive, *theirs.exclusive)))
    return replace(first, labels=LabelSet(mine.name, (*mine.labels, *more), pathologic, exclusive, mine.condition))


def _shown(labels: LabelSet) -> str:
    return f"{labels.name} ({', '.join(labels.codes)})"


def _joined(sets: Sequence[ImageSet], task: Task, cache: Path) -> ImageSet:
    """All images of the sets, whose pixels and masks are written, one set behind the other, into the cache."""
    names = tuple(name for images in sets for name in images.names)
    patients = tuple(patient for images in sets for patient in images.patients)
    side, digest = sets[0].pixels.shape[1], hashlib.sha256()
    for images in sets:
        digest.update(images.sha256.encode())
    digest.update(repr(task.trained).encode())
    folder = cache / f"combined-{side}-{digest.hexdigest()[:16]}"
    truth, masks = {}, {}
    for name, output in task.trained.items():
        parts = (_truth_in(images, name, output) for images in sets)
        if kind_of(output).beside_pixels:
            masks[name] = _written(folder / f"{mask_array(name)}.npy", parts, len(names))
        else:
            truth[name] = np.concatenate(list(parts))
    pixels = _written(folder / f"{IMAGES}.npy", (images.images for images in sets), len(names))
    sha256 = content_hash(digest.hexdigest(), truth.values(), names)
    sides, longer = (_lengths_of_all(sets, name) for name in ("sides", "longer_sides"))
    return ImageSet(pixels, truth, names, patients, task, sha256, masks=masks, sides=sides, longer_sides=longer)


def _lengths_of_all(sets: Sequence[ImageSet], name: str) -> NDArray[np.float64]:
    lengths = ((images, getattr(images, name)) for images in sets)
    return np.concatenate([np.full(len(images), np.nan) if each is None else each for images, each in lengths])


def _truth_in(images: ImageSet, name: str, output: Trained) -> NDArray[Any]:
    """What a set knows of an output that may have more labels than the set's own."""
    kind, own = kind_of(output), images.task.trained.get(name)
    if own is None:
        return kind.unknown(output, len(images), images.pixels.shape[1])
    known = images.truth_of(name)
    if own.labels.codes == output.labels.codes:
        return known
    truth = kind.unknown(output, len(images), images.pixels.shape[1])
    columns = [output.labels.codes.index(code) for code in own.labels.codes]
    if isinstance(output, Masks):
        truth[..., columns] = known
    else:
        truth[:, columns] = known
    return truth


def _written(path: Path, parts: Iterable[NDArray[np.uint8]], count: int) -> NDArray[np.uint8]:
    """The parts one behind the other, `count` rows in all, memory-mapped; a file that is there holds them already."""
    make_once(path, lambda: _write(path, parts, count))
    return np.load(path, mmap_mode="r")


def _write(path: Path, parts: Iterable[NDArray[np.uint8]], count: int) -> None:
    temporary = path.with_suffix(".tmp")
    array, at = None, 0
    for part in parts:
        if array is None:
            array = np.lib.format.open_memmap(temporary, "w+", part.dtype, (count, *part.shape[1:]))
        array[at : at + len(part)] = part
        at += len(part)
    assert array is not None
    array.flush()
    temporary.replace(path)
