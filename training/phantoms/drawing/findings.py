"""Findings that no label depends on: hemorrhages, hard exudates, drusen, laser scars."""

import math

import numpy as np

from training.phantoms.drawing.canvas import Canvas, Picture
from training.phantoms.drawing.curves import blob

__all__ = ["paint_findings"]


def paint_findings(
    canvas: Canvas, picture: Picture, rng: np.random.Generator, fovea: np.ndarray, *, diabetic: bool = False
) -> dict[str, np.ndarray]:
    """Each kind of finding in some eyes; the masks of hemorrhages and hard exudates by name, where there are any.

    `diabetic`: neither of these, which an eye with retinopathy has of its own.
    """
    masks = {}
    shown = rng.random(4) < (0.14, 0.1, 0.1, 0.06)
    if diabetic:
        shown[:2] = False
    if shown[0]:
        sheet = canvas.blank()
        for _ in range(int(rng.integers(2, 12))):
            centre = rng.normal(0, 0.11, 2)
            canvas.outline(sheet, blob(rng, centre, 0.0025 + 0.009 * rng.random() ** 2, 0.25, rng.uniform(0.5, 2)))
        cover = canvas.coverage(sheet, 0.0008)
        picture.blend(cover * np.float32(0.85), 0.26, 0.05)
        masks["hemorrhage"] = cover > 0.5
    if shown[1]:
        sheet = canvas.blank()
        about = fovea + rng.normal(0, 0.05, 2)
        for _ in range(int(rng.integers(8, 30))):
            centre = about + rng.normal(0, 0.018, 2)
            canvas.outline(sheet, blob(rng, centre, rng.uniform(0.0009, 0.0026), 0.2))
        cover = canvas.coverage(sheet, 0.0004)
        picture.blend(cover * np.float32(0.9), 0.88, 0.82)
        masks["hard_exudate"] = cover > 0.4
    if shown[2]:
        sheet = canvas.blank()
        for _ in range(int(rng.integers(10, 50))):
            canvas.outline(sheet, blob(rng, fovea + rng.normal(0, 0.045, 2), rng.uniform(0.001, 0.0022), 0.1))
        picture.blend(canvas.coverage(sheet, 0.0012) * np.float32(0.35), 0.62, 0.58)
    if shown[3]:
        scars, pigment = canvas.blank(), canvas.blank()
        bearing = rng.uniform(0, 2 * math.pi)
        for _ in range(int(rng.integers(15, 60))):
            angle, reach = bearing + rng.normal(0, 0.35), rng.uniform(0.27, 0.4)
            centre = reach * np.array([math.cos(angle), 0.85 * math.sin(angle)])
            canvas.outline(scars, blob(rng, centre, 0.0045, 0.1))
            canvas.outline(pigment, blob(rng, centre, rng.uniform(0.001, 0.003), 0.3))
        picture.blend(canvas.coverage(scars, 0.001) * np.float32(0.5), 0.62, 0.56)
        picture.blend(canvas.coverage(pigment, 0.0006) * np.float32(0.8), 0.1, 0.07)
    return masks
