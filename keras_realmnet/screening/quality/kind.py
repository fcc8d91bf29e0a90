"""Is it the kind of picture that the model was trained on? Else it is not analysed: an angiogram, an infrared or a
camera picture where a red/green ultra-widefield one is expected, an ordinary photograph, a document."""

import re
from collections.abc import Iterator, Mapping

from keras_realmnet.screening.image_io import ImageSource
from keras_realmnet.screening.quality.verdict import Limit, Reason, Shortfall

__all__ = ["ASPECT", "MODALITIES", "MODALITY_NAMES", "kind_limits", "kind_reasons"]

MODALITY_NAMES = {  # what a model was trained for, and how people call one such picture
    "uwf_red_green": "red/green ultra-widefield picture",
    "colour_fundus": "colour fundus photograph",
}
MODALITIES = tuple(MODALITY_NAMES)

MIN_SIDE = 200  # px: below, neither the model nor a reader sees myopic lesions
MIN_LIGHT = 10.0  # of 255, mean over the field: darker pictures have no colour to judge; they are too dark anyway

# "Phantoms" are 240 synthetic ultra-widefield pictures 320 px wide, and the shipped samples.
# Saturation: 0 in angiograms, autofluorescence and infrared; 0.31 in the palest of 599 PALM pictures, 0.84 in UWF.
MIN_SATURATION = 0.15
# Of a grey picture, white: paper; at most 0.06 of a picture of HEI-MED, the whitest photographs of retina.
MAX_GREY_WHITE = 0.5
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
MAX_CAMERA_BLUE_RATIO = 1.0

# What both kinds have in common. Bluer: at most 0.19 in 1,326 photographs of nine collections, 0.02 in UWF pictures;
# half or more in most ordinary photographs and figures. White: at most 0.06 in all of them.
COMMON = (
    Limit(
        "white",
        "at most",
        0.5,
        "A document, a drawing or a screenshot: {value:.0%} of it are white (at most {limit:.0%}).",
    ),
    Limit(
        "bluer",
        "at most",
        0.25,
        "An ordinary photograph or a screenshot: blue exceeds red in {value:.0%} of it (at most {limit:.0%}).",
    ),
)
# The corners of a fundus camera's pictures are dark, in all of these photographs; other pictures' are not.
CORNERS = Limit(
    "corners",
    "at most",
    0.5,
    "No dark surround as a fundus camera's (an ordinary photograph, a document or a cut-out): "
    "{value:.0%} of the frame's corners are lit (at most {limit:.0%}).",
)

STRIP = "A strip or a cut-out: width is {value:.2f} of height (0.6 to 2.0 is expected)."
ASPECT = (  # width / height: 1.0 to 1.51 in exports of all these devices
    Limit("aspect", "at least", 0.6, STRIP),
    Limit("aspect", "at most", 2.0, STRIP),
)

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


def kind_limits(modality: str) -> tuple[Limit, ...]:
    """What every picture of a modality keeps, beside ranges that hold together."""
    return (*COMMON, *ASPECT, *((CORNERS,) if modality == "colour_fundus" else ()))


def kind_reasons(measures: Mapping[str, float], source: ImageSource | None, modality: str) -> list[Reason]:
    """Why a picture is none of its modality; by its file, its colours and shape, and its size."""
    reasons = [] if source is None else [Reason(text) for text in _file_reasons(source, modality)]
    if measures["brightness"] >= MIN_LIGHT:
        found = _grey(measures)
        if found is None:
            found = _no_eye(measures)
        if found is None:
            found = _not_uwf(measures) if modality == "uwf_red_green" else _not_colour_fundus(measures)
        reasons += [] if found is None else [found]
    return [*reasons, *_size_reasons(measures)]


def _beyond(text: str, measure: str, measures: Mapping[str, float], *ends: float) -> Reason:
    """The reason for a measure that is below the lower or above the upper end of its range."""
    value = measures[measure]
    if value < ends[0]:
        return Reason(text, Shortfall(measure, value, "at least", ends[0]))
    return Reason(text, Shortfall(measure, value, "at most", ends[-1]))


def _file_reasons(source: ImageSource, modality: str) -> Iterator[str]:
    if source.modality is not None and source.modality.upper() not in PHOTOGRAPHIC_MODALITIES:
        yield f"The file is of modality {source.modality}, not an ophthalmic photograph (OP)."
    made_by = source.manufacturer
    if modality == "uwf_red_green" and made_by is not None and UWF_MANUFACTURER not in made_by.upper():
        yield f"A picture by {made_by}; the model knows red/green ultra-widefield pictures by Optos."
    values = [value.upper() for value in source.image_type or ()]
    words = set(re.findall("[A-Z]+", " ".join([*values, (source.series_description or "").upper()])))
    for kind, names in OTHER_KINDS.items():
        if words & names:
            yield f"The file calls itself {kind} ({', '.join(sorted(words & names))})."
    channels = SINGLE_CHANNELS.intersection(values)
    if len(channels) == 1:
        yield f"The file holds the {channels.pop().lower()} channel alone."


def _grey(measures: Mapping[str, float]) -> Reason | None:
    saturation, white = measures["saturation"], measures["white"]
    if saturation >= MIN_SATURATION:
        return None
    kind = "A grey picture (angiogram, autofluorescence, infrared or single channel), not a colour one"
    if white > MAX_GREY_WHITE:
        kind = f"A document or a drawing, grey and {white:.0%} white"
    return _beyond(
        f"{kind}: saturation {saturation:.2f} (at least {MIN_SATURATION}).", "saturation", measures, MIN_SATURATION
    )


def _no_eye(measures: Mapping[str, float]) -> Reason | None:
    if measures["green_ratio"] > UWF_GREEN_RATIO[1]:  # no red: one channel alone
        return None
    found = (limit.reason(measures) for limit in COMMON)
    return next((each for each in found if each is not None), None)


def _round_field(measures: Mapping[str, float]) -> bool:
    """Whether it is the field of a fundus camera, by its shape."""
    cut = measures["visible"] <= MAX_CUT_VISIBLE or measures["blue_ratio"] > MAX_CUT_BLUE_RATIO
    is_round = measures["roundness"] >= (MIN_CUT_ROUNDNESS if cut else MIN_ROUNDNESS)
    return is_round and measures["greener"] < MAX_CAMERA_GREENER


def _not_uwf(measures: Mapping[str, float]) -> Reason | None:
    blue, green = measures["blue_ratio"], measures["green_ratio"]
    if blue > MAX_UWF_BLUE_RATIO:
        text = f"Not a red/green ultra-widefield picture: blue is {blue:.2f} of green (at most {MAX_UWF_BLUE_RATIO})."
        return _beyond(text, "blue_ratio", measures, MAX_UWF_BLUE_RATIO)
    if _round_field(measures):
        return Reason(
            "The round field of a fundus camera, not an ultra-widefield one: "
            f"{measures['roundness']:.1%} of it fill a circle."
        )
    if not UWF_GREEN_RATIO[0] <= green <= UWF_GREEN_RATIO[1]:
        text = (
            f"One colour channel alone: green is {green:.2f} of red "
            f"({UWF_GREEN_RATIO[0]} to {UWF_GREEN_RATIO[1]} in red/green pictures)."
        )
        return _beyond(text, "green_ratio", measures, *UWF_GREEN_RATIO)
    return None


def _not_colour_fundus(measures: Mapping[str, float]) -> Reason | None:
    blue, green = measures["blue_ratio"], measures["green_ratio"]
    if blue <= MAX_UWF_BLUE_RATIO and not _round_field(measures):
        return Reason(
            "A red/green laser picture, not a colour fundus photograph: "
            f"blue is {blue:.2f} of green and the field is not round."
        )
    low, high = CAMERA_GREEN_RATIO
    if not low <= green <= high or blue > MAX_CAMERA_BLUE_RATIO:
        text = (
            f"Not the colours of a fundus photograph: green is {green:.2f} of red, blue {blue:.2f} of green "
            f"({low} to {high} and at most {MAX_CAMERA_BLUE_RATIO:g} are usual)."
        )
        if low <= green <= high:
            return _beyond(text, "blue_ratio", measures, MAX_CAMERA_BLUE_RATIO)
        return _beyond(text, "green_ratio", measures, low, high)
    return CORNERS.reason(measures)


def _size_reasons(measures: Mapping[str, float]) -> Iterator[Reason]:
    width, height = measures["width"], measures["height"]
    if min(width, height) < MIN_SIDE:
        text = f"Too small: {width:.0f} x {height:.0f} pixels (at least {MIN_SIDE} on each side)."
        yield _beyond(text, "width" if width <= height else "height", measures, MIN_SIDE)
    for limit in ASPECT:
        strip = limit.reason(measures)
        if strip is not None:
            yield strip
