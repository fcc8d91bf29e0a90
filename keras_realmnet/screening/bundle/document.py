"""bundle.json: its form, its reading with the digest compared, its signing, and its earlier schemas."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

from keras_realmnet.errors import BundleMismatch
from keras_realmnet.screening.bundle.form import check_file_name
from keras_realmnet.screening.upgrade import Step, upgrade
from keras_realmnet.tasks.task import CLASS_MAPS, PROBABILITIES
from keras_realmnet.tasks.vocabulary import LABEL_SETS, LabelSet

__all__ = ["BUNDLE_FILE", "FILE", "FORM", "SCHEMA_VERSION", "named_files", "parse", "read", "refuse", "signed"]

SCHEMA_VERSION = 3
BUNDLE_FILE = "bundle.json"

MAX_DOCUMENT = 1 << 22  # bytes of bundle.json
MAX_LINE = 500  # characters of an error

FILE = {"file": str, "sha256": str}
FORM = {
    "schema": int,
    "name": str,
    "version": str,
    "intended_use": str,
    "task": dict,  # `Task.from_dict` knows its form
    "preprocessing": dict,
    "preprocessing_hash": str,
    "default_artifact": str,
    "artifacts": {
        str: {
            **FILE,
            "engine": str,
            "precision": str,
            "bytes": int,
            "input_name": str,
            "input_shape": [(int, None)],
            "output_shapes": {str: [int]},
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
    "golden": FILE,
    "source": (FILE, None),
    "training_data": dict,
    "scores": dict,
    "versions": dict,
    "digest": str,
}


def named_files(content: bytes) -> set[str]:
    """The files a bundle.json names, however old it is or whatever else is wrong with it. Raises ValueError."""
    try:
        document = json.loads(content)
        entries = [*document["artifacts"].values(), document["golden"], document["source"]]
        return {check_file_name(entry["file"]) for entry in entries if entry}
    except (KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(f"not a {BUNDLE_FILE}: {error}") from error


def read(path: Path) -> bytes:
    """The bytes of a bundle.json. Raises BundleMismatch where there is none, or one too large."""
    try:
        with path.open("rb") as file:
            content = file.read(MAX_DOCUMENT + 1)
    except (OSError, ValueError) as error:
        refuse(path, f"a bundle needs this file ({getattr(error, 'strerror', None) or error})", error)
    if len(content) > MAX_DOCUMENT:
        refuse(path, f"at most {MAX_DOCUMENT} bytes expected")
    return content


def parse(content: bytes, path: Path) -> dict[str, Any]:
    """The document in the newest schema; its digest is that of the bytes. Raises BundleMismatch where it is not."""
    try:
        document = json.loads(content)
        if not isinstance(document, dict):
            refuse(path, f"an object expected. Received: {type(document).__name__}")
        upgraded = upgrade(document, STEPS, str(path), BundleMismatch)
        unsigned = {key: value for key, value in document.items() if key != "digest"}
        # The comparison of the bytes catches what the digest of the meaning cannot see, such as a changed blank.
        unchanged = document.get("digest") == _digest(unsigned) and content == _serialize(document)
    except (ValueError, RecursionError) as error:  # also for NaN, infinity and half characters
        refuse(path, f"not valid JSON ({error})", error)
    if not unchanged:
        refuse(path, "changed after the bundle was made (its digest does not match)")
    return upgraded


def _with_condition(document: dict[str, Any]) -> dict[str, Any]:
    """Schema 1 → 2: the label set says what is screened for."""
    label_set = document.get("label_set")
    if not isinstance(label_set, dict):
        return document  # `Bundle.load` says what is wrong with it
    known = LABEL_SETS.get(str(label_set.get("name")), LabelSet)
    return {**document, "label_set": {**label_set, "condition": known.condition}}


def _with_task(document: dict[str, Any]) -> dict[str, Any]:
    """Schema 2 → 3: modality, label set and operating point are parts of a task."""
    old = {"modality", "label_set", "operating_point"}
    if not old <= set(document) or not all(isinstance(document[n], dict) for n in ("label_set", "operating_point")):
        return document
    label_set = document["label_set"]
    task = {
        "name": label_set.get("name"),
        "modality": document["modality"],
        "outputs": {
            PROBABILITIES: {"kind": "labels", "labels": label_set},
            CLASS_MAPS: {"kind": "maps", "of": PROBABILITIES},
        },
        "measures": [],
        "rule": {"kind": "any_above", "output": PROBABILITIES, **document["operating_point"]},
        "fitted": {},
        "reference": {},
    }
    return {**{name: value for name, value in document.items() if name not in old}, "task": task}


STEPS: tuple[Step, ...] = (_with_condition, _with_task)


def signed(document: Mapping[str, Any]) -> bytes:
    """The bytes of bundle.json: `document` with its digest, in the place of one it has. Raises ValueError for NaN."""
    unsigned = {key: value for key, value in document.items() if key != "digest"}
    return _serialize({**unsigned, "digest": _digest(unsigned)})


def _serialize(document: Mapping[str, Any]) -> bytes:
    return (json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode()


def _digest(document: Mapping[str, Any]) -> str:
    """SHA-256 of the canonical JSON of everything but the digest itself."""
    canonical = json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return hashlib.sha256(canonical.encode()).hexdigest()


def refuse(path: Path, reason: object, cause: BaseException | None = None) -> NoReturn:
    """Raises BundleMismatch, in one line."""
    line = " ".join(str(reason).split())
    raise BundleMismatch(f"{path}: {line if len(line) <= MAX_LINE else line[:MAX_LINE] + '…'}") from (
        cause or (reason if isinstance(reason, BaseException) else None)
    )
