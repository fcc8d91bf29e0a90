"""Means over maps with 95 % intervals by patient."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from training.scoring.statistics.bootstrap import Interval, draws, interval

__all__ = ["by_label", "means", "text"]


def by_label(codes: Sequence[str]) -> dict[str, list[int]]:
    """The indices of each code, in the order of codes, and of all under "all"."""
    groups = {code: [i for i, each in enumerate(codes) if each == code] for code in sorted(set(codes))}
    return {**groups, "all": list(range(len(codes)))}


def means(values: NDArray[Any], patients: Sequence[str], replicates: int) -> list[Interval]:
    """The mean of each column of `values` (n, columns), with percentiles over patients drawn with replacement."""
    names, unit = np.unique(list(patients), return_inverse=True)
    values = np.asarray(values, np.float64)
    blocks = list(draws(len(names), len(names), replicates, seed=0)) if replicates else []
    weights = np.concatenate([block[unit] for block in blocks], axis=1) if blocks else np.empty((len(values), 0))
    drawn = values.T @ weights / weights.sum(axis=0)  # (columns, replicates)
    return [interval(float(value), each, "patient") for value, each in zip(values.mean(axis=0), drawn, strict=True)]


def text(value: Interval) -> str:
    return f"{value.value:.2f}" if value.low is None else f"{value.value:.2f} ({value.low:.2f} to {value.high:.2f})"
