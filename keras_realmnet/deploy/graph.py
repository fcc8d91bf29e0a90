"""From a trained RealMNet to the same function in a form that inference engines run well.

Every layer that only training needs is gone: BatchNorm becomes part of the convolution before it, the affine part of
a LayerNorm part of the dense layers after it, the scales of the pixels and of the attention part of the weights.
"""

import keras
import numpy as np
from keras import layers, ops

from keras_realmnet.errors import RealMNetError
from keras_realmnet.models.heads import ClassMaps, LinearHead, ResidualAttentionHead
from keras_realmnet.models.realmnet import RealMNet
from keras_realmnet.models.tiny_vit import EPSILON, WindowAttention, exact_gelu

__all__ = ["OUTPUTS", "deploy_graph", "expect", "expect_last_axis"]

OUTPUTS = ("probabilities", "class_maps", "features")


def expect(layer, **settings):
    """Refuses a `layer` one of whose settings is not the value given for it: nothing about it is guessed.

    Args:
        settings: {attribute of the layer: the only value the caller can deal with}.

    Raises:
        RealMNetError: names the layer, the setting, the value received and the one expected.
    """
    for name, expected in settings.items():
        received = getattr(layer, name)
        if received != expected:
            shown = [getattr(value, "__name__", repr(value)) for value in (received, expected)]
            raise RealMNetError(
                f"{layer.name}: a {type(layer).__name__} with {name} {shown[0]} cannot be exported; {shown[1]} expected"
            )


def expect_last_axis(norm):
    """Refuses a LayerNormalization of anything but the last axis."""
    if norm.axis not in (-1, [-1], [len(norm.get_build_config()["input_shape"]) - 1]):
        expect(norm, axis=-1)


def _refuse(layer, why):
    raise RealMNetError(f"{layer.name}: the exporter does not know what to do with this {type(layer).__name__}: {why}")


def _fold_batch_norm(kernel, axis, norm, epsilon=EPSILON):
    """Kernel and bias of a convolution that does what one with `kernel`, without bias, and BatchNorm do.

    kernel · γ/√(σ² + ε) along the output channels, and β − μ·γ/√(σ² + ε).

    Args:
        kernel: its output channels on `axis`.
        norm: γ, β, μ, σ² of the BatchNorm, each (channels,).
    """
    gamma, beta, mean, variance = (np.asarray(value, "float64") for value in norm)
    scale = gamma / np.sqrt(variance + epsilon)
    shape = [-1 if k == axis % kernel.ndim else 1 for k in range(kernel.ndim)]
    return kernel * scale.reshape(shape), beta - mean * scale


def _fold_layer_norm(norm, kernel, bias):
    """Kernel and bias of a dense layer that does what a LayerNorm's affine part and `kernel`, `bias` do.

    (γ·x + β)·W + b = x·(diag(γ)·W) + (β·W + b).

    Args:
        norm: γ, β of the LayerNorm, each (dim,).
        kernel: W, (dim, units); bias: b, (units,).
    """
    gamma, beta, kernel = (np.asarray(value, "float64") for value in (*norm, kernel))
    return gamma[:, None] * kernel, beta @ kernel + bias


@keras.saving.register_keras_serializable("keras_realmnet")
class DeployedWindowAttention(WindowAttention):
    """`WindowAttention` with a LayerNorm without affine part, and query (scaled), key and value from a Dense each."""

    def _build_projections(self, tokens):
        def dense(name):
            return layers.Dense(tokens[-1], dtype=self.dtype_policy, name=f"{self.name}_{name}")

        self.norm = layers.LayerNormalization(
            epsilon=EPSILON, center=False, scale=False, dtype=self.dtype_policy, name=f"{self.name}_norm"
        )
        self.query, self.key, self.value, self.proj = map(dense, ("query", "key", "value", "proj"))
        for layer in (self.norm, self.query, self.key, self.value, self.proj):
            layer.build(tokens)

    def _queries_keys_values(self, x):
        x, by_head = self.norm(x), (-1, x.shape[1], self.num_heads, self.head_dim)
        return [
            ops.transpose(ops.reshape(dense(x), by_head), (0, 2, 1, 3)) for dense in (self.query, self.key, self.value)
        ]

    def assign_from(self, trained: WindowAttention):
        """Takes the weights of `trained`."""
        self.norm.epsilon = trained.norm.epsilon
        kernel, bias = _fold_layer_norm(trained.norm.get_weights(), *trained.qkv.get_weights())
        dim = len(kernel)
        kernels = kernel.reshape(dim, self.num_heads, 3, self.head_dim)  # the qkv of each head are side by side
        biases = bias.reshape(self.num_heads, 3, self.head_dim)
        for k, (dense, scale) in enumerate([(self.query, self.head_dim**-0.5), (self.key, 1), (self.value, 1)]):
            dense.set_weights([scale * kernels[:, :, k].reshape(dim, dim), scale * biases[:, k].reshape(dim)])
        self.proj.set_weights(trained.proj.get_weights())
        self.attention_biases.assign(trained.attention_biases)


@keras.saving.register_keras_serializable("keras_realmnet")
def erf_gelu(x):
    """Exact GELU, spelled out: LiteRT's converter fuses it, and ONNX knows its operations (TensorFlow's uses Erfc)."""
    return 0.5 * x * (1 + ops.erf(x * 0.5**0.5))


def _copy(layer, inputs, weights=None, **config):
    """What a float32 copy of `layer` gives for `inputs`, with other `weights` and `config` where these are given."""
    copy = type(layer).from_config({**layer.get_config(), "dtype": "float32", **config})
    output = copy(inputs)
    copy.set_weights(layer.get_weights() if weights is None else weights)
    return output


def _neighbour(backbone, layer, ending, neighbours_ending, kind):
    """The layer of `backbone` that `layer`, whose name has `ending`, must have beside it: another ending, that kind."""
    name = layer.name.removesuffix(ending) + neighbours_ending
    found = next((other for other in backbone.layers if other.name == name), None)
    if not layer.name.endswith(ending) or type(found) is not kind:
        _refuse(layer, f"expected a name that ends in {ending}, beside a {kind.__name__} whose name is {name}")
    return found


def _check_joined(backbone, first, second):
    """Refuses a `second` layer that works on anything but the output of `first`, or does not do so alone."""
    readers = [other for other in backbone.layers if any(x is first.output for x in keras.tree.flatten(other.input))]
    if readers != [second]:
        _refuse(second, f"expected it, and nothing else, on the output of {first.name}")


def _folded_convolution(backbone, layer):
    norm = _neighbour(backbone, layer, "_conv", "_bn", layers.BatchNormalization)
    expect(layer, activation=keras.activations.linear, use_bias=False, data_format="channels_last")
    expect(norm, axis=-1 if norm.axis == -1 else 3, center=True, scale=True)
    _check_joined(backbone, layer, norm)
    axis = -1
    if isinstance(layer, layers.DepthwiseConv2D):
        expect(layer, depth_multiplier=1)
        axis = -2  # of the output channels in the kernel
    (kernel,) = layer.get_weights()
    return _fold_batch_norm(kernel, axis, norm.get_weights(), norm.epsilon)


def _norm_before(backbone, dense):
    """The LayerNorm whose affine part becomes part of `dense`."""
    norm = _neighbour(backbone, dense, "_fc1", "_norm", layers.LayerNormalization)
    expect_last_axis(norm)
    expect(norm, center=True, scale=True, rms_scaling=False)
    _check_joined(backbone, norm, dense)
    return norm


def _inference_form(backbone, layer, inputs):
    """What replaces `layer` of the trained `backbone` at its place in the deploy graph.

    Raises:
        RealMNetError: a layer or setting that is not known here.
    """
    kind = type(layer)
    if kind in (layers.Conv2D, layers.DepthwiseConv2D):
        return _copy(layer, inputs, _folded_convolution(backbone, layer), use_bias=True)
    if kind is layers.BatchNormalization:
        name = layer.name.removesuffix("_bn") + "_conv"
        if not any(type(c) in (layers.Conv2D, layers.DepthwiseConv2D) and c.name == name for c in backbone.layers):
            _refuse(layer, f"expected a convolution before it whose name is {name}")
        return inputs
    if kind is layers.Dropout:
        return inputs
    if kind is layers.Activation:
        expect(layer, activation=exact_gelu)
        return _copy(layer, inputs, activation=erf_gelu)
    if kind is layers.LayerNormalization:
        _norm_before(backbone, _neighbour(backbone, layer, "_norm", "_fc1", layers.Dense))
        return _copy(layer, inputs, [], center=False, scale=False)
    if kind is layers.Dense:
        expect(layer, activation=keras.activations.linear, use_bias=True)
        if not layer.name.endswith("_fc1"):
            return _copy(layer, inputs)
        folded = _fold_layer_norm(_norm_before(backbone, layer).get_weights(), *layer.get_weights())
        return _copy(layer, inputs, folded)
    if kind is WindowAttention:
        deployed = DeployedWindowAttention(layer.num_heads, layer.window_size, dtype="float32", name=layer.name)
        deployed.build(inputs.shape)
        deployed.assign_from(layer)
        return deployed(inputs)
    if kind in (layers.InputLayer, layers.ZeroPadding2D, layers.Add):
        return _copy(layer, inputs)
    return _refuse(layer, "it is none of a TinyViT's layers")


def deploy_graph(model: RealMNet, outputs=OUTPUTS, batch_size: int | None = 1) -> keras.Model:
    """What `model` computes in inference, in float32, as a graph for engines; its weights are copies, none trains.

    Layers keep their names. The attention bias stays the learned table and a Gather: LiteRT's converter and ONNX
    Runtime expand it ahead of time.

    Args:
        model: with a `ResidualAttentionHead` or a `LinearHead`; it stays as it is.
        outputs: which of the three to compute.
        batch_size: images per call; `None` leaves it open, which costs LiteRT most of its speed.

    Returns:
        A Keras model: "images" (batch_size, h, w, 3), 0–255 → dict of "probabilities" (batch_size, classes), 0–1, and
        "class_maps" (batch_size, h/32, w/32, classes), both as from `model.inference_model()`, and "features"
        (batch_size, dim), the mean over the positions of the map that the head works on.

    Raises:
        ValueError: for no output, or one of another name; for a batch size that is none.
        RealMNetError: `model` is no RealMNet; a layer, or a setting of one, that is not known here; names it.
    """
    if not outputs or set(outputs) - set(OUTPUTS):
        raise ValueError(f"outputs must be some of {', '.join(OUTPUTS)}. Received: {outputs}")
    if batch_size is not None and (not isinstance(batch_size, int) or batch_size < 1):
        raise ValueError(f"batch_size must be a whole number, 1 or more, or None. Received: {batch_size!r}")
    if not isinstance(model, RealMNet):
        raise RealMNetError(f"a RealMNet expected. Received: {type(model).__name__}")
    if type(model.head) not in (LinearHead, ResidualAttentionHead):
        _refuse(model.head, "a LinearHead or a ResidualAttentionHead expected")
    rescaling = model.get_layer("rescaling")
    expect(rescaling, offset=0.0)
    images = keras.Input((*model.image_size, 3), batch_size=batch_size, name="images")
    backbone = keras.models.clone_model(
        model.backbone,
        images,
        clone_function=lambda layer: layer,
        call_function=lambda layer, inputs, **_: _inference_form(model.backbone, layer, inputs),
    )
    stem = backbone.get_layer("patch_embed_conv1_conv")
    kernel, bias = stem.get_weights()
    stem.set_weights([kernel * rescaling.scale, bias])

    x = backbone.output  # (batch_size, h/32, w/32, dim)
    if not isinstance(model.head, LinearHead):
        x = _copy(model.get_layer("head_norm"), x)  # whole: the class maps are those of its output
    head = type(model.head).from_config(model.head.get_config())
    logits = head(x)
    head.set_weights(model.head.get_weights())
    tails = {
        "probabilities": lambda: layers.Activation("sigmoid", name="probabilities")(logits),
        "class_maps": lambda: ClassMaps(head, offset=model.map_offset, name="class_maps")(x),
        "features": lambda: layers.GlobalAveragePooling2D(name="features")(x),
    }
    graph = keras.Model(images, {name: tails[name]() for name in outputs}, name=f"{model.name}_deploy")
    graph.trainable = False
    return graph
