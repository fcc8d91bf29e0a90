"""From an image of any size to the model's square input: the one copy of this geometry in the project.

Crop to the bounding box of the illuminated field, keep the aspect ratio, scale the long side to `PreprocessSpec.size`,
centre on black. Training prepares its data with it, the box screens with it; `PreprocessSpec.hash` is how both notice
that they would not do the same. Values stay 0-255: the model's first layer scales them.

Coordinates are (x, y) in pixels with the centre of the upper left pixel at (0, 0).
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from keras_realmnet.errors import BundleMismatch

__all__ = ["VERSION", "Box", "FieldGeometry", "PreprocessSpec", "field_mask", "find_field", "preprocess"]

VERSION = 1  # of the algorithm below: raise it whenever the same image would give other pixels

Box = tuple[int, int, int, int]  # (x0, y0, x1, y1) in source pixels, x1 and y1 excluded

FIELD_THRESHOLD = 16  # noise in the black corners of PALM, IDRiD, HRF, DRISHTI: 11 at most
SEARCH_SIZE = 512  # px, long side of the copy on which the field is searched
MIN_FIELD = 0.01  # of the frame: less light than this is not a field, and the whole frame is kept
MIN_PART = 0.05  # of the largest bright part: text, logos and reflexes outside of the field are smaller
EDGE_SUPPORT = 0.01  # of a side: so many bright pixels make a row or a column part of the field


@dataclass(frozen=True)
class PreprocessSpec:
    """What a model was trained with.

    `size`: side of the square model input in pixels. `field_threshold`: a pixel belongs to the illuminated field when
    its brightest channel is above it (0-255). `version`: of the algorithm. `reduction`: 1, or 2 where large JPEGs are
    decoded at half their size, for a network that was trained and measured so; the field of a large picture is then
    searched on a reduced copy, which finds the same box in either decoding.
    """

    size: int
    field_threshold: int = FIELD_THRESHOLD
    version: int = VERSION
    reduction: int = 1

    def __post_init__(self) -> None:
        if self.size < 1:
            raise ValueError(f"`size` must be a positive number of pixels. Received: {self.size}")
        if not 0 <= self.field_threshold < 255:
            raise ValueError(f"`field_threshold` must be in 0..254. Received: {self.field_threshold}")
        if self.version != VERSION:
            raise BundleMismatch(f"preprocessing version {self.version} was asked for; this code has {VERSION}")
        if self.reduction not in (1, 2):
            raise ValueError(f"`reduction` must be 1 or 2. Received: {self.reduction}")

    @property
    def min_side(self) -> int | None:
        """What the longer side of a picture must keep, in pixels, when a decoder shrinks it (`read_image`); None: all.

        2.5 times the model's, so that the field, at least two thirds of a gradable picture, still only shrinks; and
        enough for the measures of quality and the picture beside a result.
        """
        return None if self.reduction == 1 else max(1024, -(-5 * self.size // 2))

    @property
    def hash(self) -> str:
        """16 hexadecimal digits of the SHA-256 over the canonical JSON of all fields."""
        canonical = json.dumps(self.to_dict(), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()[:16]

    def to_dict(self) -> dict[str, int]:
        """All fields; `reduction` only where there is one, which older specs did not know."""
        values = asdict(self)
        return values if self.reduction != 1 else {k: v for k, v in values.items() if k != "reduction"}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "PreprocessSpec":
        """Raises `BundleMismatch` on missing or unknown fields, on other types than int and on another version."""
        names = [field.name for field in fields(cls)]
        values = {"reduction": 1, **values}
        if sorted(values) != sorted(names) or not all(type(values[name]) is int for name in names):
            raise BundleMismatch(f"a preprocessing spec has the integers {', '.join(names)}. Received: {dict(values)}")
        return cls(**values)


@dataclass(frozen=True)
class FieldGeometry:
    """Where the model's square lies on the source image; everything else follows from these three.

    `source`: (height, width) of the source image. `box`: the crop in source pixels. `size`: side of the model square.
    """

    source: tuple[int, int]
    box: Box
    size: int

    @property
    def content(self) -> tuple[int, int]:
        """(width, height) in model pixels of the scaled crop inside of the square."""
        x0, y0, x1, y1 = self.box
        long = max(x1 - x0, y1 - y0)
        return max(1, round((x1 - x0) * self.size / long)), max(1, round((y1 - y0) * self.size / long))

    @property
    def pad(self) -> tuple[int, int]:
        """(x, y) of the scaled crop's upper left corner in the square."""
        width, height = self.content
        return (self.size - width) // 2, (self.size - height) // 2

    @property
    def scale(self) -> tuple[float, float]:
        """Model pixels per source pixel along x and y; they differ only by the rounding of `content`."""
        x0, y0, x1, y1 = self.box
        return self.content[0] / (x1 - x0), self.content[1] / (y1 - y0)

    @property
    def centre(self) -> tuple[float, float]:
        """(x, y) of the middle of the crop, which is the field's bounding box, in source pixels."""
        x0, y0, x1, y1 = self.box
        return (x0 + x1 - 1) / 2, (y0 + y1 - 1) / 2

    def on(self, source: tuple[int, int]) -> "FieldGeometry":
        """The same square on the picture of that (height, width) of which this one was a copy at half its size."""
        factor = round(source[0] / self.source[0])
        x0, y0, x1, y1 = (side * factor for side in self.box)
        return FieldGeometry(source, (x0, y0, x1, y1), self.size)

    def to_model(self, points: NDArray[Any]) -> NDArray[np.float64]:
        """Source (x, y) points of shape (n, 2) in model pixels."""
        return (np.asarray(points, np.float64) + 0.5 - self.box[:2]) * self.scale + self.pad - 0.5

    def to_source(self, points: NDArray[Any]) -> NDArray[np.float64]:
        """Model (x, y) points of shape (n, 2) in source pixels: the inverse of `to_model`."""
        return (np.asarray(points, np.float64) + 0.5 - self.pad) / self.scale + self.box[:2] - 0.5

    def map_to_source(self, class_map: NDArray[Any], size_hw: tuple[int, int] | None = None) -> NDArray[np.float32]:
        """A class map of shape (h', w'), stretched over the model square, laid back on the source.

        Returns float32 of shape `size_hw` (the source itself when None; else a scaled copy of it), bilinear between
        the centres of the map's cells, 0 outside of the crop.
        """
        class_map = np.asarray(class_map, np.float32)
        if class_map.ndim != 2:
            raise ValueError(f"`class_map` must have shape (h', w'). Received shape {class_map.shape}")
        height, width = self.source if size_hw is None else size_hw
        x0, y0, x1, y1 = self.box
        columns = self._sampling(class_map.shape[1], width, self.source[1], x0, x1, axis=0)  # (width, w')
        rows = self._sampling(class_map.shape[0], height, self.source[0], y0, y1, axis=1)  # (height, h')
        laid_back: NDArray[np.float32] = rows @ class_map @ columns.T
        return laid_back

    def _sampling(self, cells: int, out: int, source: int, start: int, stop: int, axis: int) -> NDArray[np.float32]:
        """Bilinear weights (out, cells) along one axis; exact, where OpenCV's warps round to 1/32 of a cell."""
        at = (np.arange(out) + 0.5) * source / out - 0.5  # source pixels
        model = (at + 0.5 - start) * self.scale[axis] + self.pad[axis] - 0.5
        cell = np.clip((model + 0.5) * cells / self.size - 0.5, 0, cells - 1)
        weights = np.maximum(0.0, 1.0 - np.abs(cell[:, None] - np.arange(cells)))
        weights[(at < start - 0.5) | (at > stop - 0.5)] = 0.0
        return weights.astype(np.float32)


def find_field(image: NDArray[np.uint8], threshold: int) -> Box:
    """The bounding box of the illuminated field of a uint8 RGB image of shape (h, w, 3).

    Bright specks, text and noise in the dark border do not count. An image without a field (all black) gives the
    whole frame. The search runs on a reduced copy; the edges are then found at full resolution, so the box does not
    depend on how much border there is.
    """
    _check(image)
    height, width = image.shape[:2]
    step = -(-max(height, width) // SEARCH_SIZE)  # source pixels per pixel of the reduced copy
    if min(height, width) < step:
        return 0, 0, width, height
    rows, columns = height // step, width // step
    fine = min(step, 2)  # the mean of 2 x 2 samples quietens noise; reading all of 12 megapixels would take 5x as long
    samples = cv2.resize(
        image[: rows * step, : columns * step], (columns * fine, rows * fine), interpolation=cv2.INTER_NEAREST
    )
    reduced = cv2.resize(samples, (columns, rows), interpolation=cv2.INTER_AREA)
    mask = cv2.morphologyEx(_bright(reduced, threshold), cv2.MORPH_OPEN, np.ones((3, 3), np.uint8))
    # 16 bits do: parts of 3 x 3 pixels or more on a copy of SEARCH_SIZE are 16,384 at most.
    count, parts = cv2.connectedComponents(mask, connectivity=8, ltype=cv2.CV_16U)
    largest = cv2.countNonZero(mask)
    if count > 2:  # the background is one
        areas = np.bincount(parts.ravel(), minlength=count)
        areas[0], largest = 0, areas[1:].max()
        mask = (areas >= MIN_PART * largest).astype(np.uint8)[parts]
    if largest < MIN_FIELD * rows * columns:
        return 0, 0, width, height
    x, y, across, down = cv2.boundingRect(mask)
    left, top, right, bottom = x * step, y * step, (x + across) * step, (y + down) * step

    def edge(at: int, limit: int, axis: int) -> tuple[int, int]:
        """First and last + 1 line with enough bright pixels within two reduced pixels of `at`, along `axis`."""
        start, stop = max(0, at - 2 * step), min(limit, at + 2 * step)
        band = image[top:bottom, start:stop] if axis else image[start:stop, left:right]
        bright = np.count_nonzero(_bright(band, threshold), axis=1 - axis)
        lines = np.flatnonzero(bright >= max(1.0, EDGE_SUPPORT * band.shape[1 - axis]))
        return (start + int(lines[0]), start + int(lines[-1]) + 1) if len(lines) else (at, min(at, limit))

    x0, x1 = edge(left, width, 1)[0], edge(right, width, 1)[1]
    y0, y1 = edge(top, height, 0)[0], edge(bottom, height, 0)[1]
    return x0, y0, x1, y1


def field_mask(image: NDArray[np.uint8], threshold: int = FIELD_THRESHOLD) -> NDArray[np.bool_]:
    """Which pixels of a uint8 RGB image (h, w, 3) are of the illuminated field, bool (h, w).

    The convex hull of its bright part, of each where there are several: vessels and a dim rim belong to it, bright
    specks beside it do not. For fields that are convex, as those of fundus cameras are. All False where nothing is
    bright.
    """
    _check(image)
    outlines, _ = cv2.findContours(_bright(image, threshold), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    areas = [cv2.contourArea(outline) for outline in outlines]
    smallest = MIN_PART * max(areas, default=0.0)
    parts = [cv2.convexHull(part) for part, area in zip(outlines, areas, strict=True) if area >= smallest > 0]
    field = np.zeros(image.shape[:2], np.uint8)
    return np.asarray(cv2.drawContours(field, parts, -1, 1, cv2.FILLED), np.bool_)


def preprocess(image: NDArray[np.uint8], spec: PreprocessSpec) -> tuple[NDArray[np.uint8], FieldGeometry]:
    """The model input, uint8 RGB of shape (size, size, 3) with values 0-255, and where it came from.

    `image` is uint8 RGB of shape (h, w, 3); anything else raises ValueError.
    """
    box = _find_field(image, spec)
    geometry = FieldGeometry(source=(image.shape[0], image.shape[1]), box=box, size=spec.size)
    (x0, y0, x1, y1), (width, height), (left, top) = box, geometry.content, geometry.pad
    # Area averaging when shrinking (no aliasing of fine vessels); it would repeat pixels when enlarging.
    interpolation = cv2.INTER_AREA if max(x1 - x0, y1 - y0) >= spec.size else cv2.INTER_LINEAR
    model_image = np.zeros((spec.size, spec.size, 3), np.uint8)
    model_image[top : top + height, left : left + width] = cv2.resize(
        image[y0:y1, x0:x1], (width, height), interpolation=interpolation
    )
    return model_image, geometry


def _find_field(image: NDArray[np.uint8], spec: PreprocessSpec) -> Box:
    """The box by the rules of `spec`.

    With a `reduction` it is found at the one size, from `min_side` to twice that, to which halving leads from the whole
    picture and from one decoded at half its size alike. Boxes a pixel apart could lie half a model pixel apart, by the
    rounding of `FieldGeometry.content`.
    """
    factor = 1
    while spec.min_side is not None and max(image.shape[:2]) >= 2 * factor * spec.min_side:
        factor *= 2
    rows, columns = image.shape[0] // factor, image.shape[1] // factor
    if factor == 1 or min(rows, columns) == 0:
        return find_field(image, spec.field_threshold)
    reduced = cv2.resize(image[: rows * factor, : columns * factor], (columns, rows), interpolation=cv2.INTER_AREA)
    x0, y0, x1, y1 = find_field(np.asarray(reduced, np.uint8), spec.field_threshold)
    return x0 * factor, y0 * factor, x1 * factor, y1 * factor


def _check(image: NDArray[Any]) -> None:
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or 0 in image.shape:
        raise ValueError(f"`image` must be uint8 of shape (h, w, 3). Received: {image.dtype} of shape {image.shape}")


def _bright(image: NDArray[Any], threshold: int) -> NDArray[Any]:
    """1 where the brightest channel is above the threshold."""
    red, green, blue = cv2.split(image)
    return cv2.threshold(cv2.max(cv2.max(red, green), blue), threshold, 1, cv2.THRESH_BINARY)[1]
