"""The folders of evaluated runs, as the report reads them."""

import csv
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from keras_realmnet.errors import RealMNetError
from keras_realmnet.tasks.rules import OperatingPoint
from keras_realmnet.tasks.task import Task
from keras_realmnet.tasks.vocabulary import LABEL_SETS, LabelSet
from training.data.psmm import is_synthetic
from training.scoring.cases import Cases

__all__ = ["Run", "read_run", "read_runs"]

Array = NDArray[Any]


@dataclass(frozen=True)
class Run:
    """A run folder as read; `recipe`, `facts` (run.json) and `scored` (scores.json) are empty where it lacks them.

    `history`: columns of history.csv as float (epochs,), NaN where empty; None without one. `names`, `patients`: (n,)
    str, of the test images. `cases`: their truth and probabilities.
    """

    name: str
    folder: Path
    recipe: Mapping[str, Any]
    facts: Mapping[str, Any]
    scored: Mapping[str, Any]
    history: Mapping[str, Array] | None
    names: Array
    cases: Cases

    @property
    def synthetic(self) -> bool:
        """Whether the images are phantoms: drawn for the run, or a phantom study, laid out and read as PSMM."""
        data = self.recipe.get("data", {})
        if str(data.get("kind", self.scored.get("data", ""))).startswith("phantom"):
            return True
        folder = data.get("folder")
        stamped = folder is not None and is_synthetic(folder)
        return stamped or "synthetic" in str(self.facts.get("training_data", ""))


def read_runs(folders: Sequence[Path]) -> list[Run]:
    """The runs under short names that tell them apart."""
    ends = [folder.resolve().parts for folder in folders]
    if len(set(ends)) < len(ends):
        raise RealMNetError(f"a run is given twice: {', '.join(map(str, folders))}")
    length = next(k for k in range(1, max(map(len, ends)) + 1) if len({end[-k:] for end in ends}) == len(ends))
    runs = [read_run(folder, "/".join(end[-length:])) for folder, end in zip(folders, ends, strict=True)]
    label_sets = {run.cases.label_set.name for run in runs}
    if len(label_sets) > 1:
        raise RealMNetError(f"the runs have different labels ({', '.join(sorted(label_sets))}): report them separately")
    return runs


def read_run(folder: Path, name: str | None = None) -> Run:
    """Reads the folder of an evaluated run; only `test_scores.csv` must be there.

    Raises:
        RealMNetError: there is none, or a file is not what `fit` and `evaluate` write.
    """
    table = folder / "test_scores.csv"
    if not table.is_file():
        raise RealMNetError(
            f"{table}: no such file; expected the folder of a finished run (python -m training evaluate writes it)"
        )
    scored = _read_json(folder / "scores.json")
    rows = _read_csv(table)
    columns = list(rows[0]) if rows else []
    vocabularies = _vocabularies(folder / "task.json")
    fitting = {
        known.name: known
        for known in vocabularies
        if {*known.codes, *(f"true_{code}" for code in known.codes)} <= {*columns}
    }
    label_set = fitting.get(scored.get("label_set", next(iter(fitting), "")))
    if label_set is None:
        raise RealMNetError(
            f"{table}: expected rows with the columns filename, patient, true_LABEL and LABEL for each label of "
            f"{' or '.join(known.name for known in vocabularies)}. Found: {', '.join(columns) or 'no row'}"
        )
    try:
        y_true = np.array([[float(row[f"true_{code}"] or "nan") for code in label_set.codes] for row in rows])
        y_score = np.array([[float(row[code]) for code in label_set.codes] for row in rows])
        patients = [row["patient"] for row in rows]
        names = np.array([row["filename"] for row in rows], np.str_)
        history = _read_history(folder / "history.csv")
    except (ValueError, KeyError) as error:
        raise RealMNetError(f"{folder}: a table is not what fit and evaluate write ({error})") from error
    point = OperatingPoint.from_dict(scored["operating_point"]) if scored.get("operating_point") else None
    return Run(
        name=name or folder.resolve().name,
        folder=folder,
        recipe=_read_json(folder / "recipe.json"),
        facts=_read_json(folder / "run.json"),
        scored=scored,
        history=history,
        names=names,
        cases=Cases.of_images(y_true, y_score, label_set, point, patients),
    )


def _vocabularies(task: Path) -> list[LabelSet]:
    """Of the labels that the network answers; of a folder that does not say, all that are known."""
    if not task.is_file():
        return list(LABEL_SETS.values())
    try:
        return [Task.from_dict(_read_json(task)).label_set]
    except ValueError as error:
        raise RealMNetError(f"{task}: not the task of a run that answers labels ({error})") from error


def _read_json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise RealMNetError(f"{path}: not JSON ({error})") from error
    return value if isinstance(value, dict) else {}


def _read_csv(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8-sig") as file:
        return list(csv.DictReader(file))


def _read_history(path: Path) -> dict[str, Array] | None:
    rows = _read_csv(path) if path.is_file() else []
    if not rows:
        return None
    return {name: np.array([float(row[name] or "nan") for row in rows]) for name in rows[0]}
