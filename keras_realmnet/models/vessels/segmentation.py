"""Networks that tell the pixels of vessels: the U-Net that the GAN trains, and one for the box."""

import keras
from keras import layers

from keras_realmnet.arguments import check
from keras_realmnet.arguments import image_size as size_rule
from keras_realmnet.errors import WeightsMismatch
from keras_realmnet.models.layers.blocks import conv_norm_relu, merge, pixel_logits
from keras_realmnet.models.network import Network, precision

__all__ = ["check_weights", "image_input", "unet_logits", "vessel_lite", "vessel_unet"]

WIDTHS = (8, 16, 32, 48)  # of vessel_lite at stride 1, 2, 4, 8
_RELU6 = 6.0
# 0–255 to 0–2, of red, green and blue. Nothing is taken off: the zeros that convolutions pad with stay black, and the
# first convolution takes the scale in.
_SCALES = {"rgb": (1 / 127.5,) * 3, "green": (0.0, 1 / 127.5, 0.0)}


def vessel_lite(
    output,
    channels,
    widths=WIDTHS,
    colours="green",
    image_size=960,
    load_weights=False,
    name="vessel_lite",
    dtype=None,
):
    """Ours, for the box: a U-Net of 92,761 parameters (one vessel) that adds where others concatenate.

    Convolutions, additions, bilinear steps of 2 and ReLU6 alone, so that int8 loses little. Down by convolutions of 2 ×
    2, which lie about the middle of their pixels; per level two convolutions of 3 × 3. Up by a convolution of 1 × 1 to
    the width of the finer level, enlargement, addition, and convolutions of 3 × 3: two, at stride 4 one.

    Args:
        output: name of the output. channels: vessels that are told apart, and the background where they are exclusive.
        widths: channels at stride 1, 2, 4 and 8.
        colours: "green" looks at that channel alone, in which vessels are darkest in photographs and in ultra-widefield
            pictures alike, which have no blue; "rgb" at all.
        image_size: pixels, one number or (height, width), divisible by 8.
        load_weights: `False`; there are none.
        name: of the model. dtype: of all but the logits, a Keras dtype policy; `None`: Keras' own.

    Returns:
        A `Network`: images (batch, h, w, 3), RGB, 0–255 → {output: logits (batch, h, w, channels), float32}.

    Raises:
        WeightsMismatch: weights are asked for. ValueError: an image size that 8 does not divide.
    """
    check_weights(name, load_weights)
    with precision(dtype):
        images = image_input(image_size, 8)
        x = layers.Rescaling(list(_SCALES[colours]), name="rescaling")(images)
        skips = []
        for level, width in enumerate(widths):
            part = f"stride{2**level}"
            if level:
                x = conv_norm_relu(x, width, 2, max_value=_RELU6, strides=2, name=f"{part}_down")
            x = conv_norm_relu(x, width, max_value=_RELU6, name=f"{part}_first")
            x = conv_norm_relu(x, width, max_value=_RELU6, name=f"{part}_second")
            skips.append(x)
        for level in (2, 1, 0):
            part, width = f"stride{2**level}", widths[level]
            x = layers.Conv2D(width, 1, name=f"{part}_narrow")(x)
            x = layers.UpSampling2D(2, interpolation="bilinear", name=f"{part}_up")(x)
            x = layers.Add(name=f"{part}_add")([skips[level], x])
            x = conv_norm_relu(x, width, max_value=_RELU6, name=f"{part}_third")
            if level < 2:
                x = conv_norm_relu(x, width, max_value=_RELU6, name=f"{part}_fourth")
        return Network(images, {output: pixel_logits(x, channels, output)}, name=name)


def vessel_unet(
    output, channels, filters=32, levels=5, image_size=640, load_weights=False, name="vessel_unet", dtype=None
):
    """The generator of the GAN by itself: a U-Net of 32 to 512 channels.

    Args:
        output: name of the output. channels: vessels that are told apart, and the background where they are exclusive.
        filters: channels at stride 1; each of the `levels` has twice those of the finer one.
        image_size: pixels, one number or (height, width), that the coarsest stride divides: 16 of five levels.
        load_weights, name, dtype: as for `vessel_lite`.

    Returns:
        A `Network`: images (batch, h, w, 3), RGB, 0–255 → {output: logits (batch, h, w, channels), float32}.

    Raises:
        As `vessel_lite`.

    Source: Son et al., J Digit Imaging 32 (2019), and the authors' code. There each picture is standardized; that
    pixels become −1…1 is ours, since a deployed network sees a picture as it is.
    """
    check_weights(name, load_weights)
    with precision(dtype):
        images = image_input(image_size, 2 ** (levels - 1))
        return Network(images, {output: unet_logits(images, channels, filters, levels, output)}, name=name)


def unet_logits(images, channels, filters, levels, name):
    """Images (batch, h, w, 3), 0–255 → logits (batch, h, w, channels), float32; see `vessel_unet`."""
    x = layers.Rescaling(1 / 127.5, -1.0, name="rescaling")(images)
    skips = []
    for level in range(levels):
        part, width = f"stride{2**level}", filters * 2**level
        if level:
            x = layers.MaxPooling2D(name=f"{part}_pool")(x)
        x = conv_norm_relu(x, width, name=f"{part}_down_first")
        x = conv_norm_relu(x, width, name=f"{part}_down_second")
        skips.append(x)
    for level in reversed(range(levels - 1)):
        part = f"stride{2**level}"
        x = layers.UpSampling2D(2, name=f"{part}_up")(x)
        x = merge(x, skips[level], filters * 2**level, name=f"{part}_up")
    return pixel_logits(x, channels, name, rare=False)


def image_input(image_size, step):
    """Images (batch, h, w, 3) of a size that `step` divides, one number or (height, width)."""
    check("a network of vessels", {"image_size": size_rule(step)}, {"image_size": image_size})
    sides = (image_size, image_size) if isinstance(image_size, int) else tuple(image_size)
    return keras.Input((*sides, 3), name="images")


def check_weights(name, load_weights):
    """Raises WeightsMismatch where weights are asked for."""
    if load_weights is not False:
        raise WeightsMismatch(f"{name}: there are no weights to begin with. Received: {load_weights!r}")
