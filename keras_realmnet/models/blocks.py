"""What heads and decoders are made of."""

from keras import layers

from keras_realmnet.models.tiny_vit import BATCH_NORM_MOMENTUM

__all__ = ["conv_norm_relu"]


def conv_norm_relu(x, filters, kernel_size=3, dilation_rate=1, max_value=None, name=""):
    """Convolution without bias, BatchNorm, ReLU: (batch, h, w, channels) → (batch, h, w, filters).

    Args:
        max_value: 6 for ReLU6, whose range int8 keeps better.
    """
    x = layers.Conv2D(
        filters,
        kernel_size,
        padding="same",
        dilation_rate=dilation_rate,
        use_bias=False,
        kernel_initializer="he_normal",
        name=f"{name}_conv",
    )(x)
    x = layers.BatchNormalization(momentum=BATCH_NORM_MOMENTUM, name=f"{name}_norm")(x)
    return layers.ReLU(max_value=max_value, name=f"{name}_relu")(x)
