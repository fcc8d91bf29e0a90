"""What the networks of disc, cup and fovea are made of: an encoder of the picture, one of its vessels, and a decoder.

Source: Son, MICCAI 2020 (REFUGE2 technical report). What it leaves open, and is ours, is marked as such.
"""

from typing import NamedTuple

import keras
from keras import layers

from keras_realmnet.arguments import check
from keras_realmnet.arguments import image_size as size_rule
from keras_realmnet.models.encoders.encoder import STRIDES, Encoder
from keras_realmnet.models.network import Network
from keras_realmnet.models.refuge.pictures import ChannelStandardization, Resized
from keras_realmnet.presets import VESSELS

__all__ = ["TwoBranches", "decoded", "two_branches"]

DECODER_CHANNELS = {32: 256, 16: 128, 8: 64, 4: 32}  # by the stride at which a step ends


class TwoBranches(NamedTuple):
    """The input, the maps of the picture by stride, and the map of stride 64 of both branches together."""

    images: keras.KerasTensor
    maps: dict[int, keras.KerasTensor]
    joint: keras.KerasTensor


def two_branches(image_size, vessels, fundus_encoder, vessel_encoder, load_weights, dtype) -> TwoBranches:
    """Two encoders, each with a pooling of stride 2 behind its last map, beside each other: 10 × 10 at 640 px.

    Published: EfficientNet-B4 on the picture, each channel standardized, EfficientNet-B0 on a map of its vessels. Ours:
    that the pooling is a maximum; that the scaling of ImageNet is left out behind the standardization; and that the
    probability of vessels, 0–1, is a grey picture of 0–255 to an encoder as it is.

    Args:
        image_size: pixels, one number or (height, width); divisible by 64.
        vessels: a network as `networks.build` makes it for one mask: images, RGB, 0–255 → {name: logits (batch, h', w',
            1)}. It sees the same picture at its own size, its map is brought to `image_size`, both bilinearly; it is
            frozen, its statistics too. `None`: there is no branch of vessels.
        fundus_encoder, vessel_encoder: an architecture of `Encoder`. load_weights: as for both of these.
        dtype: of the encoders, a Keras dtype policy; `None`: Keras' own.

    Raises:
        ValueError: an `image_size` that is not divisible by 64, or `vessels` that give something else.
    """
    check("a network of two branches", {"image_size": size_rule(64)}, {"image_size": image_size})
    part = None if vessels is None else _frozen(vessels)
    fundus = Encoder(fundus_encoder, image_size, load_weights=load_weights, name="fundus_scaled", dtype=dtype)
    images = keras.Input((*fundus.image_size, 3), name="images")
    standardized = ChannelStandardization(name="standardized")(images)
    maps = dict(zip(STRIDES, _without_scaling(fundus, "fundus")(standardized), strict=True))
    joint = layers.MaxPooling2D(2, name="fundus_pool")(maps[32])
    if part is not None:
        encoder = Encoder(vessel_encoder, image_size, load_weights=load_weights, name="vessel_encoder", dtype=dtype)
        pooled = layers.MaxPooling2D(2, name="vessel_pool")(encoder(_vessel_picture(images, part))[-1])
        joint = layers.Concatenate(name="joint")([joint, pooled])
    return TwoBranches(images, maps, joint)


def decoded(branches: TwoBranches, stride):
    """From stride 64 up to `stride`: (batch, h / stride, w / stride, filters).

    Per step ×2, the picture's map of that size beside it, a separable convolution of 3 × 3, swish; no BatchNorm. Ours:
    that the enlargement is bilinear, and the filters, `DECODER_CHANNELS`.
    """
    x = branches.joint
    for step, filters in DECODER_CHANNELS.items():
        if step < stride:
            break
        name = f"stride{step}"
        x = layers.UpSampling2D(2, interpolation="bilinear", name=f"{name}_up")(x)
        x = layers.Concatenate(name=f"{name}_concat")([x, branches.maps[step]])
        # A separable convolution in the two layers that an exporter knows.
        x = layers.DepthwiseConv2D(
            3, padding="same", use_bias=False, depthwise_initializer="he_normal", name=f"{name}_depthwise"
        )(x)
        x = layers.Conv2D(filters, 1, kernel_initializer="he_normal", name=f"{name}_pointwise")(x)
        x = layers.Activation("silu", name=f"{name}_swish")(x)
    return x


def _without_scaling(encoder, name):
    """An `Encoder` from its first convolution, or the padding before it, on."""
    first = next(layer for layer in encoder.layers if isinstance(layer, layers.Conv2D | layers.ZeroPadding2D))
    return keras.Model(first.input, encoder.outputs, name=name)


def _frozen(network):
    """`network`, which tells one mask, as a part that does not train."""
    output = network.output
    (key, logits), *others = output.items() if isinstance(output, dict) else [(None, None)]
    if others or logits is None or len(logits.shape) != 4 or logits.shape[-1] != 1:
        raise ValueError(f"vessels must be a network with one output of one mask. Received: {output}")
    part = Network(network.input, {key: logits}, name=VESSELS)
    part.trainable = False
    return part


def _vessel_picture(images, part):
    """The probability of vessels as a grey picture, (batch, h, w, 3), 0–255."""
    size, x = tuple(images.shape[1:3]), images
    if part.image_size != size:
        x = Resized(*part.image_size, name="vessels_see")(x)
    (logits,) = part(x).values()
    x = layers.Activation("sigmoid", dtype="float32", name="vessel_map")(logits)
    if tuple(x.shape[1:3]) != size:
        x = Resized(*size, name="vessel_map_sized")(x)
    x = layers.Rescaling(255.0, dtype="float32", name="vessel_levels")(x)
    return layers.Concatenate(dtype="float32", name="vessel_picture")([x, x, x])
