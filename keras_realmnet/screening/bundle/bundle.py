"""The deployable folder: models, labels, preprocessing, thresholds and provenance that belong together.

    bundle.json       everything but the numbers of the networks; signs itself and the other files with SHA-256
    *.tflite, *.onnx, *.plan  one model file per artifact; what opens it is the artifact's `engine`
    golden.npz        `image` uint8 (1, size, size, 3); per artifact `probabilities_NAME` and `class_maps_NAME`
    source.keras      optional: the Keras model the artifacts were made from, for those who verify; no box needs it

A bundle that names its Keras model may be without the files of artifacts other than the default one: `python -m export
add` makes them again, the same bytes. Whoever asks for one that is not there is told so.

A file that replaces one of the same name has a longer name: a bundle changes at one moment, with bundle.json, and is
the old one or the new one whenever the change breaks off.

Any changed byte is noticed by `Bundle.load`; a machine that computes something else by `runtimes.self_check`.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from keras_realmnet.errors import BundleMismatch, RealMNetError
from keras_realmnet.screening.bundle.arrays import ArrayArchive
from keras_realmnet.screening.bundle.folder_change import FolderChange, sha256_of
from keras_realmnet.screening.bundle.form import check_form
from keras_realmnet.screening.decision import OperatingPoint
from keras_realmnet.screening.engines.base import OUTPUTS, Prediction
from keras_realmnet.screening.engines.registry import engine_class
from keras_realmnet.screening.labels import LABEL_SETS, Label, LabelSet
from keras_realmnet.screening.preprocessing import PreprocessSpec
from keras_realmnet.screening.quality import MODALITIES
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
    "against_keras",
    "put_back",
    "write_bundle",
]

SCHEMA_VERSION = 2
BUNDLE_FILE = "bundle.json"
GOLDEN_FILE = "golden.npz"
SOURCE_FILE = "source.keras"

MAX_DOCUMENT = 1 << 22  # bytes of bundle.json
MAX_SIZE = 4096  # px, side of the model's square; images in a batch
MAX_TOLERANCE = 0.1  # of a probability: a check that allows more proves nothing
MAX_LINE = 500  # characters of an error
MAX_COUNT = 1 << 62  # operations, parameters, bytes

_FILE = {"file": str, "sha256": str}
_FORM = {
    "schema": int,
    "name": str,
    "version": str,
    "intended_use": str,
    "modality": str,
    "label_set": {
        "name": str,
        "labels": [{"code": str, "name": str, "meaning": str}],
        "pathologic": [str],
        "exclusive": [[str]],
        "condition": str,
    },
    "operating_point": {"rule": str, "thresholds": {str: float}, "chosen": str},
    "preprocessing": dict,
    "preprocessing_hash": str,
    "default_artifact": str,
    "artifacts": {
        str: {
            **_FILE,
            "engine": str,
            "precision": str,
            "bytes": int,
            "input_name": str,
            "input_shape": [(int, None)],
            "output_shapes": {output: [int] for output in OUTPUTS},
            "tolerance": float,
            "device?": {str: str},
            "costs?": {
                "macs": int,
                "parameters": int,
                "peak_memory_mb?": (float, None),
                "peak_memory_of?": (str, None),
            },
        }
    },
    "golden": _FILE,
    "source": (_FILE, None),
    "training_data": dict,
    "scores": dict,
    "versions": dict,
    "digest": str,
}


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
            if type(value) is not int or not 0 <= value <= MAX_COUNT:
                raise ValueError(f"`{name}` must be a whole number, 0 or more. Received: {value!r}")
        memory = self.peak_memory_mb
        if memory is not None and (type(memory) not in (int, float) or not 0 < memory < MAX_COUNT):
            raise ValueError(f"`peak_memory_mb` must be a positive number or nothing. Received: {memory!r}")
        if (memory is None) != (self.peak_memory_of is None):
            raise ValueError(
                f"a peak memory comes with what was measured. Received: {memory!r}, {self.peak_memory_of!r}"
            )
        if self.peak_memory_of is not None:
            _check_line("'peak_memory_of'", self.peak_memory_of)


@dataclass(frozen=True)
class Artifact:
    """One model file of a bundle.

    engine: a name of `engines.registry.ENGINES`. precision: "float32", "int8", ... as the exporter names it.
    input_shape: (batch, size, size, 3); `None` for a batch of any size.
    output_shapes: for one image, {"probabilities": (1, classes), "class_maps": (1, h', w', classes)}.
    tolerance: largest difference the golden check allows, see `runtimes.self_check`.
    device: where alone the model runs, as `EngineRuntime.this_device` says it, or `None`.
    costs: `None` in bundles that do not state them, as older ones.

    Raises ValueError for names and files that are none, shapes that no model has, and a tolerance that checks nothing.
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

    def __post_init__(self) -> None:
        _check_name(self.name)
        _check_file_name(self.file)
        for field in ("engine", "precision", "input_name"):
            _check_line(f"{field!r} of {self.name}", getattr(self, field))
        if not 0 < self.bytes <= MAX_COUNT:
            raise ValueError(f"{self.name}: a file has at least one byte. Received: {self.bytes}")
        if not 0 < self.tolerance <= MAX_TOLERANCE:
            raise ValueError(
                f"{self.name}: a tolerance is a number above 0 and at most {MAX_TOLERANCE}. Received: {self.tolerance}"
            )
        batch, *sides = self.input_shape or (0,)
        if len(sides) != 3 or not all(side is not None and 0 < side <= MAX_SIZE for side in (batch or 1, *sides)):
            raise ValueError(f"{self.name}: an input shape is (batch, size, size, 3). Received: {self.input_shape}")
        probabilities, class_maps = (self.output_shapes[output] for output in OUTPUTS)
        if (
            len(probabilities) != 2
            or len(class_maps) != 4
            or not all(0 < side <= MAX_SIZE for side in (*probabilities, *class_maps))
            or (probabilities[0], class_maps[0], class_maps[3]) != (1, 1, probabilities[1])
        ):
            raise ValueError(
                f"{self.name}: output shapes are (1, classes) and (1, h, w, classes). Received: {self.output_shapes}"
            )

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
    None where the bundle never had it, as is `source_file` then.
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
    source_file: str | None = None

    @classmethod
    def load(cls, directory: Path | str) -> Bundle:
        """Reads and verifies a bundle.

        Raises:
            BundleMismatch: something is missing, changed, makes no sense, or is of another schema version; names the
                file, in one line.
        """
        directory = Path(directory)
        path = directory / BUNDLE_FILE
        while True:
            content = _read(path)
            try:
                document = _parse(content, path)
                try:
                    bundle = cls._of(directory, document)
                except (ValueError, BundleMismatch) as error:
                    _refuse(path, error)
                _check_files(bundle, document)
                return bundle
            except BundleMismatch:
                if _read(path) == content:
                    raise  # otherwise the bundle was replaced while it was read

    @classmethod
    def _of(cls, directory: Path, document: dict[str, Any]) -> Bundle:
        """The bundle that a document of the newest schema describes. Raises ValueError or BundleMismatch."""
        check_form(document, _FORM)
        label_set = _label_set_from_dict(document["label_set"])
        spec = PreprocessSpec.from_dict(document["preprocessing"])
        if spec.size > MAX_SIZE:
            raise ValueError(f"a size of {MAX_SIZE} px at most expected. Received: {spec.size}")
        if spec.hash != document["preprocessing_hash"]:
            raise ValueError(
                f"preprocessing hash {document['preprocessing_hash']!r} stated, but this program makes {spec.hash}"
            )
        thresholds = document["operating_point"]["thresholds"]
        if not all(0 <= threshold <= 1 for threshold in thresholds.values()):
            raise ValueError(f"thresholds must lie in [0, 1]. Received: {thresholds}")
        operating_point = OperatingPoint.from_dict(document["operating_point"])
        operating_point.check(label_set)
        artifacts = {name: _artifact_from_dict(name, entry) for name, entry in document["artifacts"].items()}
        for artifact in artifacts.values():
            _check_fits(artifact, label_set, spec)
        for field in ("name", "version", "modality"):
            _check_line(field, document[field])
        _check_text("intended_use", document["intended_use"])
        _check_text("operating_point.chosen", operating_point.chosen)
        _check_text("training_data.statement", document["training_data"].get("statement"))
        if document["modality"] not in MODALITIES:
            raise ValueError(f"modality must be one of {', '.join(MODALITIES)}. Got: {document['modality']!r}")
        if document["default_artifact"] not in artifacts:
            raise ValueError(f"default artifact {document['default_artifact']!r} is not in {list(artifacts)}")
        source = document["source"] or {"file": None, "sha256": None}
        for file in {document["golden"]["file"], source["file"]} - {None}:
            _check_file_name(file)
        return cls(
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
            source_sha256=source["sha256"],
            source_file=source["file"],
        )

    def artifact(self, name: str | None = None) -> Artifact:
        """The artifact called `name`, or the default one. Raises RealMNetError for an unknown name."""
        try:
            return self.artifacts[self.default_artifact if name is None else name]
        except KeyError:
            raise RealMNetError(
                f"Bundle '{self.name}' has the artifacts {', '.join(self.artifacts)}. Received: {name!r}"
            ) from None

    @property
    def absent(self) -> list[str]:
        """Artifacts that may be without their files and are, now."""
        return [
            name
            for name, artifact in self.artifacts.items()
            if name != self.default_artifact
            and self.source_sha256 is not None
            and artifact.device is None  # what is bound to a device is built there, of another artifact
            and not os.path.lexists(self.directory / artifact.file)
        ]

    def model_file(self, name: str | None = None) -> Path:
        """The file of the artifact called `name`, or of the default one.

        Raises:
            RealMNetError: no such artifact, or the folder is without its file; names the command that makes it.
        """
        artifact = self.artifact(name)
        path = self.directory / artifact.file
        if artifact.name in self.absent:
            raise RealMNetError(
                f"{path}: not in this folder; `python -m export add {self.directory} --artifacts {artifact.name}` "
                "makes it of the Keras model"
            )
        return path

    def golden(self, name: str | None = None) -> tuple[np.ndarray, Prediction]:
        """The golden image, uint8 of shape (1, size, size, 3), and what the artifact made of it at export.

        Raises:
            BundleMismatch: the file does not hold them, or not as bundle.json describes them.
        """
        artifact = self.artifact(name)
        path = self.directory / self.golden_file
        try:
            with ArrayArchive(path) as arrays:
                image = arrays.read("image", "uint8", (1, self.spec.size, self.spec.size, 3))
                outputs = {
                    output: arrays.read(f"{output}_{artifact.name}", "float32", artifact.output_shapes[output])
                    for output in OUTPUTS
                }
            prediction = Prediction(**outputs)
            _check_values(prediction)
        except ValueError as error:
            _refuse(path, error)
        return image, prediction


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

    A bundle that is in the folder is replaced in one moment; it stays as it is where anything fails.

    Args:
        artifacts: {artifact name: model file}; names of letters, digits, "-" and "_".
        golden_image: uint8 of shape (1, size, size, 3), already preprocessed; a picture the model has much to say on.
        source: the Keras model file the artifacts were made from, kept as `source.keras`.
        training_data, scores, versions: JSON-safe mappings for people (what it was trained on, measured, made with);
            `statement` of `training_data` says in words what it was trained on.

    Raises:
        ValueError: arguments that do not fit each other.
        BundleMismatch: a model whose signature is not the one `runtimes` expects.
        RealMNetError: an engine that is not known, or not installed; a full disk; somebody else writes there.
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

    with FolderChange(directory, BUNDLE_FILE, _named_files) as change:
        golden, entries = {"image": golden_image}, {}
        for artifact_name, model in artifacts.items():
            entries[artifact_name], outputs = _add(change, artifact_name, model, golden_image, label_set, spec)
            golden.update(outputs)
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
            "golden": _add_golden(change, golden),
            "source": None if source is None else dict(zip(_FILE, change.add(SOURCE_FILE, source), strict=True)),
            "training_data": dict(training_data),
            "scores": dict(scores),
            "versions": dict(versions),
        }
        _commit(change, directory, document)
    return Bundle.load(directory)


def add_artifacts(
    bundle: Bundle,
    artifacts: Mapping[str, ArtifactSource],
    scores: Mapping[str, Any] | None = None,
    versions: Mapping[str, Any] | None = None,
) -> Bundle:
    """`bundle` after models were added to its folder, such as an engine built on the machine that is to run it.

    What is in the bundle stays as it is; an artifact of the same name is replaced, and what was measured on it is no
    longer stated.

    Args:
        artifacts: as for `write_bundle`.
        scores, versions: JSON-safe, what was measured on the new artifacts and what they were made with.

    Raises:
        RealMNetError: the bundle in the folder is no longer `bundle`, or as `write_bundle`; nothing has changed.
    """
    directory = bundle.directory
    _check_names(artifacts)
    with FolderChange(directory, BUNDLE_FILE, _named_files) as change:
        path = directory / BUNDLE_FILE
        document = _parse(_read(path), path)
        if document["digest"] != bundle.digest:
            raise RealMNetError(f"{path}: the bundle was changed since it was read; begin again")
        image, _ = bundle.golden()
        golden = {"image": image}
        for name in bundle.artifacts.keys() - artifacts.keys():
            golden.update(_golden_arrays(name, bundle.golden(name)[1]))
        for name, model in artifacts.items():
            document["artifacts"][name], outputs = _add(change, name, model, image, bundle.label_set, bundle.spec)
            golden.update(outputs)
            document["scores"].pop(against_keras(name), None)
        document["scores"].update(scores or {})
        document["versions"].update(versions or {})
        document["golden"] = _add_golden(change, golden)
        _commit(change, directory, document)
    return Bundle.load(directory)


def put_back(bundle: Bundle, name: str, model: Path) -> None:
    """Copies `model` into the folder of `bundle` as the file of its artifact called `name`. The bundle stays as it is.

    Raises:
        BundleMismatch: `model` has other bytes than that artifact.
        RealMNetError: there is no such artifact, or as `write_bundle`.
    """
    artifact = bundle.artifact(name)
    _check_file(model, artifact.sha256, artifact.bytes)
    with FolderChange(bundle.directory, BUNDLE_FILE, _named_files) as change:
        change.put_back(artifact.file, model)


def against_keras(artifact: str) -> str:
    """Under which name the scores of a bundle say how far an artifact is from the Keras model."""
    return f"{artifact} against Keras"


def _add(
    change: FolderChange, name: str, model: ArtifactSource, image: np.ndarray, label_set: LabelSet, spec: PreprocessSpec
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Copies a model into the folder and runs it: its entry in bundle.json and its arrays in golden.npz."""
    runtime_class = engine_class(model.engine)
    runtime = runtime_class(model.path)
    prediction = runtime.predict(image)
    try:
        _check_values(prediction)
        file, sha256 = change.add(f"{name}{runtime_class.SUFFIX}", model.path)
        artifact = Artifact(
            name=name,
            file=file,
            engine=model.engine,
            precision=model.precision,
            sha256=sha256,
            bytes=model.path.stat().st_size,
            input_name=runtime.input_name,
            input_shape=runtime.input_shape,
            output_shapes={output: getattr(prediction, output).shape for output in OUTPUTS},
            tolerance=float(model.tolerance),
            device=runtime_class.this_device(),
            costs=model.costs,
        )
        _check_fits(artifact, label_set, spec)
    except ValueError as error:
        _refuse(model.path, error)
    entry = asdict(artifact)
    del entry["name"]
    for optional in ("device", "costs"):
        if entry[optional] is None:
            del entry[optional]
    return entry, _golden_arrays(name, prediction)


def _golden_arrays(name: str, prediction: Prediction) -> dict[str, np.ndarray]:
    return {f"{output}_{name}": getattr(prediction, output) for output in OUTPUTS}


def _add_golden(change: FolderChange, arrays: Mapping[str, np.ndarray]) -> dict[str, str]:
    content = io.BytesIO()
    np.savez_compressed(content, **arrays)  # type: ignore[arg-type]
    return dict(zip(_FILE, change.add(GOLDEN_FILE, content.getvalue()), strict=True))


def _commit(change: FolderChange, directory: Path, document: dict[str, Any]) -> None:
    """Signs the document and makes it the bundle's, if it could be loaded. Raises ValueError where it could not."""
    unsigned = {key: value for key, value in document.items() if key != "digest"}
    content = _serialize({**unsigned, "digest": _digest(unsigned)})
    Bundle._of(directory, _parse(content, directory / BUNDLE_FILE))
    change.commit(content)


def _named_files(content: bytes) -> set[str]:
    """The files a bundle.json names, however old it is or whatever else is wrong with it. Raises ValueError."""
    try:
        document = json.loads(content)
        entries = [*document["artifacts"].values(), document["golden"], document["source"]]
        return {_check_file_name(entry["file"]) for entry in entries if entry}
    except (KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(f"not a {BUNDLE_FILE}: {error}") from error


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            content = file.read(MAX_DOCUMENT + 1)
    except (OSError, ValueError) as error:
        _refuse(path, f"a bundle needs this file ({getattr(error, 'strerror', None) or error})", error)
    if len(content) > MAX_DOCUMENT:
        _refuse(path, f"at most {MAX_DOCUMENT} bytes expected")
    return content


def _parse(content: bytes, path: Path) -> dict[str, Any]:
    """The document in the newest schema; its digest is that of the bytes."""
    try:
        document = json.loads(content)
        if not isinstance(document, dict):
            _refuse(path, f"an object expected. Received: {type(document).__name__}")
        upgraded = upgrade(document, STEPS, str(path), BundleMismatch)
        unsigned = {key: value for key, value in document.items() if key != "digest"}
        # The comparison of the bytes catches what the digest of the meaning cannot see, such as a changed blank.
        unchanged = document.get("digest") == _digest(unsigned) and content == _serialize(document)
    except (ValueError, RecursionError) as error:  # also for NaN, infinity and half characters
        _refuse(path, f"not valid JSON ({error})", error)
    if not unchanged:
        _refuse(path, "changed after the bundle was made (its digest does not match)")
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


def _refuse(path: Path, reason: object, cause: BaseException | None = None) -> NoReturn:
    """Raises BundleMismatch, in one line."""
    line = " ".join(str(reason).split())
    raise BundleMismatch(f"{path}: {line if len(line) <= MAX_LINE else line[:MAX_LINE] + '…'}") from (
        cause or (reason if isinstance(reason, BaseException) else None)
    )


def _check_files(bundle: Bundle, document: Mapping[str, Any]) -> None:
    """Raises BundleMismatch where a file is missing or not the one that bundle.json signs."""
    for name in bundle.artifacts.keys() - set(bundle.absent):
        artifact = bundle.artifacts[name]
        _check_file(bundle.directory / artifact.file, artifact.sha256, artifact.bytes)
    _check_file(bundle.directory / bundle.golden_file, document["golden"]["sha256"])
    if bundle.source_file is not None and bundle.source_sha256 is not None:
        source = bundle.directory / bundle.source_file
        if source.exists():
            _check_file(source, bundle.source_sha256)
    for name in bundle.artifacts:
        bundle.golden(name)


def _check_file(path: Path, sha256: str, size: int | None = None) -> None:
    try:
        if not path.is_file():
            _refuse(path, "the bundle needs this file (no such file)")
        stated = path.stat().st_size
        received = sha256_of(path)
    except OSError as error:
        _refuse(path, f"the bundle needs this file ({error.strerror})", error)
    if received != sha256:
        _refuse(
            path,
            f"changed after the bundle was made (SHA-256 {sha256[:16]}… expected, {received[:16]}… received)",
        )
    if size is not None and stated != size:
        _refuse(path, f"{BUNDLE_FILE} states {size} bytes, the file has {stated}")


def _check_names(artifacts: Mapping[str, ArtifactSource]) -> None:
    for name in artifacts:
        _check_name(name)


def _check_name(artifact: str) -> None:
    if not re.fullmatch(r"[A-Za-z0-9_-]{1,64}", artifact):
        raise ValueError(f"An artifact name is letters, digits, '-' and '_', at most 64. Received: {artifact!r}")


def _check_file_name(name: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,127}", name):
        raise ValueError(f"a plain file name without folders expected. Received: {name!r}")
    return name


def _check_line(what: str, text: str) -> None:
    if not text.strip() or not text.isprintable():
        raise ValueError(f"{what} must be a line of text. Received: {text!r}")


def _check_text(what: str, text: object) -> None:
    """As `_check_line`; the text may have several lines."""
    if not isinstance(text, str) or not text.strip() or not all(line.isprintable() for line in text.splitlines()):
        raise ValueError(f"{what} must be a text for people. Received: {text!r}")


def _check_fits(artifact: Artifact, label_set: LabelSet, spec: PreprocessSpec) -> None:
    """Raises ValueError where a model has another input or other outputs than the bundle is for."""
    if artifact.input_shape[1:] != (spec.size, spec.size, 3):
        raise ValueError(
            f"{artifact.name}: the images are {spec.size} × {spec.size} px; input shape {artifact.input_shape}"
        )
    if artifact.output_shapes["probabilities"] != (1, len(label_set)):
        raise ValueError(
            f"{artifact.name}: label set '{label_set.name}' has {len(label_set)} classes, outputs "
            f"{artifact.output_shapes}"
        )


def _check_values(prediction: Prediction) -> None:
    """Raises ValueError for what no network gives that works."""
    if not all(np.isfinite(getattr(prediction, output)).all() for output in OUTPUTS):
        raise ValueError("the output for the golden image is not finite")
    if not ((prediction.probabilities >= 0) & (prediction.probabilities <= 1)).all():
        raise ValueError("the probabilities for the golden image do not lie in [0, 1]")


def _label_set_from_dict(fields: Mapping[str, Any]) -> LabelSet:
    return LabelSet(
        name=fields["name"],
        labels=tuple(Label(**label) for label in fields["labels"]),
        pathologic=tuple(fields["pathologic"]),
        exclusive=tuple(tuple(group) for group in fields["exclusive"]),
        condition=fields["condition"],
    )


def _artifact_from_dict(name: str, fields: Mapping[str, Any]) -> Artifact:
    values = dict(fields)
    values["input_shape"] = tuple(values["input_shape"])
    values["output_shapes"] = {output: tuple(shape) for output, shape in values["output_shapes"].items()}
    if "costs" in values:
        values["costs"] = Costs(**values["costs"])
    return Artifact(name=name, **values)
