"""Synthetic red/green ultra-widefield fundus images (Optos-like) with exact truth.

Everything is drawn in retina coordinates (unit: the image width; origin between disc and fovea; x towards the disc,
y down) and mapped to pixels by the view's gaze, so one seed gives one picture whatever the width. A seed is an eye:
its vessels, disc, choroid and lesions; `view` numbers the exposures of that eye, which differ in gaze, lids and
lashes, exposure, colour, focus and noise. Labels choose lesions and nothing else: every other draw comes from
streams of random numbers that no label touches, so nothing but the lesions can tell them.

The pictures are drawn by hand to look like the modality and to be learnable; the posterior pole is enlarged about
1.5 times against a real 200 degree image. They carry no clinical evidence.
"""

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from functools import partial
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np

from keras_realmnet.screening.labels import PSMM
from training.data.label_table import LabelTable, write_label_table
from training.data.parallel import in_parallel

__all__ = [
    "LESIONS",
    "PSMM_CELLS",
    "Phantom",
    "PhantomCase",
    "cohort",
    "encode_jpeg",
    "lids_before",
    "render",
    "write_images",
    "write_psmm_tree",
]

LESIONS = ("diffuse_atrophy", "patchy_atrophy", "macular_atrophy", "staphyloma", "hemorrhage", "hard_exudate")

# Images of PSMM's training list by (staphyloma, grade): the imbalance and the co-occurrence that cohort() follows.
PSMM_CELLS = {
    (False, 0): 1436,
    (False, 1): 18327,
    (False, 2): 35,
    (False, 3): 75,
    (True, 1): 3821,
    (True, 2): 4322,
    (True, 3): 1836,
    (True, 4): 568,
}
BALANCED_CELLS = {(staphyloma, grade): 1 for staphyloma in (False, True) for grade in range(5)}
CELLS = {"psmm": PSMM_CELLS, "balanced": BALANCED_CELLS}

# Sizes of the devices' exports, (width, height): only the aspect is used.
EXPORT_SIZES = ((3900, 3072), (2600, 2048), (4000, 4000))

# Thin structures are drawn on a canvas of at least this width and averaged down: thin ones fade, none vanishes.
DRAWING_WIDTH = 640

# What is smooth (light, clouds of pigment, lids and lashes, which are out of focus) is computed at this width at most.
SMOOTH_WIDTH = 320

DISC = np.array([0.062, -0.008])  # centre of the optic disc; the fovea lies at about minus this


@dataclass(frozen=True)
class Phantom:
    """A rendered image and its truth.

    `image` is uint8 RGB (h, w, 3); `labels` uint8 (7,) in the order of `PSMM.codes`; `eye` "OD" or "OS"; all masks
    are bool (h, w), including those of lesions the eye does not have (all False); `fovea` is (x, y) in pixels.
    The truth is what lies on the retina: lashes may cover some of it. Masks end at the field.
    """

    image: np.ndarray
    labels: np.ndarray
    eye: str
    field_mask: np.ndarray
    disc_mask: np.ndarray
    cup_mask: np.ndarray
    artery_mask: np.ndarray
    vein_mask: np.ndarray
    lesion_masks: dict[str, np.ndarray]
    fovea: tuple[float, float]

    @property
    def vessel_mask(self) -> np.ndarray:
        """Arteries and veins, bool (h, w)."""
        return self.artery_mask | self.vein_mask


def label_vector(staphyloma: bool, grade: int) -> np.ndarray:
    """The uint8 (7,) label vector S0, S1, A0..A4 of an eye."""
    labels = np.zeros(len(PSMM), np.uint8)
    labels[int(staphyloma)] = 1
    labels[2 + grade] = 1
    return labels


# --- random numbers -------------------------------------------------------------------------------------------------

STREAMS = (
    "labels",
    "anatomy",
    "vessels",
    "choroid",
    "texture",
    "macula",
    "atrophy",
    "patches",
    "staphyloma",
    "findings",
)
VIEW_STREAMS = ("gaze", "field", "lids", "exposure", "noise")


class _Streams:
    """One independent generator per subject, so that one subject's draws never shift another's."""

    def __init__(self, seed: int | Sequence[int], view: int) -> None:
        entropy = [seed] if isinstance(seed, (int, np.integer)) else list(seed)
        self._entropy = [int(value) for value in entropy]
        self._view = view

    def __getitem__(self, name: str) -> np.random.Generator:
        key = [0, STREAMS.index(name)] if name in STREAMS else [1 + self._view, VIEW_STREAMS.index(name)]
        return np.random.default_rng(np.random.SeedSequence(self._entropy, spawn_key=key))


# --- geometry -------------------------------------------------------------------------------------------------------


class _Canvas:
    """The pixel grid of one image: its size, its map from retina coordinates, and drawing in those coordinates."""

    def __init__(self, width: int, height: int, matrix: np.ndarray, centre: np.ndarray) -> None:
        self.width, self.height = width, height
        self.oversampling = max(1, math.ceil(DRAWING_WIDTH / width))
        self.line_type = cv2.LINE_AA if self.oversampling == 1 else cv2.LINE_8
        self.matrix, self.centre = matrix, centre  # retina -> image, both in image widths
        self.zoom = math.sqrt(abs(np.linalg.det(matrix)))
        self.column = ((np.arange(width, dtype=np.float32) + 0.5) / width)[None]
        self.row = ((np.arange(height, dtype=np.float32) + 0.5) / width)[:, None]
        inverse = np.linalg.inv(matrix).astype(np.float32)
        x, y = self.column - np.float32(centre[0]), self.row - np.float32(centre[1])
        self.x = inverse[0, 0] * x + inverse[0, 1] * y
        self.y = inverse[1, 0] * x + inverse[1, 1] * y

    @classmethod
    def gazing(cls, width: int, height: int, eye: str, rng: np.random.Generator) -> "_Canvas":
        """The canvas of an eye that looks roughly, not exactly, at the device."""
        angle, zoom = math.radians(rng.uniform(-8, 8)), rng.uniform(0.92, 1.08)
        centre = np.array([0.5 + rng.uniform(-0.06, 0.06), 0.5 * height / width + rng.uniform(-0.045, 0.045)])
        # The retina is described for a right eye, where the disc is on the right of the fovea; a left one is mirrored.
        mirror = np.diag([1.0 if eye == "OD" else -1.0, 1.0])
        rotation = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
        return cls(width, height, zoom * rotation @ mirror, centre)

    def reduced(self, width: int = SMOOTH_WIDTH) -> "_Canvas":
        """The same view on at most `width` columns, for what is smooth; `enlarged` brings it back."""
        if self.width <= width:
            return self
        return _Canvas(width, math.ceil(self.height * width / self.width), self.matrix, self.centre)

    def enlarged(self, plane: np.ndarray) -> np.ndarray:
        """A plane of a reduced canvas at this canvas's size."""
        if plane.shape == (self.height, self.width):
            return plane
        scale = self.width / plane.shape[1]
        plane = cv2.resize(plane, None, fx=scale, fy=scale, interpolation=cv2.INTER_CUBIC)
        return np.ascontiguousarray(plane[: self.height, : self.width])

    def around(self, point: np.ndarray, radius: float) -> tuple[slice, slice]:
        """The window of pixels within a radius of a retina point."""
        (x, y), reach = self.to_pixels(point), radius * self.zoom * self.width + 1
        rows = slice(max(0, int(y - reach)), max(0, int(y + reach) + 1))
        return rows, slice(max(0, int(x - reach)), max(0, int(x + reach) + 1))

    def to_pixels(self, points: np.ndarray) -> np.ndarray:
        """Retina points (..., 2) to pixel coordinates, pixel centres at integers."""
        return (points @ self.matrix.T + self.centre) * self.width - 0.5

    def blank(self) -> np.ndarray:
        return np.zeros((self.height * self.oversampling, self.width * self.oversampling), np.uint8)

    def fixed_point(self, points: np.ndarray) -> np.ndarray:
        """Retina points as OpenCV's fixed-point coordinates (4 fractional bits) on a drawing canvas."""
        scale = self.width * self.oversampling
        return np.round(((points @ self.matrix.T + self.centre) * scale - 0.5) * 16).astype(np.int32)

    def strokes(
        self, target: np.ndarray, curves: np.ndarray, widths: np.ndarray, values: np.ndarray, pieces: int
    ) -> None:
        """Draw curves (m, n, 2) whose widths (m, n) vary along them, in `pieces` pieces of constant width."""
        points = self.fixed_point(curves)
        scale = self.width * self.oversampling * self.zoom
        cuts = np.linspace(0, curves.shape[1] - 1, pieces + 1).astype(int)
        for k in range(pieces):
            start, stop = cuts[k], cuts[k + 1] + 1
            wide = widths[:, start:stop].mean(axis=1) * scale
            thickness = np.maximum(1, np.round(wide)).astype(int)
            strength = np.round(values * np.minimum(1, wide)).astype(int)  # below one pixel: fainter, not thinner
            for line, thick, value in zip(points[:, start:stop], thickness.tolist(), strength.tolist(), strict=True):
                cv2.polylines(target, [line], False, value, thick, self.line_type, 4)

    def outline(self, target: np.ndarray, contour: np.ndarray, value: int = 255) -> None:
        """Fill a closed contour (n, 2) of retina points."""
        cv2.fillPoly(target, [self.fixed_point(contour)], value, self.line_type, 4)

    def coverage(self, target: np.ndarray, blur: float = 0.0) -> np.ndarray:
        """A drawing canvas averaged down to the image, float32 (h, w) in 0..1, blurred by a sigma in image widths."""
        if self.oversampling > 1:
            target = cv2.resize(target, (self.width, self.height), interpolation=cv2.INTER_AREA)
        plane = target.astype(np.float32) * np.float32(1 / 255)
        return self.blurred(plane, blur)

    def blurred(self, plane: np.ndarray, sigma: float) -> np.ndarray:
        """Gaussian blur with a sigma in image widths."""
        return _blur(plane, sigma * self.width)

    def distance(self, point: np.ndarray) -> np.ndarray:
        """Squared distance of every pixel to a retina point, float32 (h, w)."""
        dx, dy = self.x - np.float32(point[0]), self.y - np.float32(point[1])
        return dx * dx + dy * dy

    def spot(self, point: np.ndarray, sigma: float) -> np.ndarray:
        """An isotropic Gaussian of height 1 around a retina point."""
        return np.exp(self.distance(point) * np.float32(-0.5 / sigma**2))

    def texture(self, rng: np.random.Generator, cells: int) -> np.ndarray:
        """Smooth noise fixed to the retina, about unit variance, `cells` random values per image width."""
        tile = rng.standard_normal((cells, cells), dtype=np.float32)
        if cells < 40:  # large cells go through a small grid: OpenCV warps to 1/32 px only, and that is cheaper
            small = self.reduced(160)
            return self.enlarged(small._warped(tile, cv2.INTER_CUBIC))
        return self._warped(tile, cv2.INTER_LINEAR)

    def _warped(self, tile: np.ndarray, interpolation: int) -> np.ndarray:
        """A tile that covers one image width of the retina, repeated over this canvas."""
        corner = (self.centre - self.matrix.sum(axis=1)) * self.width  # where the retina's (-1, -1) lies
        forward = np.column_stack([self.matrix * (self.width / tile.shape[0]), corner])
        size = (self.width, self.height)
        return cv2.warpAffine(tile, forward, size, flags=interpolation, borderMode=cv2.BORDER_WRAP)


def _blur(plane: np.ndarray, sigma: float) -> np.ndarray:
    """Gaussian blur; a wide one is done on a reduced copy, where it looks the same and is cheap."""
    if sigma < 0.2:
        return plane
    shrink = int(sigma // 4)
    if shrink < 2:
        return cv2.GaussianBlur(plane, (0, 0), sigma)
    h, w = plane.shape[:2]
    small = cv2.resize(plane, (max(2, w // shrink), max(2, h // shrink)), interpolation=cv2.INTER_AREA)
    small = cv2.GaussianBlur(small, (0, 0), sigma / shrink)
    return cv2.resize(small, (w, h), interpolation=cv2.INTER_CUBIC)


def _screen_noise(rng: np.random.Generator, cells: int, width: int, height: int) -> np.ndarray:
    """Smooth noise fixed to the image, about unit variance, `cells` random values per image width."""
    tile = rng.standard_normal((cells, cells), dtype=np.float32)
    return cv2.resize(tile, (width, width), interpolation=cv2.INTER_CUBIC)[:height]


def _smoothstep(low: float, high: float, value: np.ndarray) -> np.ndarray:
    t = np.clip((value - np.float32(low)) * np.float32(1 / (high - low)), 0, 1)
    return t * t * (3 - 2 * t)


def _bezier(p0: np.ndarray, p1: np.ndarray, p2: np.ndarray, p3: np.ndarray, samples: int) -> np.ndarray:
    """Cubic Bezier curves (m, samples, 2) from control points (m, 2)."""
    t = np.linspace(0, 1, samples)[None, :, None]
    p0, p1, p2, p3 = (p[:, None, :] for p in (p0, p1, p2, p3))
    return (1 - t) ** 3 * p0 + 3 * t * (1 - t) ** 2 * p1 + 3 * t**2 * (1 - t) * p2 + t**3 * p3


def _unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-9)


def _rotated(vectors: np.ndarray, angles: np.ndarray) -> np.ndarray:
    c, s = np.cos(angles), np.sin(angles)
    return np.stack([c * vectors[..., 0] - s * vectors[..., 1], s * vectors[..., 0] + c * vectors[..., 1]], axis=-1)


def _wandering(rng: np.random.Generator, curves: np.ndarray, amplitude: np.ndarray) -> np.ndarray:
    """Curves with a tortuous offset across their course, growing from their start; amplitude (m,)."""
    m, n = curves.shape[:2]
    t = np.linspace(0, 1, n)[None]
    tangent = _unit(np.gradient(curves, axis=1))
    normal = np.stack([-tangent[..., 1], tangent[..., 0]], axis=-1)
    offset = np.zeros((m, n))
    for frequency, weight in ((1.3, 1.0), (2.9, 0.6), (6.1, 0.3)):
        f = frequency * rng.uniform(0.7, 1.4, (m, 1))
        phase = rng.uniform(0, 2 * math.pi, (m, 1))
        offset += weight * (np.sin(2 * math.pi * f * t + phase) - np.sin(phase))
    return curves + normal * (offset * amplitude[:, None] * np.minimum(1, 3 * t))[..., None]


def _blob(
    rng: np.random.Generator, centre: np.ndarray, radius: float, roughness: float, aspect: float = 1.0
) -> np.ndarray:
    """An irregular closed contour (96, 2) of about the given radius; roughness 0 = an ellipse."""
    phi = np.linspace(0, 2 * math.pi, 96, endpoint=False)
    r = np.ones_like(phi)
    for k in range(2, 12):
        r += roughness / k**1.2 * 1.6 * rng.normal() * np.cos(k * phi + rng.uniform(0, 2 * math.pi))
    r = radius * np.clip(r, 0.6, 1.5)
    points = np.stack([r * np.cos(phi) * math.sqrt(aspect), r * np.sin(phi) / math.sqrt(aspect)], axis=-1)
    return centre + _rotated(points, np.full(96, rng.uniform(0, math.pi)))


# --- the eye --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Staphyloma:
    """An oval outpouching: centre, half axes and axis angle; how its inside and its edge differ from around it."""

    centre: np.ndarray
    axes: np.ndarray
    angle: float
    inside: float  # relative brightness change inside
    ridge: float  # strength of the light band at the edge
    shadow: float  # strength of the dark band outside it
    wobble: np.ndarray  # phases of the irregular outline

    def radius(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Elliptic radius of retina points: 1 at the edge."""
        c, s = math.cos(self.angle), math.sin(self.angle)
        dx, dy = x - self.centre[0].astype(x.dtype), y - self.centre[1].astype(x.dtype)
        u = (c * dx + s * dy) * x.dtype.type(1 / self.axes[0])
        v = (c * dy - s * dx) * x.dtype.type(1 / self.axes[1])
        phi = np.arctan2(v, u)
        wobble = sum(0.032 / (k - 1) * np.cos(k * phi + phase) for k, phase in enumerate(self.wobble, start=2))
        return np.sqrt(u * u + v * v) * (1 + wobble).astype(x.dtype)

    def kink(self, curves: np.ndarray) -> np.ndarray:
        """Vessel curves bent where they cross the edge."""
        rho = self.radius(curves[..., 0], curves[..., 1])[..., None]
        outward = _unit(curves - self.centre)
        across = np.stack([-outward[..., 1], outward[..., 0]], axis=-1)
        bend = np.exp(-(((rho - 1) / 0.07) ** 2))
        slope = (rho - 1) / 0.07 * bend
        return curves + 0.007 * bend * across - 0.008 * slope * outward


def _draw_staphyloma(rng: np.random.Generator, disc: np.ndarray, fovea: np.ndarray) -> _Staphyloma:
    # Wide macular, narrow macular and peripapillary are the common types of Ohno-Matsui's classification.
    kind = rng.choice(3, p=[0.6, 0.25, 0.15])
    if kind == 2:
        centre, axes = disc + rng.uniform(-0.012, 0.012, 2), rng.uniform([0.095, 0.09], [0.13, 0.12])
    elif kind == 1:
        centre, axes = 0.5 * (disc + fovea) + rng.uniform(-0.02, 0.02, 2), rng.uniform([0.13, 0.09], [0.17, 0.12])
    else:
        centre, axes = 0.45 * (disc + fovea) + rng.uniform(-0.025, 0.025, 2), rng.uniform([0.17, 0.13], [0.25, 0.2])
    return _Staphyloma(
        centre=centre,
        axes=axes,
        angle=rng.uniform(-0.3, 0.3),
        inside=rng.choice([-1, 1], p=[0.5, 0.5]) * rng.uniform(0.14, 0.26),
        ridge=rng.uniform(0.34, 0.58),
        shadow=rng.uniform(0.22, 0.42),
        wobble=rng.uniform(0, 2 * math.pi, 5),
    )


def _trunks(rng: np.random.Generator, disc: np.ndarray, fovea: np.ndarray) -> np.ndarray:
    """Control points (4, 7, 2) of the large vessels: arcades, nasal arcades, up and down, nasal."""
    uniform, trunks = rng.uniform, []

    def disc_at(x: float, y: float) -> np.ndarray:
        return disc + np.array([x, y])

    def fovea_at(x: float, y: float) -> np.ndarray:
        return fovea + np.array([x, y])

    for s in (-1.0, 1.0):
        height = uniform(0.095, 0.14)
        trunks += [
            [  # temporal arcade: around the macula, then on to the periphery
                disc_at(uniform(-0.002, 0.006), s * 0.002),
                disc_at(uniform(0.0, 0.02), s * uniform(0.08, 0.11)),
                fovea_at(uniform(-0.02, 0.04), s * (height + uniform(0.01, 0.06))),
                fovea_at(uniform(-0.4, -0.28), s * uniform(0.0, 0.22)),
            ],
            [  # nasal arcade
                disc_at(uniform(0.0, 0.007), s * 0.002),
                disc_at(uniform(0.02, 0.05), s * uniform(0.04, 0.08)),
                disc_at(uniform(0.1, 0.16), s * uniform(0.08, 0.15)),
                disc_at(uniform(0.25, 0.38), s * uniform(0.1, 0.28)),
            ],
            [  # up, down
                disc_at(uniform(-0.003, 0.005), s * 0.002),
                disc_at(uniform(0.0, 0.04), s * 0.09),
                disc_at(uniform(-0.06, 0.1), s * 0.2),
                disc_at(uniform(-0.16, 0.14), s * uniform(0.3, 0.38)),
            ],
        ]
    bend = rng.normal(0, 0.03, 2)
    trunks.append([disc_at(0.006, 0.0), disc_at(0.06, 0.0), disc_at(0.15, bend[0]), disc_at(0.3, bend[1])])
    return np.array(trunks).transpose(1, 0, 2)


def _vessel_tree(
    rng: np.random.Generator, trunks: np.ndarray, fovea: np.ndarray, calibre: float
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Curves (m, n, 2) and widths (m, n) of one kind of vessel from the disc to the periphery, coarse to fine."""
    beside = rng.normal(0, 1, trunks.shape) * np.array([0.0015, 0.009, 0.018, 0.03])[:, None, None]
    first, second, third, last = trunks + beside
    curves = _bezier(first, second, third, last, 64)
    tortuosity = rng.uniform(0.3, 1.2)
    curves = _wandering(rng, curves, rng.uniform(0.002, 0.006, len(curves)) * tortuosity)
    strength = np.array([1.0, 0.72, 0.5] * 2 + [0.45]) * rng.uniform(0.85, 1.1, 7)
    widths = calibre * strength[:, None] * (np.linspace(1, 0.4, 64) * np.minimum(1, np.linspace(0.35, 10, 64)))[None]
    generations = [(curves, widths)]
    for children, samples, reach in ((6, 32, 0.45), (3, 20, 0.5), (2, 12, 0.6)):
        parents, parent_widths = generations[-1]
        m, n = parents.shape[:2]
        at = (np.arange(children)[None] + rng.uniform(0.1, 0.9, (m, children))) / children
        at = np.round((0.16 + 0.82 * at) * (n - 1)).astype(int)
        rows = np.arange(m)[:, None]
        start = parents[rows, at].reshape(-1, 2)
        heading = _unit(np.gradient(parents, axis=1))[rows, at].reshape(-1, 2)
        length = np.linalg.norm(np.diff(parents, axis=1), axis=-1).sum(axis=1)
        length = (length[:, None] * reach * rng.uniform(0.5, 1.1, at.shape) * (1.1 - 0.6 * at / n)).reshape(-1)
        turn = rng.choice([-1.0, 1.0], at.shape).reshape(-1) * rng.uniform(0.35, 1.1, at.size)
        out = _rotated(heading, turn)
        end = _unit(_rotated(heading, 0.6 * turn) + 0.7 * _unit(start) + rng.normal(0, 0.25, start.shape))
        third = (length / 3)[:, None]
        tip = start + _unit(out + end) * length[:, None]
        branch = _bezier(start, start + out * third, tip - end * third, tip, samples)
        branch = _wandering(rng, branch, 0.035 * tortuosity * length * rng.uniform(0.5, 1.3, len(length)))
        width = (parent_widths[rows, at] * rng.uniform(0.5, 0.75, at.shape)).reshape(-1)
        generations.append((branch, width[:, None] * np.linspace(1, 0.45, samples)[None]))
    # The fovea has no vessels: push everything out of its avascular zone.
    pushed = []
    for curves, widths in generations:
        offset = curves - fovea
        r = np.maximum(np.linalg.norm(offset, axis=-1, keepdims=True), 1e-6)
        pushed.append((fovea + offset * np.sqrt(r * r + 0.02**2) / r, widths))
    return pushed


def _choroid(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Choroidal vessels: curves (m, n, 2), widths (m, n), from the posterior pole to the vortex veins."""
    count = 420
    angle = rng.uniform(0, 2 * math.pi, count)
    r = 0.4 * rng.uniform(0.02, 1, count) ** 0.75
    start = np.stack([r * np.cos(angle) * 1.1, r * np.sin(angle)], axis=-1)
    ampulla_angle = math.pi / 4 + np.arange(4) * math.pi / 2 + rng.uniform(-0.3, 0.3, 4)
    ampullae = rng.uniform(0.34, 0.42, (4, 1)) * np.stack([np.cos(ampulla_angle), np.sin(ampulla_angle)], axis=-1)
    gap = np.linalg.norm(start[:, None] - ampullae[None], axis=-1)
    towards = _unit(ampullae[np.argmin(gap, axis=1)] - start)
    radial = _unit(start)
    heading = _unit(radial + 0.7 * towards * (r > 0.12)[:, None] + rng.normal(0, 0.35, start.shape))
    final = _unit(radial + 1.2 * towards * (r > 0.1)[:, None] + rng.normal(0, 0.3, start.shape))
    length = rng.uniform(0.04, 0.13, count)[:, None]
    tip = start + _unit(heading + final) * length
    curves = _bezier(start, start + heading * length / 3, tip - final * length / 3, tip, 12)
    curves = _wandering(rng, curves, rng.uniform(0.001, 0.004, count))
    widths = (0.0012 + 0.0036 * rng.random(count) ** 1.5)[:, None] * np.linspace(0.7, 1.1, 12)[None]
    return curves, widths, ampullae


# --- rendering ------------------------------------------------------------------------------------------------------


class _Picture:
    """The red and green planes while they are painted; reflectance about 0..1."""

    def __init__(self, red: np.ndarray, green: np.ndarray) -> None:
        self.red, self.green = red, green

    def window(self, window: tuple[slice, slice]) -> "_Picture":
        """A part of the picture; painting on it paints on the whole."""
        return _Picture(self.red[window], self.green[window])

    def multiply(self, red: np.ndarray, green: np.ndarray) -> None:
        self.red *= red
        self.green *= green

    def blend(self, weight: np.ndarray, red: np.ndarray | float, green: np.ndarray | float) -> None:
        """Move towards a colour (numbers or planes) by a weight plane in 0..1."""
        self.red += weight * (red - self.red)
        self.green += weight * (green - self.green)


def render(
    seed: int | Sequence[int],
    *,
    width: int = 512,
    height: int | None = None,
    staphyloma: bool | None = None,
    grade: int | None = None,
    eye: str | None = None,
    view: int = 0,
) -> Phantom:
    """One exposure of one synthetic eye.

    Args:
        seed: the eye: a non-negative integer or several.
        width, height: pixels, at least 64; the height defaults to 3072/3900 of the width. The same seed, view and
            aspect give the same picture at every width.
        staphyloma: posterior staphyloma or not; None draws it with probability 1/2.
        grade: META-PM category 0..4 of the myopic maculopathy; None draws it uniformly.
        eye: "OD" or "OS"; None draws it.
        view: the number of the exposure of this eye.

    Raises:
        ValueError: for a size, grade, eye or view out of range.
    """
    height = round(width * 3072 / 3900) if height is None else height
    if width < 64 or height < 64:
        raise ValueError(f"A phantom is at least 64 pixels wide and high. Received: {width} x {height}")
    if grade not in (None, 0, 1, 2, 3, 4):
        raise ValueError(f"grade is a META-PM category 0..4 or None. Received: {grade!r}")
    if eye not in (None, "OD", "OS"):
        raise ValueError(f"eye is 'OD', 'OS' or None. Received: {eye!r}")
    if view < 0:
        raise ValueError(f"view counts the exposures of an eye from 0. Received: {view!r}")
    streams = _Streams(seed, view)
    draw = streams["labels"]
    drawn = (bool(draw.random() < 0.5), int(draw.integers(5)), str(draw.choice(["OD", "OS"])))
    staphyloma = drawn[0] if staphyloma is None else bool(staphyloma)
    grade = drawn[1] if grade is None else int(grade)
    eye = drawn[2] if eye is None else eye

    canvas = _Canvas.gazing(width, height, eye, streams["gaze"])
    anatomy = streams["anatomy"]
    disc = DISC + anatomy.uniform(-0.006, 0.006, 2)
    fovea = -DISC + anatomy.uniform(-0.006, 0.006, 2)
    pit = _draw_staphyloma(streams["staphyloma"], disc, fovea) if staphyloma else None

    picture, pale, mottle = _fundus(canvas, streams, disc, fovea, grade)
    lesions = {name: np.zeros((height, width), bool) for name in LESIONS}
    if pit is not None:
        lesions["staphyloma"] = _paint_staphyloma(canvas, picture, pit)
    _paint_atrophy(canvas, picture, streams, disc, fovea, grade, pale, mottle, lesions)
    disc_mask, cup_mask = _paint_disc(canvas, picture, anatomy, disc, grade, mottle)
    artery_mask, vein_mask = _paint_vessels(canvas, picture, streams["vessels"], disc, fovea, pit)
    _paint_findings(canvas, picture, streams["findings"], fovea, lesions)

    image, field = _expose(canvas, picture, streams)
    x, y = canvas.to_pixels(fovea)
    return Phantom(
        image=image,
        labels=label_vector(staphyloma, grade),
        eye=eye,
        field_mask=field,
        disc_mask=disc_mask & field,
        cup_mask=cup_mask & field,
        artery_mask=artery_mask & field,
        vein_mask=vein_mask & field,
        lesion_masks={name: mask & field for name, mask in lesions.items()},
        fovea=(float(x), float(y)),
    )


def _fundus(
    canvas: _Canvas, streams: _Streams, disc: np.ndarray, fovea: np.ndarray, grade: int
) -> tuple[_Picture, np.ndarray, np.ndarray]:
    """The background: pigment, choroid, macula, nerve fibres. Returns it, the choroid's coverage and the mottle."""
    small = canvas.reduced()
    rng = streams["texture"]
    red, green = rng.uniform(0.3, 0.5), rng.uniform(0.22, 0.42)
    cloud, amount, grain = small.texture(rng, 7), rng.uniform(0.06, 0.2, 2), rng.uniform(0.03, 0.08)
    clouds = (0.5 * cloud + small.texture(rng, 9), small.texture(rng, 9) - 0.2 * cloud)
    smooth = _Picture(
        np.float32(red) * np.clip(1 + np.float32(amount[0]) * clouds[0], 0.3, 2.2),
        np.float32(green) * np.clip(1 + np.float32(amount[1]) * clouds[1], 0.3, 2.2),
    )
    mottle = canvas.texture(rng, 170)

    # Nerve fibres along the arcades, the macula and its fovea, the ampullae of the vortex veins.
    rng = streams["macula"]
    along = np.float32(rng.uniform(0.10, 0.16))
    sheen = np.exp(-((small.x - 0.02) ** 2) / along**2 - ((np.abs(small.y) - 0.07) / np.float32(0.07)) ** 2)
    smooth.green *= 1 + np.float32(rng.uniform(0.1, 0.45)) * sheen
    deep, wide = rng.uniform(0.25, 0.45), rng.uniform(0.028, 0.042)
    shade = np.float32(deep) * small.spot(fovea, wide) + np.float32(0.35) * small.spot(fovea, 0.0085)
    smooth.multiply(1 - 0.75 * shade, 1 - shade)
    rng = streams["choroid"]
    curves, widths, ampullae = _choroid(rng)
    for ampulla in ampullae:
        strength, spot = rng.uniform(0, 0.3), small.spot(ampulla, rng.uniform(0.015, 0.05))
        smooth.multiply(1 - np.float32(0.3 * strength) * spot, 1 - np.float32(strength) * spot)
    patches = np.clip(0.85 + 0.3 * small.texture(rng, 11), 0.4, 1.2)
    periphery = _smoothstep(0.2, 0.36, np.sqrt(small.x**2 + small.y**2))

    # Choroidal vessels show faintly in every periphery; only tessellated eyes show them at the posterior pole.
    sheet = canvas.blank()
    canvas.strokes(sheet, curves, widths, rng.integers(80, 256, len(curves)), 1)
    choroid = canvas.coverage(sheet, 0.0011) * canvas.enlarged(patches)
    peripheral, central = rng.uniform(0.1, 0.5), rng.uniform(0.6, 1.1)
    visible = choroid * (np.float32(peripheral) * canvas.enlarged(periphery) if grade == 0 else np.float32(central))
    # Pigment is drawn from above the vessels to between them: the fundus as a whole is no darker for it.
    between = 1 + np.float32(grain) * mottle + np.float32(0.16 * central if grade else 0.0) * (choroid - choroid.mean())
    picture = _Picture(canvas.enlarged(smooth.red), canvas.enlarged(smooth.green))
    visible -= visible.mean()
    picture.multiply((1 + 0.85 * visible) * between, (1 + 0.14 * visible) * between)
    return picture, choroid, mottle


def _paint_staphyloma(canvas: _Canvas, picture: _Picture, pit: _Staphyloma) -> np.ndarray:
    window = canvas.around(pit.centre, 1.3 * float(pit.axes.max()) + 0.03)
    x, y = canvas.x[window], canvas.y[window]
    rho = pit.radius(x, y)
    size = float(pit.axes.mean())
    across = (rho - 1) * np.float32(size)  # distance from the edge in image widths, roughly
    inside = 1 - _smoothstep(-0.014, 0.010, across)
    # One side of the pit's wall faces the light: a crest there, a shadow on the other, and a step of tone all round.
    turn = np.arctan2(y - np.float32(pit.centre[1]), x - np.float32(pit.centre[0]))
    phases = pit.wobble.astype(np.float32)
    lit = (
        0.62
        + 0.28 * np.cos(turn + phases[0])
        + 0.22 * np.cos(2 * turn + phases[1])
        + 0.1 * np.cos(5 * turn + phases[2])
    )
    breadth = 0.009 * (1 + 0.35 * np.cos(3 * turn + phases[3]))
    ridge = np.exp(-(((across + 0.008) / breadth) ** 2)) * np.clip(lit, 0.1, 1.1)
    shadow = np.exp(-(((across - 0.010) / breadth) ** 2)) * np.clip(1.3 - lit, 0.3, 1.1)
    tone = (1 + np.float32(pit.inside) * inside) * (1 - np.float32(pit.shadow) * shadow)
    picture.window(window).multiply(
        tone * (1 + np.float32(pit.ridge) * ridge), tone * (1 + np.float32(0.8 * pit.ridge) * ridge)
    )
    mask = np.zeros((canvas.height, canvas.width), bool)
    mask[window] = rho < 1
    return mask


def _paint_atrophy(
    canvas: _Canvas,
    picture: _Picture,
    streams: _Streams,
    disc: np.ndarray,
    fovea: np.ndarray,
    grade: int,
    choroid: np.ndarray,
    mottle: np.ndarray,
    lesions: dict[str, np.ndarray],
) -> None:
    """Chorioretinal atrophy of grades 2 to 4; a higher grade may carry the lower ones' lesions too."""
    rng = streams["atrophy"]
    chance = rng.random(2)
    diffuse = grade == 2 or (grade > 2 and chance[0] < 0.6)
    patchy = grade == 3 or (grade > 3 and chance[1] < 0.5)

    # Diffuse: an ill-defined yellowish pallor around the disc, the macula or both.
    about = disc + (fovea - disc) * rng.uniform(0.0, 0.9)
    axes = rng.uniform([0.075, 0.06], [0.15, 0.11])
    strength = rng.uniform(0.5, 0.8)
    tilt = rng.uniform(-0.4, 0.4)
    if diffuse:
        window = canvas.around(about, 1.7 * float(axes.max()))
        ragged = (canvas.texture(rng, 22) + 0.5 * canvas.texture(rng, 38))[window]
        dx, dy = canvas.x[window] - np.float32(about[0]), canvas.y[window] - np.float32(about[1])
        u = (np.float32(math.cos(tilt)) * dx + np.float32(math.sin(tilt)) * dy) / np.float32(axes[0])
        v = (np.float32(math.cos(tilt)) * dy - np.float32(math.sin(tilt)) * dx) / np.float32(axes[1])
        extent = 1 - _smoothstep(0.55, 1.4, np.sqrt(u * u + v * v) + 0.13 * ragged)
        # Beside patches it is the fainter of the two, or nothing of their borders would be seen.
        weight = np.float32(strength * (1 if grade == 2 else 0.6)) * extent * (1 - 0.25 * choroid[window])
        grain = 0.05 * mottle[window]
        picture.window(window).blend(weight, 0.78 + grain, 0.66 + grain)
        lesions["diffuse_atrophy"][window] = extent > 0.5

    rng = streams["patches"]
    sheet, clumps = canvas.blank(), canvas.blank()
    contours = []
    count = int(rng.integers(1, 5))
    for _ in range(count):
        radius = rng.uniform(0.014, 0.032)
        for _attempt in range(20):
            reach, bearing = rng.uniform(0.045, 0.17), rng.uniform(0, 2 * math.pi)
            centre = fovea + reach * np.array([math.cos(bearing), 0.8 * math.sin(bearing)])
            clear_of_fovea = np.linalg.norm(centre - fovea) > 1.6 * radius + 0.02
            if clear_of_fovea and np.linalg.norm(centre - disc) > 0.04 + 0.5 * radius:
                contours.append(_blob(rng, centre, radius, 0.16, rng.uniform(0.7, 1.5)))
                break
    if not contours:
        contours.append(_blob(rng, fovea + np.array([-0.075, 0.03]), 0.02, 0.16))
    macular = _blob(rng, fovea + rng.uniform(-0.005, 0.005, 2), rng.uniform(0.022, 0.04), 0.07, rng.uniform(0.85, 1.25))
    chosen = []
    if patchy:
        for contour in contours:
            canvas.outline(sheet, contour)
        lesions["patchy_atrophy"] = canvas.coverage(sheet) > 0.5
        chosen += contours
    if grade == 4:
        only = canvas.blank()
        canvas.outline(only, macular)
        lesions["macular_atrophy"] = canvas.coverage(only) > 0.5
        lesions["patchy_atrophy"] &= ~lesions["macular_atrophy"]
        np.maximum(sheet, only, out=sheet)
        chosen.append(macular)
    if not chosen:
        return
    extent = canvas.coverage(sheet, 0.0009)
    pallor = rng.uniform(0.92, 1.05)
    bare = 0.5 + 0.5 * _smoothstep(-1.2, 0.6, mottle)  # sclera between remnants of pigment and large choroidal vessels
    tone = (np.float32(pallor) - 0.14 * choroid) * (0.8 + 0.2 * bare)
    picture.blend(extent * np.float32(0.94), tone, tone * np.float32(rng.uniform(0.84, 0.97)) - 0.16 * choroid)
    for contour in chosen:
        for _ in range(int(rng.integers(2, 7))):
            spot = contour[rng.integers(len(contour))] + rng.normal(0, 0.0015, 2)
            canvas.outline(clumps, _blob(rng, spot, rng.uniform(0.0018, 0.006), 0.16, rng.uniform(0.5, 2)))
    picture.blend(canvas.coverage(clumps, 0.0009) * np.float32(0.85), 0.13, 0.09)


def _paint_disc(
    canvas: _Canvas, picture: _Picture, rng: np.random.Generator, disc: np.ndarray, grade: int, mottle: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The optic disc with its cup, and in myopic eyes the crescent beside it; masks of disc and cup."""
    radius, tall, tilt = rng.uniform(0.023, 0.028), rng.uniform(1.0, 1.22), rng.uniform(-0.35, 0.35)
    ratio, cup_shift = rng.uniform(0.25, 0.62), rng.uniform(-0.15, 0.05)
    crescent_draw, crescent_size, crescent_turn = rng.random(), rng.uniform(0.15, 0.75), rng.uniform(-0.5, 0.5)
    hue, haze = rng.uniform(0.72, 0.9), rng.uniform(0, 0.35)
    c, s = np.float32(math.cos(tilt)), np.float32(math.sin(tilt))
    window = canvas.around(disc, 0.1)
    picture, mottle = picture.window(window), mottle[window]
    dx, dy = canvas.x[window] - np.float32(disc[0]), canvas.y[window] - np.float32(disc[1])
    u, v = (c * dx + s * dy) / np.float32(radius), (c * dy - s * dx) / np.float32(radius * tall)
    rho = np.sqrt(u * u + v * v)
    soft = 0.05
    if crescent_draw < (0.1, 0.55, 0.85, 0.85, 0.85)[grade]:
        # On the temporal side, larger with larger draws; a pigment line may bound it.
        reach = 1 + crescent_size * np.clip(0.35 - np.cos(np.arctan2(v, u) + np.float32(crescent_turn)), 0, 1.35) / 1.35
        ring = rho / reach
        tone = 0.82 + 0.06 * mottle
        picture.blend((1 - _smoothstep(0.97, 1.06, ring)) * np.float32(0.8), tone, tone * np.float32(0.84))
        line = np.exp(-(((ring - 1.06) / np.float32(0.05)) ** 2)) * (reach > 1.1)
        picture.blend(np.float32(0.5) * line, 0.2, 0.13)
    else:
        glow = np.float32(haze) * np.exp(-(np.maximum(rho - 1, 0) ** 2) / np.float32(0.4))
        picture.blend(glow * np.float32(0.6), 0.6, 0.55)
    body = 1 - _smoothstep(1 - soft, 1 + 2 * soft, rho)
    picture.blend(body, 0.92 - 0.05 * rho, hue - 0.24 * rho + 0.03 * mottle)
    cup_rho = np.sqrt(((u - np.float32(cup_shift)) / np.float32(ratio)) ** 2 + (v / np.float32(ratio)) ** 2)
    picture.blend((1 - _smoothstep(0.8, 1.2, cup_rho)) * np.float32(0.85), 0.99, hue + 0.12)
    masks = np.zeros((2, canvas.height, canvas.width), bool)
    masks[0][window], masks[1][window] = rho < 1, cup_rho < 1
    return masks[0], masks[1]


def _paint_vessels(
    canvas: _Canvas,
    picture: _Picture,
    rng: np.random.Generator,
    disc: np.ndarray,
    fovea: np.ndarray,
    pit: _Staphyloma | None,
) -> tuple[np.ndarray, np.ndarray]:
    """Retinal arteries and veins; their masks."""
    calibre = rng.uniform(0.0042, 0.0056)
    ratio = rng.uniform(0.6, 0.74)
    depth = rng.uniform(0.75, 1.1)
    masks = []
    trunks = _trunks(rng, disc, fovea)
    for vein in (True, False):
        sheet = canvas.blank()
        reflex = canvas.blank()
        generations = _vessel_tree(rng, trunks, fovea, calibre * (1 if vein else ratio))
        for level, (curves, widths) in reversed(list(enumerate(generations))):
            if pit is not None:
                curves = pit.kink(curves)
            value = np.full(len(curves), (255, 225, 180, 130)[level])
            canvas.strokes(sheet, curves, widths, value, (8, 3, 2, 1)[level])
            if level < 2 and not vein:
                canvas.strokes(reflex, curves, widths * 0.3, value, (4, 1)[level])
        cover = canvas.coverage(sheet)
        weight = cover * np.float32(depth)
        if vein:
            picture.multiply(1 - 0.40 * weight, 1 - 0.58 * weight)
        else:
            picture.multiply(1 - 0.10 * weight, 1 - 0.46 * weight)
            shine = canvas.coverage(reflex) * np.float32(0.22)
            picture.multiply(1 + shine, 1 + 1.4 * shine)
        masks.append(cover > 0.2)
    return masks[1], masks[0]


def _paint_findings(
    canvas: _Canvas,
    picture: _Picture,
    rng: np.random.Generator,
    fovea: np.ndarray,
    lesions: dict[str, np.ndarray],
) -> None:
    """Findings that no label depends on: hemorrhages, hard exudates, drusen, laser scars."""
    shown = rng.random(4) < (0.14, 0.1, 0.1, 0.06)
    if shown[0]:
        sheet = canvas.blank()
        for _ in range(int(rng.integers(2, 12))):
            centre = rng.normal(0, 0.11, 2)
            canvas.outline(sheet, _blob(rng, centre, 0.0025 + 0.009 * rng.random() ** 2, 0.25, rng.uniform(0.5, 2)))
        cover = canvas.coverage(sheet, 0.0008)
        picture.blend(cover * np.float32(0.85), 0.26, 0.05)
        lesions["hemorrhage"] = cover > 0.5
    if shown[1]:
        sheet = canvas.blank()
        about = fovea + rng.normal(0, 0.05, 2)
        for _ in range(int(rng.integers(8, 30))):
            centre = about + rng.normal(0, 0.018, 2)
            canvas.outline(sheet, _blob(rng, centre, rng.uniform(0.0009, 0.0026), 0.2))
        cover = canvas.coverage(sheet, 0.0004)
        picture.blend(cover * np.float32(0.9), 0.88, 0.82)
        lesions["hard_exudate"] = cover > 0.4
    if shown[2]:
        sheet = canvas.blank()
        for _ in range(int(rng.integers(10, 50))):
            canvas.outline(sheet, _blob(rng, fovea + rng.normal(0, 0.045, 2), rng.uniform(0.001, 0.0022), 0.1))
        picture.blend(canvas.coverage(sheet, 0.0012) * np.float32(0.35), 0.62, 0.58)
    if shown[3]:
        scars, pigment = canvas.blank(), canvas.blank()
        bearing = rng.uniform(0, 2 * math.pi)
        for _ in range(int(rng.integers(15, 60))):
            angle, reach = bearing + rng.normal(0, 0.35), rng.uniform(0.27, 0.4)
            centre = reach * np.array([math.cos(angle), 0.85 * math.sin(angle)])
            canvas.outline(scars, _blob(rng, centre, 0.0045, 0.1))
            canvas.outline(pigment, _blob(rng, centre, rng.uniform(0.001, 0.003), 0.3))
        picture.blend(canvas.coverage(scars, 0.001) * np.float32(0.5), 0.62, 0.56)
        picture.blend(canvas.coverage(pigment, 0.0006) * np.float32(0.8), 0.1, 0.07)


def _expose(canvas: _Canvas, picture: _Picture, streams: _Streams) -> tuple[np.ndarray, np.ndarray]:
    """Seen through the device: light, lids, field, focus, noise. The image, uint8 RGB (h, w, 3), and its field mask."""
    small = canvas.reduced()
    veils = [_light(small, streams["exposure"]), _lids(small, streams["lids"])]
    gain_red = canvas.enlarged(veils[0][0].red * veils[1][0].red)
    gain_green = canvas.enlarged(veils[0][0].green * veils[1][0].green)
    red = picture.red * gain_red + canvas.enlarged(veils[1][1].red)
    green = picture.green * gain_green + canvas.enlarged(veils[0][1].green * veils[1][0].green + veils[1][1].green)

    rng = streams["field"]
    aspect = canvas.height / canvas.width
    x, y = canvas.column - 0.5, canvas.row - np.float32(aspect / 2)
    rx, ry = rng.uniform(0.455, 0.52), min(rng.uniform(0.37, 0.44), 0.56 * aspect)
    power = np.float32(rng.uniform(2.0, 3.2))
    cx, cy = rng.uniform(-0.012, 0.012, 2)
    across = np.abs((x - np.float32(cx)) / np.float32(rx)) ** power
    span = (across + np.abs((y - np.float32(cy)) / np.float32(ry)) ** power) ** (1 / power)
    softness = rng.uniform(0.01, 0.035)
    inside = 1 - _smoothstep(1 - softness, 1 + softness, span)
    red *= inside
    green *= inside
    # Beyond the field the device's own housing catches some light, at the sides.
    stray = rng.choice([0.0, rng.uniform(0.1, 0.5)], p=[0.45, 0.55])
    place, lean, warmth = rng.uniform(1.05, 1.1), rng.uniform(-0.15, 0.15), rng.uniform(0.3, 0.8)
    if stray:
        sides = _smoothstep(0.3, 0.45, np.abs(x) * (1 + np.float32(lean) * np.sign(x)))
        arc = np.exp(-(((span - np.float32(place)) / np.float32(0.022)) ** 2)) * (1 - inside)
        arc *= np.float32(stray) * sides * (0.7 + 0.6 * y)
        green += arc
        red += arc * np.float32(warmth)

    rng = streams["noise"]
    focus = 0.0022 * rng.random() ** 2
    grain, gamma, blue = rng.uniform(0.004, 0.022), rng.uniform(0.85, 1.2), rng.uniform(0, 0.03, 2)
    planes = []
    for plane in (red, green):
        plane = canvas.blurred(plane, focus)
        noise = 0.9 * _screen_noise(rng, 288, canvas.width, canvas.height)
        noise += 0.5 * rng.standard_normal(plane.shape, dtype=np.float32)
        noise *= np.float32(grain) * np.sqrt(np.clip(plane, 0.02, 1))
        plane = np.clip(plane + noise, 0, 1)
        planes.append(cv2.pow(plane, gamma))
    planes.append(np.float32(blue[0]) * inside + np.float32(blue[1]) * planes[1])
    return cv2.convertScaleAbs(cv2.merge(planes), alpha=255), span < 1


def _light(canvas: _Canvas, rng: np.random.Generator) -> tuple[_Picture, _Picture]:
    """Illumination, floaters and reflexes: what each plane is multiplied with, and what is added."""
    aspect = canvas.height / canvas.width
    x, y = canvas.column - 0.5, canvas.row - np.float32(aspect / 2)

    def glow(reach: float, size: float, stretch: float = 1.0) -> np.ndarray:
        cx, cy = rng.uniform(-reach, reach), rng.uniform(-reach, reach) * aspect
        u, v = (x - np.float32(cx)) / np.float32(size * stretch), (y - np.float32(cy)) / np.float32(size)
        return np.exp(-u * u - v * v)

    fall, cx, cy = rng.uniform(0.6, 2.2), rng.uniform(-0.1, 0.1), rng.uniform(-0.06, 0.06)
    light = 1 - np.float32(fall) * ((x - np.float32(cx)) ** 2 + 1.3 * (y - np.float32(cy)) ** 2)
    light = np.clip(light, 0.15, 1)
    tint = 1 + np.float32(rng.uniform(0.0, 0.2)) * _screen_noise(rng, 5, canvas.width, canvas.height)
    gain, hue = rng.uniform(0.7, 1.3), rng.uniform(-0.16, 0.13)
    for _ in range(int(rng.choice([0, 1, 2], p=[0.7, 0.2, 0.1]))):  # floaters: soft shadows in the vitreous
        light = light * (1 - np.float32(rng.uniform(0.15, 0.4)) * glow(0.28, rng.uniform(0.006, 0.03), 2.0))
    reflex = np.zeros_like(light)
    for _ in range(int(rng.choice([0, 1, 2], p=[0.6, 0.25, 0.15]))):  # of cornea and lens
        reflex = reflex + np.float32(rng.uniform(0.05, 0.2)) * glow(0.38, rng.uniform(0.01, 0.06))
    red = light * np.float32(gain * (1 + hue))
    green = light * np.clip(tint, 0.5, 1.6) * np.float32(gain * (1 - hue))
    return _Picture(red, green), _Picture(np.zeros_like(reflex), reflex)


def _lids(canvas: _Canvas, rng: np.random.Generator) -> tuple[_Picture, _Picture]:
    """Lids and lashes in front of the device: what each plane is multiplied with, and what is added."""
    width, height = canvas.width, canvas.height
    aspect = height / width
    x, y = canvas.column - 0.5, canvas.row - np.float32(aspect / 2)
    low_lid, high_lid = rng.uniform(-0.06, 0.09), rng.uniform(-0.07, 0.08)
    light, warmth, slope, bow = (
        rng.uniform(0.15, 0.8, 2),
        rng.uniform(0.3, 0.8),
        rng.uniform(-0.2, 0.2, 2),
        rng.uniform(0.1, 0.5),
    )
    folds = _screen_noise(rng, 14, width, height)
    sheet = np.zeros((height, width), np.uint8)
    for above, chance in ((False, 0.65), (True, 0.3)):
        count = int(rng.integers(5, 28)) if rng.random() < chance else 0
        root = rng.uniform(0.12, 0.88, count)
        length = rng.uniform(0.06, 0.19, count)
        lean = (root - 0.5) * rng.uniform(0.3, 1.2) + rng.normal(0, 0.25, count)
        up = 1 if above else -1
        start = np.stack([root, np.full(count, -0.01 if above else aspect + 0.01)], axis=-1)
        tip = start + np.stack([length * lean, up * length], axis=-1)
        middle = start + np.stack([length * lean * 0.15, up * length * 0.55], axis=-1)
        points = np.round(_bezier(start, middle, middle, tip, 10) * (16 * width)).astype(np.int32)
        for line, thick in zip(points, rng.uniform(0.003, 0.009, count), strict=True):
            for part, wide in ((line, thick), (line[:5], thick + 0.007)):
                cv2.polylines(sheet, [part], False, 255, max(1, round(wide * width)), cv2.LINE_AA, 4)
    lashes = canvas.blurred(sheet.astype(np.float32) * np.float32(1 / 255), rng.uniform(0.005, 0.01))
    keep = 1 - np.float32(rng.uniform(0.55, 0.9)) * np.clip(lashes, 0, 1)
    skin = np.zeros_like(keep)
    for edge, sign, shine, tilt in ((low_lid, 1, light[0], slope[0]), (high_lid, -1, light[1], slope[1])):
        rise = sign * y - np.float32(aspect / 2 - edge) - np.float32(bow) * x * x + np.float32(tilt) * x
        lid = _smoothstep(-0.02, 0.02, rise)
        keep = keep * (1 - lid)
        skin += lid * np.float32(shine) * _smoothstep(0.0, 0.09, rise) * (0.8 + 0.25 * folds)
    return _Picture(keep, keep), _Picture(np.float32(warmth) * skin, skin)


def lids_before(image: np.ndarray, field: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Another pair of lids, with lashes, drawn by `rng` in front of an image.

    `image` is float32 RGB (h, w, 3) in 0..1, `field` float32 (h, w), 1 inside the field of the device, 0 outside.
    """
    height, width = field.shape
    canvas = _Canvas(width, height, np.eye(2), np.array([0.5, 0.5 * height / width]))
    keep, skin = _lids(canvas.reduced(), rng)
    covered = image * canvas.enlarged(keep.red)[..., None]
    covered[..., 0] += field * canvas.enlarged(skin.red)
    covered[..., 1] += field * canvas.enlarged(skin.green)
    return covered


# --- cohorts --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class PhantomCase:
    """One image of a cohort, not yet rendered.

    `seed` is the eye's, `view` numbers the image among those of the eye, `index` is the number in the file name
    (counted per patient, eye and date), `date` is ISO, `labels` follow `PSMM.codes`, `aspect` is height / width.
    """

    patient_id: str
    eye: str
    date: str
    index: int
    labels: tuple[int, ...]
    seed: tuple[int, ...]
    view: int
    aspect: float

    @property
    def file_name(self) -> str:
        return f"{self.patient_id}_{self.eye}_{self.date}_{self.index}.jpg"

    @property
    def staphyloma(self) -> bool:
        return bool(self.labels[1])

    @property
    def grade(self) -> int:
        return self.labels.index(1, 2) - 2

    def render(self, width: int) -> Phantom:
        """The image at a width in pixels; see `render`."""
        return render(
            self.seed,
            width=width,
            height=round(width * self.aspect),
            staphyloma=self.staphyloma,
            grade=self.grade,
            eye=self.eye,
            view=self.view,
        )

    def jpeg(self, width: int) -> bytes:
        """The image at a width in pixels as the contents of a JPEG file of quality 92."""
        return encode_jpeg(self.render(width).image, 92)


def cohort(
    patients: int,
    seed: int,
    imbalance: str | Mapping[tuple[bool, int], float] = "psmm",
    images_per_eye: tuple[int, int] = (1, 4),
) -> list[PhantomCase]:
    """The images of a synthetic cohort, in the order of patients; cheap, nothing is rendered.

    Args:
        patients: number of patients, each with two eyes. Ids count from PHANTOM-0001; cohorts of different seeds
            share ids but no eye.
        seed: of everything.
        imbalance: "psmm" follows the joint frequencies of staphyloma and grade in PSMM's training list; "balanced"
            has all grades equally often, with staphyloma in half of each; or weights by (staphyloma, grade).
        images_per_eye: least and most images of an eye, drawn uniformly. PSMM's patients have 9.5 images on average.

    Four of five patients have the same labels in both eyes; a fifth draws the second eye anew, as often as in PSMM.

    Raises:
        ValueError: unknown imbalance, or fewer than one patient or image.
    """
    if isinstance(imbalance, str):
        if imbalance not in CELLS:
            raise ValueError(f"imbalance is one of {', '.join(CELLS)} or weights. Received: {imbalance!r}")
        imbalance = CELLS[imbalance]
    if patients < 1 or not 1 <= images_per_eye[0] <= images_per_eye[1]:
        raise ValueError(
            f"A cohort has at least one patient and one image per eye. Received: {patients}, {images_per_eye}"
        )
    rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(7,)))
    cells = list(imbalance)
    edges = np.cumsum(list(imbalance.values())) / sum(imbalance.values())
    # Stratified draws: the cohort's frequencies are as close to the wanted ones as its size allows.
    first, second = (np.searchsorted(edges, (rng.permutation(patients) + rng.random()) / patients) for _ in range(2))
    cases = []
    for number in range(patients):
        patient_id = f"PHANTOM-{number + 1:04d}"
        visit = date(2019, 1, 7) + timedelta(days=int(rng.integers(0, 2000)))
        differs = rng.random() < 0.2
        swap = rng.random() < 0.5
        pair = [cells[first[number]], cells[second[number] if differs else first[number]]]
        for eye_number, eye in enumerate(("OD", "OS")):
            staphyloma, grade = pair[eye_number ^ swap]
            count = int(rng.integers(images_per_eye[0], images_per_eye[1] + 1))
            later = visit + timedelta(days=int(rng.integers(90, 700)))
            first_visit = int(rng.integers(1, count + 1))
            for view in range(count):
                on_first = view < first_visit
                wide, high = EXPORT_SIZES[rng.choice(len(EXPORT_SIZES), p=[0.55, 0.25, 0.2])]
                cases.append(
                    PhantomCase(
                        patient_id=patient_id,
                        eye=eye,
                        date=(visit if on_first else later).isoformat(),
                        index=1 + (view if on_first else view - first_visit),
                        labels=tuple(int(value) for value in label_vector(staphyloma, grade)),
                        seed=(seed, number, eye_number),
                        view=view,
                        aspect=high / wide,
                    )
                )
    return cases


def write_psmm_tree(
    cases: Sequence[PhantomCase],
    directory: str | Path,
    width: int,
    workers: int | None = None,
    labels_csv: str = "ImageSets/Main/MYOPIA/MYOPIA.csv",
) -> Path:
    """Write cases as PSMM is laid out: `JPEGImages/*.jpg` and a label list. Returns the path of the list.

    See `write_images` for `width`, `workers`, what happens to images that exist, and what is raised.
    """
    directory = Path(directory)
    write_images(cases, directory / "JPEGImages", width, workers)
    path = directory / labels_csv
    table = LabelTable(
        labels=np.array([case.labels for case in cases], np.uint8),
        names=np.array([case.file_name for case in cases]),
        patients=np.array([case.patient_id for case in cases]),
        origins=np.array([str(path)] * len(cases)),
    )
    write_label_table(path, table)
    return path


class Drawable(Protocol):
    """An image that is not yet drawn."""

    @property
    def file_name(self) -> str: ...

    def jpeg(self, width: int) -> bytes: ...


def write_images(cases: Sequence[Drawable], folder: Path, width: int, workers: int | None = None) -> None:
    """Draw cases into a folder, with a progress bar.

    Images that exist are left alone, so an interrupted run continues; each appears under its name only when it is
    complete. `width` is in pixels, `workers` the number of processes (None: one per core).

    Raises:
        ValueError: when two cases have the same file name.
    """
    names = {case.file_name for case in cases}
    if len(names) != len(cases):
        raise ValueError(f"{folder}: expected cases with distinct file names, {len(cases) - len(names)} repeat")
    folder.mkdir(parents=True, exist_ok=True)
    missing = [case for case in cases if not (folder / case.file_name).exists()]
    write = partial(_write_case, folder=folder, width=width)
    for _ in in_parallel(write, missing, "drawing phantoms", workers, done=len(cases) - len(missing)):
        pass


def _write_case(case: Drawable, folder: Path, width: int) -> None:
    partial_path = folder / f".{case.file_name}.part"
    partial_path.write_bytes(case.jpeg(width))
    os.replace(partial_path, folder / case.file_name)


def encode_jpeg(image: np.ndarray, quality: int) -> bytes:
    """A uint8 RGB image (h, w, 3) as the contents of a JPEG file."""
    ok, data = cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])
    if not ok:
        raise OSError(f"an image of shape {image.shape} could not be encoded as JPEG")
    return data.tobytes()
