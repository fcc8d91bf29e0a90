"""What our Keras models share: precision and frozen layers survive saving, ends that only training needs, and errors
that name what to use instead."""

from collections.abc import Iterable
from contextlib import contextmanager

import keras

from keras_realmnet import compat
from keras_realmnet.errors import RealMNetError, WeightsMismatch

__all__ = ["AUXILIARY", "Network", "learned_by", "precision"]

AUXILIARY = "_auxiliary"  # how the name of an auxiliary end ends: see `learned_by`


def learned_by(ends: Iterable[str]) -> dict[str, str]:
    """{end of a network: the output by whose truth it learns}.

    That is itself, but for an auxiliary end, which stands beside an output, is named OUTPUT_auxiliary and has the same
    shape: only training needs it. For "grade" and "grade_auxiliary" both are "grade".
    """
    ends = list(ends)
    bases = {end: end.removesuffix(AUXILIARY) for end in ends}
    return {end: base if base in ends else end for end, base in bases.items()}


@contextmanager
def precision(dtype):
    """Layers made inside have the dtype policy `dtype`, anything `keras.dtype_policies.get` takes; None: Keras' own."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(before if dtype is None else keras.dtype_policies.get(dtype))
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


@keras.saving.register_keras_serializable("keras_realmnet")
class Network(keras.Model):
    """A functional model; those with arguments of their own pass their config through `saved` and `restored`."""

    @property
    def input_spec(self):
        """The shape of the images as it is: Keras' own lets a last axis of 1 pass, and layers inside then fail."""
        return [keras.layers.InputSpec(shape=spec.shape, name=spec.name) for spec in super().input_spec]

    @property
    def image_size(self):
        """(height, width) of the input in pixels."""
        return tuple(self.input.shape[1:3])

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        """As Keras does, of auxiliary ends too; the truth has outputs alone."""
        if isinstance(y, dict) and isinstance(y_pred, dict):
            y = {end: y[output] for end, output in learned_by(y_pred).items() if output in y}
        return super().compute_loss(x, y, y_pred, sample_weight, training)

    def load_weights(self, filepath, skip_mismatch=False, **kwargs):
        """As Keras does.

        Raises:
            WeightsMismatch: the weights are not of this network at this input size; it is then left as it was.
        """
        before = self.get_weights()
        try:
            super().load_weights(filepath, skip_mismatch=skip_mismatch, **kwargs)
        except ValueError as error:
            self.set_weights(before)
            reason = " ".join(str(error).split())
            raise WeightsMismatch(
                f"{filepath}: does not fit {self.name}, input {self.input_shape[1:3]}. Weights of another input size: "
                "load them into a network of that size, then keras_realmnet.transfer_weights(that_one, this_one). "
                + reason
            ) from error

    def export(self, filepath, format="tf_saved_model", **kwargs):
        """As Keras does, but for ONNX.

        Raises:
            RealMNetError: for "onnx": Keras' converters lack operations of these networks on every backend.
        """
        if format == "onnx":
            raise RealMNetError(
                "Keras' own ONNX export cannot convert this network (no Erfc in TensorFlow's converter, no shapes in "
                "PyTorch's, none with JAX). Use export.conversion.to_onnx.to_onnx(model, path), which exports a "
                "RealMNet from any backend, or python -m export onnx BUNDLE"
            )
        return super().export(filepath, format=format, **kwargs)

    def saved(self, config):
        """`config` with what every network keeps besides its arguments."""
        return {
            **config,
            "name": self.name,
            "dtype": keras.dtype_policies.serialize(self.dtype_policy),
            "trainable": self.trainable,
            "frozen_layers": [k for k, layer in enumerate(_sublayers(self)) if not layer.trainable],
        }

    @classmethod
    def restored(cls, config):
        """The network that `saved` describes."""
        trainable, frozen = config.pop("trainable", True), config.pop("frozen_layers", None)
        model = cls(**config)
        model.trainable = trainable  # of all layers; then each has its own say
        for k, layer in enumerate(_sublayers(model)) if frozen is not None else ():
            layer.trainable = k not in frozen
        return model


def _sublayers(layer):
    """Every layer inside, the outer ones first; the same order in every copy, while names may differ."""
    for sublayer in compat.direct_layers(layer):
        yield sublayer
        yield from _sublayers(sublayer)
