"""How good a network is, in few figures, as history.csv has them after an epoch; and what all scores need of images."""

from collections.abc import Callable, Mapping
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from training.datasets.image_set import ImageSet
from training.runs import activated, answers
from training.tasks.figures import VALIDATION_LOSS, figure_column
from training.tasks.kinds import kind_of

__all__ = ["Losses", "cases_of", "figures_of"]

Arrays = Mapping[str, NDArray[Any]]
Losses = Mapping[str, tuple[keras.losses.Loss, float]]  # of each output, and how often it counts


def figures_of(
    model: keras.Model, data: ImageSet, batch_size: int, losses: Losses | None = None
) -> dict[str, float | None]:
    """The figures of all images by their columns, None where one does not exist; with `losses` also their mean."""
    loss = 0.0

    def add_losses(part: slice, truth: Arrays, said: Arrays) -> None:
        nonlocal loss
        for start in range(0, part.stop - part.start, batch_size):
            batch = slice(start, start + batch_size)
            loss += _sum_of_losses(data, truth, said, batch, model.image_size[0], losses or {})

    figures = {}
    for name, cases in cases_of(model, data, batch_size, None if losses is None else add_losses).items():
        output = data.task.trained[name]
        for figure, value in kind_of(output).scores(output, cases).items():
            figures[figure_column(data.task, name, figure)] = value
    return figures if losses is None else {**figures, VALIDATION_LOSS: loss / len(data)}


def cases_of(
    model: keras.Model,
    data: ImageSet,
    batch_size: int,
    also: Callable[[slice, Arrays, Arrays], None] | None = None,
) -> dict[str, dict[str, NDArray[Any]]]:
    """{output: what its scores need of all images}, see `training.tasks.kind.TrainedKind.cases`.

    `also` is handed each part of the images: which they are, their truth, and what the network says before the
    activation.
    """
    outputs = data.task.trained
    cases: dict[str, list[Mapping[str, NDArray[Any]]]] = {name: [] for name in outputs}
    for part, said in answers(model, data, batch_size):
        truth = {name: data.truth_of(name, part) for name in outputs}
        for name, output in outputs.items():
            cases[name].append(kind_of(output).cases(output, truth[name], activated(output, said[name])))
        if also is not None:
            also(part, truth, said)
    return {
        name: {key: np.concatenate([each[key] for each in parts]) for key in parts[0]} for name, parts in cases.items()
    }


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
