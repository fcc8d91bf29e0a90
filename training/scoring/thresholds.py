"""Thresholds of pathologic labels and of masks: chosen on data, or fixed."""

from collections.abc import Mapping
from typing import Any, TypeGuard

import numpy as np

from keras_realmnet.errors import DataSetError
from keras_realmnet.tasks.guidance import is_marked
from keras_realmnet.tasks.outputs import Grades, Masks, Output
from keras_realmnet.tasks.rules import AnyAbove, AnyOf, GradeFrom, NoReferral, OperatingPoint, Rule
from keras_realmnet.tasks.task import Task
from keras_realmnet.tasks.vocabulary import LabelSet
from training.scoring.by_kind.masks import best_f1_threshold
from training.scoring.statistics.arrays import Array, ratio

__all__ = [
    "balanced_threshold",
    "choose_mask_thresholds",
    "choose_thresholds",
    "chosen_by_pixels",
    "default_point",
    "ranked_pixels",
    "rule_of",
]


def choose_thresholds(
    y_true: Array,
    y_score: Array,
    label_set: LabelSet,
    data: str,
    min_sensitivity: float = 0.95,
) -> OperatingPoint:
    """For every pathologic label, the largest threshold that finds at least `min_sensitivity` of its images.

    It lies halfway between the scores of the last image found and the first one not: an image exactly on a threshold
    would change sides with the last digit of another machine's arithmetic.

    Args:
        data: what the scores come from, for the operating point's explanation.

    Raises:
        DataSetError: a pathologic label without a positive image, or no label that is pathologic.
    """
    if not label_set.pathologic:
        raise DataSetError(f"{label_set.name}: none of its labels is called pathologic")
    thresholds = {}
    for code in label_set.pathologic:
        k = label_set.codes.index(code)
        positive = np.sort(y_score[y_true[:, k] == 1, k])[::-1]
        if len(positive) == 0:
            raise DataSetError(f"{data}: no image with label {code}; its threshold cannot be chosen")
        last = positive[int(np.ceil(min_sensitivity * len(positive) - 1e-9)) - 1]
        below = y_score[y_score[:, k] < last, k]
        thresholds[code] = float((last + below.max(initial=0.0)) / 2)
    chosen = f"per label, the largest threshold with sensitivity of at least {min_sensitivity:.2f} on {data}"
    return OperatingPoint(thresholds=thresholds, chosen=chosen)


def chosen_by_pixels(output: Output) -> TypeGuard[Masks]:
    """Whether thresholds of an output are chosen: of masks whose pixels count one by one.

    Those of a structure that is there once are found by its outline, and those that exclude each other by which is
    more probable: .5 for both. Marked regions are not found at all.
    """
    return isinstance(output, Masks) and not (output.single or output.exclusive or is_marked(output))


def ranked_pixels(output: Masks, cases: Mapping[str, Array]) -> dict[str, Array]:
    """{code: the known pixels of all images by their level, those without and those with the label, (LEVELS, 2)}.

    `cases`: what the network says of them, see `training.tasks.masks.MasksKind.cases`.
    """
    return {code: cases["ranked"][:, k].sum(axis=0) for k, code in enumerate(output.labels.codes)}


def choose_mask_thresholds(ranked: Mapping[str, Array], data: str) -> dict[str, Any]:
    """For each label one threshold for all images: that of the best F1 of all their known pixels together.

    Args:
        ranked: of each label, as from `ranked_pixels`.
        data: what the images are, in words.

    Returns:
        JSON-safe: "thresholds", {code: threshold} of the labels that some image has; "chosen", how and on what.

    Raises:
        DataSetError: no image has any of the labels.
    """
    found = {code: best_f1_threshold(pixels) for code, pixels in ranked.items()}
    thresholds = {code: threshold for code, threshold in found.items() if threshold is not None}
    if not thresholds:
        raise DataSetError(f"{data}: no image with any of {', '.join(found)}; thresholds of masks cannot be chosen")
    return {"thresholds": thresholds, "chosen": f"the best F1 of pixels on {data}"}


def balanced_threshold(y_true: Array, y_score: Array) -> float:
    """The threshold with the best harmonic mean of sensitivity and specificity; of equal ones the lowest.

    It lies halfway between two scores, as in `choose_thresholds`. For scores .1, .4, .6 and .9, of which the second and
    the last are positive, it is .25: sensitivity 1 and specificity .5 have a harmonic mean of .67, .75 the same.

    Args:
        y_true, y_score: (n,); 1, 0 or NaN where not known.

    Returns:
        NaN where there is no positive image, or no negative one.
    """
    known = ~np.isnan(y_true)
    true, score = y_true[known] == 1, y_score[known].astype(np.float64)
    scores, place = np.unique(score, return_inverse=True)
    positives, negatives = (np.bincount(place, each, len(scores)) for each in (true, ~true))
    if not (positives.any() and negatives.any()):
        return float("nan")
    sensitivity = np.cumsum(positives[::-1])[::-1] / positives.sum()  # at the threshold just below each score
    specificity = 1 - np.cumsum(negatives[::-1])[::-1] / negatives.sum()
    best = int(np.argmax(ratio(2 * sensitivity * specificity, sensitivity + specificity)))
    below = scores[best - 1] if best else 0.0
    return float((below + scores[best]) / 2)


def default_point(label_set: LabelSet) -> OperatingPoint:
    """Where no data has chosen thresholds: 0.5 for every pathologic label."""
    return OperatingPoint(
        dict.fromkeys(label_set.pathologic, 0.5), "0.5 for every pathologic label, not chosen on data"
    )


def rule_of(task: Task, points: Mapping[str, OperatingPoint]) -> Rule:
    """What an evaluated network's task decides by: any of these refers, nothing does where there is none.

    - Labels: the thresholds in `points`, {output: chosen for it}, in the place of any before.
    - Grades: from the first one on that their vocabulary calls pathologic, where it calls all after it so, too.
    - What the task itself says of its other outputs and of its measures.
    """
    given = task.rule.rules if isinstance(task.rule, AnyOf) else (task.rule,)
    rules: list[Rule] = [AnyAbove(name, point) for name, point in points.items()]
    rules += [rule for rule in given if not isinstance(rule, AnyAbove | NoReferral)]
    for name, output in task.trained.items():
        if isinstance(output, Grades) and not any(rule.from_grade(name) for rule in rules):
            start = _first_pathologic(output.labels)
            if start is not None:
                chosen = f"the vocabulary {output.labels.name} calls it, and what is worse, pathologic"
                rules.append(GradeFrom(name, start, chosen))
    if len(rules) > 1:
        return AnyOf(tuple(rules))
    return rules[0] if rules else NoReferral()


def _first_pathologic(grades: LabelSet) -> str | None:
    """The code of the grade from which on all are pathologic; None where none is, or not all after it are."""
    count = len(grades.pathologic)
    return grades.codes[-count] if count and set(grades.pathologic) == set(grades.codes[-count:]) else None
