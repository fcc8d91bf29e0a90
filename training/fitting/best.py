"""Keeping the best epoch instead of the last; what happens when there is no gain. All follows from history.csv alone.

So a run that was killed goes on as if it had not been. Only epochs of the last phase count: at another size figures are
others. Of equal epochs the earliest is the best.
"""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import keras

from keras_realmnet.tasks.task import Task
from training.fitting.checkpoints import averaged, save_whole
from training.fitting.history import History, Rows
from training.recipe import Recipe
from training.tasks.figures import VALIDATION_LOSS, figure_columns

__all__ = ["KeepBest", "best_epoch", "best_path", "drops", "rate_after", "stops"]

PATTERN = "best-????.weights.h5"


def best_path(folder: Path, epoch: int) -> Path:
    """The weights, averaged where the recipe averages, after `epoch` epochs."""
    return folder / f"best-{epoch:04d}.weights.h5"


def best_epoch(rows: Rows, recipe: Recipe, task: Task) -> int | None:
    """The number of epochs, from 1, after which the column that `recipe` keeps by was best; None where it never was."""
    gains = _gains(rows, recipe, task)
    return max((epoch for epoch, gained in gains.items() if gained), default=None)


def stops(rows: Rows, recipe: Recipe, task: Task) -> bool:
    """Whether as many validations in a row as `recipe` has patience for brought no gain."""
    best = best_epoch(rows, recipe, task)
    if recipe.patience is None or best is None:
        return False
    return sum(epoch > best for epoch in _gains(rows, recipe, task)) >= recipe.patience


def drops(rows: Rows, recipe: Recipe, task: Task) -> int:
    """How often the learning rate has fallen: each time that `drop_after` validations in a row brought no gain.

    After a fall they are counted anew.
    """
    if recipe.drop_after is None:
        return 0
    fallen = without = 0
    for gained in _gains(rows, recipe, task).values():
        without = 0 if gained else without + 1
        if without == recipe.drop_after:
            fallen, without = fallen + 1, 0
    return fallen


def rate_after(fallen: int, recipe: Recipe) -> float:
    """The learning rate after `fallen` falls, each to a tenth.

    Where the next one would be below `restart_below` it is the recipe's again: from 0.01, with 0.0005 as the least, the
    rates are 0.01, 0.001, 0.01, 0.001 and so on.

    Source: Son, MICCAI 2020 (REFUGE2 technical report).
    """
    rate = recipe.learning_rate
    for _ in range(fallen):
        rate /= 10
        # What rounding leaves is no fall below it.
        if recipe.restart_below is not None and rate < recipe.restart_below * (1 - 1e-9):
            rate = recipe.learning_rate
    return rate


def _gains(rows: Rows, recipe: Recipe, task: Task) -> dict[int, bool]:
    """{epochs done: whether the column was better than ever before} of the last phase's epochs that were validated."""
    if recipe.keep is None:
        return {}
    begin = recipe.epochs - recipe.phases[-1].epochs
    sign = 1 if {**figure_columns(task), VALIDATION_LOSS: False}[recipe.keep] else -1
    found, best = {}, -math.inf
    for row in rows:
        epoch, value = int(row["epoch"]), row.get(recipe.keep)
        if epoch > begin and value not in (None, ""):
            found[epoch] = sign * float(value) > best
            best = max(best, sign * float(value))
    return found


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
