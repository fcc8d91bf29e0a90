"""What is scored: images, or eyes and patients made from their images."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from keras_realmnet.tasks.rules import OperatingPoint
from keras_realmnet.tasks.vocabulary import LabelSet
from training.scoring.statistics.arrays import Array

__all__ = ["Cases", "pathologic"]


@dataclass(frozen=True)
class Cases:
    """What is scored, n images, eyes or patients.

    `y_true`: (n, classes), 1, 0 or NaN where not known. `y_score`: (n, classes), 0 to 1. `patients`: (n,) str.
    `pathologic_true` and `pathologic_score`, (n,): of "any pathologic label". `refers`: (n,) bool, whether the
    screening rule refers; `None` without a rule.
    """

    y_true: Array
    y_score: Array
    label_set: LabelSet
    patients: Array
    pathologic_true: Array
    pathologic_score: Array
    refers: Array | None

    def __len__(self) -> int:
        return len(self.y_true)

    @classmethod
    def of_images(
        cls,
        y_true: Array,
        y_score: Array,
        label_set: LabelSet,
        point: OperatingPoint | None = None,
        patients: Sequence[str] | Array | None = None,
    ) -> "Cases":
        """Images one by one; each is its own patient where `patients` is `None`."""
        y_true, y_score = np.asarray(y_true, np.float64), np.asarray(y_score)
        return cls(
            y_true=y_true,
            y_score=y_score,
            label_set=label_set,
            patients=np.asarray(patients if patients is not None else np.arange(len(y_true)), np.str_),
            pathologic_true=pathologic(y_true, label_set),
            pathologic_score=pathologic(y_score, label_set),
            refers=None if point is None else point.refers(y_score, label_set),
        )

    def take(self, rows: Array) -> "Cases":
        """The cases at these indices (or where a mask is true)."""
        arrays = ("y_true", "y_score", "patients", "pathologic_true", "pathologic_score", "refers")
        taken = {name: values[rows] for name in arrays if (values := getattr(self, name)) is not None}
        return Cases(label_set=self.label_set, **{"refers": None, **taken})

    def grouped(self, keys: Sequence[str] | Array) -> "Cases":
        """One case per distinct key: eyes or patients from their images.

        A label is true if it is true in an image and no image has a worse one of its exclusive group (an eye with A1
        in one image and A3 in another is A3; groups are listed from mildest to worst). Scores follow the same rule,
        "and" being the minimum, "or" the maximum, "not" 1 − score: the largest over the images of the label's score,
        each limited to 1 − the largest score of a worse grade in *another* image. Scores of a single image stay as they
        are, the worst grade's is the plain maximum, and a network that is right about every image is right about every
        eye. With A1 .9, A3 .1 in one image and A1 .2, A3 .8 in another, A3 gets .8 and A1 max(min(.9, 1 − .8),
        min(.2, 1 − .1)) = .2. Pathologic: the largest over the images; refers: any image refers.

        Args:
            keys: of shape (n,), e.g. the patient, or patient and eye, of each case.
        """
        _, first, group = np.unique(np.asarray(keys, np.str_), return_index=True, return_inverse=True)
        largest = partial(_group_max, group=group, count=len(first))
        true = [_any_true(self.y_true[:, k], largest) for k in range(len(self.label_set))]
        y_true, y_score = np.empty((len(first), len(true))), np.empty((len(first), len(true)), self.y_score.dtype)
        for k, worse in enumerate(_worse(self.label_set)):
            scores = self.y_score[:, k]
            y_true[:, k] = true[k]
            for other in worse:
                y_true[:, k] = _and_not(y_true[:, k], true[other])
            if worse:
                scores = np.minimum(scores, 1 - _group_max_of_others(self.y_score[:, worse].max(axis=1), group))
            y_score[:, k] = largest(scores)
        return Cases(
            y_true=y_true,
            y_score=y_score,
            label_set=self.label_set,
            patients=self.patients[first],
            pathologic_true=_any_true(self.pathologic_true, largest),
            pathologic_score=largest(self.pathologic_score),
            refers=None if self.refers is None else largest(self.refers.astype(np.float64)) == 1,
        )


def pathologic(values: Array, label_set: LabelSet) -> Array:
    """Truth or score of "any pathologic label", of shape (n,): the largest over the pathologic columns.

    In a truth, one known positive makes it 1; otherwise an unknown column (NaN) leaves it unknown. NaN, too, where
    the label set calls none of its labels pathologic.
    """
    columns = values[:, label_set.pathologic_columns]
    if not columns.shape[1]:
        return np.full(len(values), np.nan)
    largest = np.max(np.where(np.isnan(columns), -np.inf, columns), axis=1)
    return np.where(np.isnan(columns).any(axis=1) & (largest < 1), np.nan, largest)


def _worse(label_set: LabelSet) -> list[list[int]]:
    """Per label, the columns of the labels after it in its exclusive group."""
    worse: list[list[int]] = [[] for _ in label_set.codes]
    for codes in label_set.exclusive:
        columns = [label_set.codes.index(code) for code in codes]
        for position, column in enumerate(columns):
            worse[column] = columns[position + 1 :]
    return worse


def _group_max(values: Array, group: Array, count: int) -> Array:
    largest = np.full(count, -np.inf)
    with np.errstate(invalid="ignore"):  # NaN where a label set calls nothing pathologic
        np.maximum.at(largest, group, values)
    return largest


def _group_max_of_others(values: Array, group: Array) -> Array:
    """For each row the largest value among the other rows of its group, of shape (n,); −∞ where it is alone."""
    count = int(group.max(initial=-1)) + 1
    order = np.lexsort((-values, group))
    first = order[np.searchsorted(group[order], np.arange(count))]  # the row with each group's largest value
    others = _group_max(values, group, count)[group]
    rest = values.astype(np.float64)
    rest[first] = -np.inf
    others[first] = _group_max(rest, group, count)
    return others


def _any_true(values: Array, largest: Callable[[Array], Array]) -> Array:
    """Per group: 1 with a known positive, else NaN with an unknown, else 0."""
    found, unknown = largest((values == 1).astype(np.float64)), largest(np.isnan(values).astype(np.float64))
    return np.where(found == 1, 1.0, np.where(unknown == 1, np.nan, 0.0))


def _and_not(left: Array, right: Array) -> Array:
    """left ∧ ¬right where both may be unknown (NaN)."""
    unknown = np.isnan(left) | np.isnan(right)
    return np.where((left == 0) | (right == 1), 0.0, np.where(unknown, np.nan, 1.0))
