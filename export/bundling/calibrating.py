"""A bundle calibrated with its own engine: what is fitted on what the box's model says of validation images."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from export.contract.parity import runtime_predictions
from keras_realmnet.errors import DataSetError
from keras_realmnet.screening.bundle.bundle import Bundle
from keras_realmnet.screening.bundle.writing import refit
from keras_realmnet.screening.runtimes import open_runtime
from training.calibrating.fitting import Fitting, Settings, Validation, classified, fit_task
from training.calibrating.measuring import coverage_of_splits, measure
from training.calibrating.runs import held_apart, with_answers
from training.datasets.data_set import DataSet
from training.datasets.image_set import ImageSet

__all__ = ["calibrate_bundle", "measure_bundle", "write_calibration"]


def calibrate_bundle(
    bundle: Bundle,
    data: DataSet,
    settings: Settings,
    cache: Path = Path("data/cache"),
    replicates: int = 1000,
    splits: int = 0,
    tell: Callable[[str], None] = lambda line: None,
) -> tuple[Fitting, dict[str, Any]]:
    """What the default artifact of a bundle needs between output and rule, and how every artifact does with it.

    Args:
        data: what the network was trained on, or other images of the kind; its validation images fit, its test images
            measure. splits: random ones of the validation patients on which the coverage is counted.
        tell: is handed a line as each step begins.

    Returns:
        The fit; and, JSON-safe, "report", "test", {artifact: what `measure` gives}, "before", the same of the default
        artifact as the bundle is now, and, with `splits`, "splits".

    Raises:
        DataSetError: no validation images that are not the test images; too few patients.
    """
    validation, test = held_apart(data, bundle.spec, cache)
    tell(f"{bundle.default_artifact} on {len(validation)} validation images")
    on_validation = _answers(bundle, bundle.default_artifact, validation, f"validation images of {data.kind}")
    fitting = fit_task(bundle.task, on_validation, settings)
    result: dict[str, Any] = {"report": dict(fitting.report), "test": {}}
    for name, on_test in _of_artifacts(bundle, test, f"test images of {data.kind}", tell):
        result["test"][name] = measure(fitting.task, on_test, replicates)
        if name == bundle.default_artifact:
            result["before"] = measure(bundle.task, on_test, 0)
    if splits:
        tell(f"coverage on {splits} random splits")
        result["splits"] = coverage_of_splits(fitting.task, on_validation, splits, settings)
    return fitting, result


def measure_bundle(
    bundle: Bundle,
    data: DataSet,
    cache: Path = Path("data/cache"),
    replicates: int = 1000,
    tell: Callable[[str], None] = lambda line: None,
) -> dict[str, Any]:
    """{artifact: what `measure` gives} of a bundle as it is, on the test images of a data set; nothing is fitted.

    Raises DataSetError: no test images.
    """
    test = data.load("test", bundle.spec, cache)
    if test is None or not len(test):
        raise DataSetError(f"{data.kind} has no test images")
    return {
        name: measure(bundle.task, on_test, replicates)
        for name, on_test in _of_artifacts(bundle, test, f"test images of {data.kind}", tell)
    }


def _of_artifacts(
    bundle: Bundle, images: ImageSet, what: str, tell: Callable[[str], None]
) -> Iterator[tuple[str, Validation]]:
    """What each artifact whose file is there says of images."""
    for name in bundle.artifacts:
        if name not in bundle.absent:
            tell(f"{name} on {len(images)} {what}")
            yield name, _answers(bundle, name, images, what)


def write_calibration(bundle: Bundle, fitting: Fitting, measured: dict[str, Any], version: str) -> Bundle:
    """The bundle with what was fitted; its scores say what it gave on test images, and no longer how often the rule
    before was right."""
    scores = {"calibration and decisions": {**measured["report"], "test": _main(measured["test"])}}
    if "test" in bundle.scores:
        by_the_rule = ("sensitivity", "specificity")
        scores["test"] = {name: each for name, each in bundle.scores["test"].items() if name not in by_the_rule}
    return refit(bundle, fitting.task, scores, version)


def _main(test: dict[str, Any]) -> dict[str, Any]:
    """Of each artifact the means over labels, with intervals, and the decisions."""
    found: dict[str, Any] = {}
    for artifact, measured in test.items():
        found[artifact] = {"images": measured["images"], "patients": measured["patients"]}
        for name, output in measured["outputs"].items():
            for when in ("before", "after"):
                for part in ("ece", "brier"):
                    if when in output:
                        found[artifact][f"{part} of {name}, {when}"] = _interval(output[when][part])
        for what, shares in measured.get("decisions", {}).items():
            if what != "images":
                told = {outcome: each["count"] for outcome, each in shares.items() if outcome != "patients"}
                found[artifact][f"{what} something to refer"] = {"patients": shares["patients"], **told}
    return found


def _interval(score: dict[str, Any]) -> str:
    low, high = score["low"], score["high"]
    return f"{score['value']:.4f}" + ("" if low is None else f" ({low:.4f}–{high:.4f})")


def _answers(bundle: Bundle, artifact: str, images: ImageSet, what: str) -> Validation:
    runtime = open_runtime(bundle, artifact, threads=None)
    said = runtime_predictions(runtime, (images.image(k) for k in range(len(images))))
    return with_answers(images, {name: np.asarray(said[name]) for name in classified(bundle.task)}, what)
