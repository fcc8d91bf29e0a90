"""Segmentation against a network that tells drawn vessels from found ones: Son et al., J Digit Imaging 32 (2019)."""

import keras
from keras import layers, ops

from keras_realmnet.losses.targets import IGNORED
from keras_realmnet.models.layers.blocks import conv_norm_relu
from keras_realmnet.models.network import Network, precision
from keras_realmnet.models.vessels.segmentation import check_weights, image_input, unet_logits

__all__ = ["DISCRIMINATORS", "VesselGAN", "discriminator_network"]


def _pixel(x, filters):
    """Each pixel by what lies 3 px around it."""
    for k in range(3):
        x = layers.Conv2D(filters * 2**k, 3, padding="same", name=f"conv{k}")(x)
        x = layers.LeakyReLU(0.2, name=f"conv{k}_relu")(x)
    return x


def _patch1(x, filters):
    """Patches at stride 8."""
    return _levels(x, filters, levels=3, strided=1)


def _patch2(x, filters):
    """Patches at stride 64."""
    return _levels(x, filters, levels=5, strided=2)


def _image(x, filters):
    return layers.GlobalAveragePooling2D(keepdims=True, name="pool")(_patch2(x, filters))


DISCRIMINATORS = {"pixel": _pixel, "patch1": _patch1, "patch2": _patch2, "image": _image}


def _levels(x, filters, levels, strided):
    """Two convolutions in each of `levels`, with max-pooling between; the first of `strided` levels have stride 2."""
    for level in range(levels):
        if level:
            x = layers.MaxPooling2D(name=f"level{level}_pool")(x)
        width = filters * 2**level
        x = conv_norm_relu(x, width, strides=2 if level < strided else 1, name=f"level{level}_first")
        x = conv_norm_relu(x, width, name=f"level{level}_second")
    return x


def discriminator_network(kind, channels, filters=32, image_size=640, name="discriminator"):
    """Pictures beside maps of their vessels, drawn or found → how much speaks for drawn.

    Args:
        kind: "pixel", "patch1" (stride 8), "patch2" (stride 64), or "image", which looks at all of it.
        channels: of the maps. filters: of the first convolution.
        image_size: pixels, one number or (height, width).

    Returns:
        A model: (batch, h, w, 3 + channels), pictures in −1…1, maps in 0…1 → logits (batch, h', w', 1), float32.
    """
    sides = (image_size, image_size) if isinstance(image_size, int) else tuple(image_size)
    pairs = keras.Input((*sides, 3 + channels), name="pairs")
    x = DISCRIMINATORS[kind](pairs, filters)
    return keras.Model(pairs, layers.Conv2D(1, 1, dtype="float32", name="drawn")(x), name=name)


@keras.saving.register_keras_serializable("keras_realmnet")
class VesselGAN(Network):
    """`vessel_unet` that in training plays against a discriminator: what it gives is that U-Net's answer.

    To the loss that it is compiled with, the published one being the cross-entropy, come the discriminator's, the mean
    cross-entropy of drawn and found maps, and `adversarial_weight` times the cross-entropy of found maps that shall
    pass for drawn. The first and the last are what the U-Net learns by, the second what the discriminator learns by.
    Where nothing is known of a picture both maps are empty.

    Both learn in each step, by one optimizer: Adam and its kin treat each weight by itself, so that it is two. In the
    authors' code one rests for an epoch while the other learns; that they do not, is ours. Figures of an epoch:
    "adversarial_loss" and "discriminator_loss".

    Args:
        output: name of the output, masks that are not exclusive. channels: vessels that are told apart.
        discriminator: a key of `DISCRIMINATORS`.
        filters: of the first convolution of both networks. levels: of the U-Net.
        adversarial_weight: published .1.
        image_size: pixels, one number or (height, width), that the U-Net's coarsest stride divides; "patch2" and
            "image" need 64 or more.
        load_weights: `False`; there are none.
        name: of the model. dtype: of all but the logits, a Keras dtype policy; `None`: Keras' own.

    Raises:
        As `vessel_unet`.
    """

    def __init__(
        self,
        output,
        channels,
        discriminator="image",
        filters=32,
        levels=5,
        adversarial_weight=0.1,
        image_size=640,
        load_weights=False,
        name="vessel_gan",
        dtype=None,
    ):
        check_weights(name, load_weights)
        with precision(dtype):
            images = image_input(image_size, 2 ** (levels - 1))
            super().__init__(images, {output: unet_logits(images, channels, filters, levels, output)}, name=name)
            self.discriminator = discriminator_network(discriminator, channels, filters, image_size)
        self.arguments = {
            "output": output,
            "channels": channels,
            "discriminator": discriminator,
            "filters": filters,
            "levels": levels,
            "adversarial_weight": adversarial_weight,
            "image_size": image_size,
        }
        self.adversarial_loss = keras.metrics.Mean(name="adversarial_loss")
        self.discriminator_loss = keras.metrics.Mean(name="discriminator_loss")

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        """As Keras does, and in training what the two networks lose against each other."""
        loss = super().compute_loss(x, y, y_pred, sample_weight, training)
        if not training:
            return loss
        (logits,), (truth,) = y_pred.values(), y.values()
        known = ops.cast(ops.not_equal(truth, IGNORED), "float32")
        drawn, found = ops.cast(truth, "float32") * known, ops.sigmoid(ops.cast(logits, "float32")) * known
        pictures = ops.cast(x, "float32") / 127.5 - 1

        def speaks_for_drawn(maps):
            return self.discriminator(ops.concatenate([pictures, maps], axis=-1), training=True)

        of_drawn, of_found = speaks_for_drawn(drawn), speaks_for_drawn(ops.stop_gradient(found))
        told_apart = (_mean_softplus(-of_drawn) + _mean_softplus(of_found)) / 2
        passes = _mean_softplus(-speaks_for_drawn(found))
        # The same number, which leads to the discriminator's weights alone: taken off, `passes` no longer does.
        same = _mean_softplus(-of_found)
        self.adversarial_loss.update_state(passes)
        self.discriminator_loss.update_state(told_apart)
        return loss + told_apart + self.arguments["adversarial_weight"] * (passes - same)

    def get_config(self):
        return self.saved(dict(self.arguments))

    @classmethod
    def from_config(cls, config, custom_objects=None):
        return cls.restored(config)


def _mean_softplus(logits):
    return ops.mean(ops.softplus(logits))
