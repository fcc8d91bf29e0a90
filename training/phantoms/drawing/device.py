"""What lies between the eye and the image: light, lids, the field, focus, noise."""

import cv2
import numpy as np

from training.phantoms.drawing.canvas import Canvas, Picture, screen_noise, smoothstep
from training.phantoms.drawing.curves import bezier
from training.phantoms.drawing.streams import Streams

__all__ = ["add_lids", "expose"]

HIDDEN = 1 / 3  # of the light; lashes, which are out of focus, take up to .9 of it in their middle


def expose(canvas: Canvas, picture: Picture, streams: Streams) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Seen through the device: light, lids, field, focus, noise.

    The image, uint8 RGB (h, w, 3), its field mask, and the mask of lids and lashes, where they take more than HIDDEN of
    the light, also outside of the field; bool (h, w) both.
    """
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
    inside = 1 - smoothstep(1 - softness, 1 + softness, span)
    red *= inside
    green *= inside
    # Beyond the field the device's own housing catches some light, at the sides.
    stray = rng.choice([0.0, rng.uniform(0.1, 0.5)], p=[0.45, 0.55])
    place, lean, warmth = rng.uniform(1.05, 1.1), rng.uniform(-0.15, 0.15), rng.uniform(0.3, 0.8)
    if stray:
        sides = smoothstep(0.3, 0.45, np.abs(x) * (1 + np.float32(lean) * np.sign(x)))
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
        noise = 0.9 * screen_noise(rng, 288, canvas.width, canvas.height)
        noise += 0.5 * rng.standard_normal(plane.shape, dtype=np.float32)
        noise *= np.float32(grain) * np.sqrt(np.clip(plane, 0.02, 1))
        plane = np.clip(plane + noise, 0, 1)
        planes.append(cv2.pow(plane, gamma))
    planes.append(np.float32(blue[0]) * inside + np.float32(blue[1]) * planes[1])
    lids = canvas.enlarged(veils[1][0].red) < 1 - HIDDEN
    return cv2.convertScaleAbs(cv2.merge(planes), alpha=255), span < 1, lids


def _light(canvas: Canvas, rng: np.random.Generator) -> tuple[Picture, Picture]:
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
    tint = 1 + np.float32(rng.uniform(0.0, 0.2)) * screen_noise(rng, 5, canvas.width, canvas.height)
    gain, hue = rng.uniform(0.7, 1.3), rng.uniform(-0.16, 0.13)
    for _ in range(int(rng.choice([0, 1, 2], p=[0.7, 0.2, 0.1]))):  # floaters: soft shadows in the vitreous
        light = light * (1 - np.float32(rng.uniform(0.15, 0.4)) * glow(0.28, rng.uniform(0.006, 0.03), 2.0))
    reflex = np.zeros_like(light)
    for _ in range(int(rng.choice([0, 1, 2], p=[0.6, 0.25, 0.15]))):  # of cornea and lens
        reflex = reflex + np.float32(rng.uniform(0.05, 0.2)) * glow(0.38, rng.uniform(0.01, 0.06))
    red = light * np.float32(gain * (1 + hue))
    green = light * np.clip(tint, 0.5, 1.6) * np.float32(gain * (1 - hue))
    return Picture(red, green), Picture(np.zeros_like(reflex), reflex)


def _lids(canvas: Canvas, rng: np.random.Generator) -> tuple[Picture, Picture]:
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
    folds = screen_noise(rng, 14, width, height)
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
        points = np.round(bezier(start, middle, middle, tip, 10) * (16 * width)).astype(np.int32)
        for line, thick in zip(points, rng.uniform(0.003, 0.009, count), strict=True):
            for part, wide in ((line, thick), (line[:5], thick + 0.007)):
                cv2.polylines(sheet, [part], False, 255, max(1, round(wide * width)), cv2.LINE_AA, 4)
    lashes = canvas.blurred(sheet.astype(np.float32) * np.float32(1 / 255), rng.uniform(0.005, 0.01))
    keep = 1 - np.float32(rng.uniform(0.55, 0.9)) * np.clip(lashes, 0, 1)
    skin = np.zeros_like(keep)
    for edge, sign, shine, tilt in ((low_lid, 1, light[0], slope[0]), (high_lid, -1, light[1], slope[1])):
        rise = sign * y - np.float32(aspect / 2 - edge) - np.float32(bow) * x * x + np.float32(tilt) * x
        lid = smoothstep(-0.02, 0.02, rise)
        keep = keep * (1 - lid)
        skin += lid * np.float32(shine) * smoothstep(0.0, 0.09, rise) * (0.8 + 0.25 * folds)
    return Picture(keep, keep), Picture(np.float32(warmth) * skin, skin)


def add_lids(image: np.ndarray, field: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Another pair of lids, with lashes, drawn by `rng` in front of an image.

    `image` is float32 RGB (h, w, 3) in 0..1, `field` float32 (h, w), 1 inside the field of the device, 0 outside.
    """
    height, width = field.shape
    canvas = Canvas(width, height, np.eye(2), np.array([0.5, 0.5 * height / width]))
    keep, skin = _lids(canvas.reduced(), rng)
    covered = image * canvas.enlarged(keep.red)[..., None]
    covered[..., 0] += field * canvas.enlarged(skin.red)
    covered[..., 1] += field * canvas.enlarged(skin.green)
    return covered
