"""What stands on an encoder's maps to tell the pixels of lesions: one function for each published network.

All take {stride: map (batch, h / stride, w / stride, channels)}, stride 1 being the image, how many channels are to be
told, the name of the last layer, and a stride if they offer a choice of it. All give float32 logits (batch, h / s, w /
s, channels); the stride s is the one chosen, of U-Net 1, of DeepLabv3+ 4, of DANet 32.
"""

import keras
from keras import layers

from keras_realmnet.models.layers.blocks import aspp, conv_norm_relu, merge, pixel_logits

__all__ = ["Gain", "danet", "deeplab_v3_plus", "expansive", "fcn", "unet"]

UNET_CHANNELS = {16: 512, 8: 256, 4: 128, 2: 64, 1: 32}
ASPP_CHANNELS, ASPP_RATES, LOW_LEVEL_CHANNELS = 256, (3, 6, 9), 48
NARROWER = 8  # queries and keys of DANet's attention, as there


def expansive(maps, channels, name, stride):
    """Lesion-Net's expansive path of adjustable length (Wei et al., section on Lesion-Net).

    Per step a 1 × 1 convolution to the width of the next finer map, bilinear enlargement by 2, concatenation with that
    map and two 3 × 3 convolutions with BatchNorm and ReLU; at `stride` it ends. That those have the width of the finer
    map is ours, and that the 1 × 1 convolution has no bias, which the BatchNorm would take out.
    """
    x = maps[32]
    for step in (16, 8, 4, 2):
        if step < stride:
            break
        skip = maps[step]
        x = layers.Conv2D(skip.shape[-1], 1, use_bias=False, name=f"stride{step}_narrow")(x)
        x = _enlarged(x, 2, f"stride{step}_up")
        x = merge(x, skip, skip.shape[-1], f"stride{step}")
    return pixel_logits(x, channels, name)


def fcn(maps, channels, name, stride):
    """FCN-32s, 16s, 8s (Long et al., CVPR 2015): scores of each map, the coarser ones enlarged by 2 and added.

    There the enlargement is learned, from bilinear on, and two wide convolutions stand before the scores of stride 32;
    bilinear, and none, are ours.
    """
    x = pixel_logits(maps[32], channels, name if stride == 32 else "stride32_scores")
    for step in (16, 8):
        if step < stride:
            break
        scores = pixel_logits(maps[step], channels, f"stride{step}_scores", rare=False)  # which are added
        x = _enlarged(x, 2, f"stride{step}_up", dtype="float32")
        x = layers.Add(dtype="float32", name=name if step == stride else f"stride{step}_add")([scores, x])
    return x


def unet(maps, channels, name):
    """U-Net (Ronneberger et al., MICCAI 2015): up to the image's size by transposed convolutions of 2 × 2.

    Beside each map the encoder's of that size, then two 3 × 3 convolutions. BatchNorm and the widths, 512 to 32, are
    ours; so is that the image itself, in −1…1, stands for a map of stride 1, which no encoder has.
    """
    skips = {**maps, 1: layers.Rescaling(1 / 127.5, -1.0, name="image")(maps[1])}
    x = maps[32]
    for step, filters in UNET_CHANNELS.items():
        x = layers.Conv2DTranspose(filters, 2, 2, kernel_initializer="he_normal", name=f"stride{step}_up")(x)
        x = merge(x, skips[step], filters, f"stride{step}")
    return pixel_logits(x, channels, name)


def deeplab_v3_plus(maps, channels, name):
    """DeepLabv3+ (Chen et al., ECCV 2018): ASPP, enlarged to stride 4, beside that map in 48 channels, 2 convolutions.

    There the encoder is dilated to stride 16, with the rates 6, 12 and 18; here all networks have the same encoder,
    whose last map has stride 32, and the rates 3, 6 and 9 look as far in the picture. That is ours.
    """
    x = aspp(maps[32], ASPP_CHANNELS, ASPP_RATES)
    x = _enlarged(x, 8, "stride4_up")
    x = merge(x, conv_norm_relu(maps[4], LOW_LEVEL_CHANNELS, 1, name="stride4_narrow"), ASPP_CHANNELS, "stride4")
    return pixel_logits(x, channels, name)


def danet(maps, channels, name):
    """DANet (Fu et al., CVPR 2019): attention among positions, and among channels, each between two convolutions.

    A quarter of the map's channels, queries and keys an eighth of those; both begin with a gain of 0. There the encoder
    is dilated to stride 8, dropout comes before the scores, and each attention has scores of its own in training; here
    stride 32 as all networks' encoder has it, one set of scores and no dropout. That is ours.
    """
    width = maps[32].shape[-1] // 4
    branches = []
    for branch, attend in (("position", _position_attention), ("channel", _channel_attention)):
        x = conv_norm_relu(maps[32], width, name=f"{branch}_in")
        x = layers.Add(name=f"{branch}_add")([x, Gain(name=f"{branch}_gain")(attend(x))])
        branches.append(conv_norm_relu(x, width, name=f"{branch}_out"))
    return pixel_logits(layers.Add(name="attended")(branches), channels, name)


def _position_attention(x):
    """Each position as a mean of all, weighted by how its query fits their keys: (batch, h, w, channels), twice."""
    _, height, width, channels = x.shape

    def flat(filters, part):
        # The keys' bias would cancel in the softmax.
        y = layers.Conv2D(filters, 1, use_bias=part != "key", name=f"position_{part}")(x)
        return layers.Reshape((height * width, filters), name=f"position_{part}_flat")(y)

    narrow = max(1, channels // NARROWER)
    query, key, value = flat(narrow, "query"), flat(narrow, "key"), flat(channels, "value")
    attended = layers.Attention(name="position_attention")([query, value, key])
    return layers.Reshape((height, width, channels), name="position_map")(attended)


def _channel_attention(x):
    """Each channel as a mean of all, weighted more the less alike they are: softmax(−A·Aᵀ)·A, A (channels, positions).

    The paper's formula has the softmax of A·Aᵀ, its code that of (largest − A·Aᵀ), which is this.
    """
    _, height, width, channels = x.shape
    flat = layers.Reshape((height * width, channels), name="channel_flat")(x)
    by_channel = layers.Permute((2, 1), name="channel_first")(flat)
    unlike = layers.Rescaling(-1.0, name="channel_unlike")(by_channel)
    attended = layers.Attention(name="channel_attention")([unlike, by_channel, by_channel])
    attended = layers.Permute((2, 1), name="channel_last")(attended)
    return layers.Reshape((height, width, channels), name="channel_map")(attended)


def _enlarged(x, factor, name, dtype=None):
    return layers.UpSampling2D(factor, interpolation="bilinear", dtype=dtype, name=name)(x)


@keras.saving.register_keras_serializable("keras_realmnet")
class Gain(layers.Layer):
    """x → gamma · x, gamma one number that is learned, from 0 on."""

    def build(self, input_shape):
        self.gamma = self.add_weight(shape=(), initializer="zeros", name="gamma")

    def call(self, x):
        return self.gamma * x

    def compute_output_shape(self, input_shape):
        return input_shape
