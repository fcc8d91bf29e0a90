"""The figure of examples with their activation maps."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from numpy.typing import NDArray
from scipy.ndimage import correlate1d

from training.report.plots.style import SOFT, WIDTH, laid_out

__all__ = ["Mapped", "activation_maps", "rendered"]

Array = NDArray[Any]

SIDE = 384  # px, to which larger images are reduced
KERNEL = 32 / 512  # of the picture's side, along the Gaussian
DEVIATIONS = 6  # of the Gaussian along its kernel; ours
DIMMED = 0.4  # brightness outside of the marked regions
OPACITY = 0.55  # of the map on the picture


@dataclass(frozen=True)
class Mapped:
    """An image, uint8 RGB (s, s, 3); where its finding was marked, bool (s, s); the activation map, float (h, w)."""

    image: Array
    inside: Array
    activation: Array


def rendered(activation: Array, side: int) -> Array:
    """An activation map as it is shown, float64 (side, side), 0 to 1; 0 everywhere where it is the same everywhere.

    Enlarged bilinearly to the picture, blurred by a Gaussian of 32 × 32 pixels of 512, its smallest value 0 and its
    largest 1, as in Son et al., OMIA 2018.
    """
    large = cv2.resize(np.asarray(activation, np.float64), (side, side), interpolation=cv2.INTER_LINEAR)
    taps = max(1, round(KERNEL * side))
    kernel = np.exp(-0.5 * np.square((np.arange(taps) - (taps - 1) / 2) * DEVIATIONS / taps))
    for axis in (0, 1):  # an even kernel has no middle: the map moves by half a pixel
        large = correlate1d(large, kernel / kernel.sum(), axis=axis, mode="nearest")
    low, high = float(large.min()), float(large.max())
    return (large - low) / (high - low) if high > low else np.zeros_like(large)


@laid_out
def activation_maps(rows: Mapping[str, Mapped]) -> Figure:
    """Examples with their maps: per image (row) the picture, the regions in which its finding was marked (the rest is
    dark), and the map, `rendered`, over the picture in grey.

    Args:
        rows: by heading.
    """
    inch = (WIDTH - 1.2) / 3  # side of an image
    tight = ConstrainedLayoutEngine(w_pad=0.02, h_pad=0.02, wspace=0, hspace=0)
    figure = Figure((WIDTH, 0.25 + len(rows) * (inch + 0.04)), layout=tight)
    axes = figure.subplots(len(rows), 3, squeeze=False)
    for place, (heading, mapped) in enumerate(rows.items()):
        side = min(SIDE, mapped.image.shape[0])
        picture = np.asarray(cv2.resize(mapped.image, (side, side), interpolation=cv2.INTER_AREA), np.uint8)
        inside = cv2.resize(mapped.inside.astype(np.uint8), (side, side), interpolation=cv2.INTER_NEAREST) > 0
        shown = {
            "picture": picture,
            "marked regions": np.where(inside[..., None], picture, picture * DIMMED).astype(np.uint8),
            "activation map": np.repeat(cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)[..., None], 3, axis=-1),
        }
        for axis, (title, image) in zip(axes[place], shown.items(), strict=True):
            axis.imshow(image)
            axis.set_xticks(())
            axis.set_yticks(())
            axis.spines[:].set_visible(False)
            if place == 0:
                axis.set_title(title, pad=3)
        axes[place, 2].imshow(rendered(mapped.activation, side), cmap="viridis", vmin=0, vmax=1, alpha=OPACITY)
        axes[place, 0].set_ylabel(
            heading, rotation=0, ha="right", va="center", fontsize=7, labelpad=4, wrap=True, color=SOFT
        )
    return figure
