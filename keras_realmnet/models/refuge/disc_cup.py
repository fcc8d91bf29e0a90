"""Optic disc and cup, or one of them: two encoders, a decoder, and logits for each pixel.

Source: Son, MICCAI 2020 (REFUGE2 technical report).
"""

from keras import layers

from keras_realmnet.models.layers.blocks import pixel_logits
from keras_realmnet.models.network import Network, precision
from keras_realmnet.models.refuge.two_branches import decoded, two_branches

__all__ = ["disc_cup_network"]

STRIDE = 4  # at which the decoder ends


def disc_cup_network(
    output,
    channels,
    vessels=None,
    fundus_encoder="efficientnet_b4",
    vessel_encoder="efficientnet_b0",
    image_size=640,
    load_weights=False,
    name="refuge_disc_cup",
    dtype=None,
):
    """Masks at the size of the picture: the decoder goes up to 160 × 160 of 640 px, and ×4 from there.

    The 1 × 1 convolution to logits comes before the bilinear enlargement, where it costs a sixteenth and gives the
    same. What is found in these is told by `keras_realmnet.tasks.masks.found_masks`.

    Args:
        output: name of the output. channels: structures, each with a sigmoid of its own.
        vessels, fundus_encoder, vessel_encoder, image_size: as for `two_branches`.
        load_weights: of both encoders, `False` or "imagenet".
        name: of the model. dtype: of all but the logits, a Keras dtype policy; `None`: Keras' own.

    Returns:
        A `Network`: images (batch, h, w, 3), RGB, 0–255 → {output: logits (batch, h, w, channels), float32}.
    """
    with precision(dtype):
        branches = two_branches(image_size, vessels, fundus_encoder, vessel_encoder, load_weights, dtype)
        logits = pixel_logits(decoded(branches, STRIDE), channels, f"{output}_coarse")
        enlarge = layers.UpSampling2D(STRIDE, interpolation="bilinear", dtype="float32", name=output)
        return Network(branches.images, {output: enlarge(logits)}, name=name)
