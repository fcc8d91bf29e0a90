"""Sums over the cases of each unit, and means over labels."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from scipy import sparse

from training.scoring.statistics.arrays import Array, ratio

__all__ = ["Means", "mean_of", "sums_by_unit", "unit_count"]


def unit_count(units: Array) -> int:
    return int(units.max(initial=-1)) + 1


def sums_by_unit(values: Array, units: Array) -> Array:
    """(n, ...) → float64 (..., units): of each unit the sum over its cases, so that `sums @ weights` is the total."""
    n, count = len(units), unit_count(units)
    members = sparse.csr_matrix((np.ones(n), (units, np.arange(n))), (count, n))
    width = int(np.prod(values.shape[1:]))
    return np.ascontiguousarray((members @ values.reshape(n, width).astype(np.float64)).T).reshape(
        *values.shape[1:], count
    )


def mean_of(values: Sequence[Array], included: Any) -> Array:
    """The mean over those that are `included`, bool of each, each (replicates,); NaN where none is."""
    some = [value for value, include in zip(values, included, strict=True) if include]
    return np.mean(some, axis=0) if some else np.full(len(values[0]), np.nan)


class Means:
    """Means of `columns`, numbers of the cases, {name: (n,)}, over those that are not NaN."""

    def __init__(self, columns: Mapping[str, Array], units: Array):
        self.sums = {
            name: (sums_by_unit(np.nan_to_num(values), units), sums_by_unit(~np.isnan(values), units))
            for name, values in columns.items()
        }

    def __call__(self, weights: Array) -> dict[str, Array]:
        """{name: (replicates,)} for weights (units, replicates); NaN where there is no number."""
        return {name: ratio(total @ weights, known @ weights) for name, (total, known) in self.sums.items()}
