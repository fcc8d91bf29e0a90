"""DeiT, ConvNeXt, EfficientNet and Swin as feature extractors, each pooled to (batch, features).

The networks are those of keras-hub (DeiT, Swin) and keras.applications (ConvNeXt, EfficientNet). What they lack or fix
is supplied here: stochastic depth for DeiT, random states of their own for ConvNeXt's, and one input scaling for all.
"""

import math
from typing import Any

import keras
import keras_hub
import numpy as np
from keras import layers

from keras_realmnet.compat import (
    DEFAULT_BLOCKS_ARGS,
    ConvNeXt,
    EfficientNet,
    LayerScale,
    StochasticDepth,
    deit_layers,
)
from keras_realmnet.models.tiny_vit import BATCH_NORM_MOMENTUM
from keras_realmnet.weights import transfer_weights

__all__ = ["NETWORKS"]

DeiTEmbeddings: Any
DeiTEncoder: Any
DeiTEncoderBlock: Any
DeiTEmbeddings, DeiTEncoder, DeiTEncoderBlock = deit_layers()


# ------------------------------------------------------------------------------------------------------------- DeiT


class _DropPathBlock(DeiTEncoderBlock):
    """keras-hub's block with stochastic depth on both branches."""

    def __init__(self, drop_path_rate, **kwargs):
        super().__init__(**kwargs)
        self.drop_path = layers.Dropout(drop_path_rate, noise_shape=(None, 1, 1), name="drop_path")

    def call(self, x):
        normalized = self.layer_norm_1(x)
        x = x + self.drop_path(self.mha(normalized, normalized))
        return x + self.drop_path(self.output_layer.dense(self.mlp(self.layer_norm_2(x))))


class _DropPathEncoder(DeiTEncoder):
    """keras-hub's encoder, its blocks dropped at a rate that grows linearly from 0 in the first."""

    def __init__(self, drop_path_rate, **kwargs):
        super().__init__(**kwargs)
        self.drop_path_rate = drop_path_rate

    def build(self, input_shape):
        self.encoder_layers = []
        for k, rate in enumerate(np.linspace(0, self.drop_path_rate, self.num_layers).tolist()):
            block = _DropPathBlock(
                rate,
                num_heads=self.num_heads,
                hidden_dim=self.hidden_dim,
                intermediate_dim=self.intermediate_dim,
                dtype=self.dtype_policy,
                name=f"transformer_block_{k + 1}",
            )
            block.build(input_shape)
            self.encoder_layers.append(block)
        self.layer_norm = layers.LayerNormalization(epsilon=self.layer_norm_epsilon, dtype=self.dtype_policy, name="ln")
        self.layer_norm.build(input_shape)

    def call(self, x):
        for block in self.encoder_layers:
            x = block(x)
        return self.layer_norm(x)

    def compute_output_shape(self, input_shape):
        return input_shape


def _deit(
    image_size,
    drop_path_rate,
    num_layers,
    num_heads,
    hidden_dim,
    intermediate_dim=None,
    patch_size=16,
    weights=None,
):
    """Features (batch, hidden_dim)."""
    _check_size(image_size, patch_size)
    inputs = keras.Input((*image_size, 3), name="scaled_images")
    embeddings = DeiTEmbeddings(image_size, (patch_size, patch_size), hidden_dim, name="deit_patching_and_embedding")
    encoder = _DropPathEncoder(
        drop_path_rate,
        num_layers=num_layers,
        num_heads=num_heads,
        hidden_dim=hidden_dim,
        intermediate_dim=4 * hidden_dim if intermediate_dim is None else intermediate_dim,
        name="deit_encoder",
    )
    x = encoder(embeddings(inputs))  # (batch, 2 + patches, hidden_dim), the class and the distillation token first
    if weights is not None:
        transfer_weights(keras_hub.models.DeiTBackbone.from_preset(weights), keras.Model(inputs, x, name="deit"))
    # The reference averages the patches alone and normalizes once more (`out_type="avg_featmap"`).
    x = layers.GlobalAveragePooling1D(name="pool")(x[:, 2:])
    return keras.Model(inputs, layers.LayerNormalization(epsilon=1e-6, name="pool_norm")(x), name="backbone")


# ------------------------------------------------------------------------------------------------------------- Swin


def _swin(image_size, drop_path_rate, embed_dim, depths, num_heads, window_size=None, weights=None, **options):
    """Features (batch, 8 · embed_dim)."""
    _check_size(image_size, 32)
    network = keras_hub.models.SwinTransformerBackbone(
        image_shape=(*image_size, 3),
        embed_dim=embed_dim,
        depths=tuple(depths),
        num_heads=tuple(num_heads),
        # The last stage is one window, so that no map needs padding: 7 at 224 and 12 at 384 pixels, as published.
        window_size=min(image_size) // 32 if window_size is None else window_size,
        drop_path=drop_path_rate,
        name="swin",
        **options,
    )
    if weights is not None:
        transfer_weights(keras_hub.models.SwinTransformerBackbone.from_preset(weights), network)
    x = layers.GlobalAveragePooling1D(name="pool")(network.output)
    return keras.Model(network.input, x, name="backbone")


def _check_size(image_size, step):
    if any(side % step for side in image_size):
        raise ValueError(f"image_size must be divisible by {step}. Received: {image_size}")


# ------------------------------------------------------------------------------------------ ConvNeXt, EfficientNet


class _LayerScale(LayerScale):
    """keras.applications' layer with a weight that has a name: theirs is numbered differently in every model."""

    def build(self, input_shape):
        initializer = keras.initializers.Constant(self.init_values)
        self.gamma = self.add_weight(shape=(self.projection_dim,), initializer=initializer, name="gamma")


def _convnext(image_size, drop_path_rate, depths, projection_dims, weights=None, **options):
    """Features (batch, projection_dims[-1]), pooled and then normalized as in the reference."""
    network = ConvNeXt(
        list(depths),
        list(projection_dims),
        drop_path_rate,
        name="convnext_tiny",
        weights_name="convnext_tiny",
        include_preprocessing=False,
        include_top=False,
        weights=weights,
        input_shape=(*image_size, 3),
        pooling="avg",
        **options,
    )

    def replacement(layer):
        if isinstance(layer, StochasticDepth):  # draws from a global state, which no checkpoint and no JAX step knows
            return layers.Dropout(layer.drop_path_rate, noise_shape=(None, 1, 1, 1), name=layer.name)
        if isinstance(layer, LayerScale):
            return _LayerScale(layer.init_values, layer.projection_dim, name=layer.name)
        if isinstance(layer, layers.Conv2D):  # as many groups as channels; several times slower so on CPUs
            return layers.DepthwiseConv2D(layer.kernel_size, padding="same", name=layer.name)
        return layer

    backbone = keras.models.clone_model(network, clone_function=replacement)
    for layer in backbone.layers:
        if isinstance(layer, layers.DepthwiseConv2D):
            kernel, bias = network.get_layer(layer.name).get_weights()
            layer.set_weights([kernel.swapaxes(2, 3), bias])  # (h, w, 1, dim) → (h, w, dim, 1)
        elif isinstance(layer, _LayerScale):
            layer.set_weights(network.get_layer(layer.name).get_weights())
    return backbone


def _efficientnet(image_size, drop_path_rate, width_coefficient, depth_coefficient, depth_divisor=8, weights=None):
    """Features (batch, 1280 · width_coefficient), pooled."""
    blocks = sum(math.ceil(depth_coefficient * stage["repeats"]) for stage in DEFAULT_BLOCKS_ARGS)
    network = EfficientNet(
        width_coefficient,
        depth_coefficient,
        default_size=min(image_size),
        drop_connect_rate=drop_path_rate * blocks / (blocks - 1),  # of n blocks, keras drops the last at (n − 1)/n
        depth_divisor=depth_divisor,
        name="efficientnetb4",
        weights_name="b4",
        include_top=False,
        weights=weights,
        input_shape=(*image_size, 3),
        pooling="avg",
    )
    for layer in network.layers:
        if isinstance(layer, layers.BatchNormalization):
            layer.momentum = BATCH_NORM_MOMENTUM

    def replacement(layer):
        if isinstance(layer, layers.Rescaling | layers.Normalization):
            return layers.Identity(name=layer.name)  # the model has scaled
        return layer

    return keras.models.clone_model(network, clone_function=replacement)


NETWORKS = {"deit": _deit, "convnext": _convnext, "efficientnet": _efficientnet, "swin": _swin}
