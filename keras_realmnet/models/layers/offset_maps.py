"""Points by maps: in which cell of the picture each lies, and where in that cell.

Source: Son, MICCAI 2020 (REFUGE2 technical report).
"""

import math

import keras
import numpy as np
from keras import layers, ops

from keras_realmnet.models.network import AUXILIARY

__all__ = ["OffsetPeaks", "offset_points"]


def offset_points(x, points, confidence, kernel_size, name):
    """Ends of a network, {name: points, OUTPUT_auxiliary: the maps that they are decoded of}.

    A convolution gives three maps of logits for each point, (batch, h, w, 3 · points), first those of confidence, then
    those of the offsets x and y: `losses.confidence_offsets` says what they learn, `OffsetPeaks` what they mean. They
    begin with a confidence of 1 in the number of cells, since one of these has the point: ours.
    """
    _, height, width, _ = x.shape
    convolution = layers.Conv2D(3 * points, kernel_size, padding="same", dtype="float32", name=f"{name}{AUXILIARY}")
    maps = convolution(x)
    kernel, bias = convolution.get_weights()
    bias[:points] = -math.log(height * width)
    convolution.set_weights([kernel, bias])
    return {name: OffsetPeaks(confidence, name=name)(maps), f"{name}{AUXILIARY}": maps}


@keras.saving.register_keras_serializable("keras_realmnet")
class OffsetPeaks(layers.Layer):
    """Maps of logits (batch, h, w, 3 · points) → x, y (batch, points, 2), or with confidences (batch, points, 3).

    The cell with the highest confidence has the point: x = (column + sigmoid of its x offset) / w, to the right, y =
    (row + sigmoid of its y offset) / h, down, in fractions of the picture's sides; the confidence is the sigmoid of
    that cell's. Of equal cells it is the first, row by row. It computes in float32 and gives no gradient.
    """

    def __init__(self, confidence=False, **kwargs):
        super().__init__(**{"dtype": "float32", **kwargs})
        self.confidence = bool(confidence)

    def call(self, maps):
        _, height, width, channels = maps.shape
        points, cells = channels // 3, height * width
        flat = ops.reshape(ops.stop_gradient(maps), (-1, cells, channels))
        level = flat[..., :points]
        # Without argmax, which TensorFlow's Keras spells in operations that LiteRT lacks: the first of the highest.
        highest = ops.cast(ops.equal(level, ops.max(level, axis=1, keepdims=True)), "float32")
        order = highest * ops.convert_to_tensor(self.order(cells))
        at = ops.cast(ops.equal(order, ops.max(order, axis=1, keepdims=True)), "float32")  # (batch, cells, points)
        places = ops.convert_to_tensor(self.corners(height, width))  # (cells, 2)
        found = []
        for axis, side in enumerate((width, height)):
            offset = ops.sigmoid(flat[..., (axis + 1) * points : (axis + 2) * points])
            found.append(ops.sum(at * (places[:, axis, None] + offset), axis=1) / side)
        if self.confidence:
            found.append(ops.sigmoid(ops.max(level, axis=1)))
        return ops.stack(found, axis=-1)

    @staticmethod
    def corners(height, width):
        """Column and row of the cells, row by row, float32 (height · width, 2)."""
        return np.stack(np.meshgrid(np.arange(width), np.arange(height)), axis=-1).reshape(-1, 2).astype("float32")

    @staticmethod
    def order(cells):
        """The first has the highest number, the last 1, float32 (cells, 1)."""
        return np.arange(cells, 0, -1, dtype="float32")[:, None]

    def compute_output_shape(self, input_shape):
        return input_shape[0], input_shape[3] // 3, 2 + self.confidence

    def get_config(self):
        return {**super().get_config(), "confidence": self.confidence}
