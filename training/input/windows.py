"""Windows: square parts that training cuts out of larger pictures, so that what is a few pixels large stays so."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from keras_realmnet.arguments import SHARE, check, count
from keras_realmnet.tasks.outputs import Masks
from keras_realmnet.tasks.task import Task
from training.tasks.masks import pixels_of_labels

__all__ = ["Places", "Windows", "check_windows", "cut", "places_of"]

Array = NDArray[Any]
_FIELDS = {"side": count(32), "per_image": count(1), "around": SHARE}


@dataclass(frozen=True)
class Windows:
    """What a network learns from in the place of whole pictures; it is then used on whole ones.

    `side`: of a window in pixels, divisible by 32. `per_image`: how many of each picture an epoch has. `around`: the
    share of them (0 to 1) that hold a pixel of a label, of those that the picture has any label as often as any other;
    where in the window it lies is drawn too. The others, and those of pictures without a label, lie anywhere on the
    picture.
    """

    side: int
    per_image: int = 1
    around: float = 0.75

    def __post_init__(self) -> None:
        check("windows", _FIELDS, vars(self))
        if self.side % 32:
            raise ValueError(f"windows need a side that 32 divides. Received: {self.side}")

    def corner(self, places: "Places", size: int, rng: np.random.Generator) -> tuple[int, int]:
        """Top and left of a window in a square of `size` pixels, which it does not leave."""
        coin, (down, right) = rng.random(), rng.integers(0, self.side, 2)
        if coin < self.around and places.of_labels:
            positions = places.of_labels[rng.integers(len(places.of_labels))]
            y, x = divmod(int(positions[rng.integers(len(positions))]), size)
        else:
            first_y, first_x, last_y, last_x = places.known
            y, x = int(rng.integers(first_y, last_y + 1)), int(rng.integers(first_x, last_x + 1))
        top, left = (int(np.clip(at - back, 0, size - self.side)) for at, back in ((y, down), (x, right)))
        return top, left


@dataclass(frozen=True)
class Places:
    """Of the masks of one picture: where each label is that it has, int32 indices of the flattened square, and the
    rectangle (first row and column, last row and column) outside of which nothing is known."""

    of_labels: tuple[NDArray[np.int32], ...]
    known: tuple[int, int, int, int]


def places_of(masks: Mapping[str, Array], outputs: Mapping[str, Masks]) -> Places:
    """Args: {output: the mask of one picture, as `training.tasks.masks` has it}, {output: what it is}."""
    found, known = [], np.zeros(next(iter(masks.values())).shape[:2], np.bool_)
    for name, mask in masks.items():
        asked, present = pixels_of_labels(outputs[name], mask)
        known |= asked.any(axis=-1)
        found += [np.flatnonzero(present[..., k]).astype(np.int32) for k in range(present.shape[-1])]
    if not known.any():
        known[:] = True
    rows, columns = (np.flatnonzero(known.any(axis=axis)) for axis in (1, 0))
    rectangle = int(rows[0]), int(columns[0]), int(rows[-1]), int(columns[-1])
    return Places(tuple(each for each in found if len(each)), rectangle)


def cut(array: Array, top: int, left: int, side: int, fill: int) -> Array:
    """The square of `side` pixels of (h, w, ...) from (top, left) on; what lies outside of the array is `fill`."""
    part = np.full((side, side, *array.shape[2:]), fill, array.dtype)
    ends = [np.clip((at, at + side), 0, length) for at, length in zip((top, left), array.shape[:2], strict=True)]
    (first, last), (start, stop) = ends
    part[first - top : last - top, start - left : stop - left] = array[first:last, start:stop]
    return part


def check_windows(task: Task, windows: Windows | None, sizes: tuple[int, ...]) -> None:
    """Raises ValueError where `windows` exceed the pictures, or `task` asks for what a part does not show."""
    if windows is None:
        return
    whole = [f"{name} ({output.kind})" for name, output in task.trained.items() if not isinstance(output, Masks)]
    if whole:
        raise ValueError(f"windows are for masks, and say nothing of {', '.join(whole)}")
    if windows.side > min(sizes):
        raise ValueError(f"windows must fit into pictures of {min(sizes)} px. Received: side={windows.side}")
