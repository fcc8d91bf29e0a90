"""The Keras model that the artifacts of a bundle were made from, and what it gives for images."""

from pathlib import Path
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

import keras_realmnet.models.networks  # noqa: F401, registers the classes that a saved model names
from export.conversion.deployment import explained_output, gives, head_of
from keras_realmnet import RealMNet, compat
from keras_realmnet.errors import RealMNetError
from keras_realmnet.models.layers.heads import ClassMaps
from keras_realmnet.screening.bundle.bundle import SOURCE_FILE, Bundle
from keras_realmnet.screening.bundle.folder_change import sha256_of
from keras_realmnet.screening.engines.base import Prediction
from keras_realmnet.tasks.guidance import MAP_ACTIVATION
from keras_realmnet.tasks.outputs import Features, Maps
from keras_realmnet.tasks.task import Task

__all__ = ["keras_predictions", "load_realmnet", "load_source"]

PIXELS = 16 * 384**2  # that are computed at once


def load_source(bundle: Bundle, path: Path | None = None) -> keras.Model:
    """The Keras model the bundle was made from.

    Args:
        path: a copy of it, by default the one in the bundle's folder.

    Raises:
        RealMNetError: the bundle was stripped of it (a box does not need it), `path` is another model, or the model has
            not the outputs of the bundle's task.
    """
    if path is None:
        path = bundle.directory / (bundle.source_file or SOURCE_FILE)
    if not path.is_file():
        raise RealMNetError(
            f"{path}: no such file; the Keras model is needed, to which every artifact is compared. A bundle may be "
            "without it: then name a copy where the command takes --source"
        )
    expected, received = bundle.source_sha256, sha256_of(path)
    if received != expected:
        stated = "no model" if expected is None else f"SHA-256 {expected[:16]}…"
        raise RealMNetError(
            f"{path}: not the Keras model that {bundle.directory} was made from: {stated} is stated there. "
            f"Received: {received[:16]}…"
        )
    model = keras.saving.load_model(path)
    if isinstance(model, keras.Sequential) or not compat.is_functional(model):
        raise RealMNetError(f"{path}: a functional network expected. Received: {type(model).__name__}")
    given = _outputs(model, bundle.task)
    for name, output in bundle.task.trained.items():
        try:
            if name not in given:
                raise ValueError(f"it gives {', '.join(given)}")
            output.check_shape((1, *given[name].shape[1:]), bundle.task.outputs)
        except ValueError as error:
            raise RealMNetError(f"{path}: not a network of this task: {name}: {error}") from error
    return model


def load_realmnet(bundle: Bundle) -> RealMNet:
    """`load_source` for what is of RealMNets alone. Raises RealMNetError where the model is none."""
    model = load_source(bundle)
    if not isinstance(model, RealMNet):
        raise RealMNetError(f"{bundle.directory}: a RealMNet expected. Received: {type(model).__name__} {model.name}")
    return model


def keras_predictions(model: keras.Model, images: NDArray[np.uint8], task: Task | None = None) -> Prediction:
    """What the Keras model gives for `images`, uint8 (n, size, size, 3).

    Computed layer by layer, every map stays until the last: of large images fewer are computed at once.

    Args:
        task: what the model answers; `None`: labels with class maps, as a RealMNet does.
    """
    inference = model.inference_model() if task is None else _inference_model(model, task)
    batch_size = int(np.clip(PIXELS // images[0, ..., 0].size, 1, 16))
    outputs = [
        {name: keras.ops.convert_to_numpy(value) for name, value in inference(batch).items()}
        for batch in (images[i : i + batch_size].astype("float32") for i in range(0, len(images), batch_size))
    ]
    return {name: np.concatenate([output[name] for output in outputs]) for name in outputs[0]}


def _inference_model(model: keras.Model, task: Task) -> keras.Model:
    """`model`, sharing its weights, with the outputs of `task`: the network as it was trained, nothing folded."""
    given, outputs = _outputs(model, task), {}
    for name, output in task.outputs.items():
        if isinstance(output, Maps) and gives(model, name):
            outputs[name] = keras.layers.Activation(MAP_ACTIVATION, dtype="float32")(given[name])
        elif isinstance(output, Maps):
            offset = getattr(model, "map_offset", (0.0, 0.0))
            head = _head(model, output.of)
            outputs[name] = ClassMaps(head, offset=offset)(head.input)
        elif isinstance(output, Features):
            head = _head(model, explained_output(model, task))
            outputs[name] = keras.layers.GlobalAveragePooling2D(dtype="float32")(head.input)
        elif output.activation is None:
            outputs[name] = given[name]
        else:
            outputs[name] = keras.layers.Activation(output.activation, dtype="float32")(given[name])
    return keras.Model(model.input, outputs)


def _outputs(model: keras.Model, task: Task) -> dict[str, Any]:
    """What the model gives, by name; one tensor is the first output of the task."""
    return model.output if isinstance(model.output, dict) else {next(iter(task.trained)): model.output}


def _head(model: keras.Model, output: str | None) -> keras.Layer:
    head = None if output is None else head_of(model, output)
    if head is None:
        raise RealMNetError(f"{model.name}: no head computes {output!r}, of which the task asks for more")
    return head
