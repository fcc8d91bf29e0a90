"""Does an artifact compute what the Keras model computes? Measured on images, held against stated limits."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from keras_realmnet.errors import BundleMismatch, RealMNetError
from keras_realmnet.screening.engines.base import Prediction
from keras_realmnet.screening.runtimes import Runtime
from keras_realmnet.tasks.task import CLASS_MAPS, PROBABILITIES, Task
from training.scoring.cases import Cases
from training.scoring.significance import Difference, paired_difference

__all__ = [
    "CONTRACT_IMAGES",
    "LIMITS",
    "Limits",
    "Parity",
    "finite",
    "incomparable",
    "limits_of",
    "measure",
    "refuse",
    "runtime_predictions",
]

CONTRACT_IMAGES = 500  # labelled images from which a change of a score is judged: with fewer it is mostly chance


@dataclass(frozen=True)
class Limits:
    """The largest differences an artifact of some precision may show; `None` where nothing is promised.

    `max_probability`, `p99_probability`, `mean_probability`: of |Δ probability| over images and labels. `flip_rate`:
    share of images whose decision changes. `min_map_correlation`: of class maps. `min_score_change`: of macro AUROC and
    mean average precision, artifact − Keras.
    """

    max_probability: float | None
    p99_probability: float | None
    mean_probability: float | None
    flip_rate: float | None
    min_map_correlation: float | None
    min_score_change: float | None = None


LIMITS = {
    "float32": Limits(1e-4, None, None, 0.0, 0.9999),
    "float16": Limits(None, 0.005, None, None, 0.999),
    "int8": Limits(None, 0.02, 0.005, 0.005, 0.99, -0.005),
}


def limits_of(precision: str) -> Limits:
    """The limits of a precision; "int8_mixed" and other kinds of int8 have those of "int8".

    Raises:
        RealMNetError: nothing is promised of that precision.
    """
    kind = next((kind for kind in LIMITS if precision == kind or precision.startswith(f"{kind}_")), None)
    if kind is None:
        raise RealMNetError(f"an artifact's precision must be one of {', '.join(LIMITS)}. Received: {precision!r}")
    return LIMITS[kind]


@dataclass(frozen=True)
class Parity:
    """Differences of one artifact to Keras over `images` images.

    max / p99 / mean of |Δ probability| over images and labels; `flips`: images whose referral decision differs. Of the
    class maps of labels that Keras gives ≥ 0.5, the figures that matter to somebody looking at them (1 where there is
    none): `map_correlation`, mean Pearson correlation, and `same_peak`, share of maps with their maximum in the same
    cell. `macro_auroc`, `mean_ap`: of Keras (a), the artifact (b) and their difference with its paired bootstrap
    interval; `None` without labels.
    """

    images: int
    max_probability: float
    p99_probability: float
    mean_probability: float
    flips: int
    map_correlation: float
    same_peak: float = 1.0
    macro_auroc: Difference | None = None
    mean_ap: Difference | None = None

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
        if limits.min_score_change is not None and self.images >= CONTRACT_IMAGES:
            broken += [
                f"{name} changes by {change:.4f}, allowed {limits.min_score_change}"
                for name, change in self._changes().items()
                if not change >= limits.min_score_change
            ]
        return broken

    def unjudged(self, limits: Limits) -> str | None:
        """Which part of the limits these images cannot show, in one line; None where they show everything."""
        both = len(self._changes()) == 2
        if limits.min_score_change is None or (self.images >= CONTRACT_IMAGES and both):
            return None
        received = f"{self.images} image{'' if self.images == 1 else 's'}"
        if self.macro_auroc is None:
            received += " without labels"
        elif not both:
            received += " whose labels are too much alike"
        return (
            f"changes of AUROC and mAP were not judged: {CONTRACT_IMAGES} labelled images needed, {received} received"
        )

    def _changes(self) -> dict[str, float]:
        scores = {"macro AUROC": self.macro_auroc, "mAP": self.mean_ap}
        return {
            name: score.difference
            for name, score in scores.items()
            if score is not None and score.difference is not None
        }

    def to_dict(self) -> dict[str, Any]:
        """JSON-safe, to three significant digits."""
        rounded: dict[str, Any] = {
            name: _rounded(value) for name, value in asdict(self).items() if not isinstance(value, dict)
        }
        for name in ("macro_auroc", "mean_ap"):
            score = getattr(self, name)
            rounded[name] = None if score is None else {key: _rounded(value) for key, value in asdict(score).items()}
        return {name: value for name, value in rounded.items() if value is not None}


def runtime_predictions(runtime: Runtime, images: Iterable[NDArray[np.uint8]]) -> Prediction:
    """What an artifact gives for `images`, each uint8 (size, size, 3)."""
    outputs = [runtime.predict(np.asarray(image)[None]) for image in images]
    return {name: np.concatenate([output[name] for output in outputs]) for name in outputs[0]}


def finite(prediction: Prediction) -> NDArray[np.bool_]:
    """For which of n images every number of the prediction is one, (n,)."""
    finite_by_output = [np.isfinite(value).reshape(len(value), -1).all(axis=1) for value in prediction.values()]
    return np.asarray(np.logical_and.reduce(finite_by_output))


def incomparable(expected: Prediction, received: Prediction) -> str | None:
    """Why two predictions cannot be compared, in one line; `None` where they can."""
    for name in expected:
        shapes = [prediction[name].shape for prediction in (expected, received)]
        if shapes[0] != shapes[1]:
            return f"{name} of the shape {shapes[0]} expected. Received: {shapes[1]}"
    good = finite(received)
    return None if good.all() else f"the output for {int((~good).sum())} of {len(good)} images is not finite"


def measure(
    expected: Prediction,
    received: Prediction,
    task: Task,
    truth: NDArray[np.floating] | None = None,
    patients: Sequence[str] | None = None,
    replicates: int = 1000,
) -> Parity:
    """The differences between two predictions of the same n images.

    Args:
        truth: (n, classes), 1, 0 or NaN where not known; without it no score is compared.
        patients: (n,), who is resampled for the intervals; each image by itself where `None`.
        replicates: of the paired bootstrap.
    """
    label_set, point = task.label_set, task.operating_point
    before, after = (prediction[PROBABILITIES] for prediction in (expected, received))
    difference = np.abs(after.astype("float64") - before)
    refers = [point.refers(probabilities, label_set) for probabilities in (before, after)]
    maps = [
        tuple(prediction[CLASS_MAPS][i, ..., k] for prediction in (expected, received))
        for i, k in np.argwhere(before >= 0.5)
        if np.ptp(expected[CLASS_MAPS][i, ..., k]) > 0
    ]
    scores: dict[str, Difference] = {}
    if truth is not None and np.isfinite(difference).all():
        of_keras, of_artifact = (Cases.of_images(truth, each, label_set, None, patients) for each in (before, after))
        found = paired_difference(of_keras, of_artifact, replicates=replicates)
        scores = {"macro_auroc": found["macro_auroc"], "mean_ap": found["map"]}
    return Parity(
        images=len(difference),
        max_probability=float(difference.max()),
        p99_probability=float(np.percentile(difference, 99)),
        mean_probability=float(difference.mean()),
        flips=int((refers[0] != refers[1]).sum()),
        map_correlation=float(np.mean([_correlation(*pair) for pair in maps])) if maps else 1.0,
        same_peak=float(np.mean([a.argmax() == b.argmax() for a, b in maps])) if maps else 1.0,
        **scores,
    )


def refuse(
    parity: Mapping[str, Parity], precisions: Mapping[str, str] | None = None, failed: Mapping[str, str] | None = None
) -> None:
    """Raises BundleMismatch naming every artifact and limit that is broken.

    Args:
        precisions: of the artifacts in `parity`; where `None`, they are called by it.
        failed: why, of each artifact that could not be measured.
    """
    said = [f"{name}: {why}" for name, why in (failed or {}).items()]
    broken = [
        f"{name}: {line}"
        for name, found in parity.items()
        for line in found.violations(limits_of(name if precisions is None else precisions[name]))
    ]
    if broken:
        said.append("differs from Keras by more than allowed: " + "; ".join(broken))
    if said:
        raise BundleMismatch("; ".join(said))


def _correlation(expected: NDArray[np.floating], received: NDArray[np.floating]) -> float:
    """Pearson correlation over the positions; 0 where `received` is the same everywhere."""
    if np.ptp(received) == 0:
        return 0.0
    return float(np.corrcoef(expected.ravel(), received.ravel())[0, 1])


def _rounded(value: float | None) -> float | None:
    return value if value is None or isinstance(value, int) else float(f"{value:.3g}")
