"""From the probabilities of pixels to masks, and from these to outlines. NumPy and OpenCV."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from keras_realmnet.tasks.findings import Polygon
from keras_realmnet.tasks.outputs import Masks

__all__ = ["binary_mask", "borders_of", "found_masks", "outlines_of", "polygons"]

CORNER = 0.35  # px of the mask: how far an outline may run from the mask's border


def found_masks(output: Masks, probability: NDArray[Any]) -> NDArray[np.uint8]:
    """1 where each label of `output` is found, uint8 (h, w, labels), of probabilities (h, w, labels), no background.

    From the threshold on; of a structure that is there once the largest part, without holes; a structure that lies
    within another one is looked for in what is found of that. So a cup is one part without holes inside of the disc:
    what a network sees beside the disc cannot win over it. Source: Son, MICCAI 2020, where the cup is cut to the disc
    as the last step; that it is so as the first is ours.
    """
    codes, outer, thresholds = output.labels.codes, dict(output.within), output.thresholds
    masks: dict[str, NDArray[np.uint8]] = {}
    for code in sorted(codes, key=outer.__contains__):  # those that lie in none first
        inside = probability[..., codes.index(code)]
        if code in outer:
            inside = np.where(masks[outer[code]] > 0, inside, 0)
        masks[code] = binary_mask(inside, thresholds[code], output.single)
    return np.stack([masks[code] for code in codes], axis=-1)


def binary_mask(probability: NDArray[Any], threshold: float, single: bool) -> NDArray[np.uint8]:
    """1 where a structure is, uint8 (h, w), of its probability (h, w); see `Masks` for `threshold` and `single`."""
    mask = (np.asarray(probability) >= threshold).astype(np.uint8)
    if not single or not mask.any():
        return mask
    _, parts, statistics, _ = cv2.connectedComponentsWithStats(mask, connectivity=8)
    largest = 1 + int(statistics[1:, cv2.CC_STAT_AREA].argmax())
    contours, _ = cv2.findContours((parts == largest).astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    return np.asarray(cv2.drawContours(np.zeros_like(mask), contours, -1, 1, cv2.FILLED), np.uint8)


def borders_of(mask: NDArray[np.uint8]) -> tuple[list[NDArray[np.float64]], list[NDArray[np.float64]]]:
    """The borders of all parts of a mask (h, w), those in holes of others too, and of all holes; as `outlines_of`.

    Pixels that touch in a corner are one part, and two holes.
    """
    beside = np.pad(1 - mask, 1, constant_values=1)
    count, places, statistics, _ = cv2.connectedComponentsWithStats(beside, connectivity=4)
    holes = []
    for k in set(range(1, count)) - {int(places[0, 0])}:
        left, top, width, height, _ = statistics[k]
        hole = (places[top : top + height, left : left + width] == k).astype(np.uint8)
        holes += [border + np.array([left - 1, top - 1]) for border in outlines_of(hole, nested=True)]
    return outlines_of(mask, nested=True), holes


def outlines_of(mask: NDArray[np.uint8], nested: bool = False) -> list[NDArray[np.float64]]:
    """The border of each part of a mask (h, w): corners (n, 2), x and y in its pixels, along the pixels' outer edges.

    Not `nested`: what lies in a hole of another part is inside of that part's border and has none.

    Each is traced enlarged four times, so that a part of one pixel has an area, too; a corner is left out where the
    border is straight to within CORNER.
    """
    fine = 4
    parts, links = cv2.findContours(mask, cv2.RETR_CCOMP if nested else cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    if parts and nested:
        parts = [part for part, (*_, parent) in zip(parts, links[0], strict=True) if parent < 0]  # not those of holes
    outlines = []
    for part in parts:
        left, top, width, height = cv2.boundingRect(part)
        filled = cv2.drawContours(np.zeros((height, width), np.uint8), [part - (left, top)], 0, 1, cv2.FILLED)
        enlarged = cv2.resize(filled, (width * fine, height * fine), interpolation=cv2.INTER_NEAREST)
        [contour], _ = cv2.findContours(enlarged, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
        corners = cv2.approxPolyDP(contour, CORNER * fine, closed=True)[:, 0].astype(np.float64)
        outlines.append((corners + 0.5) / fine - 0.5 + (left, top))
    outlines.sort(key=lambda corners: (float(corners[:, 1].min()), float(corners[:, 0].min())))
    return outlines


def polygons(corners: Sequence[NDArray[np.float64]]) -> tuple[Polygon, ...]:
    """Outlines as a record holds them: to a tenth of a pixel of the picture."""
    return tuple(tuple((x, y) for x, y in np.round(outline, 1).tolist()) for outline in corners)
