"""Faults of pictures in graded strengths, put on phantoms: what a gate must refuse sooner or later, and in this order.

A degradation has a strength of 0 (none) to 10, and an amount for it. From some amount on a picture counts as lost: that
is said of the drawing alone, before anything is measured.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np

from training.phantoms.phantom import render
from training.phantoms.photograph import render_photograph

__all__ = ["DEGRADATIONS", "STRENGTHS", "Degradation", "degraded"]

STRENGTHS = tuple(range(1, 11))

Image = np.ndarray  # uint8 RGB (h, w, 3)
Rng = np.random.Generator


@dataclass(frozen=True)
class Degradation:
    """One kind of fault.

    amount: of strength 1; each further strength adds as much. unit: of the amount, for people. lost: a picture counts
    as lost where the amount is above. apply: puts an amount on an image with its field, bool (h, w).
    """

    amount: float
    unit: str
    lost: float
    apply: Callable[[Image, np.ndarray, float, Rng], Image]

    def is_lost(self, strength: int) -> bool:
        return strength * self.amount > self.lost + 1e-9


def degraded(kind: str, strength: int, seed: int, modality: str, width: int = 512) -> Image:
    """The phantom of a seed with a fault: uint8 RGB (h, w, 3); the same place and side of it at all strengths.

    Args:
        kind: one of `DEGRADATIONS`; a decentred photograph is of a healthy eye.
        strength: 0 (none) to 10.
        seed: of the phantom, and of where the fault lies.
        modality: "uwf_red_green" (an ultra-widefield phantom) or "colour_fundus" (a photograph, drawn without faults).
        width: of the picture before anything is cut off, in pixels.

    Raises:
        ValueError: for another kind, strength or modality.
    """
    if kind not in DEGRADATIONS:
        raise ValueError(f"`kind` must be one of {', '.join(DEGRADATIONS)}. Received: {kind!r}")
    if strength not in (0, *STRENGTHS):
        raise ValueError(f"`strength` must be a whole number from 0 to 10. Received: {strength!r}")
    degradation = DEGRADATIONS[kind]
    amount = strength * degradation.amount
    if modality not in ("colour_fundus", "uwf_red_green") or (modality == "uwf_red_green" and kind == "decentred"):
        raise ValueError(
            f"`modality` must be 'colour_fundus', or 'uwf_red_green' for what is not decentred. Received: {modality!r}"
        )
    image, field = _drawn(seed, modality, width, amount if kind == "decentred" else None)
    return degradation.apply(image, field, amount, np.random.default_rng([seed, 77])) if strength else image


@lru_cache(maxsize=64)
def _drawn(seed: int, modality: str, width: int, off: float | None) -> tuple[Image, np.ndarray]:
    """A phantom without a fault, and its field, bool (h, w).

    `off`: how far beside the fovea of a healthy eye a photograph looks; None: on the fovea of an eye of any class.
    """
    if modality == "colour_fundus":
        label = None if off is None else "N"
        photograph = render_photograph(seed, width=width, label=label, poor=False, off=off or 0.0)
        return photograph.image, photograph.field_mask
    phantom = render(seed, width=width)
    return phantom.image, phantom.field_mask


def _blur(image: Image, field: np.ndarray, amount: float, rng: Rng) -> Image:
    return np.asarray(cv2.GaussianBlur(image, (0, 0), amount / 100 * image.shape[1]), np.uint8)


def _dark(image: Image, field: np.ndarray, amount: float, rng: Rng) -> Image:
    return np.asarray(cv2.convertScaleAbs(image, alpha=0.5**amount), np.uint8)


def _glare(image: Image, field: np.ndarray, amount: float, rng: Rng) -> Image:
    """A reflex that leaves nothing else to be seen, soft at its edge, within the field."""
    height, width = field.shape
    y, x = np.mgrid[:height, :width].astype(np.float32)
    rows, columns = np.nonzero(field)
    angle, out = rng.uniform(0, 2 * math.pi), 0.25 * math.sqrt(len(rows) / math.pi)
    from_middle = np.hypot(x - columns.mean() - out * math.cos(angle), y - rows.mean() - out * math.sin(angle))
    radius = np.sqrt(np.quantile(from_middle[field] ** 2, amount))
    white = 1 / (1 + np.exp((from_middle - radius) / (0.015 * width) - 3)) * field  # 0.95 at the radius
    _, green, blue, _ = cv2.mean(image, field.astype(np.uint8))
    light = np.array([255, 255, 255 * blue / green])  # two lasers give no blue
    return np.asarray(np.clip(image + white[..., None] * (light - image), 0, 255), np.uint8)


def _lashes(image: Image, field: np.ndarray, amount: float, rng: Rng) -> Image:
    """Lids that come down with their lashes, until they cover a share of the field."""
    height, width = field.shape
    below = rng.uniform(0.2, 0.8)  # the lower lid's part of it
    x = np.linspace(-1, 1, width, dtype=np.float32)
    bow, tilt = rng.uniform(0.05, 0.25), rng.uniform(-0.1, 0.1)
    roots = np.sort(rng.uniform(-0.9, 0.9, 24))
    lengths, leans, sides = rng.uniform(0.04, 0.12, 24), rng.normal(0, 0.3, 24), rng.random(24) < below

    def cover(reach: float) -> np.ndarray:
        """What lids that reach so far into the frame, a share of its height, hide: float32 (h, w), 0 to 1."""
        sheet = np.zeros((height, width), np.uint8)
        edges = {}
        for lower, part in ((False, 1 - below), (True, below)):
            edge = reach * part - bow * (1 - x**2) * 0.3 + tilt * x * 0.3
            edges[lower] = edge
            depth = np.round(np.clip(edge, 0, 1) * height).astype(int)
            for column, deep in enumerate(depth):
                sheet[height - deep if lower else 0 : height if lower else deep, column] = 255
        for root, length, lean, lower in zip(roots, lengths, leans, sides, strict=True):
            column = int((root + 1) / 2 * (width - 1))
            start = float(edges[lower][column])
            root_y, tip_y = ((1 - at if lower else at) * height for at in (start - 0.05, start + length))
            tip_x = int(column + lean * length * height)
            thickness = max(1, round(0.006 * width))
            cv2.line(sheet, (column, int(root_y)), (tip_x, int(tip_y)), 255, thickness, cv2.LINE_AA)
        return np.asarray(cv2.GaussianBlur(sheet, (0, 0), 0.004 * width), np.float32) / 255

    low, high = 0.0, 1.6
    for _ in range(12):
        reach = (low + high) / 2
        hidden = cover(reach)
        low, high = (reach, high) if (hidden[field] > 0.5).mean() < amount else (low, reach)
    skin = np.array([0.13, 0.09, 0.07]) * image[field].max(axis=-1).mean()
    covered = image * (1 - hidden[..., None]) + (hidden * field)[..., None] * skin
    return np.asarray(np.clip(covered, 0, 255), np.uint8)


def _crop(image: Image, field: np.ndarray, amount: float, rng: Rng) -> Image:
    """The file is cut off from one side of the field on."""
    rows, columns = np.flatnonzero(field.any(axis=1)), np.flatnonzero(field.any(axis=0))
    side = int(rng.integers(4))
    at, size = ((rows[0], len(rows)), (columns[0], len(columns)))[side % 2]
    cut = round(at + (amount if side < 2 else 1 - amount) * size)
    kept = image if side % 2 == 0 else image.transpose(1, 0, 2)
    kept = kept[cut:] if side < 2 else kept[:cut]
    return np.ascontiguousarray(kept if side % 2 == 0 else kept.transpose(1, 0, 2))


def _as_it_is(image: Image, field: np.ndarray, amount: float, rng: Rng) -> Image:
    return image


DEGRADATIONS = {
    "blur": Degradation(0.2, "% of the width, sigma of a Gaussian", 1.0, _blur),
    "dark": Degradation(0.3, "halvings of the light", 1.5, _dark),
    "glare": Degradation(0.03, "of the field in a reflex", 0.15, _glare),
    "lashes": Degradation(0.09, "of the field covered", 0.45, _lashes),
    "crop": Degradation(0.08, "of the field's extent cut off", 0.4, _crop),
    "decentred": Degradation(0.1, "field radii from the fovea", 0.5, _as_it_is),
}
