"""One geometric change of a square image, drawn once, and what is true of the image follows it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

__all__ = ["IGNORE", "Motion"]

IGNORE = 255  # in masks: nothing is known of this pixel; the loss and the scores leave it out


@dataclass(frozen=True)
class Motion:
    """First `matrix`, then a horizontal and a vertical flip, of images with `shape` (height, width).

    matrix: float (2, 3), from the pixels of the image before to those of the image after, x to the right, y down, the
    centre of the upper left pixel at (0, 0); None: nothing moves.
    """

    shape: tuple[int, int]
    matrix: NDArray[Any] | None = None
    horizontal: bool = False
    vertical: bool = False

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
        x = width - 1 - x if self.horizontal else x
        y = height - 1 - y if self.vertical else y
        moved[seen, :2] = (np.stack([x, y], axis=-1) + 0.5) / (width, height)
        return only_inside(moved)

    def _moved(self, pixels: NDArray[Any], interpolation: int, border: int) -> NDArray[Any]:
        if self.matrix is not None:
            fill: Sequence[float] = (border,) * 3
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
