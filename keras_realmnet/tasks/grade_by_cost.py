"""The rule by expected cost: the grade that it costs least to say, with labels beside the grades."""

from __future__ import annotations

import reprlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from keras_realmnet.tasks.findings import Finding, LabelFinding
from keras_realmnet.tasks.fitted.doubts import shares
from keras_realmnet.tasks.outputs import Labels, Output
from keras_realmnet.tasks.rule import Rule, Verdict, probability_text
from keras_realmnet.tasks.vocabulary import LabelSet

__all__ = ["GradeByCost"]


@dataclass(frozen=True)
class GradeByCost(Rule):
    """Refers by the grade that it costs least to say, or where a label beside the grades reaches its threshold.

    Of labels some of which are the grades of one scale, as META-PM's of myopic maculopathy: exactly one of `grades`
    holds, mildest first, with its share of their probabilities. Saying grade j where grade i holds costs
    `costs[i][j]`; the grade whose expected cost is least is said, the later one of equal ones, and is referred from
    `from_code` on. `beside`: {code: probability} of other labels that refer by themselves.

    exactly_one: groups of labels of which one holds, so that their probabilities add up to about 1. Where they are
    farther from it than `tolerance` the labels contradict each other: what would be negative is uncertain.
    """

    kind: ClassVar[str] = "grade_by_cost"

    output: str
    grades: tuple[str, ...]
    costs: tuple[tuple[float, ...], ...]
    from_code: str
    beside: Mapping[str, float]
    exactly_one: tuple[tuple[str, ...], ...]
    tolerance: float
    chosen: str

    def __post_init__(self) -> None:
        for name in ("costs", "exactly_one"):
            object.__setattr__(self, name, tuple(map(tuple, getattr(self, name))))  # JSON has lists
        object.__setattr__(self, "grades", tuple(self.grades))
        count = len(self.grades)
        matrix = np.array([[*row] for row in self.costs if len(row) == count], np.float64)
        if (
            matrix.shape != (count, count)
            or not np.isfinite(matrix).all()
            or (matrix < 0).any()
            or matrix.diagonal().any()
        ):
            raise ValueError(
                f"`costs` needs {count} rows of {count} numbers that are not negative, 0 where the grade is right. "
                f"Received: {self.costs!r}"
            )
        if self.from_code not in self.grades[1:]:
            raise ValueError(
                f"`from_code` must be one of {', '.join(self.grades[1:]) or 'two grades or more'}. "
                f"Received: {self.from_code!r}"
            )
        if not all(0 <= value <= 1 for value in self.beside.values()):  # also refuses NaN
            raise ValueError(f"`beside` needs probabilities in [0, 1]. Received: {dict(self.beside)!r}")
        if not self.tolerance > 0:
            raise ValueError(f"`tolerance` must be above 0. Received: {self.tolerance!r}")

    @property
    def abstains(self) -> bool:
        return bool(self.exactly_one)

    @property
    def start(self) -> int:
        """Which grade is the first that is referred, from 0."""
        return self.grades.index(self.from_code)

    def check(self, outputs: Mapping[str, Output], measures: Sequence[str]) -> None:
        output = outputs.get(self.output)
        if not isinstance(output, Labels):
            raise ValueError(f"the rule {self.kind!r} needs an output of labels. Received: {self.output!r}")
        labels = output.labels
        unknown = {*self.grades, *self.beside} - set(labels.codes) | set(self.exactly_one) - set(labels.exclusive)
        if unknown or self.grades not in labels.exclusive or set(self.grades) & set(self.beside):
            raise ValueError(
                f"the rule {self.kind!r} needs grades of which one holds, other labels beside them, and groups that "
                f"exclude each other in {labels.name!r}. Received: {', '.join(self.grades)}; {', '.join(self.beside)}"
            )
        if set(self.referred(self.output, labels)) != set(labels.pathologic):
            raise ValueError(
                f"the rule {self.kind!r} must refer {', '.join(labels.pathologic) or 'nothing'}, which "
                f"{labels.name!r} calls pathologic. Received: {', '.join(self.referred(self.output, labels))}"
            )

    def expected_costs(self, probabilities: NDArray[Any]) -> NDArray[np.float64]:
        """Of saying each grade, (n, grades), of the probabilities of the grades, (n, grades)."""
        return np.asarray(shares(probabilities) @ np.array(self.costs, np.float64))

    def said(self, costs: NDArray[np.float64]) -> NDArray[np.intp]:
        """Which grade is said, (n,), of the expected costs (n, grades): the last of those that cost least."""
        return np.asarray(costs.shape[1] - 1 - costs[:, ::-1].argmin(axis=1))

    def decide(self, findings: Sequence[Finding]) -> Verdict:
        labels = {each.code: each for each in findings if isinstance(each, LabelFinding) and each.output == self.output}
        costs = self.expected_costs(np.array([[labels[code].probability for code in self.grades]]))
        grade = int(self.said(costs)[0])
        code, start = self.grades[grade], self.start
        above = {each: labels[each].probability - threshold for each, threshold in self.beside.items()}
        reached = sorted((each for each in above if above[each] >= 0), key=lambda each: -above[each])
        reason = self._grade_words(grade, labels)
        reasons = [f"{reason}."] if grade >= start else []
        reasons += [
            f"{labels[each].name}: a probability of {probability_text(labels[each].probability)} reaches the threshold "
            f"of {probability_text(self.beside[each])}."
            for each in reached
        ]
        triggered = (*([code] if grade >= start else []), *reached)
        # How much more it would cost to say a grade that is not referred, in the largest cost there is.
        excess = float(costs[0, :start].min() - costs[0, start:].min()) / max(max(map(max, self.costs)), 1e-9)
        score = max([excess, *above.values()])
        contradictions = self._contradictions(labels)
        if triggered:
            return Verdict("refer", (*reasons, *contradictions), triggered, triggered[0], score)
        evidence = max(
            (self.grades[start:][int(costs[0, start:].argmin())], *above), key=lambda c: labels[c].probability
        )
        if contradictions:
            return Verdict("uncertain", contradictions, (), evidence, score)
        below = [f"{labels[each].name} stays below its threshold" for each in self.beside]
        return Verdict("negative", ("; ".join((reason, *below)) + ".",), (), evidence, score)

    def _grade_words(self, grade: int, labels: Mapping[str, LabelFinding]) -> str:
        """Which grade is said, and how probable all those are together that are referred."""
        weights = shares(np.array([labels[code].probability for code in self.grades]))
        together = float(weights[self.start :].sum())
        words = (
            f"Grade {grade} of 0 to {len(self.grades) - 1}, {labels[self.grades[grade]].name}; "
            f"{labels[self.from_code].name} or worse has a probability of {probability_text(together)} among the grades"
        )
        return f"{words}: enough, since a miss weighs more" if grade >= self.start and together < 0.5 else words

    def _contradictions(self, labels: Mapping[str, LabelFinding]) -> tuple[str, ...]:
        totals = {group: sum(labels[code].probability for code in group) for group in self.exactly_one}
        return tuple(
            f"The labels contradict each other: one of {', '.join(group)} holds, their probabilities add up to "
            f"{total:.2f}."
            for group, total in totals.items()
            if abs(total - 1) > self.tolerance
        )

    def thresholds(self, output: str) -> dict[str, float]:
        return dict(self.beside) if output == self.output else {}

    def referred(self, output: str, labels: LabelSet) -> tuple[str, ...]:
        return (*self.beside, *self.grades[self.start :]) if output == self.output else ()

    def refers(self, output: str, probabilities: NDArray[Any], labels: LabelSet) -> NDArray[np.bool_] | None:
        if output != self.output:
            return None
        columns = {code: probabilities[:, labels.codes.index(code)] for code in (*self.grades, *self.beside)}
        costs = self.expected_costs(np.stack([columns[code] for code in self.grades], axis=1))
        reached = [columns[code] >= threshold for code, threshold in self.beside.items()]
        return np.asarray(np.logical_or.reduce([self.said(costs) >= self.start, *reached]))

    def to_dict(self) -> dict[str, Any]:
        return {
            "kind": self.kind,
            "output": self.output,
            "grades": list(self.grades),
            "costs": [list(row) for row in self.costs],
            "from_code": self.from_code,
            "beside": dict(self.beside),
            "exactly_one": [list(group) for group in self.exactly_one],
            "tolerance": self.tolerance,
            "chosen": self.chosen,
        }

    @classmethod
    def of_dict(cls, values: Mapping[str, Any]) -> Rule:
        rows = [values.get(name, []) for name in ("costs", "exactly_one")]
        beside, grades = values.get("beside", {}), values.get("grades", [])
        lists = [*rows, *(row for of_field in rows if isinstance(of_field, list | tuple) for row in of_field), grades]
        numbers = [*(beside.values() if isinstance(beside, Mapping) else ["none"])]
        numbers += [each for row in rows[0] if isinstance(row, list | tuple) for each in row]
        if not all(isinstance(each, list | tuple) for each in lists) or {*map(type, numbers)} - {int, float}:
            raise ValueError(
                "a rule by cost has lists of grades, of costs and of groups of codes, and probabilities by code. "
                f"Received: {reprlib.repr(values)}"
            )
        return super().of_dict(values)

    def grounds(self) -> tuple[str, ...]:
        return (self.chosen,)
