"""What an eye with glaucoma shows in a photograph: a large cup, and where nerve fibres are missing a dark wedge."""

from dataclasses import replace

import numpy as np

from training.phantoms.drawing.canvas import Canvas, Picture
from training.phantoms.drawing.colour.disc import OpticDisc
from training.phantoms.drawing.curves import bezier, unit

__all__ = ["draw_wedge", "paint_wedge", "with_cup"]


def with_cup(rng: np.random.Generator, disc: OpticDisc, glaucoma: bool) -> OpticDisc:
    """`disc` with a cup of at least .74 of its height, or of at most .55."""
    if glaucoma:
        return replace(disc, cup=(rng.uniform(0.76, 0.88), rng.uniform(0.98, 1.08), rng.uniform(-0.05, 0.1)))
    return replace(disc, cup=(rng.uniform(0.2, 0.5), rng.uniform(0.9, 1.1), rng.uniform(-0.05, 0.2)))


def draw_wedge(rng: np.random.Generator, disc: OpticDisc) -> np.ndarray:
    """Fibres that are missing, curves (m, n, 2): a bundle that leaves the disc above or below on the temporal side.

    It bends around the macula and grows wider on its way.
    """
    side, middle, breadth = rng.choice([-1.0, 1.0]), rng.uniform(0.7, 1.2), rng.uniform(0.12, 0.3)
    angle = middle + breadth * np.linspace(-0.5, 0.5, 48)  # from the temporal side, in radians
    out = np.stack([-np.cos(angle), side * np.sin(angle)], axis=-1)  # the fovea lies at smaller x
    start = disc.about + disc.radius * out
    length = rng.uniform(0.09, 0.15)
    bent = start + 0.45 * length * unit(out + np.array([0.0, 0.7 * side]))
    tip = bent + 0.55 * length * unit(out - np.array([0.3, 0.25 * side]))
    return bezier(start, 0.5 * (start + bent), bent, tip, 32)


def paint_wedge(canvas: Canvas, picture: Picture, rng: np.random.Generator, fibres: np.ndarray) -> np.ndarray:
    """The wedge, darker than the retina beside it; its mask, bool (h, w)."""
    sheet = canvas.blank()
    canvas.strokes(sheet, fibres, np.full(fibres.shape[:2], 0.0022), np.full(len(fibres), 255), 4)
    weight = canvas.coverage(sheet, 0.001 * canvas.zoom)
    depth = np.float32(rng.uniform(0.12, 0.25))
    picture.multiply(1 - np.float32(0.6) * depth * weight, 1 - depth * weight)
    return np.asarray(weight > 0.5)
