"""Scores at the three levels: of images, of eyes and of patients."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from keras_realmnet.screening.image_io import parse_file_name
from training.data.label_table import problems_error
from training.scoring.statistics.arrays import Array
from training.scoring.statistics.bootstrap import Bootstrap
from training.scoring.statistics.cases import Cases
from training.scoring.statistics.scores import as_json, score_cases, thinned, undefined

__all__ = ["LEVELS", "eyes", "score_level"]

LEVELS = ("image", "eye", "patient")


def eyes(names: Sequence[str] | Array, column: Array | None = None, origins: Array | None = None) -> NDArray[np.str_]:
    """Of each image "OD" (right), "OS" (left) or "" where neither the column nor the file name says; (n,) str.

    Args:
        names: file names, `{ID}_{OD|OS}_{date}_{n}.jpg`.
        column: the label list's own `eye`, which goes before the name where it is not empty.
        origins: "file:line" of each image, for errors.

    Raises:
        DataSetError: the column holds something else than OD, OS or nothing.
    """
    parsed = [parse_file_name(str(name)) for name in names]
    found = [file.eye or "" if file else "" for file in parsed]
    if column is not None:
        given = [value.strip().upper() for value in column]
        wrong = [n for n, value in enumerate(given) if value not in ("", "OD", "OS")]
        if wrong:
            places = origins if origins is not None else names
            raise problems_error(
                [f"{places[n]}: eye must be OD, OS or empty. Found: {str(column[n])!r}" for n in wrong]
            )
        found = [value or name for value, name in zip(given, found, strict=True)]
    return np.array(found, np.str_)


def score_level(images: Cases, eye: Array, level: str, bootstrap: Bootstrap) -> dict[str, Any]:
    """Scores of images, eyes or patients.

    An eye is all images of it, over all visits; how its truth and scores follow from theirs says `Cases.grouped`.
    Images whose eye is unknown are left out of the eyes and counted.

    Args:
        eye: (n,) str, as from `eyes`.
        level: one of `LEVELS`.

    Returns:
        "cases" and "patients" (how many were scored), "scores" ({name: fields of `Interval`}) and "notes" (which labels
        have no score, what was left out).
    """
    if level not in LEVELS:
        raise ValueError(f"level must be one of {', '.join(LEVELS)}. Received: {level!r}")
    notes, cases = [], images
    if level == "eye":
        known = np.asarray(eye) != ""
        if not known.all():
            notes.append(f"{np.sum(~known)} of {len(images)} images do not say which eye they show and are left out")
        cases = images.take(known).grouped(np.char.add(np.char.add(images.patients, "\n"), eye)[known])
    elif level == "patient":
        cases = images.grouped(images.patients)
    if not len(cases):
        return {"cases": 0, "patients": 0, "scores": {}, "notes": notes}
    scores = score_cases(cases, bootstrap)
    return {
        "cases": len(cases),
        "patients": len(set(cases.patients.tolist())),
        "scores": as_json(scores),
        "notes": [*notes, *undefined(cases, level), *thinned(scores, bootstrap.replicates, level)],
    }
