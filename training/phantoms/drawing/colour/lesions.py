"""How the lesions of diabetic retinopathy look in a photograph, and their masks.

Exudates, microaneurysms and blots lie below the large vessels, all others above. The colours were set beside IDRiD.
There the green within the marks, as a share of that around them, is (10, 50 and 90 % of 20 photographs): microaneurysms
.87, .90, .94; haemorrhages .83, .90, .93; hard exudates 1.14, 1.24, 1.37; soft exudates 1.13, 1.22, 1.27. The marks are
wider than what is seen, so that the drawings may differ more.
"""

from collections.abc import Iterable

import numpy as np

from training.phantoms.drawing.canvas import Canvas, smoothstep
from training.phantoms.drawing.colour.picture import ColourPicture
from training.phantoms.drawing.colour.retinopathy import Retinopathy, Spot

__all__ = ["paint_deep", "paint_superficial"]

Masks = dict[str, np.ndarray]


def paint_deep(canvas: Canvas, picture: ColourPicture, rng: np.random.Generator, eye: Retinopathy) -> Masks:
    """What lies below the vessels; masks of EX, MA and, of HE, the blots: bool (h, w)."""
    yellow = (rng.uniform(0.66, 0.82), rng.uniform(0.5, 0.66), rng.uniform(0.14, 0.26))
    grain = np.clip(1 + 0.2 * canvas.texture(rng, 600), 0.5, 1.15)
    picture.cover(_weight(canvas, eye.exudates, 0.00035) * np.float32(0.7) * grain, yellow)
    dark = rng.uniform(0.75, 1.15)
    weight: np.ndarray = _weight(canvas, eye.microaneurysms, 0.00035) * np.float32(dark)
    picture.multiply(1 - 0.11 * weight, 1 - 0.3 * weight)
    weight = _weight(canvas, eye.blots, 0.0006) * np.float32(dark) * grain
    picture.multiply(1 - 0.16 * weight, 1 - 0.4 * weight)
    return {
        "EX": _mask(canvas, eye.exudates),
        "MA": _mask(canvas, eye.microaneurysms),
        "HE": _mask(canvas, eye.blots),
    }


def paint_superficial(canvas: Canvas, picture: ColourPicture, rng: np.random.Generator, eye: Retinopathy) -> Masks:
    """What lies above the vessels; masks of SE, PHE, NV and, of HE, the flames: bool (h, w)."""
    wool = 0.55 + 0.45 * smoothstep(-1.2, 1.2, canvas.texture(rng, 330) + 0.7 * canvas.texture(rng, 600))
    weight = _weight(canvas, eye.cotton_wool, 0.0021) * wool
    pale = (rng.uniform(0.54, 0.62), rng.uniform(0.4, 0.48), rng.uniform(0.19, 0.26))
    picture.cover(weight * np.float32(0.85), pale)
    weight = _weight(canvas, eye.flames, 0.0004) * np.float32(rng.uniform(0.75, 1.1))
    picture.multiply(1 - 0.15 * weight, 1 - 0.4 * weight)
    sheet, region = canvas.blank(), canvas.blank()
    for curves in eye.tufts:
        fine = np.full(curves.shape[:2], 0.0007) * np.linspace(1.2, 0.5, curves.shape[1])
        canvas.strokes(sheet, curves, fine, rng.integers(130, 256, len(curves)), 4)
        canvas.strokes(region, curves, np.full(curves.shape[:2], 0.003), np.full(len(curves), 255), 4)
    weight = canvas.coverage(sheet, 0.0002 * canvas.zoom)
    picture.multiply(1 - 0.1 * weight, 1 - 0.45 * weight)
    weight = _weight(canvas, eye.preretinal, 0.0007)
    picture.blend(weight * np.float32(0.92), rng.uniform(0.17, 0.25), rng.uniform(0.03, 0.06))
    return {
        "SE": _mask(canvas, eye.cotton_wool),
        "HE": _mask(canvas, eye.flames),
        "NV": canvas.coverage(region) > 0.5,
        "PHE": _mask(canvas, eye.preretinal),
    }


def _weight(canvas: Canvas, spots: Iterable[Spot], blur: float) -> np.ndarray:
    """How strongly spots cover each pixel, float32 (h, w); `blur`: a sigma in retina units."""
    sheet = canvas.blank()
    for spot in sorted(spots, key=lambda spot: spot.strength):
        for outline in spot.outlines:
            canvas.outline(sheet, outline, round(255 * spot.strength))
    return canvas.coverage(sheet, blur * canvas.zoom)


def _mask(canvas: Canvas, spots: Iterable[Spot]) -> np.ndarray:
    sheet = canvas.blank()
    for spot in spots:
        for outline in spot.outlines:
            canvas.outline(sheet, outline)
    return canvas.coverage(sheet) > 0.5
