"""What the pixels of a mask mean: one structure's own file, or one file for several, told apart by colours.

255, "ignore", is where nothing is known.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from keras_realmnet.errors import DataSetError

__all__ = ["IGNORE", "BinaryCoding", "Colour", "ColourCoding", "SharesCoding", "read_pixels"]

IGNORE = 255
Colour = int | tuple[int, int, int]  # a grey level or index, or red, green and blue
ENDINGS = (".png", ".bmp", ".tif", ".tiff")  # JPEG changes the values at every edge


@dataclass(frozen=True)
class BinaryCoding:
    """A file for each structure: `background` and one other grey level, `structure` where it is said.

    An index of a palette counts as a grey level. `ignore`: levels of where nothing is known. `coloured`: the structure
    may also be drawn in any one colour, on black.
    """

    endings: ClassVar[tuple[str, ...]] = ENDINGS
    told: ClassVar[tuple[bool, ...]] = (True,)  # of each label in a file, whether it tells of it

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

    endings: ClassVar[tuple[str, ...]] = ENDINGS

    colours: tuple[tuple[Colour, ...], ...]
    background: Colour = 0
    ignore: tuple[Colour, ...] = ()
    others: tuple[Colour, ...] = ()

    @property
    def told(self) -> tuple[bool, ...]:
        return tuple(map(bool, self.colours))

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
        masks[..., np.logical_not(self.told)] = IGNORE
        return masks


@dataclass(frozen=True)
class SharesCoding:
    """A file for each structure whose grey levels are the share of annotators who marked a pixel: 0 none, 255 all.

    A pixel belongs to it where at least half of them did: of four experts from level 127 on, as 127.5 is written.
    """

    endings: ClassVar[tuple[str, ...]] = ENDINGS
    told: ClassVar[tuple[bool, ...]] = (True,)

    def read(self, path: Path, size: tuple[int, int]) -> NDArray[np.uint8]:
        """uint8 (height, width, 1): 1 or 0. Arguments and errors as of `BinaryCoding.read`."""
        return (read_pixels(path, size, colour=False) >= 127)[..., None].astype(np.uint8)


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
