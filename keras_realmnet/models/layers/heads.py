"""Classification heads on a feature map, each able to explain its logits by class maps in closed form."""

import keras
import numpy as np
from keras import layers, ops

from keras_realmnet.arguments import CLASSES, HEADS, MAP_OFFSET, Rule, check

__all__ = ["EXPLANATIONS", "HEAD", "ClassMaps", "LinearHead", "ResidualAttentionHead", "grad_cam_plus_plus"]

EXPLANATIONS = ("grad_cam", "grad_cam_plus_plus")

# CSRA (arXiv 2108.02456), temperatures of the heads; 99 means max-pooling instead of softmax-pooling.
MAX_POOLING = 99
TEMPERATURES = {
    1: (1,),
    2: (1, MAX_POOLING),
    4: (1, 2, 4, MAX_POOLING),
    6: (1, 2, 3, 4, 5, MAX_POOLING),
    8: (1, 2, 3, 4, 5, 6, 7, MAX_POOLING),
}


def grad_cam_plus_plus(features, gradients):
    """Class maps from a feature map and the gradient of each logit with respect to it.

    a = g² / (2g² + (Σ A)·g³ + 1e-6), 0 where g = 0; w = Σ relu(g)·a over positions; map = relu(Σ w·A) over features.

    Args:
        features: A, (batch, positions, features).
        gradients: (batch, classes, positions, features), or (batch, classes, 1, features) where they are the same at
            every position.

    Returns:
        (batch, positions, classes), not negative, not normalized.

    Source: Grad-CAM++ (arXiv 1710.11063) as coded in pytorch-grad-cam, which the RealMNet authors used.
    """
    positions = features.shape[1]
    total = ops.expand_dims(ops.sum(features, axis=1, keepdims=True), 1)  # (batch, 1, 1, features)
    gradients = ops.relu(gradients)  # where it is negative, w has nothing of it
    square = ops.square(gradients)
    cube = square * gradients
    weights = ops.sum(cube / (2 * square + total * cube + 1e-6), axis=2)  # (batch, classes, features)
    same = positions if gradients.shape[2] == 1 else 1
    return ops.relu(ops.matmul(features, same * ops.transpose(weights, (0, 2, 1))))


def _flatten(features):
    """(batch, h, w, features) → (batch, positions, features)."""
    return ops.reshape(features, (-1, features.shape[1] * features.shape[2], features.shape[3]))


def shift_matrix(height, width, offset):
    """The matrix that shifts class maps back by `offset`, (rows, columns) in cells, with bilinear weights.

    maps (…, height · width) @ matrix, float32 (height · width, height · width).
    """

    def along(cells, by):
        at = np.arange(cells) + by
        return np.maximum(0.0, 1.0 - np.abs(np.arange(cells)[:, None] - at)).astype("float32")

    return np.kron(along(height, offset[0]), along(width, offset[1]))


def _check_explanation(explanation):
    if explanation not in EXPLANATIONS:
        raise ValueError(f"explanation must be one of {', '.join(EXPLANATIONS)}. Received: {explanation!r}")


class _Head(layers.Layer):
    """(batch, h, w, features) → logits (batch, classes); `class_maps` explains them."""

    def __init__(self, num_classes, **kwargs):
        kwargs.setdefault("dtype", "float32")  # a few thousand multiply-adds decide: never in reduced precision
        super().__init__(**kwargs)
        check(type(self).__name__, {"num_classes": CLASSES}, {"num_classes": num_classes})
        self.num_classes = int(num_classes)

    def class_maps(self, features, explanation="grad_cam"):
        """Where each logit comes from: `features` (batch, h, w, features) → (batch, h, w, classes), not negative.

        "grad_cam": relu of the features weighted by the logit's mean gradient (arXiv 1610.02391). What speaks against
        the label counts, and rounding moves the map no more than the scores. "grad_cam_plus_plus": see there; it
        leaves out what speaks against. `python -m export explanations` compares them (docs/explanations.md).

        Raises:
            ValueError: for another explanation.
        """
        _check_explanation(explanation)
        height, width = features.shape[1:3]
        features = _flatten(ops.cast(features, self.compute_dtype))
        if explanation == "grad_cam":
            maps = ops.relu(self._mean_gradient_products(features))
        else:
            maps = grad_cam_plus_plus(features, self._gradients(features))
        return ops.reshape(maps, (-1, height, width, self.num_classes))

    def compute_output_shape(self, input_shape):
        return (input_shape[0], self.num_classes)

    def get_config(self):
        return {**super().get_config(), "num_classes": self.num_classes}


@keras.saving.register_keras_serializable("keras_realmnet")
class ResidualAttentionHead(_Head):
    """Class-specific residual attention (CSRA, arXiv 2108.02456) on (batch, h, w, features).

    Per head: score s = x·w / ‖w‖ at each position and class; logit = mean(s) + lam · attention, where attention is
    Σ s·softmax(T·s) over the positions, or max(s) for T = 99. The heads have their own weights and are summed.

    Args:
        num_classes: classes.
        num_heads: 1, 2, 4, 6 or 8; sets the temperatures ([1], [1, 99], [1, 2, 4, 99], …).
        lam: λ, strength of the residual attention.

    Attributes:
        kernel: (heads, features, classes), no bias.

    Class maps need no autodiff: the gradient of a logit has the closed form Σ over heads of
    w/‖w‖ · (1/P + λ·∂attention/∂s), with ∂attention/∂s = a·(1 + T·(s − Σ a·s)) for a softmax head with attention
    weights a, and the arg-max indicator for T = 99. Its mean over the P positions is Σ w/‖w‖ · (1 + λ)/P whatever the
    attention, so that Grad-CAM is the heads' own score maps, added up.

    Raises:
        ValueError: for another number of heads, or a negative λ.
    """

    def __init__(self, num_classes, num_heads=2, lam=1.2, **kwargs):
        super().__init__(num_classes, **kwargs)
        check("ResidualAttentionHead", HEADS["residual_attention"], {"num_heads": num_heads, "lam": lam})
        self.num_heads = int(num_heads)
        self.lam = float(lam)
        self.temperatures = TEMPERATURES[self.num_heads]

    def build(self, input_shape):
        bound = input_shape[-1] ** -0.5  # PyTorch's default for a 1×1 convolution
        self.kernel = self.add_weight(
            shape=(self.num_heads, input_shape[-1], self.num_classes),
            initializer=keras.initializers.RandomUniform(-bound, bound),
            name="kernel",
        )

    def call(self, features):
        features, kernel = _flatten(features), self._unit_kernel()
        return sum(self._logit(features, kernel, head)[0] for head in range(self.num_heads))

    def _unit_kernel(self):
        """(heads, features, classes), every column of length 1."""
        kernel = ops.cast(self.kernel, self.compute_dtype)
        return kernel / ops.sqrt(ops.sum(ops.square(kernel), axis=1, keepdims=True))

    def _logit(self, features, kernel, head):
        """One head's logit (batch, classes), and what its slope comes from: scores, attention and its weights."""
        scores, temperature = ops.matmul(features, kernel[head]), self.temperatures[head]  # (batch, positions, classes)
        if temperature == MAX_POOLING:
            weights = None
            attention = ops.max(scores, axis=1, keepdims=True)
        else:
            weights = ops.softmax(temperature * scores, axis=1)
            attention = ops.sum(scores * weights, axis=1, keepdims=True)
        logit = ops.mean(scores, axis=1) + self.lam * ops.squeeze(attention, axis=1)
        return logit, scores, attention, weights

    def _gradients(self, features):
        kernel, gradients = self._unit_kernel(), 0.0
        for head, temperature in enumerate(self.temperatures):
            _, scores, attention, weights = self._logit(features, kernel, head)
            if weights is None:
                slope = ops.cast(ops.equal(scores, attention), scores.dtype)
            else:
                slope = weights * (1 + temperature * (scores - attention))
            slope = 1 / features.shape[1] + self.lam * slope  # ∂logit/∂score, (batch, positions, classes)
            slope = ops.expand_dims(ops.transpose(slope, (0, 2, 1)), -1)
            gradients += slope * ops.expand_dims(ops.transpose(kernel[head]), 1)
        return gradients  # (batch, classes, positions, features)

    def _mean_gradient_products(self, features):
        kernel = ops.sum(self._unit_kernel(), axis=0) * ((1 + self.lam) / features.shape[1])
        return ops.matmul(features, kernel)

    def get_config(self):
        return {**super().get_config(), "num_heads": self.num_heads, "lam": self.lam}


@keras.saving.register_keras_serializable("keras_realmnet")
class LinearHead(_Head):
    """Global average pooling, LayerNorm and Dense on (batch, h, w, features): RealMNet's ablation of the CSRA head.

    Class maps as in `ResidualAttentionHead`; here the gradient of a logit is the same at every position.
    """

    EPSILON = 1e-5

    def build(self, input_shape):
        dim = input_shape[-1]
        self.gamma = self.add_weight(shape=(dim,), initializer="ones", name="gamma")
        self.beta = self.add_weight(shape=(dim,), initializer="zeros", name="beta")
        self.kernel = self.add_weight(
            shape=(dim, self.num_classes), initializer=keras.initializers.TruncatedNormal(stddev=0.02), name="kernel"
        )
        self.bias = self.add_weight(shape=(self.num_classes,), initializer="zeros", name="bias")

    def _normalize(self, features):
        pooled = ops.mean(features, axis=1)  # (batch, features)
        centred = pooled - ops.mean(pooled, axis=-1, keepdims=True)
        deviation = ops.sqrt(ops.mean(ops.square(centred), axis=-1, keepdims=True) + self.EPSILON)
        return centred / deviation, deviation

    def call(self, features):
        normalized, _ = self._normalize(_flatten(features))
        return ops.matmul(normalized * self.gamma + self.beta, self.kernel) + self.bias

    def _gradients(self, features):
        normalized, deviation = self._normalize(features)
        normalized, deviation = (ops.expand_dims(x, 1) for x in (normalized, deviation))
        slope = ops.transpose(self.gamma[:, None] * self.kernel)  # (classes, features)
        along = ops.mean(normalized * slope, axis=-1, keepdims=True)
        # The backward pass of LayerNorm, (batch, classes, features).
        gradients = (slope - ops.mean(slope, axis=-1, keepdims=True) - normalized * along) / deviation
        return ops.expand_dims(gradients / features.shape[1], 2)

    def _mean_gradient_products(self, features):
        gradients = ops.squeeze(self._gradients(features), axis=2)
        return ops.matmul(features, ops.transpose(gradients, (0, 2, 1)))


HEAD = Rule(
    "a LinearHead or a ResidualAttentionHead",
    lambda value: isinstance(value, LinearHead | ResidualAttentionHead),
)


@keras.saving.register_keras_serializable("keras_realmnet")
class ClassMaps(layers.Layer):
    """`head.class_maps` as a layer, sharing the head's weights.

    Args:
        offset: (rows, columns), in cells, by which the network's maps lie below and right of what they show
            (`keras_realmnet.measure_map_offset` measures it); the maps are moved back, 0 coming in at the border.

    Raises:
        ValueError: for an `explanation` that is none of `EXPLANATIONS`, or an offset that is not two numbers.
    """

    def __init__(self, head, explanation="grad_cam", offset=(0.0, 0.0), **kwargs):
        super().__init__(**{"dtype": "float32", **kwargs})
        _check_explanation(explanation)
        check("ClassMaps", {"offset": MAP_OFFSET}, {"offset": offset})
        self.head = head
        self.explanation = explanation
        self.offset = tuple(map(float, offset))

    def build(self, input_shape):
        if not self.head.built:
            self.head.build(input_shape)

    def call(self, features):
        maps = self.head.class_maps(features, self.explanation)
        if not any(self.offset):
            return maps
        _, height, width, classes = maps.shape
        by_class = ops.transpose(_flatten(maps), (0, 2, 1))
        moved = ops.matmul(by_class, ops.convert_to_tensor(shift_matrix(height, width, self.offset)))
        return ops.reshape(ops.transpose(moved, (0, 2, 1)), (-1, height, width, classes))

    def compute_output_shape(self, input_shape):
        return (*input_shape[:3], self.head.num_classes)

    def get_config(self):
        head = keras.saving.serialize_keras_object(self.head)
        return {**super().get_config(), "head": head, "explanation": self.explanation, "offset": self.offset}

    @classmethod
    def from_config(cls, config):
        config["head"] = keras.saving.deserialize_keras_object(config["head"])
        return cls(**config)
