"""How good a network is, in few and cheap figures: in history.csv after an epoch, and of kinds without other scores."""

from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from training.datasets.image_set import ImageSet
from training.runs import activated, answers
from training.tasks.figures import VALIDATION_LOSS, figure_column
from training.tasks.kinds import kind_of

__all__ = ["Losses", "figures_of"]

Losses = Mapping[str, tuple[keras.losses.Loss, float]]  # of each output, and how often it counts


def figures_of(
    model: keras.Model, data: ImageSet, batch_size: int, losses: Losses | None = None
) -> dict[str, float | None]:
    """The figures of all images by their columns, None where one does not exist; with `losses` also their mean."""
    outputs = data.task.trained
    cases: dict[str, list[Mapping[str, NDArray[Any]]]] = {name: [] for name in outputs}
    loss = 0.0
    for part, said in answers(model, data, batch_size):
        truth = {name: data.truth_of(name, part) for name in outputs}
        for name, output in outputs.items():
            predicted = activated(output, said[name])
            cases[name].append(kind_of(output).cases(output, truth[name], predicted))
        if losses is not None:
            for start in range(0, part.stop - part.start, batch_size):
                batch = slice(start, start + batch_size)
                loss += _sum_of_losses(data, truth, said, batch, model.image_size[0], losses)
    figures = {}
    for name, output in outputs.items():
        together = {key: np.concatenate([each[key] for each in cases[name]]) for key in cases[name][0]}
        for figure, value in kind_of(output).scores(output, together).items():
            figures[figure_column(data.task, name, figure)] = value
    return figures if losses is None else {**figures, VALIDATION_LOSS: loss / len(data)}


def _sum_of_losses(
    data: ImageSet,
    truth: Mapping[str, NDArray[Any]],
    said: Mapping[str, NDArray[Any]],
    batch: slice,
    size: int,
    losses: Losses,
) -> float:
    """Of the images of a batch: its loss, as in training, times their number."""
    total, images = 0.0, 0
    for name, (loss, weight) in losses.items():
        kind = kind_of(data.task.trained[name])
        y = np.stack([kind.resized(values, size) for values in truth[name][batch]])
        total, images = total + weight * float(loss(y, said[name][batch])), len(y)
    return total * images
