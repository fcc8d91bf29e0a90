"""A picture on its way into the cache: as the model sees it, with the masks and points that lie in it.

All take the way of the box: `keras_realmnet.screening.preprocessing`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from keras_realmnet.screening.image_io import read_image
from keras_realmnet.screening.preprocessing import FieldGeometry, PreprocessSpec, preprocess
from training.data.files.mask_files import MaskTruth, MaskVotes
from training.tasks.motion import IGNORE, only_inside

__all__ = [
    "Prepared",
    "longer_sides_of",
    "mask_in_square",
    "points_in_square",
    "read_and_prepare",
    "read_row",
    "sides_of",
]

MaskReader = Callable[[tuple[int, int]], NDArray[np.uint8]]


@dataclass(frozen=True)
class Prepared:
    """`pixels`: uint8 (side, side, 3). `masks`: {output: uint8 (side, side[, labels])}, by `mask_in_square`.

    `geometry`: where the square lies on the decoded picture; needed where there are points. `size`: (height, width) of
    the picture that points are in; None: as decoded. `made`: {output: its truth, float32}, of a picture that is made
    together with it; points in fractions of the square.
    """

    pixels: NDArray[np.uint8]
    geometry: FieldGeometry | None = None
    size: tuple[int, int] | None = None
    masks: Mapping[str, NDArray[np.uint8]] = field(default_factory=dict)
    made: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)

    @property
    def place(self) -> NDArray[np.int32]:
        """What `points_in_square` needs of it, (8,): size of the picture, of what was decoded, and the crop of that."""
        if self.geometry is None:
            raise ValueError("points need the geometry of their picture. Received: None")
        return np.array([*(self.size or self.geometry.source), *self.geometry.source, *self.geometry.box], np.int32)


def read_and_prepare(path: Path, spec: PreprocessSpec, masks: Mapping[str, MaskReader] | None = None) -> Prepared:
    """The image of a file as the model sees it, and its masks.

    Args:
        masks: {output: what gives its mask, uint8 (height, width[, labels]), for a picture of a (width, height)}.

    Raises:
        UnreadableImage, and whatever `masks` raise.
    """
    image = read_image(path, min_side=spec.min_side)
    pixels, geometry = preprocess(image.pixels, spec)
    width, height = image.source.size
    read = {name: mask_in_square(reader((width, height)), geometry) for name, reader in (masks or {}).items()}
    return Prepared(pixels, geometry, (height, width), read)


def read_row(source: tuple[Path, int], spec: PreprocessSpec, masks: Mapping[str, MaskTruth | MaskVotes]) -> Prepared:
    """The image of a file and its masks, of which `source` names the row in each of `masks`; as `read_and_prepare`."""
    path, row = source
    return read_and_prepare(path, spec, {name: partial(truth.read, row) for name, truth in masks.items()})


def mask_in_square(mask: NDArray[np.uint8], geometry: FieldGeometry) -> NDArray[np.uint8]:
    """The mask of a whole picture, uint8 (h, w[, labels]), in the model's square: (side, side[, labels]).

    Each pixel of the square gets the value of the mask's pixel in which its centre lies. Beside the picture nothing is
    known (255). The mask is as large as the picture, which may have been decoded at half its size.
    """
    factor = max(1, mask.shape[0] // geometry.source[0])
    x0, y0, x1, y1 = (side * factor for side in geometry.box)
    (columns, rows), (left, top) = geometry.content, geometry.pad
    square = np.full((geometry.size, geometry.size, *mask.shape[2:]), IGNORE, np.uint8)
    x = x0 + (np.arange(columns) + 0.5) * (x1 - x0) / columns  # pixel i of the mask reaches from i to i + 1
    y = y0 + (np.arange(rows) + 0.5) * (y1 - y0) / rows
    inside = mask[y.astype(np.intp)[:, None], x.astype(np.intp)]
    square[top : top + rows, left : left + columns] = inside
    return square


def points_in_square(points: NDArray[Any], places: NDArray[np.int32], side: int) -> NDArray[np.float32]:
    """Points in pixels of their pictures as fractions of the model's square.

    Args:
        points: (n, points, 3): x, y, visible, as in `training.data.files.points`; NaN where not known.
        places: (n, 8), see `Prepared.place`. side: of the square, in pixels.

    Returns:
        float32 (n, points, 3). A point outside of the square, which the model is not shown, is not visible.
    """
    moved = np.array(points, np.float64)
    for row, (height, _, decoded_height, decoded_width, *box) in zip(moved, places.tolist(), strict=True):
        geometry = FieldGeometry((decoded_height, decoded_width), (box[0], box[1], box[2], box[3]), side)
        factor = max(1, height // decoded_height)
        decoded = (row[:, :2] + 0.5) / factor - 0.5
        row[:, :2] = (geometry.to_model(decoded) + 0.5) / side
    return only_inside(moved.astype(np.float32))


def sides_of(places: NDArray[np.int32]) -> NDArray[np.float64]:
    """The side of the model's square in longer sides of the picture, (n,); `places`: (n, 8), see `Prepared.place`."""
    _, _, height, width, x0, y0, x1, y1 = places.T.astype(np.float64)
    sides: NDArray[np.float64] = np.maximum(x1 - x0, y1 - y0) / np.maximum(height, width)
    return sides


def longer_sides_of(places: NDArray[np.int32]) -> NDArray[np.float64]:
    """The longer side of the picture in pixels, (n,); `places` as in `sides_of`."""
    return places[:, :2].max(axis=1).astype(np.float64)
