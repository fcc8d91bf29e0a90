"""Atrophy in a photograph: bare sclera around the disc and in patches, and the pallor of diffuse atrophy."""

import math

import numpy as np

from training.phantoms.drawing.atrophy import macular_contour, patch_contours
from training.phantoms.drawing.canvas import Canvas, Picture, smoothstep
from training.phantoms.drawing.streams import Streams

__all__ = ["bare", "paint_lesions"]


def bare(
    picture: Picture,
    rng: np.random.Generator,
    extent: np.ndarray,
    border: np.ndarray,
    choroid: np.ndarray,
    mottle: np.ndarray,
    ragged: np.ndarray,
) -> None:
    """Sclera without retina and choroid, but for what is left of them, by the weight `extent`.

    `border`, 0 in the middle of the area to 1 at its edge: there, more is left. `mottle` and `ragged` are fine and
    coarser noise.
    """
    pallor, left, pigment = rng.uniform(0.55, 0.86), rng.uniform(0.2, 0.9), rng.uniform(0.2, 1.0)
    tone = 0.97 - 0.12 * choroid + 0.07 * mottle + 0.05 * ragged
    picture.blend(extent * np.float32(0.95), 1.02 * tone, np.float32(pallor) * tone)
    picture.blend(extent * np.float32(left) * choroid * (0.35 + 0.65 * border), 0.72, 0.3)
    clumps = smoothstep(0.4, 1.8, 0.6 * mottle + 1.1 * ragged + 1.2 * (border - 0.4))
    picture.blend(extent * np.float32(pigment) * clumps, 0.17, 0.08)


def paint_lesions(
    canvas: Canvas,
    picture: Picture,
    streams: Streams,
    disc: np.ndarray,
    fovea: np.ndarray,
    grade: int,
    choroid: np.ndarray,
    mottle: np.ndarray,
) -> np.ndarray:
    """Chorioretinal atrophy of META-PM category 2 (diffuse), 3 (patchy) or 4 (of the macula); its mask, bool (h, w)."""
    mask = np.zeros((canvas.height, canvas.width), bool)
    rng = streams["atrophy"]
    ragged = canvas.texture(rng, 60) + 0.5 * canvas.texture(rng, 130)
    if grade == 2 or rng.random() < 0.5:
        about, axes, tilt = (
            disc + (fovea - disc) * rng.uniform(0, 0.9),
            rng.uniform([0.06, 0.05], [0.13, 0.10]),
            rng.uniform(-0.4, 0.4),
        )
        dx, dy = canvas.x - np.float32(about[0]), canvas.y - np.float32(about[1])
        u = (np.float32(math.cos(tilt)) * dx + np.float32(math.sin(tilt)) * dy) / np.float32(axes[0])
        v = (np.float32(math.cos(tilt)) * dy - np.float32(math.sin(tilt)) * dx) / np.float32(axes[1])
        extent = 1 - smoothstep(0.4, 1.4, np.hypot(u, v) + 0.1 * ragged)
        mask |= extent > 0.5
        weight = np.float32(rng.uniform(0.3, 0.7)) * (extent * (1 - 0.3 * choroid))
        picture.blend(weight, 0.8 + 0.04 * mottle, np.float32(rng.uniform(0.38, 0.52)) + 0.04 * mottle)
    if grade == 2:
        return mask
    rng = streams["patches"]
    contours = patch_contours(rng, disc, fovea) if grade == 3 or rng.random() < 0.5 else []
    if grade == 4:
        contours.append(macular_contour(rng, fovea))
    sheet = canvas.blank()
    for contour in contours:
        canvas.outline(sheet, contour)
    inside = canvas.coverage(sheet, 0.004 * canvas.zoom) + np.float32(rng.uniform(0.04, 0.13)) * ragged
    bare(picture, rng, smoothstep(0.42, 0.56, inside), 1 - smoothstep(0.5, 1.0, inside), choroid, mottle, ragged)
    return np.asarray(mask | (inside > 0.5))
