"""From a finished training run to a bundle: models, thresholds, golden output and provenance in one folder."""

import json
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from export.bundling.making import Meaning, calibration_images, make_and_measure
from export.bundling.provenance import INTENDED_USE, readable_scores, training_data, versions
from export.contract.images import CACHE, Images
from export.contract.parity import Parity
from export.conversion.artifacts import DEFAULT_ARTIFACTS
from keras_realmnet import RealMNet
from keras_realmnet.errors import RealMNetError
from keras_realmnet.models.map_offset import measure_map_offset
from keras_realmnet.screening.bundle.bundle import SOURCE_FILE, Bundle
from keras_realmnet.screening.bundle.writing import write_bundle
from keras_realmnet.tasks.rules import OperatingPoint
from keras_realmnet.tasks.task import PROBABILITIES, labels_task

__all__ = ["bundle_from_run"]


def bundle_from_run(
    weights: Path,
    directory: Path,
    name: str | None = None,
    version: str = "1",
    artifacts: Sequence[str] = DEFAULT_ARTIFACTS,
) -> tuple[Bundle, dict[str, Parity]]:
    """Exports the run in the folder of `weights`, measures each artifact on its test images, writes the bundle.

    Args:
        weights: the folder of a finished run, or the `weights.weights.h5` in it.
        name: of the bundle; the recipe's where `None`.
        artifacts: some of `export.conversion.artifacts.ARTIFACTS`. "int8" is the default one where it is among them,
            else the first.

    Returns:
        The bundle, and per artifact how far it is from Keras.

    Raises:
        RealMNetError: `weights` does not belong to a finished run of a RealMNet, with an operating point and test
            images.
        BundleMismatch: an artifact differs from Keras by more than `export.contract.parity.LIMITS`; nothing is written.
    """
    run = _Run.read(weights)
    meaning = run.meaning
    calibration = calibration_images(run.data, meaning.spec)
    # Findings lie in one place; where there is none the map has no place either.
    offset = measure_map_offset(run.model, calibration, meaning.task.label_set.pathologic_columns)
    run.model.map_offset = offset.rows, offset.columns
    with tempfile.TemporaryDirectory() as folder:
        sources, parity, expected = make_and_measure(run.model, artifacts, Path(folder), calibration, run.test, meaning)
        golden = run.test.pixels[int(expected[PROBABILITIES].max(axis=1).argmax())][None]
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
            training_data=training_data(run.facts),
            scores=readable_scores(run.scores, parity, offset),
            versions=versions(run.facts, sources),
            intended_use=INTENDED_USE,
            source=Path(folder) / SOURCE_FILE,
        )
    return bundle, parity


@dataclass(frozen=True)
class _Run:
    """What a bundle takes from a finished run: `scores` and `facts` are its scores.json and run.json."""

    name: str
    model: RealMNet
    data: Any
    meaning: Meaning
    test: Images
    scores: dict[str, Any]
    facts: dict[str, Any]

    @classmethod
    def read(cls, weights: Path) -> "_Run":
        """Raises RealMNetError as `bundle_from_run`."""
        from training.runs import load_run, read_task

        run = Path(weights)
        run = run.parent if run.is_file() else run
        model, recipe = load_run(run)
        scores = _read_json(run / "scores.json")
        facts = _read_json(run / "run.json")
        spec = recipe.spec()
        if facts["preprocess_hash"] != spec.hash and facts["preprocess"].get("size") == spec.size:
            raise RealMNetError(f"{run}: trained with preprocessing {facts['preprocess_hash']}, this is {spec.hash}")
        if not isinstance(model, RealMNet):
            raise RealMNetError(f"{run}: a bundle holds a RealMNet. Received: {recipe.preset}")
        if scores["operating_point"] is None:
            raise RealMNetError(f"{run}: the run has no operating point: it had no validation images to choose one on")
        test = recipe.data.load("test", spec, CACHE)
        if test is None:
            raise RealMNetError(f"{run}: its {recipe.data.kind} data has no test images")
        point = OperatingPoint.from_dict(scores["operating_point"])
        task = read_task(run)
        meaning = Meaning(labels_task(task.label_set, task.modality, point), spec)
        images = Images(test.images, f"test split of {recipe.data.kind}", test.labels, test.patients)
        return cls(recipe.name, model, recipe.data, meaning, images, scores, facts)


def _read_json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise RealMNetError(f"{path}: no such file; expected the folder of a finished and evaluated run")
    return json.loads(path.read_text())
