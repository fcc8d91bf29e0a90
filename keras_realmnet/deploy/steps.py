"""A trained network as a list of steps, each one layer at one place: without nesting, and without training's layers."""

from dataclasses import dataclass, field
from typing import Any

import keras
import numpy as np
from keras import layers

from keras_realmnet import compat
from keras_realmnet.deploy.settings import expect, expect_last_axis, refuse
from keras_realmnet.errors import RealMNetError
from keras_realmnet.models.edge import SoftArgmax
from keras_realmnet.models.ensemble import MeanProbability
from keras_realmnet.models.layers.batch_norm import BatchNormalization
from keras_realmnet.models.layers.heads import LinearHead, ResidualAttentionHead
from keras_realmnet.models.layers.offset_maps import OffsetPeaks
from keras_realmnet.models.refuge.pictures import ChannelStandardization, Resized, ZeroLocalMean
from keras_realmnet.models.tiny_vit import WindowAttention, exact_gelu

__all__ = ["CONVOLUTIONS", "HEADS", "Step", "Steps", "steps_of"]

CONVOLUTIONS = (layers.Conv2D, layers.DepthwiseConv2D, layers.Conv2DTranspose)
HEADS = (LinearHead, ResidualAttentionHead)

# What a deploy graph may be made of; a layer of another class, also one derived from these, is refused by name.
KNOWN = (
    *CONVOLUTIONS,
    *HEADS,
    *(SoftArgmax, OffsetPeaks, ChannelStandardization, Resized, ZeroLocalMean, MeanProbability),
    *(layers.Dense, layers.ZeroPadding2D, layers.Cropping2D),
    *(layers.MaxPooling2D, layers.AveragePooling2D, layers.GlobalMaxPooling2D, layers.GlobalAveragePooling2D),
    *(layers.UpSampling2D, layers.Resizing, layers.Reshape, layers.Flatten),
    *(layers.Activation, layers.ReLU, layers.LeakyReLU, layers.Softmax),
    *(layers.Add, layers.Subtract, layers.Multiply, layers.Average, layers.Maximum, layers.Minimum, layers.Concatenate),
    *(layers.BatchNormalization, layers.LayerNormalization, layers.Normalization, layers.Rescaling, WindowAttention),
)
ACTIVATIONS = (
    exact_gelu,
    *(getattr(keras.activations, name) for name in ("linear", "relu", "relu6", "leaky_relu", "gelu", "tanh")),
    *(getattr(keras.activations, name) for name in ("sigmoid", "hard_sigmoid", "silu", "hard_silu", "softmax")),
)
# What does nothing in inference.
TRAINING_ONLY = (
    *(layers.Dropout, layers.SpatialDropout2D, layers.GaussianNoise, layers.GaussianDropout, layers.AlphaDropout),
    *(layers.ActivityRegularization, layers.Identity, compat.StochasticDepth),
)


@dataclass(eq=False)
class Step:
    """A layer at one place of a network.

    layer: whose class and settings it has; several steps have the same one where the network calls it several times.
    changes: of these settings. weights: float32 arrays, its own. inputs: where what it works on comes from; no input
    for that of the network. many: whether the layer takes a list. shape: of its output, without the batch.
    """

    layer: Any
    name: str
    inputs: list["Step"]
    shape: tuple[int, ...]
    many: bool = False
    weights: list[np.ndarray] = field(default_factory=list)
    changes: dict[str, Any] = field(default_factory=dict)

    @property
    def kind(self) -> Any:
        return kind_of(self.layer)


class Steps:
    """The steps of a network in an order in which they can be computed, and its outputs: {name: step}."""

    def __init__(self, images: Step, steps: list[Step], outputs: dict[str, Step]):
        self.images, self.steps, self.outputs = images, steps, outputs

    def readers(self, step: Step) -> list[Step | None]:
        """The steps that read the output of `step`; `None` stands for being an output of the network."""
        reading: list[Step | None] = [other for other in self.steps if any(x is step for x in other.inputs)]
        return reading + [None] * sum(output is step for output in self.outputs.values())

    def only_reader(self, step: Step) -> Step | None:
        """The step that alone reads the output of `step`; `None` where there is no such."""
        readers = self.readers(step)
        return readers[0] if len(readers) == 1 else None

    def remove(self, step: Step) -> None:
        """Lets the readers of `step`, which has one input, read that."""
        (before,) = step.inputs
        self.put(before, step)

    def put(self, other: Step, step: Step) -> None:
        """Puts `other`, which is computed before, in the place of `step`."""
        for reader in self.steps:
            reader.inputs = [other if x is step else x for x in reader.inputs]
        self.outputs = {name: other if output is step else output for name, output in self.outputs.items()}
        self.steps.remove(step)


def steps_of(model: keras.Model, names: list[str]) -> Steps:
    """The steps of a functional `model` with one input; its outputs are called `names`, in their order.

    Networks inside are taken apart. The activation that a convolution or dense layer has in itself is a step of its
    own. A layer that is called at several places becomes a step at each, with copies of its weights.

    Raises:
        RealMNetError: `model` is not functional, or has several inputs; a layer, a setting of one, or a way to call it
            that is not known here: names it.
    """
    if not (isinstance(model, keras.Model) and compat.is_functional(model)):
        raise RealMNetError(f"a functional Keras network expected. Received: {type(model).__name__}")
    if len(model.inputs) != 1:
        raise RealMNetError(f"{model.name}: a network with one input expected. Received: {len(model.inputs)}")
    (entry,) = model.inputs
    images = Step(compat.operation_of(entry), "images", [], entry.shape[1:])
    taken, steps = {"images", *names}, []

    def unique(name):
        number, candidate = 1, name
        while candidate in taken:
            number += 1
            candidate = f"{name}_{number}"
        taken.add(candidate)
        return candidate

    def add(layer, name, inputs, shape, **facts):
        steps.append(Step(layer, unique(name), inputs, shape, **facts))
        return steps[-1]

    def call(layer, x, *others, training=None, **arguments):
        training = training and type(layer) is not layers.Resizing  # whose own default it is
        if others or training or any(value is not None for value in arguments.values()):
            refuse(layer, "it is called with more than its input")
        if compat.is_functional(layer):
            return compat.run_through(layer, x, call)
        if type(layer) in TRAINING_ONLY:
            return x
        if kind_of(layer) not in KNOWN:
            refuse(layer, f"only {', '.join(kind.__name__ for kind in KNOWN)} are known")
        _check(layer)
        many = isinstance(x, list | tuple)
        inputs = list(x) if many else [x]
        shapes = [(None, *step.shape) for step in inputs]
        shape = tuple(layer.compute_output_shape(shapes if many else shapes[0]))[1:]
        weights = [np.asarray(value) for value in layer.get_weights()]
        activation = getattr(layer, "activation", keras.activations.linear)
        if type(layer) is layers.Activation:
            return x if activation is keras.activations.linear else add(layer, layer.name, inputs, shape)
        step = add(layer, layer.name, inputs, shape, many=many, weights=weights)
        if activation is keras.activations.linear:
            return step
        step.changes["activation"] = None
        name = f"{step.name}_{getattr(activation, '__name__', 'activation')}"
        return add(layers.Activation(activation, name=name), name, [step], shape)

    outputs = keras.tree.flatten(compat.run_through(model, images, call))
    return Steps(images, steps, dict(zip(names, outputs, strict=True)))


def kind_of(layer):
    """Its class; of our batch normalization, which differs in training alone, Keras'."""
    return layers.BatchNormalization if type(layer) is BatchNormalization else type(layer)


def _check(layer):
    """Refuses settings with which a layer of a known class is not known."""
    activation = getattr(layer, "activation", keras.activations.linear)
    if activation not in ACTIVATIONS:
        known = ", ".join(function.__name__ for function in ACTIVATIONS)
        refuse(layer, f"activation {getattr(activation, '__name__', activation)} is not one of {known}")
    if hasattr(layer, "data_format"):
        expect(layer, data_format="channels_last")
    if isinstance(layer, layers.BatchNormalization):
        expect_last_axis(layer)
    if isinstance(layer, layers.LayerNormalization):
        expect_last_axis(layer)
        expect(layer, rms_scaling=False)
    if isinstance(layer, layers.Normalization):
        expect_last_axis(layer)
        expect(layer, invert=False)
