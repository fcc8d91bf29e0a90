"""The eight regions of the posterior pole, from where the optic disc and the fovea of an eye lie in its picture; NumPy.

Places are x to the right and y down, in pixels of the picture, the centre of the upper left one at (0, 0). In the eye's
own axes u leads from the centre of the disc to the fovea, v from there up, both in units of the distance D of the two:
the disc lies at (0, 0), the fovea at (1, 0), in either eye.

- superior disc, inferior disc: the circle around the disc with a radius of 2/5.
- macula: the circle around the fovea with a radius of 2/3. The chord of both circles, at u = .3578, parts it from the
  disc.
- temporal: what lies beyond the fovea (u ≥ 1) at its height (|v| ≤ 2/3).
- superonasal, inferonasal: what else lies on the other side of the disc (u < 0).
- superotemporal, inferotemporal: the rest.

Source: Son et al., Classification of Findings with Localized Lesions in Fundoscopic Images using a Regionally Guided
CNN (OMIA 2018, arXiv 1811.00871).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from keras_realmnet.tasks.findings import Finding, PointFinding

__all__ = ["REGIONS", "Eye", "eye_in", "place_in_eye", "region_lines", "region_map", "region_names_at", "regions_at"]

REGIONS = (
    *("superior disc", "inferior disc", "macula", "temporal"),
    *("superonasal", "inferonasal", "superotemporal", "inferotemporal"),
)
DISC_RADIUS, FOVEA_RADIUS = 2 / 5, 2 / 3
CHORD = (1 + DISC_RADIUS**2 - FOVEA_RADIUS**2) / 2  # u where both circles meet: .3578
FAR = 6.0  # how far lines that have no end are drawn; no picture of a posterior pole is as wide
# Where a region's name is to be read, (u, v).
NAMED_AT = ((0, 0.31), (0, -0.31), (1, 0.4), (1.9, 0), (-0.22, 0.62), (-0.22, -0.62), (0.75, 0.95), (0.75, -0.95))

Point = tuple[float, float]
Eye = tuple[Point, Point]  # centre of the disc, fovea
DISC, FOVEA = "DISC", "FOVEA"  # codes of points that tell them


def eye_in(findings: Sequence[Finding]) -> Eye | None:
    """Disc and fovea among the findings of a picture; None unless both were found, one to the side of the other."""
    found = {
        each.code.upper(): (each.x, each.y)
        for each in findings
        if isinstance(each, PointFinding) and each.x is not None and each.y is not None
    }
    if not {DISC, FOVEA} <= set(found) or found[DISC][0] == found[FOVEA][0]:
        return None
    return found[DISC], found[FOVEA]


def place_in_eye(points: NDArray[Any], disc: Point, fovea: Point) -> NDArray[np.float64]:
    """u and v of points (…, 2), x and y: float64 (…, 2).

    Raises:
        ValueError: the fovea lies straight above or below the disc, or in the same place: then neither side is up.
    """
    along, down = (float(b - a) for a, b in zip(disc, fovea, strict=True))
    if not (np.isfinite([along, down]).all() and along):
        raise ValueError(
            f"the fovea must lie to the left or to the right of the optic disc. Received: disc {disc}, fovea {fovea}"
        )
    x, y = np.moveaxis(np.asarray(points, np.float64) - np.array(disc), -1, 0)
    u, v = x * along + y * down, np.sign(along) * (x * down - y * along)
    return np.asarray(np.stack([u, v], axis=-1) / (along**2 + down**2), np.float64)


def regions_at(points: NDArray[Any], disc: Point, fovea: Point) -> NDArray[np.uint8]:
    """The region in which each of the points (…, 2) lies, (…): its place in `REGIONS`. Raises as `place_in_eye`.

    What lies on the line between disc and fovea, or its continuation, is superior.
    """
    u, v = np.moveaxis(place_in_eye(points, disc, fovea), -1, 0)
    below = v < 0
    at_disc = (u**2 + v**2 <= DISC_RADIUS**2) & (u < CHORD)
    at_fovea = ((u - 1) ** 2 + v**2 <= FOVEA_RADIUS**2) & (u >= CHORD)
    beyond = (u >= 1) & (np.abs(v) <= FOVEA_RADIUS)
    chosen = np.select([at_disc, at_fovea, beyond, u < 0], [0 + below, 2, 3, 4 + below], 6 + below)
    return np.asarray(chosen, np.uint8)


def region_map(size_hw: tuple[int, int], disc: Point, fovea: Point) -> NDArray[np.uint8]:
    """The region of each pixel of a picture, (h, w): its place in `REGIONS`. Raises as `place_in_eye`."""
    rows, columns = np.indices(size_hw)
    return regions_at(np.stack([columns, rows], axis=-1), disc, fovea)


def region_lines(disc: Point, fovea: Point) -> list[NDArray[np.float64]]:
    """Where the regions meet, as lines of points (n, 2), x and y, that may end outside of the picture.

    Raises as `place_in_eye`.
    """
    half = np.sqrt(DISC_RADIUS**2 - CHORD**2)  # of the chord
    of_disc = np.arctan2(half, CHORD)
    of_fovea = np.arctan2(half, CHORD - 1)
    lines = [
        _arc(0.0, DISC_RADIUS, of_disc, 2 * np.pi - of_disc),
        _arc(1.0, FOVEA_RADIUS, -of_fovea, of_fovea),
        np.array([(CHORD, -half), (CHORD, half)]),
        np.array([(-FAR, 0.0), (CHORD, 0.0)]),
    ]
    for side in (-1.0, 1.0):
        lines.append(np.array([(0.0, side * DISC_RADIUS), (0.0, side * FAR)]))
        lines.append(np.array([(1.0, side * FOVEA_RADIUS), (FAR, side * FOVEA_RADIUS)]))
    return [_in_picture(line, disc, fovea) for line in lines]


def region_names_at(disc: Point, fovea: Point) -> dict[str, Point]:
    """{region: a place inside of it where its name can stand}. Raises as `place_in_eye`."""
    places = _in_picture(np.array(NAMED_AT), disc, fovea)
    return {name: (float(x), float(y)) for name, (x, y) in zip(REGIONS, places, strict=True)}


def _arc(centre: float, radius: float, first: float, last: float) -> NDArray[np.float64]:
    angle = np.linspace(first, last, 181)
    return np.stack([centre + radius * np.cos(angle), radius * np.sin(angle)], axis=-1)


def _in_picture(places: NDArray[np.float64], disc: Point, fovea: Point) -> NDArray[np.float64]:
    """x and y of places (n, 2), u and v: what undoes `place_in_eye`."""
    axis = np.subtract(fovea, disc).astype(np.float64)
    place_in_eye(np.zeros(2), disc, fovea)  # refuses what has no sides
    up = np.sign(axis[0]) * np.array([axis[1], -axis[0]])
    return np.asarray(np.asarray(disc) + places @ np.stack([axis, up]), np.float64)
