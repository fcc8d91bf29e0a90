"""DeepLabv3 on ResNet50, by which the study of RealMNet told the boundary of its pictures."""

import keras
from keras import layers

from keras_realmnet.arguments import check
from keras_realmnet.arguments import image_size as size_rule
from keras_realmnet.models.encoders.encoder import IMAGENET, hub_resnet
from keras_realmnet.models.layers.blocks import aspp, conv_norm_relu, pixel_logits
from keras_realmnet.models.network import Network, precision

__all__ = ["deeplab_v3"]

FILTERS = 256
RATES = {8: (12, 24, 36), 16: (6, 12, 18), 32: (3, 6, 9)}  # which look equally far in the picture
# {stride: of each stage of the ResNet its stride, and how far its 3 × 3 convolutions are apart}; the first block of a
# stage that is not halved keeps the dilation before it.
_STAGES = {8: ((1, 2, 1, 1), (1, 1, 2, 4)), 16: ((1, 2, 2, 1), (1, 1, 1, 2)), 32: ((1, 2, 2, 2), (1, 1, 1, 1))}


def deeplab_v3(
    output,
    channels,
    stride=8,
    depths=(3, 4, 6, 3),
    image_size=384,
    load_weights=False,
    name="deeplab_v3_resnet50",
    dtype=None,
):
    """ResNet50 whose last stages are dilated instead of halved, ASPP, and logits for each pixel and structure.

    Layer by layer keras-hub's `DeepLabV3Backbone` without low-level features on its `ResNetBackbone`, and the 1 × 1
    convolution of its segmenter; but each layer stands by itself, so that the network can be deployed, and the logits
    are enlarged where they are looked at (losses, scores, the box), which gives the same as before they are computed.
    keras-hub's ResNet ends at stride 32; the dilation, with torchvision's order of rates, is ours.

    Args:
        output: name of the output. channels: structures, and the background where they are exclusive.
        stride: of the map that ASPP looks at, and of the logits: 8, 16 or 32.
        depths: blocks of the four stages.
        image_size: pixels, one number or (height, width), divisible by 32.
        load_weights: `False` for random weights; "imagenet", or a keras-hub preset of a ResNet50, by folder or handle,
            for those of the ResNet. Handles and "imagenet" are downloaded by keras-hub.
        name: of the model. dtype: of all but the logits, a Keras dtype policy; `None`: Keras' own.

    Returns:
        A `Network`: images (batch, h, w, 3), RGB, 0–255 → {output: logits (batch, h / stride, w / stride, channels),
        float32}.

    Raises:
        WeightsMismatch: the weights cannot be found, fetched or fitted. ValueError: a size that 32 does not divide.

    Source: Chen et al., Rethinking Atrous Convolution for Semantic Image Segmentation (2017); npj Digital Medicine
    2025 8:435, which states the network, not its stride.
    """
    check(name, {"image_size": size_rule(32)}, {"image_size": image_size})
    sides = (image_size, image_size) if isinstance(image_size, int) else tuple(image_size)
    strides, dilations = _STAGES[stride]
    with precision(dtype):
        images = keras.Input((*sides, 3), name="images")
        mean, deviation = IMAGENET
        x = layers.Normalization(mean=mean, variance=tuple(value**2 for value in deviation), name="scaling")(images)
        resnet = hub_resnet("resnet50", x.shape[1:], depths, strides, load_weights or None)
        x = _dilated(resnet, dilations)(x)
        x = aspp(x, FILTERS, RATES[stride])
        x = conv_norm_relu(x, FILTERS, 1, name="segmentation_head")
        return Network(images, {output: pixel_logits(x, channels, output)}, name=name)


def _dilated(network, dilations):
    """The same network, weights and all, whose stages have 3 × 3 convolutions as far apart as `dilations` say."""

    def dilated(layer):
        config = layer.get_config()
        if isinstance(layer, layers.Conv2D) and layer.kernel_size == (3, 3):
            stage, block = (int(part[5:]) for part in layer.name.split("_")[:2])  # stack3_block0_2_conv
            config["dilation_rate"] = dilations[max(0, stage - 1) if block == 0 else stage]
        return type(layer).from_config(config)

    functional = keras.Model(network.input, network.output, name=network.name)
    copy = keras.models.clone_model(functional, clone_function=dilated)
    for layer in copy.layers:
        if layer.weights:
            layer.set_weights(network.get_layer(layer.name).get_weights())
    return copy
