"""Keeping the best epoch instead of the last, and stopping when there is no gain: both follow from history.csv alone.

So a run that was killed goes on as if it had not been. Only epochs of the last phase count: at another size figures are
others. Of equal epochs the earliest is the best.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import keras

from keras_realmnet.tasks.task import Task
from training.fitting.checkpoints import averaged, save_whole
from training.fitting.history import History, Rows
from training.recipe import Recipe
from training.tasks.figures import VALIDATION_LOSS, figure_columns

__all__ = ["KeepBest", "best_epoch", "best_path", "stops"]

PATTERN = "best-????.weights.h5"


def best_path(folder: Path, epoch: int) -> Path:
    """The weights, averaged where the recipe averages, after `epoch` epochs."""
    return folder / f"best-{epoch:04d}.weights.h5"


def best_epoch(rows: Rows, recipe: Recipe, task: Task) -> int | None:
    """The number of epochs, from 1, after which the column that `recipe` keeps by was best; None where it never was."""
    epochs = _judged(rows, recipe)
    more = {**figure_columns(task), VALIDATION_LOSS: False}
    if not epochs or recipe.keep is None:
        return None
    return (max if more[recipe.keep] else min)(epochs, key=lambda epoch: epochs[epoch])  # the first of equal ones


def stops(rows: Rows, recipe: Recipe, task: Task) -> bool:
    """Whether as many validations in a row as `recipe` has patience for brought no gain."""
    best = best_epoch(rows, recipe, task)
    if recipe.patience is None or best is None:
        return False
    return sum(epoch > best for epoch in _judged(rows, recipe)) >= recipe.patience


def _judged(rows: Rows, recipe: Recipe) -> dict[int, float]:
    """{epochs done: value of the column} of the last phase's epochs that were validated."""
    begin = recipe.epochs - recipe.phases[-1].epochs
    values = {int(row["epoch"]): row.get(recipe.keep or "") for row in rows}
    return {epoch: float(value) for epoch, value in values.items() if epoch > begin and value not in (None, "")}


class KeepBest(keras.callbacks.Callback):
    """Keeps the weights of the best epoch so far beside the checkpoint, and stops where there is no gain.

    After the history of an epoch and before its checkpoint. An older best is deleted when the checkpoint of the newer
    one is written: whenever the run is killed, the weights of the best epoch up to the checkpoint are there.
    """

    def __init__(self, folder: Path, recipe: Recipe, task: Task, history: History):
        super().__init__()
        self.folder, self.recipe, self.task, self.history = folder, recipe, task, history

    def on_epoch_begin(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        best = best_epoch(self.history.rows, self.recipe, self.task)
        for path in self.folder.glob(PATTERN):
            if best is None or path != best_path(self.folder, best):
                path.unlink()

    def on_epoch_end(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        rows: Sequence[Mapping[str, Any]] = self.history.rows
        if best_epoch(rows, self.recipe, self.task) == epoch + 1:
            with averaged(self.model):
                save_whole(self.model, best_path(self.folder, epoch + 1))
        if stops(rows, self.recipe, self.task):
            print(f"epoch {epoch + 1}: {self.recipe.patience} validations without a gain of {self.recipe.keep}")
            self.model.stop_training = True
