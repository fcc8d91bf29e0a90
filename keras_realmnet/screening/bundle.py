"""The deployable folder: models, labels, preprocessing, thresholds and provenance that belong together.

    bundle.json       everything but the numbers of the networks; signs itself and the other files with SHA-256
    *.tflite, *.onnx, *.plan  one model file per artifact; what opens it is the artifact's `engine`
    golden.npz        `image` uint8 (1, size, size, 3); per artifact `probabilities_NAME` and `class_maps_NAME`
    source.keras      optional: the Keras model the artifacts were made from, for those who verify; no box needs it

Any changed byte is noticed by `Bundle.load`; a machine that computes something else by `runtimes.self_check`.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from keras_realmnet.errors import BundleMismatch, RealMNetError
from keras_realmnet.screening.decision import OperatingPoint
from keras_realmnet.screening.labels import LABEL_SETS, Label, LabelSet
from keras_realmnet.screening.preprocessing import PreprocessSpec
from keras_realmnet.screening.quality import MODALITIES
from keras_realmnet.screening.runtime_base import OUTPUTS, Prediction
from keras_realmnet.screening.runtimes import engine_class
from keras_realmnet.screening.upgrade import Step, upgrade

__all__ = [
    "BUNDLE_FILE",
    "SCHEMA_VERSION",
    "SOURCE_FILE",
    "Artifact",
    "ArtifactSource",
    "Bundle",
    "Costs",
    "add_artifacts",
    "write_bundle",
]

SCHEMA_VERSION = 2
BUNDLE_FILE = "bundle.json"
GOLDEN_FILE = "golden.npz"
SOURCE_FILE = "source.keras"


@dataclass(frozen=True)
class Costs:
    """What a model asks of the machine that runs it.

    macs: multiply-accumulates of its convolutions and matrix products for one image. parameters: numbers in the file
    that go into them. peak_memory_mb: largest resident set of a process that ran it, `None` where it was not measured;
    peak_memory_of: what that process did, in words.
    """

    macs: int
    parameters: int
    peak_memory_mb: float | None = None
    peak_memory_of: str | None = None

    def __post_init__(self) -> None:
        for name in ("macs", "parameters"):
            value = getattr(self, name)
            if type(value) is not int or value < 0:
                raise ValueError(f"`{name}` must be a whole number, 0 or more. Received: {value!r}")
        memory = self.peak_memory_mb
        if memory is not None and (type(memory) not in (int, float) or not 0 < memory < math.inf):
            raise ValueError(f"`peak_memory_mb` must be a positive number or nothing. Received: {memory!r}")
        if (memory is None) != (self.peak_memory_of is None):
            raise ValueError(
                f"a peak memory comes with what was measured. Received: {memory!r}, {self.peak_memory_of!r}"
            )


@dataclass(frozen=True)
class Artifact:
    """One model file of a bundle.

    engine: a name of `runtimes.ENGINES`. precision: "float32", "int8", ... as the exporter names it.
    input_shape: (batch, size, size, 3); `None` for a batch of any size.
    output_shapes: for one image, {"probabilities": (1, classes), "class_maps": (1, h', w', classes)}.
    tolerance: largest difference the golden check allows, see `runtimes.self_check`.
    device: where alone the model runs, as `EngineRuntime.this_device` says it, or `None`.
    costs: `None` in bundles that do not state them, as older ones.
    """

    name: str
    file: str
    engine: str
    precision: str
    sha256: str
    bytes: int
    input_name: str
    input_shape: tuple[int | None, ...]
    output_shapes: dict[str, tuple[int, ...]]
    tolerance: float
    device: dict[str, str] | None = None
    costs: Costs | None = None

    @property
    def size(self) -> str:
        """Bytes and costs, as far as they are known, for people."""
        said = [f"{self.bytes / 1e6:.1f} MB"]
        if self.costs is not None:
            said.append(f"{self.costs.macs / 1e9:.2f} G multiply-accumulates for an image")
            said.append(f"{self.costs.parameters / 1e6:.2f} M parameters")
            if self.costs.peak_memory_mb is not None:
                said.append(f"{self.costs.peak_memory_mb:.0f} MB of memory at most ({self.costs.peak_memory_of})")
        return ", ".join(said)


@dataclass(frozen=True)
class ArtifactSource:
    """A model file for `write_bundle`: its path (anywhere), precision, golden tolerance, costs (see `Artifact`)."""

    path: Path
    precision: str
    tolerance: float
    engine: str = "litert"
    costs: Costs | None = None


@dataclass(frozen=True)
class Bundle:
    """A loaded and verified bundle. `digest` signs bundle.json and with it every other file.

    `source_sha256`: of the Keras model the artifacts were made from, whether or not the file is still in the folder;
    None where the bundle never had it.
    """

    directory: Path
    name: str
    version: str
    intended_use: str
    modality: str
    label_set: LabelSet
    spec: PreprocessSpec
    operating_point: OperatingPoint
    artifacts: dict[str, Artifact]
    default_artifact: str
    golden_file: str
    training_data: dict[str, Any]
    scores: dict[str, Any]
    versions: dict[str, Any]
    digest: str
    source_sha256: str | None = None

    @classmethod
    def load(cls, directory: Path | str) -> Bundle:
        """Reads and verifies a bundle.

        Raises:
            BundleMismatch: something is missing, changed, or of another schema version; names the file.
        """
        directory = Path(directory)
        path = directory / BUNDLE_FILE
        document = _read_document(path)
        try:
            label_set = _label_set_from_dict(document["label_set"])
            spec = PreprocessSpec.from_dict(document["preprocessing"])
            operating_point = OperatingPoint.from_dict(document["operating_point"])
            operating_point.check(label_set)
            artifacts = {name: _artifact_from_dict(name, entry) for name, entry in document["artifacts"].items()}
            bundle = cls(
                directory=directory,
                name=document["name"],
                version=document["version"],
                intended_use=document["intended_use"],
                modality=document["modality"],
                label_set=label_set,
                spec=spec,
                operating_point=operating_point,
                artifacts=artifacts,
                default_artifact=document["default_artifact"],
                golden_file=document["golden"]["file"],
                training_data=document["training_data"],
                scores=document["scores"],
                versions=document["versions"],
                digest=document["digest"],
                source_sha256=document["source"] and document["source"]["sha256"],
            )
            spec_hash, golden_sha256 = document["preprocessing_hash"], document["golden"]["sha256"]
            source_file = document["source"] and (document["source"]["file"], document["source"]["sha256"])
        except KeyError as error:
            raise BundleMismatch(f"{path}: the field {error} is missing") from error
        except (TypeError, ValueError, AttributeError, BundleMismatch) as error:
            raise BundleMismatch(f"{path}: {error}") from error
        if spec.hash != spec_hash:
            raise BundleMismatch(f"{path}: preprocessing hash {spec_hash} stated, but this program makes {spec.hash}")
        if bundle.modality not in MODALITIES:
            raise BundleMismatch(f"{path}: modality must be one of {', '.join(MODALITIES)}. Got: {bundle.modality!r}")
        if bundle.default_artifact not in artifacts:
            raise BundleMismatch(f"{path}: default artifact {bundle.default_artifact!r} is not in {list(artifacts)}")
        for artifact in artifacts.values():
            _check_file(directory, artifact.file, artifact.sha256)
        _check_file(directory, bundle.golden_file, golden_sha256)
        if source_file is not None and (directory / source_file[0]).exists():
            _check_file(directory, *source_file)
        return bundle

    def artifact(self, name: str | None = None) -> Artifact:
        """The artifact called `name`, or the default one. Raises RealMNetError for an unknown name."""
        try:
            return self.artifacts[self.default_artifact if name is None else name]
        except KeyError:
            raise RealMNetError(
                f"Bundle '{self.name}' has the artifacts {', '.join(self.artifacts)}. Received: {name!r}"
            ) from None

    def golden(self, name: str | None = None) -> tuple[np.ndarray, Prediction]:
        """The golden image, uint8 of shape (1, size, size, 3), and what the artifact made of it at export."""
        artifact = self.artifact(name)
        try:
            with np.load(self.directory / self.golden_file, allow_pickle=False) as arrays:
                outputs = (arrays[f"{output}_{artifact.name}"] for output in OUTPUTS)
                return arrays["image"], Prediction(*outputs)
        except (OSError, ValueError, KeyError) as error:
            raise BundleMismatch(f"{self.directory / self.golden_file}: {error}") from error


def write_bundle(
    directory: Path | str,
    *,
    name: str,
    version: str,
    label_set: LabelSet,
    modality: str,
    spec: PreprocessSpec,
    operating_point: OperatingPoint,
    artifacts: Mapping[str, ArtifactSource],
    default_artifact: str,
    golden_image: np.ndarray,
    training_data: Mapping[str, Any],
    scores: Mapping[str, Any],
    versions: Mapping[str, Any],
    intended_use: str,
    source: Path | None = None,
) -> Bundle:
    """Makes a bundle: copies the models, named after their artifacts, runs each on the golden image, signs at the end.

    Args:
        artifacts: {artifact name: model file}; names of letters, digits, "-" and "_".
        golden_image: uint8 of shape (1, size, size, 3), already preprocessed; a picture the model has much to say on.
        source: the Keras model file the artifacts were made from, kept as `source.keras`.
        training_data, scores, versions: JSON-safe mappings for people (what it was trained on, measured, made with).

    Raises:
        ValueError: arguments that do not fit each other.
        BundleMismatch: a model whose signature is not the one `runtimes` expects.
        RealMNetError: an engine that is not known, or not installed.
    """
    directory = Path(directory)
    operating_point.check(label_set)
    if modality not in MODALITIES:
        raise ValueError(f"`modality` must be one of {', '.join(MODALITIES)}. Received: {modality!r}")
    if default_artifact not in artifacts:
        raise ValueError(f"`default_artifact` must be one of {', '.join(artifacts)}. Received: {default_artifact!r}")
    if golden_image.dtype != np.uint8 or golden_image.shape != (1, spec.size, spec.size, 3):
        raise ValueError(
            f"`golden_image` must be uint8 of shape (1, {spec.size}, {spec.size}, 3). "
            f"Received: {golden_image.dtype} {golden_image.shape}"
        )
    _check_names(artifacts)

    directory.mkdir(parents=True, exist_ok=True)
    (directory / BUNDLE_FILE).unlink(missing_ok=True)  # an interrupted write must not look like a bundle
    golden, entries = {"image": golden_image}, {}
    for artifact_name, model in artifacts.items():
        entries[artifact_name], outputs = _add(directory, artifact_name, model, golden_image, label_set)
        golden.update(outputs)
    np.savez_compressed(directory / GOLDEN_FILE, **golden)  # type: ignore[arg-type]

    source_entry = None
    if source is not None:
        _copy(source, directory / SOURCE_FILE)
        source_entry = {"file": SOURCE_FILE, "sha256": _sha256(directory / SOURCE_FILE)}

    document = {
        "schema": SCHEMA_VERSION,
        "name": name,
        "version": version,
        "intended_use": intended_use,
        "modality": modality,
        "label_set": asdict(label_set),
        "operating_point": operating_point.to_dict(),
        "preprocessing": spec.to_dict(),
        "preprocessing_hash": spec.hash,
        "default_artifact": default_artifact,
        "artifacts": entries,
        "golden": {"file": GOLDEN_FILE, "sha256": _sha256(directory / GOLDEN_FILE)},
        "source": source_entry,
        "training_data": dict(training_data),
        "scores": dict(scores),
        "versions": dict(versions),
    }
    _sign(directory, document)
    return Bundle.load(directory)


def add_artifacts(bundle: Bundle, artifacts: Mapping[str, ArtifactSource]) -> Bundle:
    """`bundle` after models were added to its folder, such as an engine built on the machine that is to run it.

    What is in the bundle stays as it is; an artifact of the same name is replaced. Arguments and errors as for
    `write_bundle`.
    """
    directory = bundle.directory
    _check_names(artifacts)
    document = _read_document(directory / BUNDLE_FILE)
    with np.load(directory / bundle.golden_file, allow_pickle=False) as arrays:
        golden = dict(arrays)
    for name, model in artifacts.items():
        document["artifacts"][name], outputs = _add(directory, name, model, golden["image"], bundle.label_set)
        golden.update(outputs)
    (directory / BUNDLE_FILE).unlink()
    np.savez_compressed(directory / bundle.golden_file, **golden)
    document["golden"]["sha256"] = _sha256(directory / bundle.golden_file)
    del document["digest"]
    _sign(directory, document)
    return Bundle.load(directory)


def _check_names(artifacts: Mapping[str, ArtifactSource]) -> None:
    for name in artifacts:
        if not name.replace("-", "").replace("_", "").isalnum() or not name.isascii():
            raise ValueError(f"An artifact name is letters, digits, '-' and '_'. Received: {name!r}")


def _add(
    directory: Path, name: str, model: ArtifactSource, image: np.ndarray, label_set: LabelSet
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Copies a model into the folder and runs it: its entry in bundle.json and its arrays in golden.npz."""
    runtime_class = engine_class(model.engine)
    file = directory / f"{name}{runtime_class.SUFFIX}"
    runtime = runtime_class(model.path)
    prediction = runtime.predict(image)
    outputs = {output: getattr(prediction, output) for output in OUTPUTS}
    shapes = {output: array.shape for output, array in outputs.items()}
    if shapes["probabilities"] != (1, len(label_set)) or shapes["class_maps"][-1] != len(label_set):
        raise BundleMismatch(f"{file}: label set '{label_set.name}' has {len(label_set)} classes, outputs {shapes}")
    _copy(model.path, file)
    entry = asdict(
        Artifact(
            name=name,
            file=file.name,
            engine=model.engine,
            precision=model.precision,
            sha256=_sha256(file),
            bytes=file.stat().st_size,
            input_name=runtime.input_name,
            input_shape=runtime.input_shape,
            output_shapes=shapes,
            tolerance=float(model.tolerance),
            device=runtime_class.this_device(),
            costs=model.costs,
        )
    )
    del entry["name"]
    for optional in ("device", "costs"):
        if entry[optional] is None:
            del entry[optional]
    return entry, {f"{output}_{name}": array for output, array in outputs.items()}


def _sign(directory: Path, document: dict[str, Any]) -> None:
    """Writes bundle.json, whole or not at all."""
    temporary = directory / f"{BUNDLE_FILE}.part"
    temporary.write_bytes(_serialize({**document, "digest": _digest(document)}))
    os.replace(temporary, directory / BUNDLE_FILE)


def _read_document(path: Path) -> dict[str, Any]:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise BundleMismatch(f"{path}: a bundle needs this file ({error.strerror})") from error
    try:
        document = json.loads(content)
    except ValueError as error:
        raise BundleMismatch(f"{path}: not valid JSON ({error})") from error
    if not isinstance(document, dict):
        raise BundleMismatch(f"{path}: an object expected. Received: {type(document).__name__}")
    upgraded = upgrade(document, STEPS, str(path), BundleMismatch)
    unsigned = {key: value for key, value in document.items() if key != "digest"}
    # The comparison of the bytes catches what the digest of the meaning cannot see, such as a changed blank.
    if document.get("digest") != _digest(unsigned) or content != _serialize(document):
        raise BundleMismatch(f"{path}: changed after the bundle was made (its digest does not match)")
    return upgraded


def _with_condition(document: dict[str, Any]) -> dict[str, Any]:
    """Schema 1 → 2: the label set says what is screened for."""
    label_set = document.get("label_set")
    if not isinstance(label_set, dict):
        return document  # `Bundle.load` says what is wrong with it
    known = LABEL_SETS.get(str(label_set.get("name")), LabelSet)
    return {**document, "label_set": {**label_set, "condition": known.condition}}


STEPS: tuple[Step, ...] = (_with_condition,)


def _serialize(document: Mapping[str, Any]) -> bytes:
    return (json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode()


def _digest(document: Mapping[str, Any]) -> str:
    """SHA-256 of the canonical JSON of everything but the digest itself."""
    canonical = json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return hashlib.sha256(canonical.encode()).hexdigest()


def _copy(source: Path, target: Path) -> None:
    if not (target.exists() and target.samefile(source)):
        shutil.copyfile(source, target)


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _check_file(directory: Path, file: str, sha256: str) -> None:
    if Path(file).name != file:
        raise BundleMismatch(f"{directory / BUNDLE_FILE}: a file name without folders expected. Received: {file!r}")
    try:
        received = _sha256(directory / file)
    except OSError as error:
        raise BundleMismatch(f"{directory / file}: the bundle needs this file ({error.strerror})") from error
    if received != sha256:
        raise BundleMismatch(
            f"{directory / file}: changed after the bundle was made "
            f"(SHA-256 {sha256[:16]}… expected, {received[:16]}… received)"
        )


def _label_set_from_dict(fields: Mapping[str, Any]) -> LabelSet:
    label_set = LabelSet(
        name=fields["name"],
        labels=tuple(Label(**label) for label in fields["labels"]),
        pathologic=tuple(fields["pathologic"]),
        exclusive=tuple(tuple(group) for group in fields["exclusive"]),
        condition=fields["condition"],
    )
    unknown = {code for group in (label_set.pathologic, *label_set.exclusive) for code in group} - set(label_set.codes)
    if unknown:
        raise ValueError(f"label set '{label_set.name}' has no label {', '.join(sorted(unknown))}")
    return label_set


def _artifact_from_dict(name: str, fields: Mapping[str, Any]) -> Artifact:
    values = dict(fields)
    values["input_shape"] = tuple(values["input_shape"])
    values["output_shapes"] = {output: tuple(shape) for output, shape in values["output_shapes"].items()}
    if "costs" in values:
        values["costs"] = Costs(**values["costs"])
    return Artifact(name=name, **values)
