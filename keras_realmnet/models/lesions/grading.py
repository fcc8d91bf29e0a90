"""Grades of a picture: plain, by an attention branch, and beside a Lesion-Net that tells where to look.

Source: Wei et al., Learn to Segment Retinal Lesions and Beyond (ICPR 2020), section on multi-task grading; the
attention branch network is that of Fukui et al. (CVPR 2019). What is ours is marked as such.
"""

import keras
from keras import layers

from keras_realmnet.models.layers.batch_norm import BatchNormalization
from keras_realmnet.models.layers.blocks import conv_norm_relu, pooled_logits
from keras_realmnet.models.lesions.segmentation import lesion_encoder, lesion_network
from keras_realmnet.models.network import AUXILIARY, Network, precision
from keras_realmnet.weights import transfer_weights

__all__ = [
    "LESION_NET",
    "attention_branch_network",
    "lesion_guided_network",
    "plain_network",
    "use_lesion_net",
]

BRANCH_CHANNELS, SIDE_CHANNELS = 512, 256
LESION_NET = "lesion_net"  # the name of that part


def plain_network(
    output,
    classes,
    encoder="inception_v3",
    image_size=896,
    load_weights=False,
    frozen_stride=None,
    name="grading_plain",
    dtype=None,
):
    """An encoder, global average pooling, Dense.

    Args:
        output: name of the output. classes: how many grades or labels.
        encoder, image_size, load_weights, name, dtype: as for `lesion_network`. frozen_stride: as for `lesion_encoder`.

    Returns:
        A `Network`: images (batch, h, w, 3), RGB, 0–255 → {output: logits (batch, classes), float32}.
    """
    with precision(dtype):
        network = lesion_encoder(encoder, image_size, load_weights, dtype, frozen_stride)
        images = keras.Input((*network.image_size, 3), name="images")
        return Network(images, {output: pooled_logits(network(images)[-1], classes, output)}, name=name)


def attention_branch_network(
    output,
    classes,
    encoder="inception_v3",
    image_size=896,
    load_weights=False,
    frozen_stride=None,
    name="grading_abn",
    dtype=None,
):
    """Attention branch network: what a branch on the map of stride 16 attends to, the rest of the encoder sees more of.

    The branch gives a map for each class, of which a 3 × 3 convolution makes one attention map A in 0–1; the map of
    stride 16 goes on as (1 + A) times itself. Two 3 × 3 convolutions to 512 channels in the branch are ours, where the
    publication repeats the last stage of a ResNet.

    As published the branch also learns by what it says itself, its maps after a 1 × 1 convolution, averaged. That is an
    auxiliary end (`keras_realmnet.models.network.learned_by`), whose loss counts as much as the output's.

    Args:
        output: name of the output. classes: how many grades or labels.
        encoder, image_size, load_weights, name, dtype: as for `lesion_network`. frozen_stride: as for `lesion_encoder`.

    Returns:
        A `Network`: images (batch, h, w, 3), RGB, 0–255 → {output: logits (batch, classes), float32}, and the same of
        the branch, {OUTPUT_auxiliary: …}.
    """
    with precision(dtype):
        network = lesion_encoder(encoder, image_size, load_weights, dtype, frozen_stride)
        *_, middle, end = network.outputs
        to_middle = keras.Model(network.inputs, middle, name="encoder_to_stride16")
        to_end = keras.Model(middle, end, name="encoder_to_stride32")
        images = keras.Input((*network.image_size, 3), name="images")
        x = to_middle(images)
        maps = conv_norm_relu(x, BRANCH_CHANNELS, name="branch_first")
        maps = conv_norm_relu(maps, BRANCH_CHANNELS, name="branch_second")
        maps = conv_norm_relu(maps, classes, 1, name="branch_maps")
        attention = layers.Conv2D(1, 3, padding="same", use_bias=False, name="attention_conv")(maps)
        attention = BatchNormalization(name="attention_norm")(attention)
        attention = layers.Activation("sigmoid", name="attention")(attention)
        x = layers.Add(name="attended")([x, layers.Multiply(name="attended_part")([x, attention])])
        said = layers.Conv2D(classes, 1, dtype="float32", name="branch_scores")(maps)
        auxiliary = f"{output}{AUXILIARY}"
        said = layers.GlobalAveragePooling2D(dtype="float32", name=auxiliary)(said)
        return Network(images, {output: pooled_logits(to_end(x), classes, output), auxiliary: said}, name=name)


def lesion_guided_network(
    output,
    classes,
    side="conv",
    lesions=8,
    lesion_output=None,
    lesion_stride=16,
    encoder="inception_v3",
    image_size=896,
    load_weights=False,
    frozen_stride=None,
    name="grading_lesion_conv",
    dtype=None,
):
    """Multi-task grading: a frozen Lesion-Net beside an encoder with global average pooling and Dense.

    The Lesion-Net's probabilities are brought to stride 32, as means, which for stride 16 is bilinear. Then, by `side`:

    - "conv": two 3 × 3 convolutions, to 256 channels with BatchNorm and ReLU, to the encoder's with a sigmoid (these
      widths are ours), are multiplied with the encoder's map.
    - "max": the largest probability among the lesions (CW-MaxPool) is multiplied with each channel of the map.
    - "concat": each lesion's largest probability in the picture stands beside the pooled features (Lesion-Concat).

    The Lesion-Net has random weights until `use_lesion_net` gives it those of one that is trained.

    Args:
        output: name of the output. classes: how many grades.
        side: "conv", "max" or "concat". lesions: that the Lesion-Net tells.
        lesion_output: name of an output for its masks; `None`: they are not told. lesion_stride: where its path ends.
        encoder, image_size, load_weights, name, dtype: as for `lesion_network`; the weights are of the encoder that
            grades. frozen_stride: as for `lesion_encoder`, of that one.

    Returns:
        A `Network`: images (batch, h, w, 3), RGB, 0–255 → {output: logits (batch, classes), float32}, and with
        `lesion_output` {…: logits (batch, h / lesion_stride, w / lesion_stride, lesions), float32}.
    """
    key = lesion_output or "lesions"
    with precision(dtype):
        network = lesion_encoder(encoder, image_size, load_weights, dtype, frozen_stride)
        sees = {"encoder": encoder, "image_size": image_size, "name": LESION_NET, "dtype": dtype}
        lesion_net = lesion_network(key, lesions, "expansive", lesion_stride, **sees)
        lesion_net.trainable = False
        images = keras.Input((*network.image_size, 3), name="images")
        x = network(images)[-1]
        told = lesion_net(images)[key]
        maps = layers.Activation("sigmoid", dtype="float32", name="lesion_maps")(told)
        if side == "concat":
            x = layers.GlobalAveragePooling2D(dtype="float32", name="pool")(x)
            seen = layers.GlobalMaxPooling2D(dtype="float32", name="lesions_seen")(maps)
            x = layers.Concatenate(dtype="float32", name="lesions_beside")([x, seen])
            ends = {output: layers.Dense(classes, dtype="float32", name=output)(x)}
        else:
            if lesion_stride < 32:
                maps = layers.AveragePooling2D(32 // lesion_stride, name="lesion_maps_at_stride32")(maps)
            attention = _convolved(maps, x.shape[-1]) if side == "conv" else _largest(maps)
            x = layers.Multiply(name="attended")([x, attention])
            ends = {output: pooled_logits(x, classes, output)}
        if lesion_output is not None:
            ends[lesion_output] = told
        return Network(images, ends, name=name)


def _convolved(maps, channels):
    x = conv_norm_relu(maps, SIDE_CHANNELS, name="side")
    return layers.Conv2D(channels, 3, padding="same", activation="sigmoid", name="side_attention")(x)


def _largest(maps):
    """(batch, h, w, lesions) → (batch, h, w, 1)."""
    _, height, width, lesions = maps.shape
    flat = layers.Reshape((height * width, lesions, 1), name="lesions_by_position")(maps)
    largest = layers.MaxPooling2D((1, lesions), name="largest_lesion")(flat)
    return layers.Reshape((height, width, 1), name="side_attention")(largest)


def use_lesion_net(model, lesion_net):
    """Gives the frozen part of a `lesion_guided_network` the weights of `lesion_net`, a trained `lesion_network`.

    Returns:
        `model`.

    Raises:
        WeightsMismatch: `lesion_net` is another network than that part.
    """
    transfer_weights(lesion_net, model.get_layer(LESION_NET))
    return model
