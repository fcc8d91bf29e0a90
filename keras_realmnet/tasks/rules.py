"""From findings to a decision: a closed set of rules. The picture's quality comes first, see `screening.decision`."""

from __future__ import annotations

import reprlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from keras_realmnet.tasks.fields import by_kind, from_json
from keras_realmnet.tasks.findings import Finding, GradeFinding, LabelFinding, Measure
from keras_realmnet.tasks.grade_by_cost import GradeByCost
from keras_realmnet.tasks.outputs import Grades, Labels, Output
from keras_realmnet.tasks.rule import OUTCOMES, Outcome, Rule, Verdict, acted_on_as, probability_text
from keras_realmnet.tasks.vocabulary import LabelSet

__all__ = [
    "OUTCOMES",
    "AnyAbove",
    "AnyOf",
    "GradeByCost",
    "GradeFrom",
    "MeasureAbove",
    "NoReferral",
    "OperatingPoint",
    "Outcome",
    "Rule",
    "Verdict",
    "acted_on_as",
    "rule_from_dict",
]


@dataclass(frozen=True)
class OperatingPoint:
    """Where probabilities become a decision.

    thresholds: {code: probability in [0, 1]} for every pathologic label.
    chosen: how and on which data the thresholds were chosen, for people.
    rule: "any_pathologic": refer when the probability of any pathologic label is at or above its threshold.
    """

    thresholds: dict[str, float]
    chosen: str
    rule: str = "any_pathologic"

    def __post_init__(self) -> None:
        if self.rule != "any_pathologic":
            raise ValueError(f"`rule` must be 'any_pathologic'. Received: {self.rule!r}")
        for code, threshold in self.thresholds.items():
            if not 0.0 <= threshold <= 1.0:  # also refuses NaN
                raise ValueError(f"The threshold of {code!r} must lie in [0, 1]. Received: {threshold}")

    def check(self, label_set: LabelSet) -> None:
        """Raises ValueError unless there is exactly one threshold for each pathologic label of `label_set`."""
        if set(self.thresholds) != set(label_set.pathologic) or not label_set.pathologic:
            raise ValueError(
                f"Label set '{label_set.name}' needs thresholds for {', '.join(label_set.pathologic) or 'some label'}. "
                f"Received: {', '.join(self.thresholds) or 'none'}"
            )

    def triggered(self, probabilities: np.ndarray, label_set: LabelSet) -> np.ndarray:
        """Which pathologic labels are at or above their thresholds.

        Args:
            probabilities: float of shape (n, classes) in [0, 1], in the order of `label_set`.

        Returns:
            bool of shape (n, pathologic labels), in the order of `label_set.pathologic`.
        """
        thresholds = np.array([self.thresholds[code] for code in label_set.pathologic])
        return np.asarray(probabilities[:, label_set.pathologic_columns] >= thresholds)

    def refers(self, probabilities: np.ndarray, label_set: LabelSet) -> np.ndarray:
        """Whether the rule refers each image, bool of shape (n,); arguments as for `triggered`."""
        return np.asarray(self.triggered(probabilities, label_set).any(axis=1))

    def to_dict(self) -> dict[str, Any]:
        return {"rule": self.rule, "thresholds": dict(self.thresholds), "chosen": self.chosen}

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> OperatingPoint:
        thresholds = {str(code): float(value) for code, value in fields["thresholds"].items()}
        return cls(thresholds=thresholds, chosen=str(fields["chosen"]), rule=str(fields["rule"]))


@dataclass(frozen=True)
class AnyAbove(Rule):
    """Refers when any pathologic label of `output` reaches its threshold."""

    kind: ClassVar[str] = "any_above"

    output: str
    point: OperatingPoint

    def check(self, outputs: Mapping[str, Output], measures: Sequence[str]) -> None:
        output = outputs.get(self.output)
        if not isinstance(output, Labels):
            raise ValueError(f"the rule {self.kind!r} needs an output of labels. Received: {self.output!r}")
        self.point.check(output.labels)

    def decide(self, findings: Sequence[Finding]) -> Verdict:
        looked_at = [each for each in findings if isinstance(each, LabelFinding) and each.output == self.output]
        looked_at = [each for each in looked_at if each.code in self.point.thresholds]
        above = {each: each.probability - self.point.thresholds[each.code] for each in looked_at}
        first = max(looked_at, key=lambda each: above[each])
        triggered = sorted((each for each in looked_at if above[each] >= 0), key=lambda each: -above[each])
        if not triggered:
            return Verdict("negative", ("No pathologic label reaches its threshold.",), (), first.code, above[first])
        reasons = tuple(
            f"{each.name}: a probability of {probability_text(each.probability)} reaches the threshold of "
            f"{probability_text(self.point.thresholds[each.code])}."
            for each in triggered
        )
        return Verdict("refer", reasons, tuple(each.code for each in triggered), first.code, above[first])

    def thresholds(self, output: str) -> dict[str, float]:
        return dict(self.point.thresholds) if output == self.output else {}

    def referred(self, output: str, labels: LabelSet) -> tuple[str, ...]:
        return tuple(self.point.thresholds) if output == self.output else ()

    def refers(self, output: str, probabilities: NDArray[Any], labels: LabelSet) -> NDArray[np.bool_] | None:
        return self.point.refers(probabilities, labels) if output == self.output else None

    def to_dict(self) -> dict[str, Any]:
        return {"kind": self.kind, "output": self.output, **self.point.to_dict()}

    @classmethod
    def of_dict(cls, values: Mapping[str, Any]) -> Rule:
        point = {name: value for name, value in values.items() if name != "output"}
        thresholds = point.get("thresholds")
        if not isinstance(thresholds, Mapping) or any(type(each) not in (int, float) for each in thresholds.values()):
            raise ValueError(f"thresholds are numbers by code. Received: {reprlib.repr(thresholds)}")
        parts = {"point": from_json(OperatingPoint, point, "an operating point")}
        return from_json(cls, parts | {name: values[name] for name in values if name == "output"}, "a rule")

    def grounds(self) -> tuple[str, ...]:
        return (self.point.chosen,)


@dataclass(frozen=True)
class GradeFrom(Rule):
    """Refers when the most probable grade of `output` is `grade` or a later one. `chosen`: why this one, for people."""

    kind: ClassVar[str] = "grade_from"

    output: str
    grade: str
    chosen: str

    def check(self, outputs: Mapping[str, Output], measures: Sequence[str]) -> None:
        output = outputs.get(self.output)
        if not isinstance(output, Grades) or self.grade not in output.labels.codes:
            raise ValueError(
                f"the rule {self.kind!r} needs an output of grades and one of them. "
                f"Received: {self.output!r}, {self.grade!r}"
            )

    def decide(self, findings: Sequence[Finding]) -> Verdict:
        found = next(each for each in findings if isinstance(each, GradeFinding) and each.output == self.output)
        codes = list(found.names)
        start = codes.index(self.grade)
        said = f"{found.name}, with a probability of {found.probability:.2f}"
        score = sum(found.probabilities[code] for code in codes[start:]) - 0.5
        if found.grade < start:
            return Verdict("negative", (f"{said}.",), (), found.code, score)
        reason = f"{said}: referred from {found.names[self.grade]} on."
        return Verdict("refer", (reason,), (found.code,), found.code, score)

    def from_grade(self, output: str) -> str | None:
        return self.grade if output == self.output else None

    def referred(self, output: str, labels: LabelSet) -> tuple[str, ...]:
        return labels.codes[labels.codes.index(self.grade) :] if output == self.output else ()

    def refers(self, output: str, probabilities: NDArray[Any], labels: LabelSet) -> NDArray[np.bool_] | None:
        start = labels.codes.index(self.grade) if output == self.output else None
        return None if start is None else np.asarray(probabilities.argmax(axis=1) >= start)

    def to_dict(self) -> dict[str, Any]:
        return {"kind": self.kind, "output": self.output, "grade": self.grade, "chosen": self.chosen}

    def grounds(self) -> tuple[str, ...]:
        return (self.chosen,)


@dataclass(frozen=True)
class MeasureAbove(Rule):
    """Refers when a measure is at or above `threshold`. Where it could not be taken there is no result."""

    kind: ClassVar[str] = "measure_above"

    measure: str
    threshold: float
    chosen: str

    def __post_init__(self) -> None:
        if not np.isfinite(self.threshold):
            raise ValueError(f"`threshold` must be a finite number. Received: {self.threshold!r}")

    def check(self, outputs: Mapping[str, Output], measures: Sequence[str]) -> None:
        if self.measure not in measures:
            raise ValueError(f"the rule {self.kind!r} needs a measure of the task. Received: {self.measure!r}")

    def decide(self, findings: Sequence[Finding]) -> Verdict:
        found = next(each for each in findings if isinstance(each, Measure) and each.code == self.measure)
        if found.value is None:
            return Verdict("not_analysed", (f"{found.name} could not be measured.",))
        above = found.value - self.threshold
        relation = "reaches" if above >= 0 else "stays below"
        threshold = replace(found, value=self.threshold)
        reason = f"{found.name}: {found.text} {relation} the threshold of {threshold.text}."
        refers = above >= 0
        return Verdict("refer" if refers else "negative", (reason,), (found.code,) if refers else (), None, above)

    def to_dict(self) -> dict[str, Any]:
        return {"kind": self.kind, "measure": self.measure, "threshold": self.threshold, "chosen": self.chosen}

    def grounds(self) -> tuple[str, ...]:
        return (self.chosen,)


@dataclass(frozen=True)
class AnyOf(Rule):
    """Refers when any of the rules does; it is negative only where all of them are."""

    kind: ClassVar[str] = "any_of"

    rules: tuple[Rule, ...]

    def __post_init__(self) -> None:
        if len(self.rules) < 2 or not all(isinstance(each, REFERRING) for each in self.rules):
            raise ValueError(f"the rule {self.kind!r} combines two or more rules that refer. Received: {self.rules!r}")

    @property
    def abstains(self) -> bool:
        return any(rule.abstains for rule in self.rules)

    def check(self, outputs: Mapping[str, Output], measures: Sequence[str]) -> None:
        for rule in self.rules:
            rule.check(outputs, measures)

    def decide(self, findings: Sequence[Finding]) -> Verdict:
        verdicts = [rule.decide(findings) for rule in self.rules]
        outcome = min((verdict.outcome for verdict in verdicts), key=OUTCOMES.index)
        chosen = [verdict for verdict in verdicts if verdict.outcome == outcome]
        chosen.sort(key=lambda verdict: -(verdict.score or 0.0))
        return Verdict(
            outcome,
            tuple(reason for verdict in chosen for reason in verdict.reasons),
            tuple(dict.fromkeys(code for verdict in chosen for code in verdict.triggered)),
            next((verdict.evidence for verdict in chosen if verdict.evidence is not None), None),
            max((verdict.score for verdict in verdicts if verdict.score is not None), default=None),
        )

    def thresholds(self, output: str) -> dict[str, float]:
        return {code: value for rule in self.rules for code, value in rule.thresholds(output).items()}

    def from_grade(self, output: str) -> str | None:
        return next((grade for rule in self.rules if (grade := rule.from_grade(output)) is not None), None)

    def referred(self, output: str, labels: LabelSet) -> tuple[str, ...]:
        return tuple(dict.fromkeys(code for rule in self.rules for code in rule.referred(output, labels)))

    def refers(self, output: str, probabilities: NDArray[Any], labels: LabelSet) -> NDArray[np.bool_] | None:
        found = [each for rule in self.rules if (each := rule.refers(output, probabilities, labels)) is not None]
        return np.asarray(np.logical_or.reduce(found)) if found else None

    def to_dict(self) -> dict[str, Any]:
        return {"kind": self.kind, "rules": [rule.to_dict() for rule in self.rules]}

    @classmethod
    def of_dict(cls, values: Mapping[str, Any]) -> Rule:
        rules = values.get("rules")
        if not isinstance(rules, list | tuple):
            raise ValueError(f"a rule of kind {cls.kind!r} has a list of rules. Received: {reprlib.repr(rules)}")
        return from_json(cls, {**values, "rules": tuple(map(rule_from_dict, rules))}, f"a rule of kind {cls.kind!r}")

    def grounds(self) -> tuple[str, ...]:
        return tuple(text for rule in self.rules for text in rule.grounds())


@dataclass(frozen=True)
class NoReferral(Rule):
    """Findings are described; nothing is decided."""

    kind: ClassVar[str] = "no_referral"

    def check(self, outputs: Mapping[str, Output], measures: Sequence[str]) -> None:
        return None

    def decide(self, findings: Sequence[Finding]) -> Verdict:
        return Verdict("described", ("Described; this bundle decides on no referral.",))

    def to_dict(self) -> dict[str, Any]:
        return {"kind": self.kind}


REFERRING = (AnyAbove, GradeByCost, GradeFrom, MeasureAbove)
RULES: dict[str, type[Rule]] = {rule.kind: rule for rule in (*REFERRING, AnyOf, NoReferral)}


def rule_from_dict(values: Any) -> Rule:
    """The rule that `Rule.to_dict` describes. Raises ValueError for another kind, or missing or other fields."""
    kind, fields = by_kind(values, RULES, "a rule")
    return kind.of_dict(fields)
