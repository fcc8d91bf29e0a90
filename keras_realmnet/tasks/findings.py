"""What is found in one picture, kind by kind; places in pixels of the picture, the upper left pixel's centre at (0, 0).

A finding knows its words and codes, so that a record can be read without the bundle that made it.
"""

from __future__ import annotations

import math
import reprlib
from dataclasses import asdict, dataclass, field
from typing import Any, ClassVar

from keras_realmnet.tasks.fields import by_kind, from_json
from keras_realmnet.tasks.vocabulary import Concept

__all__ = [
    "Finding",
    "GradeFinding",
    "LabelFinding",
    "MaskFinding",
    "Measure",
    "PointFinding",
    "Polygon",
    "finding_from_dict",
    "percent",
]

Polygon = tuple[tuple[float, float], ...]  # x, y of each corner


@dataclass(frozen=True)
class Finding:
    """output: of the network, "" for what is computed. vocabulary, code: see `LabelSet`. name: for people.

    concept: the code of a public terminology for it; None where there is none.
    """

    kind: ClassVar[str]

    output: str
    vocabulary: str
    code: str
    name: str
    concept: Concept | None = field(default=None, kw_only=True)

    @property
    def qualified(self) -> str:
        """The code where it leaves the house: "psmm:A3"."""
        return self.qualify(self.code)

    def qualify(self, code: str) -> str:
        """A code of its vocabulary where it leaves the house."""
        return f"{self.vocabulary}:{code}" if self.vocabulary else code

    def to_dict(self) -> dict[str, Any]:
        """JSON-safe; what is None is left out. `finding_from_dict` gives an equal finding back."""
        values = {name: value for name, value in asdict(self).items() if value is not None}
        return {"kind": self.kind, **values}


@dataclass(frozen=True)
class LabelFinding(Finding):
    """probability: that the label holds. threshold: from which it is a finding; None where no rule looks at it."""

    kind: ClassVar[str] = "label"

    probability: float
    threshold: float | None = None

    @property
    def reached(self) -> bool | None:
        """Whether the probability is at or above the threshold; None without one."""
        return None if self.threshold is None else self.probability >= self.threshold


@dataclass(frozen=True)
class GradeFinding(Finding):
    """The most probable grade: `grade` counts from 0. probabilities: {code: probability} of all, names: {code: name}.

    from_grade: the code from which the rule refers; None where none looks at it. signs: codes of the masks of lesions
    that speak for a grade above the first, found or not; None where the network looks for none.
    """

    kind: ClassVar[str] = "grade"

    grade: int
    probabilities: dict[str, float]
    names: dict[str, str]
    from_grade: str | None = None
    signs: tuple[str, ...] | None = None

    @property
    def probability(self) -> float:
        """Of this grade."""
        return self.probabilities[self.code]

    @property
    def reached(self) -> bool | None:
        """Whether the grade is one that the rule refers; None without such a rule."""
        return None if self.from_grade is None else self.grade >= list(self.names).index(self.from_grade)


@dataclass(frozen=True)
class MaskFinding(Finding):
    """Where a structure or a kind of lesion lies.

    outlines: of each part; none where nothing was found. holes: the borders of what a structure that branches encloses
    and is not; None of any other, whose parts have none. A pixel is inside where an odd number of all of them is around
    it. share: of the illuminated field that it covers, 0 to 1; None in pictures whose projection stretches areas.
    probability: the mean inside of it; None where nothing was found.
    """

    kind: ClassVar[str] = "mask"

    outlines: tuple[Polygon, ...]
    share: float | None = None
    probability: float | None = None
    holes: tuple[Polygon, ...] | None = None

    @property
    def found(self) -> bool:
        return bool(self.outlines)

    @property
    def borders(self) -> tuple[Polygon, ...]:
        """All polygons, of parts and of holes."""
        return self.outlines + (self.holes or ())

    @property
    def in_parts(self) -> bool:
        """Whether there are several parts that are told one by one, as lesions are."""
        return len(self.outlines) > 1 and self.holes is None


@dataclass(frozen=True)
class PointFinding(Finding):
    """Where a landmark lies; x and y are None where it was not found. confidence: 0 to 1; None if there is none."""

    kind: ClassVar[str] = "point"

    x: float | None = None
    y: float | None = None
    confidence: float | None = None

    @property
    def found(self) -> bool:
        return self.x is not None and self.y is not None


@dataclass(frozen=True)
class Measure(Finding):
    """A number computed from other findings; `value` is None where these are not there.

    unit: of UCUM, "1": a ratio. of: code of the mask that it counts the parts or tells the share of; None: of none
    alone. part: of the field in which these are counted, in words; None: all of it.
    """

    kind: ClassVar[str] = "measure"

    value: float | None = None
    unit: str = "1"
    of: str | None = None
    part: str | None = None

    @property
    def text(self) -> str:
        """The value with its unit, for people; empty where there is none."""
        if self.value is None:
            return ""
        if self.unit == "{count}":
            return f"{self.value:g}"
        if self.unit == "%":
            return percent(self.value)
        return f"{self.value:.2f}" if self.unit == "1" else f"{self.value:.2f} {self.unit}"


def percent(value: float) -> str:
    """A share, in percent, to two digits that tell something: "34 %", "0.34 %", "less than 0.001 %"."""
    if 0 < value < 0.001:
        return "less than 0.001 %"
    digits = 0 if value == 0 or value >= 10 else 1 - math.floor(math.log10(value))
    return f"{value:.{digits}f} %"


KINDS: dict[str, type[Finding]] = {
    kind.kind: kind for kind in (LabelFinding, GradeFinding, MaskFinding, PointFinding, Measure)
}


def finding_from_dict(values: Any) -> Finding:
    """The finding that `Finding.to_dict` describes. Raises ValueError for another kind, or missing or other fields."""
    kind, fields = by_kind(values, KINDS, "a finding")
    if fields.get("concept") is not None:
        fields["concept"] = from_json(Concept, fields["concept"], "a concept")
    if fields.get("signs") is not None:
        fields["signs"] = _codes(fields["signs"])
    for name in ("outlines", "holes"):
        if name in fields:
            try:
                fields[name] = tuple(tuple((x, y) for x, y in outline) for outline in fields[name])
            except (TypeError, ValueError) as error:
                raise ValueError(f"{name} are lists of corners (x, y): {error}") from error
    return from_json(kind, fields, f"a finding of kind {kind.kind!r}")


def _codes(values: Any) -> tuple[str, ...]:
    if not isinstance(values, list | tuple) or not all(isinstance(code, str) for code in values):
        raise ValueError(f"the signs of a grade are a list of codes. Received: {reprlib.repr(values)}")
    return tuple(values)
