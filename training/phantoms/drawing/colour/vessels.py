"""The vessels of a photograph: of the retina, softer than lasers show them, and of the choroid, as a network."""

import math

import numpy as np

from training.phantoms.drawing.canvas import Canvas, Picture
from training.phantoms.drawing.staphyloma import Staphyloma
from training.phantoms.drawing.vessels import trunk_lines, vessel_tree

__all__ = ["choroidal_network", "paint_vessels"]


def paint_vessels(
    canvas: Canvas,
    picture: Picture,
    rng: np.random.Generator,
    disc: np.ndarray,
    fovea: np.ndarray,
    pit: Staphyloma | None,
) -> None:
    """Retinal veins and arteries."""
    calibre, ratio = rng.uniform(0.0036, 0.005), rng.uniform(0.62, 0.8)
    depth, blur = rng.uniform(0.65, 1.1), rng.uniform(0.0002, 0.0005) * canvas.zoom
    trunks = trunk_lines(rng, disc, fovea)
    for vein in (True, False):
        sheet, reflex = canvas.blank(), canvas.blank()
        generations = vessel_tree(rng, trunks, fovea, calibre * (1 if vein else ratio))
        for level, (curves, widths) in reversed(list(enumerate(generations))):
            if pit is not None:
                curves = pit.kink(curves)
            for _ in range(2):
                curves, widths = _smoothed(curves), _smoothed(widths)
            strength = np.full(len(curves), (255, 215, 160, 110)[level])
            canvas.strokes(sheet, curves, widths, strength, (24, 12, 6, 4)[level])
            if level < 2:
                canvas.strokes(reflex, curves, 0.3 * widths, strength, (8, 3)[level])
        weight = canvas.coverage(sheet, blur) * np.float32(depth)
        shine = canvas.coverage(reflex, blur) * np.float32(0.1 if vein else 0.2)
        if vein:
            picture.multiply(1 - 0.34 * weight, 1 - 0.54 * weight)
        else:
            picture.multiply(1 - 0.08 * weight, 1 - 0.42 * weight)
        picture.multiply(1 + 0.6 * shine, 1 + shine)


def _smoothed(curves: np.ndarray) -> np.ndarray:
    """Polylines (m, n, ...) with their corners cut (Chaikin): twice the points, the same ends."""
    first, second = curves[:, :-1], curves[:, 1:]
    cut = np.stack([0.75 * first + 0.25 * second, 0.25 * first + 0.75 * second], axis=2)
    cut = cut.reshape(len(curves), -1, *curves.shape[2:])
    return np.concatenate([curves[:, :1], cut[:, 1:-1], curves[:, -1:]], axis=1)


def choroidal_network(rng: np.random.Generator, middle: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Large vessels of the choroid at the posterior pole: curves (m, n, 2) and widths (m, n).

    They follow a common course away from a point near `middle`, meander about it, and cross.
    """
    count, steps = int(rng.integers(700, 1300)), 20
    pole = middle + rng.normal(0, 0.05, 2)
    waves = rng.normal(0, 1, (4, 2)) * 2 * math.pi / rng.uniform(0.15, 0.4, (4, 1))
    phases, amount = rng.uniform(0, 2 * math.pi, 4), rng.uniform(0.15, 0.4)
    place = middle + rng.uniform(-0.23, 0.23, (count, 2))
    lean, length = rng.normal(0, 0.5, count), rng.uniform(0.03, 0.12, count)
    sway = rng.uniform(0.1, 0.5, count) * np.sin(
        np.linspace(0, 1, steps)[:, None] * rng.uniform(5, 14, count) + rng.uniform(0, 6.3, count)
    )
    curves = [place]
    for step in range(steps - 1):
        from_pole = place - pole
        course = np.arctan2(from_pole[:, 1], from_pole[:, 0])
        course = course + amount * np.sin(place @ waves.T + phases).sum(axis=1) + lean + sway[step]
        place = place + np.stack([np.cos(course), np.sin(course)], axis=-1) * (length / steps)[:, None]
        curves.append(place)
    taper = np.sin(np.linspace(0.25, math.pi - 0.25, steps)) ** 0.5
    widths = (0.0010 + 0.0036 * rng.random(count) ** 2)[:, None] * taper[None]
    return np.stack(curves, axis=1), widths
