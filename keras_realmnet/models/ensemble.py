"""Several networks of the same answers as one: the mean of what they say."""

import math

import keras
from keras import layers, ops

from keras_realmnet.models.network import Network, precision

__all__ = ["Ensemble", "MeanProbability", "ensemble_network"]


@keras.saving.register_keras_serializable("keras_realmnet")
class MeanProbability(layers.Layer):
    """Logits of n networks, a list of (…) each → the logits (…) of their mean probability; it computes in float32.

    `of`: what makes probabilities of each network's logits, "sigmoid" or, over the last axis, "softmax". With the mean
    p that is log(p / (1 − p)) or log p, by way of logarithms, which keep small and large probabilities apart: of the
    logits 40 and 0 the mean is .75, its logit log 3.
    """

    def __init__(self, of, **kwargs):
        super().__init__(**{"dtype": "float32", **kwargs})
        if of not in ("sigmoid", "softmax"):
            raise ValueError(f"of must be sigmoid or softmax. Received: {of!r}")
        self.of = of

    def call(self, logits):
        x = ops.stack(logits, axis=0)
        if self.of == "softmax":
            return ops.logsumexp(ops.log_softmax(x, axis=-1), axis=0) - math.log(len(logits))
        return ops.logsumexp(ops.log_sigmoid(x), axis=0) - ops.logsumexp(ops.log_sigmoid(-x), axis=0)

    def compute_output_shape(self, input_shape):
        return tuple(input_shape[0])

    def get_config(self):
        return {**super().get_config(), "of": self.of}


@keras.saving.register_keras_serializable("keras_realmnet")
class Ensemble(Network):
    """What `ensemble_network` makes."""


def ensemble_network(members, activations, name="ensemble"):
    """The mean of several networks: of their probabilities where an output has an activation, else of their values.

    Parts that several have, as a frozen network with the same weights, are one in the deployed network.

    Args:
        members: functional networks with the same input, images (batch, h, w, 3) → {output: …} or one tensor, each
            with the same outputs but for auxiliary ends. They are parts of the ensemble, and do not train any more.
        activations: {output: "sigmoid", "softmax", or `None` for values that are averaged as they are}.
        name: of the model.

    Returns:
        An `Ensemble`: images → {output: logits of the mean probability, or mean values}, float32.

    Raises:
        ValueError: fewer than two members.
    """
    if len(members) < 2:
        raise ValueError(f"an ensemble has at least two members. Received: {len(members)}")
    with precision("float32"):
        images = keras.Input(members[0].input_shape[1:], name="images")
        said = []
        for number, member in enumerate(members, 1):
            given = member.output if isinstance(member.output, dict) else dict.fromkeys(activations, member.output)
            part = Network(member.input, {key: given[key] for key in activations}, name=f"member{number}")
            part.trainable = False
            said.append(part(images))
        ends = {}
        for key, activation in activations.items():
            mean = layers.Average(name=key) if activation is None else MeanProbability(activation, name=key)
            ends[key] = mean([each[key] for each in said])
        return Ensemble(images, ends, name=name)
