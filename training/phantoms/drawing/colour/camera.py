"""The fundus camera: the shape of its field, where it looks, its light, colours, focus and noise."""

import math
from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np

from training.phantoms.drawing.canvas import Canvas, screen_noise, smoothstep
from training.phantoms.drawing.colour.background import BACKGROUND
from training.phantoms.drawing.colour.picture import ColourPicture
from training.phantoms.drawing.streams import Streams

__all__ = ["Camera", "draw_camera", "expose", "photograph_canvas"]

# Disc and fovea are 0.124 retina units apart, and 0.385 field diameters in photographs of 45 to 50 degrees (median of
# 366 photographs of IDRiD; 5 to 95 %: 0.345 to 0.426).
FIELDS_PER_UNIT = 3.1

NATIVE_WIDTH = 2000  # px: a narrower picture is a reduced one, and shows less of the sensor's noise


class Form(NamedTuple):
    """What the pictures of a camera look like: lengths in image widths."""

    aspect: float  # height / width
    diameter: float  # of the round field
    kept: float  # how much of it is seen from top to bottom
    beside: float  # how far it may lie from the middle, to the left and right
    marked: float  # how often there is a mark at the field's rim
    drawn: float  # how often the form is


# As photographs of PALM (two kinds), IDRiD and Drishti-GS are.
FORMS = (
    Form(2056 / 2124, 0.998, 1.0, 0.001, 0.05, 0.35),
    Form(1.0, 0.985, 1.0, 0.001, 0.1, 0.25),
    Form(2848 / 4288, 0.8, 1.0, 0.03, 0.9, 0.25),
    Form(1757 / 2049, 0.985, 0.86, 0.001, 0.8, 0.15),
)


@dataclass(frozen=True)
class Camera:
    """One camera: its form; its field's diameter and shift from the picture's middle, in image widths; angle
    (None: without one) and size of the mark at the rim; slope of the edges that cut the field off."""

    form: Form
    diameter: float
    shift: tuple[float, float]
    mark: float | None
    mark_size: float
    slope: float

    def position(self, canvas: Canvas) -> tuple[np.ndarray, np.ndarray]:
        """x (1, w) and y (h, 1) of every pixel from the field's middle, in its radii."""
        x = (canvas.column - np.float32(0.5 + self.shift[0])) * np.float32(2 / self.diameter)
        y = (canvas.row - np.float32(self.form.aspect / 2 + self.shift[1])) * np.float32(2 / self.diameter)
        return x, y

    def field(self, canvas: Canvas) -> np.ndarray:
        """The lit field as a soft mask, float32 (h, w)."""
        x, y = self.position(canvas)
        edge = 2.4 / (self.diameter * canvas.width) + 0.002  # a little more than a pixel
        lit = 1 - smoothstep(1 - edge, 1 + edge, np.hypot(x, y))
        if self.mark is not None:
            c, s = np.float32(math.cos(self.mark)), np.float32(math.sin(self.mark))
            out, across = c * x + s * y, c * y - s * x
            step = np.where(across > 0, np.float32(0.6), np.float32(1.0))  # one half of the mark is lower
            tab = (np.abs(across) < self.mark_size) & (out > 0.9) & (out < 1 + np.float32(self.mark_size) * step)
            lit = np.maximum(lit, tab.astype(np.float32))
        if self.form.kept < 1:
            level = np.abs(y + np.float32(self.slope) * x)
            lit = lit * (1 - smoothstep(self.form.kept - edge, self.form.kept + edge, level))
        return lit


def draw_camera(rng: np.random.Generator) -> Camera:
    form = FORMS[rng.choice(len(FORMS), p=[form.drawn for form in FORMS])]
    shift, slope, size = rng.uniform(-1, 1, 2), rng.uniform(-0.02, 0.02), rng.uniform(-0.01, 0.0)
    marked, mark, mark_size = rng.random(), rng.uniform(-0.75, -0.45), rng.uniform(0.02, 0.04)
    return Camera(
        form=form,
        diameter=form.diameter * (1 + size),
        shift=(form.beside * shift[0], 0.004 * shift[1]),
        mark=mark if marked < form.marked else None,
        mark_size=mark_size,
        slope=slope,
    )


def photograph_canvas(
    width: int,
    height: int,
    camera: Camera,
    eye: str,
    rng: np.random.Generator,
    disc: np.ndarray,
    fovea: np.ndarray,
    off: float | None,
) -> Canvas:
    """The canvas of an eye in front of a camera, which looks at the fovea mostly, or between it and the disc, at the
    disc, or beside both; or so many field radii (`off`) beside the fovea."""
    aim, size, closer, angle = rng.random(), rng.uniform(0.9, 1.12), rng.random(), math.radians(rng.normal(0, 3.5))
    shake, bearing = rng.normal(0, 0.012, 2), rng.uniform(0, 2 * math.pi)
    towards = np.array([math.cos(bearing), math.sin(bearing)])
    if off is not None:
        target = fovea + off / (2 * FIELDS_PER_UNIT * size) * towards
    elif aim < 0.55:
        target = fovea + shake
    elif aim < 0.75:
        target = fovea + rng.uniform(0.25, 0.65) * (disc - fovea) + shake
    elif aim < 0.9:
        target = disc + shake
        size *= 1.35 if closer < 0.4 else 1.0  # at 30 degrees
    else:
        target = 0.5 * (disc + fovea) + rng.uniform(0.03, 0.09) * towards
    zoom = FIELDS_PER_UNIT * size * camera.diameter
    mirror = np.diag([1.0 if eye == "OD" else -1.0, 1.0])
    rotation = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    matrix = zoom * rotation @ mirror
    middle = np.array([0.5 + camera.shift[0], camera.form.aspect / 2 + camera.shift[1]])
    return Canvas(width, height, matrix, middle - matrix @ target)


def expose(
    canvas: Canvas, picture: ColourPicture, camera: Camera, streams: Streams, poor: bool
) -> tuple[np.ndarray, np.ndarray]:
    """The photograph, uint8 RGB (h, w, 3), and its field, bool (h, w); a poor one is dark, blurred or veiled."""
    rng = streams["exposure"]
    fault = str(rng.choice(["dark", "blurred", "veiled"]))
    planes = _developed(canvas, picture, camera, rng, fault if poor else "")
    lit = camera.field(canvas)

    rng = streams["noise"]
    focus, blur = rng.uniform(0.0004, 0.0014), rng.uniform(0.003, 0.012)
    if poor and fault == "blurred":
        focus += blur
    glow, sharpen = rng.uniform(0.0, 0.12), rng.uniform(0.0, 0.7)
    scale = min(1.0, canvas.width / NATIVE_WIDTH)
    grain, coarse = rng.uniform(0.004, 0.02), rng.uniform(0.003, 0.012)
    black = rng.uniform(0, 0.02, 3) * (rng.random() < 0.4)
    finished = []
    for plane, dark in zip(planes, black, strict=True):
        plane = plane + np.float32(glow) * (canvas.blurred(plane, 0.02) - plane)
        plane = canvas.blurred(plane, focus)
        plane = plane + np.float32(sharpen) * (plane - canvas.blurred(plane, 0.0016))
        noise = np.float32(grain * scale) * rng.standard_normal(plane.shape, dtype=np.float32)
        noise += np.float32(coarse) * screen_noise(rng, 700, canvas.width, canvas.height)
        plane = (plane + noise * np.sqrt(np.clip(plane, 0.04, 1))) * lit + np.float32(dark) * (1 - lit)
        finished.append(np.clip(plane, 0, 1))
    image = cv2.convertScaleAbs(cv2.merge(finished), alpha=255)
    return image, lit > 0.5


def _developed(
    canvas: Canvas, picture: ColourPicture, camera: Camera, rng: np.random.Generator, fault: str
) -> list[np.ndarray]:
    """Red, green and blue in 0..1 as camera and light make them, before focus and noise; `fault` may be none, ""."""
    small = canvas.reduced()
    x, y = camera.position(small)
    fall, centre = rng.uniform(0.25, 1.4), rng.normal(0, 0.2, 2)
    distance = (x - np.float32(centre[0])) ** 2 + (y - np.float32(centre[1])) ** 2
    light = 1 / (1 + np.float32(fall) * distance + np.float32(0.5 * fall) * distance**2)
    # The iris shades one side.
    side, shaded, where, shadow = (
        rng.uniform(0, 2 * math.pi),
        rng.random(),
        rng.uniform(0.3, 0.9),
        rng.uniform(0.3, 0.8),
    )
    towards = np.float32(math.cos(side)) * x + np.float32(math.sin(side)) * y
    if shaded < 0.25:
        light = light * (1 - np.float32(shadow) * smoothstep(where - 0.5, where + 0.3, towards))
    tint = np.float32(rng.uniform(0, 0.05)) * screen_noise(rng, 5, small.width, small.height)

    red = math.exp(rng.uniform(math.log(78), math.log(235))) / 255
    green_share = np.clip(rng.normal(0.45, 0.055), 0.33, 0.54)
    blue_share, dim = rng.uniform(0.08, 0.6), rng.uniform(0.25, 0.5)
    if red < 0.55 or shaded < 0.25:
        blue_share = max(blue_share, 0.22)  # less is seen in bright photographs only (IDRiD, Rahim et al.)
    colour = red * np.array([1, green_share, green_share * blue_share])
    if fault == "dark":
        colour *= dim
    # Light that comes back from cornea, lens and vitreous: bluish green, at the rim on one side or all around.
    haze, whole, dense = rng.random() ** 2, rng.uniform(0, 0.03), rng.uniform(0.1, 0.3)
    if fault == "veiled":
        whole += dense
    rim = smoothstep(0.55, 1.1, np.sqrt(x * x + y * y)) * (0.55 + 0.45 * np.tanh(2 * towards))
    veil = np.float32(whole) + np.float32(0.3 * haze) * rim
    veil_colour = colour.max() * np.array([1.0, 1.35, 1.2]) * rng.uniform(0.75, 1.3, 3)
    reflex = np.zeros_like(veil)
    for _ in range(int(rng.choice([0, 1, 2], p=[0.75, 0.17, 0.08]))):
        at, size = rng.uniform(-0.8, 0.8, 2), rng.uniform(0.02, 0.15)
        reflex += np.exp(-((x - np.float32(at[0])) ** 2 + (y - np.float32(at[1])) ** 2) / np.float32(size**2))
    veil += np.float32(rng.uniform(0.05, 0.35)) * reflex
    contrast = rng.uniform(0.95, 1.25)
    planes = []
    for k, plane in enumerate((picture.red, picture.green, picture.blue)):
        gain = canvas.enlarged(light * (1 + tint * (1, -0.5, -1)[k]))
        value = (plane * np.float32(1 / BACKGROUND[k])) ** np.float32(contrast) * gain * np.float32(colour[k])
        value += canvas.enlarged(veil) * np.float32(veil_colour[k])
        planes.append(value / (1 + np.clip(value, 0, None) ** 4) ** np.float32(0.25))  # bright tissue saturates softly
    return planes
