"""Layers and functions that only deploy graphs have."""

import keras
from keras import layers, ops

from keras_realmnet.deploy.arithmetic import fold_layer_norm
from keras_realmnet.models.tiny_vit import EPSILON, WindowAttention

__all__ = ["DeployedWindowAttention", "ScaleShift", "erf_gelu"]


@keras.saving.register_keras_serializable("keras_realmnet")
def erf_gelu(x):
    """Exact GELU, spelled out: LiteRT's converter fuses it, and ONNX knows its operations (TensorFlow's uses Erfc)."""
    return 0.5 * x * (1 + ops.erf(x * 0.5**0.5))


@keras.saving.register_keras_serializable("keras_realmnet")
class ScaleShift(layers.Layer):
    """x (…, channels) · scale + shift, both (channels,): what is left of a BatchNorm, Normalization or Rescaling."""

    def build(self, input_shape):
        self.scale, self.shift = (self.add_weight(shape=input_shape[-1:], name=name) for name in ("scale", "shift"))

    def call(self, x):
        return x * self.scale + self.shift

    def compute_output_shape(self, input_shape):
        return input_shape


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
        kernel, bias = fold_layer_norm(trained.norm.get_weights(), *trained.qkv.get_weights())
        dim = len(kernel)
        kernels = kernel.reshape(dim, self.num_heads, 3, self.head_dim)  # the qkv of each head are side by side
        biases = bias.reshape(self.num_heads, 3, self.head_dim)
        for k, (dense, scale) in enumerate([(self.query, self.head_dim**-0.5), (self.key, 1), (self.value, 1)]):
            dense.set_weights([scale * kernels[:, :, k].reshape(dim, dim), scale * biases[:, k].reshape(dim)])
        self.proj.set_weights(trained.proj.get_weights())
        self.attention_biases.assign(trained.attention_biases)
