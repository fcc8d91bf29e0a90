"""Masks on disk: which file holds a picture's mask.

Three things are told apart: a file, known to be empty (somebody looked, there is nothing), and not known (nobody
looked): the last is 255, "ignore", in what is read.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from keras_realmnet.errors import DataSetError
from training.data.files.file_index import FileIndex
from training.data.files.mask_codings import IGNORE, BinaryCoding, ColourCoding, SharesCoding
from training.data.files.notices import Notice, noticed
from training.data.files.outlines import OutlineCoding
from training.data.files.shapes import ShapeCoding

__all__ = ["Absent", "Coding", "MaskFiles", "MaskTruth", "MaskVotes", "find_all_masks", "find_masks"]

Coding = BinaryCoding | ColourCoding | SharesCoding | ShapeCoding | OutlineCoding
Absent = Literal["empty", "unknown"]


@dataclass(frozen=True)
class MaskFiles:
    """Of n pictures, each one's mask file. `known`: bool (n,); without a file True means that the mask is empty."""

    paths: tuple[Path | None, ...]
    known: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.paths)


@dataclass(frozen=True)
class MaskTruth:
    """The masks of n pictures for an output of `labels` labels, read one picture at a time.

    `files`: one for each label where `coding` is binary, else a single one. `exclusive`: a pixel has one label at most.
    """

    files: tuple[MaskFiles, ...]
    coding: Coding
    exclusive: bool

    def __len__(self) -> int:
        return len(self.files[0])

    @property
    def labels(self) -> int:
        return len(self.files) * len(self.coding.told)

    @property
    def known(self) -> NDArray[np.bool_]:
        """bool (n, labels): whether anything is known of a label in a picture."""
        return np.concatenate([files.known[:, None] & self.coding.told for files in self.files], axis=1)

    def read(self, k: int, size: tuple[int, int]) -> NDArray[np.uint8]:
        """The masks of picture k, whose width and height are `size`.

        Returns:
            uint8, exclusive (height, width): 0 background, j + 1 label j, 255 ignore; else (height, width, labels): 0,
            1, and 255 to ignore.

        Raises:
            DataSetError: a file cannot be read, has another size or other values, or labels overlap that exclude
                each other.
        """
        width, height = size
        parts = []
        for files in self.files:
            path, channels = files.paths[k], len(self.coding.told)
            if path is not None:
                parts.append(self.coding.read(path, size))
            else:
                parts.append(np.full((height, width, channels), 0 if files.known[k] else IGNORE, np.uint8))
        masks = np.concatenate(parts, axis=-1)
        return self._one_label_each(masks, k) if self.exclusive else masks

    def _one_label_each(self, masks: NDArray[np.uint8], k: int) -> NDArray[np.uint8]:
        present = masks == 1
        overlapping = int((present.sum(axis=-1) > 1).sum())
        if overlapping:
            names = ", ".join(str(files.paths[k]) for files in self.files if files.paths[k] is not None)
            raise DataSetError(f"{names}: {overlapping} pixels have two labels that exclude each other; expected none")
        unknown = (masks == IGNORE).any(axis=-1)
        labels = np.where(present.any(axis=-1), present.argmax(axis=-1) + 1, np.where(unknown, IGNORE, 0))
        return labels.astype(np.uint8)


@dataclass(frozen=True)
class MaskVotes:
    """The masks that several annotators drew of the same n pictures, read as one; not of labels that are exclusive.

    A pixel has a label where at least half of those say so who know: three of six, two of three. It is not known (255)
    where none does.
    """

    annotators: tuple[MaskTruth, ...]

    def __len__(self) -> int:
        return len(self.annotators[0])

    @property
    def labels(self) -> int:
        return self.annotators[0].labels

    @property
    def known(self) -> NDArray[np.bool_]:
        """bool (n, labels): whether anybody drew a label in a picture."""
        return np.any([each.known for each in self.annotators], axis=0)

    def read(self, k: int, size: tuple[int, int]) -> NDArray[np.uint8]:
        """uint8 (height, width, labels): 0, 1, and 255 to ignore. Arguments and errors as of `MaskTruth.read`."""
        width, height = size
        known, found = (np.zeros((height, width, self.labels), np.uint8) for _ in range(2))
        for each in self.annotators:
            if each.known[k].any():
                mask = each.read(k, size)
                known += mask != IGNORE
                found += mask == 1
        return np.where(known == 0, IGNORE, 2 * found >= known).astype(np.uint8)


def find_masks(
    folder: str | Path,
    pictures: Sequence[str],
    absent: Absent,
    what: str = "masks",
    suffix: str = "",
    endings: Sequence[str] = BinaryCoding.endings,
) -> tuple[MaskFiles, tuple[str, ...], tuple[str, ...]]:
    """The mask in a folder of each picture: the file with the picture's name, whatever the ending.

    Args:
        pictures: paths below the folder of pictures, or names.
        absent: what a picture without a file means: that there is nothing to mark ("empty"), or "unknown".
        what: the masks, for messages.
        suffix: what the names of masks have behind those of the pictures, before the ending.
        endings: of the files, as of the coding (`BinaryCoding.endings`).

    Returns:
        The files; the pictures without one; the files that belong to no picture.

    Raises:
        DataSetError: there is no such folder, two files have a picture's name, or two pictures the same mask.
    """
    index = FileIndex(folder, endings, f"{what} ({', '.join(endings)})")
    paths = tuple(index.find_base_name(name, suffix) for name in pictures)
    owners: dict[Path, str] = {}
    for path, name in zip(paths, pictures, strict=True):
        if path is not None and owners.setdefault(path, name) != name:
            raise DataSetError(f"{path}: is the mask of {owners[path]} and of {name}; expected one picture")
    known = np.array([path is not None or absent == "empty" for path in paths], bool)
    without = tuple(name for path, name in zip(paths, pictures, strict=True) if path is None)
    return MaskFiles(paths, known), without, tuple(index.name(path) for path in index.paths if path not in owners)


def find_all_masks(
    folder: Path,
    pictures: Sequence[str],
    places: Sequence[tuple[str, str]],
    absent: Absent,
    output: str,
    each: bool = True,
    endings: Sequence[str] = BinaryCoding.endings,
) -> tuple[tuple[MaskFiles, ...], tuple[Notice, ...]]:
    """The masks of each picture in several places, and what was noticed. Arguments and errors as of `find_masks`.

    Args:
        places: the folder, below `folder`, and the suffix of each label's masks.
        output: what they are the truth of, for messages.
        each: in each place there must be a mask of some picture.

    Raises:
        DataSetError: also where there is none.
    """
    files: list[MaskFiles] = []
    notices: tuple[Notice, ...] = ()
    strangers: dict[str, set[str]] = {}  # by folder: files that are the mask of nothing that is asked for
    meaning = "known to be empty" if absent == "empty" else "not known"
    for place, suffix in places:
        found, without, others = find_masks(folder / place, pictures, absent, f"the masks {place}", suffix, endings)
        if each and len(without) == len(pictures):
            raise DataSetError(
                f"{folder / place}: no mask of any picture; expected the pictures' names with {suffix} and "
                f"{' or '.join(endings)}. Found: {', '.join(others[:3]) or 'nothing'}"
            )
        files.append(found)
        strangers[place] = strangers.get(place, set(others)) & set(others)
        notices += noticed(
            (f"{output}: pictures without a mask in {place}{suffix and f' ({suffix})'}, {meaning}", without)
        )
    notices += noticed(
        *((f"{output}: masks in {place} without a picture", sorted(others)) for place, others in strangers.items())
    )
    return tuple(files), notices
