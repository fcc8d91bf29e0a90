"""From a finished training run to a bundle: models, thresholds, golden output and provenance in one folder."""

import importlib.metadata
import json
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from export.artifacts import DEFAULT_ARTIFACTS, ArtifactMaker
from export.costs import with_costs
from export.keras_source import keras_predictions
from export.parity import Parity, measure, refuse, runtime_predictions
from export.to_onnx import opens_in
from export.verify import CACHE
from keras_realmnet import RealMNet
from keras_realmnet.errors import RealMNetError
from keras_realmnet.models.map_offset import MapOffset, measure_map_offset
from keras_realmnet.screening.bundle import SOURCE_FILE, ArtifactSource, Bundle, write_bundle
from keras_realmnet.screening.decision import OperatingPoint
from keras_realmnet.screening.labels import LABEL_SETS
from keras_realmnet.screening.runtimes import engine_class

__all__ = ["INTENDED_USE", "bundle_from_run"]

INTENDED_USE = (
    "Research only. Not a medical device, not for clinical use: the model was not validated on patients and must not "
    "inform a decision about anybody's care."
)
CALIBRATION_IMAGES = 128
PACKAGES = ("keras", "tensorflow", "ai-edge-litert", "litert-quantizer", "onnx", "onnxruntime", "numpy")


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
        artifacts: some of `export.artifacts.ARTIFACTS`. "int8" is the default one where it is among them, else the
            first.

    Returns:
        The bundle, and per artifact how far it is from Keras.

    Raises:
        RealMNetError: `weights` does not belong to a finished run of a RealMNet, with an operating point and test
            images.
        BundleMismatch: an artifact differs from Keras by more than `export.parity.LIMITS`; nothing is written.
    """
    from training.fit import load_run

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
    images = test.images
    label_set = LABEL_SETS[scores["label_set"]]
    point = OperatingPoint.from_dict(scores["operating_point"])
    directory = Path(directory)

    train = recipe.data.load("train", spec, CACHE)
    assert train is not None  # the run has learned from it
    some = train.rows[:: max(1, len(train) // CALIBRATION_IMAGES)][:CALIBRATION_IMAGES]
    calibration = np.asarray(train.pixels[some])
    # Findings lie in one place; where there is none the map has no place either.
    offset = measure_map_offset(model, calibration, label_set.pathologic_columns)
    model.map_offset = offset.rows, offset.columns

    with tempfile.TemporaryDirectory() as folder:
        maker = ArtifactMaker(model, Path(folder), lambda: calibration)
        sources = {artifact: maker.make(artifact) for artifact in artifacts}
        expected = keras_predictions(model, images)
        parity = {}
        failed = {}
        for artifact, source in sources.items():
            try:
                received = runtime_predictions(engine_class(source.engine)(source.path), images)
            except RealMNetError as error:
                failed[artifact] = str(error)
                continue
            parity[artifact] = measure(expected, received, label_set, point, test.labels, test.patients)
        refuse(parity, {artifact: source.precision for artifact, source in sources.items()}, failed)
        modality = recipe.data.modality
        sources = {artifact: with_costs(source, spec, modality) for artifact, source in sources.items()}
        golden = images[int(expected.probabilities.max(axis=1).argmax())][None]
        model.save(Path(folder) / SOURCE_FILE)
        bundle = write_bundle(
            directory,
            name=name or recipe.name,
            version=version,
            label_set=label_set,
            modality=modality,
            spec=spec,
            operating_point=point,
            artifacts=sources,
            default_artifact="int8" if "int8" in sources else artifacts[0],
            golden_image=np.ascontiguousarray(golden),
            training_data=_training_data(facts),
            scores=_readable_scores(scores, parity, offset),
            versions=_versions(facts, sources),
            intended_use=INTENDED_USE,
            source=Path(folder) / SOURCE_FILE,
        )
    return bundle, parity


def _read_json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise RealMNetError(f"{path}: no such file; expected the folder of a finished and evaluated run")
    return json.loads(path.read_text())


def _training_data(facts: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "statement": f"Trained on {facts['training_data']}.",
        "training images": facts["images"]["train"],
        "validation images": facts["images"]["validation"],
        "training data sha256": facts["data_sha256"]["train"],
        "seed": facts["seed"],
    }


def _readable_scores(scores: Mapping[str, Any], parity: Mapping[str, Parity], offset: MapOffset) -> dict[str, Any]:
    bootstrap = scores["bootstrap"]
    return {
        "test data": f"{scores['images']} held-out {scores['data']} images of {scores['patients']} patients",
        "intervals": f"{bootstrap['interval']}, {bootstrap['replicates']} resamples by {bootstrap['unit']}",
        "test": {name: _interval(interval) for name, interval in scores["scores"].items()},
        "class maps": f"Grad-CAM, {offset.describe()}, as flipping tells ({offset.maps} maps of training images)",
        **{f"{name} against Keras": found.to_dict() for name, found in parity.items()},
    }


def _interval(interval: Mapping[str, Any]) -> str:
    if interval["value"] is None:
        return "not defined"
    text = f"{interval['value']:.4f}"
    return text if interval["low"] is None else f"{text} ({interval['low']:.4f}–{interval['high']:.4f})"


def _versions(facts: Mapping[str, Any], sources: Mapping[str, ArtifactSource]) -> dict[str, Any]:
    onnx = {artifact: opens_in(source.path) for artifact, source in sources.items() if source.path.suffix == ".onnx"}
    return {
        **({"open in": onnx} if onnx else {}),
        "trained with": facts["versions"],
        "exported with": {name: importlib.metadata.version(name) for name in PACKAGES},
        "git commit": facts["git_commit"],
    }
