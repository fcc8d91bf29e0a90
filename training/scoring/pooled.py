"""What the networks of a cross-validation say of all pictures, kept in a file, so that two of them can be compared."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np

from keras_realmnet.errors import DataSetError
from keras_realmnet.tasks.task import Task
from training.datasets.image_set import ImageSet
from training.scoring.comparison import check_same_images
from training.scoring.statistics.arrays import Array
from training.scoring.statistics.bootstrap import Bootstrap
from training.scoring.statistics.significance import paired
from training.tasks.kinds import kind_of

__all__ = ["POOLED", "Pooled", "compare_pooled", "read_pooled", "write_pooled"]

POOLED = "cross_validation.npz"  # of the folder into which `training.scoring.folds` writes
_TRUTH = ("grade", "truth")  # the cases that say what is true of grades and labels


@dataclass(frozen=True)
class Pooled:
    """Of n pictures, each said by the network that did not learn from it.

    `task`: what is known of them. `names`, `patients`: of each. `cases`: {output: what its scores need, (n, ...) each},
    see `training.tasks.kind.TrainedKind.cases`.
    """

    task: Task
    names: tuple[str, ...]
    patients: tuple[str, ...]
    cases: Mapping[str, Mapping[str, Array]]

    @property
    def images(self) -> list[tuple[str, str]]:
        """Name and patient of each."""
        return list(zip(self.names, self.patients, strict=True))

    @classmethod
    def of(cls, images: ImageSet, cases: Mapping[str, Mapping[str, Array]]) -> "Pooled":
        return cls(images.task, images.names, images.patients, cases)


def write_pooled(folder: Path, parts: Sequence[Pooled]) -> None:
    """All of it or nothing."""
    arrays: dict[str, Array] = {"tasks": np.array(json.dumps([part.task.to_dict() for part in parts]))}
    for k, part in enumerate(parts):
        arrays |= {f"{k}/names": np.array(part.names), f"{k}/patients": np.array(part.patients)}
        for output, cases in part.cases.items():
            arrays |= {f"{k}/{output}/{key}": values for key, values in cases.items()}
    temporary = folder / f"{POOLED}.tmp"
    with temporary.open("wb") as file:
        np.savez_compressed(file, **arrays)  # type: ignore[arg-type]
    temporary.replace(folder / POOLED)


def read_pooled(folder: Path) -> list[Pooled]:
    """What `write_pooled` wrote.

    Raises:
        DataSetError: there is no such file, or it is none.
    """
    path = folder / POOLED
    if not path.is_file():
        raise DataSetError(f"{path}: no such file; expected what python -m training cross-validation writes")
    try:
        with np.load(path) as arrays:
            tasks = [Task.from_dict(values) for values in json.loads(str(arrays["tasks"]))]
            return [_part(k, task, arrays) for k, task in enumerate(tasks)]
    except (ValueError, KeyError, OSError, BadZipFile) as error:
        raise DataSetError(f"{path}: not what cross-validation writes ({error})") from error


def _part(k: int, task: Task, arrays: Mapping[str, Array]) -> Pooled:
    names, patients = (tuple(arrays[f"{k}/{key}"].tolist()) for key in ("names", "patients"))
    cases = {
        output: {key.removeprefix(f"{k}/{output}/"): arrays[key] for key in arrays if key.startswith(f"{k}/{output}/")}
        for output in task.trained
    }
    return Pooled(task, names, patients, cases)


def compare_pooled(a: Path, b: Path, replicates: int = 1000, seed: int = 0) -> dict[str, Any]:
    """Do two networks, both cross-validated on the same pictures, differ? JSON-safe.

    Of every score B − A, with intervals and p from resampling whole patients, the same ones for both. That is about
    these networks, one for each fold: how much others would differ that begin from other random weights is not in it.

    Args:
        a, b: folders that `training.scoring.folds.score_folds` wrote into.

    Returns:
        "a", "b", "bootstrap"; "parts", a list: of each cross-validated part "images", "patients" and "outputs", of each
        its "kind" and "differences", {score: fields of `Difference`}.

    Raises:
        DataSetError: what a cross-validation writes is not there; or they are of other pictures, or other truth.
    """
    found = []
    for one, other in zip(*_of_the_same(a, b), strict=True):
        patients = np.array(one.patients)
        outputs = {}
        for name, output in one.task.trained.items():
            kind = kind_of(output)
            mine, theirs = (kind.make_scorer(output, part.cases[name]) for part in (one, other))
            differences = paired(mine, theirs, patients, replicates, seed)
            outputs[name] = {
                "kind": output.kind,
                "differences": {score: vars(difference) for score, difference in differences.items()},
            }
        found.append({"images": len(one.names), "patients": len(set(one.patients)), "outputs": outputs})
    bootstrap = Bootstrap("patient", replicates, seed).describe()
    return {"a": str(a), "b": str(b), "bootstrap": bootstrap, "parts": found}


def _of_the_same(a: Path, b: Path) -> tuple[list[Pooled], list[Pooled]]:
    first, second = read_pooled(a), read_pooled(b)
    if len(first) != len(second):
        raise DataSetError(f"{b}: {len(second)} parts were cross-validated; expected {len(first)}, as in {a}")
    for one, other in zip(first, second, strict=True):
        if one.task.trained != other.task.trained:
            raise DataSetError(f"{b}: what is known of the pictures is not what is known of those in {a}")
        check_same_images(a, one.images, b, other.images)
        for name, cases in one.cases.items():
            for key in _TRUTH:
                if key in cases and not np.array_equal(cases[key], other.cases[name][key], equal_nan=True):
                    raise DataSetError(f"{b}: the truth of {name} is not that of {a}")
    return first, second
