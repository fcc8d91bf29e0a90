"""Does a picture of the right kind show enough to be screened? Else it is of insufficient quality."""

from collections.abc import Mapping

from keras_realmnet.screening.quality.measures import ZONES
from keras_realmnet.screening.quality.verdict import Limit, Reason

__all__ = ["content_limits", "content_reasons"]

BRIGHTNESS = Limit(  # at least 46 in phantoms and UWF, 41 in PALM; 4 in the dark sample
    "brightness", "at least", 28.0, "Too dark: mean brightness {value:.0f} of 255 (at least {limit:.0f})."
)
COMMON = (
    Limit(  # at most 0.02 in all of them but HEI-MED: 0.145
        "overexposed", "at most", 0.15, "Over-exposed: {value:.0%} of the field (at most {limit:.0%})."
    ),
    Limit(  # at least 0.55 in those photographs (beside large atrophies), 0.93 in real ultra-widefield pictures
        "uncovered",
        "at least",
        0.45,
        "Too little of the retina is visible (lid, lashes or shadow): {value:.0%} of the field (at least {limit:.0%}).",
    ),
    Limit(  # at least 0.63 in those photographs, 0.80 in real ultra-widefield pictures
        "readable",
        "at least",
        0.5,
        "Exposure and contrast: {value:.0%} of the field can be read (at least {limit:.0%}); {dark:.0%} are too dark, "
        "{glare:.0%} over-exposed, {flat:.0%} without contrast, most of it in {zone}.",
    ),
    Limit(  # at least 17 in those photographs, 14 in AV-WIDE
        "vessel_contrast",
        "at least",
        8.0,
        "Veiled or empty: contrast of the vessels {value:.0f} per mille (at least {limit:.0f}).",
    ),
)
# At least 0.45 in 1,326 photographs of nine collections but for one that is out of focus (0.42), 0.38 in seven whole
# ultra-widefield pictures from the web, 0.64 in those of AV-WIDE; 0.36 to 0.43 once blurred by 1 % of the width.
FOCUS = "Out of focus: sharpness of the vessels {value:.2f} (at least {limit})."
SHARPNESS = {
    "uwf_red_green": Limit("sharpness", "at least", 0.37, FOCUS),
    "colour_fundus": Limit("sharpness", "at least", 0.43, FOCUS),
}
# The field of a fundus camera is round: what is cut off shows. At least 0.58 in those photographs.
CIRCLE = Limit(
    "circle",
    "at least",
    0.5,
    "A part of the round field is cut off or hidden: {value:.0%} are left (at least {limit:.0%}).",
)


def content_limits(modality: str) -> tuple[Limit, ...]:
    """All that a picture of a modality must keep."""
    return (BRIGHTNESS, *COMMON, SHARPNESS[modality], *((CIRCLE,) if modality == "colour_fundus" else ()))


def content_reasons(measures: Mapping[str, float], modality: str) -> list[Reason]:
    too_dark = BRIGHTNESS.reason(measures)
    if too_dark is not None:  # and nothing else can be judged
        return [too_dark]
    zone = min(ZONES, key=lambda each: measures[f"readable_{each}"])
    reasons = (limit.reason(measures, zone=f"the {zone.replace('_', ' ')}") for limit in content_limits(modality))
    return [each for each in reasons if each is not None]
