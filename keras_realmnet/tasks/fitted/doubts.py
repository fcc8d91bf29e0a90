"""Where a negative result is not certain enough: sets of labels that may hold, and a bound on what is missed.

Both are conformal: a number each, fitted where networks are trained (`training.calibrating`), for a stated coverage or
risk of patients that are drawn as those were that they were fitted on. Neither changes a referral; a negative result of
which one of them doubts is "uncertain", and a person must look.
"""

from __future__ import annotations

import reprlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from keras_realmnet.tasks.fields import by_kind, from_json
from keras_realmnet.tasks.findings import Finding, GradeFinding, LabelFinding
from keras_realmnet.tasks.outputs import Grades, Labels, Output

__all__ = ["DOUBTS", "Doubt", "LabelSets", "MissedRisk", "doubt_from_dict", "shares"]


def shares(probability: NDArray[Any]) -> NDArray[np.float64]:
    """Probabilities of labels of which exactly one holds, (..., labels), divided by their sum; even where that is 0."""
    p = np.asarray(probability, np.float64)
    total = p.sum(axis=-1, keepdims=True)
    return np.asarray(np.divide(p, total, out=np.full_like(p, 1 / p.shape[-1]), where=total > 0))


@dataclass(frozen=True)
class Doubt:
    """Looks at the labels or grades of `output`. chosen: how and on which images it was fitted, for people."""

    kind: ClassVar[str]

    output: str
    chosen: str

    def check(self, outputs: Mapping[str, Output]) -> None:
        """Raises ValueError where the task has no such output, or other labels."""
        if not isinstance(outputs.get(self.output), Labels | Grades):
            raise ValueError(f"{self.kind!r} needs an output of labels or grades. Received: {self.output!r}")

    def why(self, findings: Sequence[Finding], referred: Sequence[str]) -> str | None:
        """Why the result is uncertain, as a sentence; None where it is not. referred: codes that the rule refers."""
        raise NotImplementedError

    def to_dict(self) -> dict[str, Any]:
        return {"kind": self.kind, **asdict(self)}


@dataclass(frozen=True)
class LabelSets(Doubt):
    """Of each group of labels of which one holds, those that may: of which the share of the group is at its limit.

    groups: codes, of which exactly one holds; limits: of each group, 0 to 1. coverage: how often a group's set holds
    the true label, at least, of the pictures of new patients. Doubts where a set holds a label that the rule refers, or
    is empty: the picture is like none.

    Source: the least ambiguous sets of Sadinle, Lei and Wasserman, JASA 2019; patients with several pictures by Lee,
    Barber and Willett, arXiv 2306.06342.
    """

    kind: ClassVar[str] = "label_sets"

    groups: tuple[tuple[str, ...], ...]
    limits: tuple[float, ...]
    coverage: float

    def __post_init__(self) -> None:
        object.__setattr__(self, "groups", tuple(map(tuple, self.groups)))  # JSON has lists
        object.__setattr__(self, "limits", tuple(self.limits))
        if len(self.groups) != len(self.limits) or not self.groups:
            raise ValueError(f"a limit for each group of labels expected. Received: {self.groups!r}, {self.limits!r}")
        for name, values in (("limits", self.limits), ("coverage", (self.coverage,))):
            if not all(type(value) in (int, float) and 0 <= value <= 1 for value in values):
                raise ValueError(f"`{name}` must lie in [0, 1]. Received: {values!r}")

    def check(self, outputs: Mapping[str, Output]) -> None:
        super().check(outputs)
        output = outputs[self.output]
        assert isinstance(output, Labels | Grades)
        known = {output.labels.codes} if isinstance(output, Grades) else set(output.labels.exclusive)
        wrong = [group for group in self.groups if group not in known]
        if wrong:
            raise ValueError(f"{self.kind!r} needs groups of which one label holds. Received: {', '.join(wrong[0])}")

    def members(self, probabilities: NDArray[Any], group: int) -> NDArray[np.bool_]:
        """Which labels of a group may hold, of their probabilities (..., labels of the group)."""
        return np.asarray(shares(probabilities) >= self.limits[group])

    def why(self, findings: Sequence[Finding], referred: Sequence[str]) -> str | None:
        known, names = _probabilities(findings, self.output)
        may: list[str] = []
        for k, group in enumerate(self.groups):
            members = self.members(np.array([known[code] for code in group]), k)
            inside = [code for code, member in zip(group, members, strict=True) if member]
            if not inside:
                return f"No label fits: none of {', '.join(names[code] for code in group)} is likely enough."
            may += [names[code] for code in inside if code in referred]
        return f"What is referred cannot be excluded: {', '.join(may)}." if may else None


@dataclass(frozen=True)
class MissedRisk(Doubt):
    """Doubts where what the rule refers has a probability of `limit` or more: that of the most probable label, or of
    all such grades together.

    risk: of the patients with something to refer, so many at most have pictures below `limit` alone, with the stated
    confidence.
    """

    kind: ClassVar[str] = "missed_risk"

    limit: float
    risk: float
    confidence: float

    def __post_init__(self) -> None:
        for name in ("limit", "risk", "confidence"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"`{name}` must lie in [0, 1]. Received: {getattr(self, name)!r}")

    def why(self, findings: Sequence[Finding], referred: Sequence[str]) -> str | None:
        known, names = _probabilities(findings, self.output)
        graded = any(isinstance(each, GradeFinding) and each.output == self.output for each in findings)
        probabilities = {code: known[code] for code in referred if code in known}
        if not probabilities:
            return None
        most = max(probabilities, key=lambda code: probabilities[code])
        probability = sum(probabilities.values()) if graded else probabilities[most]
        if probability < self.limit:
            return None
        return (
            f"Too probable for a negative result: {names[most]}, with a probability of {probability:.2g}; less than "
            f"{self.limit:.2g} is needed."
        )


def _probabilities(findings: Sequence[Finding], output: str) -> tuple[dict[str, float], dict[str, str]]:
    """{code: probability} and {code: name} of the labels, or of the grades, of an output."""
    known: dict[str, float] = {}
    names: dict[str, str] = {}
    for each in findings:
        if each.output == output and isinstance(each, LabelFinding):
            known[each.code], names[each.code] = each.probability, each.name
        elif each.output == output and isinstance(each, GradeFinding):
            known |= each.probabilities
            names |= each.names
    return known, names


DOUBTS: dict[str, type[Doubt]] = {kind.kind: kind for kind in (LabelSets, MissedRisk)}


def doubt_from_dict(values: Any) -> Doubt:
    """The doubt that `Doubt.to_dict` describes. Raises ValueError for another kind, or missing or other fields."""
    kind, fields = by_kind(values, DOUBTS, "a doubt")
    groups, limits = fields.get("groups", []), fields.get("limits", [])
    lists = isinstance(limits, list | tuple) and isinstance(groups, list | tuple)
    if not lists or not all(isinstance(group, list | tuple) for group in groups):
        raise ValueError(f"groups of codes and their limits are lists. Received: {reprlib.repr(fields)}")
    return from_json(kind, fields, f"a doubt of kind {kind.kind!r}")
