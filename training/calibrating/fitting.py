"""The whole of what is fitted for a task: calibration, the rule with its thresholds, and what makes it uncertain."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from keras_realmnet.errors import DataSetError
from keras_realmnet.tasks.fitted.calibration import Calibration
from keras_realmnet.tasks.fitted.doubts import Doubt
from keras_realmnet.tasks.fitted.fitted import Fitted
from keras_realmnet.tasks.outputs import Grades, Labels
from keras_realmnet.tasks.rules import AnyAbove, AnyOf, GradeByCost, OperatingPoint, Rule
from keras_realmnet.tasks.task import Task
from keras_realmnet.tasks.vocabulary import LabelSet
from training.calibrating.conformal import fit_label_sets, fit_missed_risk
from training.calibrating.curves import METHODS, choose_calibration
from training.calibrating.operating import Chosen, patient_threshold
from training.scoring.statistics.arrays import Array

__all__ = ["Fitting", "Settings", "Validation", "classified", "fit_task", "half", "referral_costs", "scale_of"]


@dataclass(frozen=True)
class Settings:
    """What is asked of the fit.

    sensitivity: of patients, of each threshold, whose lower bound with `confidence` it is. coverage: of sets of labels.
    risk: of missing a patient with something to refer. miss_cost, false_cost: see `referral_costs`. tolerance: see
    `GradeByCost`. by_cost: whether ordered labels are decided by cost; else each label by its threshold. seed: of which
    patients calibrate, and which then bound.
    """

    sensitivity: float = 0.95
    confidence: float = 0.95
    coverage: float = 0.95
    risk: float = 0.05
    miss_cost: float = 4.0
    false_cost: float = 1.0
    tolerance: float = 0.5
    by_cost: bool = True
    methods: tuple[str, ...] = METHODS
    seed: int = 0


@dataclass(frozen=True)
class Validation:
    """Images that a network did not learn from. predicted, truth: {output: (n, labels)} of labels and grades, as the
    engine gives them, and 1, 0 or NaN; patients: (n,). on: what they are, in words."""

    predicted: Mapping[str, Array]
    truth: Mapping[str, Array]
    patients: Array
    on: str

    def take(self, rows: Array) -> "Validation":
        """Those at these indices, or where a mask is true."""
        return replace(
            self,
            predicted={name: values[rows] for name, values in self.predicted.items()},
            truth={name: values[rows] for name, values in self.truth.items()},
            patients=self.patients[rows],
        )

    def __str__(self) -> str:
        return f"{len(self.patients)} {self.on} of {len(set(self.patients))} patients"


@dataclass(frozen=True)
class Fitting:
    """The task with all that was fitted; report: how, JSON-safe."""

    task: Task
    report: Mapping[str, Any]


def classified(task: Task) -> dict[str, Labels | Grades]:
    """The outputs that are calibrated, by name."""
    return {name: output for name, output in task.trained.items() if isinstance(output, Labels | Grades)}


def half(patients: Array, seed: int, parts: int = 2) -> Array:
    """Which of `parts` parts each image is in, (n,); all of a patient are in one."""
    names, group = np.unique(patients, return_inverse=True)
    return np.random.default_rng(seed).permutation(len(names))[group] % parts


def referral_costs(grades: int, start: int, miss: float, false: float) -> tuple[tuple[float, ...], ...]:
    """Costs of saying grade j (column) where grade i (row) holds: the distance of the two, and `miss` more where a
    grade that is referred, from `start` on, is called one that is not, `false` more the other way round."""
    i, j = np.mgrid[:grades, :grades]
    costs = np.abs(i - j) + miss * ((i >= start) & (j < start)) + false * ((i < start) & (j >= start))
    return tuple(tuple(map(float, row)) for row in costs)


def scale_of(labels: LabelSet) -> tuple[tuple[str, ...], str] | None:
    """The group of labels that are grades of one scale, and the first that is pathologic; None where there is none.

    They exclude each other, are three or more, and are pathologic from one of them on.
    """
    for group in labels.exclusive:
        worse = [code for code in group if code in labels.pathologic]
        if len(group) > 2 and 0 < len(worse) < len(group) and tuple(worse) == group[-len(worse) :]:
            return group, worse[0]
    return None


def fit_task(task: Task, validation: Validation, settings: Settings = Settings()) -> Fitting:
    """`task` with calibrated probabilities, thresholds on them, and doubts.

    Curves and thresholds are fitted on one half of the patients; what makes a negative result uncertain on the other,
    of which the curves know nothing, so that its guarantees hold.

    Raises:
        DataSetError: too few patients for what is asked, or nothing to calibrate.
    """
    outputs = classified(task)
    if not outputs:
        raise DataSetError(f"the task {task.name!r} has no labels and no grades: there is nothing to calibrate")
    part = half(validation.patients, settings.seed)
    first, second = (validation.take(part == k) for k in range(2))
    report: dict[str, Any] = {"settings": asdict(settings), "calibrated on": str(first), "bounded on": str(second)}
    curves: dict[str, Calibration] = {}
    for name, output in outputs.items():
        found, scores = choose_calibration(
            output, first.predicted[name], first.truth[name], first.patients, str(first), settings.methods
        )
        report[f"log loss of {name}, cross-validated"] = dict(scores)
        if found is not None:
            curves[name] = found
    calibrated = replace(task, fitted=Fitted(curves))
    rule = _rule(calibrated, task.rule, first, settings, report)
    decided = replace(calibrated, rule=rule)
    doubts = _doubts(decided, second, settings)
    return Fitting(replace(decided, fitted=Fitted(curves, tuple(doubts))), report)


def _rule(task: Task, rule: Rule, on: Validation, settings: Settings, report: dict[str, Any]) -> Rule:
    """The rule with new thresholds of labels; grades and measures are decided on as before."""
    if isinstance(rule, AnyOf):
        return AnyOf(tuple(_rule(task, each, on, settings, report) for each in rule.rules))
    if not isinstance(rule, AnyAbove | GradeByCost):
        return rule
    name, output = rule.output, classified(task)[rule.output]
    probability = task.calibrated(name, on.predicted[name])
    scale = scale_of(output.labels) if settings.by_cost else None
    grades, start = scale or ((), "")
    thresholds: dict[str, Chosen] = {}
    for code in output.labels.pathologic:
        if code in grades:
            continue
        k = output.labels.codes.index(code)
        try:
            thresholds[code] = patient_threshold(
                on.truth[name][:, k], probability[:, k], on.patients, settings.sensitivity, settings.confidence
            )
        except DataSetError as error:
            raise DataSetError(f"{code}: {error}") from error
    told = "; ".join(f"{code} {chosen}" for code, chosen in thresholds.items())
    report[f"thresholds of {name}"] = {code: asdict(chosen) for code, chosen in thresholds.items()}
    stated = (
        f"the largest threshold whose sensitivity of patients is at least {settings.sensitivity:g} with a confidence "
        f"of {settings.confidence:g} (Clopper and Pearson) on {on}: {told}"
    )
    values = {code: chosen.threshold for code, chosen in thresholds.items()}
    if not scale:
        return AnyAbove(name, OperatingPoint(values, f"per label, {stated}"))
    costs = referral_costs(len(grades), grades.index(start), settings.miss_cost, settings.false_cost)
    chosen = (
        f"costs by hand: the distance of the grades, {settings.miss_cost:g} more for calling what is referred one that "
        f"is not, {settings.false_cost:g} more the other way round" + (f". Beside them, {stated}" if values else "")
    )
    groups = output.labels.exclusive
    return GradeByCost(name, grades, costs, start, values, groups, settings.tolerance, chosen)


def _doubts(task: Task, on: Validation, settings: Settings) -> list[Doubt]:
    doubts: list[Doubt] = []
    for name, output in classified(task).items():
        referred = task.rule.referred(name, output.labels)
        if not referred:
            continue
        probability = task.calibrated(name, on.predicted[name])
        groups = (output.labels.codes,) if isinstance(output, Grades) else output.labels.exclusive
        groups = tuple(group for group in groups if set(group) & set(referred))
        known = (output, probability, on.truth[name], on.patients)
        if groups:
            doubts.append(fit_label_sets(name, groups, *known, settings.coverage, str(on)))
        doubts.append(fit_missed_risk(name, *known, referred, settings.risk, settings.confidence, str(on)))
    return doubts
