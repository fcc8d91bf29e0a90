"""Colour photographs drawn here, with what simulated annotators say of them, as a data set."""

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import ClassVar

import numpy as np

from keras_realmnet.arguments import check as check_arguments
from keras_realmnet.arguments import count, one_of
from keras_realmnet.screening.preprocessing import PreprocessSpec, preprocess
from keras_realmnet.tasks.task import CLASS_MAPS, PROBABILITIES, Task
from training.data.annotations.records import Picture
from training.data.annotations.simulated import simulated_marks
from training.data.files.once import code_hash
from training.data.lesions.vocabulary import GRADES, LESIONS
from training.datasets.found.annotated import labels_of, task_of_finding
from training.datasets.image_set import ImageSet
from training.datasets.made.eyes import drawn_eyes
from training.datasets.made.phantom import drawing_code_hash
from training.datasets.made.photograph import DRAWN
from training.datasets.prepared import Prepared, mask_in_square
from training.phantoms.photograph import render_photograph

__all__ = ["DrawnAnnotatedDataSet"]

ANNOTATIONS = Path(__file__).parents[2] / "data" / "annotations"
_FIELDS = {
    **dict.fromkeys(("train_eyes", "validation_eyes", "test_eyes", "seed"), count(0)),
    "width": count(64),
    "finding": one_of(*DRAWN),
}


@dataclass(frozen=True)
class DrawnAnnotatedDataSet:
    """Synthetic colour photographs, one of each eye, asked for one lesion of diabetic retinopathy.

    `finding`: "EX" lies in the macula, wherever else it is, too; "HE" and "MA" are spread over all regions; others are
    rarer. `regions`: as in `AnnotatedDataSet`.

    Every grade from 0 to 4 is drawn equally often. Three annotators mark the regions in which they see the lesion
    (`training.data.annotations.simulated`): they overlook what is small, so that some labels are not known. The three
    splits have eyes of their own; one may be empty.
    """

    kind: ClassVar[str] = "drawn_annotated"

    finding: str = "EX"
    regions: bool = True
    train_eyes: int = 600
    validation_eyes: int = 100
    test_eyes: int = 300
    width: int = 384  # px, of the drawn picture, before preprocessing
    seed: int = 2028

    def __post_init__(self) -> None:
        check_arguments("drawn photographs", _FIELDS, {name: getattr(self, name) for name in _FIELDS})

    @property
    def task(self) -> Task:
        return task_of_finding(LESIONS[self.finding], self.regions)

    def describe(self) -> str:
        name = LESIONS[self.finding].name.lower()
        return (
            f"{self.train_eyes} colour photographs drawn by the program, {self.width} px wide, seed {self.seed}, in "
            f"which simulated annotators saw {name}"
        )

    def load(self, split: str, spec: PreprocessSpec, cache: Path) -> ImageSet | None:
        render = partial(_render, data=self, spec=spec)
        code = [drawing_code_hash(), code_hash(ANNOTATIONS)]
        return drawn_eyes(self, split, spec, cache, title="drawn-annotated", code=code, render=render)


def _render(seed: tuple[int, ...], data: DrawnAnnotatedDataSet, spec: PreprocessSpec) -> Prepared:
    drawn = render_photograph(seed, width=data.width, label="N", retinopathy=seed[-1] % len(GRADES.labels))
    eye = drawn.disc_centre, drawn.fovea
    mask = drawn.lesions[data.finding].astype(np.bool_)
    marks = simulated_marks(mask, drawn.field_mask, eye, np.random.default_rng([*seed, 2]))
    picture = Picture("drawn", {who: {data.finding: regions} for who, regions in marks.items()}, *eye)
    pixels, geometry = preprocess(drawn.image, spec)
    height, width = drawn.field_mask.shape
    masks = {}
    if data.regions:
        masks[CLASS_MAPS] = mask_in_square(picture.mask(data.finding, (width, height)), geometry)
    return Prepared(pixels, geometry, masks=masks, made={PROBABILITIES: labels_of([picture], data.finding)[0]})
