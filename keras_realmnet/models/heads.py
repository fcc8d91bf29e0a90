"""Classification heads on a feature map, each able to explain its logits by Grad-CAM++ class maps in closed form."""

import keras
from keras import layers, ops

__all__ = ["ClassMaps", "LinearHead", "ResidualAttentionHead", "grad_cam_plus_plus"]

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


class _Head(layers.Layer):
    """(batch, h, w, features) → logits (batch, classes); `class_maps` explains them."""

    def __init__(self, num_classes, **kwargs):
        kwargs.setdefault("dtype", "float32")  # a few thousand multiply-adds decide: never in reduced precision
        super().__init__(**kwargs)
        if int(num_classes) < 1:
            raise ValueError(f"num_classes must be at least 1. Received: {num_classes}")
        self.num_classes = int(num_classes)

    def class_maps(self, features):
        """Grad-CAM++ of every logit on `features`: (batch, h, w, features) → (batch, h, w, classes), not negative."""
        height, width = features.shape[1:3]
        features = _flatten(ops.cast(features, self.compute_dtype))
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

    `class_maps(features)` is Grad-CAM++ on the input map. The gradient of a logit has the closed form
    Σ over heads of w/‖w‖ · (1/P + λ·∂attention/∂s), with ∂attention/∂s = a·(1 + T·(s − Σ a·s)) for a softmax head
    with attention weights a, and the arg-max indicator for T = 99, so no autodiff is needed.

    Raises:
        ValueError: for another number of heads.
    """

    def __init__(self, num_classes, num_heads=2, lam=1.2, **kwargs):
        super().__init__(num_classes, **kwargs)
        if num_heads not in TEMPERATURES:
            raise ValueError(f"num_heads must be 1, 2, 4, 6 or 8. Received: {num_heads}")
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
        return self._logits_and_slopes(_flatten(features))[0]

    def _logits_and_slopes(self, features):
        """Logits (batch, classes); per head ∂logit/∂score (batch, positions, classes) and unit kernel."""
        positions = features.shape[1]
        kernel = ops.cast(self.kernel, self.compute_dtype)
        kernel = kernel / ops.sqrt(ops.sum(ops.square(kernel), axis=1, keepdims=True))
        logits, slopes = 0.0, []
        for head, temperature in enumerate(self.temperatures):
            scores = ops.matmul(features, kernel[head])  # (batch, positions, classes)
            if temperature == MAX_POOLING:
                attention = ops.max(scores, axis=1, keepdims=True)
                # 1 at the maximum, 0 elsewhere: as `equal`, but in operations that LiteRT's fast kernels have.
                slope = ops.floor(ops.exp(scores - attention))
            else:
                weights = ops.softmax(temperature * scores, axis=1)
                attention = ops.sum(scores * weights, axis=1, keepdims=True)
                slope = weights * (1 + temperature * (scores - attention))
            logits = logits + ops.mean(scores, axis=1) + self.lam * ops.squeeze(attention, axis=1)
            slopes.append(1 / positions + self.lam * slope)  # ∂logit/∂score, (batch, positions, classes)
        return logits, slopes, kernel

    def _gradients(self, features):
        _, slopes, kernel = self._logits_and_slopes(features)
        return sum(
            ops.expand_dims(ops.transpose(slope, (0, 2, 1)), -1) * ops.expand_dims(ops.transpose(kernel[head]), 1)
            for head, slope in enumerate(slopes)
        )  # (batch, classes, positions, features)

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


@keras.saving.register_keras_serializable("keras_realmnet")
class ClassMaps(layers.Layer):
    """`head.class_maps` as a layer, sharing the head's weights."""

    def __init__(self, head, **kwargs):
        super().__init__(**{"dtype": "float32", **kwargs})
        self.head = head

    def build(self, input_shape):
        if not self.head.built:
            self.head.build(input_shape)

    def call(self, features):
        return self.head.class_maps(features)

    def compute_output_shape(self, input_shape):
        return (*input_shape[:3], self.head.num_classes)

    def get_config(self):
        return {**super().get_config(), "head": keras.saving.serialize_keras_object(self.head)}

    @classmethod
    def from_config(cls, config):
        config["head"] = keras.saving.deserialize_keras_object(config["head"])
        return cls(**config)
