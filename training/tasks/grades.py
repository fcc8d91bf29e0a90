"""Grades: exactly one holds, and they are ordered."""

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from keras_realmnet.tasks.outputs import Grades
from training.scoring.by_kind.grades import GradeScorer, confusion
from training.scoring.statistics.bootstrap import Scorer
from training.tasks.kind import Array, Cases, TrainedKind
from training.tasks.labels import check_columns

__all__ = ["GradesKind"]


class GradesKind(TrainedKind[Grades]):
    """Truth float32 (n, grades), one-hot; a row of NaN is unknown."""

    losses = ("SoftmaxCrossentropy",)
    mixes = True
    figures: ClassVar = {"kappa": True, "accuracy": True}

    def check(self, output: Grades, truth: Array, side: int) -> None:
        check_columns(truth, len(output.labels))
        unknown = np.isnan(truth)
        wrong = unknown.any(axis=1) != unknown.all(axis=1)
        wrong |= ~unknown.any(axis=1) & (truth.sum(axis=1) != 1)
        if wrong.any():
            raise ValueError(f"must be one-hot, or NaN in the whole row. Received: {truth[wrong][0].tolist()}")

    def cases(self, output: Grades, truth: Array, predicted: Array) -> dict[str, Array]:
        known = ~np.isnan(truth).any(axis=1)
        grade = np.where(known, np.nan_to_num(truth).argmax(axis=1), -1)
        return {"grade": grade, "predicted": predicted.argmax(axis=1), "probabilities": predicted}

    def scorer(self, output: Grades, cases: Cases, units: Array) -> Scorer:
        return GradeScorer(output.labels, cases, units)

    def counts(self, output: Grades, cases: Cases) -> dict[str, Any]:
        """ "confusion": the rows are true grades, the columns predicted ones."""
        codes = list(output.labels.codes)
        table = confusion(cases["grade"], cases["predicted"], len(codes))
        return {"known": int((cases["grade"] >= 0).sum()), "grades": codes, "confusion": table.tolist()}

    def columns(self, name: str, output: Grades, cases: Cases) -> dict[str, Sequence[str]]:
        codes = output.labels.codes
        return {
            f"true_{name}": ["" if grade < 0 else codes[grade] for grade in cases["grade"]],
            name: [codes[grade] for grade in cases["predicted"]],
            **{code: [str(value) for value in cases["probabilities"][:, k]] for k, code in enumerate(codes)},
        }
