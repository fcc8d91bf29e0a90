"""Chorioretinal atrophy: diffuse, in patches, and of the macula."""

import math

import numpy as np

from training.phantoms.drawing.canvas import Canvas, Picture, smoothstep
from training.phantoms.drawing.curves import blob
from training.phantoms.drawing.streams import Streams

__all__ = ["macular_contour", "paint_atrophy", "patch_contours"]


def paint_atrophy(
    canvas: Canvas,
    picture: Picture,
    streams: Streams,
    disc: np.ndarray,
    fovea: np.ndarray,
    grade: int,
    choroid: np.ndarray,
    mottle: np.ndarray,
) -> dict[str, np.ndarray]:
    """Chorioretinal atrophy of grades 2 to 4; a higher grade may carry the lower ones' lesions too.

    `choroid` and `mottle` are planes of the background, which show through. Returns the masks by name of the lesion.
    """
    rng = streams["atrophy"]
    chance = rng.random(2)
    masks = {}
    if grade == 2 or (grade > 2 and chance[0] < 0.6):
        # Beside patches it is the fainter of the two, or nothing of their borders would be seen.
        strength = 1 if grade == 2 else 0.6
        masks["diffuse_atrophy"] = _paint_diffuse(canvas, picture, rng, disc, fovea, strength, choroid, mottle)
    patchy = grade == 3 or (grade > 3 and chance[1] < 0.5)
    if patchy or grade == 4:
        rng = streams["patches"]
        patches = patch_contours(rng, disc, fovea)
        macular = macular_contour(rng, fovea)  # whatever the grade: the later draws do not shift
        masks |= _paint_patches(
            canvas, picture, rng, patches if patchy else [], macular if grade == 4 else None, choroid, mottle
        )
    return masks


def _paint_diffuse(
    canvas: Canvas,
    picture: Picture,
    rng: np.random.Generator,
    disc: np.ndarray,
    fovea: np.ndarray,
    share: float,
    choroid: np.ndarray,
    mottle: np.ndarray,
) -> np.ndarray:
    """An ill-defined yellowish pallor around the disc, the macula or both, at a share of its strength; its mask."""
    about = disc + (fovea - disc) * rng.uniform(0.0, 0.9)
    axes = rng.uniform([0.075, 0.06], [0.15, 0.11])
    strength = rng.uniform(0.5, 0.8)
    tilt = rng.uniform(-0.4, 0.4)
    window = canvas.around(about, 1.7 * float(axes.max()))
    ragged = (canvas.texture(rng, 22) + 0.5 * canvas.texture(rng, 38))[window]
    dx, dy = canvas.x[window] - np.float32(about[0]), canvas.y[window] - np.float32(about[1])
    u = (np.float32(math.cos(tilt)) * dx + np.float32(math.sin(tilt)) * dy) / np.float32(axes[0])
    v = (np.float32(math.cos(tilt)) * dy - np.float32(math.sin(tilt)) * dx) / np.float32(axes[1])
    extent = 1 - smoothstep(0.55, 1.4, np.sqrt(u * u + v * v) + 0.13 * ragged)
    weight = np.float32(strength * share) * extent * (1 - 0.25 * choroid[window])
    grain = 0.05 * mottle[window]
    picture.window(window).blend(weight, 0.78 + grain, 0.66 + grain)
    mask = np.zeros((canvas.height, canvas.width), bool)
    mask[window] = extent > 0.5
    return mask


def patch_contours(rng: np.random.Generator, disc: np.ndarray, fovea: np.ndarray) -> list[np.ndarray]:
    """Contours (96, 2) of one to four patches that spare the fovea and the disc."""
    contours = []
    for _ in range(int(rng.integers(1, 5))):
        radius = rng.uniform(0.014, 0.032)
        for _attempt in range(20):
            reach, bearing = rng.uniform(0.045, 0.17), rng.uniform(0, 2 * math.pi)
            centre = fovea + reach * np.array([math.cos(bearing), 0.8 * math.sin(bearing)])
            clear_of_fovea = np.linalg.norm(centre - fovea) > 1.6 * radius + 0.02
            if clear_of_fovea and np.linalg.norm(centre - disc) > 0.04 + 0.5 * radius:
                contours.append(blob(rng, centre, radius, 0.16, rng.uniform(0.7, 1.5)))
                break
    return contours or [blob(rng, fovea + np.array([-0.075, 0.03]), 0.02, 0.16)]


def macular_contour(rng: np.random.Generator, fovea: np.ndarray) -> np.ndarray:
    """The contour (96, 2) of a patch on the fovea."""
    return blob(rng, fovea + rng.uniform(-0.005, 0.005, 2), rng.uniform(0.022, 0.04), 0.07, rng.uniform(0.85, 1.25))


def _paint_patches(
    canvas: Canvas,
    picture: Picture,
    rng: np.random.Generator,
    patches: list[np.ndarray],
    macular: np.ndarray | None,
    choroid: np.ndarray,
    mottle: np.ndarray,
) -> dict[str, np.ndarray]:
    """Bare sclera within the contours, with clumps of pigment on their borders; the masks of both kinds of patch."""
    sheet, only, clumps = canvas.blank(), canvas.blank(), canvas.blank()
    for contour in patches:
        canvas.outline(sheet, contour)
    masks = {"patchy_atrophy": canvas.coverage(sheet) > 0.5}
    if macular is not None:
        canvas.outline(only, macular)
        masks["macular_atrophy"] = canvas.coverage(only) > 0.5
        masks["patchy_atrophy"] &= ~masks["macular_atrophy"]
        np.maximum(sheet, only, out=sheet)
    extent = canvas.coverage(sheet, 0.0009)
    pallor = rng.uniform(0.92, 1.05)
    bare = 0.5 + 0.5 * smoothstep(-1.2, 0.6, mottle)  # sclera between remnants of pigment and large choroidal vessels
    tone = (np.float32(pallor) - 0.14 * choroid) * (0.8 + 0.2 * bare)
    picture.blend(extent * np.float32(0.94), tone, tone * np.float32(rng.uniform(0.84, 0.97)) - 0.16 * choroid)
    for contour in patches if macular is None else [*patches, macular]:
        for _ in range(int(rng.integers(2, 7))):
            spot = contour[rng.integers(len(contour))] + rng.normal(0, 0.0015, 2)
            canvas.outline(clumps, blob(rng, spot, rng.uniform(0.0018, 0.006), 0.16, rng.uniform(0.5, 2)))
    picture.blend(canvas.coverage(clumps, 0.0009) * np.float32(0.85), 0.13, 0.09)
    return masks
