"""Does an artifact compute what the Keras model computes? Measured on images, held against stated limits."""

from collections.abc import Iterable
from dataclasses import dataclass

import keras
import numpy as np
from numpy.typing import NDArray

from keras_realmnet import RealMNet
from keras_realmnet.screening.decision import OperatingPoint
from keras_realmnet.screening.labels import LabelSet
from keras_realmnet.screening.runtimes import Prediction, Runtime

__all__ = ["LIMITS", "Limits", "Parity", "keras_predictions", "measure", "runtime_predictions"]


@dataclass(frozen=True)
class Limits:
    """The largest differences an artifact of some precision may show; `None` where nothing is promised."""

    max_probability: float | None
    p99_probability: float | None
    mean_probability: float | None
    flip_rate: float | None
    min_map_correlation: float | None


LIMITS = {
    "float32": Limits(1e-4, None, None, 0.0, 0.9999),
    "float16": Limits(None, 0.005, None, None, None),
    # The arg-max of the head may move by a cell in int8, and the class map with it: that limit is the looser one.
    "int8": Limits(None, 0.02, 0.005, 0.005, 0.8),
}


@dataclass(frozen=True)
class Parity:
    """Differences of one artifact to Keras over `images` images.

    max / p99 / mean of |Δ probability| over images and labels; `flips`: images whose referral decision differs;
    `map_correlation`: mean Pearson correlation of the class maps of labels that Keras gives ≥ 0.5 (1 where there is
    none), the figure that matters to somebody looking at them.
    """

    images: int
    max_probability: float
    p99_probability: float
    mean_probability: float
    flips: int
    map_correlation: float

    def violations(self, limits: Limits) -> list[str]:
        """One line per broken limit."""
        pairs = [
            ("largest |Δ probability|", self.max_probability, limits.max_probability),
            ("99th percentile of |Δ probability|", self.p99_probability, limits.p99_probability),
            ("mean |Δ probability|", self.mean_probability, limits.mean_probability),
        ]
        broken = [
            f"{name} is {value:.3g}, allowed {limit:.3g}"
            for name, value, limit in pairs
            if limit is not None and not value <= limit  # also for NaN
        ]
        if limits.flip_rate is not None:
            # Among few images one may lie on a threshold; a share below one image would forbid that by its number.
            allowed = max(1, int(limits.flip_rate * self.images)) if limits.flip_rate else 0
            if self.flips > allowed:
                broken.append(f"{self.flips} of {self.images} decisions changed, allowed {allowed}")
        if limits.min_map_correlation is not None and not self.map_correlation >= limits.min_map_correlation:
            broken.append(f"class-map correlation is {self.map_correlation:.4f}, required {limits.min_map_correlation}")
        return broken


def keras_predictions(model: RealMNet, images: NDArray[np.uint8], batch_size: int = 16) -> Prediction:
    """What the Keras model gives for `images`, uint8 (n, size, size, 3)."""
    inference = model.inference_model()
    outputs = [
        {name: keras.ops.convert_to_numpy(value) for name, value in inference(batch).items()}
        for batch in (images[i : i + batch_size].astype("float32") for i in range(0, len(images), batch_size))
    ]
    return Prediction(*(np.concatenate([o[name] for o in outputs]) for name in ("probabilities", "class_maps")))


def runtime_predictions(runtime: Runtime, images: Iterable[NDArray[np.uint8]]) -> Prediction:
    """What an artifact gives for `images`, each uint8 (size, size, 3)."""
    outputs = [runtime.predict(np.asarray(image)[None]) for image in images]
    return Prediction(
        np.concatenate([output.probabilities for output in outputs]),
        np.concatenate([output.class_maps for output in outputs]),
    )


def measure(expected: Prediction, received: Prediction, label_set: LabelSet, point: OperatingPoint) -> Parity:
    """The differences between two predictions of the same images."""
    difference = np.abs(received.probabilities.astype("float64") - expected.probabilities)
    refers = [point.refers(prediction.probabilities, label_set) for prediction in (expected, received)]
    correlations = [
        _correlation(expected.class_maps[i, ..., k], received.class_maps[i, ..., k])
        for i, k in np.argwhere(expected.probabilities >= 0.5)
        if np.ptp(expected.class_maps[i, ..., k]) > 0
    ]
    return Parity(
        images=len(difference),
        max_probability=float(difference.max()),
        p99_probability=float(np.percentile(difference, 99)),
        mean_probability=float(difference.mean()),
        flips=int((refers[0] != refers[1]).sum()),
        map_correlation=float(np.mean(correlations)) if correlations else 1.0,
    )


def _correlation(expected: NDArray[np.floating], received: NDArray[np.floating]) -> float:
    """Pearson correlation over the positions; 0 where `received` is the same everywhere."""
    if np.ptp(received) == 0:
        return 0.0
    return float(np.corrcoef(expected.ravel(), received.ravel())[0, 1])
