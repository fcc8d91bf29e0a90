"""Batches for Keras: NumPy and OpenCV only, the same on every backend.

What a batch holds depends on (seed, epoch, index) alone, never on the number of workers or on what ran before: a
resumed run sees exactly what the uninterrupted one would have seen. Threads fetch batches ahead of the model (OpenCV
and NumPy release the interpreter lock while they work); on machines with many cores worker processes augment.
"""

import os
from concurrent.futures import Future, ThreadPoolExecutor

import keras
import numpy as np

from training.datasets.image_set import ImageSet, resize_square
from training.input.augment_workers import AugmentedImages, WorkerPool
from training.input.augmentation import Augmentation, Targets, check_mixing, mix_batch
from training.input.windows import Windows

__all__ = ["EvaluationBatches", "TrainingBatches"]

LEAST_THREADS = 2


def _keras_fetches() -> bool:
    """Whether Keras may fetch ahead in threads of its own: on TensorFlow with one device.

    With one thread there, it leaves that to tf.data, whose tuning (AUTOTUNE) sleeps for up to a minute, and each
    epoch's end waits until it wakes: 30 s of 80 where an epoch took 50. Elsewhere, on PyTorch, JAX and several devices,
    it looks at the first batch before it begins, and gives what its threads had ready then, of the epoch before, as the
    first batches: there it gets one thread, which is none, and `TrainingBatches` fetches ahead itself.
    """
    if keras.backend.backend() != "tensorflow":
        return False
    import tensorflow

    return not tensorflow.distribute.has_strategy()


class TrainingBatches(keras.utils.PyDataset):
    """Shuffled, augmented batches: images float32 (batch, size, size, 3), 0-255, and their truth (batch, ...).

    The truth is as `data` has it, at `size` and moved as the images are: {output: truth}, or where `named` is False the
    truth of the only output. An incomplete last batch is left out (which images it would have held changes with every
    epoch's order). Of an output of which a teacher tells, `data.taught`, it is (batch, 2, classes): the truth and what
    the teacher says, which are mixed alike where images are.

    Args:
        data: what to draw from.
        size: side of the images in pixels.
        seed, epoch: where the order starts. Keras moves on to the next epoch after each, and once before the first.
        workers: threads that prepare batches ahead, at least two; `None`: all cores but one.
        processes: worker processes that augment for these threads; 0: the threads do it. To be closed by `close`.
        batches: of an epoch; `None`: as many as there are.
        share: (k, n): this is process k of n that train together; it gives its n-th part of every batch.
        named: whether the network's outputs have names.
        windows: that are cut out of the images, and are what is given, (batch, side, side, 3); `None`: whole images.

    Raises:
        ValueError: a batch larger than the data; several outputs without names; or MixUp or CutMix of what cannot be
            mixed.
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
        processes: int = 0,
        batches: int | None = None,
        share: tuple[int, int] = (0, 1),
        named: bool = False,
        windows: Windows | None = None,
    ):
        threads = max(LEAST_THREADS, workers or processes or (os.cpu_count() or 1) - 1)
        keras_fetches = _keras_fetches()
        super().__init__(workers=threads if keras_fetches else 1, max_queue_size=max(8, 2 * threads))
        if len(data) < batch_size:
            raise ValueError(f"batch_size must be at most the number of images, {len(data)}. Received: {batch_size}")
        if not named and len(data.task.trained) > 1:
            raise ValueError(f"a network without named outputs has one. Received: {', '.join(data.task.trained)}")
        check_mixing(data.task, augmentation)
        self.data, self.size, self.batch_size, self.named = data, size, batch_size, named
        self.augmentation, self.seed, self.epoch = augmentation, seed, epoch
        self.batches = len(data) // batch_size if batches is None else batches
        self.share = share
        source = AugmentedImages.of(data, size, augmentation, seed, windows)
        self._pool = WorkerPool(source, processes) if processes else None
        self._augmented = self._pool or source
        self._threads = None if keras_fetches else ThreadPoolExecutor(threads)
        self._ahead: dict[tuple[int, int], Future] = {}

    def __len__(self) -> int:
        return self.batches

    def on_epoch_end(self) -> None:
        self.epoch += 1

    def close(self) -> None:
        """Ends the threads and worker processes, if there are any."""
        if self._threads is not None:
            self._threads.shutdown(cancel_futures=True)
        if self._pool is not None:
            self._pool.close()

    def __getitem__(self, batch: int):
        if self._threads is None:
            return self._batch(self.epoch, batch)
        end = max(batch + 1, min(len(self), batch + self.max_queue_size))
        wanted = [(self.epoch, each) for each in range(batch, end)]
        self._ahead = {each: self._ahead.get(each) or self._threads.submit(self._batch, *each) for each in wanted}
        return self._ahead.pop(wanted[0]).result()

    def _batch(self, epoch: int, batch: int):
        # Separate streams: order of the epoch, each image, each batch.
        order = np.random.default_rng((self.seed, epoch, 0)).permutation(len(self.data))
        chosen = order[batch * self.batch_size : (batch + 1) * self.batch_size]
        process, processes = self.share
        chosen = np.array_split(chosen, processes)[process]
        pixels, moved = self._augmented.batch(epoch, chosen)
        images = pixels.astype(np.float32)
        truth: Targets = {
            name: moved[name] if name in moved else self.data.truth[name][chosen] for name in self.data.task.trained
        }
        taught = {name: np.stack([truth[name], said[chosen]], axis=1) for name, said in self.data.taught.items()}
        rng = np.random.default_rng((self.seed, epoch, 2, batch, *([process] if processes > 1 else [])))
        images, truth = mix_batch(images, {**truth, **taught}, rng, self.augmentation)
        return images, truth if self.named else next(iter(truth.values()))


class EvaluationBatches(keras.utils.PyDataset):
    """All images in their order, or a part of them, as they are: float32 (batch, size, size, 3), 0-255."""

    def __init__(self, data: ImageSet, size: int, batch_size: int, part: slice = slice(None)):
        super().__init__(workers=LEAST_THREADS if _keras_fetches() else 1, max_queue_size=2)
        self.data, self.size, self.batch_size = data, size, batch_size
        self.rows = range(len(data))[part]

    def __len__(self) -> int:
        return -(-len(self.rows) // self.batch_size)

    def __getitem__(self, batch: int):
        chosen = self.rows[batch * self.batch_size : (batch + 1) * self.batch_size]
        return (np.stack([resize_square(self.data.image(k), self.size) for k in chosen]).astype(np.float32),)
