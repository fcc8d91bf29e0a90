"""Outlines of disc and cup that somebody drew on a copy of the picture: what is enclosed becomes masks."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import cv2
import numpy as np
from numpy.typing import NDArray

from keras_realmnet.errors import DataSetError
from keras_realmnet.screening.image_io import read_image
from training.data.files.mask_codings import IGNORE
from training.data.files.notices import noticed, tell

__all__ = ["OutlineCoding", "enclosed"]

Array = NDArray[Any]

LEAST, SHARE = 20, 0.25  # a line differs from the picture by so much of 255, and by this share of what differs most
# Pixels to either side by which lines are thickened so that they close, one after the other; first not at all, or a
# rim as narrow as a line would close, too.
GAPS = (0, 1, 2, 4, 8, 16)
CLOSED = 0.9  # of the convex hull of all lines, what the outer one encloses: less, and it has a gap
SPECK = 0.1  # of the longest line's extent: what is shorter is noise of compression
REGION = 0.02  # of the disc's area: what is smaller is no cup, but lies between lines that touch


@dataclass(frozen=True)
class OutlineCoding:
    """A copy of the picture, as large as it, with two closed lines drawn on it: around the disc, and around the cup.

    The picture itself lies beside it, with `unmarked` in the place of what `marked` says is behind the common name:
    image7-3.jpg is drawn on image7prime.jpg or .tif, as in RIGA. What cannot be told is unknown, and that is told.
    """

    endings: ClassVar[tuple[str, ...]] = (".jpg", ".jpeg", ".png", ".tif", ".tiff", ".bmp")
    told: ClassVar[tuple[bool, ...]] = (True, True)

    marked: str = "-"
    unmarked: str = "prime"

    def read(self, path: Path, size: tuple[int, int]) -> NDArray[np.uint8]:
        """uint8 (height, width, 2), disc and cup: 1 where it is, 0, or 255 where its line is not closed or not there.

        Args:
            size: width and height of the picture.

        Raises:
            DataSetError: a file cannot be read, has another size, or the picture is not there.
        """
        wanted = f"{path.stem.rpartition(self.marked)[0]}{self.unmarked}".casefold()
        beside = sorted(each for each in path.parent.iterdir() if each.stem.casefold() == wanted)
        if len(beside) != 1:
            raise DataSetError(f"{path}: expected one picture {wanted} beside it. Found: {len(beside)}")
        pictures = [read_image(each).pixels for each in (path, beside[0])]
        for each, pixels in zip((path, beside[0]), pictures, strict=True):
            if pixels.shape[1::-1] != size:
                shape = f"{pixels.shape[1]} x {pixels.shape[0]}"
                raise DataSetError(f"{each}: has {shape} pixels; expected those of its picture, {size[0]} x {size[1]}")
        masks = enclosed(*pictures)
        missing = [name for name, value in zip(("disc", "cup"), masks[0, 0], strict=True) if value == IGNORE]
        if missing:
            what = "outlines that could not be told, of which nothing is known"
            tell(noticed((what, [f"{path.parent.name}/{path.name}: {' and '.join(missing)}"])))
        return masks


def enclosed(marked: NDArray[np.uint8], picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """What two closed lines enclose, uint8 (h, w, 2): disc and cup, 1, 0, or all 255 where there is no such line.

    The lines are where the two pictures, uint8 (h, w, 3), differ. They are thickened until the outer one closes and
    cuts what it encloses into regions; gaps come from vessels as dark as the line. The disc is what is enclosed, the
    cup the most convex region in it: a rim is a ring, or a crescent where the lines touch. Each ends in the middle of
    its line.

    Ours; RIGA's outlines are told in similar ways by those who use them: the difference of both pictures, closed and
    filled.
    """
    different = cv2.absdiff(marked, picture).max(axis=-1)
    lines = _without_specks((different >= max(LEAST, SHARE * int(different.max()))).astype(np.uint8))
    masks = np.full((*lines.shape, 2), IGNORE, np.uint8)
    if lines.any():
        x, y, width, height = cv2.boundingRect(lines)
        there = _disc_and_cup(lines[y : y + height, x : x + width])
        for k, mask in enumerate(there):
            if mask is not None:
                masks[..., k] = 0
                masks[y : y + height, x : x + width, k] = mask
    return masks


def _disc_and_cup(lines: Array) -> tuple[Array | None, Array | None]:
    """uint8 (h, w) each; None where it cannot be told."""
    disc: Array | None = None
    hull = cv2.contourArea(cv2.convexHull(cv2.findNonZero(lines)))
    for gap in GAPS:
        closed = _closed(lines, gap)
        filled = _filled(closed)
        if hull == 0 or filled.sum() < CLOSED * hull:
            continue
        inner = _most_convex(filled & (1 - closed), REGION * filled.sum())
        half = lines.sum() / (_border(filled) + (0.0 if inner is None else _border(inner))) / 2  # of the line's width
        if disc is None:
            inside = cv2.copyMakeBorder(filled, 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=0)
            disc = (_distance(inside)[1:-1, 1:-1] > half + 0.5).astype(np.uint8)
        if inner is not None:
            return disc, disc & (_distance(1 - inner) <= half + 0.5)
    return disc, None


def _distance(mask: Array) -> Array:
    """How far each pixel of a mask is from the nearest one that is 0."""
    return cv2.distanceTransform(mask, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)


def _without_specks(lines: Array) -> Array:
    _, parts, statistics, _ = cv2.connectedComponentsWithStats(lines, connectivity=8)
    extent = statistics[:, [cv2.CC_STAT_WIDTH, cv2.CC_STAT_HEIGHT]].max(axis=1)
    extent[0] = 0  # what is no line
    return (extent >= max(1, SPECK * extent.max()))[parts].astype(np.uint8)


def _closed(lines: Array, gap: int) -> Array:
    """Morphologically closed. Beside them there is nothing, so that a line at the edge stays one."""
    edge = 2 * gap + 1
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (edge, edge))
    wide = cv2.copyMakeBorder(lines, edge, edge, edge, edge, cv2.BORDER_CONSTANT, value=0)
    return cv2.morphologyEx(wide, cv2.MORPH_CLOSE, kernel)[edge:-edge, edge:-edge].copy()


def _filled(lines: Array) -> Array:
    """The lines and all that they enclose, in one piece: the largest."""
    contours, _ = cv2.findContours(lines, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    largest = max(contours, key=cv2.contourArea)
    return np.asarray(cv2.drawContours(np.zeros_like(lines), [largest], -1, 1, cv2.FILLED), np.uint8)


def _most_convex(regions: Array, least: float) -> Array | None:
    """The region whose area is the largest share of its convex hull's, of two or more that have at least `least`."""
    count, parts, statistics, _ = cv2.connectedComponentsWithStats(regions, connectivity=4)
    large = [k for k in range(1, count) if statistics[k, cv2.CC_STAT_AREA] >= least]
    if len(large) < 2:
        return None

    def convexity(k: int) -> float:
        hull = cv2.contourArea(cv2.convexHull(cv2.findNonZero((parts == k).astype(np.uint8))))
        return float(statistics[k, cv2.CC_STAT_AREA] / max(hull, 1.0))

    return (parts == max(large, key=convexity)).astype(np.uint8)


def _border(mask: Array) -> float:
    contours, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    return sum(cv2.arcLength(contour, closed=True) for contour in contours)
