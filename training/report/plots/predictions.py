"""Figures of predictions against the truth: ROC and precision-recall curves, reliability, confusion."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray
from sklearn.metrics import precision_recall_curve, roc_curve

from keras_realmnet.tasks.vocabulary import LabelSet
from training.report.plots.style import FAINT, INK, WIDTH, Look, laid_out, legend
from training.scoring.statistics.bootstrap import Interval

__all__ = [
    "Bins",
    "Panels",
    "confusion",
    "distance_curves",
    "pixel_curves",
    "precision_recall_curves",
    "reliability",
    "roc_curves",
]

Array = NDArray[Any]
Panels = Mapping[str, Mapping[str, tuple[Array, Array, Interval]]]  # by title and run: truth, score, area


@laid_out
def roc_curves(panels: Panels, looks: Mapping[str, Look]) -> Figure:
    """ROC curves: sensitivity against 1 − specificity, one panel per class.

    Args:
        panels: per title and run, `y_true` of shape (n,), 1, 0 or NaN (left out), `y_score` of shape (n,), and the
            AUROC, which is printed. A class that lacks positives or negatives has no curve.
    """
    return _curves(panels, looks, roc=True)


@laid_out
def precision_recall_curves(panels: Panels, looks: Mapping[str, Look]) -> Figure:
    """Precision against recall, one panel per class, with the prevalence as a dashed line; arguments as `roc_curves`,
    with the average precision to print."""
    return _curves(panels, looks, roc=False)


def _curves(panels: Panels, looks: Mapping[str, Look], roc: bool) -> Figure:
    figure, cells = _class_panels(len(panels), lines=len(looks))
    axis = None
    for k, (cell, (title, runs)) in enumerate(zip(cells, panels.items(), strict=True)):
        axis = figure.add_subplot(cell)
        lines = []
        for name, (y_true, y_score, area) in runs.items():
            look, known = looks[name], ~np.isnan(y_true)
            x, y = np.empty(0), np.empty(0)
            if {0, 1} <= set(y_true[known].tolist()):
                if roc:
                    x, y, _ = roc_curve(y_true[known], y_score[known])
                    axis.plot((0, 1), (0, 1), color=FAINT, linestyle="--", linewidth=0.8, zorder=1)
                else:
                    y, x, _ = precision_recall_curve(y_true[known], y_score[known], drop_intermediate=True)
                    axis.axhline(y_true[known].mean(), color=FAINT, linestyle="--", linewidth=0.8, zorder=1)
            style: dict[str, Any] = {"color": look.colour, "linestyle": look.dash, "label": name}
            axis.plot(x, y, drawstyle="default" if roc else "steps-post", **style)
            lines.append((_area_text(area), look.colour))
        _panel_heading(axis, title, lines)
        x_title, y_title = ("1 − specificity", "sensitivity") if roc else ("recall", "precision")
        _curve_axis(axis, x_title, y_title, first=k % 4 == 0, last=k + 4 >= len(cells))
    if axis is not None:
        legend(figure, axis, looks)
    return figure


@laid_out
def pixel_curves(
    panels: Mapping[str, Mapping[str, tuple[Array, Array, float, Interval]]], looks: Mapping[str, Look]
) -> Figure:
    """Precision against recall, one panel per label, with the share of positives as a dashed line.

    Args:
        panels: per title and run, recall and precision, (points,) each, the share, and the area, which is printed.
    """
    figure, cells = _class_panels(len(panels), lines=len(looks))
    axis = None
    for k, (cell, (title, runs)) in enumerate(zip(cells, panels.items(), strict=True)):
        axis = figure.add_subplot(cell)
        lines = []
        for name, (recall, precision, share, area) in runs.items():
            look = looks[name]
            axis.axhline(share, color=FAINT, linestyle="--", linewidth=0.8, zorder=1)
            axis.plot(recall, precision, color=look.colour, linestyle=look.dash, label=name)
            lines.append((_area_text(area), look.colour))
        _panel_heading(axis, title, lines)
        _curve_axis(axis, "recall", "precision", first=k % 4 == 0, last=k + 4 >= len(cells))
    if axis is not None:
        legend(figure, axis, looks)
    return figure


@laid_out
def distance_curves(panels: Mapping[str, Mapping[str, Array]], looks: Mapping[str, Look]) -> Figure:
    """The share of the images within each distance, one panel per point.

    Args:
        panels: per title and run, the distances from the least to the greatest, (images,).
    """
    figure, cells = _class_panels(len(panels), lines=len(looks))
    longest = max((float(np.quantile(d, 0.95)) for runs in panels.values() for d in runs.values() if len(d)), default=1)
    axis = None
    for k, (cell, (title, runs)) in enumerate(zip(cells, panels.items(), strict=True)):
        axis = figure.add_subplot(cell)
        lines = []
        for name, distances in runs.items():
            look, count = looks[name], len(distances)
            share = np.arange(count + 1) / max(1, count)
            at = np.concatenate([[0.0], distances])
            axis.plot(at, share, drawstyle="steps-post", color=look.colour, linestyle=look.dash, label=name)
            lines.append((f"median {np.median(distances):.4f}" if count else "not known", look.colour))
        _panel_heading(axis, title, lines)
        axis.set_xlim(0, 1.2 * longest)
        axis.set_ylim(-0.02, 1.02)
        axis.grid()
        if k % 4 == 0:
            axis.set_ylabel("share of the images")
        if k + 4 >= len(cells):
            axis.set_xlabel("distance")
    if axis is not None:
        legend(figure, axis, looks)
    return figure


def _area_text(interval: Interval) -> str:
    if interval.value is None:
        return "not defined"
    text = f"{interval.value:.3f}"
    return text if interval.low is None else f"{text} ({interval.low:.3f}–{interval.high:.3f})"


@dataclass(frozen=True)
class Bins:
    """Of one class and run: images grouped by predicted probability, with what was then seen.

    `predicted`, `observed`: float (bins,), mean probability and share of positives, NaN in an empty bin. `counts`:
    int (bins,). `summary`: the line printed above the panel.
    """

    predicted: Array
    observed: Array
    counts: Array
    summary: str


@laid_out
def reliability(panels: Mapping[str, Mapping[str, Bins]], looks: Mapping[str, Look]) -> Figure:
    """Observed share of positives against predicted probability, and below it the images per bin (logarithmic).

    Args:
        panels: per class (title) and run, the bins.
    """
    figure, cells = _class_panels(len(panels), lines=len(looks), taller=0.55)
    upper = None
    for k, (cell, (title, runs)) in enumerate(zip(cells, panels.items(), strict=True)):
        upper = figure.add_subplot(cell)
        lower = upper.inset_axes((0, -0.45, 1, 0.33))
        upper.plot((0, 1), (0, 1), color=FAINT, linestyle="--", linewidth=0.8)
        for name, bins in runs.items():
            look, there = looks[name], bins.counts > 0
            style: dict[str, Any] = {"color": look.colour, "linestyle": look.dash}
            upper.plot(bins.predicted[there], bins.observed[there], marker=look.marker, label=name, **style)
            edges = np.linspace(0, 1, len(bins.counts) + 1)
            if len(runs) == 1:
                lower.stairs(bins.counts, edges, fill=True, color=look.colour)
            else:
                lower.stairs(np.maximum(bins.counts, 0.5), edges, **style)
        _panel_heading(upper, title, [(bins.summary, looks[name].colour) for name, bins in runs.items()])
        _curve_axis(upper, "", "observed share", first=k % 4 == 0, last=False)
        upper.tick_params(labelbottom=False)
        lower.set_yscale("log")
        lower.set_ylim(0.5, None)
        lower.set_xlim(-0.02, 1.02)
        lower.set_xticks((0, 0.5, 1), ("0", ".5", "1"))
        if k % 4 == 0:
            lower.set_ylabel("images")
        if k + 4 >= len(cells):
            lower.set_xlabel("predicted probability")
    if upper is not None:
        legend(figure, upper, looks)
    return figure


def _class_panels(count: int, lines: int, taller: float = 0.0) -> tuple[Figure, list[Any]]:
    """A figure and the grid cells of `count` panels, four beside each other, with `lines` lines of text above each."""
    columns = min(4, count)
    rows = -(-count // columns)
    figure = Figure((WIDTH, 0.35 + rows * (2.05 + taller + 0.13 * lines)), layout="constrained")
    grid = figure.add_gridspec(rows, columns)
    return figure, [grid[k // columns, k % columns] for k in range(count)]


def _panel_heading(axis: Axes, title: str, lines: Sequence[tuple[str, str]]) -> None:
    """The title and, under it, one line of text per run in its colour: beside the curves there is no sure place."""
    for k, (text, colour) in enumerate(reversed(lines)):
        axis.annotate(
            text, (0, 1), (0, 4 + 9 * k), xycoords="axes fraction", textcoords="offset points", color=colour, fontsize=7
        )
    axis.set_title(title, pad=6 + 9 * len(lines))


def _curve_axis(axis: Axes, x: str, y: str, first: bool, last: bool) -> None:
    axis.set_xlim(-0.02, 1.02)
    axis.set_ylim(-0.02, 1.02)
    axis.set_aspect("equal")
    axis.set_xticks((0, 0.5, 1), ("0", ".5", "1"))
    axis.set_yticks((0, 0.5, 1), ("0", ".5", "1"))
    axis.grid()
    if first:
        axis.set_ylabel(y)
    if last:
        axis.set_xlabel(x)


@laid_out
def confusion(runs: Mapping[str, Array], codes: Sequence[str], label_set: LabelSet) -> Figure:
    """True against predicted grade: counts, and in colour and brackets the share of the row.

    Args:
        runs: per run, int (grades, grades), rows true, columns predicted.
        codes: of the grades.
    """
    columns = min(2, len(runs))
    rows = -(-len(runs) // columns)
    figure = Figure((WIDTH if columns > 1 else 4.6, 0.2 + rows * (0.9 + 0.47 * len(codes))), layout="constrained")
    axes = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    for axis, (name, counts) in zip(axes.flat, runs.items(), strict=False):
        totals = counts.sum(axis=1, keepdims=True)
        shares = 100 * np.divide(counts, totals, out=np.zeros(counts.shape), where=totals > 0)
        axis.imshow(shares, cmap="Blues", vmin=0, vmax=100, aspect="auto")
        for i, j in np.ndindex(*counts.shape):
            text = f"{counts[i, j]:,}\n({shares[i, j]:.0f} %)" if totals[i, 0] else "–"
            colour = "white" if shares[i, j] > 55 else INK
            axis.text(j, i, text, ha="center", va="center", color=colour, fontsize=7.5, linespacing=1.15)
        axis.set_title(name)
        axis.set_xticks(range(len(codes)), codes)
        axis.set_xlabel("predicted")
        axis.tick_params(labelbottom=True)
        axis.set_yticks(range(len(codes)), [f"{code} {label_set[code].name}" for code in codes])
        axis.tick_params(length=0)
        axis.spines[:].set_visible(False)
    for axis in axes.flat[len(runs) :]:
        axis.remove()
    for axis in axes[:, 0]:
        axis.set_ylabel("true")
    return figure
