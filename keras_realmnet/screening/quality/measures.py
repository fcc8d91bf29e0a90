"""What is measured of a picture: numbers by name. Limits on them, and what they mean, are in `kind` and `content`."""

from itertools import pairwise
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from keras_realmnet.screening.image_io import ImageSource
from keras_realmnet.screening.preprocessing import find_field

__all__ = ["REDUCED_SIZE", "ZONES", "Seen", "look", "measure"]

REDUCED_SIZE = 512  # px, long side of the copy everything is measured on
FIELD_THRESHOLD = 16  # of 255: brighter is the illuminated field (as `PreprocessSpec.field_threshold`)
OVEREXPOSED = 244  # of 255, red and green both above
WHITE = 150  # of 255, the darkest channel above: paper and walls, not retina
CORNER = 12  # a corner of the frame is this part of its sides

# Lids, lashes and the shadows of both are searched on a copy of a quarter of the size.
COVER_SIZE = 128  # px, long side of that copy
COVER_REACH = 21  # px of it, ten to each side: what is dark beside something bright within this reach is covered
USUAL = (
    0.6  # quantile of what is brighter than the mean: brighter things, as reflexes, make their surroundings no darker
)
COVERED = 0.4  # of the brightness within reach, in the brighter channel: what is darker is covered

# Vessels and the cells of the field are looked at in the green channel, on a copy of half the size.
MIN_OCTAVE = 0.7  # px of it, as the pyramid's first level is blurred; the next ones 1.4 and 2.8
WIDE = 6.0  # px of it: brightness around. What is brighter, as exudates and the disc, is cut off: it has dark halos
VESSEL_DEVIATIONS = 1.5  # darker than the mean by so many standard deviations of its octave: vessels
CELL = 8  # px of it
DARK_CELL = 20.0  # of 255, mean of the brightest channel
GLARE_CELL = 0.5  # of a cell over-exposed
FLAT_CELL = 2.0  # per mille of brightness: mean detail of 1.4 to 2.8 px of the copy, without what is brighter

ZONES = ("middle", "upper_left", "upper_right", "lower_left", "lower_right")
MIDDLE = 0.5  # the middle zone is an ellipse of so much of the field's width and height


class Seen(NamedTuple):
    """A picture as it is measured.

    size: (width, height) of the whole picture. lit: of the reduced copy, uint8 (h, w), 255 where it is bright. inside:
    the same of the illuminated field alone, which lies in `box` (x0, y0, x1, y1). All else is of a copy of half that
    size, uint8 (h // 2, w // 2): the channels, the brightest channel `top`, and `field`, 255 in the illuminated field.
    """

    size: tuple[int, int]
    lit: NDArray[Any]
    inside: NDArray[Any]
    box: tuple[int, int, int, int]
    red: NDArray[Any]
    green: NDArray[Any]
    blue: NDArray[Any]
    top: NDArray[Any]
    field: NDArray[Any]


def look(image: NDArray[np.uint8], source: ImageSource | None) -> Seen:
    """The copies of a uint8 RGB picture (h, w, 3) that everything is measured on."""
    height, width = image.shape[:2] if source is None else source.size[::-1]  # `image` may be decoded at half its size
    small = _reduced(image)
    box = x0, y0, x1, y1 = find_field(small, FIELD_THRESHOLD)
    lit = cv2.threshold(_brightest(*cv2.split(small)), FIELD_THRESHOLD, 255, cv2.THRESH_BINARY)[1]
    crop = lit[y0:y1, x0:x1]
    inside = np.zeros_like(lit)
    inside[y0:y1, x0:x1] = crop if cv2.mean(crop)[0] > 0.01 * 255 else 255  # all black: measure the darkness
    half = max(1, lit.shape[1] // 2), max(1, lit.shape[0] // 2)
    red, green, blue = cv2.split(cv2.resize(small, half, interpolation=cv2.INTER_AREA))
    field = cv2.resize(inside, half, interpolation=cv2.INTER_NEAREST)
    return Seen((width, height), lit, inside, box, red, green, blue, _brightest(red, green, blue), field)


def _brightest(red: NDArray[Any], green: NDArray[Any], blue: NDArray[Any]) -> NDArray[Any]:
    return np.asarray(cv2.max(cv2.max(red, green), blue))


def measure(seen: Seen) -> dict[str, float]:
    """All measures, see `assess`, but for what a task needs."""
    width, height = seen.size
    shape, retina = _shape(seen)
    return {
        "width": float(width),
        "height": float(height),
        "aspect": width / height,
        **_colours(seen),
        **shape,
        **_vessels_and_zones(seen, retina),
    }


def _reduced(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """At most REDUCED_SIZE px; every n-th pixel first, since averaging all of 12 megapixels takes 50 ms."""
    height, width = image.shape[:2]
    scale = REDUCED_SIZE / max(height, width)
    if scale >= 1:
        return image
    size = max(1, round(width * scale)), max(1, round(height * scale))
    if scale < 0.5:
        image = np.asarray(cv2.resize(image, (size[0] * 2, size[1] * 2), interpolation=cv2.INTER_NEAREST), np.uint8)
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)


def _colours(seen: Seen) -> dict[str, float]:
    red, green, blue, top = seen.red, seen.green, seen.blue, seen.top
    low = cv2.min(cv2.min(red, green), blue)
    saturation = cv2.divide(cv2.subtract(top, low), np.maximum(top, 1), dtype=cv2.CV_32F)
    mean = cv2.mean(cv2.merge((red, green, blue, top)), seen.field)
    counted = cv2.merge(
        (
            cv2.compare(green, red, cv2.CMP_GT),
            cv2.compare(blue, red, cv2.CMP_GT),
            cv2.threshold(cv2.min(red, green), OVEREXPOSED, 255, cv2.THRESH_BINARY)[1],
            cv2.threshold(low, WHITE, 255, cv2.THRESH_BINARY)[1],
        )
    )
    greener, bluer, overexposed, white = (share / 255 for share in cv2.mean(counted, seen.field))
    return {
        "brightness": mean[3],
        "saturation": float(cv2.mean(saturation, seen.field)[0]),
        "green_ratio": mean[1] / max(mean[0], 1.0),
        "blue_ratio": mean[2] / max(mean[1], 1.0),
        "greener": greener,
        "bluer": bluer,
        "white": white,
        "overexposed": overexposed,
    }


def _shape(seen: Seen) -> tuple[dict[str, float], NDArray[Any]]:
    """Measures of the field's shape, and the retina in it, uint8 (h', w'), 255 where nothing covers it."""
    x0, y0, x1, y1 = seen.box
    lit = seen.lit
    height, width = lit.shape
    down, across = max(1, height // CORNER), max(1, width // CORNER)
    corners = (lit[:down, :across], lit[:down, -across:], lit[-down:, :across], lit[-down:, -across:])
    covered, retina = _uncovered(seen)
    return {
        "corners": sum(cv2.mean(corner)[0] for corner in corners) / (4 * 255),
        "visible": float(cv2.mean(lit, _ellipse(lit.shape, 1.0))[0]) / 255,
        "roundness": _roundness(lit[y0:y1, x0:x1]),
        **covered,
    }, retina


def _ellipse(shape: tuple[int, ...], scale: float, circle: bool = False) -> NDArray[np.uint8]:
    """A mask (0 or 1) of the inscribed ellipse, or of the circle as wide as the longer side, `scale` times as large."""
    height, width = shape
    across, down = (max(shape), max(shape)) if circle else (width, height)
    x = (2 * np.arange(width, dtype=np.float32) + 1 - width) / (scale * across)
    y = (2 * np.arange(height, dtype=np.float32) + 1 - height) / (scale * down)
    return (x**2 + y[:, None] ** 2 <= 1).view(np.uint8)


def _roundness(crop: NDArray[Any]) -> float:
    """Best overlap of the lit field with a circle as wide as its longer side, or a little wider (cut off all round)."""
    best, lit = 0.0, cv2.countNonZero(crop)
    for scale in (1.0, 1.02):
        circle = _ellipse(crop.shape, scale, circle=True)
        both = cv2.countNonZero(cv2.bitwise_and(crop, circle))
        best = max(best, both / max(lit + cv2.countNonZero(circle) - both, 1))
    return best


def _uncovered(seen: Seen) -> tuple[dict[str, float], NDArray[Any]]:
    """The retina that nothing covers, as shares: of the frame's inscribed ellipse and of the field's whole circle.

    What lies dark beside something bright is a lid, a lash or a shadow; what these cut off from the retina, as the skin
    of a lid and the device's border, is not seen retina either. The whole circle is the smallest around the field.

    And a mask of it, uint8 (h', w'), 255 or 0, on the small copy.
    """
    height, width = seen.top.shape
    scale = min(1.0, COVER_SIZE / max(height, width))
    size = max(1, round(width * scale)), max(1, round(height * scale))
    channels = cv2.merge((seen.red, seen.green, seen.top))
    red, green, top = cv2.split(cv2.resize(channels, size, interpolation=cv2.INTER_AREA))
    inside = cv2.resize(seen.field, size, interpolation=cv2.INTER_NEAREST)
    clear = np.zeros(inside.shape, np.uint8)
    for channel in (red, green):
        usual = np.minimum(channel, _usual_light(channel, inside))
        around = cv2.blur(cv2.dilate(usual, np.ones((COVER_REACH, COVER_REACH), np.uint8)), (9, 9))
        clear |= (channel > COVERED * around.astype(np.float32)).view(np.uint8)
    clear &= ((top > FIELD_THRESHOLD) & (inside > 0)).view(np.uint8)
    mask = cv2.morphologyEx(clear, cv2.MORPH_OPEN, np.ones((3, 3), np.uint8))
    count, parts = cv2.connectedComponents(mask, connectivity=4)
    if count < 2:
        return {"uncovered": 0.0, "circle": 0.0}, inside
    light = np.bincount(parts.ravel(), weights=top.ravel() * (parts.ravel() > 0), minlength=count)
    largest = int(np.argmax(light))  # a lid may have come down far, but it is dimmer
    retina = np.where(parts == largest, np.uint8(255), np.uint8(0))
    outlines, _ = cv2.findContours(retina, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    radius = cv2.minEnclosingCircle(max(outlines, key=len))[1] + 0.5
    return {
        "uncovered": float(cv2.mean(retina, _ellipse(retina.shape, 1.0))[0]) / 255,
        "circle": min(1.0, cv2.countNonZero(retina) / (np.pi * radius**2)),
    }, retina


def _usual_light(channel: NDArray[Any], inside: NDArray[Any]) -> int:
    """How bright the retina is where it is well lit and nothing covers it."""
    values = channel[inside > 0] if inside.any() else channel.ravel()
    values = values[values >= values.mean()]
    rank = int(USUAL * (len(values) - 1))
    return int(np.partition(values, rank)[rank])


def _vessels_and_zones(seen: Seen, retina: NDArray[Any]) -> dict[str, float]:
    """How steep and how dark the vessels are, and what of the field's cells can be read."""
    height, width = seen.green.shape
    core = cv2.bitwise_and(cv2.resize(retina, (width, height), interpolation=cv2.INTER_NEAREST), seen.field)
    core = cv2.erode(core, np.ones((5, 5), np.uint8), borderType=cv2.BORDER_CONSTANT, borderValue=0)
    green = seen.green.astype(np.float32)
    wide = cv2.resize(green, (max(1, width // 4), max(1, height // 4)), interpolation=cv2.INTER_AREA)
    wide = cv2.resize(cv2.GaussianBlur(wide, (0, 0), WIDE / 4), (width, height), interpolation=cv2.INTER_LINEAR)
    levels = [cv2.GaussianBlur(cv2.min(green, wide), (0, 0), MIN_OCTAVE)]
    for sigma in (MIN_OCTAVE, 2 * MIN_OCTAVE):  # variances add up
        levels.append(cv2.GaussianBlur(levels[-1], (0, 0), 3**0.5 * sigma))
    around = wide + 10
    fine, coarse = (cv2.divide(cv2.subtract(b, a), around) for a, b in pairwise(levels))  # dark lines are positive
    mean, deviation = (float(each[0, 0]) for each in cv2.meanStdDev(coarse, mask=core))
    dark = cv2.threshold(coarse, mean + VESSEL_DEVIATIONS * deviation, 255, cv2.THRESH_BINARY)[1]
    vessels = cv2.bitwise_and(dark.astype(np.uint8), core)
    steepness, contrast, _, _ = cv2.mean(cv2.merge((fine, coarse)), vessels)
    return {
        "sharpness": max(0.0, steepness) / contrast if contrast > 1e-4 else 0.0,
        "vessel_contrast": contrast * 1000,
        **_zones(seen, core, np.abs(coarse)),
    }


def _zones(seen: Seen, core: NDArray[Any], detail: NDArray[Any]) -> dict[str, float]:
    """`core`: uint8 (h, w), 255 inside of the field; `detail`: float32 (h, w), of the brightness."""
    height, width = core.shape
    size = max(1, width // CELL), max(1, height // CELL)

    def cells(values: NDArray[Any]) -> NDArray[Any]:
        return np.asarray(cv2.resize(values, size, interpolation=cv2.INTER_AREA), np.float32)

    overexposed = cv2.threshold(cv2.min(seen.red, seen.green), OVEREXPOSED, 255, cv2.THRESH_BINARY)[1]
    brightness, contrast, field = cells(seen.top), cells(detail) * 1000, cells(core) > 127
    if not field.any():
        field[:] = True
    dark = brightness < DARK_CELL
    glare = ~dark & (cells(overexposed) > 255 * GLARE_CELL)
    flat = ~dark & ~glare & (contrast < FLAT_CELL)
    readable = ~dark & ~glare & ~flat
    rows, columns = (np.flatnonzero(field.any(axis=axis)) for axis in (1, 0))
    y = np.arange(size[1])[:, None] - (rows[0] + rows[-1]) / 2
    x = np.arange(size[0]) - (columns[0] + columns[-1]) / 2
    inner = (x / len(columns)) ** 2 + (y / len(rows)) ** 2 <= (MIDDLE / 2) ** 2
    zones = (inner, (y < 0) & (x < 0), (y < 0) & (x >= 0), (y >= 0) & (x < 0), (y >= 0) & (x >= 0))
    found = {"dark": dark, "glare": glare, "flat": flat, "readable": readable}
    values = {name: float(each[field].mean()) for name, each in found.items()}
    for k, (name, zone) in enumerate(zip(ZONES, zones, strict=True)):
        here = field & zone & (~inner if k else inner)
        shown = {"brightness": brightness, "contrast": contrast, "readable": readable}
        for measure_name, each in shown.items():
            values[f"{measure_name}_{name}"] = float(each[here].mean()) if here.any() else 0.0
    return values
