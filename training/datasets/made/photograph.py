"""Colour photographs drawn here, with exact landmarks, lesions and grades, as a data set."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import ClassVar

import numpy as np

from keras_realmnet.arguments import check as check_arguments
from keras_realmnet.arguments import count, one_of
from keras_realmnet.screening.preprocessing import PreprocessSpec, preprocess
from keras_realmnet.tasks.outputs import Labels, Output
from keras_realmnet.tasks.rules import NoReferral
from keras_realmnet.tasks.task import Task
from training.data.files.points import INVISIBLE
from training.data.glaucoma.findings import FINDINGS as VOCABULARY
from training.data.lesions.vocabulary import GRADES, lesion_masks, measures_of
from training.datasets.image_set import ImageSet
from training.datasets.landmarks import DISC_MASK, LANDMARK_POINTS
from training.datasets.made.eyes import drawn_eyes
from training.datasets.made.phantom import drawing_code_hash
from training.datasets.prepared import Prepared, mask_in_square, points_in_square
from training.phantoms.borders import ellipses_around
from training.phantoms.photograph import ColourPhantom, render_photograph

__all__ = ["PhotographDataSet"]

LANDMARKS, DISC, LESIONS, GRADE, FINDINGS = "landmarks", "disc", "lesions", "grade", "findings"  # outputs
DRAWN = ("MA", "HE", "EX", "SE", "PHE", "NV")
_FIELDS = {
    **dict.fromkeys(("train_eyes", "validation_eyes", "test_eyes", "seed"), count(0)),
    "width": count(64),
    "borders": one_of("exact", "ellipses"),
}


@dataclass(frozen=True)
class PhotographDataSet:
    """Synthetic colour photographs, one of each eye.

    `outputs`: what is known of them, some of

    - "landmarks": where fovea and disc lie; a point that the field does not show is not visible.
    - "disc": the mask of the disc.
    - "lesions": masks of the lesions of diabetic retinopathy; which ones `lesions` says. `borders`: "exact", or
      "ellipses", wider ones around one or several of them (`training.phantoms.borders`).
    - "grade": the grade that the lesions in the field make it (`training.phantoms.grading`).
    - "findings": labels, fifteen of them (`training.data.glaucoma.findings`), of which the drawings know six: HE, EX,
      SE, VESSEL where there are new ones, RNFLD where nerve fibres are missing, and GDISC, a large cup, which is not
      known where the field does not show the disc. Half of these eyes have glaucoma.

    With either of the last three the eyes have no myopia, and every grade from 0 to 4 is drawn equally often. The three
    splits have eyes of their own; one may be empty.
    """

    kind: ClassVar[str] = "drawn_photograph"

    train_eyes: int = 600
    validation_eyes: int = 60
    test_eyes: int = 60
    width: int = 384  # px, of the drawn picture, before preprocessing
    seed: int = 2027
    outputs: tuple[str, ...] = (LANDMARKS, DISC)
    lesions: tuple[str, ...] = ("MA", "HE", "EX", "SE")
    borders: str = "exact"

    def __post_init__(self) -> None:
        check_arguments("drawn photographs", _FIELDS, {name: getattr(self, name) for name in _FIELDS})
        for name, known in (("outputs", (LANDMARKS, DISC, LESIONS, GRADE, FINDINGS)), ("lesions", DRAWN)):
            values = tuple(getattr(self, name))  # JSON has lists
            object.__setattr__(self, name, values)
            if not values or not set(values) <= set(known) or len(set(values)) < len(values):
                raise ValueError(f"{name} must be some of {', '.join(known)}, each once. Received: {values!r}")

    @property
    def task(self) -> Task:
        found: dict[str, Output] = {
            LANDMARKS: LANDMARK_POINTS,
            DISC: DISC_MASK,
            LESIONS: lesion_masks(self.lesions),
            GRADE: GRADES,
            FINDINGS: Labels(VOCABULARY),
        }
        name = "lesions" if self.has_retinopathy else "fundus"
        measures = measures_of(lesion_masks(self.lesions)) if LESIONS in self.outputs else ()
        return Task(name, "colour_fundus", {each: found[each] for each in self.outputs}, NoReferral(), measures)

    @property
    def has_retinopathy(self) -> bool:
        """Whether any is drawn."""
        return bool({LESIONS, GRADE, FINDINGS} & set(self.outputs))

    def describe(self) -> str:
        return f"{self.train_eyes} colour photographs drawn by the program, {self.width} px wide, seed {self.seed}"

    def load(self, split: str, spec: PreprocessSpec, cache: Path) -> ImageSet | None:
        render = partial(_render, data=self, spec=spec)
        return drawn_eyes(self, split, spec, cache, title="photograph", code=drawing_code_hash(), render=render)


def _render(seed: tuple[int, ...], data: PhotographDataSet, spec: PreprocessSpec) -> Prepared:
    if data.has_retinopathy:
        grade = seed[-1] % len(GRADES.labels)
        glaucoma = seed[-1] // len(GRADES.labels) % 2 == 1 if FINDINGS in data.outputs else None
        drawn = render_photograph(seed, width=data.width, label="N", retinopathy=grade, glaucoma=glaucoma)
    else:
        drawn = render_photograph(seed, width=data.width)
    pixels, geometry = preprocess(drawn.image, spec)
    masks, made = {}, {}
    if DISC in data.outputs:
        masks[DISC] = mask_in_square(drawn.disc_mask, geometry)
    if LESIONS in data.outputs:
        masks[LESIONS] = mask_in_square(_lesions(drawn, data, seed), geometry)
    if GRADE in data.outputs:
        made[GRADE] = (np.arange(len(GRADES.labels)) == drawn.grade).astype(np.float32)
    if FINDINGS in data.outputs:
        made[FINDINGS] = _findings(drawn)
    if LANDMARKS in data.outputs:
        points = [(*point, 1.0) if drawn.shows(point) else INVISIBLE for point in (drawn.fovea, drawn.disc_centre)]
        place = Prepared(pixels, geometry).place
        (made[LANDMARKS],) = points_in_square(np.array([points]), place[None], spec.size)
    return Prepared(pixels, geometry, masks=masks, made=made)


def _findings(drawn: ColourPhantom) -> np.ndarray:
    """float32 (15,): 1 there, 0 not there, NaN not known."""
    assert drawn.defect_mask is not None
    masks = {"RNFLD": drawn.defect_mask, "VESSEL": drawn.lesions["NV"]}
    masks |= {code: drawn.lesions[code] for code in ("HE", "EX", "SE")}
    known = {code: float(mask.any()) for code, mask in masks.items()}
    if drawn.shows(drawn.disc_centre):
        known["GDISC"] = float(bool(drawn.glaucoma))
    return np.array([known.get(code, np.nan) for code in VOCABULARY.codes], np.float32)


def _lesions(drawn: ColourPhantom, data: PhotographDataSet, seed: Sequence[int]) -> np.ndarray:
    """uint8 (h, w, lesions)."""
    masks = [drawn.lesions[code] for code in data.lesions]
    if data.borders == "ellipses":
        rng = np.random.default_rng([*seed, 1])
        masks = [ellipses_around(mask, rng) & drawn.field_mask for mask in masks]
    return np.stack(masks, axis=-1).astype(np.uint8)
