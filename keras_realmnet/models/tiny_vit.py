"""TinyViT (arXiv 2207.10666), bottom-up: convolution with BatchNorm, MBConv, merging, window attention, block, model.

Layer names are timm's module paths with "_" for ".", so `stages.1.blocks.0.attn.qkv` is `stages_1_blocks_0_attn_qkv`;
`keras_realmnet.weights` relies on it.
"""

import keras
import numpy as np
from keras import layers, ops

from keras_realmnet.arguments import BACKBONE, CLASSES, TINY_VIT, check
from keras_realmnet.models.network import Network, precision
from keras_realmnet.presets import TINY_VIT_PRESETS, preset

__all__ = ["TinyViTBackbone", "TinyViTImageClassifier", "WindowAttention", "load_initial_weights"]

EPSILON = 1e-5  # of BatchNorm and LayerNorm alike, as in the reference
BATCH_NORM_MOMENTUM = 0.9  # PyTorch's 0.1 counts the other way round


# Initializers are made anew for every layer: one that is used twice gives the same numbers twice.
def _conv_initializer():
    return keras.initializers.VarianceScaling(1 / 3, "fan_in", "uniform")  # PyTorch's default for Conv2d


def _depthwise_initializer(kernel_size):
    # Keras counts the channels into the fan-in of a depthwise kernel, PyTorch does not.
    return keras.initializers.RandomUniform(-1 / kernel_size, 1 / kernel_size)


def _dense_initializer():
    return keras.initializers.TruncatedNormal(stddev=0.02)


def conv_norm(x, filters, kernel_size=1, stride=1, depthwise=False, gamma="ones", name=""):
    """Convolution without bias, then BatchNorm. Strided ones pad by hand: 'same' would pad on the other side."""
    if stride > 1:
        x = layers.ZeroPadding2D(kernel_size // 2, name=f"{name}_pad")(x)
    padding = "valid" if stride > 1 else "same"
    if depthwise:
        x = layers.DepthwiseConv2D(
            kernel_size,
            stride,
            padding,
            use_bias=False,
            depthwise_initializer=_depthwise_initializer(kernel_size),
            name=f"{name}_conv",
        )(x)
    else:
        x = layers.Conv2D(
            filters,
            kernel_size,
            stride,
            padding,
            use_bias=False,
            kernel_initializer=_conv_initializer(),
            name=f"{name}_conv",
        )(x)
    return layers.BatchNormalization(
        momentum=BATCH_NORM_MOMENTUM, epsilon=EPSILON, gamma_initializer=gamma, name=f"{name}_bn"
    )(x)


def gelu(x, name):
    return layers.Activation(exact_gelu, name=name)(x)


@keras.saving.register_keras_serializable("keras_realmnet", "gelu")
def exact_gelu(x):
    """Exact GELU, 0.5·x·(1 + erf(x/√2))."""
    return keras.activations.gelu(x, approximate=False)


def drop_path(x, rate, name):
    """Stochastic depth: drops a residual branch per sample."""
    if not rate:
        return x
    return layers.Dropout(rate, noise_shape=(None, 1, 1, 1), name=name)(x)


def mbconv(x, expand_ratio, drop_path_rate, name):
    """Inverted residual block: 1×1 expansion, depthwise 3×3, 1×1 projection; x (batch, h, w, dim)."""
    dim = x.shape[-1]
    shortcut = x
    x = gelu(conv_norm(x, int(dim * expand_ratio), 1, name=f"{name}_conv1"), f"{name}_act1")
    x = gelu(conv_norm(x, None, 3, depthwise=True, name=f"{name}_conv2"), f"{name}_act2")
    x = conv_norm(x, dim, 1, gamma="zeros", name=f"{name}_conv3")
    x = drop_path(x, drop_path_rate, f"{name}_drop_path")
    return gelu(layers.Add(name=f"{name}_add")([shortcut, x]), f"{name}_act3")


def patch_merging(x, out_dim, name):
    """(batch, h, w, dim) → (batch, h/2, w/2, out_dim)."""
    x = gelu(conv_norm(x, out_dim, 1, name=f"{name}_conv1"), f"{name}_act1")
    x = gelu(conv_norm(x, None, 3, stride=2, depthwise=True, name=f"{name}_conv2"), f"{name}_act2")
    return conv_norm(x, out_dim, 1, name=f"{name}_conv3")


@keras.saving.register_keras_serializable("keras_realmnet")
class WindowAttention(layers.Layer):
    """Multi-head self-attention inside non-overlapping windows, LayerNorm first, on (batch, h, w, dim).

    A map that the windows do not divide is padded with zeros at the bottom and right; the padding takes part in the
    attention, as in the reference.

    Args:
        num_heads: heads; dim must be divisible by it.
        window_size: (height, width) of a window in positions.
    """

    def __init__(self, num_heads, window_size, **kwargs):
        super().__init__(**kwargs)
        self.num_heads = int(num_heads)
        self.window_size = tuple(int(side) for side in window_size)

    def build(self, input_shape):
        _, height, width, dim = input_shape
        self.map_size = (height, width)
        if dim % self.num_heads:
            raise ValueError(f"dim must be divisible by num_heads = {self.num_heads}. Received: dim = {dim}")
        self.head_dim = dim // self.num_heads
        tokens = (None, self.window_size[0] * self.window_size[1], dim)
        self._build_projections(tokens)
        # One learned bias per head and (|Δy|, |Δx|).
        self.attention_biases = self.add_weight(
            shape=(self.num_heads, tokens[1]), initializer="zeros", name="attention_biases"
        )
        y, x = np.divmod(np.arange(tokens[1]), self.window_size[1])
        offsets = np.abs(y[:, None] - y) * self.window_size[1] + np.abs(x[:, None] - x)
        self.bias_index = offsets.astype("int32")  # (tokens, tokens), into the second axis of attention_biases

    def call(self, x):
        batch, (height, width, dim) = ops.shape(x)[0], x.shape[1:]
        window_h, window_w = self.window_size
        pad_h, pad_w = -height % window_h, -width % window_w
        if pad_h or pad_w:
            x = ops.pad(x, ((0, 0), (0, pad_h), (0, pad_w), (0, 0)))
        rows, columns = (height + pad_h) // window_h, (width + pad_w) // window_w
        if columns > 1:  # at most 4-D throughout, for the sake of the inference engines
            x = ops.reshape(x, (-1, window_h, columns, window_w * dim))
            x = ops.transpose(x, (0, 2, 1, 3))
        x = ops.reshape(x, (-1, window_h * window_w, dim))
        x = self._attend(x)  # (batch * rows * columns, tokens, dim)
        if columns > 1:
            x = ops.reshape(x, (-1, columns, window_h, window_w * dim))
            x = ops.transpose(x, (0, 2, 1, 3))
        x = ops.reshape(x, (batch, rows * window_h, columns * window_w, dim))
        return x[:, :height, :width, :] if pad_h or pad_w else x

    def _build_projections(self, tokens):
        """The layers from `tokens`, (windows, tokens, dim), to q, k, v and from the attended values back."""
        dim = tokens[-1]
        self.norm = layers.LayerNormalization(epsilon=EPSILON, dtype=self.dtype_policy, name=f"{self.name}_norm")
        self.qkv, self.proj = (
            layers.Dense(
                units, kernel_initializer=_dense_initializer(), dtype=self.dtype_policy, name=f"{self.name}_{name}"
            )
            for name, units in (("qkv", 3 * dim), ("proj", dim))
        )
        for layer in (self.norm, self.qkv, self.proj):
            layer.build(tokens)

    def _queries_keys_values(self, x):
        """Three of (windows, heads, tokens, head_dim); the queries scaled by head_dim^-½."""
        qkv = ops.reshape(self.qkv(self.norm(x)), (-1, x.shape[1], self.num_heads, 3 * self.head_dim))
        q, k, v = ops.split(ops.transpose(qkv, (0, 2, 1, 3)), 3, axis=-1)  # the qkv of each head are side by side
        return q * self.head_dim**-0.5, k, v

    def _attend(self, x):
        tokens = x.shape[1]
        q, k, v = self._queries_keys_values(x)
        bias = ops.take(ops.cast(self.attention_biases, self.compute_dtype), self.bias_index, axis=1)
        scores = ops.matmul(q, ops.transpose(k, (0, 1, 3, 2))) + bias  # (windows, heads, tokens, tokens)
        x = ops.matmul(ops.softmax(scores, axis=-1), v)  # (windows, heads, tokens, head_dim)
        x = ops.transpose(x, (0, 2, 1, 3))
        return self.proj(ops.reshape(x, (-1, tokens, self.num_heads * self.head_dim)))

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        return {**super().get_config(), "num_heads": self.num_heads, "window_size": self.window_size}


def tiny_vit_block(x, num_heads, window_size, mlp_ratio, drop_path_rate, name):
    """Window attention, a depthwise 3×3 convolution without residual, and an MLP; x (batch, h, w, dim)."""
    dim = x.shape[-1]
    attended = WindowAttention(num_heads, window_size, name=f"{name}_attn")(x)
    attended = drop_path(attended, drop_path_rate, f"{name}_attn_drop_path")
    x = layers.Add(name=f"{name}_attn_add")([x, attended])
    x = conv_norm(x, None, 3, depthwise=True, name=f"{name}_local_conv")
    y = layers.LayerNormalization(epsilon=EPSILON, name=f"{name}_mlp_norm")(x)
    y = layers.Dense(int(dim * mlp_ratio), kernel_initializer=_dense_initializer(), name=f"{name}_mlp_fc1")(y)
    y = gelu(y, f"{name}_mlp_act")
    y = layers.Dense(dim, kernel_initializer=_dense_initializer(), name=f"{name}_mlp_fc2")(y)
    y = drop_path(y, drop_path_rate, f"{name}_mlp_drop_path")
    return layers.Add(name=f"{name}_mlp_add")([x, y])


def _pair(value):
    return (int(value), int(value)) if np.ndim(value) == 0 else tuple(int(side) for side in value)


@keras.saving.register_keras_serializable("keras_realmnet")
class TinyViTBackbone(Network):
    """TinyViT without a classifier: images (batch, h, w, 3) → features (batch, h/32, w/32, embed_dims[3]).

    Takes pixel values as the checkpoint was trained with; nothing is scaled inside.

    Args:
        image_size: side of the input in pixels, or (height, width); divisible by 32.
        embed_dims, depths, num_heads: per stage; stage 0 is convolutional and its num_heads is not used.
        window_sizes: per stage, in positions (an int or a pair); the first is not used. `None` derives them from the
            image size: the whole map in stages 2 and 3, a quarter of its side in stage 1 (7, 7, 14, 7 at 224).
        stage_2_windows: how many windows a side stage 2 has, where they are derived; 1 is published. 2 leave a quarter
            of the attention's work and a fraction of its biases; the map, h/16 × w/16, must be divisible by it.
        drop_path_rate: rate of stochastic depth in the last block; it grows linearly from 0 in the first.
        frozen_stages: stages 0 … frozen_stages − 1, each with the merging that follows it, do not train and run
            their BatchNorm in inference mode; the stem always trains (as in the RealMNet reference).
        mlp_ratio, mbconv_expand_ratio: widths inside of blocks, as multiples of the block's own.
        name: of the model. dtype: its precision, a Keras dtype policy such as "mixed_bfloat16"; `None`: Keras' own
            (`keras.config.dtype_policy`).

    Attributes:
        pyramid_outputs: dict "stem", "stage0" … "stage3" of symbolic maps (batch, h, w, dim), strides 4, 4, 8, 16, 32.

    Raises:
        ValueError: for a size that 32 does not divide, lists that have not 4 entries, or a value out of its range.

    Source: arXiv 2207.10666; timm `tiny_vit.py`.
    """

    def __init__(
        self,
        image_size=224,
        embed_dims=(64, 128, 160, 320),
        depths=(2, 2, 6, 2),
        num_heads=(2, 4, 5, 10),
        window_sizes=None,
        stage_2_windows=1,
        drop_path_rate=0.0,
        mlp_ratio=4.0,
        mbconv_expand_ratio=4.0,
        frozen_stages=0,
        name=None,
        dtype=None,
    ):
        arguments = {
            "image_size": image_size,
            "embed_dims": embed_dims,
            "depths": depths,
            "num_heads": num_heads,
            "window_sizes": window_sizes,
            "stage_2_windows": stage_2_windows,
            "drop_path_rate": drop_path_rate,
            "mlp_ratio": mlp_ratio,
            "mbconv_expand_ratio": mbconv_expand_ratio,
            "frozen_stages": frozen_stages,
        }
        check("TinyViTBackbone", TINY_VIT, arguments)
        height, width = _pair(image_size)
        derived = [(height // stride, width // stride) for stride in (32, 32, 16 * stage_2_windows, 32)]
        undivided = any(side // 16 % stage_2_windows for side in (height, width))
        if stage_2_windows > 1 and (undivided or window_sizes is not None):
            raise ValueError(
                f"stage_2_windows must divide the map of stage 2, {height // 16} × {width // 16}, and is for windows "
                f"that are derived. Received: {stage_2_windows}, window_sizes={window_sizes!r}"
            )
        windows = [_pair(window) for window in window_sizes] if window_sizes is not None else derived
        rates = np.linspace(0, drop_path_rate, sum(depths)).tolist()

        with precision(dtype):
            inputs = keras.Input((height, width, 3), name="images")
            x = conv_norm(inputs, embed_dims[0] // 2, 3, stride=2, name="patch_embed_conv1")
            x = gelu(x, "patch_embed_act")
            x = conv_norm(x, embed_dims[0], 3, stride=2, name="patch_embed_conv2")
            pyramid = {"stem": x}  # (batch, h/4, w/4, embed_dims[0])
            for stage, (dim, depth) in enumerate(zip(embed_dims, depths, strict=True)):
                if stage > 0:
                    x = patch_merging(x, dim, f"stages_{stage}_downsample")
                for block in range(depth):
                    place, rate = f"stages_{stage}_blocks_{block}", rates.pop(0)
                    if stage == 0:
                        x = mbconv(x, mbconv_expand_ratio, rate, place)
                    else:
                        x = tiny_vit_block(x, num_heads[stage], windows[stage], mlp_ratio, rate, place)
                pyramid[f"stage{stage}"] = x
            super().__init__(inputs=inputs, outputs=x, name=name)

        self._pyramid = pyramid
        self.embed_dims = tuple(embed_dims)
        self.depths = tuple(depths)
        self.num_heads = tuple(num_heads)
        self.window_sizes = None if window_sizes is None else tuple(windows)
        self.stage_2_windows = int(stage_2_windows)
        self.drop_path_rate = float(drop_path_rate)
        self.mlp_ratio = float(mlp_ratio)
        self.mbconv_expand_ratio = float(mbconv_expand_ratio)
        self.frozen_stages = int(frozen_stages)
        frozen = tuple(f"stages_{stage}_blocks" for stage in range(frozen_stages)) + tuple(
            f"stages_{stage + 1}_downsample" for stage in range(frozen_stages)
        )
        for layer in self.layers:
            if layer.name.startswith(frozen) and frozen:
                layer.trainable = False

    @property
    def pyramid_outputs(self):
        return dict(self._pyramid)  # plain: JAX does not take the tracked dict that Keras makes of an attribute

    def get_config(self):
        return self.saved({argument: getattr(self, argument) for argument in TINY_VIT})

    @classmethod
    def from_config(cls, config, custom_objects=None):
        return cls.restored(config)

    @classmethod
    def from_preset(cls, name, load_weights=False, **overrides):
        """The variant called `name` (tiny_vit_5m_224, 11m_224, 21m_224, 21m_384, 21m_512).

        Args:
            load_weights: `False` for random weights, or what `keras_realmnet.load_timm_weights` takes.
            overrides: arguments of the constructor that differ from the preset: image_size, embed_dims, depths,
                num_heads, window_sizes, stage_2_windows, drop_path_rate, mlp_ratio, mbconv_expand_ratio, frozen_stages,
                name, dtype.

        Raises:
            ValueError: for an unknown preset, or a value out of its range; TypeError for another argument.
            WeightsMismatch: the weights do not fit.
        """
        return load_initial_weights(cls(**{**preset(TINY_VIT_PRESETS, name), **overrides}), load_weights)


def load_initial_weights(model, load_weights):
    """`model` after loading `load_weights` into it where that names any.

    Raises:
        ValueError: for `True`: weights are a file, never fetched silently.
    """
    if load_weights is True:
        raise ValueError(
            "load_weights must be False, a dict of arrays or the path of a .safetensors file (timm publishes "
            "`tiny_vit_*` checkpoints in that format). Received: True"
        )
    if load_weights is not False and load_weights is not None:
        from keras_realmnet.weights import load_timm_weights

        load_timm_weights(model, load_weights)
    return model


@keras.saving.register_keras_serializable("keras_realmnet")
class TinyViTImageClassifier(Network):
    """TinyViT as published: backbone, global average pooling, LayerNorm, Dense; logits (batch, num_classes).

    Args:
        backbone: a `TinyViTBackbone`.
        num_classes: classes, 1000 for the ImageNet checkpoints.
        name, dtype: as for the backbone; the backbone keeps its own precision.
    """

    def __init__(self, backbone, num_classes=1000, name=None, dtype=None):
        rules = {"backbone": BACKBONE, "num_classes": CLASSES}
        check("TinyViTImageClassifier", rules, {"backbone": backbone, "num_classes": num_classes})
        with precision(dtype):
            inputs = keras.Input((*backbone.image_size, 3), name="images")
            x = layers.GlobalAveragePooling2D(name="head_pool")(backbone(inputs))
            x = layers.LayerNormalization(epsilon=EPSILON, name="head_norm")(x)
            x = layers.Dense(num_classes, kernel_initializer=_dense_initializer(), name="head_fc")(x)
            super().__init__(inputs=inputs, outputs=x, name=name)
        self.backbone = backbone
        self.num_classes = int(num_classes)

    def get_config(self):
        backbone = keras.saving.serialize_keras_object(self.backbone)
        return self.saved({"backbone": backbone, "num_classes": self.num_classes})

    @classmethod
    def from_config(cls, config, custom_objects=None):
        return cls.restored({**config, "backbone": keras.saving.deserialize_keras_object(config["backbone"])})

    @classmethod
    def from_preset(cls, name, load_weights=False, num_classes=1000, **overrides):
        """The classifier on the backbone preset `name`.

        Args:
            num_classes: classes.
            load_weights, overrides: as for `TinyViTBackbone.from_preset`; `dtype` is then that of all of it.
        """
        backbone = TinyViTBackbone.from_preset(name, **overrides)
        return load_initial_weights(cls(backbone, num_classes, name=name, dtype=overrides.get("dtype")), load_weights)
