"""What another network says of an image as its truth: distillation, beside the loss of the labels or grades."""

import keras
from keras import ops

from keras_realmnet.arguments import DISTILLATION, check
from keras_realmnet.losses.targets import REDUCTION, may_agree, shape_of

__all__ = ["Distillation", "distillation"]


def distillation(soft, logits, temperature=2.0, of="sigmoid"):
    """T² · cross-entropy of the student's probabilities at temperature T against the teacher's (arXiv 1503.02531).

    Of labels, each by itself: −T²·Σ [q·log p + (1−q)·log(1−p)] with p = sigmoid(logits / T); of grades
    −T²·Σ q·log softmax(logits / T). T² keeps the gradient as large as it is at T = 1. It is least, the teacher's own
    entropy times T², where p = q. At logit 0, q = .5 and T = 2 a label costs 4 · log 2 = 2.7726.

    Args:
        soft: q, (batch, classes), the teacher's probabilities at the same temperature, 0–1.
        logits: (batch, classes), the student's.
        temperature: T, above 0.
        of: what makes probabilities of logits, "sigmoid" or, over the classes, "softmax".

    Returns:
        (batch,), float32.

    Raises:
        ValueError: a temperature out of its range, another `of`, or shapes that differ.
    """
    check("distillation", DISTILLATION, {"temperature": temperature, "of": of})
    shapes = shape_of(soft), shape_of(logits)
    if not may_agree(*shapes):
        raise ValueError(f"distillation needs targets of the shape of the logits, {shapes[1]}. Received: {shapes[0]}")
    q, z = ops.cast(soft, "float32"), ops.cast(logits, "float32") / temperature
    costs = q * ops.softplus(-z) + (1 - q) * ops.softplus(z) if of == "sigmoid" else -q * ops.log_softmax(z, axis=-1)
    return temperature**2 * ops.sum(costs, axis=-1)


@keras.saving.register_keras_serializable("keras_realmnet")
class Distillation(keras.losses.Loss):
    """(1 − weight) · `loss` of the truth + weight · `distillation`; the mean over the batch.

    The targets are (batch, 2, classes): the truth as `loss` takes it, then the teacher's probabilities at the same
    temperature. Where the truth is unknown, the teacher still teaches.

    Args:
        loss: of labels or grades, one of this package.
        temperature, of: as of `distillation`.
        weight: the teacher's share, above 0 to 1.
    """

    def __init__(
        self,
        loss,
        temperature=2.0,
        weight=0.5,
        of="sigmoid",
        name="distillation",
        reduction=REDUCTION,
        dtype=None,
    ):
        super().__init__(name=name, reduction=reduction, dtype=dtype)
        check("Distillation", DISTILLATION, {"temperature": temperature, "weight": weight, "of": of})
        self.loss, self.temperature, self.weight, self.of = loss, temperature, weight, of

    def call(self, y_true, y_pred):
        told = distillation(y_true[:, 1], y_pred, self.temperature, self.of)  # (batch,)
        # `call`: once reduced, it would be reduced again. Of a mean, every image bears the same.
        return (1 - self.weight) * self.loss.call(y_true[:, 0], y_pred) + self.weight * told

    def change(self, **parameters):
        """Sets parameters of the labels' loss anew, as `FunctionLoss.change`."""
        self.loss.change(**parameters)

    def get_config(self):
        loss = keras.saving.serialize_keras_object(self.loss)
        own = {"temperature": self.temperature, "weight": self.weight, "of": self.of}
        return {**super().get_config(), "loss": loss, **own}

    @classmethod
    def from_config(cls, config):
        return cls(**{**config, "loss": keras.saving.deserialize_keras_object(config["loss"])})
