"""Where the macula lies in a colour fundus photograph, without a network: by the disc, and by the dark of the fovea.

A photograph that shows the macula has the fovea at least two disc diameters from its edge, as the English screening
programme asks of its macular field; the disc is 0.76 field radii from the fovea and a little above it (366 photographs
of IDRiD of 50 degrees: 0.68 to 0.84 and 0.01 below to 0.17 above, 5 to 95 %). So the place is sought that is dark
itself and has the brightest round patch beside it at that distance, to the left or to the right; it may lie outside.

Exudates are bright, too, and in their midst the fovea is not dark: eyes that need a reader most would be sent away. So
where something bright lies in the middle of the field, the disc alone is looked for, which vessels cross from above and
below. If one beside the middle is clear, and nearly as clear as the clearest, the picture has the benefit of the doubt.
"""

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from keras_realmnet.screening.quality.verdict import Limit, Reason

__all__ = ["MACULA", "fovea_away", "macula_distance"]

# Field radii. A field of 45 to 50 degrees has a radius of about 4.5 disc diameters.
MACULA = Limit(
    "macula_distance",
    "at most",
    0.53,
    "The macula is not in the field: the fovea is {value:.2f} of the field's radius from its middle "
    "(at most {limit:.2f}).",
)

RADIUS = 32  # px, of the field on the copy on which all is sought
PAD = 27  # px around it
DISC_FROM_FOVEA = (0.76, -0.085)  # field radii, to either side and down
TOLERANCE = (4, 4)  # px across and down
MAX_BRIGHT = 6.0  # standard deviations: brighter than that tells no more
DISC_WEIGHT = 0.5
RIM = 0.85  # field radii: from here inwards, over FADE, dark counts as the fovea's; further out it is the rim's
FADE = 0.15
WIDE = 4.0  # px

# The disc alone, beside what is bright in the middle. All of it was chosen after a look at IDRiD's photographs with
# exudates, which pass, and at fields that are not the macula's, of MFIDDR, Drishti-GS and CHASE_DB1.
MIDDLE, BRIGHT = 0.3, 0.37  # field radii; brightness above that around, of that: 0.39 and more with exudates
VESSEL = 7  # px of a copy of twice the size: a vessel is narrower
VESSEL_REACH = 0.1  # field radii
VESSEL_WEIGHT = 0.8
MAX_CLEAR = 3.0  # standard deviations, of brightness and of vessels
NEAR = 0.325  # field radii: so close to the middle the fovea must be by the disc
CLEAR = 3.0  # standard deviations, of brightness and VESSEL_WEIGHT of those of vessels: at least
DOUBT = 1.55  # of the same, by which another place may be clearer


def macula_distance(red: NDArray[Any], green: NDArray[Any], inside: NDArray[Any]) -> float:
    """How far the fovea lies from the middle of the field, in its radii.

    `red`, `green`: channels, uint8 (h, w); `inside`: uint8 (h, w), not 0 in the field.
    """
    x0, y0, width, height = cv2.boundingRect(inside)
    x1, y1 = x0 + width, y0 + height
    scale = 2 * RADIUS / max(width, height)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    light = cv2.addWeighted(green[y0:y1, x0:x1], 0.8, red[y0:y1, x0:x1], 0.2, 0.0)
    small = cv2.resize(light, size, interpolation=cv2.INTER_AREA).astype(np.float32)
    side = 2 * (RADIUS + PAD)
    picture = np.zeros((side, side), np.float32)
    top, left = (side - size[1]) // 2, (side - size[0]) // 2
    picture[top : top + size[1], left : left + size[0]] = small
    from_middle = _from_middle(side)
    lit = ((picture > 10) & (from_middle < 0.97)).astype(np.float32)
    field = np.asarray(cv2.erode(lit, np.ones((3, 3), np.uint8)), np.float32)

    relative = picture / (_around(picture, field, 0.3) + 5) - 1
    bright = _standard(_around(relative, field, 0.07) - _around(relative, field, 0.22), field)
    dark = _standard(_around(relative, field, 0.28) - _around(relative, field, 0.1), field)
    across, down = 2 * TOLERANCE[0] + 1, 2 * TOLERANCE[1] + 1
    disc = cv2.dilate(np.clip(bright, -1, MAX_BRIGHT), cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (across, down)))
    beside = np.maximum(*(_moved(disc, sign * DISC_FROM_FOVEA[0], DISC_FROM_FOVEA[1]) for sign in (-1, 1)))
    score = dark * np.clip((RIM - from_middle) / FADE, 0, 1) + DISC_WEIGHT * beside
    distance = float(from_middle.flat[int(np.argmax(score))])
    if distance <= MACULA.limit or relative[from_middle <= MIDDLE].max() < BRIGHT:
        return distance
    fine = cv2.resize(green[y0:y1, x0:x1], (2 * size[0], 2 * size[1]), interpolation=cv2.INTER_AREA)
    vessels = np.zeros_like(picture)
    vessels[top : top + size[1], left : left + size[0]] = cv2.resize(
        _upright_vessels(fine.astype(np.float32)), size, interpolation=cv2.INTER_AREA
    )
    core = np.asarray(cv2.erode(field, np.ones((3, 3), np.uint8)), np.float32)
    crossed = _standard(_around(vessels, core, VESSEL_REACH), core)
    clear = np.clip(bright, -1, MAX_CLEAR) + VESSEL_WEIGHT * np.clip(crossed, -1, MAX_CLEAR)
    return min(distance, _distance_by_disc(np.where(from_middle < 1, clear, -np.inf)))


def _upright_vessels(green: NDArray[Any]) -> NDArray[Any]:
    """How much darker than what lies to its left and right each place is, of the brightness around."""
    darker = cv2.morphologyEx(green, cv2.MORPH_BLACKHAT, np.ones((1, VESSEL), np.uint8))
    return np.asarray(darker / (cv2.GaussianBlur(green, (0, 0), 2.5) + 10), np.float32)


def _distance_by_disc(clear: NDArray[Any]) -> float:
    """How far from the middle the fovea is beside the clearest disc that has it near, infinite where none is clear.

    `clear`: of each place how much it looks like the disc, (side, side).
    """
    across = np.abs(_line(len(clear))) - DISC_FROM_FOVEA[0]  # to the side that is nearer to the middle
    away = np.hypot(across, _line(len(clear))[:, None] - DISC_FROM_FOVEA[1])
    shown = np.where(away <= NEAR, clear, -np.inf)
    best = int(np.argmax(shown))
    return float(away.flat[best]) if shown.flat[best] >= max(CLEAR, clear.max() - DOUBT) else float("inf")


def fovea_away(point: tuple[float, float] | None, box: tuple[int, int, int, int]) -> Reason | None:
    """Why a picture does not show the macula, by the fovea that a network found at (x, y), or did not find (None).

    `box`: (x0, y0, x1, y1) of the field, in the same pixels. None where the picture shows it.
    """
    if point is None:
        return Reason("The macula is not in the field: the fovea was not found.")
    x0, y0, x1, y1 = box
    from_middle = float(np.hypot(point[0] - (x0 + x1 - 1) / 2, point[1] - (y0 + y1 - 1) / 2))
    return MACULA.reason({MACULA.measure: 2 * from_middle / max(x1 - x0, y1 - y0)})


def _line(side: int) -> NDArray[np.float32]:
    """Of each row or column how far it is from the middle, in field radii."""
    return np.asarray((np.arange(side, dtype=np.float32) - (side - 1) / 2) / RADIUS)


def _from_middle(side: int) -> NDArray[np.float32]:
    line = _line(side)
    return np.hypot(line, line[:, None])


def _around(values: NDArray[Any], field: NDArray[Any], radii: float) -> NDArray[Any]:
    """The mean of what is in the field, by a Gaussian of so many radii."""
    weighted = _blurred(cv2.merge((values * field, field)), radii * RADIUS)
    return np.asarray(weighted[..., 0] / np.maximum(weighted[..., 1], 0.05))


def _standard(values: NDArray[Any], field: NDArray[Any]) -> NDArray[Any]:
    """In standard deviations of the field from its mean; 0 outside."""
    mean, deviation = (float(each[0, 0]) for each in cv2.meanStdDev(values, mask=field.astype(np.uint8)))
    return np.asarray((values - mean) / max(deviation, 1e-6) * field, np.float32)


def _blurred(values: NDArray[Any], sigma: float) -> NDArray[Any]:
    """By a Gaussian; a wide one on a copy of half the size."""
    if sigma < WIDE:
        return np.asarray(cv2.GaussianBlur(values, (0, 0), sigma))
    height, width = values.shape[:2]
    half = cv2.resize(values, (width // 2, height // 2), interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.resize(cv2.GaussianBlur(half, (0, 0), sigma / 2), (width, height)))


def _moved(values: NDArray[Any], x: float, y: float) -> NDArray[Any]:
    """What lies so many radii to the right and below of each place; 0 outside."""
    shift = np.array([[1, 0, -round(x * RADIUS)], [0, 1, -round(y * RADIUS)]], np.float32)
    return np.asarray(cv2.warpAffine(values, shift, values.shape[::-1]))
