"""Figures of a data set: how often labels occur, alone and together, and who the patients are."""

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
import plotly.graph_objects as go
from matplotlib.figure import Figure
from numpy.typing import NDArray

from keras_realmnet.tasks.vocabulary import LabelSet
from training.report.plots.style import INK, NEUTRAL, SOFT, WIDTH, laid_out

__all__ = ["age_and_sex", "label_chord", "label_counts", "label_sankey"]

Array = NDArray[Any]


@laid_out
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
    carrying = {code: int(together[k, k]) for k, code in enumerate(codes)}
    left, right = ([code for code in group if carrying[code]] for group in label_set.exclusive)
    nodes = [*left, *right]
    links = [
        (nodes.index(a), nodes.index(b), int(together[codes.index(a), codes.index(b)]), colours[b])
        for a in left
        for b in right
        if together[codes.index(a), codes.index(b)]
    ]
    pad, height = 26, 380  # px
    sankey = go.Sankey(
        arrangement="fixed",
        node={
            "label": [f"{code} {label_set[code].name}: {carrying[code]:,}" for code in nodes],
            "x": [0.001] * len(left) + [0.999] * len(right),
            "y": _middles([[carrying[code] for code in group] for group in (left, right)], pad / height),
            "color": [colours[code] for code in nodes],
            "line": {"width": 0.5, "color": SOFT},
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
            "font": {"family": "DejaVu Sans, Verdana, Arial, sans-serif", "size": 13, "color": INK},
            "width": 760,
            "height": height + 40,
            "margin": {"l": 20, "r": 20, "t": 20, "b": 20},
            "paper_bgcolor": "white",
        },
    )


def _middles(groups: Sequence[Sequence[int]], pad: float) -> list[float]:
    """From above, the middles of the nodes of both sides, in the order of the labels: Plotly would sort them by size.

    Args:
        groups: images of each node, per side.
        pad: least gap between two nodes; like the middles a share of the height.
    """
    middles: list[float] = []
    most, total = max(map(len, groups)), sum(groups[0])
    for group in groups:
        heights = np.array(group) / total * (1 - (most - 1) * pad)
        gap = (1 - heights.sum()) / max(1, len(group) - 1) if len(group) == most else pad
        start = (1 - heights.sum() - gap * (len(group) - 1)) / 2
        middles += (start + np.cumsum(heights) - heights / 2 + gap * np.arange(len(group))).tolist()
    return middles


@laid_out
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
        circos.link(start, end, fc=colours[end[0]], alpha=0.6, ec=SOFT, lw=0.3)
    figure = Figure((WIDTH, 4.6))
    circos.plotfig(ax=figure.add_axes((0.2, 0.06, 0.6, 0.88), projection="polar"))
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


@laid_out
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
