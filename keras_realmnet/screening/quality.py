"""Is this the kind of picture the model was trained on, and does it show enough to be screened?

Two questions, in this order. Another kind of picture is "not_analysed" (an angiogram, an infrared or a camera picture
where a red/green ultra-widefield one is expected); the right kind that shows too little is "insufficient". Neither is
ever a negative result. The thresholds separate the pictures named beside them; they were not set on patients of a
clinic, and no reader study stands behind them.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from keras_realmnet.screening.image_io import ImageSource
from keras_realmnet.screening.preprocessing import find_field

__all__ = ["MODALITIES", "MODALITY_NAMES", "Quality", "Verdict", "assess", "fitting"]

MODALITY_NAMES = {  # what a model was trained for, and how people call one such picture
    "uwf_red_green": "red/green ultra-widefield picture",
    "colour_fundus": "colour fundus photograph",
}
MODALITIES = tuple(MODALITY_NAMES)

Verdict = Literal["gradable", "insufficient", "not_analysed"]

REDUCED_SIZE = 512  # px, long side of the copy everything is measured on
FIELD_THRESHOLD = 16  # of 255: brighter is the illuminated field (as `PreprocessSpec.field_threshold`)
MIN_SIDE = 200  # px: below, neither the model nor a reader sees myopic lesions

# The kind of picture. "Phantoms" are 240 synthetic ultra-widefield pictures 320 px wide, and the shipped samples.
# Saturation: 0 in angiograms, autofluorescence and infrared; 0.31 in the palest of 599 PALM pictures, 0.84 in UWF.
MIN_SATURATION = 0.15
# Blue / green, means over the field: at most 0.19 in phantoms, 0.20 in seven real UWF pictures (0.20 a screenshot);
# above 0.22 in 582 of 599 PALM pictures, 29 of 49 of Rahim et al., 6 of 20 of IDRiD, all HRF.
MAX_UWF_BLUE_RATIO = 0.22
# Overlap (intersection over union) of the field with a circle: the round, narrow field of a fundus camera. At least
# 0.985 in the camera pictures with little blue; at most 0.981 in phantoms, 0.95 in whole real UWF pictures.
MIN_ROUNDNESS = 0.982
# A camera picture is red: green exceeds red in no more than 1 % of its pixels when it has little blue.
MAX_CAMERA_GREENER = 0.05
# A red picture that is a little less round is a camera's, too, if its corners are black (nine pictures of IDRiD, whose
# circle is cut off above and below: overlap from 0.970, visible to 0.88; red phantoms and real UWF pictures that round
# show 0.92 and more) or it has some blue (0.198 in one of DRISHTI-GS; to 0.171 in such phantoms, 0.011 in real ones).
MIN_CUT_ROUNDNESS, MAX_CUT_VISIBLE, MAX_CUT_BLUE_RATIO = 0.966, 0.9, 0.185
# Green / red, means over the field: two lasers give 0.35 to 1.84 in phantoms, 0.56 to 1.17 in real UWF pictures.
UWF_GREEN_RATIO = (0.2, 3.0)
# The same in camera pictures: 0.28 to 0.93 in PALM, IDRiD, HRF, DRISHTI and those of Rahim et al.
CAMERA_GREEN_RATIO = (0.15, 1.05)
MIN_LIGHT = 10.0  # of 255, mean over the field: darker pictures have no colour to judge; they are too dark anyway
ASPECT = (0.6, 2.0)  # width / height: 1.0 to 1.51 in exports of all these devices

# What it shows.
MIN_BRIGHTNESS = 28.0  # of 255, mean over the field: at least 46 in phantoms and UWF, 41 in PALM; 4 in the dark sample
MAX_OVEREXPOSED = 0.15  # share of the field where red and green both are above 244: at most 0.02 in all of them
# Fine detail (1.4 to 2.8 px) against coarse (2.8 to 5.6 px): at least 0.59 in real UWF, 0.44 in PALM (1 % below
# 0.52); 0.33 to 0.45 in both once blurred by a Gaussian of 1 % of the width.
MIN_SHARPNESS = 0.45
MIN_FINE_CONTRAST = 1.5  # per mille of brightness at 0.7 to 1.4 px: a veiled or empty picture has less
# Share of the ellipse inscribed in the whole frame that is illuminated: at least 0.74 in phantoms and real pictures.
MIN_VISIBLE = 0.45

# Words of ImageType and SeriesDescription that name another kind of picture (in any case).
OTHER_KINDS = {
    "fluorescein angiogram": {"FA", "FFA", "FAG", "FLUORESCEIN", "ANGIO", "ANGIOGRAPHY"},
    "autofluorescence": {"AF", "FAF", "BAF", "GAF", "AUTOFLUORESCENCE"},
    "indocyanine green angiogram": {"ICG", "ICGA", "INDOCYANINE"},
    "infrared": {"IR", "NIR", "INFRARED"},
    "red-free": {"REDFREE"},
    "anterior segment": {"ANTERIOR", "CORNEA", "SLITLAMP"},
}
SINGLE_CHANNELS = {"RED", "GREEN", "BLUE"}  # as a value of ImageType: one channel alone
# The only maker of red/green two-laser cameras. It writes "OPTOS", in any case and with or without "plc".
UWF_MANUFACTURER = "OPTOS"
# Ophthalmic and external-camera photography, other, secondary capture.
PHOTOGRAPHIC_MODALITIES = {"OP", "XC", "OT", "SC"}


@dataclass(frozen=True)
class Quality:
    """`verdict`; `reasons` for a clinician (empty when gradable); `measures` by name, as far as they were taken."""

    verdict: Verdict
    reasons: tuple[str, ...] = ()
    measures: dict[str, float] = field(default_factory=dict)


def assess(image: NDArray[np.uint8], source: ImageSource | None, modality: str) -> Quality:
    """Judges a uint8 RGB picture of shape (h, w, 3); `source` adds what the file says about itself.

    `modality`: one of MODALITIES, else ValueError. Measures: `width`, `height`, `aspect`; over the illuminated field
    `brightness` (0-255), `saturation` (0-1), `green_ratio` (green / red), `blue_ratio` (blue / green), `greener`
    (share with more green than red), `overexposed` (share); `visible` (share of the frame's inscribed ellipse),
    `roundness` (overlap with a circle), `sharpness` (fine / coarse detail) and `fine_contrast` (per mille).
    """
    if modality not in MODALITIES:
        raise ValueError(f"`modality` must be one of {', '.join(MODALITIES)}. Received: {modality!r}")
    return _judge(_measure(image, source), source, modality)


def fitting(image: NDArray[np.uint8], source: ImageSource | None, modalities: Iterable[str]) -> tuple[str, ...]:
    """Those of the modalities whose kind of picture it is, good or poor: `assess` does not refuse it there."""
    measures = _measure(image, source)
    return tuple(each for each in modalities if _judge(measures, source, each).verdict != "not_analysed")


def _judge(measures: dict[str, float], source: ImageSource | None, modality: str) -> Quality:
    reasons = _file_reasons(source, modality)
    if measures["brightness"] >= MIN_LIGHT:
        reasons += _kind_reasons(measures, modality)
    reasons += _size_reasons(measures)
    if reasons:
        return Quality("not_analysed", tuple(reasons), measures)
    reasons = _content_reasons(measures)
    return Quality("insufficient" if reasons else "gradable", tuple(reasons), measures)


def _file_reasons(source: ImageSource | None, modality: str) -> list[str]:
    if source is None:
        return []
    reasons = []
    if source.modality is not None and source.modality.upper() not in PHOTOGRAPHIC_MODALITIES:
        reasons.append(f"The file is of modality {source.modality}, not an ophthalmic photograph (OP).")
    made_by = source.manufacturer
    if modality == "uwf_red_green" and made_by is not None and UWF_MANUFACTURER not in made_by.upper():
        reasons.append(f"A picture by {made_by}; the model knows red/green ultra-widefield pictures by Optos.")
    values = [value.upper() for value in source.image_type or ()]
    words = set(re.findall("[A-Z]+", " ".join([*values, (source.series_description or "").upper()])))
    for kind, names in OTHER_KINDS.items():
        if words & names:
            reasons.append(f"The file calls itself {kind} ({', '.join(sorted(words & names))}).")
    channels = SINGLE_CHANNELS.intersection(values)
    if len(channels) == 1:
        reasons.append(f"The file holds the {channels.pop().lower()} channel alone.")
    return reasons


def _kind_reasons(measures: dict[str, float], modality: str) -> list[str]:
    saturation, blue, green = (measures[name] for name in ("saturation", "blue_ratio", "green_ratio"))
    if saturation < MIN_SATURATION:
        return [
            "A grey picture (angiogram, autofluorescence, infrared or single channel), not a colour one: "
            f"saturation {saturation:.2f} (at least {MIN_SATURATION})."
        ]
    cut = measures["visible"] <= MAX_CUT_VISIBLE or blue > MAX_CUT_BLUE_RATIO
    is_round = measures["roundness"] >= (MIN_CUT_ROUNDNESS if cut else MIN_ROUNDNESS)
    round_field = is_round and measures["greener"] < MAX_CAMERA_GREENER
    two_lasers = blue <= MAX_UWF_BLUE_RATIO and not round_field
    if modality == "uwf_red_green":
        if blue > MAX_UWF_BLUE_RATIO:
            return [
                f"Not a red/green ultra-widefield picture: blue is {blue:.2f} of green (at most {MAX_UWF_BLUE_RATIO})."
            ]
        if round_field:
            return [
                "The round field of a fundus camera, not an ultra-widefield one: "
                f"{measures['roundness']:.1%} of it fill a circle."
            ]
        if not UWF_GREEN_RATIO[0] <= green <= UWF_GREEN_RATIO[1]:
            return [
                f"One colour channel alone: green is {green:.2f} of red "
                f"({UWF_GREEN_RATIO[0]} to {UWF_GREEN_RATIO[1]} in red/green pictures)."
            ]
    else:
        if two_lasers:
            return [
                "A red/green laser picture, not a colour fundus photograph: "
                f"blue is {blue:.2f} of green and the field is not round."
            ]
        if not CAMERA_GREEN_RATIO[0] <= green <= CAMERA_GREEN_RATIO[1] or blue > 1:
            return [
                f"Not the colours of a fundus photograph: green is {green:.2f} of red, blue {blue:.2f} of green "
                f"({CAMERA_GREEN_RATIO[0]} to {CAMERA_GREEN_RATIO[1]} and at most 1 are usual)."
            ]
    return []


def _size_reasons(measures: dict[str, float]) -> list[str]:
    reasons = []
    width, height, aspect = measures["width"], measures["height"], measures["aspect"]
    if min(width, height) < MIN_SIDE:
        reasons.append(f"Too small: {width:.0f} x {height:.0f} pixels (at least {MIN_SIDE} on each side).")
    if not ASPECT[0] <= aspect <= ASPECT[1]:
        reasons.append(
            f"A strip or a cut-out: width is {aspect:.2f} of height ({ASPECT[0]} to {ASPECT[1]} is expected)."
        )
    return reasons


def _content_reasons(measures: dict[str, float]) -> list[str]:
    if measures["brightness"] < MIN_BRIGHTNESS:  # and nothing else can be judged
        return [f"Too dark: mean brightness {measures['brightness']:.0f} of 255 (at least {MIN_BRIGHTNESS:.0f})."]
    reasons = []
    if measures["overexposed"] > MAX_OVEREXPOSED:
        reasons.append(f"Over-exposed: {measures['overexposed']:.0%} of the field (at most {MAX_OVEREXPOSED:.0%}).")
    if measures["visible"] < MIN_VISIBLE:
        reasons.append(
            "Too little of the retina is visible (lid, lashes or shadow): "
            f"{measures['visible']:.0%} of the field (at least {MIN_VISIBLE:.0%})."
        )
    if measures["sharpness"] < MIN_SHARPNESS:
        reasons.append(f"Out of focus: sharpness {measures['sharpness']:.2f} (at least {MIN_SHARPNESS}).")
    elif measures["fine_contrast"] < MIN_FINE_CONTRAST:
        reasons.append(
            f"Veiled or empty: fine contrast {measures['fine_contrast']:.1f} per mille (at least {MIN_FINE_CONTRAST})."
        )
    return reasons


def _measure(image: NDArray[np.uint8], source: ImageSource | None) -> dict[str, float]:
    height, width = image.shape[:2] if source is None else source.size[::-1]  # `image` may be decoded at half its size
    small = _reduced(image)
    x0, y0, x1, y1 = find_field(small, FIELD_THRESHOLD)
    red, green, blue = cv2.split(small)
    top = cv2.max(cv2.max(red, green), blue)
    low = cv2.min(cv2.min(red, green), blue)
    lit = cv2.threshold(top, FIELD_THRESHOLD, 255, cv2.THRESH_BINARY)[1]
    crop = lit[y0:y1, x0:x1]
    inside = np.zeros_like(lit)
    inside[y0:y1, x0:x1] = crop if crop.mean() > 0.01 * 255 else 255  # all black: measure the darkness

    def mean(values: NDArray[Any]) -> float:
        return float(cv2.mean(values, inside)[0])

    sharpness, fine_contrast = _detail(green, inside)
    return {
        "width": float(width),
        "height": float(height),
        "aspect": width / height,
        "brightness": mean(top),
        "saturation": mean(cv2.divide(cv2.subtract(top, low), np.maximum(top, 1), dtype=cv2.CV_32F)),
        "green_ratio": mean(green) / max(mean(red), 1.0),
        "blue_ratio": mean(blue) / max(mean(green), 1.0),
        "greener": mean(cv2.compare(green, red, cv2.CMP_GT)) / 255,
        "overexposed": mean(cv2.threshold(cv2.min(red, green), 244, 255, cv2.THRESH_BINARY)[1]) / 255,
        "visible": float(cv2.mean(lit, _ellipse(lit.shape, 1.0))[0]) / 255,
        "roundness": _roundness(crop),
        "sharpness": sharpness,
        "fine_contrast": fine_contrast,
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


def _detail(green: NDArray[Any], inside: NDArray[Any]) -> tuple[float, float]:
    """Sharpness (fine / coarse) and fine contrast, from the octaves of a Laplacian pyramid away from the rim."""
    core = cv2.erode(inside, np.ones((9, 9), np.uint8), borderType=cv2.BORDER_CONSTANT, borderValue=0)
    levels = [cv2.GaussianBlur(green.astype(np.float32), (0, 0), 0.7)]
    for sigma in (0.7, 1.4, 2.8):  # to 1.4, 2.8, 5.6 in all: variances add up
        levels.append(cv2.GaussianBlur(levels[-1], (0, 0), 3**0.5 * sigma))
    around = levels[-1] + 10
    fine, middle, coarse = (
        float(cv2.mean(cv2.divide(cv2.absdiff(upper, lower), around), core)[0]) for upper, lower in pairwise(levels)
    )
    return middle / max(coarse, 1e-6), fine * 1000
