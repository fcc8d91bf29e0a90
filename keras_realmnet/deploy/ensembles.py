"""What only the networks of ensembles have: parts that are there several times, and means of probabilities."""

import hashlib
import json
from collections.abc import Mapping

import numpy as np
from keras import layers

from keras_realmnet.deploy.settings import refuse
from keras_realmnet.deploy.steps import Step, Steps
from keras_realmnet.models.ensemble import MeanProbability

__all__ = ["average_probabilities", "merge_copies"]

OF_ONE = ("name", "trainable", "dtype")  # settings in which copies may differ


def merge_copies(network: Steps) -> None:
    """Leaves of steps that do the same, with the same weights, to the same input the first one, changing `network`.

    So a frozen network that several members have is there once, with all that follows from it alone.
    """
    known: dict[tuple, Step] = {}
    for step in list(network.steps):
        first = known.setdefault(_what_it_does(step), step)
        if first is not step:
            network.put(first, step)


def _what_it_does(step: Step) -> tuple:
    settings = {name: value for name, value in step.layer.get_config().items() if name not in OF_ONE}
    digest = hashlib.sha256()
    for values in step.weights:
        digest.update(np.ascontiguousarray(values).tobytes())
    config = json.dumps([settings, step.changes], sort_keys=True, default=repr)
    return step.kind, config, digest.digest(), step.shape, tuple(map(id, step.inputs))


def average_probabilities(network: Steps, activations: Mapping[str, str | None]) -> dict[str, str | None]:
    """Puts the mean of the members' probabilities in the place of the logits of that mean, changing `network`.

    Returns:
        `activations`, with `None` for the outputs that now are probabilities.

    Raises:
        RealMNetError: another activation than that of the mean is asked for.
    """
    found, taken = dict(activations), {step.name for step in network.steps}
    for name, step in network.outputs.items():
        if step.kind is not MeanProbability:
            continue
        if activations[name] != step.layer.of:
            refuse(step.layer, f"{step.layer.of} expected for {name!r}. Received: {activations[name]!r}")
        said = []
        for number, x in enumerate(step.inputs, 1):
            layer = layers.Activation(step.layer.of, name=_free(f"{step.name}_member{number}", taken))
            said.append(Step(layer, layer.name, [x], x.shape))
        mean = layers.Average(name=_free(f"{step.name}_mean", taken))
        at = network.steps.index(step)
        network.steps[at:at] = [*said, average := Step(mean, mean.name, said, step.shape, many=True)]
        network.put(average, step)
        found[name] = None
    return found


def _free(name: str, taken: set[str]) -> str:
    while name in taken:
        name += "_"
    taken.add(name)
    return name
