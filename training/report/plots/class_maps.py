"""The figure of examples with their class maps."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from numpy.typing import NDArray

from keras_realmnet.screening.overlay import DIMMED, LEVELS
from training.report.plots.style import SOFT, WIDTH, laid_out

__all__ = ["Example", "class_maps"]

Array = NDArray[Any]


@dataclass(frozen=True)
class Example:
    """An image, uint8 RGB (h, w, 3), a label's map over the same square, float (h', w'), and its probability."""

    image: Array
    class_map: Array
    probability: float


@laid_out
def class_maps(rows: Mapping[str, Mapping[str, Example | None]], side: int = 224) -> Figure:
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
                axis.text(1, 0.5, "no such image", ha="center", va="center", color=SOFT)
            else:
                _draw_pair(axis, example, side)
                heading.append(f"p = {example.probability:.3f}")
            axis.set_title("\n".join(heading), fontsize=7.5, pad=2)
        axes[place, 0].set_ylabel(title, rotation=0, ha="right", va="center", fontsize=7.5, labelpad=4)
    return figure


def _draw_pair(axis: Axes, example: Example, side: int) -> None:
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
