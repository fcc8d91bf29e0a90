"""The style of all figures, and the look of each run in them.

A run has the same colour, line and marker in all figures (`looks_of`). The colours are those of Okabe and Ito, told
apart with any colour vision; magnitudes are in viridis or blues.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import wraps
from typing import Any, ParamSpec

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

__all__ = [
    "DPI",
    "FAINT",
    "INK",
    "NEUTRAL",
    "OKABE_ITO",
    "SOFT",
    "STYLE",
    "WIDTH",
    "Look",
    "laid_out",
    "legend",
    "looks_of",
]

P = ParamSpec("P")

WIDTH = 7.1  # inches: two columns of a journal
DPI = 200  # of PNG files
INK = "#16202b"  # text and whiskers
SOFT = "#51606f"  # axes and notes
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
    "axes.edgecolor": SOFT,
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


def looks_of(names: Sequence[str]) -> dict[str, Look]:
    """One look per run, in their order; from the eighth run on the colours return with another dash and hatch."""
    count = len(OKABE_ITO)
    return {
        name: Look(OKABE_ITO[k % count], DASHES[k // count % 4], MARKERS[k % len(MARKERS)], HATCHES[k // count % 4])
        for k, name in enumerate(names)
    }


def laid_out(function: Callable[P, Figure]) -> Callable[P, Figure]:
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


def legend(figure: Figure, axis: Axes, runs: Mapping[str, Look]) -> None:
    """The runs above the figure, in as many columns as their names allow; none for a single run."""
    if len(runs) > 1:
        handles, labels = axis.get_legend_handles_labels()
        longest = max(map(len, labels))
        figure.legend(handles, labels, loc="outside upper left", ncols=max(1, min(len(runs), 100 // (longest + 8))))
