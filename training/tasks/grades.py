"""Grades: exactly one holds, and they are ordered."""

from typing import ClassVar

import numpy as np

from keras_realmnet.tasks.outputs import Grades
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
        return {"grade": np.where(known, truth.argmax(axis=1), -1), "predicted": predicted.argmax(axis=1)}

    def scores(self, output: Grades, cases: Cases) -> dict[str, float | None]:
        known = cases["grade"] >= 0
        if not known.any():
            return dict.fromkeys(self.figures)
        true, predicted, grades = cases["grade"][known], cases["predicted"][known], len(output.labels)
        return {"kappa": quadratic_kappa(true, predicted, grades), "accuracy": float((true == predicted).mean())}


def quadratic_kappa(true: Array, predicted: Array, grades: int) -> float | None:
    """Cohen's kappa with quadratic weights, 1 − Σ w·observed / Σ w·expected, w = (i − j)²; None where nothing differs.

    For grades 0, 1, 2 and predictions 0, 2, 2 of three images: 1 − 1 / 5 = .8.
    """
    counts = np.zeros((grades, grades))
    np.add.at(counts, (true, predicted), 1)
    weights = np.square(np.subtract.outer(np.arange(grades), np.arange(grades)))
    expected = np.outer(counts.sum(axis=1), counts.sum(axis=0)) / counts.sum()
    chance = float((weights * expected).sum())
    return 1 - float((weights * counts).sum()) / chance if chance else None
