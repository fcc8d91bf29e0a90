"""Augmented images, computed here or in worker processes: the part of the input pipeline that costs time.

No Keras: a worker process starts in a fraction of a second and stays small. What an image becomes depends on
(seed, epoch, index) alone, so that the number of workers changes nothing but the speed.
"""

import multiprocessing
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from training.datasets.image_set import ImageSet, resize_square
from training.input.augmentation import Augmentation, augment

__all__ = ["AugmentedImages", "WorkerPool"]


@dataclass(frozen=True)
class AugmentedImages:
    """The images of a set, resized to `size` and augmented by `settings`; a new draw every epoch."""

    pixels: NDArray[np.uint8]  # as in ImageSet
    rows: NDArray[np.intp]
    size: int
    settings: Augmentation
    seed: int

    @classmethod
    def of(cls, data: ImageSet, size: int, settings: Augmentation, seed: int) -> "AugmentedImages":
        return cls(data.pixels, data.rows, size, settings, seed)

    def batch(self, epoch: int, chosen: Sequence[int] | NDArray[np.intp]) -> NDArray[np.uint8]:
        """The images at the indices `chosen`, uint8 (n, size, size, 3)."""
        images = np.empty((len(chosen), self.size, self.size, 3), np.uint8)
        for k, index in enumerate(chosen):
            rng = np.random.default_rng((self.seed, epoch, 1, int(index)))
            images[k] = augment(resize_square(self.pixels[self.rows[index]], self.size), rng, self.settings)
        return images


class WorkerPool:
    """`processes` worker processes that answer `batch` as `AugmentedImages` does; to be closed."""

    def __init__(self, source: AugmentedImages, processes: int):
        pixels = source.pixels
        # A memory-mapped cache is opened by each worker; sent to it, it would be copied whole.
        where = pixels.filename if isinstance(pixels, np.memmap) and pixels.filename is not None else pixels
        self._pool = ProcessPoolExecutor(
            processes,
            mp_context=multiprocessing.get_context("spawn"),  # a process with TensorFlow's threads cannot be forked
            initializer=_start_worker,
            initargs=(where, source.rows, source.size, source.settings, source.seed),
        )

    def batch(self, epoch: int, chosen: NDArray[np.intp]) -> NDArray[np.uint8]:
        """As `AugmentedImages.batch`; may be called from several threads at once."""
        return self._pool.submit(_work, epoch, chosen).result()

    def close(self) -> None:
        self._pool.shutdown(cancel_futures=True)


_source: AugmentedImages


def _start_worker(where: str | NDArray[np.uint8], rows: NDArray[np.intp], size: int, settings: Augmentation, seed: int):
    global _source
    cv2.setNumThreads(1)
    pixels = where if isinstance(where, np.ndarray) else np.load(where, mmap_mode="r")
    _source = AugmentedImages(pixels, rows, size, settings, seed)


def _work(epoch: int, chosen: NDArray[np.intp]) -> NDArray[np.uint8]:
    return _source.batch(epoch, chosen)
