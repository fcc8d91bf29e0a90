"""The figures of the page about the results, and about the training that led to them."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np

from keras_realmnet.tasks.vocabulary import LabelSet
from training.report.diagnostics import BINS, calibration, confusion_counts
from training.report.gallery import Gallery, Item
from training.report.plots.learning import CURVES, learning_curves
from training.report.plots.predictions import (
    Bins,
    Panels,
    confusion,
    precision_recall_curves,
    reliability,
    roc_curves,
)
from training.report.plots.scores import class_bars, metric_bars, radar
from training.report.plots.style import Look
from training.report.score_names import CLASS_SCORES, NAMES
from training.report.tables import Scores
from training.scoring.evaluated_runs import EvaluatedRun, Run
from training.scoring.statistics.bootstrap import Interval
from training.scoring.statistics.scores import LOSSES

__all__ = ["learning_figure", "result_figures"]

ByClass = Mapping[str, Mapping[str, Sequence[Interval]]]  # by run and score, in the order of the labels

SIX = ("macro_f1", "map", "macro_auroc", "hamming_loss", "coverage_error", "ranking_loss")  # RealMNet, Table 1
SPOKES = 3  # that enclose an area
CLASS_HEADER = ["run", "score", "label", "value", "low", "high"]
AREA_HEADER = ["run", "panel", "area", "low", "high"]


def result_figures(gallery: Gallery, runs: Sequence[Run], scores: Scores, looks: Mapping[str, Look]) -> list[Item]:
    """Overall scores, those of each label, curves, reliability and confusion, the runs side by side."""
    label_set = runs[0].cases.label_set
    by_class = {
        run.name: {title: [scores[run.name][f"{n}_{c}"] for c in label_set.codes] for n, title in CLASS_SCORES.items()}
        for run in runs
    }
    return [
        _overall_figure(gallery, runs, scores, looks),
        _class_figure(gallery, by_class, label_set, looks),
        _radar_figure(gallery, by_class, label_set, looks),
        _roc_figure(gallery, runs, scores, looks),
        _precision_recall_figure(gallery, runs, scores, looks),
        _reliability_figure(gallery, runs, scores, looks),
        _confusion_figure(gallery, runs),
    ]


def _overall_figure(gallery: Gallery, runs: Sequence[Run], scores: Scores, looks: Mapping[str, Look]) -> Item:
    named = {run.name: {NAMES[name]: scores[run.name][name] for name in SIX} for run in runs}
    groups = [
        ("higher is better", [NAMES[name] for name in SIX if name not in LOSSES]),
        ("lower is better", [NAMES[name] for name in SIX if name in LOSSES and name != "coverage_error"]),
        ("lower is better", [NAMES["coverage_error"]]),
    ]
    return gallery.add(
        "scores",
        "Overall scores",
        "Bars are the scores on all test images, whiskers their 95 % intervals."
        + (" Where intervals overlap, runs may still differ: see the table of differences." if runs[1:] else ""),
        metric_bars(named, groups, looks),
        ["run", "score", "value", "low", "high"],
        [[run, name, i.value, i.low, i.high] for run, found in named.items() for name, i in found.items()],
    )


def _class_rows(by_class: ByClass, codes: Sequence[str], shown: Collection[str]) -> list[list[Any]]:
    return [
        [run, name, code, i.value, i.low, i.high]
        for run, found in by_class.items()
        for name, intervals in found.items()
        if name in shown
        for code, i in zip(codes, intervals, strict=True)
    ]


def _class_figure(gallery: Gallery, by_class: ByClass, label_set: LabelSet, looks: Mapping[str, Look]) -> Item:
    return gallery.add(
        "class_scores",
        "Scores of each label",
        "As above, label by label. “n/a”: the score does not exist, because the test images have none with or "
        "none without the label. Rare labels have wide intervals.",
        class_bars(by_class, label_set, looks),
        CLASS_HEADER,
        _class_rows(by_class, label_set.codes, CLASS_SCORES.values()),
    )


def _radar_figure(gallery: Gallery, by_class: ByClass, label_set: LabelSet, looks: Mapping[str, Look]) -> Item:
    title = "Profile over the labels"
    if len(label_set) < SPOKES:
        return Item(title, f"Not shown: it takes {SPOKES} labels or more.")
    around = {
        title: {
            run: np.array([np.nan if i.value is None else i.value for i in found[title]])
            for run, found in by_class.items()
        }
        for title in ("F1", "AUROC")
    }
    return gallery.add(
        "radar",
        title,
        "The farther out, the better. AUROC starts in the centre at .5, that of guessing; what is below lies there "
        "too. The enclosed area depends on the order of the labels: compare spoke by spoke.",
        radar(around, label_set, looks),
        CLASS_HEADER,
        _class_rows(by_class, label_set.codes, around),
    )


def _label_panels(runs: Sequence[Run], scores: Scores, area: str) -> Panels:
    """Per label and run the truth, the probabilities and the interval of the area under the curve."""
    return {
        f"{label.code} {label.name}": {
            run.name: (run.cases.y_true[:, k], run.cases.y_score[:, k], scores[run.name][f"{area}_{label.code}"])
            for run in runs
        }
        for k, label in enumerate(runs[0].cases.label_set.labels)
    }


def _area_rows(panels: Panels) -> list[list[Any]]:
    return [
        [run, panel, area.value, area.low, area.high]
        for panel, found in panels.items()
        for run, (_, _, area) in found.items()
    ]


def _roc_figure(gallery: Gallery, runs: Sequence[Run], scores: Scores, looks: Mapping[str, Look]) -> Item:
    pathologic = {
        run.name: (run.cases.pathologic_true, run.cases.pathologic_score, scores[run.name]["pathologic_auroc"])
        for run in runs
    }
    panels = {**_label_panels(runs, scores, "auroc"), "Pathologic": pathologic}
    return gallery.add(
        "roc",
        "ROC curves",
        "Share of the images with the label that are found against the share of the others that are wrongly "
        "reported, at every threshold; numbers are the AUROC with its 95 % interval. “Pathologic” takes the "
        f"highest score of {', '.join(runs[0].cases.label_set.pathologic)}.",
        roc_curves(panels, looks),
        AREA_HEADER,
        _area_rows(panels),
    )


def _precision_recall_figure(gallery: Gallery, runs: Sequence[Run], scores: Scores, looks: Mapping[str, Look]) -> Item:
    panels = _label_panels(runs, scores, "ap")
    return gallery.add(
        "precision_recall",
        "Precision–recall curves",
        "Share of reported images that have the label against the share of images with the label that are "
        "reported; numbers are the average precision with its 95 % interval. The dashed line is the label's share "
        "of the test images, where guessing lies.",
        precision_recall_curves(panels, looks),
        AREA_HEADER,
        _area_rows(panels),
    )


def _reliability_figure(gallery: Gallery, runs: Sequence[Run], scores: Scores, looks: Mapping[str, Look]) -> Item:
    panels: dict[str, dict[str, Bins]] = {}
    rows = []
    for k, label in enumerate(runs[0].cases.label_set.labels):
        found = panels.setdefault(f"{label.code} {label.name}", {})
        for run in runs:
            bins, error = calibration(run.cases.y_true[:, k], run.cases.y_score[:, k])
            brier = scores[run.name][f"brier_{label.code}"].value
            summary = "no known truth" if error is None or brier is None else f"ECE {error:.3f}, Brier {brier:.3f}"
            found[run.name] = Bins(bins.predicted, bins.observed, bins.counts, summary)
            values = zip(bins.predicted.tolist(), bins.observed.tolist(), bins.counts.tolist(), strict=True)
            rows += [[run.name, label.code, b / BINS, (b + 1) / BINS, *value] for b, value in enumerate(values)]
    return gallery.add(
        "reliability",
        "Reliability diagrams",
        "Of the images given a probability, the share that has the label: on the dashed line probabilities can be "
        "taken at their word, below it they are too high. Beneath: images in each bin, logarithmic; points of few "
        "images scatter. ECE is the mean distance from the line, weighted by images, Brier the mean squared error.",
        reliability(panels, looks),
        ["run", "label", "from", "to", "mean probability", "share of positives", "images"],
        rows,
    )


def _confusion_figure(gallery: Gallery, runs: Sequence[Run]) -> Item:
    label_set = runs[0].cases.label_set
    title = "Confusion of the grades"
    if not label_set.exclusive:
        return Item(title, f"Not shown: the labels of {label_set.name} do not exclude each other.")
    codes = max(label_set.exclusive, key=len)
    columns = [label_set.codes.index(code) for code in codes]
    counts = {run.name: confusion_counts(run.cases.y_true, run.cases.y_score, columns) for run in runs}
    if not any(found.any() for found in counts.values()):
        return Item(title, f"Not shown: no image is known to have one of {', '.join(codes)}.")
    left_out = max(len(run.names) - int(counts[run.name].sum()) for run in runs)
    caption = (
        f"Images by true grade (row) and predicted one (column), the one of {codes[0]}–{codes[-1]} with the highest "
        "score; in brackets and as colour the share of the row. Right is the diagonal."
    )
    if left_out:
        caption += f" {left_out:,} images whose grade is not known are left out."
    rows = [[run, code, *row] for run, found in counts.items() for code, row in zip(codes, found.tolist(), strict=True)]
    return gallery.add("confusion", title, caption, confusion(counts, codes, label_set), ["run", "true", *codes], rows)


def learning_figure(
    gallery: Gallery, runs: Sequence[EvaluatedRun], looks: Mapping[str, Look], curves: Mapping[str, str] = CURVES
) -> Item:
    """`curves`: {column of history.csv: title} of what is shown."""
    histories = {run.name: run.history for run in runs if run.history is not None and "epoch" in run.history}
    without = [run.name for run in runs if run.name not in histories]
    missing = f"No history.csv in {', '.join(without)}." if without else ""
    if not histories:
        return Item("Learning curves", f"Not shown. {missing}")
    shown = [name for name in curves if any(name in history for history in histories.values())]
    if not shown:
        return Item("Learning curves", "Not shown: the histories hold none of " + ", ".join(curves) + ".")
    rows = [
        [run, *(history.get(name, np.full(len(history["epoch"]), np.nan))[k] for name in ("epoch", *shown))]
        for run, history in histories.items()
        for k in range(len(history["epoch"]))
    ]
    return gallery.add(
        "learning_curves",
        "Learning curves",
        "By epoch. A dotted line marks a change of the input's size, after which loss and scores may jump. Losses of "
        f"different loss functions cannot be compared. {missing}".strip(),
        learning_curves(histories, looks, curves),
        ["run", "epoch", *shown],
        rows,
    )
