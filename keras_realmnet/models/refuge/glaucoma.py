"""Whether there is glaucoma: one unit on what a frozen network of retinal findings sees; and that network.

Sources: Son, MICCAI 2020 (REFUGE2 technical report), for the unit, the MBConv blocks and both normalizations; Son et
al., Classification of Findings with Localized Lesions in Fundoscopic Images using a Regionally Guided CNN (OMIA 2018),
for reductions, rates and pooling. What they leave open, and is ours, is marked as such.
"""

import keras
from keras import layers

from keras_realmnet.arguments import check
from keras_realmnet.arguments import image_size as size_rule
from keras_realmnet.models.guided.network import RATES
from keras_realmnet.models.layers.batch_norm import BatchNormalization
from keras_realmnet.models.layers.blocks import conv_norm_relu, pooled_logits
from keras_realmnet.models.network import Network, precision
from keras_realmnet.models.refuge.pictures import ZeroLocalMean
from keras_realmnet.models.tiny_vit import BATCH_NORM_MOMENTUM
from keras_realmnet.models.vessels.segmentation import check_weights
from keras_realmnet.presets import FINDINGS

__all__ = ["SIZE_OF", "findings_network", "glaucoma_network"]

STRIDES = (2, 4, 8, 16, 32)
EXPANSION = 6  # of EfficientNet's MBConv blocks (arXiv 1905.11946), a quarter of the input's width in their excitation
# By the codes of `training.data.glaucoma.findings`. Which are small lesions is published, the others' sizes are ours.
SIZE_OF = {
    **dict.fromkeys(("HE", "EX", "SE", "DRUSEN", "PIGMENT"), "small"),
    **dict.fromkeys(("HOLE", "GDISC", "NGDISC"), "medium"),
    **dict.fromkeys(("VESSEL", "MEMB", "FLUID", "ATROPHY", "CHOROID", "MYELIN", "RNFLD"), "large"),
}


def findings_network(
    output,
    codes,
    normalization="scaled",
    filters=16,
    blocks=2,
    branch_filters=64,
    image_size=1024,
    load_weights=False,
    name="refuge_findings",
    dtype=None,
):
    """Which findings a picture shows: for each a map of logits at stride 32, whose mean is the logit.

    Of a small lesion it is the mean of the largest of 2 × 2: that it is 2 × 2 is ours. Further ours: one network for
    all findings, where the publication of 2018 has one for each; so they share all but the maps.

    Args:
        output: name of the output. codes: of the findings; those that `SIZE_OF` does not know are of medium size.
        normalization: "scaled", x / 255, or "local_mean", `ZeroLocalMean` before that, of a deviation of a thirtieth of
            the picture's radius.
        filters: of the first reduction; they double with each. blocks: MBConv blocks behind each of the five.
            branch_filters: of each atrous convolution.
        image_size: pixels, one number or (height, width); divisible by 64.
        load_weights: `False`: there are none. name: of the model. dtype: of all but the logits, a Keras dtype policy;
            `None`: Keras' own.

    Returns:
        A `Network`: images (batch, h, w, 3), RGB, 0–255 → {output: logits (batch, codes), float32}. Its part "findings"
        is what a `glaucoma_network` looks at.

    Raises:
        ValueError: an `image_size` that is not divisible by 64.
        WeightsMismatch: weights are asked for.
    """
    with precision(dtype):
        part = _features(name, image_size, load_weights, normalization, filters, blocks, branch_filters)
        images = keras.Input(part.input_shape[1:], name="images")
        maps, found = dict(zip(RATES, part(images), strict=True)), []
        for code in codes:
            size = SIZE_OF.get(code, "medium")
            x = layers.Conv2D(1, 1, dtype="float32", name=f"{code}_map")(maps[size])
            if size == "small":
                x = layers.MaxPooling2D(2, dtype="float32", name=f"{code}_largest")(x)
            found.append(layers.GlobalAveragePooling2D(dtype="float32", name=f"{code}_logit")(x))
        together = layers.Concatenate(dtype="float32", name=f"{output}_together")
        return Network(images, {output: together(found) if len(found) > 1 else found[0]}, name=name)


def glaucoma_network(
    output,
    classes,
    normalization="scaled",
    filters=16,
    blocks=2,
    branch_filters=64,
    image_size=1024,
    load_weights=False,
    name="refuge_glaucoma",
    dtype=None,
):
    """The maps that a network of findings looks at, beside each other, their means, and one unit for each class.

    That unit alone learns; the findings are frozen, their statistics too. Ours: that these are the maps of which the
    findings' own maps are made, and that their means decide.

    Args:
        output: name of the output. classes: how many labels; the publication has one.
        normalization, filters, blocks, branch_filters, image_size, load_weights, name, dtype: as for
            `findings_network`, and those of the network whose weights the part "findings" gets.

    Returns:
        A `Network`: images (batch, h, w, 3), RGB, 0–255 → {output: logits (batch, classes), float32}.

    Raises:
        ValueError, WeightsMismatch: as `findings_network`.
    """
    with precision(dtype):
        part = _features(name, image_size, load_weights, normalization, filters, blocks, branch_filters)
        part.trainable = False
        images = keras.Input(part.input_shape[1:], name="images")
        x = layers.Concatenate(name="maps")(part(images))
        return Network(images, {output: pooled_logits(x, classes, output)}, name=name)


def _features(name, image_size, load_weights, normalization, filters, blocks, branch_filters):
    """Images → three maps at stride 32, for findings of the sizes that `RATES` has.

    Five times a reduction and `blocks` MBConv blocks; the maps of all five are brought to stride 32 by their mean, and
    stand beside each other. Published are those of the first four; the fifth's is ours.
    """
    check(name, {"image_size": size_rule(64)}, {"image_size": image_size})
    check_weights(name, load_weights)
    height, width = (image_size, image_size) if isinstance(image_size, int) else image_size
    images = keras.Input((height, width, 3), name="images")
    x, maps = images, []
    if normalization == "local_mean":
        x = ZeroLocalMean(max(height, width) / 2 / 30, name="zero_local_mean")(x)
    x = layers.Rescaling(1 / 255, name="scaled")(x)
    for number, stride in enumerate(STRIDES):
        x = _convolved(x, filters * 2**number, 3, f"stride{stride}", strides=2)
        for block in range(blocks):
            x = _mbconv(x, f"stride{stride}_block{block}")
        pooled = layers.AveragePooling2D(32 // stride, name=f"stride{stride}_pool")
        maps.append(pooled(x) if stride < 32 else x)
    x = layers.Concatenate(name="strides")(maps)
    branches = []
    for size, rates in RATES.items():
        parallel = [conv_norm_relu(x, branch_filters, 3, rate, name=f"{size}_rate{rate}") for rate in rates]
        branches.append(layers.Concatenate(name=size)(parallel))
    return keras.Model(images, branches, name=FINDINGS)


def _mbconv(x, name):
    """EfficientNet's block at stride 1: wider, depthwise, squeeze-and-excitation, as wide as before, the shortcut."""
    shortcut, channels = x, x.shape[-1]
    wide = EXPANSION * channels
    x = _convolved(x, wide, 1, f"{name}_expand")
    x = _convolved(x, None, 3, f"{name}_depthwise")
    weight = layers.GlobalAveragePooling2D(keepdims=True, name=f"{name}_squeeze")(x)
    weight = layers.Conv2D(max(1, channels // 4), 1, activation="silu", name=f"{name}_reduce")(weight)
    weight = layers.Conv2D(wide, 1, activation="sigmoid", name=f"{name}_excite")(weight)
    x = layers.Multiply(name=f"{name}_weighted")([x, weight])
    x = _convolved(x, channels, 1, f"{name}_project", swish=False)
    return layers.Add(name=f"{name}_add")([shortcut, x])


def _convolved(x, filters, kernel, name, strides=1, swish=True):
    """Convolution without bias (depthwise where `filters` is None), BatchNorm, swish."""
    options = {"strides": strides, "padding": "same", "use_bias": False, "name": f"{name}_conv"}
    if filters is None:
        x = layers.DepthwiseConv2D(kernel, depthwise_initializer="he_normal", **options)(x)
    else:
        x = layers.Conv2D(filters, kernel, kernel_initializer="he_normal", **options)(x)
    x = BatchNormalization(momentum=BATCH_NORM_MOMENTUM, name=f"{name}_norm")(x)
    return layers.Activation("silu", name=f"{name}_swish")(x) if swish else x
