"""Do class maps say what the network used? Insertion and deletion (RISE: Petsiuk et al., BMVC 2018, arXiv 1806.07421).

A picture is blurred step by step, beginning where the map is highest (deletion), or a blurred picture is made sharp
that way (insertion): the label's probability falls early, or rises early, where the order is that of what the network
used. The area under each curve is its mean over the share of the field that was changed. Deletion ends, and insertion
begins, with the picture blurred all over, so that neither edge nor colour comes in that no camera makes; what a blurred
picture keeps of the label is stated.

Two other orders tell what the map's is worth: from the middle of the field outwards, and that of a random map of as
many cells, so that what is changed at a time is as large.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from export.explanations.explained import Answer
from export.explanations.means import by_label, means
from keras_realmnet.screening.preprocessing import field_mask
from training.scoring.statistics.bootstrap import Interval

__all__ = ["BLUR", "ORDERS", "STEPS", "Curves", "Seen", "blurred", "curve_images", "curves", "order_of"]

ORDERS = ("map", "centre", "random")
STEPS = 12  # equal parts of the field that are changed one after the other
BLUR = 0.1  # of the square's side: the standard deviation of the Gaussian


@dataclass(frozen=True)
class Seen:
    """A label that is found on a picture: uint8 (size, size, 3), its column and its map (h', w')."""

    code: str
    column: int
    patient: str
    square: NDArray[np.uint8] = field(repr=False)
    class_map: NDArray[np.float32] = field(repr=False)


@dataclass(frozen=True)
class Curves:
    """Of one label's maps, or all labels' together.

    `sharp`, `blurred`: mean probability of the picture and of the one blurred all over. `deletion`, `insertion`: area
    under the curve by order; `..._differences`: of the map's order to the others, paired; all with 95 % intervals by
    patient. `deletion_curve`, `insertion_curve`: by order, mean probability after 0, 1, … `STEPS` parts.
    """

    maps: int
    patients: int
    sharp: float
    blurred: float
    deletion: dict[str, Interval]
    deletion_differences: dict[str, Interval]
    insertion: dict[str, Interval]
    insertion_differences: dict[str, Interval]
    deletion_curve: dict[str, list[float]]
    insertion_curve: dict[str, list[float]]

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def blurred(square: NDArray[np.uint8], inside: NDArray[np.bool_], share: float = BLUR) -> NDArray[np.uint8]:
    """The picture (size, size, 3) blurred within the field `inside`, (size, size), into which no black comes.

    `share`: the Gaussian's standard deviation, of the square's side.
    """
    weight = inside.astype(np.float32)
    sd = share * len(square)
    around = cv2.GaussianBlur(square.astype(np.float32) * weight[..., None], (0, 0), sd)
    mean = around / np.maximum(cv2.GaussianBlur(weight, (0, 0), sd), 1e-6)[..., None]
    return np.where(inside[..., None], np.clip(np.rint(mean), 0, 255), square).astype(np.uint8)


def order_of(importance: NDArray[np.floating], inside: NDArray[np.bool_], rng: np.random.Generator) -> NDArray[np.intp]:
    """The pixels of the field, as indices of the flat square, by falling importance, a map (h', w') or (size, size).

    Those that are equal come in random order: where a map is zero it says nothing of which is first.
    """
    height, width = inside.shape
    laid = cv2.resize(np.asarray(importance, np.float32), (width, height), interpolation=cv2.INTER_LINEAR)
    pixels = np.flatnonzero(inside)
    return pixels[np.lexsort((rng.random(len(pixels)), -laid.ravel()[pixels]))]


def curve_images(
    before: NDArray[np.uint8], after: NDArray[np.uint8], order: NDArray[np.intp], steps: int = STEPS
) -> NDArray[np.uint8]:
    """`before` becomes `after` in the order of pixels: uint8 (steps + 1, size, size, 3), both ends among them."""
    images = np.repeat(before[None], steps + 1, axis=0)
    flat, target = images.reshape(steps + 1, -1, 3), after.reshape(-1, 3)
    for step, stop in enumerate(np.linspace(0, len(order), steps + 1).round().astype(int)):
        flat[step, order[:stop]] = target[order[:stop]]
    return images


def _orders(seen: Seen, inside: NDArray[np.bool_], rng: np.random.Generator) -> dict[str, NDArray[np.intp]]:
    rows, columns = np.indices(inside.shape)
    row, column = np.argwhere(inside).mean(axis=0)
    importance = {
        "map": seen.class_map,
        "centre": -np.hypot(rows - row, columns - column),
        "random": rng.random(seen.class_map.shape),
    }
    return {name: order_of(importance[name], inside, rng) for name in ORDERS}


def _of_one(answer: Answer, seen: Seen, number: int, blur: float) -> NDArray[np.float64]:
    """Probabilities (2, orders, steps + 1): deletion and insertion."""
    inside = field_mask(seen.square)
    soft = blurred(seen.square, inside, blur)
    orders = _orders(seen, inside, np.random.default_rng(number))
    series = [
        curve_images(before, after, order)
        for before, after in ((seen.square, soft), (soft, seen.square))
        for order in orders.values()
    ]
    # All begin and end with the same two pictures.
    between = np.concatenate([[seen.square, soft], *(images[1:-1] for images in series)])
    probabilities = answer(between)[0][:, seen.column].astype(np.float64)
    sharp, none = probabilities[:2]
    middle = probabilities[2:].reshape(2, len(ORDERS), STEPS - 1)
    ends = np.array([[sharp, none], [none, sharp]])[:, None].repeat(len(ORDERS), axis=1)
    return np.concatenate([ends[..., :1], middle, ends[..., 1:]], axis=-1)


def curves(answer: Answer, seen: Sequence[Seen], replicates: int, blur: float = BLUR) -> dict[str, Curves]:
    """By label, and "all"; the random order of the i-th is drawn with the seed i. `blur`: see `blurred`."""
    probabilities = np.array(
        [_of_one(answer, each, i, blur) for i, each in enumerate(seen)]
    )  # (maps, 2, orders, steps + 1)
    groups = by_label([each.code for each in seen])
    return {code: _group(probabilities[m], [seen[i].patient for i in m], replicates) for code, m in groups.items()}


def _group(probabilities: NDArray[np.float64], patients: Sequence[str], replicates: int) -> Curves:
    areas = np.asarray(np.trapezoid(probabilities, dx=1 / STEPS, axis=-1))  # (maps, 2, orders)
    mean = probabilities.mean(axis=0)
    measured: dict[str, Any] = {}
    for k, name in enumerate(("deletion", "insertion")):
        found = means(np.concatenate([areas[:, k], areas[:, k, :1] - areas[:, k, 1:]], axis=1), patients, replicates)
        measured[name] = dict(zip(ORDERS, found[: len(ORDERS)], strict=True))
        measured[f"{name}_differences"] = dict(zip(ORDERS[1:], found[len(ORDERS) :], strict=True))
        measured[f"{name}_curve"] = {order: mean[k, i].tolist() for i, order in enumerate(ORDERS)}
    return Curves(
        len(probabilities), len(set(patients)), sharp=float(mean[0, 0, 0]), blurred=float(mean[1, 0, 0]), **measured
    )
