"""Masks on disk: which file holds a picture's mask, and what its pixels mean.

Three things are told apart: a file, known to be empty (somebody looked, there is nothing), and not known (nobody
looked): the last is 255, "ignore", in what is read.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from keras_realmnet.errors import DataSetError
from training.data.files.file_index import FileIndex
from training.data.files.notices import Notice, noticed

__all__ = [
    "IGNORE",
    "MASK_ENDINGS",
    "BinaryCoding",
    "Colour",
    "ColourCoding",
    "MaskFiles",
    "MaskTruth",
    "find_all_masks",
    "find_masks",
    "read_pixels",
]

IGNORE = 255
MASK_ENDINGS = (".png", ".bmp", ".tif", ".tiff")  # JPEG changes the values at every edge
Colour = int | tuple[int, int, int]  # a grey level or index, or red, green and blue
Absent = Literal["empty", "unknown"]


@dataclass(frozen=True)
class MaskFiles:
    """Of n pictures, each one's mask file. `known`: bool (n,); without a file True means that the mask is empty."""

    paths: tuple[Path | None, ...]
    known: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.paths)


@dataclass(frozen=True)
class BinaryCoding:
    """A file for each structure: `background` and one other grey level, `structure` where it is said.

    An index of a palette counts as a grey level. `ignore`: levels of where nothing is known. `coloured`: the structure
    may also be drawn in any one colour, on black.
    """

    background: int = 0
    structure: int | None = None
    ignore: tuple[int, ...] = ()
    coloured: bool = False

    def read(self, path: Path, size: tuple[int, int]) -> NDArray[np.uint8]:
        """uint8 (height, width, 1): 1 where the structure is, 0, or 255 to ignore.

        Args:
            size: width and height of the picture.

        Raises:
            DataSetError: the file cannot be read, has another size or other values.
        """
        pixels = read_pixels(path, size, colour=None if self.coloured else False)
        levels = pixels if pixels.ndim == 2 else _packed(pixels)
        unknown = np.isin(levels, self.ignore)
        inside = (levels != self.background) & ~unknown
        values = np.unique(levels[inside]).tolist()
        allowed = values[:1] if self.structure is None else [self.structure]
        if values and values != allowed:
            structure = "one other value" if self.structure is None else str(self.structure)
            ignored = f", or {', '.join(map(str, self.ignore))} (ignored)" if self.ignore else ""
            shown = ", ".join(_shown(value, pixels.ndim == 3) for value in values[:6])
            raise DataSetError(
                f"{path}: the pixels of a mask must be {self.background} (background) or {structure}{ignored}. "
                f"Found: {shown}{' ...' if values[6:] else ''}"
            )
        return np.where(unknown, IGNORE, inside)[..., None].astype(np.uint8)


@dataclass(frozen=True)
class ColourCoding:
    """One file for all labels, each of which has its `colours`; a colour may belong to several labels.

    Of a label without colours the files tell nothing. `others`: colours of what is not asked for, which counts as
    background. `ignore`: colours of where nothing is known. All colours are numbers (grey levels, or indices of a
    palette), or all are red, green and blue.
    """

    colours: tuple[tuple[Colour, ...], ...]
    background: Colour = 0
    ignore: tuple[Colour, ...] = ()
    others: tuple[Colour, ...] = ()

    def read(self, path: Path, size: tuple[int, int]) -> NDArray[np.uint8]:
        """uint8 (height, width, labels): 1, 0, or 255 to ignore. Arguments and errors as of `BinaryCoding.read`."""
        pixels = read_pixels(path, size, colour=isinstance(self.background, tuple))
        codes = pixels if pixels.ndim == 2 else _packed(pixels)
        masks = np.zeros((*codes.shape, len(self.colours)), np.uint8)
        named = np.isin(codes, [_code(colour) for colour in (self.background, *self.others)])
        for colour in dict.fromkeys(colour for group in self.colours for colour in group):
            here = codes == _code(colour)
            named |= here
            masks[here] |= np.array([colour in group for group in self.colours], np.uint8)
        for colour in self.ignore:
            here = codes == _code(colour)
            named |= here
            masks[here] = IGNORE
        if not named.all():
            others = np.unique(codes[~named]).tolist()
            shown = ", ".join(_shown(code, pixels.ndim == 3) for code in others[:6])
            raise DataSetError(
                f"{path}: {(~named).sum()} pixels have colours that the vocabulary does not name: "
                f"{shown}{' ...' if others[6:] else ''}"
            )
        masks[..., [not group for group in self.colours]] = IGNORE
        return masks


@dataclass(frozen=True)
class MaskTruth:
    """The masks of n pictures for an output of `labels` labels, read one picture at a time.

    `files`: one for each label where `coding` is binary, else a single one. `exclusive`: a pixel has one label at most.
    """

    files: tuple[MaskFiles, ...]
    coding: BinaryCoding | ColourCoding
    exclusive: bool

    def __len__(self) -> int:
        return len(self.files[0])

    @property
    def labels(self) -> int:
        return len(self.coding.colours) if isinstance(self.coding, ColourCoding) else len(self.files)

    @property
    def known(self) -> NDArray[np.bool_]:
        """bool (n, labels): whether anything is known of a label in a picture."""
        known = np.stack([files.known for files in self.files], axis=-1)
        told = [bool(group) for group in self.coding.colours] if isinstance(self.coding, ColourCoding) else True
        return np.broadcast_to(known, (len(self), self.labels)) & told

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
            path, channels = files.paths[k], self.labels // len(self.files)
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


def find_masks(
    folder: str | Path, pictures: Sequence[str], absent: Absent, what: str = "masks", suffix: str = ""
) -> tuple[MaskFiles, tuple[str, ...], tuple[str, ...]]:
    """The mask in a folder of each picture: the file with the picture's name, whatever the ending.

    Args:
        pictures: paths below the folder of pictures, or names.
        absent: what a picture without a file means: that there is nothing to mark ("empty"), or "unknown".
        what: the masks, for messages.
        suffix: what the names of masks have behind those of the pictures, before the ending.

    Returns:
        The files; the pictures without one; the files that belong to no picture.

    Raises:
        DataSetError: there is no such folder, two files have a picture's name, or two pictures the same mask.
    """
    index = FileIndex(folder, MASK_ENDINGS, f"{what} ({', '.join(MASK_ENDINGS)})")
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
        found, without, others = find_masks(folder / place, pictures, absent, f"the masks {place}", suffix)
        if each and len(without) == len(pictures):
            raise DataSetError(
                f"{folder / place}: no mask of any picture; expected the pictures' names with {suffix}.png, .bmp or "
                f".tif. Found: {', '.join(others[:3]) or 'nothing'}"
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


def read_pixels(path: Path, size: tuple[int, int], colour: bool | None) -> NDArray[np.uint8]:
    """The pixels of a mask as they are stored: nothing is turned, scaled or smoothed.

    Args:
        size: width and height that are expected.
        colour: red, green and blue, uint8 (height, width, 3); else grey levels or indices of a palette, uint8 (height,
            width), black and white as 0 and 255. None: the former where the pixels themselves have colours.

    Raises:
        DataSetError: the file cannot be read, has another size, or colours where grey levels were expected.
    """
    try:
        with Image.open(path) as image:
            if image.size != size:
                raise DataSetError(
                    f"{path}: the mask has {image.width} x {image.height} pixels; expected those of its picture, "
                    f"{size[0]} x {size[1]}"
                )
            if colour:
                return np.asarray(image.convert("RGB"))
            pixels = np.asarray(image.convert("L") if image.mode == "1" else image)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:  # as Pillow tells of damage
        raise DataSetError(f"{path}: cannot be read as a mask ({error}); expected PNG, BMP or TIFF") from error
    if pixels.ndim == 3:
        if colour is None and pixels.shape[-1] >= 3 and (pixels[..., :3] != pixels[..., :1]).any():
            return np.ascontiguousarray(pixels[..., :3])
        if (pixels[..., :3] != pixels[..., :1]).any() or pixels.shape[-1] < 3:
            raise DataSetError(f"{path}: the mask has colours; expected grey levels or a palette")
        pixels = pixels[..., 0]
    if pixels.min() < 0 or pixels.max() > 255:
        raise DataSetError(f"{path}: the mask has values up to {pixels.max()}; expected 0 to 255")
    return pixels.astype(np.uint8)


def _packed(pixels: NDArray[np.uint8]) -> NDArray[np.int32]:
    red, green, blue = (pixels[..., k].astype(np.int32) for k in range(3))
    return (red << 16) + (green << 8) + blue


def _code(colour: Colour) -> int:
    return colour if isinstance(colour, int) else (colour[0] << 16) + (colour[1] << 8) + colour[2]


def _shown(code: int, colour: bool) -> str:
    return f"#{code:06x}" if colour else str(code)
