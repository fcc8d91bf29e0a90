"""Does an artifact compute what the Keras model computes? Measured on images, held against stated limits."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from export.contract.by_kind.figures import Value, Values, difference_of
from export.contract.by_kind.kinds import contract_of, limits_of
from export.contract.images import Images
from keras_realmnet.errors import BundleMismatch
from keras_realmnet.screening.engines.base import Prediction
from keras_realmnet.screening.runtimes import Runtime
from keras_realmnet.tasks.outputs import Maps
from keras_realmnet.tasks.task import Task
from training.scoring.statistics.significance import Difference, paired
from training.tasks.kinds import kind_of

__all__ = [
    "CONTRACT_IMAGES",
    "Parity",
    "finite",
    "incomparable",
    "measure",
    "refuse",
    "runtime_predictions",
    "told_of",
]

CONTRACT_IMAGES = 500  # labelled images from which a change of a score is judged: with fewer it is mostly chance


@dataclass(frozen=True)
class Parity:
    """Differences of one artifact to Keras over `images` images.

    `values`: {output of `task`: {figure: value}}, see the kinds in `by_kind`; where the truth is known with the scores
    of Keras (a), the artifact (b) and their difference with its paired bootstrap interval.
    """

    images: int
    task: Task
    values: Mapping[str, Values]

    def __getitem__(self, figure: str) -> Value:
        """A figure of a task with one output that has a truth, and of what explains it."""
        return self._flat(self.values)[figure]

    def violations(self, precision: str) -> list[str]:
        """One line per broken limit. Raises RealMNetError for a precision that has none."""
        return [told_of(self.task, name, line) for name in self.values for line in self._broken(name, precision)]

    def _broken(self, name: str, precision: str) -> Iterator[str]:
        contract, values = contract_of(self.task.outputs[name]), self.values[name]
        limits = limits_of(self.task.outputs[name], precision)
        for figure, rule in contract.figures.items():
            bound, value = limits.get(rule.limit), values.get(figure)
            if bound is not None and isinstance(value, int | float):
                line = rule.broken(value, bound, self.images)
                if line is not None:
                    yield line
        if self.images < CONTRACT_IMAGES:
            return
        for figure, change in contract.changes.items():
            bound, changed = limits.get(change.limit or ""), difference_of(values.get(figure))
            if bound is not None and changed is not None and not changed >= bound:
                yield f"{change.words} changes by {changed:.4f}, allowed {bound}"

    def unjudged(self, precision: str) -> str | None:
        """Which part of the limits these images cannot show, in one line; None where they show everything."""
        lines = [
            told_of(self.task, name, line)
            for name in self.values
            if (line := self._unjudged(name, precision)) is not None
        ]
        return "; ".join(lines) or None

    def _unjudged(self, name: str, precision: str) -> str | None:
        contract = contract_of(self.task.outputs[name])
        limits = limits_of(self.task.outputs[name], precision)
        asked = {figure: change for figure, change in contract.changes.items() if limits.get(change.limit or "")}
        scores = [self.values[name].get(figure) for figure in asked]
        judged = [difference_of(score) is not None for score in scores]
        if not asked or (self.images >= CONTRACT_IMAGES and all(judged)):
            return None
        received = f"{self.images} image{'' if self.images == 1 else 's'}"
        if not any(isinstance(score, Difference) for score in scores):
            received += " without labels"
        elif not all(judged):
            received += " whose labels are too much alike"
        changed = " and ".join(change.short for change in asked.values())
        return f"changes of {changed} were not judged: {CONTRACT_IMAGES} labelled images needed, {received} received"

    def limits(self, precision: str) -> dict[str, Any]:
        """What holds for the precision, as `to_dict` gives the figures."""
        of_outputs = {name: limits_of(self.task.outputs[name], precision) for name in self.values}
        return self._flat(of_outputs) if len(self.task.trained) == 1 else of_outputs

    def to_dict(self) -> dict[str, Any]:
        """JSON-safe, to three significant digits: the figures of the output, of several {output: its figures}."""
        rounded: dict[str, Any] = {
            name: {figure: _rounded(value) for figure, value in values.items() if value is not None}
            for name, values in self.values.items()
        }
        return {"images": self.images, **(self._flat(rounded) if len(self.task.trained) == 1 else rounded)}

    def _flat(self, by_output: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
        """All figures together, scores last."""
        found = {figure: value for values in by_output.values() for figure, value in values.items()}
        return dict(sorted(found.items(), key=lambda item: isinstance(item[1], Difference | dict)))


def told_of(task: Task, output: str, line: str) -> str:
    """A line about an output, which names it where there are several."""
    outputs = task.outputs
    explained = outputs[output]
    of = explained.of if isinstance(explained, Maps) else output
    return line if len(task.trained) == 1 else f"{of}: {line}"


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


def measure(expected: Prediction, received: Prediction, task: Task, images: Images, replicates: int = 1000) -> Parity:
    """The differences between two predictions of the same n images.

    Args:
        images: what was predicted; without its truth no score is compared, without its patients each image is resampled
            by itself.
        replicates: of the paired bootstrap.
    """
    size, number = images.pixels.shape[1], len(images.pixels)
    values: dict[str, Values] = {}
    for name, output in task.outputs.items():
        contract = contract_of(output)
        values[name] = contract.compare(name, task, size, expected, received)
        truth = (images.truth or {}).get(name)
        if contract.changes and truth is not None and np.isfinite(received[name]).all():
            found = _scores(name, task, truth, expected, received, images, replicates)
            values[name] = {**values[name], **{key: found[change.score] for key, change in contract.changes.items()}}
    return Parity(number, task, values)


def _scores(
    name: str,
    task: Task,
    truth: NDArray[Any],
    expected: Prediction,
    received: Prediction,
    images: Images,
    replicates: int,
) -> dict[str, Difference]:
    """Every score of an output against the truth."""
    output = task.trained[name]
    kind = kind_of(output)
    of_keras, of_artifact = (
        kind.make_scorer(output, kind.cases(output, truth, prediction[name])) for prediction in (expected, received)
    )
    patients = np.arange(len(truth)) if images.patients is None else np.asarray(images.patients)
    return paired(of_keras, of_artifact, patients.astype(np.str_), replicates)


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
        for line in found.violations(name if precisions is None else precisions[name])
    ]
    if broken:
        said.append("differs from Keras by more than allowed: " + "; ".join(broken))
    if said:
        raise BundleMismatch("; ".join(said))


def _rounded(value: Value) -> Any:
    if isinstance(value, Difference):
        return {key: _rounded(each) for key, each in asdict(value).items()}
    return value if value is None or isinstance(value, int) else float(f"{value:.3g}")
