"""`history.csv` of a run folder: what each epoch took and gave."""

import csv
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
from keras import ops

from keras_realmnet.presets import VESSEL_GAN_PRESETS
from keras_realmnet.tasks.task import Task
from training.recipe import Recipe
from training.tasks.figures import VALIDATION_LOSS, figure_columns

__all__ = ["History", "Rows", "history_columns", "history_path", "read_history"]

Rows = Sequence[Mapping[str, Any]]  # {column: value, or as the file has it}


def history_path(folder: Path) -> Path:
    return folder / "history.csv"


def history_columns(recipe: Recipe, task: Task) -> tuple[str, ...]:
    """Beside the weighted sum of the losses that of each output where there are several, and those of a GAN's networks
    against each other."""
    outputs = list(task.trained)
    each = [f"{name}_loss" for name in outputs] if len(outputs) > 1 else []
    each += ["adversarial_loss", "discriminator_loss"] if recipe.preset in VESSEL_GAN_PRESETS else []
    validation = [VALIDATION_LOSS] if recipe.validation_loss else []
    return ("epoch", "size", "seconds", "learning_rate", "loss", *each, *figure_columns(task), *validation)


def read_history(folder: Path, epochs: int) -> list[dict[str, Any]]:
    """The rows of the first `epochs` epochs; none where there is no file."""
    path = history_path(folder)
    if not path.is_file():
        return []
    with path.open(newline="") as file:
        return [row for row in csv.DictReader(file) if int(row["epoch"]) <= epochs]


class History(keras.callbacks.Callback):
    """Writes `history.csv`, one row per epoch; rows of epochs that a resumed run repeats are replaced."""

    def __init__(self, folder: Path, first_epoch: int, columns: Sequence[str]):
        super().__init__()
        self.path, self.columns = history_path(folder), columns
        self.rows = read_history(folder, first_epoch)

    def on_epoch_begin(self, epoch, logs=None):
        self.began = time.monotonic()

    def on_epoch_end(self, epoch, logs=None):
        logs = logs or {}
        seconds = round(time.monotonic() - self.began, 1)
        row = {"epoch": epoch + 1, "size": self.model.image_size[0], "seconds": seconds}
        row["learning_rate"] = float(ops.convert_to_numpy(self.model.optimizer.learning_rate))
        self.rows.append({**row, **{name: logs[name] for name in self.columns if name in logs and name not in row}})
        temporary = self.path.with_suffix(".tmp")
        with temporary.open("w", newline="") as file:
            writer = csv.DictWriter(file, self.columns)
            writer.writeheader()
            writer.writerows(self.rows)
        temporary.replace(self.path)
