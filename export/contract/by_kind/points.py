"""Points: by how much each moves, and whether it is found."""

from typing import ClassVar

import numpy as np

from export.contract.by_kind.figures import AtMost, Change, Decoding, Share, Values, largest_mean_p99
from export.contract.by_kind.kind import Array, KindContract
from keras_realmnet.screening.engines.base import Prediction
from keras_realmnet.tasks.outputs import Points
from keras_realmnet.tasks.task import Task

__all__ = ["PointsContract"]

SIDE = 256  # of which distances are parts, whatever the model's square has


class PointsContract(KindContract[Points]):
    """Distances between the places that Keras and the artifact give, in 256ths of the side.

    That is what the first network of points saw. A larger picture, which another network needs beside, or which is
    looked at reduced, asks for no more of a place in the eye.

    Of points with a confidence those count that either finds: elsewhere the place says nothing. `found_changed`: images
    in which a point is found by one alone.

    int8 moves a point by a quarter of one in the mean. Where a point can hardly be seen its heat map is wide, and int8
    weights alone move it by several, away from Keras but not from the truth (docs/palm.md): so the mean has the
    narrow limit, and the 99th percentile a wider one.
    """

    figures: ClassVar = {
        "max_pixels": AtMost("largest distance of a point in 256ths of the side", "max_pixels"),
        "mean_pixels": AtMost("mean distance of points in 256ths of the side", "mean_pixels"),
        "p99_pixels": AtMost("99th percentile of the distances of points in 256ths of the side", "p99_pixels"),
        "found_changed": Share("images' found points", "change_rate"),
    }
    changes: ClassVar = {"mean_distance": Change("mean_distance", "mean distance", "mean distance")}
    limits: ClassVar = {
        "float32": {"max_pixels": 0.05, "mean_pixels": None, "p99_pixels": None, "change_rate": 0.0},
        "float16": {"max_pixels": None, "mean_pixels": None, "p99_pixels": 0.1, "change_rate": None},
        "int8": {"max_pixels": None, "mean_pixels": 0.5, "p99_pixels": 2.0, "change_rate": 0.005},
    }
    cells: ClassVar = {
        "max, 1/256": lambda values, _: f"{values['max_pixels']:.2g}",
        "99 %, 1/256": lambda values, _: f"{values['p99_pixels']:.2g}",
        "mean, 1/256": lambda values, _: f"{values['mean_pixels']:.2g}",
        "found or not changed": lambda values, images: f"{values['found_changed']} of {images}",
    }
    drawn_as = ("distance to Keras, 256ths of the side", "images × points")
    decoding = Decoding(
        "max_pixels", 0.5, "move a point by up to … 256ths of the side", "largest distance of a point, 256ths"
    )

    def compare(self, name: str, task: Task, size: int, expected: Prediction, received: Prediction) -> Values:
        distance = self.drawn(name, task, size, expected, received)
        found = [_found(task.outputs[name], prediction[name]) for prediction in (expected, received)]
        changed = (found[0] != found[1]).any(axis=1)
        return {**largest_mean_p99("pixels", distance[~np.isnan(distance)]), "found_changed": int(changed.sum())}

    def drawn(self, name: str, task: Task, size: int, expected: Prediction, received: Prediction) -> Array:
        apart = (received[name][..., :2].astype("float64") - expected[name][..., :2]) * SIDE
        either = _found(task.outputs[name], expected[name]) | _found(task.outputs[name], received[name])
        return np.where(either, np.hypot(apart[..., 0], apart[..., 1]), np.nan)

    def tells(self, output: Points, values: Array) -> Array:
        """How sure it is of its places."""
        return values[..., 2].mean(axis=1) if output.confidence else np.zeros(len(values))

    def truth_form(self, output: Points, images: int, size: int) -> tuple[str, tuple[int, ...]]:
        return "float32", (images, len(output.labels), 3)


def _found(output, values: Array) -> Array:
    """bool (n, points); without a confidence each is found."""
    return values[..., 2] >= output.min_confidence if output.confidence else np.ones(values.shape[:2], np.bool_)
