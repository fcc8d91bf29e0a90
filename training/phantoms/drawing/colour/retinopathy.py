"""What an eye with diabetic retinopathy has: the lesions of each kind as outlines of retina points.

Sizes were set beside those of 20 photographs of IDRiD. In 1,440 px of width, in which the field has 1,150 and a disc
some 165, the diameters of circles of the same area are there (5, 50 and 95 %): microaneurysms 3, 6, 10 px, haemorrhages
6, 13, 38, hard exudates 3, 6, 19, soft exudates 22, 35, 52.
"""

import math
from dataclasses import dataclass, field

import numpy as np

from training.phantoms.drawing.curves import blob, rotated, unit, wandering

__all__ = ["Retinopathy", "Spot", "draw_retinopathy"]

REACH = 0.19  # how far from the middle of disc and fovea lesions are found; a photograph shows about 0.16


@dataclass(frozen=True)
class Spot:
    """One lesion: its outlines (n, 2), which may overlap; how strongly it shows, 0 to 1."""

    outlines: tuple[np.ndarray, ...]
    strength: float

    @property
    def centre(self) -> np.ndarray:
        return np.asarray(np.concatenate(self.outlines).mean(axis=0))


@dataclass
class Retinopathy:
    """All lesions of an eye. `tufts`: of new vessels, curves (m, n, 2) each."""

    microaneurysms: list[Spot] = field(default_factory=list)
    blots: list[Spot] = field(default_factory=list)
    flames: list[Spot] = field(default_factory=list)
    exudates: list[Spot] = field(default_factory=list)
    cotton_wool: list[Spot] = field(default_factory=list)
    preretinal: list[Spot] = field(default_factory=list)
    tufts: list[np.ndarray] = field(default_factory=list)


def draw_retinopathy(rng: np.random.Generator, disc: np.ndarray, fovea: np.ndarray, grade: int) -> Retinopathy:
    """Lesions as eyes of a grade of the international clinical scale have them, 0 (none) to 4 (proliferative)."""
    eye = Retinopathy()
    if grade == 0:
        return eye
    severe = grade == 3 or (grade == 4 and rng.random() < 0.5)
    dots = int(rng.integers(2, 13) if grade == 1 else rng.integers(30, 90) if severe else rng.integers(5, 60))
    eye.microaneurysms = [_microaneurysm(rng, place) for place in _places(rng, disc, fovea, dots)]
    if grade == 1:
        return eye
    bleedings = int(rng.integers(170, 280) if severe else 1 + 45 * rng.random() ** 2)
    flame_share = rng.uniform(0.05, 0.4)
    for place in _places(rng, disc, fovea, bleedings):
        if rng.random() < flame_share:
            eye.flames.append(_flame(rng, place, disc))
        else:
            eye.blots.append(_blot(rng, place))
    if rng.random() < 0.7:
        for _ in range(int(rng.integers(1, 6))):
            eye.exudates += _exudates(rng, fovea)
    if rng.random() < (0.6 if severe else 0.3):
        eye.cotton_wool = [
            _cotton_wool(rng, place, disc) for place in _places(rng, disc, fovea, int(rng.integers(1, 8)), 0.05)
        ]
    if grade == 4:
        kinds = rng.random()
        if kinds < 0.7:
            eye.tufts = [_tuft(rng, place, disc) for place in _new_vessels(rng, disc, fovea)]
        if kinds > 0.5:
            eye.preretinal = [_boat(rng, place) for place in _places(rng, disc, fovea, int(rng.integers(1, 3)), 0.04)]
    return eye


def _places(
    rng: np.random.Generator, disc: np.ndarray, fovea: np.ndarray, count: int, from_fovea: float = 0.004
) -> np.ndarray:
    """(count, 2), anywhere around the posterior pole but on the disc and at the fovea."""
    found: list[np.ndarray] = []
    while len(found) < count:
        angle, reach = rng.uniform(0, 2 * math.pi), REACH * math.sqrt(rng.random())
        place = 0.5 * (disc + fovea) + reach * np.array([math.cos(angle), math.sin(angle)])
        if math.dist(place, disc) > 0.034 and math.dist(place, fovea) > from_fovea:
            found.append(place)
    return np.array(found).reshape(-1, 2)


def _size(rng: np.random.Generator, middle: float, spread: float, low: float, high: float) -> float:
    return float(np.clip(middle * math.exp(spread * rng.normal()), low, high))


def _microaneurysm(rng: np.random.Generator, place: np.ndarray) -> Spot:
    outline = blob(rng, place, _size(rng, 0.0007, 0.32, 0.0004, 0.0015), 0.08, rng.uniform(1, 1.3))
    return Spot((outline,), rng.uniform(0.3, 1.0))


def _blot(rng: np.random.Generator, place: np.ndarray) -> Spot:
    radius = _size(rng, 0.0014, 0.5, 0.0007, 0.0075)
    parts = [blob(rng, place, radius, 0.22, rng.uniform(1, 1.9))]
    if rng.random() < 0.4:
        aside = place + radius * rng.normal(0, 0.8, 2)
        parts.append(blob(rng, aside, radius * rng.uniform(0.4, 0.9), 0.22, rng.uniform(1, 1.8)))
    return Spot(tuple(parts), rng.uniform(0.35, 1.0))


def _flame(rng: np.random.Generator, place: np.ndarray, disc: np.ndarray) -> Spot:
    """Blood between the nerve fibres: streaks that lie side by side along them, with frayed ends."""
    size = _size(rng, 0.0017, 0.4, 0.0009, 0.005)
    away = place - disc
    angle = math.atan2(away[1], away[0]) + rng.normal(0, 0.25)
    parts = []
    for _ in range(int(rng.integers(2, 6))):
        offset = rotated(np.array([rng.normal(0, 0.9), rng.normal(0, 0.28)]) * size, np.array(angle))
        streak = blob(rng, np.zeros(2), size * rng.uniform(0.45, 0.8), 0.15, rng.uniform(4, 9), angle=angle)
        parts.append(place + offset + streak)
    return Spot(tuple(parts), rng.uniform(0.4, 1.0))


def _exudates(rng: np.random.Generator, fovea: np.ndarray) -> list[Spot]:
    """A cluster of flecks in the macula: a ring around a leak or a part of one, or a patch, some of it run together."""
    angle, away = rng.uniform(0, 2 * math.pi), rng.uniform(0.01, 0.085)
    middle = fovea + away * np.array([math.cos(angle), math.sin(angle)])
    ring, count = rng.random() < 0.6, int(5 + 105 * rng.random() ** 1.5)
    radius, width = rng.uniform(0.012, 0.034), rng.uniform(0.08, 0.28)
    start, arc = rng.uniform(0, 2 * math.pi), rng.uniform(1.2, 2 * math.pi)
    spread = rng.uniform(0.005, 0.016) * np.array([1, rng.uniform(0.4, 1)])
    tone, middling = rng.uniform(0.4, 1.0), rng.uniform(0.00045, 0.0007)
    flecks = []
    for _ in range(count):
        if ring:
            phi, r = start + arc * rng.random(), radius * (1 + width * rng.normal())
            place = middle + r * np.array([math.cos(phi), math.sin(phi)])
        else:
            place = middle + rng.normal(0, 1, 2) * spread
        size = _size(rng, middling, 0.45, 0.0003, 0.002)
        fleck = blob(rng, place, size, 0.35, rng.uniform(1, 2.2))
        flecks.append(Spot((fleck,), min(1.0, tone * rng.uniform(0.45, 1.25))))
        if rng.random() < 0.02:  # a plaque: many that grew together
            across = rng.uniform(0.001, 0.003)
            parts = [
                blob(rng, place + rng.normal(0, across, 2), _size(rng, 0.6 * across, 0.4, 0.0008, 0.004), 0.3)
                for _ in range(int(rng.integers(3, 8)))
            ]
            flecks.append(Spot(tuple(parts), min(1.0, 1.3 * tone)))
    return flecks


def _cotton_wool(rng: np.random.Generator, place: np.ndarray, disc: np.ndarray) -> Spot:
    """Swollen nerve fibres: lobes across their course."""
    size = _size(rng, 0.0047, 0.3, 0.0026, 0.009)
    away = place - disc
    across = math.atan2(away[1], away[0]) + math.pi / 2 + rng.normal(0, 0.4)
    parts = [
        place
        + rotated(np.array([rng.normal(0, 0.6), rng.normal(0, 0.2)]) * size, np.array(across))
        + blob(rng, np.zeros(2), size * rng.uniform(0.6, 0.9), 0.25, rng.uniform(1.1, 2.2), angle=across)
        for _ in range(int(rng.integers(2, 5)))
    ]
    return Spot(tuple(parts), rng.uniform(0.35, 0.95))


def _boat(rng: np.random.Generator, place: np.ndarray) -> Spot:
    """Blood in front of the retina, that has sunk: level above, round below."""
    half, depth = rng.uniform(0.012, 0.035), rng.uniform(0.4, 0.8)
    phi = np.linspace(0, math.pi, 64)
    below = np.stack([np.cos(phi), depth * np.sin(phi)], axis=-1)
    rim = np.linspace(-1, 1, 24)[1:-1, None]
    above = np.concatenate([rim, 0.03 * np.sin(5 * rim + rng.uniform(0, 6.3)) - 0.08 * (1 - rim**2)], axis=-1)
    return Spot((place + half * np.concatenate([below, above]),), rng.uniform(0.75, 1.0))


def _new_vessels(rng: np.random.Generator, disc: np.ndarray, fovea: np.ndarray) -> list[np.ndarray]:
    """Where they grow: on the disc, elsewhere, or both."""
    where, places = rng.random(), []
    if where < 0.6:
        places.append(disc + rng.normal(0, 0.008, 2))
    if where > 0.4:
        places += list(_places(rng, disc, fovea, int(rng.integers(1, 3)), 0.06))
    return places


def _tuft(rng: np.random.Generator, place: np.ndarray, disc: np.ndarray) -> np.ndarray:
    """Fine vessels that leave one place in a fan, wind and curl back, (m, 40, 2)."""
    count, size = int(rng.integers(14, 34)), rng.uniform(0.008, 0.02)
    course = rng.uniform(0, 2 * math.pi) if math.dist(place, disc) < 0.03 else math.atan2(*(place - disc)[::-1])
    angle = course + rng.uniform(-1.6, 1.6, count)
    out = np.stack([np.cos(angle), np.sin(angle)], axis=-1)
    t = np.linspace(0, 1, 40)[None, :, None]
    side = np.stack([-out[:, 1], out[:, 0]], axis=-1) * rng.choice([-1.0, 1.0], (count, 1))
    length = size * rng.uniform(0.5, 1.2, (count, 1, 1))
    bow = rng.uniform(0.1, 0.6, (count, 1, 1))
    curves = place + length * (t * out[:, None] + bow * t**2 * unit(side)[:, None])
    return wandering(rng, curves, length[:, 0, 0] * rng.uniform(0.02, 0.07, count))
