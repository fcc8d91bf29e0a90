"""The figures of a report: arrays in, one figure out; nothing is read, computed twice or written here.

A run has the same colour, line and marker in all of them (`looks`). The colours are those of Okabe and Ito, told apart
with any colour vision; magnitudes are in viridis or blues. The same arrays give the same figure, and `svg` the same
bytes.
"""

import io
import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import wraps
from typing import Any, ParamSpec

import cv2
import matplotlib as mpl
import numpy as np
import plotly.graph_objects as go
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from numpy.typing import NDArray
from sklearn.metrics import precision_recall_curve, roc_curve

from keras_realmnet.screening.labels import LabelSet
from keras_realmnet.screening.overlay import DIMMED, LEVELS
from training.scoring.bootstrap import Interval

__all__ = [
    "Bins",
    "Example",
    "Look",
    "age_and_sex",
    "class_bars",
    "confusion",
    "evidence",
    "jpeg",
    "label_chord",
    "label_counts",
    "label_sankey",
    "learning_curves",
    "looks",
    "metric_bars",
    "png",
    "precision_recall_curves",
    "radar",
    "reliability",
    "roc_curves",
    "svg",
]

Array = NDArray[Any]
P = ParamSpec("P")

WIDTH = 7.1  # inches: two columns of a journal
DPI = 200  # of PNG files
NEUTRAL = "#5b7288"  # where colour says nothing
FAINT = "#b8c2cc"
OKABE_ITO = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")  # without yellow, on white
DASHES = ("-", "--", ":", "-.")
HATCHES = ("", "////", "....", "xxxx")
MARKERS = "osD^vP*"
STYLE: Any = {  # Matplotlib's own type for it lists every key there is
    "font.family": "DejaVu Sans",  # comes with Matplotlib
    "font.size": 8,
    "axes.titlesize": 8,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.labelsize": 8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#51606f",
    "axes.axisbelow": True,
    "axes.grid": False,
    "grid.color": "#e3e8ed",
    "grid.linewidth": 0.6,
    "hatch.linewidth": 0.6,
    "xtick.labelsize": 7.5,
    "ytick.labelsize": 7.5,
    "legend.fontsize": 8,
    "legend.frameon": False,
    "lines.linewidth": 1.4,
    "lines.markersize": 4,
    "figure.dpi": DPI,  # the layout is made for the PNG
    "text.hinting": "none",  # text has the same width at every resolution
    "svg.fonttype": "path",  # looks the same whatever fonts the reader has
    "svg.hashsalt": "realmnet",  # the same ids in the same figure
    "image.interpolation": "none",
}


@dataclass(frozen=True)
class Look:
    """How a run is drawn in every figure."""

    colour: str
    dash: str
    marker: str
    hatch: str


def looks(names: Sequence[str]) -> dict[str, Look]:
    """One look per run, in their order; from the eighth run on the colours return with another dash and hatch."""
    count = len(OKABE_ITO)
    return {
        name: Look(OKABE_ITO[k % count], DASHES[k // count % 4], MARKERS[k % len(MARKERS)], HATCHES[k // count % 4])
        for k, name in enumerate(names)
    }


def _laid_out(function: Callable[P, Figure]) -> Callable[P, Figure]:
    """Draws in our style and fixes the layout: each drawing would otherwise shift it a little."""

    @wraps(function)
    def inside(*args: P.args, **kwargs: P.kwargs) -> Figure:
        with mpl.rc_context(STYLE):
            figure = function(*args, **kwargs)
            for _ in range(3):  # sizes of labels follow from those of the axes, which follow from the labels
                figure.draw_without_rendering()
            figure.set_layout_engine("none")
            return figure

    return inside


# ------------------------------------------------------------------------------------------------------------- files


@mpl.rc_context(STYLE)
def svg(figure: Figure | go.Figure) -> bytes:
    """The figure as SVG, text as paths (of a Plotly figure: as text); the same bytes for the same figure."""
    if isinstance(figure, go.Figure):
        # Plotly puts random numbers into ids, and its renderer attributes into any order.
        drawn = re.sub(r'"((?:top)?defs)-[0-9a-z]+"', r'"\1"', figure.to_image("svg").decode())
        return ElementTree.canonicalize(drawn).encode()
    buffer = io.BytesIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    return buffer.getvalue()


@mpl.rc_context(STYLE)
def png(figure: Figure | go.Figure) -> bytes:
    """The figure as PNG at 200 dots per inch."""
    if isinstance(figure, go.Figure):
        rendered: bytes = figure.to_image("png", scale=2)
        return rendered
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=DPI, metadata={"Software": None})
    return buffer.getvalue()


@mpl.rc_context(STYLE)
def jpeg(figure: Figure, dpi: int = 150) -> bytes:
    """The figure as JPEG: for photographs, a tenth of the size of an SVG that holds them."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="jpeg", dpi=dpi, pil_kwargs={"quality": 85})
    return buffer.getvalue()


# -------------------------------------------------------------------------------------------------------------- data


@_laid_out
def label_counts(counts: Mapping[str, Array], sizes: Mapping[str, int], label_set: LabelSet) -> Figure:
    """How many images of each set (or source) carry each label, one panel per set.

    Args:
        counts: per set, int (classes,).
        sizes: images of each set; the bars are shares of them.
    """
    columns = min(3, len(counts))
    rows = -(-len(counts) // columns)
    figure = Figure((WIDTH, 0.35 + rows * (0.7 + 0.19 * len(label_set))), layout="constrained")
    axes = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    places = np.arange(len(label_set))
    shares = {name: 100 * np.asarray(count) / max(1, sizes[name]) for name, count in counts.items()}
    longest = max(1.0, *(share.max() for share in shares.values()))
    for axis, (name, count) in zip(axes.flat, counts.items(), strict=False):
        axis.barh(places, shares[name], color=NEUTRAL, height=0.72)
        for place, share, number in zip(places, shares[name], count, strict=True):
            text = f"{int(number):,} ({share:.1f} %)" if number else "none"
            axis.annotate(text, (share, place), (3, 0), textcoords="offset points", va="center", fontsize=7)
        axis.set_title(f"{name}: {sizes[name]:,} images")
        axis.set_yticks(places, [f"{label.code} {label.name}" for label in label_set.labels])
        axis.set_xlim(0, longest * (1.75 if columns > 1 else 1.25))
        axis.tick_params(length=0, axis="y")
    axes[0, 0].invert_yaxis()
    for axis in axes.flat[len(counts) :]:
        axis.remove()
    for axis in axes.flat[max(0, len(counts) - columns) : len(counts)]:
        axis.set_xlabel("images of the set (%)")
        axis.tick_params(labelbottom=True)
    return figure


def _label_colours(label_set: LabelSet) -> dict[str, str]:
    """The last exclusive group from light to dark in viridis, the labels before it in greys."""
    graded = label_set.exclusive[-1] if label_set.exclusive else label_set.codes
    others = [code for code in label_set.codes if code not in graded]
    colours = {}
    for group, name, span in ((others, "Greys", (0.4, 0.75)), (list(graded), "viridis_r", (0.12, 0.95))):
        for code, at in zip(group, np.linspace(*span, len(group)), strict=True):
            colours[code] = mpl.colors.to_hex(mpl.colormaps[name](at))
    return colours


def label_sankey(together: Array, label_set: LabelSet) -> go.Figure:
    """Which labels of the two exclusive groups (staphyloma, maculopathy) occur together: a Sankey diagram.

    Args:
        together: int (classes, classes), the images that carry both labels; of carrying one, on the diagonal.

    Raises:
        ValueError: the label set has not two exclusive groups.
    """
    if len(label_set.exclusive) != 2:
        raise ValueError(f"a Sankey diagram needs two exclusive groups of labels. Received: {label_set.exclusive}")
    colours, codes = _label_colours(label_set), label_set.codes
    left, right = (
        [code for code in group if together[codes.index(code), codes.index(code)]] for group in label_set.exclusive
    )
    nodes = [*left, *right]
    links = [
        (nodes.index(a), nodes.index(b), int(together[codes.index(a), codes.index(b)]), colours[b])
        for a in left
        for b in right
        if together[codes.index(a), codes.index(b)]
    ]
    pad, height = 26, 380  # px
    total = sum(together[codes.index(code), codes.index(code)] for code in left)
    middles = []  # from above, as a share of the height, in the order of the labels: Plotly would sort by size
    for group in (left, right):
        counts = np.array([together[codes.index(code), codes.index(code)] for code in group])
        heights = counts / total * (1 - (max(len(left), len(right)) - 1) * pad / height)
        gap = (1 - heights.sum()) / max(1, len(group) - 1) if len(group) == max(len(left), len(right)) else pad / height
        start = (1 - heights.sum() - gap * (len(group) - 1)) / 2
        middles += (start + np.cumsum(heights) - heights / 2 + gap * np.arange(len(group))).tolist()
    sankey = go.Sankey(
        arrangement="fixed",
        node={
            "label": [
                f"{code} {label_set[code].name}: {together[codes.index(code), codes.index(code)]:,}" for code in nodes
            ],
            "x": [0.001] * len(left) + [0.999] * len(right),
            "y": middles,
            "color": [colours[code] for code in nodes],
            "line": {"width": 0.5, "color": "#51606f"},
            "pad": pad,
            "thickness": 18,
        },
        link={
            "source": [link[0] for link in links],
            "target": [link[1] for link in links],
            "value": [link[2] for link in links],
            "color": [f"rgba{(*(int(link[3][k : k + 2], 16) for k in (1, 3, 5)), 0.45)}" for link in links],
        },
    )
    return go.Figure(
        sankey,
        {
            "font": {"family": "DejaVu Sans, Verdana, Arial, sans-serif", "size": 13, "color": "#16202b"},
            "width": 760,
            "height": height + 40,
            "margin": {"l": 20, "r": 20, "t": 20, "b": 20},
            "paper_bgcolor": "white",
        },
    )


@_laid_out
def label_chord(together: Array, label_set: LabelSet) -> Figure:
    """The same co-occurrences as a chord diagram; labels that never occur are left out.

    Args:
        together: as for `label_sankey`; any labels may occur together.

    Raises:
        ValueError: no two labels occur together.
    """
    import pandas as pd
    from pycirclize import Circos
    from pycirclize.parser import Matrix

    pairs = np.triu(together, 1)
    if not pairs.any():
        raise ValueError("a chord diagram needs labels that occur together. Received: none that do")
    used = [k for k in range(len(label_set)) if pairs[k].any() or pairs[:, k].any()]
    codes = [label_set.codes[k] for k in used]
    colours = _label_colours(label_set)
    matrix = Matrix(pd.DataFrame(pairs[np.ix_(used, used)], index=codes, columns=codes))
    # Begun at the left, so that the last labels, the rarest, lie there, where names stand above each other.
    circos = Circos(matrix.to_sectors(), start=-90, end=270, space=4)
    for sector in circos.sectors:
        sector.add_track((94, 100)).axis(fc=colours[sector.name])
        k = label_set.codes.index(sector.name)
        angle = np.radians(np.mean(sector.deg_lim))
        right, up = np.sin(angle), np.cos(angle)
        circos.text(
            f"{sector.name} {label_set[sector.name].name}\n{int(together[k, k]):,}",
            r=104,
            deg=np.mean(sector.deg_lim),
            size=8,
            ha="center" if abs(right) < 0.3 else "left" if right > 0 else "right",
            va="center" if abs(up) < 0.6 else "bottom" if up > 0 else "top",
        )
    for start, end in matrix.to_links():  # each a label and its part of the arc; coloured by the later label
        circos.link(start, end, fc=colours[end[0]], alpha=0.6, ec="#51606f", lw=0.3)
    figure = Figure((WIDTH, 4.6))
    circos.plotfig(ax=figure.add_axes((0.2, 0.06, 0.6, 0.88), projection="polar"))
    return figure


@_laid_out
def age_and_sex(ages: Array, sexes: Array) -> Figure:
    """Patients by age, one panel per sex; by sex alone where no age is known.

    Args:
        ages: float (patients,), years; NaN not known.
        sexes: str (patients,); "" not known.
    """
    groups = {name: sexes == name for name in sorted(set(sexes.tolist()), key=lambda name: (name == "", name))}
    known = ages[~np.isnan(ages)]
    if not len(known):
        figure = Figure((WIDTH / 2, 2.2), layout="constrained")
        axis = figure.subplots()
        bars = axis.bar([name or "not given" for name in groups], [g.sum() for g in groups.values()], color=NEUTRAL)
        axis.bar_label(bars, fmt="{:,.0f}")
        axis.set_ylabel("patients")
        return figure
    edges = np.arange(5 * np.floor(known.min() / 5), known.max() + 5.1, 5)
    figure = Figure((WIDTH, 2.3), layout="constrained")
    axes = figure.subplots(1, len(groups), sharex=True, sharey=True, squeeze=False)[0]
    for axis, (name, members) in zip(axes, groups.items(), strict=True):
        values = ages[members & ~np.isnan(ages)]
        axis.hist(values, edges, color=NEUTRAL, edgecolor="white", linewidth=0.6)
        median = f"median age {np.median(values):.0f}" if len(values) else "no age known"
        name = [name] if name else ["sex not given"] if len(groups) > 1 else []
        axis.set_title("\n".join([*name, f"{members.sum():,} patients, {median}"]))
        axis.set_xlabel("age (years)")
    axes[0].set_ylabel("patients per 5 years")
    axes[0].yaxis.get_major_locator().set_params(integer=True)
    return figure


# ------------------------------------------------------------------------------------------------------------ scores


def _legend(figure: Figure, axis: Axes, runs: Mapping[str, Look]) -> None:
    """The runs above the figure, in as many columns as their names allow; none for a single run."""
    if len(runs) > 1:
        handles, labels = axis.get_legend_handles_labels()
        longest = max(map(len, labels))
        figure.legend(handles, labels, loc="outside upper left", ncols=max(1, min(len(runs), 100 // (longest + 8))))


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
                axis.plot([at, at], [interval.low, interval.high], color="#16202b", linewidth=1)
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


@_laid_out
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
    _legend(figure, axes[0], looks)
    return figure


@_laid_out
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
    _legend(figure, axes[0], looks)
    return figure


@_laid_out
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
        axis.set_yticks(rings, [f"{ring:.1f}" for ring in rings], color="#51606f", fontsize=6.5)
        axis.set_rlabel_position(np.degrees(angles[1]) / 2)
        axis.set_xticks(angles, label_set.codes, weight="bold")
        axis.grid(color=FAINT, linewidth=0.6)
        axis.spines["polar"].set_color(FAINT)
        axis.set_title(title, loc="left")
    _legend(figure, panels[0], looks)
    return figure


CURVES = {
    "loss": "training loss",
    "val_macro_auroc": "validation AUROC (macro)",
    "val_map": "validation mAP",
    "learning_rate": "learning rate",
}


@_laid_out
def learning_curves(histories: Mapping[str, Mapping[str, Array]], looks: Mapping[str, Look]) -> Figure:
    """Loss, validation scores and learning rate by epoch; a dotted line where the input size changed.

    Args:
        histories: per run, the columns of its `history.csv`, float (epochs,); NaN where an epoch was not validated.
    """
    shown = [name for name in CURVES if any(np.isfinite(h.get(name, [np.nan])).any() for h in histories.values())]
    rows = -(-len(shown) // 2)
    figure = Figure((WIDTH, 0.4 + 1.9 * rows), layout="constrained")
    axes = figure.subplots(rows, 2, sharex=True, squeeze=False)
    for axis, column in zip(axes.flat, shown, strict=False):
        for name, history in histories.items():
            look = looks[name]
            epochs, values = history["epoch"], history.get(column, np.full(len(history["epoch"]), np.nan))
            there = np.isfinite(values)
            axis.plot(
                epochs[there],
                values[there],
                color=look.colour,
                linestyle=look.dash,
                marker=look.marker if there.sum() <= 30 else None,
                label=name,
            )
            sizes = history.get("size", np.zeros(len(epochs)))
            for before, after, epoch in zip(sizes, sizes[1:], epochs[1:], strict=False):
                if before != after:
                    axis.axvline(epoch - 0.5, color=look.colour, linestyle=":", linewidth=1, alpha=0.7)
        axis.set_title(CURVES[column])
        if column == "learning_rate":
            axis.yaxis.set_major_formatter("{x:.0e}")
        axis.grid(axis="y")
        axis.xaxis.get_major_locator().set_params(integer=True)
    for axis in axes.flat[len(shown) :]:
        axis.remove()
    for axis in axes.flat[max(0, len(shown) - 2) : len(shown)]:
        axis.set_xlabel("epoch")
        axis.tick_params(labelbottom=True)
    _legend(figure, axes[0, 0], looks)
    return figure


def _class_panels(count: int, lines: int, taller: float = 0.0) -> tuple[Figure, list[Any]]:
    """A figure and the grid cells of `count` panels, four beside each other, with `lines` lines of text above each."""
    columns = min(4, count)
    rows = -(-count // columns)
    figure = Figure((WIDTH, 0.35 + rows * (2.05 + taller + 0.13 * lines)), layout="constrained")
    grid = figure.add_gridspec(rows, columns)
    return figure, [grid[k // columns, k % columns] for k in range(count)]


def _headline(axis: Axes, title: str, lines: Sequence[tuple[str, str]]) -> None:
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


@_laid_out
def roc_curves(panels: Mapping[str, Mapping[str, tuple[Array, Array, Interval]]], looks: Mapping[str, Look]) -> Figure:
    """ROC curves: sensitivity against 1 − specificity, one panel per class.

    Args:
        panels: per title and run, `y_true` of shape (n,), 1, 0 or NaN (left out), `y_score` of shape (n,), and the
            AUROC, which is printed. A class that lacks positives or negatives has no curve.
    """
    return _curves(panels, looks, roc=True)


@_laid_out
def precision_recall_curves(
    panels: Mapping[str, Mapping[str, tuple[Array, Array, Interval]]], looks: Mapping[str, Look]
) -> Figure:
    """Precision against recall, one panel per class, with the prevalence as a dashed line; arguments as `roc_curves`,
    with the average precision to print."""
    return _curves(panels, looks, roc=False)


def _curves(panels, looks: Mapping[str, Look], roc: bool) -> Figure:
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
            lines.append((_short(area), look.colour))
        _headline(axis, title, lines)
        x_title, y_title = ("1 − specificity", "sensitivity") if roc else ("recall", "precision")
        _curve_axis(axis, x_title, y_title, first=k % 4 == 0, last=k + 4 >= len(cells))
    if axis is not None:
        _legend(figure, axis, looks)
    return figure


def _short(interval: Interval) -> str:
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


@_laid_out
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
        _headline(upper, title, [(bins.summary, looks[name].colour) for name, bins in runs.items()])
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
        _legend(figure, upper, looks)
    return figure


@_laid_out
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
            colour = "white" if shares[i, j] > 55 else "#16202b"
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


# ---------------------------------------------------------------------------------------------------------- evidence


@dataclass(frozen=True)
class Example:
    """An image, uint8 RGB (h, w, 3), a label's map over the same square, float (h', w'), and its probability."""

    image: Array
    class_map: Array
    probability: float


@_laid_out
def evidence(rows: Mapping[str, Mapping[str, Example | None]], side: int = 224) -> Figure:
    """Examples with their class maps: per class (row) and kind (column) the image and, beside it, the outlined map.

    The map is outlined at half and three quarters of its maximum, as on the box's pictures, and the image dimmed below
    the first: readable without colours. A map without positive values outlines nothing.

    Args:
        rows: per class and kind, the same kinds in each; `None` where there is no such image.
        side: px, to which larger images are reduced.
    """
    kinds = list(next(iter(rows.values())))
    inch = (WIDTH - 1) / (2 * len(kinds))  # side of an image
    tight = ConstrainedLayoutEngine(w_pad=0.04, h_pad=0.03, wspace=0.02, hspace=0)
    figure = Figure((WIDTH, 0.3 + len(rows) * (inch + 0.22)), layout=tight)
    axes = figure.subplots(len(rows), len(kinds), squeeze=False)
    for place, (title, examples) in enumerate(rows.items()):
        for axis, (kind, example) in zip(axes[place], examples.items(), strict=True):
            axis.set_xticks(())
            axis.set_yticks(())
            axis.spines[:].set_visible(False)
            heading = [kind] if place == 0 else []
            if example is None:
                axis.set(xlim=(0, 2), ylim=(1, 0), aspect="equal")
                axis.text(1, 0.5, "no such image", ha="center", va="center", color="#51606f")
            else:
                _pair(axis, example, side)
                heading.append(f"p = {example.probability:.3f}")
            axis.set_title("\n".join(heading), fontsize=7.5, pad=2)
        axes[place, 0].set_ylabel(title, rotation=0, ha="right", va="center", fontsize=7.5, labelpad=4)
    return figure


def _pair(axis: Axes, example: Example, side: int) -> None:
    """The image, and to its right the image again with its class map."""
    image = np.asarray(example.image)
    if image.shape[0] > side:
        image = np.asarray(cv2.resize(image, (side, side), interpolation=cv2.INTER_AREA), np.uint8)
    height, width = image.shape[:2]
    positive = np.maximum(example.class_map, 0).astype(np.float32)
    strength = np.asarray(cv2.resize(positive, (width, height), interpolation=cv2.INTER_LINEAR))
    peak = float(strength.max())
    shown = np.isfinite(peak) and peak > 0  # otherwise there is nothing to outline
    within = strength[..., None] >= LEVELS[0] * peak if shown else True
    gap = np.full((height, max(1, width // 40), 3), 255, np.uint8)
    axis.imshow(np.hstack([image, gap, np.where(within, image, image * DIMMED).astype(np.uint8)]))
    columns = np.arange(width) + width + gap.shape[1]
    for level, line in zip(LEVELS if shown else (), (0.7, 1.4), strict=shown):
        for colour, wider in (("black", 1.4), ("white", 0.0)):  # seen on dark and on bright
            axis.contour(columns, np.arange(height), strength, [level * peak], colors=colour, linewidths=line + wider)
