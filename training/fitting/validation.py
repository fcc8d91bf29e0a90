"""How good the network is on the validation images, after an epoch, in the columns of history.csv."""

from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from keras_realmnet.tasks.task import Task
from training.datasets.image_set import ImageSet
from training.runs import activated, answers
from training.tasks.kinds import kind_of

__all__ = ["figure_columns", "validation_figures"]


def figure_columns(task: Task) -> dict[str, bool]:
    """{column: whether more is better} of the figures: "val_dice", of several outputs "val_disc_dice"."""
    return {
        _column(task, name, figure): more
        for name, output in task.trained.items()
        for figure, more in kind_of(output).figures.items()
    }


def _column(task: Task, output: str, figure: str) -> str:
    return f"val_{figure}" if len(task.trained) == 1 else f"val_{output}_{figure}"


def validation_figures(model: keras.Model, data: ImageSet, batch_size: int) -> dict[str, float | None]:
    """The figures of all images by their columns; None where one does not exist."""
    outputs = data.task.trained
    cases: dict[str, list[Mapping[str, NDArray[Any]]]] = {name: [] for name in outputs}
    for part, said in answers(model, data, batch_size):
        for name, output in outputs.items():
            predicted = activated(output, said[name])
            cases[name].append(kind_of(output).cases(output, data.truth_of(name, part), predicted))
    figures = {}
    for name, output in outputs.items():
        together = {key: np.concatenate([each[key] for each in cases[name]]) for key in cases[name][0]}
        for figure, value in kind_of(output).scores(output, together).items():
            figures[_column(data.task, name, figure)] = value
    return figures
