"""Features: vectors that point in the same direction."""

from typing import ClassVar

import numpy as np

from export.contract.by_kind.figures import AtLeast, Values
from export.contract.by_kind.kind import KindContract
from keras_realmnet.screening.engines.base import Prediction
from keras_realmnet.tasks.outputs import Features
from keras_realmnet.tasks.task import Task

__all__ = ["FeaturesContract"]


class FeaturesContract(KindContract[Features]):
    """`cosine`: of the angle between the vectors of Keras and the artifact, the smallest over the images."""

    figures: ClassVar = {"cosine": AtLeast("cosine of features to Keras'", "min_cosine")}
    limits: ClassVar = {
        "float32": {"min_cosine": 0.99999},
        "float16": {"min_cosine": 0.9999},
        "int8": {"min_cosine": 0.99},
    }
    cells: ClassVar = {"features: cosine": lambda values, _: f"{values['cosine']:.4f}"}

    def compare(self, name: str, task: Task, size: int, expected: Prediction, received: Prediction) -> Values:
        a, b = (prediction[name].astype("float64") for prediction in (expected, received))
        lengths = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
        same = (a == b).all(axis=1)  # also two vectors of zeros
        cosine = np.where(same, 1.0, (a * b).sum(axis=1) / np.where(lengths > 0, lengths, 1))
        return {"cosine": float(cosine.min())}
