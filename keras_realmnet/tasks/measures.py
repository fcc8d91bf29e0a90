"""From findings to numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, ClassVar, Literal, get_args

import numpy as np

from keras_realmnet.tasks.fields import by_kind, from_json
from keras_realmnet.tasks.findings import Finding, MaskFinding, Measure, PointFinding, Polygon
from keras_realmnet.tasks.vocabulary import LabelSet

__all__ = [
    "QUADRANTS",
    "CountOf",
    "DistanceInDiameters",
    "MeasureOf",
    "ShareOfField",
    "VerticalRatio",
    "lesion_measures",
    "measure_from_dict",
]

Quadrant = Literal["upper left", "upper right", "lower left", "lower right"]
QUADRANTS: tuple[Quadrant, ...] = get_args(Quadrant)


@dataclass(frozen=True)
class MeasureOf:
    """A number computed from findings: a closed set of kinds, see MEASURES. `code` and `name` are the measure's own.

    unit: of UCUM, "1": a ratio.
    """

    kind: ClassVar[str]
    unit: ClassVar[str] = "1"

    code: str
    name: str

    def value(self, findings: Sequence[Finding], centre: tuple[float, float]) -> float | None:
        """The number; None where what it is computed of was not found.

        Args:
            centre: of the illuminated field, x and y in pixels of the picture.
        """
        raise NotImplementedError

    def needs(self) -> Mapping[str, type[Finding]]:
        """{code: kind} of the findings that it is computed of."""
        raise NotImplementedError

    def finding(self, vocabulary: str, findings: Sequence[Finding], centre: tuple[float, float]) -> Measure:
        return Measure("", vocabulary, self.code, self.name, self.value(findings, centre), self.unit)

    def to_dict(self) -> dict[str, Any]:
        return {"kind": self.kind, **asdict(self)}


@dataclass(frozen=True)
class VerticalRatio(MeasureOf):
    """The height of one structure divided by that of another, both by their codes: the vertical cup-to-disc ratio."""

    kind: ClassVar[str] = "vertical_ratio"

    inner: str
    outer: str

    def needs(self) -> Mapping[str, type[Finding]]:
        return {self.inner: MaskFinding, self.outer: MaskFinding}

    def value(self, findings: Sequence[Finding], centre: tuple[float, float]) -> float | None:
        """None without the outer structure; 0 where only the inner one was not found: a disc without a cup."""
        outer = _extent(_mask(findings, self.outer))
        return None if outer is None else (_extent(_mask(findings, self.inner)) or 0.0) / outer


@dataclass(frozen=True)
class DistanceInDiameters(MeasureOf):
    """The distance of two landmarks divided by a structure's vertical diameter, by their codes: fovea and disc, 2.5."""

    kind: ClassVar[str] = "distance_in_diameters"

    first: str
    second: str
    structure: str

    def needs(self) -> Mapping[str, type[Finding]]:
        return {self.first: PointFinding, self.second: PointFinding, self.structure: MaskFinding}

    def value(self, findings: Sequence[Finding], centre: tuple[float, float]) -> float | None:
        places = {each.code: each for each in findings if isinstance(each, PointFinding)}
        a, b = places.get(self.first), places.get(self.second)
        diameter = _extent(_mask(findings, self.structure))
        if a is None or b is None or diameter is None or None in (a.x, a.y, b.x, b.y):
            return None
        return float(np.hypot(a.x - b.x, a.y - b.y)) / diameter  # type: ignore[operator]


@dataclass(frozen=True)
class ShareOfField(MeasureOf):
    """How much of the illuminated field a structure or a kind of lesion, by its code, covers; 0 where none was found.

    No task has it whose pictures stretch areas: see `MaskFinding.share`.
    """

    kind: ClassVar[str] = "share_of_field"
    unit: ClassVar[str] = "%"

    structure: str

    def needs(self) -> Mapping[str, type[Finding]]:
        return {self.structure: MaskFinding}

    def value(self, findings: Sequence[Finding], centre: tuple[float, float]) -> float | None:
        mask = _mask(findings, self.structure)
        return None if mask is None or mask.share is None else 100 * mask.share

    def finding(self, vocabulary: str, findings: Sequence[Finding], centre: tuple[float, float]) -> Measure:
        return replace(super().finding(vocabulary, findings, centre), of=self.structure)


@dataclass(frozen=True)
class CountOf(MeasureOf):
    """How many separate parts of a kind of lesion, by its code, were found, in all or in one quadrant of the field.

    The quadrants meet in the centre of the field and are named as one sees the picture; a part lies where its centre of
    gravity does. Which of them is temporal only the eye tells.
    """

    kind: ClassVar[str] = "count"
    unit: ClassVar[str] = "{count}"

    structure: str
    quadrant: Quadrant | None = None

    def __post_init__(self) -> None:
        if self.quadrant not in (None, *QUADRANTS):
            raise ValueError(f"`quadrant` must be one of {', '.join(QUADRANTS)}, or None. Received: {self.quadrant!r}")

    def needs(self) -> Mapping[str, type[Finding]]:
        return {self.structure: MaskFinding}

    def value(self, findings: Sequence[Finding], centre: tuple[float, float]) -> float | None:
        mask = _mask(findings, self.structure)
        if mask is None:
            return None
        if self.quadrant is None:
            return float(len(mask.outlines))
        return float(sum(quadrant_of(outline, centre) == self.quadrant for outline in mask.outlines))

    def finding(self, vocabulary: str, findings: Sequence[Finding], centre: tuple[float, float]) -> Measure:
        return replace(super().finding(vocabulary, findings, centre), of=self.structure, part=self.quadrant)


MEASURES: dict[str, type[MeasureOf]] = {
    kind.kind: kind for kind in (VerticalRatio, DistanceInDiameters, ShareOfField, CountOf)
}


def lesion_measures(lesions: LabelSet, quadrants: Sequence[str] = ()) -> tuple[MeasureOf, ...]:
    """Of each kind of lesion its share of the field and the number of its parts, for `Task.measures`.

    Their codes are the lesion's with "_pct" and "_n" behind, in a quadrant with "_ul", "_ur", "_ll" or "_lr".

    Args:
        quadrants: codes of lesions whose parts are also counted in each quadrant.
    """
    unknown = sorted(set(quadrants) - set(lesions.codes))
    if unknown:
        raise ValueError(f"label set '{lesions.name}' has no label {', '.join(unknown)}")
    measures: list[MeasureOf] = []
    for label in lesions.labels:
        measures.append(ShareOfField(f"{label.code}_pct", f"{label.name}: share of the field", label.code))
        measures.append(CountOf(f"{label.code}_n", f"{label.name}: number found", label.code))
        for quadrant in QUADRANTS if label.code in quadrants else ():
            code = f"{label.code}_{''.join(word[0] for word in quadrant.split())}"
            measures.append(CountOf(code, f"{label.name}: number found, {quadrant}", label.code, quadrant))
    return tuple(measures)


def quadrant_of(outline: Polygon, centre: tuple[float, float]) -> Quadrant:
    """Where the centre of gravity of what an outline encloses lies, as one sees the picture."""
    x, y = np.array(outline, np.float64).T
    next_x, next_y = np.roll(x, -1), np.roll(y, -1)
    weight = x * next_y - next_x * y  # twice the area of the triangle of each side with the origin, with its sign
    area = weight.sum()
    if abs(area) < 1e-9:
        at = float(x.mean()), float(y.mean())
    else:
        at = float(((x + next_x) * weight).sum() / (3 * area)), float(((y + next_y) * weight).sum() / (3 * area))
    return QUADRANTS[2 * (at[1] >= centre[1]) + (at[0] >= centre[0])]


def measure_from_dict(values: Any) -> MeasureOf:
    """The measure that `MeasureOf.to_dict` describes. Raises ValueError for another kind or field."""
    kind, fields = by_kind(values, MEASURES, "a measure")
    return from_json(kind, fields, f"a measure of kind {kind.kind!r}")


def _mask(findings: Sequence[Finding], code: str) -> MaskFinding | None:
    return next((each for each in findings if isinstance(each, MaskFinding) and each.code == code), None)


def _extent(mask: MaskFinding | None) -> float | None:
    """The height of all parts together, in pixels of the picture; None where nothing was found."""
    rows = [y for outline in (mask.outlines if mask else ()) for _, y in outline]
    return max(rows) - min(rows) if rows and max(rows) > min(rows) else None
