"""The deployable folder: models, labels, preprocessing, thresholds and provenance that belong together.

    bundle.json       everything but the numbers of the networks; signs itself and the other files with SHA-256
    *.tflite, *.onnx, *.plan  one model file per artifact; what opens it is the artifact's `engine`
    golden.npz        an image, and what each artifact makes of it
    source.keras      optional: the Keras model the artifacts were made from, for those who verify; no box needs it

A bundle that names its Keras model may be without the files of artifacts other than the default one: `python -m export
add` makes them again, the same bytes. Whoever asks for one that is not there is told so.

Any changed byte is noticed by `Bundle.load`; a machine that computes something else by `runtimes.self_check`.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from keras_realmnet.errors import BundleMismatch, RealMNetError
from keras_realmnet.screening.bundle.artifact import MAX_SIZE, Artifact, artifact_from_dict, check_fits
from keras_realmnet.screening.bundle.document import BUNDLE_FILE, FORM, parse, read, refuse
from keras_realmnet.screening.bundle.folder_change import sha256_of
from keras_realmnet.screening.bundle.form import check_file_name, check_form, check_line, check_text
from keras_realmnet.screening.bundle.golden import read_golden
from keras_realmnet.screening.engines.base import Prediction
from keras_realmnet.screening.preprocessing import PreprocessSpec
from keras_realmnet.tasks.task import Task

__all__ = ["SOURCE_FILE", "Bundle", "against_keras", "check_file"]

SOURCE_FILE = "source.keras"


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
    task: Task
    spec: PreprocessSpec
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
            content = read(path)
            try:
                bundle, document = cls._described(directory, content)
                _check_files(bundle, document)
                return bundle
            except BundleMismatch:
                if read(path) == content:
                    raise  # otherwise the bundle was replaced while it was read

    @classmethod
    def described(cls, directory: Path | str) -> Bundle:
        """What bundle.json says; no other file is looked at. Raises BundleMismatch, as `load` does."""
        directory = Path(directory)
        return cls._described(directory, read(directory / BUNDLE_FILE))[0]

    @classmethod
    def _described(cls, directory: Path, content: bytes) -> tuple[Bundle, dict[str, Any]]:
        path = directory / BUNDLE_FILE
        document = parse(content, path)
        try:
            return cls.of_document(directory, document), document
        except (ValueError, BundleMismatch) as error:
            refuse(path, error)

    @classmethod
    def of_document(cls, directory: Path, document: dict[str, Any]) -> Bundle:
        """The bundle that a document of the newest schema describes. Raises ValueError or BundleMismatch."""
        check_form(document, FORM)
        task = Task.from_dict(document["task"])
        spec = PreprocessSpec.from_dict(document["preprocessing"])
        if spec.size > MAX_SIZE:
            raise ValueError(f"a size of {MAX_SIZE} px at most expected. Received: {spec.size}")
        if spec.hash != document["preprocessing_hash"]:
            raise ValueError(
                f"preprocessing hash {document['preprocessing_hash']!r} stated, but this program makes {spec.hash}"
            )
        artifacts = {name: artifact_from_dict(name, entry) for name, entry in document["artifacts"].items()}
        for artifact in artifacts.values():
            check_fits(artifact, task, spec)
        for field in ("name", "version"):
            check_line(field, document[field])
        check_text("intended_use", document["intended_use"])
        for chosen in task.rule.grounds() + task.fitted.grounds():
            check_text("what the thresholds were chosen on (task.rule.chosen)", chosen)
        check_text("training_data.statement", document["training_data"].get("statement"))
        if document["default_artifact"] not in artifacts:
            raise ValueError(f"default artifact {document['default_artifact']!r} is not in {list(artifacts)}")
        source = document["source"] or {"file": None, "sha256": None}
        for file in {document["golden"]["file"], source["file"]} - {None}:
            check_file_name(file)
        return cls(
            directory=directory,
            name=document["name"],
            version=document["version"],
            intended_use=document["intended_use"],
            task=task,
            spec=spec,
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
        return read_golden(self.directory / self.golden_file, self.artifact(name), self.task, self.spec.size)


def against_keras(artifact: str) -> str:
    """Under which name the scores of a bundle say how far an artifact is from the Keras model."""
    return f"{artifact} against Keras"


def _check_files(bundle: Bundle, document: Mapping[str, Any]) -> None:
    """Raises BundleMismatch where a file is missing or not the one that bundle.json signs."""
    for name in bundle.artifacts.keys() - set(bundle.absent):
        artifact = bundle.artifacts[name]
        check_file(bundle.directory / artifact.file, artifact.sha256, artifact.bytes)
    check_file(bundle.directory / bundle.golden_file, document["golden"]["sha256"])
    if bundle.source_file is not None and bundle.source_sha256 is not None:
        source = bundle.directory / bundle.source_file
        if source.exists():
            check_file(source, bundle.source_sha256)
    for name in bundle.artifacts:
        bundle.golden(name)


def check_file(path: Path, sha256: str, size: int | None = None) -> None:
    """Raises BundleMismatch where a file is not there, or not the one that a bundle signs."""
    try:
        if not path.is_file():
            refuse(path, "the bundle needs this file (no such file)")
        stated = path.stat().st_size
        received = sha256_of(path)
    except OSError as error:
        refuse(path, f"the bundle needs this file ({error.strerror})", error)
    if received != sha256:
        refuse(
            path,
            f"changed after the bundle was made (SHA-256 {sha256[:16]}… expected, {received[:16]}… received)",
        )
    if size is not None and stated != size:
        refuse(path, f"{BUNDLE_FILE} states {size} bytes, the file has {stated}")
