"""The folders of evaluated runs: what a report shows of them, and what is compared."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from keras_realmnet.errors import RealMNetError
from keras_realmnet.tasks.outputs import Grades, Labels, Masks, Points
from keras_realmnet.tasks.rules import OperatingPoint
from keras_realmnet.tasks.task import Task
from keras_realmnet.tasks.vocabulary import LABEL_SETS
from training.data.label_table import read_csv
from training.data.psmm import is_synthetic
from training.scoring.statistics.arrays import Array
from training.scoring.statistics.bootstrap import Interval
from training.scoring.statistics.cases import Cases

__all__ = ["TEST_TABLE", "EvaluatedRun", "Run", "read_run", "read_runs"]

TEST_TABLE = "test_scores.csv"  # truth and probabilities of the test images, as `evaluate` writes it


@dataclass(frozen=True)
class EvaluatedRun:
    """A run folder as read; `recipe`, `facts` (run.json) and `scored` (scores.json) are empty where it lacks them.

    `task`: what the network answers; None where the folder does not say. `history`: columns of history.csv as float
    (epochs,), NaN where empty; None without one. `rows`: test_scores.csv, a mapping for each test image. `names`,
    `patients`: (n,) str, of the test images.
    """

    name: str
    folder: Path
    task: Task | None
    recipe: Mapping[str, Any]
    facts: Mapping[str, Any]
    scored: Mapping[str, Any]
    history: Mapping[str, Array] | None
    rows: Sequence[Mapping[str, str]]
    names: Array
    patients: Array

    @property
    def images(self) -> list[tuple[str, str]]:
        """Name and patient of each test image."""
        return list(zip(self.names.tolist(), self.patients.tolist(), strict=True))

    @property
    def others(self) -> dict[str, Grades | Masks | Points]:
        """The outputs that are no labels, by name."""
        trained = {} if self.task is None else self.task.trained
        return {name: output for name, output in trained.items() if not isinstance(output, Labels)}

    def column(self, output: str, name: str) -> list[str]:
        """What test_scores.csv has of an output, image by image; a name that another output took first is its own."""
        own = f"{output}_{name}"
        return [row[own if own in row else name] for row in self.rows]

    def scores(self, output: str) -> dict[str, Interval]:
        """Those of an output, as scores.json has them."""
        found = self.scored["outputs"][output]["scores"]
        return {name: Interval(**fields) for name, fields in found.items()}

    @property
    def synthetic(self) -> bool:
        """Whether the images are drawn: for the run, or those of a phantom study, laid out and read as PSMM."""
        data = self.recipe.get("data", {})
        if str(data.get("kind", self.scored.get("data", ""))).startswith(("phantom", "drawn")):
            return True
        folder = data.get("folder")
        stamped = folder is not None and is_synthetic(folder)
        return stamped or "synthetic" in str(self.facts.get("training_data", ""))


@dataclass(frozen=True)
class Run(EvaluatedRun):
    """One whose network answers labels. `cases`: the truth and the probabilities of the test images."""

    cases: Cases


def read_runs(folders: Sequence[Path]) -> list[EvaluatedRun]:
    """The runs under short names that tell them apart. Raises RealMNetError: they answer different questions."""
    ends = [folder.resolve().parts for folder in folders]
    if len(set(ends)) < len(ends):
        raise RealMNetError(f"a run is given twice: {', '.join(map(str, folders))}")
    length = next(k for k in range(1, max(map(len, ends)) + 1) if len({end[-k:] for end in ends}) == len(ends))
    runs = [read_run(folder, "/".join(end[-length:])) for folder, end in zip(folders, ends, strict=True)]
    label_sets = {run.cases.label_set.name if isinstance(run, Run) else "none" for run in runs}
    if len(label_sets) > 1:
        raise RealMNetError(f"the runs have different labels ({', '.join(sorted(label_sets))}): report them separately")
    for run in runs:
        if _questions(run) != _questions(runs[0]):
            raise RealMNetError(f"{run.name} answers other questions than {runs[0].name}: report them separately")
    return runs


def _questions(run: EvaluatedRun) -> dict[str, Any]:
    """The others as the data asks them: thresholds of masks may differ between runs."""
    return {} if run.task is None else {name: run.task.questions[name] for name in run.others}


def read_run(folder: Path, name: str | None = None) -> EvaluatedRun:
    """Reads the folder of an evaluated run: a `Run` where it answers labels.

    Of one that answers labels alone only `test_scores.csv` must be there, of others also what `evaluate` writes.

    Raises:
        RealMNetError: a file is missing, or is not what `fit` and `evaluate` write.
    """
    table = folder / TEST_TABLE
    if not table.is_file():
        raise RealMNetError(
            f"{table}: no such file; expected the folder of a finished run (python -m training evaluate writes it)"
        )
    scored = _read_json(folder / "scores.json")
    rows = _read_rows(table, "filename", "the test images of a run")
    task = _read_task(folder / "task.json")
    try:
        read: dict[str, Any] = {
            "name": name or folder.resolve().name,
            "folder": folder,
            "task": task,
            "recipe": _read_json(folder / "recipe.json"),
            "facts": _read_json(folder / "run.json"),
            "scored": scored,
            "history": _read_history(folder / "history.csv"),
            "rows": rows,
            "names": np.array([row.get("filename", "") for row in rows], np.str_),
            "patients": np.array([row.get("patient", "") for row in rows], np.str_),
        }
    except (ValueError, KeyError) as error:
        raise RealMNetError(f"{folder}: a table is not what fit and evaluate write ({error})") from error
    run = EvaluatedRun(**read)
    if run.others and not set(run.others) <= set(scored.get("outputs", {})):
        raise RealMNetError(
            f"{folder / 'scores.json'}: expected scores of {', '.join(run.others)}; python -m training evaluate "
            "writes them"
        )
    if task is not None and not any(isinstance(output, Labels) for output in task.trained.values()):
        return run
    return Run(**read, cases=_cases(table, rows, scored, task))


def _cases(table: Path, rows: Sequence[Mapping[str, str]], scored: Mapping[str, Any], task: Task | None) -> Cases:
    """Truth and probabilities of labels: those that the network answers, else one of all known vocabularies."""
    vocabularies = list(LABEL_SETS.values()) if task is None else [task.label_set]
    columns = list(rows[0]) if rows else []
    fitting = {
        known.name: known
        for known in vocabularies
        if {"filename", "patient", *known.codes, *(f"true_{code}" for code in known.codes)} <= {*columns}
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
        if not np.all((y_score >= 0) & (y_score <= 1)):  # nor where one is NaN
            raise ValueError("probabilities must be from 0 to 1")
    except ValueError as error:
        raise RealMNetError(f"{table}: a table is not what fit and evaluate write ({error})") from error
    try:
        point = OperatingPoint.from_dict(scored["operating_point"]) if scored.get("operating_point") else None
        return Cases.of_images(y_true, y_score, label_set, point, [row["patient"] for row in rows])
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        file = table.with_name("scores.json")
        raise RealMNetError(f"{file}: not an operating point as evaluate writes it ({error!r})") from error


def _read_task(path: Path) -> Task | None:
    if not path.is_file():
        return None
    try:
        return Task.from_dict(_read_json(path))
    except ValueError as error:
        raise RealMNetError(f"{path}: not a task as fit writes it ({error})") from error


def _read_json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise RealMNetError(f"{path}: not JSON ({error})") from error
    return value if isinstance(value, dict) else {}


def _read_history(path: Path) -> dict[str, Array] | None:
    rows = _read_rows(path, "epoch", "the epochs of a run") if path.is_file() else []
    if not rows:
        return None
    return {name: np.array([float(row[name] or "nan") for row in rows]) for name in rows[0]}


def _read_rows(path: Path, first: str, what: str) -> list[dict[str, str]]:
    header, rows = read_csv(path, (first,), what)
    return [dict(zip(header, row, strict=True)) for _, row in rows]
