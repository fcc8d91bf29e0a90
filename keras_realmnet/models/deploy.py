"""From a trained RealMNet to the same function in a form that inference engines run well.

Every layer that only training needs is gone: BatchNorm becomes part of the convolution before it, the affine part of
a LayerNorm part of the dense layers after it, the scales of the pixels and of the attention part of the weights.
"""

import keras
import numpy as np
from keras import layers, ops

from keras_realmnet.models.heads import ClassMaps, LinearHead
from keras_realmnet.models.realmnet import RealMNet
from keras_realmnet.models.tiny_vit import EPSILON, WindowAttention

__all__ = ["OUTPUTS", "deploy_graph"]

OUTPUTS = ("probabilities", "class_maps", "features")


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


def _inference_form(backbone, layer, inputs):
    """What replaces `layer` of the trained `backbone` at its place in the deploy graph."""

    def weights_of(name):
        return backbone.get_layer(name).get_weights()

    if isinstance(layer, layers.Conv2D | layers.DepthwiseConv2D):
        axis = -2 if isinstance(layer, layers.DepthwiseConv2D) else -1  # of the output channels in the kernel
        (kernel,) = layer.get_weights()
        folded = _fold_batch_norm(kernel, axis, weights_of(layer.name.removesuffix("_conv") + "_bn"))
        return _copy(layer, inputs, folded, use_bias=True)
    if isinstance(layer, layers.BatchNormalization | layers.Dropout):
        return inputs
    if isinstance(layer, layers.Activation):
        return _copy(layer, inputs, activation=erf_gelu)
    if isinstance(layer, layers.LayerNormalization):
        return _copy(layer, inputs, [], center=False, scale=False)
    if layer.name.endswith("_mlp_fc1"):
        folded = _fold_layer_norm(weights_of(layer.name.removesuffix("_fc1") + "_norm"), *layer.get_weights())
        return _copy(layer, inputs, folded)
    if isinstance(layer, WindowAttention):
        deployed = DeployedWindowAttention(layer.num_heads, layer.window_size, dtype="float32", name=layer.name)
        output = deployed(inputs)
        deployed.assign_from(layer)
        return output
    return _copy(layer, inputs)


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
        ValueError: for no output, or one of another name.
    """
    if not outputs or set(outputs) - set(OUTPUTS):
        raise ValueError(f"outputs must be some of {', '.join(OUTPUTS)}. Received: {outputs}")
    images = keras.Input((*model.image_size, 3), batch_size=batch_size, name="images")
    backbone = keras.models.clone_model(
        model.backbone,
        images,
        clone_function=lambda layer: layer,
        call_function=lambda layer, inputs, **_: _inference_form(model.backbone, layer, inputs),
    )
    stem = backbone.get_layer("patch_embed_conv1_conv")
    kernel, bias = stem.get_weights()
    stem.set_weights([kernel * model.get_layer("rescaling").scale, bias])

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
