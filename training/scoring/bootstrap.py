"""Bootstrap replicates as weights, and the interval that a score's replicates give."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from training.scoring.arrays import Array

__all__ = ["BLOCK", "PAPER_SIZE", "UNITS", "Bootstrap", "Interval", "draws", "interval"]

UNITS = ("patient", "image", "paper")
PAPER_SIZE = 1000  # RealMNet: images in each of its bootstrap samples
BLOCK = 32  # replicates at a time: their running sums stay in the processor's cache


@dataclass(frozen=True)
class Interval:
    """A score and its 95 % bootstrap interval.

    `replicates` is how many resamples had a score at all; `mean` and `sd` are over those.
    """

    value: float | None
    low: float | None
    high: float | None
    replicates: int
    mean: float | None = None
    sd: float | None = None

    def __str__(self) -> str:
        if self.value is None:
            return "not defined"
        return f"{self.value:.4f}" + (f" ({self.low:.4f} to {self.high:.4f})" if self.low is not None else "")


@dataclass(frozen=True)
class Bootstrap:
    """How replicates are drawn and what interval they give.

    `unit`: "patient" resamples whole patients with replacement (images of one patient are alike; resampling them one by
    one makes intervals too narrow), "image" as many images (eyes, where eyes are scored) as there are, both with 95 %
    percentile intervals; "paper" resamples 1,000 images and gives mean ± 1.96 SD, as RealMNet's text does (the ± of its
    tables is SD/√1000, in points).
    """

    unit: str = "patient"
    replicates: int = 1000
    seed: int = 0

    def __post_init__(self) -> None:
        if self.unit not in UNITS:
            raise ValueError(f"unit must be one of {', '.join(UNITS)}. Received: {self.unit!r}")
        if self.replicates < 0:
            raise ValueError(f"replicates must not be negative. Received: {self.replicates}")

    def describe(self) -> dict[str, Any]:
        kind = f"mean ± 1.96 SD of {PAPER_SIZE} images" if self.unit == "paper" else "95 % percentile"
        return {"replicates": self.replicates, "unit": self.unit, "interval": kind, "seed": self.seed}


def draws(units: int, size: int, replicates: int, seed: int) -> Iterator[Array]:
    """Bootstrap weights in blocks: how often each unit is among `size` drawn with replacement.

    Yields:
        float64 of shape (units, up to `BLOCK` replicates); the same for the same arguments.
    """
    rng = np.random.default_rng(seed)
    for start in range(0, replicates, BLOCK):
        width = min(BLOCK, replicates - start)
        drawn = rng.integers(units, size=(width, size)) * width + np.arange(width)[:, None]
        yield np.bincount(drawn.ravel(), minlength=units * width).reshape(units, width).astype(np.float64)


def interval(value: float, replicates: Array, unit: str) -> Interval:
    """A score with the interval its replicates give; those in which it does not exist (NaN) are left out."""
    drawn = replicates[~np.isnan(replicates)]
    if np.isnan(value) or len(drawn) == 0:
        return Interval(None if np.isnan(value) else float(value), None, None, len(drawn))
    mean, sd = float(drawn.mean()), float(drawn.std(ddof=1)) if len(drawn) > 1 else 0.0
    low, high = (mean - 1.96 * sd, mean + 1.96 * sd) if unit == "paper" else np.percentile(drawn, [2.5, 97.5]).tolist()
    return Interval(float(value), low, high, len(drawn), mean, sd)
