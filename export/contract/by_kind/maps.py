"""Class maps: those that somebody looks at."""

from typing import ClassVar

import numpy as np

from export.contract.by_kind.figures import AtLeast, Values
from export.contract.by_kind.kind import Array, KindContract
from export.conversion.body import CONVOLUTIONAL
from keras_realmnet.screening.engines.base import Prediction
from keras_realmnet.tasks.outputs import Maps
from keras_realmnet.tasks.task import Task

__all__ = ["MapsContract"]


class MapsContract(KindContract[Maps]):
    """Of the maps of labels and grades that Keras gives ≥ 0.5, 1 where there is none.

    `map_correlation`: mean Pearson correlation. `same_peak`: share of maps with their maximum in the same cell.
    """

    figures: ClassVar = {"map_correlation": AtLeast("class-map correlation", "min_map_correlation")}
    limits: ClassVar = {
        "float32": {"min_map_correlation": 0.9999},
        "float16": {"min_map_correlation": 0.999},
        "int8": {"min_map_correlation": 0.99},
        CONVOLUTIONAL: {"min_map_correlation": 0.97},
    }
    cells: ClassVar = {
        "class maps: r, same peak": lambda values, _: f"{values['map_correlation']:.4f}, {values['same_peak']:.1%}"
    }

    def compare(self, name: str, task: Task, size: int, expected: Prediction, received: Prediction) -> Values:
        output = task.outputs[name]
        assert isinstance(output, Maps)
        pairs = [
            tuple(prediction[name][i, ..., k] for prediction in (expected, received))
            for i, k in np.argwhere(expected[output.of] >= 0.5)
            if np.ptp(expected[name][i, ..., k]) > 0
        ]
        return {
            "map_correlation": float(np.mean([_correlation(*pair) for pair in pairs])) if pairs else 1.0,
            "same_peak": float(np.mean([a.argmax() == b.argmax() for a, b in pairs])) if pairs else 1.0,
        }


def _correlation(expected: Array, received: Array) -> float:
    """Pearson correlation over the positions; 0 where `received` is the same everywhere."""
    if np.ptp(received) == 0:
        return 0.0
    return float(np.corrcoef(expected.ravel(), received.ravel())[0, 1])
