"""Ours, for the box: one encoder made for int8, and a head for each output, whatever its kind.

Only convolutions, additions, bilinear steps of 2 and ReLU6 work on maps. What places a point, and what classifies, is a
few thousand multiply-adds at the end, and stays float.
"""

from collections.abc import Mapping

import keras
import numpy as np
from keras import layers, ops

from keras_realmnet.models.encoders.encoder import STRIDES, Encoder
from keras_realmnet.models.layers.blocks import conv_norm_relu, pixel_logits
from keras_realmnet.models.layers.heads import LinearHead, ResidualAttentionHead
from keras_realmnet.models.layers.offset_maps import offset_points
from keras_realmnet.models.network import Network, precision
from keras_realmnet.tasks.outputs import Grades, Labels, Masks, Output, Points

__all__ = ["HEAD_CLASSES", "SoftArgmax", "edge_network"]

HEAD_CLASSES = {"residual_attention": ResidualAttentionHead, "linear": LinearHead}  # by the names that recipes have
POINT_CHANNELS, MASK_CHANNELS = 128, 32
_RELU6 = 6.0


def edge_network(
    outputs: Mapping[str, Output],
    encoder: str = "efficientnet_lite0",
    image_size=256,
    load_weights=False,
    head: str = "residual_attention",
    head_options: Mapping | None = None,
    mask_stride: int = 2,
    point_head: str = "soft_argmax",
    drop_path_rate: float = 0.0,
    name: str = "edge",
    dtype=None,
) -> Network:
    """One encoder with a head for each of `outputs`: labels, grades, points and masks, in any number.

    - Labels, grades: a `ResidualAttentionHead` or, as pooling, a `LinearHead` on the map of stride 32, which then has
      passed the convolution to 1280 channels that the classifier of ImageNet looks at. Both explain themselves.
    - Points: see `_points`.
    - Masks: see `_masks`.

    Args:
        outputs: {name: what it is}.
        encoder: "efficientnet_lite0" or "mobilenet_v2".
        image_size, load_weights, drop_path_rate: as for `Encoder`.
        head: of labels and grades, "residual_attention" or "linear". head_options: its arguments.
        mask_stride: masks have 1/2 or 1/4 of the input's sides.
        point_head: "soft_argmax", or "offset_maps" as of REFUGE2, see `_points`.
        name: of the model. dtype: of all but the ends, a Keras dtype policy; `None`: Keras' own.

    Returns:
        A `Network`: images (batch, h, w, 3), RGB, 0–255 → {name: output}, float32: logits (batch, labels) of labels and
        grades, logits (batch, h / mask_stride, w / mask_stride, channels) of masks, and points as they are, (batch,
        points, 2): x to the right, y down, in fractions of the image's sides, or with a confidence from 0 to 1 (batch,
        points, 3). By offset maps points have an auxiliary end, see `offset_points`.
    """
    classifies = any(isinstance(output, Labels | Grades) for output in outputs.values())
    options = {"drop_path_rate": drop_path_rate, "top": classifies}
    with precision(dtype):
        network = Encoder(encoder, image_size, options, load_weights, name="encoder", dtype=dtype)
        images = keras.Input((*network.image_size, 3), name="images")
        maps = dict(zip(STRIDES, network(images), strict=True))
        ends: dict[str, keras.KerasTensor] = {}
        for key, output in outputs.items():
            if isinstance(output, Points):
                ends |= _points(maps, len(output.labels), output.confidence, point_head, key)
            elif isinstance(output, Masks):
                ends[key] = _masks(maps, output.channels, mask_stride, key)
            elif isinstance(output, Labels | Grades):
                ends[key] = HEAD_CLASSES[head](len(output.labels), name=key, **(head_options or {}))(maps[32])
            else:
                raise ValueError(f"outputs must be labels, grades, points or masks. Received: {key}={output!r}")
        return Network(images, ends, name=name)


def _points(maps, points, confidence, head, name):
    """Maps by stride → {name: (batch, points, 2), or with confidences (batch, points, 3)}.

    The maps of the strides 16 and 32 are added, two convolutions make a heat map for each point at stride 16, which is
    enlarged to stride 8; the place is its soft-argmax (`SoftArgmax`). Or the second one makes the three maps of
    `offset_points`, at stride 16, too.

    The confidence is the sigmoid of the largest value of the heat map, before the enlargement. The softmax over the
    positions does not feel a constant that is added to a map: its level is free to say whether the point is there, and
    what speaks for it is found at the place itself. The share of the softmax at the peak would say how sharp the map
    is, which differs with the picture's size and learns nothing from pictures without the point; a logit of pooled
    features costs weights and does not look at the place.
    """
    x = layers.Conv2D(POINT_CHANNELS, 1, name=f"{name}_stride32")(maps[32])
    x = layers.UpSampling2D(2, interpolation="bilinear", name=f"{name}_stride32_up")(x)
    x = layers.Add(name=f"{name}_add")([layers.Conv2D(POINT_CHANNELS, 1, name=f"{name}_stride16")(maps[16]), x])
    x = conv_norm_relu(x, POINT_CHANNELS, max_value=_RELU6, name=f"{name}_hidden")
    if head == "offset_maps":
        return offset_points(x, points, confidence, 3, name)
    # A bias would say nothing but in the confidence.
    to_heat = layers.Conv2D(points, 3, padding="same", use_bias=confidence, dtype="float32", name=f"{name}_heat_map")
    heat = to_heat(x)  # (batch, h/16, w/16, points)
    larger = layers.UpSampling2D(2, interpolation="bilinear", dtype="float32", name=f"{name}_heat_map_up")(heat)
    places = SoftArgmax(name=f"{name}_places" if confidence else name)(larger)  # (batch, points, 2)
    if not confidence:
        return {name: places}
    level = layers.GlobalMaxPooling2D(dtype="float32", name=f"{name}_level")(heat)  # (batch, points)
    level = layers.Activation("sigmoid", dtype="float32", name=f"{name}_confidence")(level)
    level = layers.Reshape((points, 1), dtype="float32", name=f"{name}_confidence_column")(level)
    return {name: layers.Concatenate(dtype="float32", name=name)([places, level])}


def _masks(maps, channels, stride, name):
    """Maps by stride → logits (batch, h / stride, w / stride, channels).

    From stride 16 up to `stride`: the map so far, enlarged by 2, is added to that of the next smaller stride in 32
    channels, and passes one 3 × 3 convolution.
    """
    x = layers.Conv2D(MASK_CHANNELS, 1, name=f"{name}_stride16")(maps[16])
    x = conv_norm_relu(x, MASK_CHANNELS, max_value=_RELU6, name=f"{name}_stride16_merged")
    for step in (8, 4, 2):
        if step < stride:
            break
        x = layers.UpSampling2D(2, interpolation="bilinear", name=f"{name}_stride{step}_up")(x)
        side = layers.Conv2D(MASK_CHANNELS, 1, name=f"{name}_stride{step}")(maps[step])
        x = layers.Add(name=f"{name}_stride{step}_add")([side, x])
        x = conv_norm_relu(x, MASK_CHANNELS, max_value=_RELU6, name=f"{name}_stride{step}_merged")
    return pixel_logits(x, channels, name)


@keras.saving.register_keras_serializable("keras_realmnet")
class SoftArgmax(layers.Layer):
    """Heat maps (batch, h, w, points) → x, y (batch, points, 2): the mean place under the softmax over the positions.

    x to the right and y down, in fractions of the map's sides: the centre of position (i, j) lies at x = (j + .5) / w,
    y = (i + .5) / h, which in the image is the centre of the pixels that it stands for. It computes in float32.
    """

    def __init__(self, **kwargs):
        super().__init__(**{"dtype": "float32", **kwargs})

    def call(self, heat_maps):
        _, height, width, points = heat_maps.shape
        by_point = ops.transpose(ops.reshape(heat_maps, (-1, height * width, points)), (0, 2, 1))
        shares = ops.expand_dims(ops.softmax(by_point, axis=-1), -1)  # (batch, points, positions, 1)
        places = ops.convert_to_tensor(self.places(height, width), self.compute_dtype)
        # Not a matrix product, which an exporter would take for weights to quantize.
        return ops.sum(shares * places, axis=2)

    @staticmethod
    def places(height, width):
        """x and y of the positions, row by row, float32 (height · width, 2)."""
        x, y = (np.arange(width) + 0.5) / width, (np.arange(height) + 0.5) / height
        return np.stack(np.meshgrid(x, y), axis=-1).reshape(-1, 2).astype("float32")

    def compute_output_shape(self, input_shape):
        return input_shape[0], input_shape[3], 2
