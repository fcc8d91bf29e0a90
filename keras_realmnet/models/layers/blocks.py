"""What heads and decoders are made of."""

import math

from keras import initializers, layers

from keras_realmnet.models.layers.batch_norm import BatchNormalization
from keras_realmnet.models.tiny_vit import BATCH_NORM_MOMENTUM

__all__ = ["aspp", "conv_norm", "conv_norm_relu", "merge", "pixel_logits", "pooled_logits"]

RARE = 0.01  # the probability of a structure at each pixel with which training begins


def conv_norm(x, filters, kernel_size=3, dilation_rate=1, strides=1, name=""):
    """Convolution without bias, BatchNorm: (batch, h, w, channels) → (batch, h / strides, w / strides, filters)."""
    x = layers.Conv2D(
        filters,
        kernel_size,
        strides,
        padding="same",
        dilation_rate=dilation_rate,
        use_bias=False,
        kernel_initializer="he_normal",
        name=f"{name}_conv",
    )(x)
    return BatchNormalization(momentum=BATCH_NORM_MOMENTUM, name=f"{name}_norm")(x)


def conv_norm_relu(x, filters, kernel_size=3, dilation_rate=1, max_value=None, strides=1, name=""):
    """`conv_norm`, ReLU.

    Args:
        max_value: 6 for ReLU6, whose range int8 keeps better.
    """
    x = conv_norm(x, filters, kernel_size, dilation_rate, strides, name)
    return layers.ReLU(max_value=max_value, name=f"{name}_relu")(x)


def merge(x, skip, filters, name=""):
    """Concatenation and two 3 × 3 convolutions: (batch, h, w, …), twice, → (batch, h, w, filters)."""
    x = layers.Concatenate(name=f"{name}_concat")([x, skip])
    return conv_norm_relu(conv_norm_relu(x, filters, name=f"{name}_first"), filters, name=f"{name}_second")


def aspp(x, filters, rates):
    """Atrous spatial pyramid pooling: (batch, h, w, channels) → (batch, h, w, filters).

    A 1 × 1 convolution, one of 3 × 3 at each of the `rates`, and the mean of the map, `filters` each, then together.
    """
    branches = [conv_norm_relu(x, filters, 1, name="aspp_1x1")]
    for rate in rates:
        branches.append(conv_norm_relu(x, filters, 3, rate, name=f"aspp_rate{rate}"))
    mean = layers.GlobalAveragePooling2D(keepdims=True, name="aspp_mean")(x)
    mean = conv_norm_relu(mean, filters, 1, name="aspp_image")
    branches.append(layers.UpSampling2D(x.shape[1:3], name="aspp_everywhere")(mean))
    return conv_norm_relu(layers.Concatenate(name="aspp_concat")(branches), filters, 1, name="aspp")


def pixel_logits(x, channels, name, rare=True):
    """A 1 × 1 convolution: (batch, h, w, …) → float32 logits (batch, h, w, channels).

    Args:
        rare: begins with a bias that says a structure is rare, which else the first steps learn, whose large gradients
            stay in Adam's second moments and keep it slow (Lin et al., Focal loss for dense object detection, ICCV
            2017, section 4.1). It is the same in all channels: a softmax does not see it.
    """
    bias = initializers.Constant(math.log(RARE / (1 - RARE)) if rare else 0.0)
    return layers.Conv2D(channels, 1, bias_initializer=bias, dtype="float32", name=name)(x)


def pooled_logits(x, classes, name):
    """Global average pooling and Dense: (batch, h, w, channels) → float32 logits (batch, classes)."""
    return layers.Dense(classes, dtype="float32", name=name)(layers.GlobalAveragePooling2D(name="pool")(x))
