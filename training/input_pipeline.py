"""Batches for Keras: NumPy and OpenCV only, the same on every backend.

What a batch holds depends on (seed, epoch, index) alone, never on the number of workers or on what ran before: a
resumed run sees exactly what the uninterrupted one would have seen. Workers are threads; OpenCV and NumPy release the
interpreter lock while they work.
"""

import os

import cv2
import keras
import numpy as np

from training.augmentation import Augmentation, augment, mix_batch
from training.datasets import ImageSet

__all__ = ["EvaluationBatches", "TrainingBatches", "resize_square"]


def resize_square(image, size):
    """uint8 (s, s, 3) → (size, size, 3); an image of that size is returned as it is."""
    if image.shape[0] == size:
        return image
    interpolation = cv2.INTER_AREA if image.shape[0] > size else cv2.INTER_LINEAR
    return cv2.resize(image, (size, size), interpolation=interpolation)


class TrainingBatches(keras.utils.PyDataset):
    """Shuffled, augmented batches: images float32 (batch, size, size, 3), 0-255, and labels float32 (batch, classes).

    An incomplete last batch is left out (which images it would have held changes with every epoch's order).

    Args:
        data: what to draw from; its labels must all be known.
        size: side of the images in pixels.
        seed, epoch: of the first epoch; Keras moves on to the next after each.
    """

    def __init__(
        self,
        data: ImageSet,
        size: int,
        batch_size: int,
        augmentation: Augmentation,
        seed: int,
        epoch: int = 0,
        workers: int | None = None,
    ):
        super().__init__(workers=workers or max(1, (os.cpu_count() or 1) - 1), max_queue_size=8)
        if len(data) < batch_size:
            raise ValueError(f"batch_size must be at most the number of images, {len(data)}. Received: {batch_size}")
        self.data, self.size, self.batch_size = data, size, batch_size
        self.augmentation, self.seed, self.epoch = augmentation, seed, epoch

    def __len__(self) -> int:
        return len(self.data) // self.batch_size

    def on_epoch_end(self) -> None:
        self.epoch += 1

    def __getitem__(self, batch: int):
        # Separate streams: order of the epoch, each image, each batch.
        order = np.random.default_rng((self.seed, self.epoch, 0)).permutation(len(self.data))
        chosen = order[batch * self.batch_size : (batch + 1) * self.batch_size]
        images = np.empty((len(chosen), self.size, self.size, 3), np.float32)
        for row, index in enumerate(chosen):
            rng = np.random.default_rng((self.seed, self.epoch, 1, int(index)))
            images[row] = augment(resize_square(self.data.images[index], self.size), rng, self.augmentation)
        rng = np.random.default_rng((self.seed, self.epoch, 2, batch))
        return mix_batch(images, self.data.labels[chosen], rng, self.augmentation)


class EvaluationBatches(keras.utils.PyDataset):
    """All images in their order, as they are: float32 (batch, size, size, 3), 0-255."""

    def __init__(self, data: ImageSet, size: int, batch_size: int):
        super().__init__()
        self.data, self.size, self.batch_size = data, size, batch_size

    def __len__(self) -> int:
        return -(-len(self.data) // self.batch_size)

    def __getitem__(self, batch: int):
        images = self.data.images[batch * self.batch_size : (batch + 1) * self.batch_size]
        return (np.stack([resize_square(image, self.size) for image in images]).astype(np.float32),)
