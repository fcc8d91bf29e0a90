"""What is done to the picture as a whole before a network sees it, inside of the network; and maps of another size."""

import keras
from keras import layers, ops

__all__ = ["ChannelStandardization", "Resized"]


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
