"""Where the fovea lies: two encoders, a decoder up to cells of 8 px, and three maps for each point.

Source: Son, MICCAI 2020 (REFUGE2 technical report).
"""

from keras_realmnet.models.layers.offset_maps import offset_points
from keras_realmnet.models.network import Network, precision
from keras_realmnet.models.refuge.two_branches import decoded, two_branches

__all__ = ["fovea_network"]

STRIDE = 8  # at which the decoder ends: the side of a cell in pixels


def fovea_network(
    output,
    points,
    confidence=False,
    vessels=None,
    fundus_encoder="efficientnet_b4",
    vessel_encoder="efficientnet_b0",
    image_size=640,
    load_weights=False,
    name="refuge_fovea",
    dtype=None,
):
    """The decoder of disc and cup up to 80 × 80 of 640 px, and by a 1 × 1 convolution the maps that points are read of.

    Args:
        output: name of the output. points: how many; the publication has one. confidence: whether each has one.
        vessels, fundus_encoder, vessel_encoder, image_size: as for `two_branches`.
        load_weights: of both encoders, `False` or "imagenet".
        name: of the model. dtype: of all but the maps, a Keras dtype policy; `None`: Keras' own.

    Returns:
        A `Network`: images (batch, h, w, 3), RGB, 0–255 → {output: x, y (batch, points, 2) or with a confidence (batch,
        points, 3), OUTPUT_auxiliary: logits (batch, h / 8, w / 8, 3 · points)}, float32; see `offset_points`.
    """
    with precision(dtype):
        branches = two_branches(image_size, vessels, fundus_encoder, vessel_encoder, load_weights, dtype)
        ends = offset_points(decoded(branches, STRIDE), points, confidence, 1, output)
        return Network(branches.images, ends, name=name)
