"""Labels: any number of them may hold."""

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from keras_realmnet.tasks.outputs import Labels
from training.scoring.statistics.bootstrap import Scorer
from training.scoring.statistics.cases import Cases as ScoredCases
from training.scoring.statistics.scores import LabelScorer
from training.scoring.tables import label_columns
from training.tasks.kind import Array, Cases, TrainedKind

__all__ = ["LabelsKind", "check_columns"]


class LabelsKind(TrainedKind[Labels]):
    """Truth float32 (n, labels): 1 present, 0 absent, NaN unknown; mixtures of images have values between."""

    losses = ("AsymmetricLoss", "BinaryCrossentropy", "FocalLoss", "TwoWayLoss")
    mixes = True
    figures: ClassVar = {"macro_auroc": True, "map": True, "pathologic_auroc": True}

    def check(self, output: Labels, truth: Array, side: int) -> None:
        check_columns(truth, len(output.labels))

    def cases(self, output: Labels, truth: Array, predicted: Array) -> dict[str, Array]:
        return {"truth": truth, "predicted": predicted}

    def scorer(self, output: Labels, cases: Cases, units: Array) -> Scorer:
        return LabelScorer(ScoredCases.of_images(cases["truth"], cases["predicted"], output.labels), units)

    def counts(self, output: Labels, cases: Cases) -> dict[str, Any]:
        return {code: int((cases["truth"][:, k] == 1).sum()) for k, code in enumerate(output.labels.codes)}

    def columns(self, name: str, output: Labels, cases: Cases) -> dict[str, Sequence[str]]:
        return label_columns(cases["truth"], cases["predicted"], output.labels)


def check_columns(truth: Array, columns: int) -> None:
    """Raises ValueError unless it is float32 (n, columns) with values from 0 to 1, or NaN."""
    if truth.dtype != np.float32 or truth.ndim != 2 or truth.shape[1] != columns:
        raise ValueError(f"must be float32 of shape (n, {columns}). Received: {truth.dtype} of shape {truth.shape}")
    if ((truth < 0) | (truth > 1)).any():
        raise ValueError(f"must lie in 0 to 1, or be NaN. Received: {np.nanmin(truth)} to {np.nanmax(truth)}")
