"""The pictures that a network knows, in a few numbers: how far another picture is from them, and what is usual of them.

The distance is Mahalanobis' between the directions of the network's pooled features (Lee et al., arXiv 1807.03888; of
features of unit length, as Müller & Hein, arXiv 2505.18032), by a covariance that has few parameters: probabilistic
principal components (Tipping & Bishop, J. R. Stat. Soc. B 61, 1999), which keep the variances along the strongest
directions and share one among all others.
"""

from __future__ import annotations

import base64
import binascii
import reprlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from keras_realmnet.tasks.fields import from_json

__all__ = ["Distribution", "Reference", "directions", "packed", "reference_from_dict"]

MAX_NUMBERS = 1 << 20  # of an array
_SINGLE, _HALF = np.dtype("<f4"), np.dtype("<f2")


@dataclass(frozen=True)
class Distribution:
    """How a measure is distributed over `number` pictures.

    edges: ascending, (k,). shares: of the pictures below the first edge, between each two, from the last on; (k + 1,),
    their sum is 1. A value equal to an edge lies above it.

    Raises ValueError for anything else.
    """

    edges: tuple[float, ...]
    shares: tuple[float, ...]
    number: int

    def __post_init__(self) -> None:
        edges, shares = tuple(map(float, self.edges)), tuple(map(float, self.shares))
        if not np.isfinite(edges).all() or not (np.diff(edges) > 0).all():
            raise ValueError(f"edges of a distribution ascend. Received: {reprlib.repr(self.edges)}")
        if len(shares) != len(edges) + 1 or min(shares) < 0 or not abs(sum(shares) - 1) < 1e-6 or self.number < 1:
            raise ValueError(f"one share for each bin expected, 1 in all. Received: {reprlib.repr(self.shares)}")
        object.__setattr__(self, "edges", edges)
        object.__setattr__(self, "shares", shares)

    @classmethod
    def of(cls, values: NDArray[Any], bins: int = 10) -> Distribution:
        """Of values (n,), in bins of equally many; fewer bins where values repeat."""
        edges = np.unique(np.quantile(values, np.arange(1, bins) / bins))
        counts = np.bincount(np.searchsorted(edges, values, side="right"), minlength=len(edges) + 1)
        return cls(tuple(edges.tolist()), tuple((counts / len(values)).tolist()), len(values))

    def counts(self, values: NDArray[Any]) -> NDArray[np.intp]:
        """How many of the values (n,) lie in each bin, (k + 1,)."""
        return np.bincount(np.searchsorted(self.edges, values, side="right"), minlength=len(self.shares))

    def to_dict(self) -> dict[str, Any]:
        return {"edges": list(self.edges), "shares": list(self.shares), "number": self.number}


@dataclass(frozen=True, eq=False)
class Reference:
    """Statistics of reference pictures; equal to another where `to_dict` is.

    output: the name of the network's `Features`. pictures: which they were, in words.
    mean: float32 (dim,) of `directions` of the features. components: float16 (k, dim), orthonormal rows, along which
    these vary most. variances: (k,), along them, descending. noise: the variance along each other direction.
    threshold: of `distance`; `false_alarm_rate` of the pictures held out exceed it, between 0 and 1.
    refuse_above: beyond this distance a picture has no result; None: the distance is reported, nothing is refused.

    What follows is of the pictures held out, for `edge_app.health.drift`: distances: of them, ascending, some hundreds
    at most. measures: {measure of `quality.assess`: its distribution}. outcomes: {outcome: pictures}.

    Raises ValueError for what does not fit together.
    """

    output: str
    pictures: str
    mean: NDArray[np.float32]
    components: NDArray[np.float16]
    variances: NDArray[np.float32]
    noise: float
    threshold: float
    false_alarm_rate: float
    refuse_above: float | None = None
    distances: tuple[float, ...] = ()
    measures: Mapping[str, Distribution] = field(default_factory=dict)
    outcomes: Mapping[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        dim = self.mean.size
        k = len(self.components)
        shapes = (self.mean.shape, self.components.shape, self.variances.shape)
        if not dim or shapes != ((dim,), (k, dim), (k,)) or not k < dim:
            raise ValueError(f"mean (dim,), fewer components (k, dim) and variances (k,) expected. Received: {shapes}")
        finite = all(np.isfinite(each).all() for each in (self.mean, self.components, self.variances))
        if not finite or not (self.variances > 0).all() or not 0 < self.noise < np.inf:
            raise ValueError("the statistics of features must be finite, variances above 0")
        if not 0 < self.threshold < np.inf or not 0 < self.false_alarm_rate < 1:
            raise ValueError(
                f"a threshold above 0 and its rate between 0 and 1 expected. "
                f"Received: {self.threshold!r}, {self.false_alarm_rate!r}"
            )
        if self.refuse_above is not None and not self.threshold <= self.refuse_above < np.inf:
            raise ValueError(f"refuse_above must not be below {self.threshold}. Received: {self.refuse_above!r}")
        if not np.isfinite(self.distances).all() or (np.diff(self.distances) < 0).any():
            raise ValueError("the distances of pictures must ascend")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Reference) and self.to_dict() == other.to_dict()

    def distance(self, features: NDArray[Any]) -> NDArray[np.float64]:
        """Of features (..., dim): the root of the mean squared deviation, in standard deviations; (...,), about 1 for
        a picture like those of the reference. Raises ValueError for another number of features."""
        if features.shape[-1:] != self.mean.shape:
            raise ValueError(f"{self.mean.size} features expected. Received: {features.shape[-1:]}")
        centred, axes = directions(features) - self.mean, self.components.astype(np.float64)
        along = centred @ axes.T
        beside = centred - along @ axes
        squared = (along**2 / self.variances).sum(-1) + (beside**2).sum(-1) / self.noise
        return np.asarray(np.sqrt(squared / self.mean.size))

    def note(self, distance: float) -> str | None:
        """What people are told of a picture at this distance; None where it is like those of the reference."""
        if distance <= self.threshold:
            return None
        return (
            f"unlike the reference pictures of this model: feature distance {distance:.2f}, "
            f"{1 - self.false_alarm_rate:.0%} of pictures like them stay within {self.threshold:.2f}"
        )

    def refuses(self, distance: float) -> bool:
        """Whether a picture at this distance has no result."""
        return self.refuse_above is not None and distance > self.refuse_above

    def to_dict(self) -> dict[str, Any]:
        """JSON-safe; `reference_from_dict` gives an equal reference back. Arrays are base64, little-endian."""
        return {
            "output": self.output,
            "pictures": self.pictures,
            "mean": packed(self.mean),
            "components": packed(self.components, _HALF),
            "variances": packed(self.variances),
            "noise": self.noise,
            "threshold": self.threshold,
            "false_alarm_rate": self.false_alarm_rate,
            "refuse_above": self.refuse_above,
            "distances": list(self.distances),
            "measures": {name: each.to_dict() for name, each in self.measures.items()},
            "outcomes": dict(self.outcomes),
        }


def directions(features: NDArray[Any]) -> NDArray[np.float64]:
    """Features (..., dim) as their signed roots, scaled to unit length: a few large ones do not outweigh the others
    (power normalization: Perronnin et al., ECCV 2010). All 0 stays."""
    roots = np.sign(features) * np.sqrt(np.abs(np.asarray(features, np.float64)))
    length = np.sqrt((roots**2).sum(-1, keepdims=True))
    return np.asarray(roots / np.where(length > 0, length, 1))


def packed(values: NDArray[Any], element: np.dtype[Any] = _SINGLE) -> str:
    """An array as text."""
    return base64.b64encode(np.ascontiguousarray(values, element).tobytes()).decode()


def _unpacked(text: object, what: str, element: np.dtype[Any] = _SINGLE) -> NDArray[Any]:
    """The array (n,) of a text of `packed`."""
    try:
        if not isinstance(text, str) or len(text) > 6 * MAX_NUMBERS:
            raise ValueError("a text expected")
        return np.frombuffer(base64.b64decode(text, validate=True), element)
    except (ValueError, binascii.Error) as error:
        raise ValueError(f"{what} of a reference: no numbers in base64 ({error})") from error


def reference_from_dict(values: Mapping[str, Any]) -> Reference:
    """The reference that `Reference.to_dict` describes. Raises ValueError for missing or unknown fields, or others."""
    fields = dict(values)
    mean = _unpacked(fields.get("mean"), "mean")
    fields["mean"] = mean
    components = _unpacked(fields.get("components"), "components", _HALF)
    if not mean.size or components.size % mean.size:
        raise ValueError(
            f"components of a reference: rows of {mean.size} numbers expected. Received: {components.size}"
        )
    fields["components"] = components.reshape(-1, mean.size)
    fields["variances"] = _unpacked(fields.get("variances"), "variances")
    try:
        fields["distances"] = tuple(float(each) for each in fields.get("distances", ()))
        fields["measures"] = {
            str(name): from_json(Distribution, each, f"the measure {name}")
            for name, each in dict(fields.get("measures", {})).items()
        }
        fields["outcomes"] = {str(name): int(each) for name, each in dict(fields.get("outcomes", {})).items()}
    except TypeError as error:
        raise ValueError(f"a reference: {error}") from error
    return from_json(Reference, fields, "a reference")
