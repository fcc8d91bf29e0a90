"""Cross-validation inside a part of any data set."""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np

from keras_realmnet.arguments import Rule, count, number, one_of
from keras_realmnet.arguments import check as check_arguments
from keras_realmnet.errors import DataSetError
from keras_realmnet.screening.preprocessing import PreprocessSpec
from keras_realmnet.tasks.task import Task
from training.data.splits import deal_patients, fold_of_images
from training.datasets.data_set import SPLITS, DataSet, check_split
from training.datasets.image_set import ImageSet

__all__ = ["CrossValidation"]

_FIELDS = {
    "part": one_of(*SPLITS),
    "seed": count(0),
    "validation_share": number(0, 0.5, below=True),
    "validates": Rule("True or False", lambda value: isinstance(value, bool)),
}


@dataclass(frozen=True)
class CrossValidation:
    """Fold k of n of the split `part` of another data set: the fold is the test split, all others train.

    `fold`: (k, n), k from 1; None: nothing is held out, all of the part trains.
    Patients stay together and are spread by label, by `training.data.splits.fold_of_images`.
    There is no validation split, so that every image trains or tests: what is chosen must be chosen elsewhere. The
    scores of the n runs are those of a network that has seen (n − 1) / n of the images.

    `validation_share`: of the patients of the other folds, at least one, that do not train but validate. What is chosen
    on them knows nothing of what is tested.

    `validates`: the fold is the validation split, too. What a schedule, the best epoch or thresholds are chosen on is
    then what is tested, so the scores are too good.
    """

    kind: ClassVar[str] = "cross_validation"

    of: DataSet
    fold: tuple[int, int] | None = (1, 5)
    part: str = "train"
    seed: int = 42
    validates: bool = False
    validation_share: float = 0.0

    def __post_init__(self) -> None:
        check_arguments("cross-validation", _FIELDS, {name: getattr(self, name) for name in _FIELDS})
        if self.validates and self.validation_share:
            raise ValueError(
                "either the fold validates or a share of the others, not both. "
                f"Received: validates=True, validation_share={self.validation_share!r}"
            )
        if self.fold is None:
            return
        object.__setattr__(self, "fold", tuple(self.fold))  # JSON has lists
        if len(self.fold) != 2 or not (count(2).holds(self.fold[1]) and count(1, self.fold[1]).holds(self.fold[0])):
            raise ValueError(f"fold must be (k, n), k from 1 to n, n at least 2. Received: {self.fold!r}")

    @property
    def task(self) -> Task:
        return self.of.task

    def describe(self) -> str:
        if self.fold is None:
            return f"all of the {self.part} split of: {self.of.describe()}"
        k, n = self.fold
        validating = ", and but those of the others who validate," if self.validation_share else ""
        return f"all but fold {k} of {n}{validating} of the {self.part} split of: {self.of.describe()}"

    def load(self, split: str, spec: PreprocessSpec, cache: Path) -> ImageSet | None:
        check_split(split)
        if split == "validation" and not (self.validates or self.validation_share):
            return None
        images = self.of.load(self.part, spec, cache)
        if images is None:
            raise DataSetError(f"{self.of.kind} data has no {self.part} split that could be cut into folds")
        if self.fold is None:
            return images if split == "train" else None
        k, n = self.fold
        held_out = fold_of_images(images.patients, n, images.spread_by, self.seed) == k
        if split == "test" or (split == "validation" and self.validates):
            return images.select(np.flatnonzero(held_out))
        others = images.select(np.flatnonzero(~held_out))
        if not self.validation_share:
            return others
        sets = deal_patients(others.patients, others.spread_by, self.seed, 2 * self.validation_share)
        validate = sets == "validation"  # as many would be dealt to a test set, and train here
        return others.select(np.flatnonzero(validate if split == "validation" else ~validate))
