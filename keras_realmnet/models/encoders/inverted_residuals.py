"""EfficientNet-Lite0 and MobileNetV2: inverted residual blocks with ReLU6, without squeeze-and-excitation.

Both were made for int8 on small devices. They differ in their rows of blocks, in how strided convolutions pad, and in
the epsilon of BatchNorm, which the published weights have been trained with.
"""

from dataclasses import dataclass

import numpy as np
from keras import layers

from keras_realmnet.models.layers.batch_norm import BatchNormalization
from keras_realmnet.models.tiny_vit import BATCH_NORM_MOMENTUM, drop_path

__all__ = ["NETWORKS", "InvertedResiduals", "inverted_residuals"]


@dataclass(frozen=True)
class Stage:
    """`repeats` blocks, of which the first has the stride. `expansion`: how many times wider a block is inside."""

    expansion: int
    channels: int
    repeats: int
    stride: int
    kernel: int = 3


@dataclass(frozen=True)
class InvertedResiduals:
    """A network of that kind. `same`: strided convolutions pad as TensorFlow's "same", else one pixel on each side."""

    stages: tuple[Stage, ...]
    epsilon: float
    same: bool
    stem: int = 32
    top: int = 1280


NETWORKS = {
    # Tan and Le, arXiv 1905.11946, B0's rows; google/tpu, efficientnet/lite/efficientnet_lite_builder.py.
    "efficientnet_lite0": InvertedResiduals(
        stages=(
            Stage(1, 16, 1, 1),
            Stage(6, 24, 2, 2),
            Stage(6, 40, 2, 2, kernel=5),
            Stage(6, 80, 3, 2),
            Stage(6, 112, 3, 1, kernel=5),
            Stage(6, 192, 4, 2, kernel=5),
            Stage(6, 320, 1, 1),
        ),
        epsilon=1e-3,
        same=True,
    ),
    # Sandler et al., arXiv 1801.04381, table 2; torchvision, models/mobilenetv2.py.
    "mobilenet_v2": InvertedResiduals(
        stages=(
            Stage(1, 16, 1, 1),
            Stage(6, 24, 2, 2),
            Stage(6, 32, 3, 2),
            Stage(6, 64, 4, 2),
            Stage(6, 96, 3, 1),
            Stage(6, 160, 3, 2),
            Stage(6, 320, 1, 1),
        ),
        epsilon=1e-5,
        same=False,
    ),
}


def inverted_residuals(x, network: InvertedResiduals, drop_path_rate=0.0, top=False):
    """Scaled images (batch, h, w, 3) → the last map at each of the strides 2, 4, 8, 16, 32, a list of five.

    Args:
        drop_path_rate: rate of stochastic depth in the last block; it grows linearly from 0 in the first.
        top: whether the last map passes the convolution to 1280 channels that the classifier of ImageNet looks at.
    """
    maps = []
    x = _conv_norm(x, network, network.stem, 3, stride=2, name="stem")
    rates = np.linspace(0, drop_path_rate, sum(stage.repeats for stage in network.stages)).tolist()
    block = 0
    for stage in network.stages:
        for repeat in range(stage.repeats):
            stride = stage.stride if repeat == 0 else 1
            if stride > 1:
                maps.append(x)
            x = _block(x, network, stage, stride, rates[block], name=f"block{block}")
            block += 1
    if top:
        x = _conv_norm(x, network, network.top, 1, name="top")
    return [*maps, x]


def _block(x, network, stage, stride, drop_path_rate, name):
    shortcut, dim = x, x.shape[-1]
    if stage.expansion > 1:
        x = _conv_norm(x, network, dim * stage.expansion, 1, name=f"{name}_expand")
    x = _conv_norm(x, network, None, stage.kernel, stride, name=f"{name}_depthwise")
    x = _conv_norm(x, network, stage.channels, 1, activation=False, name=f"{name}_project")
    if stride > 1 or dim != stage.channels:
        return x
    return layers.Add(name=f"{name}_add")([shortcut, drop_path(x, drop_path_rate, f"{name}_drop_path")])


def _conv_norm(x, network, filters, kernel, stride=1, activation=True, name=""):
    """Convolution without bias (depthwise where `filters` is None), BatchNorm, ReLU6."""
    padding = "same"
    if stride > 1 and not network.same:
        x, padding = layers.ZeroPadding2D(kernel // 2, name=f"{name}_pad")(x), "valid"
    options = {"strides": stride, "padding": padding, "use_bias": False, "name": f"{name}_conv"}
    if filters is None:
        x = layers.DepthwiseConv2D(kernel, depthwise_initializer="he_normal", **options)(x)
    else:
        x = layers.Conv2D(filters, kernel, kernel_initializer="he_normal", **options)(x)
    x = BatchNormalization(momentum=BATCH_NORM_MOMENTUM, epsilon=network.epsilon, name=f"{name}_norm")(x)
    return layers.ReLU(max_value=6.0, name=f"{name}_relu")(x) if activation else x
