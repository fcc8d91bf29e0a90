"""Tables of scores, of any model: written, read, and scored against label lists. They need no Keras."""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from keras_realmnet.errors import DataSetError
from keras_realmnet.tasks.vocabulary import PSMM, LabelSet
from training.data.label_table import LabelTable, concatenate, problems_error, read_csv, read_label_table
from training.scoring.statistics.arrays import Array
from training.scoring.statistics.bootstrap import Bootstrap
from training.scoring.statistics.cases import Cases
from training.scoring.statistics.levels import eyes, score_level
from training.scoring.thresholds import default_point

__all__ = [
    "label_columns",
    "labelled_cases",
    "read_label_lists",
    "read_score_table",
    "score_table",
    "write_score_table",
    "write_table",
]


def write_table(
    path: Path, names: Sequence[str], patients: Sequence[str], columns: Mapping[str, Sequence[str]]
) -> None:
    """One row per image: its name ("filename"), its patient, and what stands in the columns, (n,) each."""
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["filename", "patient", *columns])
        writer.writerows(zip(names, patients, *columns.values(), strict=True))


def label_columns(y_true: Array, y_score: Array, label_set: LabelSet) -> dict[str, Sequence[str]]:
    """Truth ("" where unknown) and probability of each label, (n, classes) both, without loss."""
    known = [["" if np.isnan(value) else str(int(value)) for value in column] for column in np.transpose(y_true)]
    scores = [[str(value) for value in column] for column in np.transpose(y_score)]
    codes = label_set.codes
    return {
        **{f"true_{code}": column for code, column in zip(codes, known, strict=True)},
        **dict(zip(codes, scores, strict=True)),
    }


def write_score_table(
    path: Path,
    names: Sequence[str],
    patients: Sequence[str],
    y_true: Array,
    y_score: Array,
    label_set: LabelSet,
) -> None:
    """One row per image: name, patient, and the columns of `label_columns`."""
    write_table(path, names, patients, label_columns(y_true, y_score, label_set))


def read_score_table(path: str | Path, table: LabelTable) -> NDArray[np.float64]:
    """Scores of any model for the images of a label list: a csv with `filename` and one column per label.

    Further columns are not looked at, so that what `evaluate` writes can be read too.

    Returns:
        Of shape (n, classes), in the order of `table`.

    Raises:
        DataSetError: listing with file and line every missing or repeated column, score that is not a number from 0 to
            1, and image that is repeated, not in the label list or without scores.
    """
    path, codes = Path(path), table.label_set.codes
    header, rows = read_csv(path, ("filename", *codes), "a table of scores")
    problems: list[str] = []
    columns = [header.index(code) for code in codes]
    name_column = header.index("filename")
    place: dict[str, int] = {}
    for n, (name, origin) in enumerate(zip(table.names.tolist(), table.origins.tolist(), strict=True)):
        if name in place:
            problems.append(f"{origin}: {name} is listed twice; the first time in {table.origins[place[name]]}")
        place.setdefault(name, n)
    scores = np.full((len(table), len(codes)), np.nan)
    seen: dict[str, int] = {}
    for line, row in rows:
        name = row[name_column]
        if name in seen:
            problems.append(f"{path}:{line}: {name} is scored twice; the first time in line {seen[name]}")
            continue
        seen[name] = line
        if name not in place:
            problems.append(f"{path}:{line}: {name} is not in the label list")
            continue
        for k, column in enumerate(columns):
            try:
                value = float(row[column])
            except ValueError:
                value = np.nan
            if not 0 <= value <= 1:
                problems.append(
                    f"{path}:{line}: the score of {codes[k]} must be a number from 0 to 1. Found: {row[column]!r}"
                )
            scores[place[name], k] = value
    problems += [f"{table.origins[n]}: {name} has no scores in {path}" for name, n in place.items() if name not in seen]
    if problems:
        raise problems_error(problems)
    return scores


def read_label_lists(labels: Sequence[str | Path], label_set: LabelSet) -> tuple[LabelTable, NDArray[np.str_]]:
    """The label lists as one table, and each image's eye. Raises DataSetError: see `read_label_table` and `eyes`."""
    table = concatenate(read_label_table(path, label_set) for path in labels)
    if not len(table):
        raise DataSetError(f"{', '.join(map(str, labels))}: no images to score")
    column = next((values for name, values in table.extra.items() if name.lower() == "eye"), None)
    return table, eyes(table.names, column, table.origins)


def labelled_cases(table: LabelTable, scores: str | Path) -> Cases:
    """The images of a label list with their scores from a table, judged at 0.5. Raises as `read_score_table` does."""
    y_score = read_score_table(scores, table)
    return Cases.of_images(table.labels, y_score, table.label_set, default_point(table.label_set), table.patients)


def score_table(
    labels: Sequence[str | Path],
    scores: str | Path,
    level: str = "image",
    bootstrap: Bootstrap | None = None,
    label_set: LabelSet = PSMM,
) -> dict[str, Any]:
    """Scores of any model, from its table of scores, against label lists; JSON-safe.

    Returns:
        "labels", "scores_file", "label_set", "level", "operating_point" (0.5 for every pathologic label), "bootstrap",
        and what `score_level` returns.

    Raises:
        DataSetError: see `read_label_table`, `read_score_table` and `eyes`.
    """
    bootstrap = bootstrap or Bootstrap()
    table, eye = read_label_lists(labels, label_set)
    return {
        "labels": [str(path) for path in labels],
        "scores_file": str(scores),
        "label_set": label_set.name,
        "level": level,
        "operating_point": default_point(label_set).to_dict(),
        "bootstrap": bootstrap.describe(),
        **score_level(labelled_cases(table, scores), eye, level, bootstrap),
    }
