"""The figure of a run's training."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from training.report.plots.style import WIDTH, Look, laid_out, legend

__all__ = ["CURVES", "learning_curves"]

Array = NDArray[Any]

CURVES = {
    "loss": "training loss",
    "val_macro_auroc": "validation AUROC (macro)",
    "val_map": "validation mAP",
    "learning_rate": "learning rate",
}


@laid_out
def learning_curves(
    histories: Mapping[str, Mapping[str, Array]], looks: Mapping[str, Look], curves: Mapping[str, str] = CURVES
) -> Figure:
    """Loss, validation scores and learning rate by epoch; a dotted line where the input size changed.

    Args:
        histories: per run, the columns of its `history.csv`, float (epochs,); NaN where an epoch was not validated.
        curves: {column: title} of those that are shown, where a run has them.
    """
    shown = [name for name in curves if any(np.isfinite(h.get(name, [np.nan])).any() for h in histories.values())]
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
        axis.set_title(curves[column])
        if column == "learning_rate":
            axis.yaxis.set_major_formatter("{x:.0e}")
        axis.grid(axis="y")
        axis.xaxis.get_major_locator().set_params(integer=True)
    for axis in axes.flat[len(shown) :]:
        axis.remove()
    for axis in axes.flat[max(0, len(shown) - 2) : len(shown)]:
        axis.set_xlabel("epoch")
        axis.tick_params(labelbottom=True)
    legend(figure, axes[0, 0], looks)
    return figure
