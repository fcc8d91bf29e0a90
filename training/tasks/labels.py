"""Labels: any number of them may hold."""

from typing import ClassVar

import numpy as np

from keras_realmnet.tasks.outputs import Labels
from training.scoring.scores import score
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

    def scores(self, output: Labels, cases: Cases) -> dict[str, float | None]:
        found = score(cases["truth"], cases["predicted"], output.labels)
        return {name: found[name].value for name in self.figures}


def check_columns(truth: Array, columns: int) -> None:
    """Raises ValueError unless it is float32 (n, columns) with values from 0 to 1, or NaN."""
    if truth.dtype != np.float32 or truth.ndim != 2 or truth.shape[1] != columns:
        raise ValueError(f"must be float32 of shape (n, {columns}). Received: {truth.dtype} of shape {truth.shape}")
    if ((truth < 0) | (truth > 1)).any():
        raise ValueError(f"must lie in 0 to 1, or be NaN. Received: {np.nanmin(truth)} to {np.nanmax(truth)}")
