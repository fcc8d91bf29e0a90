"""What the arrays of scores are called, and a division that may have nothing to divide by."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["TINY", "Array", "ratio"]

Array = NDArray[Any]
TINY = np.finfo(np.float64).tiny


def ratio(numerator: Array, denominator: Array) -> Array:
    """`numerator` / `denominator`, both of one shape; NaN where the denominator is 0."""
    return np.divide(numerator, denominator, out=np.full(numerator.shape, np.nan), where=denominator > 0)
