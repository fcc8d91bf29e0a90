"""What a bundle's engine says of pictures, and the maps with which it explains that."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import keras
import numpy as np
from numpy.typing import NDArray

from export.contract.keras_source import keras_predictions, load_source
from export.explanations.pictures import Picture
from keras_realmnet import RealMNet
from keras_realmnet.errors import RealMNetError
from keras_realmnet.models.layers.heads import ClassMaps
from keras_realmnet.models.map_offset import FOUND
from keras_realmnet.screening.bundle.bundle import Bundle
from keras_realmnet.screening.runtimes import open_runtime
from keras_realmnet.tasks.outputs import Labels
from keras_realmnet.tasks.task import Task
from training.runs import load_run

__all__ = ["SHOWN", "Found", "Network", "found_maps", "keras_answer", "keras_network", "other_maps"]

SHOWN = "class maps"  # what the bundle shows
BATCH = 16

# Images, uint8 (n, size, size, 3) → probabilities (n, labels) and maps (n, h', w', labels), float32.
Answer = Callable[[NDArray[np.uint8]], tuple[NDArray[np.float32], NDArray[np.float32]]]


@dataclass(frozen=True)
class Network:
    """The labels `codes` of the task's first output of labels with class maps, of which `pathologic` show lesions."""

    codes: tuple[str, ...]
    pathologic: tuple[str, ...]
    answer: Answer

    @classmethod
    def of_task(cls, task: Task, predict: Callable[[NDArray[np.uint8]], dict[str, NDArray[np.float32]]]) -> "Network":
        """Raises RealMNetError where no output of labels has class maps."""
        name = next((n for n, each in task.trained.items() if isinstance(each, Labels) and task.maps_of(n)), None)
        if name is None:
            raise RealMNetError(f"a bundle with class maps of labels expected. Received: {', '.join(task.outputs)}")
        maps, labels = str(task.maps_of(name)), task.trained[name].labels

        def answer(images: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
            predicted = predict(images)
            return predicted[name], predicted[maps]

        return cls(labels.codes, labels.pathologic, answer)

    @classmethod
    def of_bundle(cls, bundle: Bundle, artifact: str | None = None, threads: int | None = None) -> "Network":
        """What the box runs: an artifact of the bundle, by default its default one."""
        return cls.of_task(bundle.task, open_runtime(bundle, artifact, threads).predict)


@dataclass(frozen=True)
class Found:
    """A label that the network finds on a picture (p ≥ .5), and its maps by kind, `SHOWN` first, float32 (h', w')."""

    code: str
    probability: float
    picture: Picture
    maps: dict[str, NDArray[np.float32]] = field(repr=False)

    @property
    def shown(self) -> NDArray[np.float32]:
        return self.maps[SHOWN]

    @property
    def lesion(self) -> NDArray[np.bool_]:
        return self.picture.lesions[self.code]


def found_maps(network: Network, pictures: Sequence[Picture], others: dict[str, Answer] | None = None) -> list[Found]:
    """Every label that has a lesion on a picture and is found there.

    Args:
        others: kinds of maps beside `SHOWN`.
    """
    found = []
    for start in range(0, len(pictures), BATCH):
        batch = pictures[start : start + BATCH]
        squares = np.stack([picture.square for picture in batch])
        probabilities, maps = network.answer(squares)
        by_kind = {SHOWN: maps, **{kind: answer(squares)[1] for kind, answer in (others or {}).items()}}
        for i, picture in enumerate(batch):
            for code in picture.lesions:
                k = network.codes.index(code)
                if probabilities[i, k] >= FOUND:
                    of_label = {kind: of_kind[i, ..., k] for kind, of_kind in by_kind.items()}
                    found.append(Found(code, float(probabilities[i, k]), picture, of_label))
    return found


def keras_network(bundle: Bundle, run: Path | None = None) -> keras.Model | None:
    """The Keras model of the bundle: of its folder, or of the finished run it was made of; None where it has neither.

    Raises:
        RealMNetError: the file in the folder is another model's, or `run` is not the folder of a finished run.
    """
    if run is not None:
        return load_run(run)[0]
    return load_source(bundle) if bundle.source_file is not None else None


def other_maps(model: keras.Model | None) -> dict[str, Answer]:
    """The maps that a RealMNet does not show: not moved back by its own offset, and Grad-CAM++; none of another."""
    if not isinstance(model, RealMNet):
        return {}
    layers = {"not moved back": ClassMaps(model.head), "Grad-CAM++": ClassMaps(model.head, "grad_cam_plus_plus")}
    return {kind: _answer(model, layer) for kind, layer in layers.items()}


def _answer(model: RealMNet, layer: ClassMaps) -> Answer:
    explained = keras.Model(model.input, [model.output, layer(model.feature_map)])

    def answer(images: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        logits, maps = map(np.asarray, explained.predict_on_batch(images.astype(np.float32)))
        return 1 / (1 + np.exp(-logits)), maps

    return answer


def keras_answer(model: keras.Model, task: Task) -> Answer:
    """What the Keras model answers with the weights that it has when it is asked."""
    return Network.of_task(task, lambda images: keras_predictions(model, images, task)).answer
