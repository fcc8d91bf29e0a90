"""From a finished training run to a bundle: models, thresholds, golden output and provenance in one folder; and more
models for a bundle that there is."""

import importlib.metadata
import json
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from export.contract.keras_source import keras_predictions, load_source
from export.contract.parity import Parity, measure, refuse, runtime_predictions, unlike
from export.contract.verify import CACHE, Images, data_of_folder, data_of_run, images_of_files, of_data_set
from export.conversion.artifacts import DEFAULT_ARTIFACTS, ArtifactMaker, kind_of, needs_calibration
from export.conversion.to_onnx import opens_in
from export.speed.costs import with_costs
from export.speed.images import SAMPLES
from keras_realmnet import RealMNet
from keras_realmnet.errors import BundleMismatch, RealMNetError
from keras_realmnet.models.map_offset import MapOffset, measure_map_offset
from keras_realmnet.screening.bundle.bundle import SOURCE_FILE, Bundle, against_keras
from keras_realmnet.screening.bundle.document import BUNDLE_FILE
from keras_realmnet.screening.bundle.writing import ArtifactSource, add_artifacts, put_back, write_bundle
from keras_realmnet.screening.decision import OperatingPoint
from keras_realmnet.screening.engines.base import Prediction
from keras_realmnet.screening.engines.registry import engine_class
from keras_realmnet.screening.labels import LABEL_SETS, LabelSet
from keras_realmnet.screening.preprocessing import PreprocessSpec

__all__ = ["INTENDED_USE", "add_to_bundle", "bundle_from_run", "evidence", "make_again"]

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
        artifacts: some of `export.conversion.artifacts.ARTIFACTS`. "int8" is the default one where it is among them,
            else the first.

    Returns:
        The bundle, and per artifact how far it is from Keras.

    Raises:
        RealMNetError: `weights` does not belong to a finished run of a RealMNet, with an operating point and test
            images.
        BundleMismatch: an artifact differs from Keras by more than `export.contract.parity.LIMITS`; nothing is written.
    """
    from training.runs import load_run

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

    calibration = _calibration_images(recipe.data, spec)
    # Findings lie in one place; where there is none the map has no place either.
    offset = measure_map_offset(model, calibration, label_set.pathologic_columns)
    model.map_offset = offset.rows, offset.columns

    measured_on = Images(images, f"test split of {recipe.data.kind}", test.labels, test.patients)
    with tempfile.TemporaryDirectory() as folder:
        facts_of_bundle = label_set, point, spec, recipe.data.modality
        sources, parity, expected = _made(model, artifacts, Path(folder), calibration, measured_on, *facts_of_bundle)
        golden = images[int(expected.probabilities.max(axis=1).argmax())][None]
        model.save(Path(folder) / SOURCE_FILE)
        bundle = write_bundle(
            directory,
            name=name or recipe.name,
            version=version,
            label_set=label_set,
            modality=recipe.data.modality,
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


def add_to_bundle(
    bundle: Bundle,
    artifacts: Sequence[str],
    files: Sequence[Path] = (),
    data: Path | None = None,
    run: Path | None = None,
    source: Path | None = None,
    tell: Callable[[str], None] = lambda line: None,
) -> tuple[Bundle, dict[str, Parity], Images]:
    """`bundle` with more artifacts, made from its Keras model and measured as those of `bundle_from_run` are.

    They are measured on the test images of a data set, and static int8 is calibrated on its training images; or on
    image files, of which every second one then calibrates and is not measured on.

    Args:
        artifacts: some of `export.conversion.artifacts.ARTIFACTS`; one that is there already is replaced.
        files: image files or folders; the project's samples where nothing is named and nothing is calibrated.
        data: labelled folder in PSMM's or PALM's layout.
        run: finished run, whose data is used.
        source: a copy of the Keras model, for a bundle without it.
        tell: is handed a line as each step begins.

    Returns:
        The bundle, per new artifact how far it is from Keras, and the images on which that was measured.

    Raises:
        RealMNetError: an unknown artifact, no or another Keras model, no images where static int8 needs them, or the
            bundle was changed meanwhile.
        BundleMismatch: an artifact differs from Keras by more than `export.contract.parity.LIMITS`; the bundle stays as
            it was.
    """
    calibrated = [name for name in artifacts if needs_calibration(name)]
    data_set = None
    if run is not None:
        data_set = data_of_run(run)
    elif data is not None:
        data_set = data_of_folder(data, bundle)
    if calibrated and data_set is None and not files:
        raise RealMNetError(
            f"{', '.join(calibrated)}: static int8 needs images like those that are screened: name them by --images, "
            f"or what the network was trained on by --data or --run. {bundle.training_data['statement']}"
        )
    model = load_source(bundle, source)
    calibration = None
    if data_set is not None:
        images = of_data_set(data_set, bundle, data_set.kind)
        calibration = _calibration_images(data_set, bundle.spec) if calibrated else None
    else:
        # What is stored names no folders: the bundle may go to others.
        origin = "image files" if files else "the project's sample images"
        images = replace(images_of_files(files or [SAMPLES], bundle), origin=origin)
        if calibrated:
            images, calibration = _halves(images)
    if calibration is not None:
        tell(f"static int8: calibration on {len(calibration)} images")
    with tempfile.TemporaryDirectory() as folder:
        facts = bundle.label_set, bundle.operating_point, bundle.spec, bundle.modality
        sources, parity, _ = _made(model, artifacts, Path(folder), calibration, images, *facts, tell)
        added = add_artifacts(
            bundle,
            sources,
            scores={against_keras(name): {**found.to_dict(), "on": images.origin} for name, found in parity.items()},
            versions=_versions_of_added(bundle, sources),
        )
    return added, parity, images


def make_again(
    bundle: Bundle,
    artifacts: Sequence[str],
    source: Path | None = None,
    tell: Callable[[str], None] = lambda line: None,
) -> None:
    """Gives the folder of `bundle` the files of artifacts again that it is without. The bundle stays as it is.

    Args:
        artifacts, source, tell: as for `add_to_bundle`.

    Raises:
        RealMNetError: no or another Keras model; what is made here is not, byte for byte, what was there.
    """
    for name in artifacts:
        if needs_calibration(name):
            raise RealMNetError(
                f"{name}: made with images, static int8 does not become the same again; --replace, with images, puts "
                "another in its place"
            )
    model = load_source(bundle, source)
    with tempfile.TemporaryDirectory() as folder:
        maker = ArtifactMaker(model, Path(folder), None)
        for name in artifacts:
            tell(f"making {name}")
            try:
                put_back(bundle, name, maker.make(name).path)
            except BundleMismatch as error:
                file = bundle.artifact(name).file
                raise RealMNetError(
                    f"{file}: what is made here has other bytes, as other packages may give (`versions` in "
                    f"{BUNDLE_FILE} has those of then); --replace puts it in, and the bundle's digest changes"
                ) from error


def evidence(score: Any) -> str:
    """On what an artifact was measured, as its entry of a bundle's scores says, which is nobody's form; for people."""
    if not isinstance(score, dict) or "images" not in score:
        return "nothing stated"
    said = [str(score["on"])] if "on" in score else []
    said.append("without labels" if score.get("macro_auroc") is None else "with AUROC and mAP")
    return f"{score['images']} image{'' if score['images'] == 1 else 's'} ({', '.join(said)})"


def _made(
    model: RealMNet,
    artifacts: Sequence[str],
    folder: Path,
    calibration: NDArray[np.uint8] | None,
    images: Images,
    label_set: LabelSet,
    point: OperatingPoint,
    spec: PreprocessSpec,
    modality: str,
    tell: Callable[[str], None] = lambda line: None,
) -> tuple[dict[str, ArtifactSource], dict[str, Parity], Prediction]:
    """Artifacts with their costs, how far each is from Keras on `images`, and what Keras gives for these.

    Raises:
        BundleMismatch: some break a limit of their precision, do not run or cannot be made; names each of them.
        RealMNetError: there is no artifact of a name.
    """
    for name in artifacts:
        kind_of(name)  # before anything is made
    maker = ArtifactMaker(model, folder, calibration)
    sources: dict[str, ArtifactSource] = {}
    parity: dict[str, Parity] = {}
    failed: dict[str, str] = {}
    for name in artifacts:
        tell(f"making {name}")
        try:
            sources[name] = maker.make(name)
        except RealMNetError as error:
            failed[name] = str(error)
    tell(f"Keras float32 on {len(images.pixels)} images")
    expected = keras_predictions(model, images.pixels)
    for name, source in sources.items():
        tell(f"{name} on {len(images.pixels)} images")
        try:
            received = runtime_predictions(engine_class(source.engine)(source.path), images.pixels)
        except RealMNetError as error:
            failed[name] = str(error)
            continue
        reason = unlike(expected, received)
        if reason is not None:
            failed[name] = reason
            continue
        parity[name] = measure(expected, received, label_set, point, images.truth, images.patients)
    refuse(parity, {name: source.precision for name, source in sources.items()}, failed)
    for name, source in sources.items():
        tell(f"memory of {name}")
        sources[name] = with_costs(source, spec, modality)
    return sources, parity, expected


def _calibration_images(data: Any, spec: PreprocessSpec) -> NDArray[np.uint8]:
    """Some of the training images, from all over the set. Raises RealMNetError where there are none."""
    train = data.load("train", spec, CACHE)
    if train is None or not len(train):
        raise RealMNetError(f"{data.kind}: there are no training images to calibrate on")
    return np.asarray(train.pixels[_some(train.rows)])


def _halves(images: Images) -> tuple[Images, NDArray[np.uint8]]:
    """Every second image for measuring, and the others for calibration."""
    if len(images.pixels) < 2:
        raise RealMNetError(f"{images.origin}: static int8 needs two images or more. Received: {len(images.pixels)}")
    origin = f"{images.origin}, every second one; the others calibrated static int8"
    return Images(images.pixels[1::2], origin, left_out=images.left_out), _some(images.pixels[::2])


def _some(values: NDArray[Any]) -> NDArray[Any]:
    return values[:: max(1, len(values) // CALIBRATION_IMAGES)][:CALIBRATION_IMAGES]


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
        **{against_keras(name): found.to_dict() for name, found in parity.items()},
    }


def _interval(interval: Mapping[str, Any]) -> str:
    if interval["value"] is None:
        return "not defined"
    text = f"{interval['value']:.4f}"
    return text if interval["low"] is None else f"{text} ({interval['low']:.4f}–{interval['high']:.4f})"


def _versions(facts: Mapping[str, Any], sources: Mapping[str, ArtifactSource]) -> dict[str, Any]:
    onnx = _open_in(sources)
    return {
        **({"open in": onnx} if onnx else {}),
        "trained with": facts["versions"],
        "exported with": _packages(),
        "git commit": facts["git_commit"],
    }


def _versions_of_added(bundle: Bundle, sources: Mapping[str, ArtifactSource]) -> dict[str, Any]:
    onnx, packages = {**bundle.versions.get("open in", {}), **_open_in(sources)}, _packages()
    return {
        **({"open in": onnx} if onnx else {}),
        "added with": {**bundle.versions.get("added with", {}), **dict.fromkeys(sources, packages)},
    }


def _open_in(sources: Mapping[str, ArtifactSource]) -> dict[str, str]:
    return {artifact: opens_in(source.path) for artifact, source in sources.items() if source.path.suffix == ".onnx"}


def _packages() -> dict[str, str]:
    return {name: importlib.metadata.version(name) for name in PACKAGES}
