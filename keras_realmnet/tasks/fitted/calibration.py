"""Curves that make a network's probabilities true ones; fitted with scikit-learn where networks are trained.

A curve takes the probability of one label and does not fall. Sources: temperature, Guo et al., arXiv 1706.04599; Platt,
"Probabilistic outputs for support vector machines", 1999; isotonic, Zadrozny and Elkan, KDD 2002; several grades, each
by its own curve and divided by their sum, as scikit-learn's CalibratedClassifierCV.
"""

from __future__ import annotations

import reprlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from keras_realmnet.tasks.fields import by_kind, from_json
from keras_realmnet.tasks.outputs import Grades, Labels

__all__ = ["CURVES", "SMALLEST", "Calibration", "Curve", "Isotonic", "Platt", "Temperature", "logit"]

SMALLEST = 1e-7  # a sigmoid in float32 is 1 from there to 1 on: its logit would be infinite


def logit(probability: NDArray[Any]) -> NDArray[np.float64]:
    """log(p / (1 − p)) in float64, of probabilities at least `SMALLEST` away from 0 and 1."""
    p = np.clip(np.asarray(probability, np.float64), SMALLEST, 1 - SMALLEST)
    return np.asarray(np.log(p / (1 - p)))


def _sigmoid(values: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(1 / (1 + np.exp(-values)))


@dataclass(frozen=True)
class Curve:
    """From the probability that a network gives to the calibrated one, both float64 of any one shape."""

    kind: ClassVar[str]

    def __call__(self, probability: NDArray[Any]) -> NDArray[np.float64]:
        raise NotImplementedError

    def to_dict(self) -> dict[str, Any]:
        return {"kind": self.kind, **asdict(self)}


@dataclass(frozen=True)
class Temperature(Curve):
    """σ(logit(p) / temperature): less sure for a temperature above 1. A probability of .5 stays."""

    kind: ClassVar[str] = "temperature"

    temperature: float

    def __post_init__(self) -> None:
        if not (np.isfinite(self.temperature) and self.temperature > 0):
            raise ValueError(f"`temperature` must be a number above 0. Received: {self.temperature!r}")

    def __call__(self, probability: NDArray[Any]) -> NDArray[np.float64]:
        return _sigmoid(logit(probability) / self.temperature)


@dataclass(frozen=True)
class Platt(Curve):
    """σ(slope·logit(p) + intercept)."""

    kind: ClassVar[str] = "platt"

    slope: float
    intercept: float

    def __post_init__(self) -> None:
        if not (np.isfinite(self.slope) and self.slope > 0 and np.isfinite(self.intercept)):
            raise ValueError(
                f"`slope` must be a number above 0, `intercept` a number. Received: {self.slope!r}, {self.intercept!r}"
            )

    def __call__(self, probability: NDArray[Any]) -> NDArray[np.float64]:
        return _sigmoid(self.slope * logit(probability) + self.intercept)


@dataclass(frozen=True)
class Isotonic(Curve):
    """Straight lines between knots, flat beyond them. scores: rise. probabilities: at these, 0 to 1, never fall."""

    kind: ClassVar[str] = "isotonic"

    scores: tuple[float, ...]
    probabilities: tuple[float, ...]

    def __post_init__(self) -> None:
        for name in ("scores", "probabilities"):
            object.__setattr__(self, name, tuple(getattr(self, name)))  # JSON has lists
        scores, probabilities = np.asarray(self.scores, np.float64), np.asarray(self.probabilities, np.float64)
        fits = len(scores) == len(probabilities) > 0 and (np.diff(scores) > 0).all()
        if not fits or not ((probabilities >= 0) & (probabilities <= 1)).all() or (np.diff(probabilities) < 0).any():
            raise ValueError(
                "an isotonic curve has scores that rise and as many probabilities that do not fall. "
                f"Received: {reprlib.repr(self.scores)}, {reprlib.repr(self.probabilities)}"
            )

    def __call__(self, probability: NDArray[Any]) -> NDArray[np.float64]:
        return np.asarray(np.interp(np.asarray(probability, np.float64), self.scores, self.probabilities))


CURVES: dict[str, type[Curve]] = {kind.kind: kind for kind in (Temperature, Platt, Isotonic)}


@dataclass(frozen=True)
class Calibration:
    """The curve of every label, or of every grade, of one output. chosen: how and on which images, for people."""

    curves: Mapping[str, Curve]
    chosen: str

    def check(self, output: object, name: str) -> None:
        """Raises ValueError unless the output is one of labels or grades, each of which has a curve."""
        codes = output.labels.codes if isinstance(output, Labels | Grades) else ()
        if not codes or set(self.curves) != set(codes):
            raise ValueError(
                f"the calibration of {name!r} needs labels or grades, and a curve for each of "
                f"{', '.join(codes) or 'them'}. Received: {', '.join(self.curves)}"
            )

    def apply(self, output: Labels | Grades, values: NDArray[Any]) -> NDArray[np.float32]:
        """Calibrated probabilities (..., labels) of those that the network gives. Those of grades add up to 1."""
        columns = [self.curves[code](values[..., k]) for k, code in enumerate(output.labels.codes)]
        calibrated = np.stack(columns, axis=-1)
        if isinstance(output, Grades):
            total = calibrated.sum(axis=-1, keepdims=True)
            even = np.full_like(calibrated, 1 / calibrated.shape[-1])  # isotonic curves may all give 0
            calibrated = np.divide(calibrated, total, out=even, where=total > 0)
        return np.clip(calibrated, 0, 1).astype(np.float32)

    def to_dict(self) -> dict[str, Any]:
        return {"curves": {code: curve.to_dict() for code, curve in self.curves.items()}, "chosen": self.chosen}

    @classmethod
    def from_dict(cls, values: Any) -> Calibration:
        """Raises ValueError for other fields, or a curve that is none."""
        curves = values.get("curves") if isinstance(values, Mapping) else None
        if not isinstance(curves, Mapping):
            raise ValueError(f"a calibration has curves by code. Received: {reprlib.repr(values)}")
        return from_json(
            cls, {**values, "curves": {str(c): _curve(each) for c, each in curves.items()}}, "a calibration"
        )


def _curve(values: Any) -> Curve:
    kind, fields = by_kind(values, CURVES, "a curve")
    for name in ("scores", "probabilities"):
        given = fields.get(name, [])
        if not isinstance(given, list | tuple) or any(type(each) not in (int, float) for each in given):
            raise ValueError(f"{name} of a curve are a list of numbers. Received: {reprlib.repr(given)}")
    return from_json(kind, fields, f"a curve of kind {kind.kind!r}")
