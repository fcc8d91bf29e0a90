"""From a network, a run or a table of scores to scores with intervals: of images, of eyes and of patients.

The scores themselves are in `scores.py`, the tests between two networks in `significance.py`.
"""

import csv
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from keras_realmnet.errors import DataSetError
from keras_realmnet.screening.decision import OperatingPoint
from keras_realmnet.screening.image_io import parse_file_name
from keras_realmnet.screening.labels import PSMM, LabelSet
from training.data.label_table import LabelTable, concatenate, problems_error, read_csv, read_label_table
from training.scoring.scores import (
    HEADLINE,
    LOSSES,
    PAPER_SIZE,
    Bootstrap,
    Cases,
    Interval,
    as_json,
    score_cases,
    thinned,
    undefined,
)
from training.scoring.significance import delong_test, paired_difference, t_tests

if TYPE_CHECKING:  # Keras, which scoring tables does without
    import keras

    from training.datasets.image_set import ImageSet
    from training.recipe import Recipe

__all__ = [
    "LEVELS",
    "choose_thresholds",
    "compare_tables",
    "evaluate",
    "evaluate_images",
    "eyes",
    "predict_images",
    "print_comparison",
    "print_level",
    "print_scores",
    "read_score_table",
    "score_level",
    "score_predictions",
    "score_table",
    "write_score_table",
]

Array = NDArray[Any]

LEVELS = ("image", "eye", "patient")
PER_LABEL = ("f1", "ap", "auroc")  # what the terminal shows of each label


# ---------------------------------------------------------------------------------------------- images, eyes, patients


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


# ----------------------------------------------------------------------------------------------------------- our models


def choose_thresholds(
    y_true: Array,
    y_score: Array,
    label_set: LabelSet,
    data: str,
    min_sensitivity: float = 0.95,
) -> OperatingPoint:
    """For every pathologic label, the largest threshold that finds at least `min_sensitivity` of its images.

    It lies halfway between the scores of the last image found and the first one not: an image exactly on a threshold
    would change sides with the last digit of another machine's arithmetic.

    Args:
        data: what the scores come from, for the operating point's explanation.

    Raises:
        DataSetError: a pathologic label without a positive image.
    """
    thresholds = {}
    for code in label_set.pathologic:
        k = label_set.codes.index(code)
        positive = np.sort(y_score[y_true[:, k] == 1, k])[::-1]
        if len(positive) == 0:
            raise DataSetError(f"{data}: no image with label {code}; its threshold cannot be chosen")
        last = positive[int(np.ceil(min_sensitivity * len(positive) - 1e-9)) - 1]
        below = y_score[y_score[:, k] < last, k]
        thresholds[code] = float((last + below.max(initial=0.0)) / 2)
    chosen = f"per label, the largest threshold with sensitivity of at least {min_sensitivity:.2f} on {data}"
    return OperatingPoint(thresholds=thresholds, chosen=chosen)


def predict_images(model: "keras.Model", recipe: "Recipe", images: "ImageSet", folder: Path, name: str) -> Array:
    """Probabilities of `images`, (n, classes), also written to `NAME_scores.csv` in `folder`."""
    from training.runs import predict

    predicted = predict(model, images, recipe.batch_size)
    table = folder / f"{name}_scores.csv"
    write_score_table(table, images.names, images.patients, images.labels, predicted, images.label_set)
    return predicted


def score_predictions(
    images: "ImageSet", predicted: Array, point: OperatingPoint | None = None, replicates: int = 1000
) -> dict[str, Any]:
    """Scores of predictions, (n, classes), at every level, with intervals by patient; JSON-safe.

    Returns:
        "label_set", "images", "patients", "operating_point", "bootstrap"; "image", "eye", "patient": as from
        `score_level`; "scores": of images, the main ones and each label's AUROC and average precision, which is what a
        bundle states.
    """
    bootstrap = Bootstrap("patient", replicates)
    cases = Cases.of_images(images.labels, predicted, images.label_set, point, images.patients)
    eye = eyes(images.names)
    levels = {level: score_level(cases, eye, level, bootstrap) for level in LEVELS}
    stated = (*HEADLINE, *(f"{metric}_{code}" for metric in ("auroc", "ap") for code in images.label_set.codes))
    scores = levels["image"]["scores"]
    return {
        "label_set": images.label_set.name,
        "images": len(images),
        "patients": len(set(images.patients)),
        "operating_point": point.to_dict() if point else None,
        "bootstrap": bootstrap.describe(),
        "scores": {name: scores[name] for name in stated if name in scores},
        **levels,
    }


def evaluate_images(
    model: "keras.Model",
    recipe: "Recipe",
    images: "ImageSet",
    folder: Path,
    name: str,
    point: OperatingPoint | None = None,
    replicates: int = 1000,
) -> dict[str, Any]:
    """Scores `model` on any set of images: writes `NAME_scores.csv` into `folder`, returns `score_predictions`."""
    return score_predictions(images, predict_images(model, recipe, images, folder, name), point, replicates)


def evaluate(
    run: Path, data: str | None = None, cache: Path = Path("data/cache"), replicates: int = 1000
) -> dict[str, Any]:
    """Scores a finished run on its test split, writing `scores.json` and one table of scores per split into its folder.

    Thresholds are chosen on the validation split. Where the data has only one held-out split (PALM) they are chosen
    on the images they are then measured on, which `scores.json` says. Without a validation split, or with one that
    lacks a pathologic label, there is no operating point.

    Args:
        run: the folder that `fit` wrote.
        data: another place of the same data set; `None` for the one the run was trained with.

    Returns:
        What was written to `scores.json`: "data", "image_size", "data_sha256", "thresholds_chosen_on_test" and what
        `score_predictions` returns of the test split.

    Raises:
        RealMNetError: `run` is not the folder of a finished run.
        DataSetError: its data has no test split.
    """
    from training.recipe import with_data
    from training.runs import load_run

    model, recipe = load_run(run)
    if data is not None:
        recipe = with_data(recipe, data)
    spec = recipe.spec()
    loaded = {split: recipe.data.load(split, spec, cache) for split in ("validation", "test")}
    splits = {split: images for split, images in loaded.items() if images is not None}
    if "test" not in splits:
        raise DataSetError(f"{run}: its {recipe.data.kind} data has no test split to score")
    same = "validation" in splits and splits["validation"].sha256 == splits["test"].sha256
    if same:
        splits.pop("validation")
    predicted = {split: predict_images(model, recipe, images, run, split) for split, images in splits.items()}

    choosing, point = "test" if same else "validation", None
    try:
        if choosing not in splits:
            raise DataSetError(f"{recipe.data.kind} data without a validation split")
        point = choose_thresholds(
            splits[choosing].labels,
            predicted[choosing],
            splits[choosing].label_set,
            f"{len(splits[choosing])} {'held-out' if same else 'validation'} images of {recipe.data.kind}",
        )
    except DataSetError as error:  # the other scores stand
        print(f"no operating point: {error}")
    result = {
        "data": recipe.data.kind,
        "image_size": recipe.image_size,
        "data_sha256": {split: images.sha256 for split, images in splits.items()},
        "thresholds_chosen_on_test": same,
        **score_predictions(splits["test"], predicted["test"], point, replicates),
    }
    _write_json(run / "scores.json", result)
    print_scores(result)
    return result


# -------------------------------------------------------------------------------------------------- tables of any model


def write_score_table(
    path: Path,
    names: Sequence[str],
    patients: Sequence[str],
    y_true: Array,
    y_score: Array,
    label_set: LabelSet,
) -> None:
    """One row per image: name, patient, truth ("" where unknown) and probability of each label, without loss."""
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["filename", "patient", *(f"true_{code}" for code in label_set.codes), *label_set.codes])
        for name, patient, truth, scores in zip(names, patients, y_true, y_score, strict=True):
            known = ["" if np.isnan(value) else int(value) for value in truth]
            writer.writerow([name, patient, *known, *map(str, scores)])


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


def _half(label_set: LabelSet) -> OperatingPoint:
    return OperatingPoint(
        dict.fromkeys(label_set.pathologic, 0.5), "0.5 for every pathologic label, not chosen on data"
    )


def _read_labels(labels: Sequence[str | Path], label_set: LabelSet) -> tuple[LabelTable, NDArray[np.str_]]:
    """The label lists as one table, and each image's eye."""
    table = concatenate(read_label_table(path, label_set) for path in labels)
    if not len(table):
        raise DataSetError(f"{', '.join(map(str, labels))}: no images to score")
    column = next((values for name, values in table.extra.items() if name.lower() == "eye"), None)
    return table, eyes(table.names, column, table.origins)


def _cases(table: LabelTable, scores: str | Path) -> Cases:
    y_score = read_score_table(scores, table)
    return Cases.of_images(table.labels, y_score, table.label_set, _half(table.label_set), table.patients)


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
    table, eye = _read_labels(labels, label_set)
    return {
        "labels": [str(path) for path in labels],
        "scores_file": str(scores),
        "label_set": label_set.name,
        "level": level,
        "operating_point": _half(label_set).to_dict(),
        "bootstrap": bootstrap.describe(),
        **score_level(_cases(table, scores), eye, level, bootstrap),
    }


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
        "labels", "a", "b", "images", "patients"; "differences": {name: fields of `Difference`} of the main scores and
        each label's F1, average precision and AUROC; "delong": {code: fields of `DeLong`}; "t_test": {name: p};
        "caveats" of each of the tests; "bootstrap"; "notes".

    Raises:
        DataSetError: see `read_label_table` and `read_score_table`.
    """
    table, _ = _read_labels(labels, label_set)
    cases_a, cases_b = _cases(table, a), _cases(table, b)
    shown = (*HEADLINE, *(f"{metric}_{code}" for metric in PER_LABEL for code in label_set.codes))
    differences = paired_difference(cases_a, cases_b, replicates, seed)
    published = t_tests(cases_a, cases_b, replicates, seed)
    y_true = cases_a.y_true
    return {
        "labels": [str(path) for path in labels],
        "a": str(a),
        "b": str(b),
        "label_set": label_set.name,
        "images": len(table),
        "patients": len(set(table.patients.tolist())),
        "bootstrap": Bootstrap("patient", replicates, seed).describe(),
        "differences": {name: vars(differences[name]) for name in shown if name in differences},
        "delong": {
            code: vars(delong_test(y_true[:, k], cases_a.y_score[:, k], cases_b.y_score[:, k]))
            for k, code in enumerate(label_set.codes)
        },
        "t_test": {name: published.get(name) for name in shown if name in differences},
        "caveats": CAVEATS,
        "notes": undefined(cases_a),
    }


# ------------------------------------------------------------------------------------------------------------- terminal


def print_level(title: str, level: Mapping[str, Any], bootstrap: Mapping[str, Any], label_set: LabelSet) -> None:
    """What `score_level` returned, as tables on the terminal: the main scores, then F1, AP and AUROC of each label."""
    from rich.console import Console
    from rich.table import Table

    console = Console()
    scores = {name: Interval(**fields) for name, fields in level["scores"].items()}
    if scores:
        paper = bootstrap["unit"] == "paper"
        main = Table(title=title, caption=_caption(bootstrap))
        for column in ("score", "value", "replicates", *(["±, points"] if paper else [])):
            main.add_column(column, justify="right" if column in ("replicates", "±, points") else "left")
        for name in (name for name in HEADLINE if name in scores):
            found = scores[name]
            # RealMNet's tables: standard deviation over √1000, in points.
            error = [f"{100 * found.sd / np.sqrt(PAPER_SIZE):.3f}" if found.sd is not None else ""] if paper else []
            main.add_row(_arrow(name), str(found), str(found.replicates), *error)
        console.print(main)
        labels = Table(title="per label")
        for column in ("label", "F1", "AP", "AUROC"):
            labels.add_column(column)
        for code in label_set.codes:
            labels.add_row(code, *(_short(scores[f"{metric}_{code}"]) for metric in PER_LABEL))
        console.print(labels)
    for note in level["notes"]:
        console.print(note)


def print_scores(result: Mapping[str, Any]) -> None:
    """What `evaluate` found, as tables on the terminal; of eyes and patients, one line each."""
    from rich.console import Console

    from keras_realmnet.screening.labels import LABEL_SETS

    console = Console()
    title = f"{result['data']}: {result['images']} test images of {result['patients']} patients"
    print_level(title, result["image"], result["bootstrap"], LABEL_SETS[result["label_set"]])
    for level in ("eye", "patient"):
        scores = {name: Interval(**fields) for name, fields in result[level]["scores"].items()}
        if scores:
            some = ", ".join(f"{name} {scores[name]}" for name in ("macro_f1", "macro_auroc", "pathologic_auroc"))
            console.print(f"{result[level]['cases']} {level}s: {some}")
    if result["operating_point"]:
        console.print(f"thresholds {result['operating_point']['thresholds']}: {result['operating_point']['chosen']}")
        if result["thresholds_chosen_on_test"]:
            console.print("sensitivity and specificity are optimistic: the thresholds were chosen on the same images")


def print_comparison(result: Mapping[str, Any]) -> None:
    """What `compare_tables` found, as tables on the terminal."""
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table

    console = Console()
    console.print(f"{result['images']} images of {result['patients']} patients\nA: {result['a']}\nB: {result['b']}")
    main = Table(
        box=SIMPLE_HEAD, pad_edge=False, caption="p: paired bootstrap; t-test: p as published; ↓: lower is better"
    )
    for column in ("score", "A", "B", "B − A (95 %)", "p", "t-test"):
        main.add_column(column)
    for name, found in result["differences"].items():
        p_values = (_p(found["p"]), _p(result["t_test"][name]))
        main.add_row(_arrow(name), _number(found["a"]), _number(found["b"]), _signed(found), *p_values)
    console.print(main)
    delong = Table(box=SIMPLE_HEAD, pad_edge=False, title="DeLong's test of AUROC, images as independent")
    for column in ("label", "A", "B", "B − A (95 %)", "p"):
        delong.add_column(column)
    for code, found in result["delong"].items():
        delong.add_row(code, _number(found["a"]), _number(found["b"]), _signed(found), _p(found["p"]))
    console.print(delong)
    for name, caveat in result["caveats"].items():
        console.print(f"{name}: {caveat}")
    for note in result["notes"]:
        console.print(note)


def _caption(bootstrap: Mapping[str, Any]) -> str:
    drawn = "patients resampled" if bootstrap["unit"] == "patient" else "resampled one by one"
    if bootstrap["unit"] == "paper":
        drawn = f"mean ± 1.96 SD, {PAPER_SIZE} resampled; ±: SD/√1000"
    return f"value (95 % interval: {drawn}); ↓: lower is better" if bootstrap["replicates"] else "↓: lower is better"


def _arrow(name: str) -> str:
    return f"{name} ↓" if name in LOSSES else name


def _short(found: Interval) -> str:
    interval = f" ({found.low:.3f}–{found.high:.3f})" if found.low is not None else ""
    return f"{_number(found.value)}{interval}"


def _signed(found: Mapping[str, Any]) -> str:
    if found["difference"] is None:
        return "not defined"
    interval = f" ({found['low']:+.3f}, {found['high']:+.3f})" if found["low"] is not None else ""
    return f"{found['difference']:+.3f}{interval}"


def _number(value: float | None) -> str:
    return "not defined" if value is None else f"{value:.3f}"


def _p(value: float | None) -> str:
    if value is None:
        return "not defined"
    return f"{value:.3f}" if value >= 1e-3 else "<.001"


def _write_json(path: Path, value: Any) -> None:
    temporary = path.with_suffix(".tmp")
    temporary.write_text(json.dumps(value, indent=1) + "\n")
    temporary.replace(path)
