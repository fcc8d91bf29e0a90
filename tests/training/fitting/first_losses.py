"""Prints the losses of the first steps of a small RealMNet as JSON; run by tests in processes of their own.

Usage: first_losses.py STEPS DEVICES ACCUMULATE

Weights, data and order are the same on every backend: all come from NumPy. Dropping paths and augmentation are off.
"""

import json
import sys
from dataclasses import replace

import keras
import numpy as np

from keras_realmnet.tasks.task import PROBABILITIES
from training.datasets.image_set import ImageSet
from training.datasets.made.phantom import PhantomDataSet
from training.fitting.devices import on_devices, process_share
from training.fitting.start import compile_model
from training.input.augmentation import Augmentation
from training.input.input_pipeline import TrainingBatches
from training.recipe import Phase, Recipe
from training.runs import build_model

RECIPE = Recipe(
    name="first_losses",
    preset="realmnet_5m_224",
    model_options={"embed_dims": (8, 16, 16, 16), "depths": (1, 1, 1, 1), "num_heads": (1, 1, 1, 1)},
    phases=(Phase(2, 64),),
    batch_size=8,
    drop_path_rate=0.0,
    learning_rate=1e-3,
    warmup_epochs=1,
    augmentation=Augmentation.none(),
)


def images(count: int = 96) -> ImageSet:
    rng = np.random.default_rng(0)
    labels = np.zeros((count, 7), np.float32)
    labels[np.arange(count), rng.integers(0, 2, count)] = 1
    labels[np.arange(count), 2 + rng.integers(0, 5, count)] = 1
    pixels = rng.integers(0, 160, (count, 64, 64, 3)) + 80 * labels[:, None, None, 1:4]  # a class is a colour
    names = tuple(map(str, range(count)))
    return ImageSet(pixels.astype(np.uint8), {PROBABILITIES: labels}, names, names, PhantomDataSet().task, "0" * 64)


def new_model(recipe: Recipe, steps_per_epoch: int) -> keras.Model:
    model = compile_model(build_model(recipe, 64), recipe, steps_per_epoch)
    rng = np.random.default_rng(1)
    for variable in model.trainable_variables:
        if variable.name in ("kernel", "attention_biases"):
            fan_in = int(np.prod(variable.shape[:-1]))
            variable.assign(rng.normal(0, fan_in**-0.5, variable.shape).astype(np.float32))
    return model


def halves() -> list[float]:
    """The losses of the two halves of the first batch, each normalized by itself, before any step."""
    data = images()
    model = new_model(RECIPE, 1)
    x, y = TrainingBatches(data, 64, RECIPE.batch_size, RECIPE.augmentation, RECIPE.seed, epoch=1)[0]  # Keras' first
    half = len(x) // 2
    parts = ((x[:half], y[:half]), (x[half:], y[half:]))
    return [float(keras.ops.convert_to_numpy(model.loss(labels, model(part, training=True)))) for part, labels in parts]


def main(steps: int, devices: int, accumulate: int) -> list[float]:
    recipe = replace(RECIPE, accumulate=accumulate)
    data = images()
    with on_devices(devices, recipe.batch_size):
        model = new_model(recipe, len(data) // recipe.batch_size)
        losses: list[float] = []

        class Record(keras.callbacks.Callback):
            """Keras logs the mean since the epoch began; the loss of a step is the difference of two sums."""

            def on_epoch_begin(self, epoch, logs=None):
                self.total = 0.0

            def on_train_batch_end(self, batch, logs=None):
                total = float(logs["loss"]) * (batch + 1)
                losses.append(total - self.total)
                self.total = total

        batches = TrainingBatches(data, 64, recipe.batch_size, recipe.augmentation, recipe.seed, share=process_share())
        model.fit(batches, epochs=-(-steps // len(batches)), shuffle=False, verbose=0, callbacks=[Record()])
    return losses[:steps]


if __name__ == "__main__":
    print(json.dumps(main(*map(int, sys.argv[1:]))))
