"""Figures of a clinic: what became of the pictures, and why some have no decision."""

from collections.abc import Mapping
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from training.report.plots.style import FAINT, INK, NEUTRAL, OKABE_ITO, WIDTH, laid_out

__all__ = ["flow_and_causes"]

MOST = 12  # causes that have a bar; the rest share one
RETAKE, REFUSED = OKABE_ITO[4], OKABE_ITO[3]


@laid_out
def flow_and_causes(figures: Mapping[str, Any]) -> Figure:
    """Bars of the outcomes of all pictures, and of the causes of those without a decision.

    Args:
        figures: what `clinic_figures` returns.
    """
    flow, causes = figures["picture"]["flow"], figures["causes"]
    ways = {name: flow[name] for name in list(flow)[1 : list(flow).index("ungradable")]}
    bars = {name.replace("_", " "): (count, 0) for name, count in ways.items()}
    told = {name: (each.get("insufficient", 0), each.get("not_analysed", 0)) for name, each in causes.items()}
    if len(told) > MOST:
        rest = list(told.values())[MOST - 1 :]
        others = {f"{len(rest)} other causes": (sum(a for a, _ in rest), sum(b for _, b in rest))}
        told = dict(list(told.items())[: MOST - 1]) | others
    figure = Figure((WIDTH, 1.2 + 0.19 * (len(bars) + max(1, len(told)))), layout="constrained")
    top, bottom = figure.subplots(2, 1, height_ratios=[len(bars), max(1, len(told))])
    _bars(top, bars, f"Outcomes of {flow['all']:,} pictures", (NEUTRAL, NEUTRAL))
    _bars(bottom, told, f"Why there is no decision on {flow['ungradable']:,} of them", (RETAKE, REFUSED))
    if told:
        handles = [bottom.barh([0], [0], color=colour) for colour in (RETAKE, REFUSED)]
        figure.legend(handles, ["to retake", "not analysed"], loc="outside lower right", ncols=2)
    return figure


def _bars(axis: Axes, bars: Mapping[str, tuple[int, int]], title: str, colours: tuple[str, str]) -> None:
    """Horizontal bars of two parts each, with the number at the end."""
    longest = max((sum(parts) for parts in bars.values()), default=0)
    for k, (first, second) in enumerate(bars.values()):
        axis.barh(k, first, color=colours[0], height=0.7)
        axis.barh(k, second, left=first, color=colours[1], height=0.7)
        axis.annotate(f"{first + second:,}", (first + second, k), (3, 0), textcoords="offset points", va="center")
    if not bars:
        axis.text(0, 0, "none", color=INK, va="center")
    axis.set_yticks(range(len(bars)), list(bars))
    axis.set_ylim(max(len(bars), 1) - 0.4, -0.6)
    axis.set_xlim(0, 1.15 * longest or 1)
    axis.set_title(title)
    axis.tick_params(length=0)
    axis.spines["left"].set_color(FAINT)
    axis.spines["bottom"].set_visible(False)
    axis.set_xticks([])
