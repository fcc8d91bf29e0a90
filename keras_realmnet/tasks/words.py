"""How a task decides, in words for clinicians: on the box's pages and reports, and on a bundle's card."""

from __future__ import annotations

from collections.abc import Mapping

from keras_realmnet.tasks.fitted.doubts import LabelSets, MissedRisk
from keras_realmnet.tasks.rules import AnyAbove, AnyOf, GradeByCost, GradeFrom, MeasureAbove, Rule
from keras_realmnet.tasks.task import Task

__all__ = ["costs_of", "fitted_words", "rule_words"]


def rule_words(task: Task) -> str:
    """When an image is referred, as sentences; what errors cost is told by `costs_of`."""
    names = {label.code: label.name for output in task.trained.values() for label in output.labels.labels}
    return _rule_words(task.rule, names)


def _rule_words(rule: Rule, names: Mapping[str, str]) -> str:
    if isinstance(rule, AnyOf):
        return " Or: ".join(_rule_words(each, names) for each in rule.rules)
    if isinstance(rule, AnyAbove):
        return f"An image is referred when any of the labels {', '.join(rule.point.thresholds)} reaches its threshold."
    if isinstance(rule, GradeByCost):
        return _cost_words(rule, names)
    if isinstance(rule, GradeFrom):
        return f"An image is referred when its most probable grade is {rule.grade} or a later one."
    if isinstance(rule, MeasureAbove):
        return f"An image is referred when the measure {rule.measure} is {rule.threshold:g} or more."
    return "Findings are described; no image is referred, and none is negative."


def _cost_words(rule: GradeByCost, names: Mapping[str, str]) -> str:
    """With the probability from which the first grade that is referred is said where one below it alone may hold, too:
    what the costs come to."""
    beside = "".join(
        f", or when the probability of {code} {names[code]} reaches {threshold:.3f}"
        for code, threshold in rule.beside.items()
    )
    before, first = rule.grades[rule.start - 1], rule.from_code
    vain, missed = rule.costs[rule.start - 1][rule.start], rule.costs[rule.start][rule.start - 1]
    words = (
        f"An image gets the grade, {rule.grades[0]} to {rule.grades[-1]}, by which errors are expected to cost least, "
        f"and is referred from {first} {names[first]} on{beside}."
    )
    if vain + missed > 0:
        words += (
            f" Where only {before} and {first} come into question, it is referred when {first} has a probability of "
            f"{vain / (vain + missed):.2f} or more: to miss {first} costs {missed:g}, to refer {before} costs {vain:g}."
        )
    if rule.exactly_one:
        groups = " and ".join(", ".join(group) for group in rule.exactly_one)
        words += (
            f" It is uncertain instead of negative when the labels contradict each other: of {groups} one holds, and "
            f"their probabilities are to add up to 1 within {rule.tolerance:g}."
        )
    return words


def costs_of(rule: Rule) -> list[GradeByCost]:
    """The rules by cost within a rule, whose costs are shown as tables."""
    if isinstance(rule, AnyOf):
        return [found for each in rule.rules for found in costs_of(each)]
    return [rule] if isinstance(rule, GradeByCost) else []


def fitted_words(task: Task) -> list[str]:
    """What stands between the network's answer and the rule, as sentences."""
    said = []
    if task.fitted.calibration:
        said.append("Probabilities are calibrated.")
    for doubt in task.fitted.doubts:
        if isinstance(doubt, LabelSets):
            said.append(
                "An image is uncertain instead of negative when a label that is referred cannot be excluded: it is "
                f"among those that may hold, which are told so that in {100 * doubt.coverage:g} % of the images of new "
                "patients the true one is among them."
            )
        elif isinstance(doubt, MissedRisk):
            said.append(
                "An image is uncertain instead of negative when what is referred has a probability of "
                f"{doubt.limit:.2g} or more: so at most {100 * doubt.risk:g} % of the patients with it are negative, "
                f"with a confidence of {100 * doubt.confidence:g} %."
            )
    if task.fitted.doubts:
        said.append("Both hold" if len(task.fitted.doubts) == 2 else "This holds")
        said[-1] += " where patients and cameras are as those it was fitted on, and nowhere else."
    return said
