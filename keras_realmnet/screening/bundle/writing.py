"""Bundles made, and models added to them: the folder is the old bundle or the new one, whenever the change breaks off.

A file that replaces one of the same name has a longer name: a bundle changes at one moment, with bundle.json.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from keras_realmnet.errors import RealMNetError
from keras_realmnet.screening.bundle.artifact import Artifact, Costs, check_artifact_name, check_fits
from keras_realmnet.screening.bundle.bundle import SOURCE_FILE, Bundle, against_keras, check_file
from keras_realmnet.screening.bundle.document import (
    BUNDLE_FILE,
    FILE,
    SCHEMA_VERSION,
    named_files,
    parse,
    read,
    refuse,
    signed,
)
from keras_realmnet.screening.bundle.folder_change import FolderChange
from keras_realmnet.screening.bundle.golden import GOLDEN_FILE, golden_arrays, golden_file
from keras_realmnet.screening.engines.registry import engine_class
from keras_realmnet.screening.preprocessing import PreprocessSpec
from keras_realmnet.tasks.outputs import Features
from keras_realmnet.tasks.reference import Reference
from keras_realmnet.tasks.task import Task

__all__ = ["ArtifactSource", "add_artifacts", "add_reference", "put_back", "refit", "write_bundle"]


@dataclass(frozen=True)
class ArtifactSource:
    """A model file for `write_bundle`: its path (anywhere), precision, golden tolerance, costs (see `Artifact`)."""

    path: Path
    precision: str
    tolerance: float
    engine: str = "litert"
    costs: Costs | None = None


def write_bundle(
    directory: Path | str,
    *,
    name: str,
    version: str,
    task: Task,
    spec: PreprocessSpec,
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
    if default_artifact not in artifacts:
        raise ValueError(f"`default_artifact` must be one of {', '.join(artifacts)}. Received: {default_artifact!r}")
    if golden_image.dtype != np.uint8 or golden_image.shape != (1, spec.size, spec.size, 3):
        raise ValueError(
            f"`golden_image` must be uint8 of shape (1, {spec.size}, {spec.size}, 3). "
            f"Received: {golden_image.dtype} {golden_image.shape}"
        )
    _check_names(artifacts)

    with FolderChange(directory, BUNDLE_FILE, named_files) as change:
        golden, entries = {"image": golden_image}, {}
        for artifact_name, model in artifacts.items():
            entries[artifact_name], outputs = _add(change, artifact_name, model, golden_image, task, spec)
            golden.update(outputs)
        document = {
            "schema": SCHEMA_VERSION,
            "name": name,
            "version": version,
            "intended_use": intended_use,
            "task": task.to_dict(),
            "preprocessing": spec.to_dict(),
            "preprocessing_hash": spec.hash,
            "default_artifact": default_artifact,
            "artifacts": entries,
            "golden": _add_golden(change, golden),
            "source": None if source is None else dict(zip(FILE, change.add(SOURCE_FILE, source), strict=True)),
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
    with FolderChange(directory, BUNDLE_FILE, named_files) as change:
        document = _unchanged(bundle)
        image, _ = bundle.golden()
        golden = {"image": image}
        for name in bundle.artifacts.keys() - artifacts.keys():
            golden.update(golden_arrays(name, bundle.golden(name)[1], bundle.task))
        for name, model in artifacts.items():
            document["artifacts"][name], outputs = _add(change, name, model, image, bundle.task, bundle.spec)
            golden.update(outputs)
            document["scores"].pop(against_keras(name), None)
        document["scores"].update(scores or {})
        document["versions"].update(versions or {})
        document["golden"] = _add_golden(change, golden)
        _commit(change, directory, document)
    return Bundle.load(directory)


def refit(bundle: Bundle, task: Task, scores: Mapping[str, Any], version: str) -> Bundle:
    """`bundle` with other numbers between output and rule, another rule, other needs; models and golden output stay.

    The outcomes of its reference, which another rule decided, are forgotten: `add_reference` counts them anew.

    Args:
        task: that of the bundle with another `fitted`, `rule` and `needs`.
        scores: JSON-safe, what was measured with it; in the place of those of the same name.
        version: the new one: it decides otherwise.

    Raises:
        ValueError: a task that asks for anything else.
        RealMNetError: the bundle in the folder is no longer `bundle`, or as `write_bundle`; nothing has changed.
    """
    if replace(task, fitted=bundle.task.fitted, rule=bundle.task.rule, needs=bundle.task.needs) != bundle.task:
        raise ValueError(
            f"the task of {bundle.name!r} expected, with another rule or other needs alone. Received: {task.name!r}"
        )
    if task.reference is not None:
        task = replace(task, reference=replace(task.reference, outcomes={}))
    directory = bundle.directory
    with FolderChange(directory, BUNDLE_FILE, named_files) as change:
        document = _unchanged(bundle)
        document["task"], document["version"] = task.to_dict(), version
        document["scores"].update(scores)
        _commit(change, directory, document)
    return Bundle.load(directory)


def add_reference(bundle: Bundle, reference: Reference) -> Bundle:
    """`bundle` after its folder was given a reference, in the place of one it has, and its artifacts the output of
    features that this compares; everything else stays as it is. Of an artifact whose file is not there, features will
    not be among what the golden check compares.

    Raises:
        BundleMismatch: a model gives no such output.
        RealMNetError: the bundle in the folder is no longer `bundle`, or as `write_bundle`; nothing has changed.
    """
    directory, name = bundle.directory, reference.output
    task = replace(bundle.task, outputs={**bundle.task.outputs, name: Features()}, reference=reference)
    with FolderChange(directory, BUNDLE_FILE, named_files) as change:
        document = _unchanged(bundle)
        image, _ = bundle.golden()
        golden = {"image": image}
        for artifact in bundle.artifacts.values():
            known = bundle.golden(artifact.name)[1]
            if artifact.name not in bundle.absent:
                runtime = engine_class(artifact.engine)(bundle.model_file(artifact.name), outputs=(name,))
                known = {**known, name: runtime.predict(image)[name]}
            golden.update(golden_arrays(artifact.name, known, task))
            shapes = {output: list(values.shape) for output, values in known.items()}
            document["artifacts"][artifact.name]["output_shapes"] = shapes
        document["task"] = task.to_dict()
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
    check_file(model, artifact.sha256, artifact.bytes)
    with FolderChange(bundle.directory, BUNDLE_FILE, named_files) as change:
        change.put_back(artifact.file, model)


def _add(
    change: FolderChange, name: str, model: ArtifactSource, image: np.ndarray, task: Task, spec: PreprocessSpec
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Copies a model into the folder and runs it: its entry in bundle.json and its arrays in golden.npz."""
    runtime_class = engine_class(model.engine)
    runtime = runtime_class(model.path, outputs=tuple(task.outputs))
    prediction = runtime.predict(image)
    try:
        task.check(prediction)
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
            output_shapes={output: values.shape for output, values in prediction.items()},
            tolerance=float(model.tolerance),
            device=runtime_class.this_device(),
            costs=model.costs,
        )
        check_fits(artifact, task, spec)
    except ValueError as error:
        refuse(model.path, error)
    entry = asdict(artifact)
    del entry["name"]
    for optional in ("device", "costs"):
        if entry[optional] is None:
            del entry[optional]
    return entry, golden_arrays(name, prediction, task)


def _add_golden(change: FolderChange, arrays: Mapping[str, np.ndarray]) -> dict[str, str]:
    return dict(zip(FILE, change.add(GOLDEN_FILE, golden_file(arrays)), strict=True))


def _unchanged(bundle: Bundle) -> dict[str, Any]:
    """The document of a bundle's folder. Raises RealMNetError where it is no longer that bundle's."""
    path = bundle.directory / BUNDLE_FILE
    document = parse(read(path), path)
    if document["digest"] != bundle.digest:
        raise RealMNetError(f"{path}: the bundle was changed since it was read; begin again")
    return document


def _commit(change: FolderChange, directory: Path, document: dict[str, Any]) -> None:
    """Signs the document and makes it the bundle's, if it could be loaded. Raises ValueError where it could not."""
    content = signed(document)
    Bundle.of_document(directory, parse(content, directory / BUNDLE_FILE))
    change.commit(content)


def _check_names(artifacts: Mapping[str, ArtifactSource]) -> None:
    for name in artifacts:
        check_artifact_name(name)
