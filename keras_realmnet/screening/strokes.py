"""Lines and names on a picture, seen on dark and on bright."""

from collections.abc import Mapping, Sequence
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

__all__ = ["BLACK", "Colour", "dashes", "draw_line", "font_of", "stroke_widths", "write_centred", "write_names"]

Colour = tuple[int, ...]

BLACK = (0, 0, 0)
FEWEST = 4  # dashes of a line: a shorter one has none, its form tells whose it is


@lru_cache(maxsize=64)
def font_of(height: float) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """Letters of that height in pixels. Kept, since opening the font takes longer than writing a line with it."""
    return ImageFont.load_default(size=height)


def stroke_widths(width: float) -> tuple[int, int]:
    """Of a coloured line that should be so wide, and of the black one under it; in whole pixels."""
    inner = max(2, round(width))
    return inner, max(inner + 2, round(2 * width))


def draw_line(picture: NDArray[np.uint8], line: NDArray[np.float64], colour: Colour, width: int) -> None:
    """A line of points (n, 2), x and y in pixels, into `picture`, uint8 (h, w, channels)."""
    fine = np.round(line * 16).astype(np.int32)[:, None]  # in sixteenths of a pixel
    cv2.polylines(picture, [fine], False, colour, width, cv2.LINE_AA, shift=4)


def dashes(line: NDArray[np.float64], dash: float) -> list[NDArray[np.float64]]:
    """The pieces of a line, (n, 2), `dash` pixels long with as much between them; the line itself for few or none."""
    steps = np.hypot(*np.diff(line, axis=0).T)
    along = np.concatenate([[0.0], np.cumsum(steps)])
    if not dash or along[-1] < FEWEST * 2 * dash:
        return [line]
    pieces = []
    for start in np.arange(0.0, along[-1], 2 * dash):
        inside = along[(along > start) & (along < start + dash)]
        at = np.array([start, *inside, min(start + dash, along[-1])])
        pieces.append(np.stack([np.interp(at, along, line[:, axis]) for axis in (0, 1)], axis=-1))
    return pieces


def write_names(picture: NDArray[np.uint8], names: Sequence[tuple[float, float, float, str]], height: float) -> None:
    """Each name, after where its mark begins and ends (x) and its top (y), beside the mark and on no other name.

    To the right of it, or to the left where there is no room. height: of the letters, in pixels.
    """
    font = font_of(height)
    canvas = Image.fromarray(picture)
    pen, taken = ImageDraw.Draw(canvas), list[tuple[float, float, float]]()
    for begin, end, top, text in names:
        width, gap = pen.textlength(text, font), height / 4
        left = end + gap if end + 2 * gap + width <= picture.shape[1] else max(0.0, begin - gap - width)
        top = float(np.clip(top, 0, max(0.0, picture.shape[0] - 1.4 * height)))
        for other_left, other_right, other_top in sorted(taken, key=lambda each: each[2]):
            if left < other_right and other_left < left + width and abs(top - other_top) < height:
                top = other_top + height
        taken.append((left, left + width, top))
        around = max(1, round(height / 10))
        pen.text((left, top), text, (255,) * picture.shape[2], font, stroke_width=around, stroke_fill=BLACK)
    picture[...] = np.asarray(canvas)


def write_centred(picture: NDArray[np.uint8], names: Mapping[str, tuple[float, float]], height: float) -> None:
    """Each name about its place, x and y, where that lies in the picture and the name has room there."""
    font = font_of(height)
    canvas = Image.fromarray(picture)
    pen, around = ImageDraw.Draw(canvas), max(1, round(height / 10))
    for text, (x, y) in names.items():
        half = pen.textlength(text, font) / 2
        if half <= x <= canvas.width - half and height <= y <= canvas.height - height:
            pen.text((x, y), text, (255,) * picture.shape[2], font, "mm", stroke_width=around, stroke_fill=BLACK)
    picture[...] = np.asarray(canvas)
