"""The figure of examples with their masks."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.patches import Patch
from numpy.typing import NDArray

from training.report.plots.style import SOFT, WIDTH, laid_out

__all__ = ["Drawn", "Legend", "overlays"]

Array = NDArray[Any]

SIDE = 460  # px, to which images are reduced: a third of the figure's width at 200 dots per inch
GREY = 0.55  # brightness of the picture under the masks
SMALLEST = 3  # px: what is smaller is enlarged to that


@dataclass(frozen=True)
class Drawn:
    """An image, uint8 RGB (h, w, 3), what is true of each label and what is found, bool (h, w, labels); known: (h, w).

    A pixel may belong to several labels.
    """

    image: Array
    truth: Array
    found: Array
    known: Array


@dataclass(frozen=True)
class Legend:
    """A label and the RGB in which it is drawn."""

    name: str
    colour: tuple[int, int, int]


@laid_out
def overlays(rows: Mapping[str, Drawn], legend: Sequence[Legend]) -> Figure:
    """Examples with their masks: per image (row) the picture, the truth and what is found, each label in its colour.

    The picture is grey under the masks. The label with the fewest pixels lies on top.

    Args:
        rows: by heading.
        legend: of the labels, in their order.
    """
    inch = (WIDTH - 0.9) / 3  # side of an image
    tight = ConstrainedLayoutEngine(w_pad=0.02, h_pad=0.02, wspace=0, hspace=0)
    figure = Figure((WIDTH, 0.45 + len(rows) * (inch + 0.04)), layout=tight)
    axes = figure.subplots(len(rows), 3, squeeze=False)
    colours = [each.colour for each in legend]
    for place, (heading, drawn) in enumerate(rows.items()):
        pictures = {
            "picture": _reduced(drawn.image),
            "truth": _painted(drawn, drawn.truth, colours),
            "found": _painted(drawn, drawn.found, colours),
        }
        for axis, (title, picture) in zip(axes[place], pictures.items(), strict=True):
            axis.imshow(picture)
            axis.set_xticks(())
            axis.set_yticks(())
            axis.spines[:].set_visible(False)
            if place == 0:
                axis.set_title(title, pad=3)
        axes[place, 0].set_ylabel(heading, rotation=0, ha="right", va="center", fontsize=7, labelpad=4, wrap=True)
    patches = [
        Patch(facecolor="#{:02x}{:02x}{:02x}".format(*each.colour), edgecolor=SOFT, linewidth=0.6, label=each.name)
        for each in legend
    ]
    figure.legend(handles=patches, loc="outside upper left", ncols=min(len(patches), 4), handlelength=1.2)
    return figure


def _reduced(image: Array) -> Array:
    side = min(SIDE, image.shape[0])
    return np.asarray(cv2.resize(image, (side, side), interpolation=cv2.INTER_AREA), np.uint8)


def _painted(drawn: Drawn, masks: Array, colours: Sequence[tuple[int, int, int]]) -> Array:
    picture = _reduced(drawn.image)
    side = picture.shape[0]
    grey = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)[..., None] * GREY
    picture = np.repeat(grey, 3, axis=-1).astype(np.uint8)
    unknown = cv2.resize((~drawn.known).astype(np.uint8), (side, side), interpolation=cv2.INTER_NEAREST)
    inside = cv2.erode(unknown, np.ones((5, 5), np.uint8)) > 0  # no line along the border of the picture
    hatched = (np.add.outer(np.arange(side), np.arange(side)) // 3) % 3 == 0
    picture[inside & hatched & (picture.max(axis=-1) > 9)] = 130  # in the picture, not in the black around it
    shrunk = side / drawn.image.shape[0]
    for k in np.argsort(-masks.sum(axis=(0, 1)), kind="stable"):
        mask = masks[..., k].astype(np.uint8)
        grow = int(np.ceil(SMALLEST / shrunk)) if shrunk < 1 else SMALLEST
        enlarged = _with_small_parts_enlarged(mask, grow)
        shown = cv2.resize(enlarged, (side, side), interpolation=cv2.INTER_AREA if shrunk < 1 else cv2.INTER_NEAREST)
        picture[shown > 0] = colours[k]
    return picture


def _with_small_parts_enlarged(mask: Array, least: int) -> Array:
    """The mask, uint8, in which parts narrower than `least` pixels are at least so wide."""
    wide = cv2.morphologyEx(mask, cv2.MORPH_OPEN, np.ones((least, least), np.uint8))
    element = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (least, least))
    return np.maximum(mask, cv2.dilate(mask & (1 - wide), element))
