"""What follows for a picture, and what decides on it: the outcomes there are, and what every rule has."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from keras_realmnet.tasks.fields import from_json
from keras_realmnet.tasks.findings import Finding
from keras_realmnet.tasks.outputs import Output
from keras_realmnet.tasks.vocabulary import LabelSet

__all__ = ["OUTCOMES", "Outcome", "Rule", "Verdict", "acted_on_as", "probability_text"]

Outcome = Literal["refer", "uncertain", "negative", "insufficient", "not_analysed", "described"]

# Worst first: the order in which results are shown and patients are called back. `uncertain`: the network answered, and
# what it says is not certain enough for a negative result; a person must look, as at a referral. `described`: there are
# findings and nothing decides on them. Neither is ever a negative result.
OUTCOMES: tuple[Outcome, ...] = ("refer", "uncertain", "insufficient", "not_analysed", "negative", "described")


def acted_on_as(outcome: Outcome) -> Outcome:
    """The outcome whose act follows: an uncertain result goes wherever a referral goes."""
    return "refer" if outcome == "uncertain" else outcome


def probability_text(probability: float) -> str:
    """A probability with two decimals; within 0.01 of 0 and 1, where a threshold may lie, with three."""
    rest = min(probability, 1 - probability)
    return f"{probability:.{3 if 0 < rest < 0.01 else 2}f}"


@dataclass(frozen=True)
class Verdict:
    """What a rule says of a gradable picture.

    outcome: "refer", "negative", "uncertain", "described", or "not_analysed" where what the rule looks at was not
    found. reasons: for people. triggered: codes of the findings that refer, the most exceeding first. evidence: code of
    the finding that the rule looks at first, be it above its threshold or below. score: by how much it exceeds its
    threshold (negative: by how much it stays below), which orders a worklist; None without a threshold.
    """

    outcome: Outcome
    reasons: tuple[str, ...]
    triggered: tuple[str, ...] = ()
    evidence: str | None = None
    score: float | None = None


@dataclass(frozen=True)
class Rule:
    """Decides on the findings of one gradable picture."""

    kind: ClassVar[str]

    @property
    def abstains(self) -> bool:
        """Whether it may say "uncertain"."""
        return False

    def check(self, outputs: Mapping[str, Output], measures: Sequence[str]) -> None:
        """Raises ValueError where the rule looks at an output or a measure (by code) that the task has not."""
        raise NotImplementedError

    def decide(self, findings: Sequence[Finding]) -> Verdict:
        raise NotImplementedError

    def thresholds(self, output: str) -> dict[str, float]:
        """{code: probability} of the labels of an output that the rule compares; empty for other outputs."""
        return {}

    def from_grade(self, output: str) -> str | None:
        """The code of the grade of an output from which the rule refers; None for other outputs."""
        return None

    def referred(self, output: str, labels: LabelSet) -> tuple[str, ...]:
        """The codes of an output, with these labels or grades, that the rule refers; empty for other outputs."""
        return ()

    def refers(self, output: str, probabilities: NDArray[Any], labels: LabelSet) -> NDArray[np.bool_] | None:
        """Whether these calibrated probabilities, (n, labels), refer each image by themselves, (n,); None: no labels
        of another output do."""
        return None

    def to_dict(self) -> dict[str, Any]:
        """JSON-safe; `rule_from_dict` gives an equal rule back."""
        raise NotImplementedError

    @classmethod
    def of_dict(cls, values: Mapping[str, Any]) -> Rule:
        """Raises ValueError for missing or other fields, or other types."""
        return from_json(cls, values, f"a rule of kind {cls.kind!r}")

    def grounds(self) -> tuple[str, ...]:
        """How and on which data its thresholds were chosen, for people."""
        return ()
