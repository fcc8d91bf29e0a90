"""Training on several devices of one machine, or on several machines: the batch is shared among them.

JAX: `keras.distribution.DataParallel`; the compiler sees one global batch, so that losses and BatchNorm statistics are
those of one device. On several machines start the same command on each, with KERAS_DISTRIBUTION_JOB_ADDRESSES,
KERAS_DISTRIBUTION_NUM_PROCESSES and KERAS_DISTRIBUTION_PROCESS_ID set (see `keras.distribution.initialize`).
TensorFlow: `tf.distribute.MirroredStrategy`; every device normalizes its own part of the batch, as the reference code
does with PyTorch. PyTorch: one device.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager

import keras

from keras_realmnet.errors import RealMNetError

__all__ = ["on_devices"]


@contextmanager
def on_devices(count: int | None, batch_size: int) -> Iterator[int]:
    """Whatever is built inside trains on `count` devices (None: Keras' own choice of one); gives their number.

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
        _enough(count, [device.name for device in found])
        with tf.distribute.MirroredStrategy([device.name for device in found[:count]]).scope():
            yield count
    else:
        raise RealMNetError(
            f"several devices need the backend jax or tensorflow. Received: {count} devices on {backend}"
        )


@contextmanager
def _jax_devices(count: int) -> Iterator[None]:
    if "KERAS_DISTRIBUTION_NUM_PROCESSES" in os.environ:
        keras.distribution.initialize()
    names = keras.distribution.list_devices()
    _enough(count, names)
    before = keras.distribution.distribution()
    keras.distribution.set_distribution(keras.distribution.DataParallel(devices=names[:count]))
    try:
        yield
    finally:
        keras.distribution.set_distribution(before)


def _enough(count: int, names: list[str]) -> None:
    if len(names) < count:
        raise RealMNetError(f"{count} devices were asked for; there are {len(names)}: {', '.join(names)}")
