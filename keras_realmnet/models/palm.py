"""The networks of PALM transfer learning: pathologic myopia, fovea and optic disc in colour fundus photographs.

Source: Xie et al., transfer learning for pathologic myopia at ISBI 2019's PALM challenge. The paper leaves much open;
what it does not state, and is ours, is marked as such.
"""

import keras
import numpy as np
from keras import layers

from keras_realmnet.models.encoders.encoder import Encoder
from keras_realmnet.models.layers.blocks import aspp, conv_norm_relu, merge, pooled_logits
from keras_realmnet.models.network import Network, precision

__all__ = ["palm_classifier", "palm_disc", "palm_fovea"]

SIDE_CHANNELS = 64  # of the branches of the two smaller inputs
ASPP_CHANNELS, ASPP_RATES = 256, (6, 12, 18)
DECODER_CHANNELS = (256, 128, 64, 64, 32)


def palm_classifier(output, classes, image_size=512, load_weights=False, name="palm_classifier", dtype=None):
    """Pathologic myopia: ResNet50, global average pooling, Dense.

    512 px are ours.

    Args:
        output: name of the output. classes: how many grades or labels.
        image_size, load_weights: as for `Encoder` "resnet50".
        name: of the model. dtype: of all but the last layer, a Keras dtype policy; `None`: Keras' own.

    Returns:
        A `Network`: images (batch, h, w, 3), RGB, 0–255 → {output: logits (batch, classes), float32}.
    """
    with precision(dtype):
        encoder = Encoder("resnet50", image_size, load_weights=load_weights, name="encoder", dtype=dtype)
        images = keras.Input((*encoder.image_size, 3), name="images")
        return Network(images, {output: pooled_logits(encoder(images)[-1], classes, output)}, name=name)


def palm_fovea(
    output, points, backbone="vgg19_mixed", image_size=512, load_weights=False, name="palm_fovea", dtype=None
):
    """Where the fovea lies: VGG19 with blocks 4 and 5 mixed, or VGG19 or ResNet50 as they are.

    How blocks 4 and 5 are mixed is ours: the last map of block 4, max-pooled 2 × 2, beside the last map of block 5,
    1024 channels. So is the head: global average pooling, Dense 512 with ReLU, Dense with a sigmoid.

    Args:
        output: name of the output. points: how many; the publication has one.
        backbone: "vgg19_mixed", "vgg19" or "resnet50".
        image_size, load_weights: as for `Encoder` "vgg19" or "resnet50".
        name, dtype: as for `palm_classifier`.

    Returns:
        A `Network`: images (batch, h, w, 3), RGB, 0–255 → {output: x, y (batch, points, 2), float32}, x to the right, y
        down, in fractions of the image's sides.
    """
    architecture = backbone.removesuffix("_mixed")
    with precision(dtype):
        encoder = Encoder(architecture, image_size, load_weights=load_weights, name="encoder", dtype=dtype)
        images = keras.Input((*encoder.image_size, 3), name="images")
        _, _, block4, block5, x = encoder(images)
        if backbone == "vgg19_mixed":
            x = layers.Concatenate(name="mixed")([layers.MaxPooling2D(name="mixed_pool")(block4), block5])
        x = layers.GlobalAveragePooling2D(name="pool")(x)
        x = layers.Dense(512, "relu", name="hidden")(x)
        x = layers.Dense(2 * points, "sigmoid", dtype="float32", name="coordinates")(x)
        return Network(images, {output: layers.Reshape((points, 2), dtype="float32", name=output)(x)}, name=name)


def palm_disc(output, channels, image_size=512, load_weights=False, name="palm_disc", dtype=None):
    """The optic disc: ResNet34 that sees the image at three sizes, ASPP, and a decoder of transposed convolutions.

    Published: the image at 512, 256 and 128 px; ASPP on the map of 16 × 16; steps of transposed convolution,
    concatenation and two convolutions. Ours:

    - The two smaller images are means of 2 × 2 and 4 × 4 pixels. Each goes through a convolution, 3 × 3, to 64
      channels, is concatenated with the encoder's map of its size, and a 1 × 1 convolution leads back to the encoder's
      channels. It begins near the identity, so that the encoder's ImageNet weights see what they know.
    - ASPP: 1 × 1, 3 × 3 at the rates 6, 12 and 18, and the mean of the image, 256 channels each, then together.
    - Decoder: 256, 128, 64, 64 and 32 channels, where the last step has the image itself beside it.

    Args:
        output: name of the output. channels: structures and the background.
        image_size, load_weights: as for `Encoder` "resnet34".
        name, dtype: as for `palm_classifier`.

    Returns:
        A `Network`: images (batch, h, w, 3), RGB, 0–255 → {output: logits (batch, h, w, channels), float32}.
    """
    with precision(dtype):
        encoder = Encoder("resnet34", image_size, load_weights=load_weights, name="encoder", dtype=dtype)
        images = keras.Input((*encoder.image_size, 3), name="images")
        scaled = encoder.get_layer("scaling")(images)
        to_half, to_quarter, to_end = _resnet34_in_parts(encoder.get_layer("resnet34"))
        half_image = layers.AveragePooling2D(2, name="half_image")(scaled)
        quarter_image = layers.AveragePooling2D(2, name="quarter_image")(half_image)
        half = _with_side_input(to_half(scaled), half_image, "half")  # (batch, h/2, w/2, 64)
        quarter = _with_side_input(to_quarter(half), quarter_image, "quarter")  # (batch, h/4, w/4, 64)
        eighth, sixteenth, x = to_end(quarter)  # (…, 128), (…, 256), (batch, h/32, w/32, 512)
        x = aspp(x, ASPP_CHANNELS, ASPP_RATES)
        skips = (sixteenth, eighth, quarter, half, scaled)
        for step, (filters, skip) in enumerate(zip(DECODER_CHANNELS, skips, strict=True)):
            x = _decoder_step(x, skip, filters, f"decoder{step}")
        logits = layers.Conv2D(channels, 1, dtype="float32", name=output)(x)
        return Network(images, {output: logits}, name=name)


def _resnet34_in_parts(network):
    """`network` up to stride 2, from there to stride 4, and from there its maps at the strides 8, 16 and 32."""
    half, quarter, *deeper = network.outputs
    return (
        keras.Model(network.inputs, half, name="resnet34_half"),
        keras.Model(half, quarter, name="resnet34_quarter"),
        keras.Model(quarter, deeper, name="resnet34_end"),
    )


def _with_side_input(x, image, name):
    """`x` (batch, h, w, channels) after a look at `image` (batch, h, w, 3)."""
    side = conv_norm_relu(image, SIDE_CHANNELS, name=f"{name}_side")
    project = layers.Conv2D(x.shape[-1], 1, use_bias=False, name=f"{name}_project")
    projected = project(layers.Concatenate(name=f"{name}_concat")([x, side]))
    (kernel,) = project.get_weights()  # (1, 1, channels + SIDE_CHANNELS, channels)
    kernel = 0.1 * np.asarray(kernel)
    kernel[0, 0, : x.shape[-1]] = np.eye(x.shape[-1])
    project.set_weights([kernel])
    return projected


def _decoder_step(x, skip, filters, name):
    """Transposed convolution to the size of `skip`, beside which it is put, and two convolutions."""
    x = layers.Conv2DTranspose(filters, 2, 2, kernel_initializer="he_normal", name=f"{name}_up")(x)
    return merge(x, skip, filters, name)
