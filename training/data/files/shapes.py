"""Shapes drawn over a picture, as LabelMe writes them, and the masks that they make.

    {
      "imageWidth": 4288, "imageHeight": 2848,
      "shapes": [
        {"label": "EX", "shape_type": "polygon", "points": [[910.5, 1204], [960, 1190.2], [951, 1240]]},
        {"label": "HE", "shape_type": "rectangle", "points": [[100, 100], [160, 140]]},
        {"label": "MA", "shape_type": "circle", "points": [[500, 620], [512, 620]]},
        {"label": "SE", "shape_type": "ellipse", "points": [[1500, 900]], "radii": [80, 40], "angle": 30}
      ]
    }

Coordinates are pixels of a picture of that width and height, from the upper left corner of its first pixel to the right
and down; a picture that was enlarged or reduced since has the same shapes. Points are the corners of a polygon (the
default; even-odd where it crosses itself), two opposite corners of a rectangle, a circle's centre and a point on it.
LabelMe has no ellipse: ours has its centre, two radii, and the angle by which the first is turned from the right
downwards, in degrees. All else that LabelMe writes is left alone.

A pixel belongs to a shape where its centre lies inside; so a shape that holds no centre leaves no pixel.
"""

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from keras_realmnet.errors import DataSetError
from training.data.files.mask_codings import IGNORE

__all__ = ["Shape", "ShapeCoding", "read_shapes"]

Array = NDArray[Any]
Size = tuple[int, int]


@dataclass(frozen=True)
class Shape:
    """`inside(x, y)` says of all points of columns x (w,) and rows y (h,), bool (h, w), whether they lie in the shape;
    those that do lie in `box`: left, top, right, bottom."""

    label: str
    box: tuple[float, float, float, float]
    inside: Callable[[Array, Array], Array]

    def draw(self, mask: Array, scale: tuple[float, float], value: int) -> None:
        """Gives `value` to the pixels of a mask (height, width) inside of the shape.

        Args:
            scale: pixels of the mask for one of the drawing, along x and y.
        """
        height, width = mask.shape
        left, right = (min(max(edge * scale[0], 0), width) for edge in self.box[::2])
        top, bottom = (min(max(edge * scale[1], 0), height) for edge in self.box[1::2])
        columns, rows = np.arange(int(left), math.ceil(right)), np.arange(int(top), math.ceil(bottom))
        if len(columns) and len(rows):
            window = mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
            window[self.inside((columns + 0.5) / scale[0], (rows + 0.5) / scale[1])] = value


@dataclass(frozen=True)
class ShapeCoding:
    """One file for all labels, each of which has the shapes that are called by one of its `names`.

    `others`: names of what is not asked for, which counts as background. `ignore`: names of where nothing is known but
    what is drawn there of a label.
    """

    endings: ClassVar[tuple[str, ...]] = (".json",)

    names: tuple[tuple[str, ...], ...]
    ignore: tuple[str, ...] = ()
    others: tuple[str, ...] = ()

    @property
    def told(self) -> tuple[bool, ...]:
        return (True,) * len(self.names)

    def read(self, path: Path, size: Size) -> NDArray[np.uint8]:
        """uint8 (height, width, labels): 1, 0, or 255 to ignore.

        Args:
            size: width and height of the picture.

        Raises:
            DataSetError: the file cannot be read, is of a picture of another form, or has a shape or a name that is not
                known.
        """
        drawn, shapes = read_shapes(path)
        if abs(size[0] * drawn[1] - size[1] * drawn[0]) > max(*size, *drawn):  # more than rounding
            raise DataSetError(
                f"{path}: was drawn on {drawn[0]} x {drawn[1]} pixels; expected the form of its picture, "
                f"{size[0]} x {size[1]}"
            )
        known = {*self.ignore, *self.others, *(name for names in self.names for name in names)}
        strange = sorted({shape.label for shape in shapes} - known)
        if strange:
            raise DataSetError(f"{path}: has shapes that the vocabulary does not name: {', '.join(strange)}")
        scale = size[0] / drawn[0], size[1] / drawn[1]
        masks = np.zeros((len(self.names), size[1], size[0]), np.uint8)
        for mask, names in zip(masks, self.names, strict=True):
            for called, value in ((self.ignore, IGNORE), (names, 1)):
                for shape in shapes:
                    if shape.label in called:
                        shape.draw(mask, scale, value)
        return np.ascontiguousarray(np.moveaxis(masks, 0, -1))


def read_shapes(path: Path) -> tuple[Size, tuple[Shape, ...]]:
    """Width and height of the picture that was drawn on, and the shapes.

    Raises:
        DataSetError: the file cannot be read, or a shape is none of those at the top of this module.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
        width, height = (int(content[name]) for name in ("imageWidth", "imageHeight"))
        listed = list(content["shapes"])
        if width < 1 or height < 1:
            raise ValueError(f"{width} x {height} pixels")
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise DataSetError(
            f"{path}: cannot be read as shapes ({error}); expected JSON with imageWidth, imageHeight and shapes"
        ) from error
    shapes = []
    for number, values in enumerate(listed):
        try:
            shapes.append(_shape(values))
        except (ValueError, TypeError, KeyError) as error:
            told = f"{type(error).__name__} {error}" if isinstance(error, KeyError) else str(error)
            raise DataSetError(f"{path}: shapes[{number}]: {told}") from error
    return (width, height), tuple(shapes)


def _shape(values: Mapping[str, Any]) -> Shape:
    kind = values.get("shape_type") or "polygon"
    if kind not in _KINDS:
        raise ValueError(f"shape_type must be one of {', '.join(_KINDS)}. Found: {kind!r}")
    count, make = _KINDS[kind]
    points = np.array(values["points"], np.float64)
    fits = points.ndim == 2 and points.shape[-1] == 2 and (len(points) >= 3 if count is None else len(points) == count)
    if not fits or not np.isfinite(points).all():
        expected = "three or more points" if count is None else f"{count} point{'s' if count > 1 else ''}"
        raise ValueError(f"a {kind} has {expected}, each with x and y. Found: {values['points']!r}")
    return make(str(values["label"]), points, values)


def _polygon(label: str, points: Array, values: Mapping[str, Any]) -> Shape:
    def inside(x: Array, y: Array) -> Array:
        crossed = np.zeros((len(y), len(x) + 1), np.int64)  # edges, from each column on
        for (x0, y0), (x1, y1) in zip(points, np.roll(points, -1, axis=0), strict=True):
            rows = np.flatnonzero((y0 <= y) != (y1 <= y))
            if len(rows):
                at = x0 + (y[rows] - y0) * ((x1 - x0) / (y1 - y0))
                crossed[rows, np.searchsorted(x, at)] += 1
        return np.asarray(np.cumsum(crossed[:, :-1], axis=1) % 2 == 1)

    return Shape(label, (*points.min(axis=0), *points.max(axis=0)), inside)


def _rectangle(label: str, points: Array, values: Mapping[str, Any]) -> Shape:
    (left, top), (right, bottom) = points.min(axis=0), points.max(axis=0)
    return _polygon(label, np.array([(left, top), (right, top), (right, bottom), (left, bottom)]), values)


def _circle(label: str, points: Array, values: Mapping[str, Any]) -> Shape:
    radius = math.dist(*points)
    if not radius:
        raise ValueError(f"a circle has its centre and another point. Found: {values['points']!r}")
    return _ellipse(label, points[:1], {"radii": [radius, radius], "angle": 0})


def _ellipse(label: str, points: Array, values: Mapping[str, Any]) -> Shape:
    radii = [float(radius) for radius in values["radii"]]
    angle = math.radians(float(values["angle"]))
    if len(radii) != 2 or not all(radius > 0 and math.isfinite(radius) for radius in radii) or not math.isfinite(angle):
        raise ValueError(f"an ellipse has two radii above 0. Found: {values['radii']!r}")
    (x0, y0), (a, b), (c, s) = points[0], radii, (math.cos(angle), math.sin(angle))
    across, down = math.hypot(a * c, b * s), math.hypot(a * s, b * c)

    def inside(x: Array, y: Array) -> Array:
        dx, dy = x - x0, (y - y0)[:, None]
        along = ((c * dx + s * dy) / a) ** 2 + ((c * dy - s * dx) / b) ** 2
        return np.asarray(along <= 1)

    return Shape(label, (x0 - across, y0 - down, x0 + across, y0 + down), inside)


_KINDS: dict[str, tuple[int | None, Callable[[str, Array, Mapping[str, Any]], Shape]]] = {
    "polygon": (None, _polygon),
    "rectangle": (2, _rectangle),
    "circle": (2, _circle),
    "ellipse": (1, _ellipse),
}
