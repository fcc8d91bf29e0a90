"""One geometric change of a square image, drawn once, and what is true of the image follows it."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import map_coordinates

__all__ = ["IGNORE", "Motion"]

IGNORE = 255  # in masks: nothing is known of this pixel; the loss and the scores leave it out
EXACT = 1e-4  # px, to which a point's place is found where a displacement has to be undone


@dataclass(frozen=True)
class Motion:
    """First `matrix`, then `displacement`, then a horizontal and a vertical flip, of images with `shape` (height,
    width).

    matrix: float (2, 3), from the pixels of the image before to those of the image after, x to the right, y down, the
    centre of the upper left pixel at (0, 0); None: nothing moves.
    displacement: float32 (height, width, 2), of each pixel how far from it, in x and y, lies what it shows; between
    pixels bilinear, beside the image as at its edge. It must not fold: over one pixel it changes by less than one.
    None: nothing moves.
    """

    shape: tuple[int, int]
    matrix: NDArray[Any] | None = None
    horizontal: bool = False
    vertical: bool = False
    displacement: NDArray[np.float32] | None = None

    def image(self, image: NDArray[Any]) -> NDArray[Any]:
        """The image after it, uint8 (h, w, 3), bilinear; black comes in from outside."""
        return self._moved(image, cv2.INTER_LINEAR, 0)

    def mask(self, mask: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """The mask after it, uint8 (h, w) or (h, w, labels), by the nearest pixel; `IGNORE` comes in from outside."""
        if mask.ndim == 3:  # OpenCV fills at most four channels
            return np.stack([self.mask(np.ascontiguousarray(mask[..., k])) for k in range(mask.shape[-1])], axis=-1)
        return self._moved(mask, cv2.INTER_NEAREST, IGNORE)

    def points(self, points: NDArray[np.float32]) -> NDArray[np.float32]:
        """Points after it, float32 (n, 3): x, y in fractions of the square's side, visible.

        A point that leaves the square is not visible any more.
        """
        moved = points.copy()
        seen = points[:, 2] == 1
        height, width = self.shape
        x, y = (points[seen, :2].astype(np.float64) * (width, height) - 0.5).T
        if self.matrix is not None:
            x, y = self.matrix @ np.stack([x, y, np.ones_like(x)])
        if self.displacement is not None:
            x, y = self._displaced(np.stack([x, y]), self.displacement)
        x = width - 1 - x if self.horizontal else x
        y = height - 1 - y if self.vertical else y
        moved[seen, :2] = (np.stack([x, y], axis=-1) + 0.5) / (width, height)
        return only_inside(moved)

    @staticmethod
    def _displaced(points: NDArray[np.float64], displacement: NDArray[np.float32]) -> NDArray[np.float64]:
        """Where points p (2, n), x and y in pixels, are shown: q with q + displacement(q) = p.

        By q ← p − displacement(q): each step leaves less of the error than the last, as nothing folds.
        """
        shown = points.copy()
        for _ in range(100):
            at = [shown[1], shown[0]]
            by = [map_coordinates(displacement[..., k], at, np.float64, order=1, mode="nearest") for k in range(2)]
            before, shown = shown, points - by
            if np.abs(shown - before).max(initial=0) < EXACT:
                break
        return shown

    @cached_property
    def _shows(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """x and y in the image before of what each pixel shows, (height, width) each, before the flips."""
        height, width = self.shape
        assert self.displacement is not None
        y, x = np.indices((height, width), np.float64)
        x, y = x + self.displacement[..., 0], y + self.displacement[..., 1]
        if self.matrix is not None:
            back = cv2.invertAffineTransform(self.matrix)
            x, y = (row[0] * x + row[1] * y + row[2] for row in back)
        return x.astype(np.float32), y.astype(np.float32)

    def _moved(self, pixels: NDArray[Any], interpolation: int, border: int) -> NDArray[Any]:
        fill: Sequence[float] = (border,) * 3
        if self.displacement is not None:
            pixels = cv2.remap(pixels, *self._shows, interpolation, borderValue=fill)
        elif self.matrix is not None:
            size = self.shape[::-1]
            pixels = cv2.warpAffine(pixels, self.matrix, size, flags=interpolation, borderValue=fill)
        if self.horizontal:
            pixels = cv2.flip(pixels, 1)
        if self.vertical:
            pixels = cv2.flip(pixels, 0)
        return pixels


def only_inside(points: NDArray[np.float32]) -> NDArray[np.float32]:
    """Points (..., 3) in fractions of the square; those that lie outside of it become not visible: (NaN, NaN, 0)."""
    outside = (points[..., 2] == 1) & ~((points[..., :2] >= 0) & (points[..., :2] <= 1)).all(axis=-1)
    points = points.copy()
    points[outside] = (np.nan, np.nan, 0)
    return points
