"""From a trained network to the same function in a form that inference engines run well.

Every layer that only training needs is gone: BatchNorm becomes part of the convolution before it, the affine part of
a LayerNorm part of the dense layers after it, the scales of the pixels and of the attention part of the weights.
"""

from collections.abc import Collection, Mapping

import keras
from keras import layers

from keras_realmnet.deploy.ensembles import average_probabilities, merge_copies
from keras_realmnet.deploy.folding import fold
from keras_realmnet.deploy.layers import DeployedWindowAttention, erf_gelu
from keras_realmnet.deploy.settings import refuse
from keras_realmnet.deploy.steps import HEADS, Step, Steps, steps_of
from keras_realmnet.errors import RealMNetError
from keras_realmnet.models.ensemble import Ensemble
from keras_realmnet.models.layers.heads import ClassMaps
from keras_realmnet.models.network import learned_by
from keras_realmnet.models.realmnet import RealMNet
from keras_realmnet.models.tiny_vit import WindowAttention, exact_gelu

__all__ = ["ACTIVATIONS", "OUTPUTS", "deploy_graph"]

OUTPUTS = ("probabilities", "class_maps", "features")  # of a RealMNet
ACTIVATIONS = ("sigmoid", "softmax", None)


def deploy_graph(
    model: keras.Model,
    outputs: Collection[str] | None = None,
    batch_size: int | None = 1,
    activations: Mapping[str, str | None] | None = None,
    class_maps: Mapping[str, str] | None = None,
    features: Mapping[str, str] | None = None,
) -> keras.Model:
    """What `model` computes in inference, in float32, as a graph for engines; its weights are copies, none trains.

    Layers keep their names, also those of networks inside, which are taken apart; a name that is there already gets a
    number. What is folded, and what is left of the rest: `folding.fold`. The attention bias stays the learned table and
    a Gather: LiteRT's converter and ONNX Runtime expand it ahead of time. What several members of an ensemble compute
    alike is computed once.

    Args:
        model: a functional network, images (batch, h, w, 3) → {output name: logits} or one tensor; it stays as it is.
        outputs: names of those to compute; all where `None`. Auxiliary ends, which only training needs, are none.
        batch_size: images per call; `None` leaves it open, which costs LiteRT most of its speed.
        activations: {name of an output of `model`: "sigmoid", "softmax" (over the last axis) or `None`}, what is
            applied to it; all outputs are named, that of a network with one tensor gets its name here. `None` is for a
            RealMNet: {"probabilities": "sigmoid"}, with "class_maps" and "features" of it.
        class_maps: {name: output of `model`}, further outputs: the class maps (batch, h', w', classes) of one that a
            `ResidualAttentionHead` or `LinearHead` computes, moved back by the `map_offset` of `model`, if it has one.
        features: {name: output of `model`}, further outputs: the mean (batch, dim) over the map such a head works on.

    Returns:
        A Keras model: "images" (batch_size, h, w, 3), 0–255 → dict of the outputs. Of a RealMNet: "probabilities"
        (batch_size, classes), 0–1, and "class_maps" (batch_size, h/32, w/32, classes), both as from
        `model.inference_model()`, and "features" (batch_size, dim).

    Raises:
        ValueError: for no output, or one of another name; for an activation, or a batch size, that is none.
        RealMNetError: `model` is not functional; a layer, or a setting of one, that is not known here, or an output
            whose class maps are asked for and that no head computes; names it.
    """
    if batch_size is not None and (not isinstance(batch_size, int) or isinstance(batch_size, bool) or batch_size < 1):
        raise ValueError(f"batch_size must be a whole number, 1 or more, or None. Received: {batch_size!r}")
    if activations is None and isinstance(model, RealMNet):
        activations = {"probabilities": "sigmoid"}
        class_maps = {"class_maps": "probabilities"} if class_maps is None else class_maps
        features = {"features": "probabilities"} if features is None else features
    ends = _output_names(model, activations)
    names = [end for end, output in learned_by(ends).items() if end == output]
    class_maps, features = dict(class_maps or {}), dict(features or {})
    wanted = _wanted(names, class_maps, features, outputs)
    network, applied = steps_of(model, ends), dict(activations or {})
    if isinstance(model, Ensemble):
        merge_copies(network)
        applied = average_probabilities(network, applied)
    fold(network)
    images = keras.Input(network.images.shape, batch_size=batch_size, name="images")
    tensors, built = _built(network, images)

    def tail(name):
        if name in names:
            tensor, activation = tensors[network.outputs[name]], applied[name]
            return tensor if activation is None else layers.Activation(activation, name=name)(tensor)
        of = class_maps.get(name) or features[name]
        step = network.outputs[of]
        if step.kind not in HEADS:
            refuse(step.layer, f"no head computes {of!r}, of which {name!r} is asked for")
        head, x = built[step], tensors[step.inputs[0]]
        if name in features:
            return layers.GlobalAveragePooling2D(name=name)(x)
        return ClassMaps(head, offset=getattr(model, "map_offset", (0.0, 0.0)), name=name)(x)

    graph = keras.Model(images, {name: tail(name) for name in wanted}, name=f"{model.name}_deploy")
    graph.trainable = False
    return graph


def _output_names(model, activations) -> list[str]:
    """The names of the ends of `model` in its order; those of its outputs those of `activations` must be."""
    if not isinstance(model, keras.Model):
        raise RealMNetError(f"a functional Keras network expected. Received: {type(model).__name__}")
    given = getattr(model, "output", None)
    if isinstance(given, dict):
        names = list(given)
        outputs = dict.fromkeys(learned_by(names).values())
        if set(activations or ()) != set(outputs):
            raise ValueError(f"activations must name {', '.join(outputs)}. Received: {activations!r}")
    elif len(activations or ()) != len(keras.tree.flatten(given)) or isinstance(given, list | tuple):
        raise ValueError(f"activations must name the one output of {model.name}. Received: {activations!r}")
    else:
        names = list(activations)
    for name, activation in activations.items():
        if activation not in ACTIVATIONS:
            raise ValueError(f"activations must be sigmoid, softmax or None. Received: {name}={activation!r}")
    return list(keras.tree.flatten(dict(zip(names, names, strict=True))))  # as Keras orders the outputs


def _wanted(names, class_maps, features, outputs) -> list[str]:
    """The names of the outputs to compute, in their order."""
    for argument, further in (("class_maps", class_maps), ("features", features)):
        if set(further.values()) - set(names):
            raise ValueError(f"{argument} must be of {', '.join(names)}. Received: {further!r}")
    known = [*names, *class_maps, *features]
    if len(set(known)) < len(known):
        raise ValueError(f"outputs must have names of their own. Received: {', '.join(known)}")
    if outputs is None:
        return known
    if not outputs or set(outputs) - set(known):
        raise ValueError(f"outputs must be some of {', '.join(known)}. Received: {outputs}")
    return list(outputs)


def _built(network: Steps, images):
    """{step: what a copy of its layer gives}, {step: that copy}, from the input `images` on."""
    tensors, built = {network.images: images}, {}
    for step in network.steps:
        layer = built[step] = _copy(step)
        inputs = [tensors[x] for x in step.inputs]
        tensors[step] = layer(inputs if step.many else inputs[0])
        if step.kind is WindowAttention:
            layer.assign_from(step.layer)
        else:
            layer.set_weights(step.weights)
    return tensors, built


def _copy(step: Step):
    """A float32 layer with the settings of `step`."""
    layer = step.layer
    if step.kind is WindowAttention:
        return DeployedWindowAttention(layer.num_heads, layer.window_size, dtype="float32", name=step.name)
    changes = {"dtype": "float32", "name": step.name, **step.changes}
    if step.kind is layers.Activation and layer.activation in (exact_gelu, keras.activations.gelu):
        changes["activation"] = erf_gelu
    return step.kind.from_config({**layer.get_config(), **changes})
