"""From a finished training run to a bundle: models, thresholds, golden output and provenance in one folder."""

import json
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from export.bundling.making import Meaning, calibration_images, halves, make_and_measure
from export.bundling.provenance import INTENDED_USE, readable_scores, training_data, versions
from export.contract.by_kind.kinds import contract_of
from export.contract.images import CACHE, Images, images_of_set
from export.contract.parity import Parity
from export.conversion.artifacts import DEFAULT_ARTIFACTS
from export.conversion.deployment import maps_in_words, with_class_maps
from keras_realmnet import RealMNet
from keras_realmnet.errors import RealMNetError
from keras_realmnet.models.map_offset import MapOffset, measure_map_offset
from keras_realmnet.screening.bundle.bundle import SOURCE_FILE, Bundle
from keras_realmnet.screening.bundle.writing import write_bundle
from keras_realmnet.tasks.guidance import deployed
from keras_realmnet.tasks.outputs import Labels
from keras_realmnet.tasks.rules import AnyAbove, OperatingPoint
from keras_realmnet.tasks.task import Task

__all__ = ["bundle_from_run"]


def bundle_from_run(
    weights: Path,
    directory: Path,
    name: str | None = None,
    version: str = "1",
    artifacts: Sequence[str] = DEFAULT_ARTIFACTS,
    keep_source: bool = True,
    needs: tuple[str, ...] = (),
) -> tuple[Bundle, dict[str, Parity]]:
    """Exports the run in the folder of `weights`, measures each artifact on its test images, writes the bundle.

    Where no image is held out, as with --fold all, every second training image measures, the others calibrate, and the
    scores that the bundle states are those of cross-validation, if there are any.

    Args:
        weights: the folder of a finished run, or the `weights.weights.h5` in it.
        name: of the bundle; the recipe's where `None`.
        artifacts: some of `export.conversion.artifacts.ARTIFACTS`. "int8" is the default one where it is among them,
            else the first.
        keep_source: also put the Keras model into the bundle, from which `add` makes more artifacts.
        needs: what a picture must show, see `Task.needs`, beside what the run's own task needs.

    Returns:
        The bundle, and per artifact how far it is from Keras.

    Raises:
        RealMNetError: `weights` does not belong to a finished run with, where it answers pathologic labels, an
            operating point; or there is no such need.
        BundleMismatch: an artifact differs from Keras by more than the limits of `export.contract`; nothing is written.
    """
    run = _Run.read(weights)
    try:
        task = replace(run.meaning.task, needs=tuple(dict.fromkeys((*run.meaning.task.needs, *needs))))
    except ValueError as error:
        raise RealMNetError(str(error)) from error
    meaning = replace(run.meaning, task=task)
    offset = _map_offset(run.model, meaning.task, run.calibration)
    with tempfile.TemporaryDirectory() as folder:
        sources, parity, expected = make_and_measure(
            run.model, artifacts, Path(folder), run.calibration, run.images, meaning
        )
        name_of_first, first = next(iter(meaning.task.trained.items()))
        most = int(contract_of(first).tells(first, expected[name_of_first]).argmax())
        golden = run.images.pixels[most][None]
        if keep_source:
            run.model.save(Path(folder) / SOURCE_FILE)
        bundle = write_bundle(
            directory,
            name=name or run.name,
            version=version,
            task=meaning.task,
            spec=meaning.spec,
            artifacts=sources,
            default_artifact="int8" if "int8" in sources else artifacts[0],
            golden_image=np.ascontiguousarray(golden),
            training_data=training_data(run.facts, run.start),
            scores=readable_scores(run.scores, parity, maps_in_words(run.model, meaning.task), offset, run.folds),
            versions=versions(run.facts, sources),
            intended_use=INTENDED_USE,
            source=Path(folder) / SOURCE_FILE if keep_source else None,
        )
    return bundle, parity


@dataclass(frozen=True)
class _Run:
    """What a bundle takes from a finished run.

    `start`: what its weights were at first. `images`: what artifacts are measured on. `calibration`: training images
    for static int8, uint8 (n, size, size, 3). `scores`, `facts`, `folds`: its scores.json, None where nothing is held
    out, run.json and, where there is one, cross_validation.json.
    """

    name: str
    start: str | None
    model: keras.Model
    meaning: Meaning
    images: Images
    calibration: NDArray[np.uint8]
    scores: dict[str, Any] | None
    facts: dict[str, Any]
    folds: dict[str, Any] | None

    @classmethod
    def read(cls, weights: Path) -> "_Run":
        """Raises RealMNetError as `bundle_from_run`."""
        from training.runs import CROSS_VALIDATION, load_run

        run = Path(weights)
        run = run.parent if run.is_file() else run
        model, recipe = load_run(run)
        facts = _read_json(run / "run.json")
        spec = recipe.spec()
        if facts["preprocess_hash"] != spec.hash and facts["preprocess"].get("size") == spec.size:
            raise RealMNetError(f"{run}: trained with preprocessing {facts['preprocess_hash']}, this is {spec.hash}")
        test = recipe.data.load("test", spec, CACHE)
        if test is None:
            scores = None
            all_trained = recipe.data.load("train", spec, CACHE)
            images, calibration = halves(images_of_set(all_trained, f"training images of {recipe.data.kind}"))
        else:
            scores = _read_json(run / "scores.json")
            images = images_of_set(test, f"test split of {recipe.data.kind}")
            calibration = calibration_images(recipe.data, spec)
        meaning = Meaning(with_class_maps(model, _task(run, scores)), spec)
        folds = _read_json(run / CROSS_VALIDATION) if (run / CROSS_VALIDATION).is_file() else None
        return cls(recipe.name, recipe.weights, model, meaning, images, calibration, scores, facts, folds)


def _task(run: Path, scores: dict[str, Any] | None) -> Task:
    """What the run's network answers and decides by; runs of earlier releases have their thresholds in scores.json.

    Raises RealMNetError where pathologic labels have no thresholds.
    """
    from training.runs import fitted_task

    task = deployed(fitted_task(run))
    if not task.refers and scores and scores.get("operating_point"):
        (name,) = task.trained
        task = replace(task, rule=AnyAbove(name, OperatingPoint.from_dict(scores["operating_point"])))
    for name, output in task.trained.items():
        if isinstance(output, Labels) and output.labels.pathologic and not task.rule.referred(name, output.labels):
            raise RealMNetError(f"{run}: the run has no operating point: it had no validation images to choose one on")
    return task


def _map_offset(model: keras.Model, task: Task, images: NDArray[np.uint8]) -> MapOffset | None:
    """The offset of a RealMNet's class maps of labels, which then moves them back; None of other networks."""
    (output, *others) = task.trained.values()
    if not isinstance(model, RealMNet) or others or not isinstance(output, Labels):
        return None
    # Findings lie in one place; where there is none the map has no place either.
    offset = measure_map_offset(model, images, output.labels.pathologic_columns)
    model.map_offset = offset.rows, offset.columns
    return offset


def _read_json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise RealMNetError(f"{path}: no such file; expected the folder of a finished and evaluated run")
    return json.loads(path.read_text())
