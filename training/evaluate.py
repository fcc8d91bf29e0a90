"""Scores of a network on held-out images, with patient-level bootstrap intervals, and the thresholds it screens with.

Labels may be unknown (NaN): each score uses the images whose truth it needs. A score whose truth has only one class
does not exist and is None, never 0.
"""

import csv
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from keras_realmnet.errors import DataSetError
from keras_realmnet.screening.decision import OperatingPoint
from keras_realmnet.screening.labels import LabelSet
from keras_realmnet.screening.preprocessing import PreprocessSpec

__all__ = [
    "Interval",
    "auroc",
    "average_precision",
    "choose_thresholds",
    "evaluate",
    "pathologic",
    "print_scores",
    "score",
    "weighted_scores",
    "write_score_table",
]

Array = NDArray[Any]


@dataclass(frozen=True)
class Interval:
    """A score and its 95 % percentile bootstrap interval; `replicates` is how many resamples had a score at all."""

    value: float | None
    low: float | None
    high: float | None
    replicates: int

    def __str__(self) -> str:
        if self.value is None:
            return "not defined"
        return f"{self.value:.4f}" + (f" ({self.low:.4f} to {self.high:.4f})" if self.low is not None else "")


def pathologic(values: Array, label_set: LabelSet) -> Array:
    """Truth or score of "any pathologic label", of shape (n,): the largest over the pathologic columns.

    In a truth, one known positive makes it 1; otherwise an unknown column (NaN) leaves it unknown.
    """
    columns = values[:, [label_set.codes.index(code) for code in label_set.pathologic]]
    largest = np.max(np.where(np.isnan(columns), -np.inf, columns), axis=1)
    return np.where(np.isnan(columns).any(axis=1) & (largest < 1), np.nan, largest)


def auroc(y_true: Array, y_score: Array, weights: Array | None = None) -> Array:
    """Area under the ROC curve, ties counting half, for many weightings of the same images at once.

    Args:
        y_true: of shape (n,); 1, 0 or NaN (left out).
        y_score: of shape (n,).
        weights: of shape (replicates, n), how often each image counts; `None` for once each.

    Returns:
        Of shape (replicates,); NaN where only one class is present. Equal to scikit-learn's `roc_auc_score` with
        `sample_weight`, without its sort for every replicate.
    """
    positives, negatives = _curve(y_true, y_score, weights)
    pairs = np.sum(np.diff(negatives) * (positives[:, 1:] + positives[:, :-1]) / 2, axis=1)
    return _ratio(pairs, positives[:, -1] * negatives[:, -1])


def average_precision(y_true: Array, y_score: Array, weights: Array | None = None) -> Array:
    """Σ (R_k − R_(k−1))·P_k over the thresholds; arguments and result as in `auroc`.

    Equal to scikit-learn's `average_precision_score` with `sample_weight`.
    """
    positives, negatives = _curve(y_true, y_score, weights)
    found = positives[:, 1:] + negatives[:, 1:]
    precision = np.divide(positives[:, 1:], found, out=np.zeros_like(found), where=found > 0)
    both = (positives[:, -1] > 0) & (negatives[:, -1] > 0)
    return _ratio(np.sum(np.diff(positives) * precision, axis=1), np.where(both, positives[:, -1], 0))


def _curve(y_true: Array, y_score: Array, weights: Array | None) -> tuple[Array, Array]:
    """Positives and negatives at or above each threshold, highest first, of shape (replicates, 1 + thresholds)."""
    known = ~np.isnan(y_true)
    y_true, y_score = y_true[known].astype(np.float64), y_score[known]
    weights = np.ones((1, len(y_true))) if weights is None else weights[:, known].astype(np.float64)
    order = np.argsort(-y_score, kind="stable")
    thresholds = np.flatnonzero(np.append(np.diff(y_score[order]) != 0, True)[: len(order)])  # tied scores: one step

    def counts(values: Array) -> Array:
        return np.pad(np.cumsum((weights * values)[:, order], axis=1)[:, thresholds], ((0, 0), (1, 0)))

    return counts(y_true), counts(1 - y_true)


def _ratio(numerator: Array, denominator: Array) -> Array:
    return np.divide(numerator, denominator, out=np.full(len(numerator), np.nan), where=denominator > 0)


def weighted_scores(
    y_true: Array, y_score: Array, label_set: LabelSet, point: OperatingPoint | None, weights: Array
) -> dict[str, Array]:
    """The scores of `score` for every row of `weights` (replicates, n), each of shape (replicates,), NaN if undefined.

    Means over labels take the labels of which these images have both classes; a replicate that lost one is NaN.
    """
    scores: dict[str, Array] = {}
    for metric, mean, function in (("auroc", "macro_auroc", auroc), ("ap", "map", average_precision)):
        per_label = {code: function(y_true[:, k], y_score[:, k], weights) for k, code in enumerate(label_set.codes)}
        measured = [k for k in range(len(label_set)) if {0, 1} <= set(np.unique(y_true[:, k]))]
        averaged = [per_label[label_set.codes[k]] for k in measured]
        scores[mean] = np.mean(averaged, axis=0) if averaged else np.full(len(weights), np.nan)
        scores |= {f"{metric}_{code}": values for code, values in per_label.items()}
    truth = pathologic(y_true, label_set)
    scores["pathologic_auroc"] = auroc(truth, pathologic(y_score, label_set), weights)
    if point is not None:
        columns = [label_set.codes.index(code) for code in label_set.pathologic]
        refer = np.any(y_score[:, columns] >= [point.thresholds[code] for code in label_set.pathologic], axis=1)
        for name, members, right in (("sensitivity", truth == 1, refer), ("specificity", truth == 0, ~refer)):
            scores[name] = _ratio(weights @ (members & right), weights @ members.astype(np.float64))
    return scores


def score(
    y_true: Array,
    y_score: Array,
    label_set: LabelSet,
    point: OperatingPoint | None = None,
    patients: tuple[str, ...] | None = None,
    replicates: int = 1000,
    seed: int = 0,
) -> dict[str, Interval]:
    """AUROC and average precision per label and on average, pathologic AUROC, and the screening rule's rates.

    Args:
        y_true: of shape (n, classes); 1, 0 or NaN where not known.
        y_score: of shape (n, classes).
        point: for the sensitivity and specificity of its rule for "pathologic"; left out when `None`.
        patients: of each image. Intervals are 95 % percentiles under resampling of whole patients with replacement:
            images of one patient are alike, and resampling images would make the intervals too narrow. `None`: no
            intervals.

    Returns:
        "macro_auroc", "map", "pathologic_auroc", "sensitivity", "specificity", "auroc_<code>", "ap_<code>". A
        replicate in which a score is undefined (only one class drawn) is left out of that score's interval and shows
        in `Interval.replicates`.
    """
    drawn: dict[str, list[Array]] = {}
    if patients is not None:
        members = np.unique(np.asarray(patients), return_inverse=True)[1]
        count = int(members.max()) + 1
        rng = np.random.default_rng(seed)
        for start in range(0, replicates, 100):  # in parts: the memory is theirs
            times = rng.multinomial(count, np.full(count, 1 / count), size=min(100, replicates - start))
            for name, part in weighted_scores(y_true, y_score, label_set, point, times[:, members]).items():
                drawn.setdefault(name, []).append(part)
    intervals = {}
    for name, value in weighted_scores(y_true, y_score, label_set, point, np.ones((1, len(y_true)))).items():
        resampled = np.concatenate(drawn.get(name, [np.empty(0)]))
        resampled = resampled[~np.isnan(resampled)]
        low, high = np.percentile(resampled, [2.5, 97.5]).tolist() if len(resampled) else (None, None)
        intervals[name] = Interval(None if np.isnan(value[0]) else float(value[0]), low, high, len(resampled))
    return intervals


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


def evaluate(
    run: Path, data: str | None = None, cache: Path = Path("data/cache"), replicates: int = 1000
) -> dict[str, Any]:
    """Scores a finished run on its test split, writing `scores.json` and one table of scores per split into its folder.

    Thresholds are chosen on the validation split. Where the data has only one held-out split (PALM) they are chosen
    on the images they are then measured on, which `scores.json` says.

    Args:
        run: the folder that `fit` wrote.
        data: another place of the same data set; `None` for the one the run was trained with.

    Returns:
        What was written to `scores.json`.
    """
    from training.fit import load_run, predict, with_data  # Keras, which the scores above do without

    model, recipe = load_run(run)
    if data is not None:
        recipe = with_data(recipe, data)
    spec = PreprocessSpec(size=recipe.image_size)
    label_set = recipe.data.label_set
    splits = {split: recipe.data.load(split, spec, cache) for split in ("validation", "test")}
    same = splits["validation"].sha256 == splits["test"].sha256
    if same:
        splits.pop("validation")
    predicted = {split: predict(model, images, recipe.batch_size) for split, images in splits.items()}
    for split, images in splits.items():
        table = run / f"{split}_scores.csv"
        write_score_table(table, images.names, images.patients, images.labels, predicted[split], label_set)

    choosing = "test" if same else "validation"
    try:
        point = choose_thresholds(
            splits[choosing].labels,
            predicted[choosing],
            label_set,
            f"{len(splits[choosing])} {'held-out' if same else 'validation'} images of {recipe.data.kind}",
        )
    except DataSetError as error:  # a tiny validation split; the other scores stand
        print(f"no operating point: {error}")
        point = None
    test = splits["test"]
    intervals = score(test.labels, predicted["test"], label_set, point, test.patients, replicates)
    result = {
        "data": recipe.data.kind,
        "label_set": label_set.name,
        "images": len(test),
        "patients": len(set(test.patients)),
        "image_size": recipe.image_size,
        "data_sha256": {split: images.sha256 for split, images in splits.items()},
        "operating_point": point.to_dict() if point else None,
        "thresholds_chosen_on_test": same,
        "bootstrap": {"replicates": replicates, "unit": "patient", "interval": "95 % percentile"},
        "scores": {name: vars(interval) for name, interval in intervals.items()},
    }
    _write_json(run / "scores.json", result)
    print_scores(result)
    return result


def write_score_table(path: Path, names, patients, y_true, y_score, label_set: LabelSet) -> None:
    """One row per image: name, patient, truth ("" where unknown) and probability of each label."""
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["filename", "patient", *(f"true_{code}" for code in label_set.codes), *label_set.codes])
        for name, patient, truth, scores in zip(names, patients, y_true, y_score, strict=True):
            known = ["" if np.isnan(value) else int(value) for value in truth]
            writer.writerow([name, patient, *known, *(f"{value:.6f}" for value in scores)])


def print_scores(result: Mapping[str, Any]) -> None:
    """The scores as a table on the terminal."""
    from rich.console import Console
    from rich.table import Table

    table = Table(
        title=f"{result['data']}: {result['images']} test images of {result['patients']} patients",
        caption="value (95 % interval, patients resampled)",
    )
    table.add_column("score")
    table.add_column("value")
    table.add_column("replicates", justify="right")
    overall = ("macro_auroc", "map", "pathologic_auroc", "sensitivity", "specificity")
    for name in sorted(result["scores"], key=lambda name: overall.index(name) if name in overall else len(overall)):
        interval = Interval(**result["scores"][name])
        table.add_row(name, str(interval), str(interval.replicates))
    console = Console()
    console.print(table)
    if result["operating_point"]:
        console.print(f"thresholds {result['operating_point']['thresholds']}: {result['operating_point']['chosen']}")
        if result["thresholds_chosen_on_test"]:
            console.print("sensitivity and specificity are optimistic: the thresholds were chosen on the same images")


def _write_json(path: Path, value: Any) -> None:
    temporary = path.with_suffix(".tmp")
    temporary.write_text(json.dumps(value, indent=1) + "\n")
    temporary.replace(path)
