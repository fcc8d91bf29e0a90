"""From arrays to places and numbers: masks become outlines, findings become measures. NumPy and OpenCV."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

import cv2
import numpy as np
from numpy.typing import NDArray

from keras_realmnet.tasks.fields import by_kind, from_json
from keras_realmnet.tasks.findings import Finding, MaskFinding, Measure, PointFinding, Polygon

__all__ = ["DistanceInDiameters", "MeasureOf", "VerticalRatio", "binary_mask", "measure_from_dict", "outlines_of"]

CORNER = 0.35  # px of the mask: how far an outline may run from the mask's border


def binary_mask(probability: NDArray[Any], threshold: float, single: bool) -> NDArray[np.uint8]:
    """1 where a structure is, uint8 (h, w), of its probability (h, w); see `Masks` for `threshold` and `single`."""
    mask = (np.asarray(probability) >= threshold).astype(np.uint8)
    if not single or not mask.any():
        return mask
    _, parts, statistics, _ = cv2.connectedComponentsWithStats(mask, connectivity=8)
    largest = 1 + int(statistics[1:, cv2.CC_STAT_AREA].argmax())
    contours, _ = cv2.findContours((parts == largest).astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    return np.asarray(cv2.drawContours(np.zeros_like(mask), contours, -1, 1, cv2.FILLED), np.uint8)


def outlines_of(mask: NDArray[np.uint8]) -> list[NDArray[np.float64]]:
    """The border of each part of a mask (h, w): corners (n, 2), x and y in its pixels, along the pixels' outer edges.

    What lies in a hole of another part is inside of that part's border and has none.

    Traced on the mask enlarged four times, so that a part of one pixel has an area, too; a corner is left out where
    the border is straight to within CORNER.
    """
    fine = 4
    height, width = mask.shape
    enlarged = cv2.resize(mask, (width * fine, height * fine), interpolation=cv2.INTER_NEAREST)
    found, _ = cv2.findContours(enlarged, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    outlines = []
    for contour in found:
        corners = cv2.approxPolyDP(contour, CORNER * fine, closed=True)[:, 0].astype(np.float64)
        outlines.append((corners + 0.5) / fine - 0.5)
    outlines.sort(key=lambda corners: (float(corners[:, 1].min()), float(corners[:, 0].min())))
    return outlines


@dataclass(frozen=True)
class MeasureOf:
    """A number computed from findings: a closed set of kinds, see MEASURES. `code` and `name` are the measure's own."""

    kind: ClassVar[str]

    code: str
    name: str

    def value(self, findings: Sequence[Finding]) -> float | None:
        """The number; None where what it is computed of was not found."""
        raise NotImplementedError

    def needs(self) -> Mapping[str, type[Finding]]:
        """{code: kind} of the findings that it is computed of."""
        raise NotImplementedError

    def finding(self, vocabulary: str, findings: Sequence[Finding]) -> Measure:
        return Measure("", vocabulary, self.code, self.name, self.value(findings))

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

    def value(self, findings: Sequence[Finding]) -> float | None:
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

    def value(self, findings: Sequence[Finding]) -> float | None:
        places = {each.code: each for each in findings if isinstance(each, PointFinding)}
        a, b = places.get(self.first), places.get(self.second)
        diameter = _extent(_mask(findings, self.structure))
        if a is None or b is None or diameter is None or None in (a.x, a.y, b.x, b.y):
            return None
        return float(np.hypot(a.x - b.x, a.y - b.y)) / diameter  # type: ignore[operator]


MEASURES: dict[str, type[MeasureOf]] = {kind.kind: kind for kind in (VerticalRatio, DistanceInDiameters)}


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


def polygons(corners: Sequence[NDArray[np.float64]]) -> tuple[Polygon, ...]:
    """Outlines as a record holds them: to a tenth of a pixel of the picture."""
    return tuple(tuple((round(float(x), 1), round(float(y), 1)) for x, y in outline) for outline in corners)
