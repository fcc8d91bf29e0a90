"""How good a network is, in few figures, as history.csv has them after an epoch; and what all scores need of images."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from keras_realmnet.errors import DataSetError
from keras_realmnet.tasks.outputs import Grades, Labels, Masks, Points
from training.datasets.image_set import ImageSet
from training.runs import activated, answers
from training.tasks.figures import VALIDATION_LOSS, figure_column
from training.tasks.kinds import kind_of

__all__ = ["Losses", "cases_of", "check_answered", "figures_of"]

Trained = Labels | Grades | Masks | Points
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
    answered: Mapping[str, Trained] | None = None,
) -> dict[str, dict[str, NDArray[Any]]]:
    """{output: what its scores need of all images}, see `training.tasks.kind.TrainedKind.cases`.

    `answered`: the network's outputs, where the data knows only some of them, or of their labels, or where thresholds
    of masks were chosen, by which these are then found; None: what the data knows.

    `also` is handed each part of the images: which they are, their truth, and what the network says before the
    activation.
    """
    outputs = data.task.trained
    cases: dict[str, list[Mapping[str, NDArray[Any]]]] = {name: [] for name in outputs}
    answered = answered or outputs
    for part, said in answers(model, data, batch_size):
        truth = {name: data.truth_of(name, part) for name in outputs}
        for name, output in outputs.items():
            values = _asked_for(output, answered[name], activated(answered[name], said[name]))
            asked = _with_thresholds_of(answered[name], output)
            cases[name].append(kind_of(output).cases(asked, truth[name], values))
        if also is not None:
            also(part, truth, said)
    return {
        name: {key: np.concatenate([each[key] for each in parts]) for key in parts[0]} for name, parts in cases.items()
    }


def check_answered(asked: Mapping[str, Trained], answered: Mapping[str, Trained]) -> None:
    """Raises DataSetError unless a network that answers `answered` answers all that is `asked`."""
    for name, output in asked.items():
        of_network = answered.get(name)
        codes = of_network.labels.codes if type(of_network) is type(output) and of_network is not None else ()
        alone = isinstance(output, Grades) or (isinstance(output, Masks) and output.exclusive)
        if not set(output.labels.codes) <= set(codes) or (alone and output.labels.codes != codes):
            asked_for, known = _in_words({name: output}), _in_words(answered)
            raise DataSetError(f"the data asks for {asked_for}; the network answers {known}")


def _in_words(outputs: Mapping[str, Trained]) -> str:
    return "; ".join(f"{name} ({each.kind} {', '.join(each.labels.codes)})" for name, each in outputs.items())


def _asked_for(asked: Trained, answered: Trained, values: NDArray[Any]) -> NDArray[Any]:
    """Of a network's values those of the labels that are asked for."""
    if asked.labels.codes == answered.labels.codes:
        return values
    columns = [answered.labels.codes.index(code) for code in asked.labels.codes]
    return values[:, columns] if isinstance(asked, Points) else values[..., columns]


def _with_thresholds_of(answered: Trained, asked: Trained) -> Trained:
    if not isinstance(answered, Masks) or not isinstance(asked, Masks):
        return asked
    return replace(asked, threshold=tuple(answered.thresholds[code] for code in asked.labels.codes))


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
