"""Points: where landmarks lie."""

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from keras_realmnet.tasks.outputs import Points
from training.scoring.by_kind.points import PointScorer
from training.scoring.statistics.bootstrap import Scorer
from training.tasks.kind import Array, Cases, TrainedKind
from training.tasks.motion import Motion

__all__ = ["PointsKind"]


class PointsKind(TrainedKind[Points]):
    """Truth float32 (n, points, 3): x, y in fractions of the square, visible (1, 0, NaN unknown)."""

    losses = ("EuclideanDistance", "ConfidenceOffsets")  # the latter of networks that tell points by maps of cells
    spatial = True
    figures: ClassVar = {"mean_distance": False, "median_distance": False}

    def check(self, output: Points, truth: Array, side: int) -> None:
        if truth.dtype != np.float32 or truth.ndim != 3 or truth.shape[1:] != (len(output.labels), 3):
            shape = f"(n, {len(output.labels)}, 3)"
            raise ValueError(f"must be float32 of shape {shape}. Received: {truth.dtype} of shape {truth.shape}")
        visible, placed = truth[..., 2], ~np.isnan(truth[..., :2])
        if not ((visible == 0) | (visible == 1) | np.isnan(visible)).all():
            raise ValueError("must be visible (1), not (0), or unknown (NaN)")
        if (placed.all(axis=-1) != (visible == 1)).any() or (placed.any(axis=-1) != placed.all(axis=-1)).any():
            raise ValueError("must have x and y where they are visible, and NaN elsewhere")

    def unknown(self, output: Points, count: int, side: int) -> Array:
        return np.full((count, len(output.labels), 3), np.nan, np.float32)

    def presence(self, output: Points, truth: Array) -> tuple[Array, Array]:
        return truth[..., 2] == 1, ~np.isnan(truth[..., 2])

    def moved(self, truth: Array, motion: Motion) -> Array:
        return motion.points(truth)

    def cases(self, output: Points, truth: Array, predicted: Array) -> dict[str, Array]:
        """See `PointScorer`; "place", (n, points, 2 or 3), and "truth", (n, points, 3), for the table.

        A point that lies outside of the square, or has too little confidence, is not found.
        """
        place = np.asarray(predicted, np.float64)
        apart = place[..., :2] - truth[..., :2]
        found: Array = np.all((place[..., :2] >= 0) & (place[..., :2] <= 1), axis=-1)
        if output.confidence:
            found = found & (place[..., 2] >= output.min_confidence)
        distance = np.hypot(apart[..., 0], apart[..., 1])
        return {"distance": distance, "visible": truth[..., 2], "found": found, "place": predicted, "truth": truth}

    def scorer(self, output: Points, cases: Cases, units: Array) -> Scorer:
        return PointScorer(output.labels, cases, units)

    def counts(self, output: Points, cases: Cases) -> dict[str, Any]:
        visible = cases["visible"]
        return {
            code: {
                "visible": int((visible[:, k] == 1).sum()),
                "not visible": int((visible[:, k] == 0).sum()),
                "unknown": int(np.isnan(visible[:, k]).sum()),
            }
            for k, code in enumerate(output.labels.codes)
        }

    def columns(self, name: str, output: Points, cases: Cases) -> dict[str, Sequence[str]]:
        """In fractions of the square's side; nothing where it is not known."""
        parts = ("x", "y", "confidence") if output.confidence else ("x", "y")
        columns: dict[str, Sequence[str]] = {}
        for k, code in enumerate(output.labels.codes):
            of_code = {f"true_{code}_{part}": cases["truth"][:, k, j] for j, part in enumerate(("x", "y", "visible"))}
            of_code |= {f"{code}_{part}": cases["place"][:, k, j] for j, part in enumerate(parts)}
            of_code[f"{code}_distance"] = cases["distance"][:, k]
            columns |= {column: ["" if np.isnan(v) else str(v) for v in values] for column, values in of_code.items()}
        return columns
