"""Do two models differ on the same images? Tables of scores, or evaluated runs. No Keras is needed."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from keras_realmnet.errors import DataSetError
from keras_realmnet.tasks.outputs import Labels
from keras_realmnet.tasks.task import Task
from keras_realmnet.tasks.vocabulary import PSMM, LabelSet
from training.data.label_table import read_csv
from training.scoring.statistics.arrays import Array
from training.scoring.statistics.bootstrap import Bootstrap
from training.scoring.statistics.cases import Cases
from training.scoring.statistics.scores import HEADLINE, PER_LABEL, undefined
from training.scoring.statistics.significance import delong_test, paired_difference, t_tests
from training.scoring.tables import labelled_cases, read_label_lists
from training.scoring.thresholds import default_point

__all__ = ["CAVEATS", "TEST_TABLE", "compare_runs", "compare_tables"]

TEST_TABLE = "test_scores.csv"  # of a run folder: truth and probabilities of its test images, see `evaluate`
CAVEATS = {
    "paired_bootstrap": "patients resampled, the same ones for both; no p is below 2/(replicates + 1)",
    "delong": "DeLong's test takes images as independent; images of one patient are not, so its p can be far too small",
    "t_test": (
        "as published; bootstrap replicates of one test set are not independent samples, so with enough of them any "
        "difference becomes significant"
    ),
}


def compare_tables(
    labels: Sequence[str | Path],
    a: str | Path,
    b: str | Path,
    replicates: int = 1000,
    seed: int = 0,
    label_set: LabelSet = PSMM,
) -> dict[str, Any]:
    """Do two models, scored on the same images, differ? JSON-safe.

    Returns:
        "labels" and what `compare_runs` returns.

    Raises:
        DataSetError: see `read_label_lists` and `read_score_table`.
    """
    table, _ = read_label_lists(labels, label_set)
    cases = [labelled_cases(table, scores) for scores in (a, b)]
    return {"labels": [str(path) for path in labels], **_compared(a, b, cases, label_set, replicates, seed)}


def compare_runs(a: Path, b: Path, replicates: int = 1000, seed: int = 0) -> dict[str, Any]:
    """Do the networks of two evaluated runs, of labels alone, differ on the test images that they share? JSON-safe.

    That is about these networks: how much others would differ that begin from other random weights is not in it.

    Returns:
        "a", "b", "label_set", "images", "patients"; "differences": {name: fields of `Difference`} of the main scores
        and each label's F1 (at 0.5), average precision and AUROC; "delong": {code: fields of `DeLong`};
        "t_test": {name: p}; "caveats" of each of the tests; "bootstrap"; "notes".

    Raises:
        DataSetError: a folder has no table of test images, or answers something else than labels; or the two are of
            other labels, other images or other truth.
    """
    (label_set, names, first), (others, theirs, second) = (_test_cases(run) for run in (a, b))
    if label_set.codes != others.codes:
        asked, answered = (", ".join(each.codes) for each in (label_set, others))
        raise DataSetError(f"{b}: it answers {answered}. Expected, as in {a}: {asked}")
    if names != theirs:
        only = sorted(set(names) ^ set(theirs))
        found = f"{len(only)} are in one of them alone, such as {only[0]}" if only else "another order"
        raise DataSetError(f"{b}: not the test images of {a}: {found}")
    if not np.array_equal(first.y_true, second.y_true, equal_nan=True):
        raise DataSetError(f"{b}: the truth of the test images is not that of {a}")
    return _compared(a, b, [first, second], label_set, replicates, seed)


def _test_cases(run: Path) -> tuple[LabelSet, tuple[str, ...], Cases]:
    """The labels that a run answers, and names and cases of its test images."""
    table, task = run / TEST_TABLE, run / "task.json"
    for path in (table, task):
        if not path.is_file():
            raise DataSetError(f"{path}: no such file; expected the folder of a run that was evaluated")
    outputs = list(Task.from_dict(json.loads(task.read_text(encoding="utf-8"))).trained.values())
    if len(outputs) != 1 or not isinstance(outputs[0], Labels):
        raise DataSetError(f"{run}: only runs that answer labels alone are compared so; others by cross-validation")
    label_set = outputs[0].labels
    truth_columns = tuple(f"true_{code}" for code in label_set.codes)
    header, rows = read_csv(table, ("filename", "patient", *truth_columns, *label_set.codes), "a run's test images")
    columns = {name: [row[header.index(name)] for _, row in rows] for name in header}

    def numbers(names: Sequence[str]) -> Array:
        return np.array([[float(value or "nan") for value in columns[name]] for name in names]).T

    y_true, y_score = numbers(truth_columns), numbers(label_set.codes)
    cases = Cases.of_images(y_true, y_score, label_set, default_point(label_set), columns["patient"])
    return label_set, tuple(columns["filename"]), cases


def _compared(
    a: str | Path, b: str | Path, cases: Sequence[Cases], label_set: LabelSet, replicates: int, seed: int
) -> dict[str, Any]:
    first, second = cases
    shown = (*HEADLINE, *(f"{metric}_{code}" for metric in PER_LABEL for code in label_set.codes))
    differences = paired_difference(first, second, replicates, seed)
    published = t_tests(first, second, replicates, seed)
    return {
        "a": str(a),
        "b": str(b),
        "label_set": label_set.name,
        "images": len(first.y_true),
        "patients": len(set(first.patients)),
        "bootstrap": Bootstrap("patient", replicates, seed).describe(),
        "differences": {name: vars(differences[name]) for name in shown if name in differences},
        "delong": {
            code: vars(delong_test(first.y_true[:, k], first.y_score[:, k], second.y_score[:, k]))
            for k, code in enumerate(label_set.codes)
        },
        "t_test": {name: published.get(name) for name in shown if name in differences},
        "caveats": CAVEATS,
        "notes": undefined(first),
    }
