"""Bootstrap replicates as weights, and the interval that a score's replicates give."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from training.scoring.statistics.arrays import Array

__all__ = [
    "BLOCK",
    "PAPER_SIZE",
    "UNITS",
    "Bootstrap",
    "Interval",
    "MakeScorer",
    "Scorer",
    "draws",
    "interval",
    "replicates_of",
    "values_of",
    "with_intervals",
]

# How often each unit counts, (units, replicates) → {score: (replicates,)}, NaN where it does not exist.
Scorer = Callable[[Array], Mapping[str, Array]]
# The unit that each case belongs to, int (n,), its patient, say → the scorer of these cases.
MakeScorer = Callable[[Array], Scorer]

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


def values_of(make: MakeScorer, cases: int) -> dict[str, float]:
    """Every score of so many cases, once each; NaN where one does not exist."""
    found = make(np.arange(cases))(np.ones((cases, 1)))
    return {name: float(value[0]) for name, value in found.items()}


def replicates_of(make: MakeScorer, patients: Array, bootstrap: Bootstrap) -> dict[str, Array]:
    """Every score in every bootstrap replicate, {name: (replicates,)}, NaN where a replicate lost it.

    The same patients, of each case (n,), and the same `bootstrap` draw the same replicates, whatever the scores: two
    networks can be paired.
    """
    by_patient = bootstrap.unit == "patient"
    units = np.unique(patients, return_inverse=True)[1] if by_patient else np.arange(len(patients))
    count = int(units.max(initial=-1)) + 1
    size = PAPER_SIZE if bootstrap.unit == "paper" else count
    scorer = make(units)
    blocks = [scorer(weights) for weights in draws(count, size, bootstrap.replicates, bootstrap.seed)]
    return {name: np.concatenate([block[name] for block in blocks]) for name in blocks[0]} if blocks else {}


def with_intervals(make: MakeScorer, patients: Array, bootstrap: Bootstrap) -> dict[str, Interval]:
    """Every score with its interval; no intervals for 0 replicates. `patients`: of each case, (n,)."""
    replicates, nothing = replicates_of(make, patients, bootstrap), np.empty(0)
    return {
        name: interval(value, replicates.get(name, nothing), bootstrap.unit)
        for name, value in values_of(make, len(patients)).items()
    }
