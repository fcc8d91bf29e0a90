"""Lesions as annotators mark them who draw an ellipse around each, or around several that lie close together.

As those of Wei et al., "Learn to Segment Retinal Lesions and Beyond" (ICPR 2020), who drew ellipses and polygons.
"""

import cv2
import numpy as np

__all__ = ["ellipses_around"]

CLOSE = 0.004  # image widths; lesions that are less apart share an ellipse
LEAST = 0.0015  # image widths; about how much an ellipse is wider on each side than what it is drawn around


def ellipses_around(mask: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The mask of one kind of lesion with an ellipse, wider and a little aside, in the place of each.

    Args:
        mask: uint8 (h, w), 0 and 1.

    Returns:
        The same, 1 wherever `mask` is.
    """
    width = mask.shape[1]
    apart = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * round(CLOSE * width / 2) + 1,) * 2)
    count, groups = cv2.connectedComponents(cv2.dilate(mask, apart))
    y, x = np.nonzero(mask)
    order = np.argsort(groups[y, x], kind="stable")
    marked = np.array(mask)
    places = np.stack([x, y], axis=-1)[order].astype(np.float64)
    for points in np.split(places, np.searchsorted(groups[y, x][order], np.arange(2, count))):
        if len(points):
            _mark(marked, points, rng)
    return marked


def _mark(mask: np.ndarray, points: np.ndarray, rng: np.random.Generator) -> None:
    """Fills the ellipse around points (n, 2) of pixels, x and y."""
    height, width = mask.shape
    centre = points.mean(axis=0)
    offset = points - centre
    variances, axes = np.linalg.eigh(offset.T @ offset / len(points) + np.eye(2) / 12)  # a pixel is a square
    reach = np.sqrt(((offset @ axes) ** 2 / variances).sum(axis=1).max())
    around = np.sqrt(variances) * reach + 0.5
    radii = around * rng.uniform(1.05, 1.4) + LEAST * width * rng.uniform(0.5, 1.5)
    aside = rng.uniform(-0.6, 0.6, 2) * (radii - around)  # what it is drawn around stays inside
    centre = centre + axes @ aside
    left, top = np.maximum(np.floor(centre - radii.max()), 0).astype(int)
    right, bottom = np.minimum(np.ceil(centre + radii.max()) + 1, (width, height)).astype(int)
    across = np.stack(np.meshgrid(np.arange(left, right), np.arange(top, bottom)), axis=-1) - centre
    inside = ((across @ axes / radii) ** 2).sum(axis=-1) <= 1
    mask[top:bottom, left:right][inside] = 1
