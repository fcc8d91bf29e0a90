"""The regionally guided CNN: one map of logits for each finding, whose mean says whether it is there.

Source: Son et al., Classification of Findings with Localized Lesions in Fundoscopic Images using a Regionally Guided
CNN (OMIA 2018, arXiv 1811.00871). What the paper leaves open, and is ours, is marked as such.
"""

import keras
from keras import layers

from keras_realmnet.arguments import check
from keras_realmnet.arguments import image_size as size_rule
from keras_realmnet.models.encoders.encoder import STRIDES, Encoder
from keras_realmnet.models.layers.blocks import conv_norm, conv_norm_relu, pixel_logits
from keras_realmnet.models.network import Network, precision
from keras_realmnet.models.vessels.segmentation import check_weights

__all__ = ["RATES", "guided_network"]

RESIDUAL = "residual"
RATES = {"small": (1, 2), "medium": (1, 2, 4), "large": (1, 2, 4, 8)}  # of atrous convolutions, by the size of lesions
_RELU6 = 6.0  # of what is made for int8


def guided_network(
    output,
    labels,
    maps=None,
    findings="medium",
    max_pool=1,
    map_stride=32,
    encoder=RESIDUAL,
    filters=16,
    pyramid_filters=256,
    image_size=512,
    load_weights=False,
    name="guided_medium",
    dtype=None,
):
    """An encoder's maps of five strides, brought to one size, an atrous pyramid, a map of logits Z for each label.

    A = sigmoid(Z) is the activation map, sigmoid of the mean of Z the probability. The maps of the finer strides are
    averaged; the paper takes those of the first four reductions, that the fifth is beside them is ours. The pyramid is
    a 3 × 3 convolution at each of its rates, side by side, and a convolution of 1 × 1 makes Z of all.

    "residual" is the published encoder: a convolution at stride 1, and for each stride a reduction (3 × 3, step 2,
    twice the depth) and a residual unit; one unit each, and a depth of 16 to begin with, are ours. With 512 px and one
    label guided_medium has 14,729,585 parameters.

    Args:
        output: name of the output of labels. labels: how many; one in the paper.
        maps: name of the output of Z; `None`: Z is not told.
        findings: how large their lesions are, "large", "medium" or "small": the `RATES`.
        max_pool: side in cells of the windows of whose largest Z the mean is taken, 1: of Z itself. The paper has a
            maximum before the mean for hemorrhages, hard exudates, cotton wool patches, drusen and pigmentary changes;
            its side, 2 in guided_small, is ours.
        map_stride: pixels along a cell of Z, 32 as published or 16: the coarsest map is then enlarged, bilinearly.
        encoder: "residual", "efficientnet_lite0" or "mobilenet_v2"; with the latter two all is made for int8.
        filters: of "residual" at stride 1.
        pyramid_filters: of each rate; the paper does not say how many.
        image_size: pixels, one number or (height, width); divisible by 32.
        load_weights: as for `Encoder`; of "residual" there are none.
        name: of the model. dtype: of all but Z and what follows, a Keras dtype policy; `None`: Keras' own.

    Returns:
        A `Network`: images (batch, h, w, 3), RGB, 0–255 → {output: logits (batch, labels), float32}, and with `maps`
        {…: logits Z (batch, h / map_stride, w / map_stride, labels), float32}.

    Raises:
        WeightsMismatch: weights are asked for that there are not. ValueError: an image size that 32 does not divide.
    """
    largest = None if encoder == RESIDUAL else _RELU6
    with precision(dtype):
        if encoder == RESIDUAL:
            images, by_stride = _residual_maps(image_size, filters, load_weights, name)
        else:
            network = Encoder(encoder, image_size, None, load_weights, name="encoder", dtype=dtype)
            images = keras.Input((*network.image_size, 3), name="images")
            by_stride = dict(zip(STRIDES, network(images), strict=True))
        x = layers.Concatenate(name="levels")([_at_stride(x, s, map_stride) for s, x in by_stride.items()])
        pyramid = [
            conv_norm_relu(x, pyramid_filters, 3, rate, largest, name=f"pyramid_rate{rate}") for rate in RATES[findings]
        ]
        x = layers.Concatenate(name="pyramid")(pyramid)
        z = pixel_logits(x, labels, maps or f"{output}_maps", rare=False)
        pooled = z
        if max_pool > 1:
            pooled = layers.MaxPooling2D(max_pool, padding="same", dtype="float32", name="largest")(z)
        said = layers.GlobalAveragePooling2D(dtype="float32", name=output)(pooled)
        return Network(images, {output: said} if maps is None else {output: said, maps: z}, name=name)


def _at_stride(x, stride, wanted):
    if stride < wanted:
        return layers.AveragePooling2D(wanted // stride, name=f"stride{stride}_pool")(x)
    if stride > wanted:
        return layers.UpSampling2D(stride // wanted, interpolation="bilinear", name=f"stride{stride}_up")(x)
    return x


def _residual_maps(image_size, filters, load_weights, name):
    """The input, and {stride: map (batch, h / stride, w / stride, channels)}."""
    check_weights(name, load_weights)
    check("a guided network", {"image_size": size_rule(32)}, {"image_size": image_size})
    sides = (image_size, image_size) if isinstance(image_size, int) else tuple(image_size)
    images = keras.Input((*sides, 3), name="images")
    x = layers.Rescaling(1 / 127.5, -1.0, name="rescaling")(images)
    x = conv_norm_relu(x, filters, name="stride1")
    maps = {}
    for level, stride in enumerate(STRIDES, start=1):
        x = conv_norm_relu(x, filters * 2**level, strides=2, name=f"stride{stride}_reduction")
        maps[stride] = x = _residual_unit(x, f"stride{stride}_unit")
    return images, maps


def _residual_unit(x, name):
    """He et al. (CVPR 2016): two convolutions of 3 × 3, added to what they are made of, then ReLU."""
    inside = conv_norm_relu(x, x.shape[-1], name=f"{name}_first")
    inside = conv_norm(inside, x.shape[-1], name=f"{name}_second")
    x = layers.Add(name=f"{name}_add")([x, inside])
    return layers.ReLU(name=f"{name}_relu")(x)
