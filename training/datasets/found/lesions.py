"""Public pictures with masks of the lesions of diabetic retinopathy as a data set."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from keras_realmnet.arguments import check as check_arguments
from keras_realmnet.arguments import count, number, one_of
from keras_realmnet.errors import DataSetError
from keras_realmnet.screening.preprocessing import PreprocessSpec
from keras_realmnet.tasks.outputs import Output
from keras_realmnet.tasks.rules import NoReferral
from keras_realmnet.tasks.task import Task
from training.data.files.notices import noticed, tell
from training.data.lesions.layouts import LAYOUTS
from training.data.lesions.reading import read_lesions
from training.data.lesions.vocabulary import GRADES, check_codes, lesion_masks, measures_of
from training.datasets.cache import cached_files
from training.datasets.data_set import check_split, sets_of
from training.datasets.image_set import ImageSet

__all__ = ["LesionDataSet"]

LESIONS, GRADE = "lesions", "grade"  # outputs
_FIELDS = {"layout": one_of(*LAYOUTS), "held_out": number(0, 1, below=True), "seed": count(0)}


@dataclass(frozen=True)
class LesionDataSet:
    """Photographs with a mask of each lesion, in one of the layouts of `training.data.lesions.layouts`.

    `lesions`: codes of `training.data.lesions.vocabulary.LESIONS`; none: those that the layout marks. What it does not
    mark is unknown everywhere. `grades`: with the grade of each picture, where the layout has grades.

    The sets are the layout's. Where it has none, a share `held_out` of the patients is dealt to validation and test by
    `seed`, half each; 0: all pictures train, which is what cross-validation cuts into folds.
    """

    kind: ClassVar[str] = "lesions"

    folder: str | None = None
    layout: str = "idrid"
    lesions: tuple[str, ...] = ()
    grades: bool = False
    held_out: float = 0.0
    seed: int = 42

    def __post_init__(self) -> None:
        check_arguments("lesion data", _FIELDS, {name: getattr(self, name) for name in _FIELDS})
        layout = LAYOUTS[self.layout]
        object.__setattr__(self, "lesions", tuple(self.lesions) or layout.marks)  # JSON has lists
        check_codes(self.lesions)
        if not set(self.lesions) & set(layout.marks):
            marks = ", ".join(layout.marks)
            raise ValueError(f"the layout {self.layout} marks {marks}. Received: {', '.join(self.lesions)}")
        if self.grades and layout.grades is None:
            with_grades = ", ".join(name for name, each in LAYOUTS.items() if each.grades)
            raise ValueError(f"grades are in the layouts {with_grades}. Received: {self.layout}")
        if self.held_out and layout.has_sets:
            raise ValueError(f"the layout {self.layout} has sets of its own. Received: held_out={self.held_out!r}")

    @property
    def task(self) -> Task:
        masks = lesion_masks(self.lesions)
        outputs: dict[str, Output] = {LESIONS: masks}
        if self.grades:
            outputs[GRADE] = GRADES
        return Task("lesions", "colour_fundus", outputs, NoReferral(), measures_of(masks))

    @property
    def has_sets(self) -> bool:
        """Whether the layout says which pictures train."""
        return LAYOUTS[self.layout].has_sets

    def describe(self) -> str:
        return f"the training pictures of {LAYOUTS[self.layout].source} with masks of lesions"

    def load(self, split: str, spec: PreprocessSpec, cache: Path) -> ImageSet | None:
        check_split(split)
        if self.folder is None:
            raise DataSetError("the folder of the pictures is not given: pass it with --data PATH")
        table = read_lesions(self.folder, LAYOUTS[self.layout], self.lesions)
        truth: dict[str, Any] = {LESIONS: table.masks}
        known = table.masks.known.any(axis=1)
        if self.grades and table.grades is not None:
            truth[GRADE] = table.grades
            known |= ~np.isnan(table.grades).any(axis=1)
        nothing = [table.names[k] for k in np.flatnonzero(~known).tolist()]
        tell((*table.notices, *noticed(("pictures of which nothing is known, left out", nothing))))
        images = cached_files(
            f"lesions-{self.layout}",
            table.paths,
            truth,
            task=self.task,
            names=table.names,
            patients=table.patients,
            spec=spec,
            cache=cache,
        )
        sets = sets_of(images, table.sets, self.held_out, self.seed)
        rows = np.flatnonzero((sets == split) & known)
        return images.select(rows) if len(rows) else None
