"""Figures of scores with their intervals: bars, and a radar of the classes."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from keras_realmnet.tasks.vocabulary import LabelSet
from training.report.plots.style import FAINT, INK, SOFT, WIDTH, Look, laid_out, legend
from training.scoring.statistics.bootstrap import Interval

__all__ = ["class_bars", "metric_bars", "radar"]

Array = NDArray[Any]


@laid_out
def metric_bars(
    runs: Mapping[str, Mapping[str, Interval]], groups: Sequence[tuple[str, Sequence[str]]], looks: Mapping[str, Look]
) -> Figure:
    """Overall scores with their intervals, the runs side by side.

    Args:
        runs: per run, the intervals by name of the score.
        groups: the panels: title, and names of the scores that share its axis.
    """
    figure = Figure((WIDTH, 2.9), layout="constrained")
    axes = figure.subplots(
        1, len(groups), squeeze=False, width_ratios=[max(1.5, len(names)) + 0.35 for _, names in groups]
    )[0]
    for axis, (title, names) in zip(axes, groups, strict=True):
        shown = {run: [intervals[name] for name in names] for run, intervals in runs.items()}
        _grouped_bars(axis, shown, looks, values=True)
        axis.set_title(title)
        axis.set_xticks(range(len(names)), [name.replace(" ", "\n") for name in names])
        axis.set_xlim(-0.55, len(names) - 0.45)
        axis.tick_params(length=0, axis="x")
        axis.grid(axis="y")
        highest = max(i.high or i.value or 0 for intervals in shown.values() for i in intervals)
        axis.set_ylim(0, 1.25 * highest or 1)  # the numbers stand on the whiskers
    legend(figure, axes[0], looks)
    return figure


@laid_out
def class_bars(
    runs: Mapping[str, Mapping[str, Sequence[Interval]]], label_set: LabelSet, looks: Mapping[str, Look]
) -> Figure:
    """Scores of each class with their intervals, one panel per score.

    Args:
        runs: per run and name of the score, the intervals in the order of the label set.
    """
    names = list(next(iter(runs.values())))
    figure = Figure((WIDTH, 0.6 + 1.5 * len(names)), layout="constrained")
    axes = figure.subplots(len(names), 1, sharex=True, squeeze=False)[:, 0]
    for axis, name in zip(axes, names, strict=True):
        _grouped_bars(axis, {run: scores[name] for run, scores in runs.items()}, looks, values=len(runs) < 4)
        axis.set_title(name)
        axis.set_ylim(0, 1.4)  # the numbers stand on the whiskers
        axis.spines["left"].set_bounds(0, 1)
        axis.set_yticks(np.linspace(0, 1, 5))
        axis.grid(axis="y")
        axis.tick_params(length=0, axis="x")
    axes[-1].set_xlim(-0.55, len(label_set) - 0.45)
    axes[-1].set_xticks(
        range(len(label_set)), [f"{label.code}\n" + label.name.replace(" ", "\n", 1) for label in label_set.labels]
    )
    legend(figure, axes[0], looks)
    return figure


def _grouped_bars(axis: Axes, runs: Mapping[str, Sequence[Interval]], looks: Mapping[str, Look], values: bool) -> None:
    """Bars with whiskers, one group per position, the runs beside each other; "n/a" where there is no value."""
    width = 0.8 / len(runs)
    for k, (name, intervals) in enumerate(runs.items()):
        look = looks[name]
        for place, interval in enumerate(intervals):
            at = place - 0.4 + (k + 0.5) * width
            label = name if place == 0 else None
            height = 0.0 if interval.value is None else interval.value
            axis.bar(
                at,
                height,
                0.92 * width,
                color=look.colour,
                hatch=look.hatch,
                edgecolor="white",
                linewidth=0,
                label=label,
            )
            top = height
            if interval.low is not None and interval.high is not None:
                axis.plot([at, at], [interval.low, interval.high], color=INK, linewidth=1)
                top = interval.high
            if values or interval.value is None:
                text = "n/a" if interval.value is None else f"{interval.value:.3f}"
                axis.annotate(
                    text,
                    (at, top),
                    (0, 2),
                    textcoords="offset points",
                    ha="center",
                    va="bottom",
                    rotation=90,
                    fontsize=6.5,
                )


@laid_out
def radar(scores: Mapping[str, Mapping[str, Array]], label_set: LabelSet, looks: Mapping[str, Look]) -> Figure:
    """Class-wise scores of each run around a circle, one panel per score.

    Args:
        scores: per name of the score and run, float (classes,); NaN where there is none, which leaves a gap. The
            centre is at 0, for AUROC at .5; what is below is drawn there.
    """
    figure = Figure((WIDTH, 3.7), layout="constrained")
    panels = figure.subplots(1, len(scores), squeeze=False, subplot_kw={"projection": "polar"})[0]
    angles = np.linspace(0, 2 * np.pi, len(label_set), endpoint=False)
    for axis, (title, runs) in zip(panels, scores.items(), strict=True):
        lowest = 0.5 if title == "AUROC" else 0.0
        for name, values in runs.items():
            look = looks[name]
            closed = np.maximum(np.append(values, values[0]), lowest)
            axis.plot(
                np.append(angles, 0), closed, color=look.colour, linestyle=look.dash, marker=look.marker, label=name
            )
        axis.set_theta_zero_location("N")
        axis.set_theta_direction(-1)
        axis.set_ylim(lowest, 1)
        rings = np.linspace(lowest, 1, 6)[1:]
        axis.set_yticks(rings, [f"{ring:.1f}" for ring in rings], color=SOFT, fontsize=6.5)
        axis.set_rlabel_position(np.degrees(angles[1]) / 2)
        axis.set_xticks(angles, label_set.codes, weight="bold")
        axis.grid(color=FAINT, linewidth=0.6)
        axis.spines["polar"].set_color(FAINT)
        axis.set_title(title, loc="left")
    legend(figure, panels[0], looks)
    return figure
