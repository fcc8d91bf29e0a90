"""Trains a tiny network to its end in a process of its own, which tests may kill or starve.

Usage: tiny_run.py OUT [LARGEST_FILE]

Each step appends a line to OUT/steps.log. With LARGEST_FILE no file may grow beyond so many bytes, which is how a full
disk looks to the writer.
"""

import resource
import sys
from pathlib import Path

import keras
import numpy as np

from keras_realmnet.errors import RealMNetError
from keras_realmnet.tasks.task import PROBABILITIES
from training.datasets.found.palm import PalmDataSet
from training.datasets.image_set import ImageSet
from training.fitting.loop import train
from training.input.augmentation import Augmentation
from training.recipe import Phase, Recipe

TINY = Recipe(
    name="tiny",
    data=PalmDataSet(),
    preset="realmnet_5m_224",
    model_options={"embed_dims": (8, 8, 16, 16), "depths": (1, 1, 1, 1), "num_heads": (1, 1, 1, 1)},
    phases=(Phase(2, 64), Phase(1, 96)),
    batch_size=8,
    drop_path_rate=0.3,  # random: its generator's state must survive an interruption too
    learning_rate=1e-3,
    warmup_epochs=1,
    ema_momentum=0.9,
    augmentation=Augmentation(),
    validate_every=1,
)


def images(count=16, seed=0) -> ImageSet:
    rng = np.random.default_rng(seed)
    labels = np.eye(3, dtype=np.float32)[np.arange(count) % 3]
    pixels = rng.integers(0, 120, (count, 96, 96, 3)) + 120 * labels[:, None, None, :]  # the class is a colour
    names = tuple(map(str, range(count)))
    return ImageSet(pixels.astype(np.uint8), {PROBABILITIES: labels}, names, names, PalmDataSet().task, "0" * 64)


class Heartbeat(keras.callbacks.Callback):
    def __init__(self, path: Path):
        super().__init__()
        self.path = path

    def on_train_batch_end(self, batch, logs=None):
        with self.path.open("a") as file:
            file.write(f"{batch}\n")


def main(out: Path, largest_file: int | None = None) -> None:
    if keras.backend.backend() == "tensorflow":
        import tensorflow

        tensorflow.config.run_functions_eagerly(True)  # tracing a graph takes longer than these few steps
    out.mkdir(exist_ok=True)
    if largest_file is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (largest_file, largest_file))
    model = train(TINY, images(48), None, out, verbose=0, callbacks=[Heartbeat(out / "steps.log")])
    np.savez(out / "weights.npz", *model.get_weights())


if __name__ == "__main__":
    try:
        main(Path(sys.argv[1]), *map(int, sys.argv[2:]))
    except RealMNetError as error:
        sys.exit(str(error))
