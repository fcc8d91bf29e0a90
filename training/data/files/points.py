"""Points in tables: the pixels of a picture where something lies, that it cannot be seen, or that nobody knows.

A point is x, y and visible: x right, y down, the centre of the top left pixel at (0, 0); visible is 1, 0 (there is
none to be seen) or NaN (not known), and x and y are NaN unless it is 1.
"""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

__all__ = ["INVISIBLE", "UNKNOWN_POINT", "Point", "as_point", "fractions", "outside"]

Point = tuple[float, float, float]  # x, y, visible
UNKNOWN_POINT = (math.nan, math.nan, math.nan)
INVISIBLE = (math.nan, math.nan, 0.0)


def as_point(x: float, y: float) -> Point:
    """x, y, visible of two fields of a table in which NaN and -1 are not known.

    (0, 0) is how the iChallenge data sets (PALM, ADAM) write that no fovea can be seen.

    Raises:
        ValueError: only one of the two is known, or one is negative.
    """
    unknown = [math.isnan(value) or value == -1 for value in (x, y)]
    if all(unknown):
        return UNKNOWN_POINT
    if any(unknown):
        raise ValueError(f"x and y must both be known, or neither. Found: {x:g} and {y:g}")
    if x < 0 or y < 0:
        raise ValueError(f"a point must lie in its picture. Found: {x:g}, {y:g}")
    return INVISIBLE if x == y == 0 else (x, y, 1.0)


def outside(points: NDArray[np.float32], sizes: Sequence[tuple[int, int] | None]) -> list[tuple[int, int]]:
    """Row and column of each of the points (n, k, 3) that is not in its picture; `sizes`: width and height, or None."""
    known = np.array([size or (np.inf, np.inf) for size in sizes], np.float32).reshape(-1, 1, 2)
    rows, columns = np.nonzero((points[..., :2] > known).any(axis=-1))
    return list(zip(rows.tolist(), columns.tolist(), strict=True))


def fractions(points: NDArray[np.float32], sizes: Sequence[tuple[int, int] | None]) -> NDArray[np.float32]:
    """Points (n, k, 3) in pixels as fractions of their pictures' width and height: pixel i of w lies at (i + .5) / w.

    Where a size is None a point that is visible becomes unknown.
    """
    known = np.array([size or (np.nan, np.nan) for size in sizes], np.float32).reshape(-1, 1, 2)
    result = points.copy()
    result[..., :2] = (points[..., :2] + 0.5) / known
    result[(points[..., 2] == 1) & np.isnan(result[..., :2]).any(axis=-1)] = np.nan
    return result
