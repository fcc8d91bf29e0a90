"""Losses on logits, by what they train: `labels`, `grades`, `masks`, `points`; `guidance`: the maps behind labels;
`distillation`: what another network says.

Pure functions, and `Loss` classes.

All compute in float32 whatever the dtype of the logits, and stay finite in value and gradient for logits of ±100.
What is not known of the truth (NaN; 255 in masks) costs nothing and gives no gradient.

All refuse parameters out of their range (the classes when they are made), targets of another shape than the logits
need, and values that no truth has. Shapes are compared wherever they are known, in compiled steps too, once, as these
are traced. Values can be looked at only where there are any: in NumPy arrays, eager calls and `run_eagerly`, not in a
compiled training step (TensorFlow, JAX), nor on a GPU of PyTorch, which would have to be waited for.
"""

# Importing Keras registers our classes, which imports this package: it comes first (see keras_realmnet/models).
import keras  # noqa: F401

from keras_realmnet.losses.distillation import Distillation, distillation
from keras_realmnet.losses.grades import SoftmaxCrossentropy, softmax_crossentropy
from keras_realmnet.losses.guidance import Guidance, guidance
from keras_realmnet.losses.labels import (
    AsymmetricLoss,
    BinaryCrossentropy,
    FocalLoss,
    TwoWayLoss,
    asymmetric_loss,
    binary_crossentropy,
    focal_loss,
    two_way_loss,
)
from keras_realmnet.losses.masks import (
    CrossentropyDice,
    DualDice,
    PixelCrossentropy,
    PixelFocal,
    crossentropy_dice,
    dual_dice,
    pixel_crossentropy,
    pixel_focal,
)
from keras_realmnet.losses.points import (
    ConfidenceOffsets,
    EuclideanDistance,
    confidence_offsets,
    euclidean_distance,
)

__all__ = [
    "AsymmetricLoss",
    "BinaryCrossentropy",
    "ConfidenceOffsets",
    "CrossentropyDice",
    "Distillation",
    "DualDice",
    "EuclideanDistance",
    "FocalLoss",
    "Guidance",
    "PixelCrossentropy",
    "PixelFocal",
    "SoftmaxCrossentropy",
    "TwoWayLoss",
    "asymmetric_loss",
    "binary_crossentropy",
    "confidence_offsets",
    "crossentropy_dice",
    "distillation",
    "dual_dice",
    "euclidean_distance",
    "focal_loss",
    "guidance",
    "pixel_crossentropy",
    "pixel_focal",
    "softmax_crossentropy",
    "two_way_loss",
]
