"""Weights and optimizer on the disk, whole or not at all; and the same network at another size."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import ops
from numpy.typing import NDArray

from keras_realmnet import compat
from keras_realmnet.errors import RealMNetError
from keras_realmnet.weights import transfer_weights
from training.fitting.start import compile_model, initial_model
from training.recipe import Recipe
from training.runs import build_model

__all__ = [
    "SaveCheckpoint",
    "averaged",
    "checkpoint_path",
    "copied_values",
    "last_epoch",
    "move_to_size",
    "restore",
    "save_whole",
    "use_averages",
]


def copied_values(variables: list[keras.Variable]) -> list[NDArray[Any]]:
    """Each variable's value as an array of its own, which later steps do not change."""
    return [np.array(ops.convert_to_numpy(variable)) for variable in variables]


def use_averages(model: keras.Model) -> None:
    """Puts the averaged weights in the place of the last step's, where the optimizer keeps averages.

    By copies: the optimizer's own method would share JAX buffers, which the next compiled step gives away.
    """
    if model.optimizer.use_ema:
        averages = copied_values(compat.averages(model.optimizer))
        for variable, average in zip(model.trainable_variables, averages, strict=True):
            variable.assign(average)


@contextmanager
def averaged(model: keras.Model) -> Iterator[None]:
    """`use_averages` for as long as it is entered; the last step's weights come back."""
    weights = copied_values(model.trainable_variables)
    use_averages(model)
    yield
    for variable, value in zip(model.trainable_variables, weights, strict=True):
        variable.assign(value)


def checkpoint_path(folder: Path, epoch: int) -> Path:
    """Weights and optimizer after `epoch` epochs."""
    return folder / f"checkpoint-{epoch:04d}.weights.h5"


def last_epoch(folder: Path) -> int:
    """How many epochs the newest checkpoint has behind it; 0 without one."""
    return max((int(path.name[11:15]) for path in folder.glob("checkpoint-????.weights.h5")), default=0)


def save_whole(model: keras.Model, path: Path) -> None:
    """Writes under another name, forces it to the disk, then renames: `path` is whole or as it was before.

    Raises:
        RealMNetError: it cannot be written, as on a full disk.
    """
    content = compat.weights_file(model)  # HDF5 itself crashes the process when its disk is full
    temporary = path.with_name("unfinished.weights.h5")
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        folder = os.open(path.parent, os.O_RDONLY)  # the rename, too
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise RealMNetError(
            f"{path} could not be written ({error.strerror}); with room on the disk the same command goes on from the "
            "last checkpoint"
        ) from error


class SaveCheckpoint(keras.callbacks.Callback):
    """A checkpoint after each epoch, in the place of the one before."""

    def __init__(self, folder: Path):
        super().__init__()
        self.folder = folder

    def on_epoch_end(self, epoch, logs=None):
        save_whole(self.model, checkpoint_path(self.folder, epoch + 1))
        for path in self.folder.glob("checkpoint-????.weights.h5"):
            if path != checkpoint_path(self.folder, epoch + 1):
                path.unlink()


def restore(recipe: Recipe, folder: Path, epoch: int, steps_per_epoch: int) -> keras.Model:
    """The compiled model as it was after `epoch` epochs, at the size of the phase it ended in."""
    size = recipe.trained_size(recipe.phase_of(max(0, epoch - 1))[0].size)
    model = build_model(recipe, size) if epoch else initial_model(recipe, size)
    compile_model(model, recipe, steps_per_epoch)
    if epoch:
        model.load_weights(checkpoint_path(folder, epoch))
    return model


def move_to_size(model: keras.Model, recipe: Recipe, size: int, steps_per_epoch: int) -> keras.Model:
    """`model` rebuilt for another input size, with its optimizer: step count and moments move too.

    Whatever belongs to an attention-bias table is resized like the table itself. Averages of the weights start anew
    from the moved weights: averages over two sizes, with the BatchNorm statistics of one, fit neither.
    """
    moved = compile_model(build_model(recipe, size), recipe, steps_per_epoch)
    weights = model.get_weights()
    old, new = model.optimizer, moved.optimizer
    for sources, targets in zip(compat.moments(old), compat.moments(new), strict=True):
        for variable, source in zip(model.trainable_variables, sources, strict=True):
            variable.assign(source)
        transfer_weights(model, moved)
        for source, target, variable in zip(sources, targets, moved.trainable_variables, strict=True):
            value, old_value = ops.convert_to_numpy(variable), ops.convert_to_numpy(source)
            # Bicubic interpolation overshoots; a second moment must not become negative or vanish.
            target.assign(np.clip(value, old_value.min(), old_value.max()))
    compat.step_count(new).assign(compat.step_count(old))
    model.set_weights(weights)
    transfer_weights(model, moved)
    if recipe.ema_momentum is not None:
        for average, variable in zip(compat.averages(new), moved.trainable_variables, strict=True):
            average.assign(np.array(ops.convert_to_numpy(variable)))  # a copy: JAX gives buffers away, each once
    return moved
