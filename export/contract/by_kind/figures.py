"""Figures of how far an artifact is from Keras, and what they say where they break a limit."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from training.scoring.statistics.significance import Difference

__all__ = [
    "AtLeast",
    "AtMost",
    "Cells",
    "Change",
    "Decoding",
    "Figure",
    "Share",
    "Value",
    "Values",
    "difference_of",
    "largest_mean_p99",
]

Value = float | int | Difference | None
Values = Mapping[str, Value]  # of one output, by the names of its figures
Cells = Mapping[str, Callable[[Values, int], str]]  # of a table: its heading, and what stands there for so many images


@dataclass(frozen=True)
class Figure:
    """`words`: what it is called where it breaks a limit. `limit`: the name of its limit, see `KindContract.limits`."""

    words: str
    limit: str

    def broken(self, value: float, bound: float, images: int) -> str | None:
        """What is said of a value that breaks its limit; `None` for one that does not. NaN breaks every limit."""
        raise NotImplementedError


class AtMost(Figure):
    """A distance."""

    def broken(self, value: float, bound: float, images: int) -> str | None:
        return None if value <= bound else f"{self.words} is {value:.3g}, allowed {bound:.3g}"


class AtLeast(Figure):
    """A likeness."""

    def broken(self, value: float, bound: float, images: int) -> str | None:
        return None if value >= bound else f"{self.words} is {value:.4f}, required {bound}"


class Share(Figure):
    """A number of images, of which a share is allowed."""

    def broken(self, value: float, bound: float, images: int) -> str | None:
        # Among few images one may lie on a threshold; a share below one image would forbid that by its number.
        allowed = max(1, int(bound * images)) if bound else 0
        return None if value <= allowed else f"{value} of {images} {self.words} changed, allowed {allowed}"


@dataclass(frozen=True)
class Change:
    """A score against the truth: of Keras, of the artifact, and their difference.

    `score`: its name among those of `training.tasks`. `words`, `short`: what it is called where it breaks a limit, and
    in a table. `limit`: the name of the smallest difference allowed; `None` where there is none.
    """

    score: str
    words: str
    short: str
    limit: str | None = None


@dataclass(frozen=True)
class Decoding:
    """What JPEGs decoded at half their size may change, as the figure that tells it.

    `words`: what is said where it breaks its limit, "…" standing for the figure; `short`: what it is called.
    """

    figure: str
    limit: float
    words: str
    short: str
    at_least: bool = False

    def keeps(self, value: float) -> bool:
        return value >= self.limit if self.at_least else value <= self.limit


def difference_of(value: Value) -> float | None:
    """By how much a score changes; `None` where that is not defined, or the value is no score."""
    return value.difference if isinstance(value, Difference) else None


def largest_mean_p99(name: str, difference: NDArray[np.floating]) -> dict[str, Value]:
    """Of differences, not negative, the largest one, the 99th percentile and the mean, as figures of that name."""
    difference = difference if difference.size else np.zeros(1)
    return {
        f"max_{name}": float(difference.max()),
        f"p99_{name}": float(np.percentile(difference, 99)),
        f"mean_{name}": float(difference.mean()),
    }
