"""What is done to the picture as a whole before a network sees it, inside of the network; and maps of another size."""

import math

import keras
import numpy as np
from keras import layers, ops

__all__ = ["ChannelStandardization", "Resized", "ZeroLocalMean"]


@keras.saving.register_keras_serializable("keras_realmnet")
class ChannelStandardization(layers.Layer):
    """Images (batch, h, w, channels) → each channel of each image with mean 0 and deviation 1 over its positions.

    (x − mean) / max(deviation, 1): a channel that is the same everywhere becomes 0; 1 is a grey level. It computes in
    float32. Of the values 0, 0, 6, 6 the mean and the deviation are 3: −1, −1, 1, 1.
    """

    def __init__(self, **kwargs):
        super().__init__(**{"dtype": "float32", **kwargs})

    def call(self, images):
        centred = images - ops.mean(images, axis=(1, 2), keepdims=True)
        variance = ops.mean(ops.square(centred), axis=(1, 2), keepdims=True)
        return centred / ops.maximum(ops.sqrt(variance), 1.0)

    def compute_output_shape(self, input_shape):
        return input_shape


@keras.saving.register_keras_serializable("keras_realmnet")
class Resized(layers.Layer):
    """Maps (batch, h, w, channels) → (batch, height, width, channels), bilinearly; float32.

    Not Keras' `Resizing`, whose call has a `training` that is True by default and holds for all layers behind it: where
    a network is called without saying which, BatchNorm would take the statistics of the batch (Keras 3.15.1).
    """

    data_format, interpolation = "channels_last", "bilinear"

    def __init__(self, height, width, **kwargs):
        super().__init__(**{"dtype": "float32", **kwargs})
        self.height, self.width = int(height), int(width)

    def call(self, maps):
        size = (self.height, self.width)
        return ops.image.resize(maps, size, interpolation=self.interpolation, data_format=self.data_format)

    def compute_output_shape(self, input_shape):
        return input_shape[0], self.height, self.width, input_shape[3]

    def get_config(self):
        return {**super().get_config(), "height": self.height, "width": self.width}


@keras.saving.register_keras_serializable("keras_realmnet")
class ZeroLocalMean(layers.Layer):
    """Images (batch, h, w, channels), 0–255 → 4 · x − 4 · (x, blurred) + 128, cut to 0–255; it computes in float32.

    Light and colour of a place are gone, what differs from its surroundings stands out: a picture that is the same
    everywhere becomes 128. The blur is Gaussian with the deviation `sigma` in pixels, and reaches three of these. Ours
    at the border: what lies within the picture has all of the weight.

    Source: Son, MICCAI 2020 (REFUGE2 technical report).
    """

    def __init__(self, sigma, **kwargs):
        super().__init__(**{"dtype": "float32", **kwargs})
        self.sigma = float(sigma)

    @property
    def kernel(self):
        """The blur along one side, float32 (2 · reach + 1,); its sum is 1."""
        reach = math.ceil(3 * self.sigma)
        values = np.exp(-(np.arange(-reach, reach + 1) ** 2) / (2 * self.sigma**2))
        return (values / values.sum()).astype("float32")

    def within(self, side):
        """How much of the kernel lies within a side of so many pixels, at each of them: float32 (side,)."""
        reach = len(self.kernel) // 2
        return np.convolve(np.ones(side, "float32"), self.kernel)[reach : reach + side]

    def call(self, images):
        _, height, width, channels = images.shape
        x = images
        for shape, sides in (((-1, 1), (height, 1, 1)), ((1, -1), (1, width, 1))):
            kernel = np.tile(self.kernel.reshape(*shape, 1, 1), (1, 1, channels, 1))
            x = ops.depthwise_conv(x, ops.convert_to_tensor(kernel), padding="same", data_format="channels_last")
            x = x * ops.convert_to_tensor(1 / self.within(max(sides)).reshape(sides))
        return ops.clip(4 * (images - x) + 128, 0, 255)

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        return {**super().get_config(), "sigma": self.sigma}
