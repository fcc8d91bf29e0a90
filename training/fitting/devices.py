"""Training on several devices of one machine, or on several machines: the batch is shared among them.

JAX: `keras.distribution.DataParallel`; the compiler sees one global batch, so that losses and BatchNorm statistics are
those of one device. On several machines the same command runs on each, with KERAS_DISTRIBUTION_JOB_ADDRESSES,
KERAS_DISTRIBUTION_NUM_PROCESSES and KERAS_DISTRIBUTION_PROCESS_ID set (see `keras.distribution.initialize`); each
augments its part of every batch and keeps a run folder of its own, all with the same weights.
TensorFlow: `tf.distribute.MirroredStrategy`; every device normalizes its own part of the batch, as the reference code
does with PyTorch. PyTorch: one device.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager

import keras

from keras_realmnet.errors import RealMNetError

__all__ = ["check_same_epoch", "on_devices", "process_share"]


@contextmanager
def on_devices(count: int | None, batch_size: int) -> Iterator[int]:
    """Whatever is built inside trains on `count` devices, those of all machines together; gives their number.

    None: on one, Keras' own choice.

    Raises:
        RealMNetError: the backend does not offer them, or they cannot share `batch_size` evenly.
    """
    if count is None or count == 1:
        yield 1
        return
    if batch_size % count:
        raise RealMNetError(f"batch_size {batch_size} cannot be shared evenly among {count} devices")
    backend = keras.backend.backend()
    if backend == "jax":
        with _jax_devices(count):
            yield count
    elif backend == "tensorflow":
        import tensorflow as tf

        found = tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("CPU")
        _check_enough(count, [device.name for device in found])
        with tf.distribute.MirroredStrategy([device.name for device in found[:count]]).scope():
            yield count
    else:
        raise RealMNetError(
            f"several devices need the backend jax or tensorflow. Received: {count} devices on {backend}"
        )


def process_share() -> tuple[int, int]:
    """Which of how many processes (machines) this is, within `on_devices`; (0, 1) where there is one."""
    if not _several_processes():
        return 0, 1
    import jax

    return jax.process_index(), jax.process_count()


def check_same_epoch(epoch: int) -> None:
    """Raises RealMNetError where the processes are not all at the same `epoch`, as after a crash of one of them."""
    if not _several_processes():
        return
    from jax.experimental.multihost_utils import process_allgather

    epochs = process_allgather(epoch).ravel().tolist()
    if len(set(epochs)) > 1:
        raise RealMNetError(
            f"the machines stopped after different epochs, {epochs}: copy one run folder to all of them and start again"
        )


def _several_processes() -> bool:
    return keras.backend.backend() == "jax" and int(os.environ.get("KERAS_DISTRIBUTION_NUM_PROCESSES", 1)) > 1


@contextmanager
def _jax_devices(count: int) -> Iterator[None]:
    if _several_processes():
        keras.distribution.initialize()
    names = keras.distribution.list_devices()
    _check_enough(count, names)
    before = keras.distribution.distribution()
    data_parallel = keras.distribution.DataParallel(devices=names[:count], auto_shard_dataset=False)
    keras.distribution.set_distribution(data_parallel)
    try:
        yield
    finally:
        keras.distribution.set_distribution(before)


def _check_enough(count: int, names: list[str]) -> None:
    if len(names) < count:
        raise RealMNetError(f"{count} devices were asked for; there are {len(names)}: {', '.join(names)}")
