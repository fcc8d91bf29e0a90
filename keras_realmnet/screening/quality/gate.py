"""The gate: measures held against limits. Another kind of picture first, then what the right kind shows."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from keras_realmnet.screening.image_io import ImageSource
from keras_realmnet.screening.quality.content import content_limits, content_reasons
from keras_realmnet.screening.quality.kind import ASPECT, MODALITIES, kind_limits, kind_reasons
from keras_realmnet.screening.quality.macula import MACULA, macula_distance
from keras_realmnet.screening.quality.measures import Seen, look, measure
from keras_realmnet.screening.quality.verdict import Quality

__all__ = ["Measured", "assess", "gate_facts", "margin", "measured"]

VERSION = 2  # raise it where what is measured, or judged by no `Limit`, changes: figures of before are then told as old


@dataclass(frozen=True)
class Measured:
    """A picture as it was measured, once for all who judge it.

    measures: by name:

    - of the file: `width`, `height`, `aspect`;
    - over the illuminated field: `brightness` (0-255), `saturation` (0-1), `green_ratio` (green / red), `blue_ratio`
      (blue / green), and the shares `greener` (more green than red), `bluer` (more blue than red), `white`,
      `overexposed`;
    - of its shape: `corners` (share of the frame's corners that is lit), `visible` (share of the frame's inscribed
      ellipse that is), `roundness` (overlap with a circle), `uncovered` (share of that ellipse that is retina, without
      lids, lashes and the device's border), `circle` (the same, of the smallest circle around the field);
    - of the vessels: `sharpness` (how steep their edges are: fine / coarse detail across them), `vessel_contrast` (per
      mille of the brightness around them);
    - where "macula" is needed: `macula_distance` (of the fovea from the field's middle, in field radii);
    - in cells of the field: the shares `dark`, `glare` (over-exposed), `flat` (without contrast) and `readable` (none
      of these); `readable`, `brightness` and `contrast` (per mille) also by zone, as `contrast_upper_left`.
    """

    seen: Seen
    source: ImageSource | None
    measures: Mapping[str, float]

    def quality(self, modality: str, needs: Collection[str] = ()) -> Quality:
        """The verdict on the picture as one of `modality`, one of MODALITIES, else ValueError.

        `needs`: what the task must see, see `Task.needs`; it is looked for in a picture that is gradable otherwise.
        """
        if modality not in MODALITIES:
            raise ValueError(f"`modality` must be one of {', '.join(MODALITIES)}. Received: {modality!r}")
        measures = dict(self.measures)
        reasons = kind_reasons(measures, self.source, modality)
        if reasons:
            return Quality.of("not_analysed", reasons, measures)
        reasons = content_reasons(measures, modality)
        if not reasons and "macula" in needs:
            measures["macula_distance"] = macula_distance(self.seen.red, self.seen.green, self.seen.field)
            away = MACULA.reason(measures)
            reasons = [] if away is None else [away]
        return Quality.of("insufficient" if reasons else "gradable", reasons, measures)

    def kinds(self, modalities: Iterable[str]) -> tuple[str, ...]:
        """Those of the modalities whose kind of picture it is, good or poor: `quality` does not refuse it there."""
        return tuple(each for each in modalities if not kind_reasons(self.measures, self.source, each))


def measured(image: NDArray[np.uint8], source: ImageSource | None) -> Measured:
    """Measures a uint8 RGB picture of shape (h, w, 3); `source` adds what the file says about itself."""
    seen = look(image, source)
    return Measured(seen, source, measure(seen))


def assess(image: NDArray[np.uint8], source: ImageSource | None, modality: str, needs: Collection[str] = ()) -> Quality:
    """`measured` and `Measured.quality` of a picture that is judged once."""
    return measured(image, source).quality(modality, needs)


def margin(measures: Mapping[str, float], modality: str) -> float:
    """By what part of its limit the measure that is nearest to it, or furthest beyond (negative), is on the good side.

    Of what a picture of the right kind shows, its proportions, and where the macula is if that was measured.
    """
    limits = [*content_limits(modality), *ASPECT]
    limits += [MACULA] if MACULA.measure in measures else []
    return min(limit.margin(measures) for limit in limits)


def gate_facts(modality: str, needs: Collection[str] = ()) -> dict[str, Any]:
    """What verdicts follow from beside the picture, JSON-safe: "version", and "limits" as (measure, bound, limit)."""
    limits = [*kind_limits(modality), *content_limits(modality), *([MACULA] if "macula" in needs else [])]
    return {"version": VERSION, "limits": [[each.measure, each.bound, each.limit] for each in limits]}
