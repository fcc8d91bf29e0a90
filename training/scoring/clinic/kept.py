"""clinic.json: the figures of a folder of results, of a run, or, beside the models of a bundle, of several data sets.

In a bundle it is no part of what bundle.json signs: it may be measured anew without another digest.
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from keras_realmnet.errors import RealMNetError
from keras_realmnet.screening.bundle.bundle import Bundle
from keras_realmnet.screening.quality import gate_facts

__all__ = ["CLINIC_FILE", "decides", "keep_in_bundle", "read_kept", "write_kept"]

CLINIC_FILE = "clinic.json"


def decides(bundle: Bundle, artifact: str | None = None) -> str:
    """SHA-256 over all that a bundle's decisions follow from: gate, model, its input, and what its answer means.

    The gate is that of the program as it is; what it refuses is a retake. A reference that refuses no picture, and
    outputs for that or for explanations, are no part of it.
    """
    task, reference = bundle.task, bundle.task.reference
    told = task.to_dict()
    parts = {
        "gate": gate_facts(task.modality, task.needs),
        "model": bundle.artifact(artifact).sha256,
        "preprocessing": bundle.spec.hash,
        "outputs": {name: output.to_dict() for name, output in task.trained.items()},
        **{name: told.get(name) for name in ("modality", "measures", "rule", "fitted", "needs") if told.get(name)},
        **({"reference": told["reference"]} if reference is not None and reference.refuse_above is not None else {}),
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True, ensure_ascii=False).encode()).hexdigest()


def keep_in_bundle(bundle: Bundle, artifact: str, data: str, figures: Mapping[str, Any]) -> Path:
    """Adds the figures on `data`, in words, to those in the bundle's folder, in the place of earlier ones on it.

    Figures stand beside what they were measured with: the artifact, and what `decides` gives.
    """
    path = bundle.directory / CLINIC_FILE
    known = read_kept(path) if path.exists() else {}
    entry = {"artifact": artifact, "decides": decides(bundle, artifact), **figures}
    write_kept(path, dict(sorted({**known, data: entry}.items())))
    return path


def read_kept(path: Path) -> dict[str, Any]:
    """{data, in words: figures}. Raises RealMNetError where it is none."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        return {str(data): dict(figures) for data, figures in values.items()}
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise RealMNetError(f"{path}: not what the command clinic writes ({error})") from error


def write_kept(path: Path, values: Mapping[str, Any]) -> None:
    """All of it or nothing."""
    temporary = path.with_suffix(".tmp")
    temporary.write_text(json.dumps(values, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    temporary.replace(path)
