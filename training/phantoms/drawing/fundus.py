"""The background of the fundus (pigment, choroid, macula, nerve fibres) and the optic disc."""

import math

import numpy as np

from training.phantoms.drawing.canvas import Canvas, Picture, smoothstep
from training.phantoms.drawing.streams import Streams
from training.phantoms.drawing.vessels import choroidal_vessels

__all__ = ["paint_background", "paint_disc"]


def paint_background(
    canvas: Canvas, streams: Streams, fovea: np.ndarray, grade: int
) -> tuple[Picture, np.ndarray, np.ndarray]:
    """The background: pigment, choroid, macula, nerve fibres. Returns it, the choroid's coverage and the mottle."""
    small = canvas.reduced()
    rng = streams["texture"]
    red, green = rng.uniform(0.3, 0.5), rng.uniform(0.22, 0.42)
    cloud, amount, grain = small.texture(rng, 7), rng.uniform(0.06, 0.2, 2), rng.uniform(0.03, 0.08)
    clouds = (0.5 * cloud + small.texture(rng, 9), small.texture(rng, 9) - 0.2 * cloud)
    smooth = Picture(
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
    curves, widths, ampullae = choroidal_vessels(rng)
    for ampulla in ampullae:
        strength, spot = rng.uniform(0, 0.3), small.spot(ampulla, rng.uniform(0.015, 0.05))
        smooth.multiply(1 - np.float32(0.3 * strength) * spot, 1 - np.float32(strength) * spot)
    patches = np.clip(0.85 + 0.3 * small.texture(rng, 11), 0.4, 1.2)
    periphery = smoothstep(0.2, 0.36, np.sqrt(small.x**2 + small.y**2))

    # Choroidal vessels show faintly in every periphery; only tessellated eyes show them at the posterior pole.
    sheet = canvas.blank()
    canvas.strokes(sheet, curves, widths, rng.integers(80, 256, len(curves)), 1)
    choroid = canvas.coverage(sheet, 0.0011) * canvas.enlarged(patches)
    peripheral, central = rng.uniform(0.1, 0.5), rng.uniform(0.6, 1.1)
    visible = choroid * (np.float32(peripheral) * canvas.enlarged(periphery) if grade == 0 else np.float32(central))
    # Pigment is drawn from above the vessels to between them: the fundus as a whole is no darker for it.
    between = 1 + np.float32(grain) * mottle + np.float32(0.16 * central if grade else 0.0) * (choroid - choroid.mean())
    picture = Picture(canvas.enlarged(smooth.red), canvas.enlarged(smooth.green))
    visible -= visible.mean()
    picture.multiply((1 + 0.85 * visible) * between, (1 + 0.14 * visible) * between)
    return picture, choroid, mottle


def paint_disc(
    canvas: Canvas, picture: Picture, rng: np.random.Generator, disc: np.ndarray, grade: int, mottle: np.ndarray
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
        picture.blend((1 - smoothstep(0.97, 1.06, ring)) * np.float32(0.8), tone, tone * np.float32(0.84))
        line = np.exp(-(((ring - 1.06) / np.float32(0.05)) ** 2)) * (reach > 1.1)
        picture.blend(np.float32(0.5) * line, 0.2, 0.13)
    else:
        glow = np.float32(haze) * np.exp(-(np.maximum(rho - 1, 0) ** 2) / np.float32(0.4))
        picture.blend(glow * np.float32(0.6), 0.6, 0.55)
    body = 1 - smoothstep(1 - soft, 1 + 2 * soft, rho)
    picture.blend(body, 0.92 - 0.05 * rho, hue - 0.24 * rho + 0.03 * mottle)
    cup_rho = np.sqrt(((u - np.float32(cup_shift)) / np.float32(ratio)) ** 2 + (v / np.float32(ratio)) ** 2)
    picture.blend((1 - smoothstep(0.8, 1.2, cup_rho)) * np.float32(0.85), 0.99, hue + 0.12)
    masks = np.zeros((2, canvas.height, canvas.width), bool)
    masks[0][window], masks[1][window] = rho < 1, cup_rho < 1
    return masks[0], masks[1]
