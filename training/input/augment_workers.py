"""Augmented images, computed here or in worker processes: the part of the input pipeline that costs time.

No Keras: a worker process starts in a fraction of a second and stays small. What an image becomes depends on
(seed, epoch, index) alone, so that the number of workers changes nothing but the speed.
"""

import multiprocessing
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from keras_realmnet.tasks.outputs import Masks, Output
from training.datasets.image_set import ImageSet, resize_square
from training.input.augmentation import Augmentation, augment
from training.input.windows import Places, Windows, cut, places_of
from training.tasks.kinds import kind_of
from training.tasks.motion import IGNORE

__all__ = ["AugmentedImages", "WorkerPool"]

Batch = tuple[NDArray[np.uint8], dict[str, NDArray[Any]]]


@dataclass(frozen=True)
class AugmentedImages:
    """The images of a set, resized to `size` and augmented by `settings`, and the truth that moves with them.

    A new draw every epoch. `pixels`, `rows`: as in ImageSet. `outputs`: those whose truth moves, each with its `truth`,
    as in ImageSet's `truth` or `masks`. `windows`: that are cut out of the images, and are what is given; None: whole
    images.
    """

    pixels: NDArray[np.uint8]
    rows: NDArray[np.intp]
    outputs: Mapping[str, Output]
    truth: Mapping[str, NDArray[Any]]
    size: int
    settings: Augmentation
    seed: int
    windows: Windows | None = None
    _places: dict[int, Places] = field(default_factory=dict)  # by row, of images of which windows were cut

    @classmethod
    def of(
        cls, data: ImageSet, size: int, settings: Augmentation, seed: int, windows: Windows | None = None
    ) -> "AugmentedImages":
        moving = {name: output for name, output in data.task.trained.items() if kind_of(output).spatial}
        truth = {name: data.masks[name] if name in data.masks else data.truth[name] for name in moving}
        return cls(data.pixels, data.rows, moving, truth, size, settings, seed, windows)

    def batch(self, epoch: int, chosen: Sequence[int] | NDArray[np.intp]) -> Batch:
        """The images at the indices `chosen`, uint8 (n, side, side, 3), and {output: its truth (n, ...)}.

        `side` is `size`, or that of the windows.
        """
        side = self.size if self.windows is None else self.windows.side
        images = np.empty((len(chosen), side, side, 3), np.uint8)
        moved: dict[str, list[NDArray[Any]]] = {name: [] for name in self.outputs}
        for k, index in enumerate(chosen):
            rng = np.random.default_rng((self.seed, epoch, 1, int(index)))
            image, truth = self._at(int(index))
            if self.windows is None:
                images[k], motion = augment(image, rng, self.settings)
                for name, output in self.outputs.items():
                    moved[name].append(kind_of(output).moved(truth[name], motion))
                continue
            # With as much again around it as a turn or a smaller scale may bring in.
            top, left = self.windows.corner(self._places_at(int(index), truth), self.size, rng)
            edge = side // 2
            place = top - edge, left - edge, side + 2 * edge
            wide, motion = augment(cut(image, *place, 0), rng, self.settings)
            images[k] = cut(wide, edge, edge, side, 0)
            for name, output in self.outputs.items():
                wide = kind_of(output).moved(cut(truth[name], *place, IGNORE), motion)
                moved[name].append(cut(wide, edge, edge, side, IGNORE))
        return images, {name: np.stack(values) for name, values in moved.items()}

    def _at(self, index: int) -> tuple[NDArray[np.uint8], dict[str, NDArray[Any]]]:
        """The image at an index, resized, and {output: its truth}."""
        row, truth = self.rows[index], {}
        for name, output in self.outputs.items():
            kind = kind_of(output)
            truth[name] = kind.resized(self.truth[name][row if kind.beside_pixels else index], self.size)
        return resize_square(self.pixels[row], self.size), truth

    def _places_at(self, index: int, truth: Mapping[str, NDArray[Any]]) -> Places:
        row = int(self.rows[index])
        if row not in self._places:
            masks = {name: output for name, output in self.outputs.items() if isinstance(output, Masks)}  # all of them
            self._places[row] = places_of(truth, masks)
        return self._places[row]


class WorkerPool:
    """`processes` worker processes that answer `batch` as `AugmentedImages` does; to be closed."""

    def __init__(self, source: AugmentedImages, processes: int):
        arrays = {name: _by_file(values) for name, values in (("", source.pixels), *source.truth.items())}
        self._pool = ProcessPoolExecutor(
            processes,
            mp_context=multiprocessing.get_context("spawn"),  # a process with TensorFlow's threads cannot be forked
            initializer=_start_worker,
            initargs=(arrays, replace(source, pixels=np.empty(0, np.uint8), truth={})),
        )

    def batch(self, epoch: int, chosen: NDArray[np.intp]) -> Batch:
        """As `AugmentedImages.batch`; may be called from several threads at once."""
        return self._pool.submit(_work, epoch, chosen).result()

    def close(self) -> None:
        self._pool.shutdown(cancel_futures=True)


def _by_file(values: NDArray[Any]) -> Any:
    """A memory-mapped cache is opened by each worker; sent to it, it would be copied whole."""
    return values.filename if isinstance(values, np.memmap) and values.filename is not None else values


_source: AugmentedImages


def _start_worker(arrays: Mapping[str, Any], source: AugmentedImages) -> None:
    global _source
    cv2.setNumThreads(1)
    opened = {name: v if isinstance(v, np.ndarray) else np.load(v, mmap_mode="r") for name, v in arrays.items()}
    _source = replace(source, pixels=opened.pop(""), truth=opened)


def _work(epoch: int, chosen: NDArray[np.intp]) -> Batch:
    return _source.batch(epoch, chosen)
