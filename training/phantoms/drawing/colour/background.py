"""The fundus of a photograph, but for disc, vessels and lesions: pigment, choroid, macula, nerve fibres, reflexes."""

import math

import numpy as np

from training.phantoms.drawing.canvas import Canvas, smoothstep
from training.phantoms.drawing.colour.picture import ColourPicture
from training.phantoms.drawing.colour.vessels import choroidal_network
from training.phantoms.drawing.curves import bezier, unit
from training.phantoms.drawing.streams import Streams

__all__ = ["BACKGROUND", "paint_background", "paint_reflexes"]

# Red, green and blue of the retina away from everything; the camera makes its own colours of them.
BACKGROUND = (0.5, 0.26, 0.135)


def paint_background(
    canvas: Canvas, streams: Streams, disc: np.ndarray, fovea: np.ndarray, label: str
) -> tuple[ColourPicture, np.ndarray, np.ndarray]:
    """Pigment, choroid and macula of an eye of a class of PALM.

    Returns the picture, and two planes that show through lesions: the coverage by choroidal vessels, and the mottle.
    """
    small = canvas.reduced()
    rng = streams["texture"]
    amount, grain = rng.uniform(0.02, 0.06, 2), rng.uniform(0.015, 0.05)
    pigment = rng.uniform({"N": 0.66, "H": 0.72, "P": 0.8}[label], 1.08)  # takes red from the background, not from disc
    clouds = [small.texture(rng, 11) + 0.6 * small.texture(rng, 29) for _ in range(2)]
    smooth = ColourPicture(*(np.full((small.height, small.width), np.float32(value)) for value in BACKGROUND))
    smooth.red *= np.float32(pigment)
    smooth.multiply(
        np.clip(1 + np.float32(amount[0]) * clouds[0], 0.4, 2),
        np.clip(1 + np.float32(amount[1]) * (clouds[1] + 0.7 * clouds[0]), 0.4, 2),
    )
    mottle = 0.6 * canvas.texture(rng, 260) + 0.5 * canvas.texture(rng, 430) + 0.5 * canvas.texture(rng, 710)

    rng = streams["macula"]
    deep, wide = rng.uniform(0.12, 0.5), rng.uniform(0.018, 0.034)
    pit, pit_width = rng.uniform(0.05, 0.35), rng.uniform(0.004, 0.008)
    shade = np.float32(deep) * small.spot(fovea, wide) + np.float32(pit) * small.spot(fovea, pit_width)
    smooth.multiply(1 - 0.6 * shade, 1 - np.clip(shade, 0, 0.8))

    rng = streams["choroid"]
    clumpy = rng.uniform(0, 0.4)
    curves, widths = choroidal_network(rng, 0.5 * (disc + fovea))
    strength, hue, chance, place = rng.uniform(0.3, 1.1), rng.uniform(0.25, 0.95), rng.random(), rng.uniform(0, 6.3)
    patches = np.clip(0.85 + 0.35 * small.texture(rng, 15), 0.25, 1.3)
    # Normal eyes show the choroid faintly, on one side of the disc; myopic ones everywhere but at the fovea.
    if label == "N":
        towards = np.cos(np.arctan2(small.y - np.float32(disc[1]), small.x - np.float32(disc[0])) - np.float32(place))
        patches = patches * smoothstep(-0.2, 1.0, towards) * np.float32(0.5 if chance < 0.5 else 0.1)
    elif label == "H":
        patches = patches * np.float32(0.75 if chance > 0.15 else 0.2)
    patches = np.clip(patches * (1 - 0.5 * small.spot(fovea, 0.02)), 0, 1.3)
    sheet = canvas.blank()
    canvas.strokes(sheet, curves, widths, np.sort(rng.integers(90, 256, len(curves))), 5)
    choroid = canvas.coverage(sheet, 0.0009 * canvas.zoom)
    visible = choroid * canvas.enlarged(patches)
    visible -= np.float32(choroid.mean()) * canvas.enlarged(patches)
    picture = ColourPicture(*(canvas.enlarged(plane) for plane in (smooth.red, smooth.green, smooth.blue)))
    # Between the vessels the pigment is uneven.
    gain = np.float32(strength) * visible * (1 + np.float32(clumpy) * np.clip(mottle, -1, 2) * (visible < 0))
    grains = 1 + np.float32(grain) * mottle
    picture.multiply(np.clip(1 + gain, 0.3, 2.5) * grains, np.clip(1 + np.float32(hue) * gain, 0.3, 2.5) * grains)
    return picture, choroid, mottle


def paint_reflexes(
    canvas: Canvas, picture: ColourPicture, rng: np.random.Generator, disc: np.ndarray, fovea: np.ndarray
) -> None:
    """What shines on the surface of the retina, of young eyes mostly: nerve fibres, a ring at the macula, glints."""
    shine = rng.random() ** 2
    white = np.array([0.75, 0.85, 0.8]) * rng.uniform(0.8, 1.1)
    # Fibres leave the disc on all sides and bend around the macula.
    count = 260
    angle = rng.uniform(0, 2 * math.pi, count)
    out = np.stack([np.cos(angle), np.sin(angle)], axis=-1)
    start = disc + 0.02 * out
    length = rng.uniform(0.06, 0.15, count)[:, None]
    side = np.sign(out[:, 1:]) * np.array([[0.0, 1.0]])
    temporal = np.clip(-out[:, :1], 0, 1)
    middle = start + length * 0.45 * unit(out + 0.9 * temporal * side)
    tip = middle + length * 0.55 * unit(out - 0.25 * temporal * side + np.array([[-0.3, 0.0]]) * temporal)
    fibres = bezier(start, 0.5 * (start + middle), middle, tip, 24)
    sheet = canvas.blank()
    canvas.strokes(sheet, fibres, np.full(fibres.shape[:2], 0.0011), rng.integers(60, 256, count), 4)
    fade = np.clip(1.1 - np.sqrt(canvas.squared_distance(disc)) / np.float32(0.12), 0, 1)
    fade *= 1 - 0.9 * canvas.spot(fovea, 0.03)
    picture.veil(canvas.coverage(sheet, 0.0006 * canvas.zoom) * fade, white * 0.16 * shine)
    wide = canvas.reduced()
    about = np.hypot(wide.x - np.float32(disc[0]) + 0.02, 0.75 * (wide.y - np.float32(disc[1])))
    picture.veil(canvas.enlarged(np.exp(-((about - 0.03) ** 2) / np.float32(0.03**2))), white * 0.07 * shine)

    ring, tall, ring_strength = rng.uniform(0.016, 0.03), rng.uniform(0.75, 1.0), rng.random()
    dx, dy = canvas.x - np.float32(fovea[0]), (canvas.y - np.float32(fovea[1])) / np.float32(tall)
    radius = np.hypot(dx, dy)
    arc = 0.5 + 0.5 * np.cos(np.arctan2(dy, dx) - np.float32(rng.uniform(0, 6.3)))
    if ring_strength < 0.35:
        picture.veil(np.exp(-(((radius - ring) / np.float32(0.0026)) ** 2)) * arc, white * 0.2 * shine)
    if rng.random() < 0.4:
        spot = fovea + rng.normal(0, 0.0012, 2)
        picture.veil(canvas.spot(spot, rng.uniform(0.0008, 0.002)), white * rng.uniform(0.05, 0.4))
    # The sheen of the inner membrane breaks up into flakes around the macula.
    flakes = smoothstep(0.9, 2.2, canvas.texture(rng, 45) + 0.6 * canvas.texture(rng, 110))
    band = np.exp(-(((radius - np.float32(rng.uniform(0.045, 0.08))) / np.float32(0.018)) ** 2))
    picture.veil(flakes * band * (0.3 + arc), white * 0.3 * max(0.0, shine - 0.3))
