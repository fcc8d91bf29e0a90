"""Points: where landmarks lie."""

from typing import ClassVar

import numpy as np

from keras_realmnet.tasks.outputs import Points
from training.tasks.kind import Array, Cases, TrainedKind
from training.tasks.motion import Motion

__all__ = ["PointsKind"]


class PointsKind(TrainedKind[Points]):
    """Truth float32 (n, points, 3): x, y in fractions of the square, visible (1, 0, NaN unknown)."""

    losses = ("EuclideanDistance",)
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
        """ "distance": (n, points), in fractions of the square's side; NaN where no place is known."""
        apart = np.asarray(predicted[..., :2], np.float64) - truth[..., :2]
        return {"distance": np.hypot(apart[..., 0], apart[..., 1])}

    def scores(self, output: Points, cases: Cases) -> dict[str, float | None]:
        distances = cases["distance"][~np.isnan(cases["distance"])]
        if not distances.size:
            return dict.fromkeys(self.figures)
        return {"mean_distance": float(distances.mean()), "median_distance": float(np.median(distances))}
