"""What of a network an artifact gives, for the task that it answers."""

from dataclasses import replace
from typing import Any

import keras

from keras_realmnet import compat
from keras_realmnet.models.layers.heads import LinearHead, ResidualAttentionHead
from keras_realmnet.tasks.guidance import MAP_ACTIVATION
from keras_realmnet.tasks.outputs import Features, Grades, Labels, Maps
from keras_realmnet.tasks.task import CLASS_MAPS, FEATURES, Task

__all__ = ["deployment_of", "explained_output", "gives", "head_of", "maps_in_words", "with_class_maps"]


def deployment_of(model: keras.Model, task: Task) -> dict[str, Any]:
    """`activations`, `class_maps` and `features` of `keras_realmnet.deploy.graph.deploy_graph` for `model`.

    A network that explains an output by its head also gives the features it decides on, for other tools, where the task
    asks for none. What a RealMNet gives for labels is what `deploy_graph` gives by itself. Maps that are an end of the
    network, as those of a guided one, are given as that.
    """
    maps = {name: output.of for name, output in task.outputs.items() if isinstance(output, Maps)}
    own = [name for name in maps if gives(model, name)]
    class_maps = {name: of for name, of in maps.items() if name not in own}
    features = [name for name, output in task.outputs.items() if isinstance(output, Features)]
    if class_maps and not features and FEATURES not in task.outputs:
        features = [FEATURES]
    looked_at = next(iter(class_maps.values()), None) or explained_output(model, task)
    return {
        "activations": {
            **{name: output.activation for name, output in task.trained.items()},
            **dict.fromkeys(own, MAP_ACTIVATION),
        },
        "class_maps": class_maps,
        "features": dict.fromkeys(features, looked_at),
    }


def maps_in_words(model: keras.Model, task: Task) -> str | None:
    """What the maps of a task are; None where it has none."""
    names = [name for name, output in task.outputs.items() if isinstance(output, Maps)]
    if not names:
        return None
    return "activation map of the network" if gives(model, names[0]) else "Grad-CAM"


def gives(model: keras.Model, name: str) -> bool:
    """Whether an end of `model` is called `name`."""
    return isinstance(model.output, dict) and name in model.output


def head_of(model: keras.Model, output: str) -> keras.Layer | None:
    """The head that computes an output of `model` and can explain it; None where no such head does."""
    given = model.output
    tensor = given[output] if isinstance(given, dict) else given
    head = compat.operation_of(tensor)
    return head if isinstance(head, LinearHead | ResidualAttentionHead) else None


def explained_output(model: keras.Model, task: Task) -> str | None:
    """The first output of labels, else of grades, that `model` can explain; None where it can explain none."""
    for kind in (Labels, Grades):
        for name, output in task.trained.items():
            if isinstance(output, kind) and head_of(model, name) is not None:
                return name
    return None


def with_class_maps(model: keras.Model, task: Task) -> Task:
    """`task` with class maps where it has none and `model` can explain an output."""
    of = explained_output(model, task)
    if of is None or any(isinstance(output, Maps) for output in task.outputs.values()):
        return task
    outputs = {}
    for name, output in task.outputs.items():
        outputs[name] = output
        if name == of:
            outputs[CLASS_MAPS] = Maps(of=of)
    return replace(task, outputs=outputs)
