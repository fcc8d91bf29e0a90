"""Do two models differ on the same images? Tables of scores, or evaluated runs. No Keras is needed."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from keras_realmnet.errors import DataSetError
from keras_realmnet.tasks.vocabulary import PSMM, LabelSet
from training.scoring.evaluated_runs import Run, read_run
from training.scoring.statistics.bootstrap import Bootstrap
from training.scoring.statistics.cases import Cases
from training.scoring.statistics.scores import HEADLINE, PER_LABEL, undefined
from training.scoring.statistics.significance import delong_test, paired_difference, t_tests
from training.scoring.tables import labelled_cases, read_label_lists
from training.scoring.thresholds import default_point

__all__ = ["CAVEATS", "check_same_images", "compare_runs", "compare_tables"]

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
    """Do the networks of two evaluated runs, of one output of labels, differ on the same test images? JSON-safe.

    That is about these networks: how much others would differ that begin from other random weights is not in it.

    Returns:
        "a", "b", "label_set", "images", "patients"; "differences": {name: fields of `Difference`} of the main scores
        and each label's F1 (at 0.5), average precision and AUROC; "delong": {code: fields of `DeLong`};
        "t_test": {name: p}; "caveats" of each of the tests; "bootstrap"; "notes".

    Raises:
        DataSetError: a run answers something else than labels; or the two are of other labels, other images or other
            truth.
        RealMNetError: see `read_run`.
    """
    first, second = (_run_of_labels(folder) for folder in (a, b))
    label_set = first.cases.label_set
    for what, said in (("codes", "it answers"), ("pathologic", "it calls pathologic")):
        asked, answered = (getattr(run.cases.label_set, what) for run in (first, second))
        if asked != answered:
            raise DataSetError(f"{b}: {said} {', '.join(answered) or 'none'}. Expected, as in {a}: {', '.join(asked)}")
    check_same_images(a, first.images, b, second.images)
    if not np.array_equal(first.cases.y_true, second.cases.y_true, equal_nan=True):
        raise DataSetError(f"{b}: the truth of the test images is not that of {a}")
    return _compared(a, b, [_judged_alike(run.cases) for run in (first, second)], label_set, replicates, seed)


def check_same_images(a: Path, images: Sequence[tuple[str, str]], b: Path, others: Sequence[tuple[str, str]]) -> None:
    """Raises DataSetError: what `b` is of, (name, patient) of each image, is not what `a` is of, in that order."""
    if list(images) == list(others):
        return
    only = sorted({name for name, _ in images} ^ {name for name, _ in others})
    found = f"{len(only)} are in one of them alone, such as {only[0]}" if only else "another order or patients"
    raise DataSetError(f"{b}: not the images of {a}: {found}")


def _run_of_labels(folder: Path) -> Run:
    run = read_run(folder)
    if not isinstance(run, Run) or (run.task is not None and len(run.task.trained) > 1):
        raise DataSetError(
            f"{folder}: only runs of one output, which is labels, are compared so; others by cross-validation"
        )
    return run


def _judged_alike(cases: Cases) -> Cases:
    """At 0.5, as tables are; a run has thresholds of its own."""
    label_set = cases.label_set
    return Cases.of_images(cases.y_true, cases.y_score, label_set, default_point(label_set), cases.patients)


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
