"""Batch normalization that TensorFlow computes as one operation."""

import keras
from keras import layers

__all__ = ["BatchNormalization"]


@keras.saving.register_keras_serializable("keras_realmnet")
class BatchNormalization(layers.BatchNormalization):
    """Keras' layer; TensorFlow normalizes maps (batch, h, w, channels) by its `FusedBatchNormV3`.

    Same weights, same results but for rounding. Keras computes mean, variance and scaling one after the other, and
    keeps what each needs for its gradient: on a CPU a step of Lesion-Net-2s on EfficientNet-Lite0 takes 1.6 times as
    long, and EfficientNet-Lite0 in inference 1.7 times, where TensorFlow joins this operation to the convolution.
    """

    def call(self, inputs, training=None, mask=None):
        plain = self.axis in (-1, 3) and self.scale and self.center and not (self.renorm or self.synchronized)
        if not (plain and mask is None and len(inputs.shape) == 4 and keras.backend.backend() == "tensorflow"):
            return super().call(inputs, training=training, mask=mask)
        import tensorflow as tf

        learns = bool(training and self.trainable)
        x, *weights = (tf.cast(each, tf.float32) for each in (inputs, self.gamma, self.beta))  # as there
        kept = (tf.zeros((0,)),) * 2 if learns else (self.moving_mean, self.moving_variance)
        y, mean, variance, *_ = tf.raw_ops.FusedBatchNormV3(
            x=x,
            scale=weights[0],
            offset=weights[1],
            mean=kept[0],
            variance=kept[1],
            epsilon=self.epsilon,
            is_training=learns,
        )
        if learns:
            positions = tf.cast(tf.reduce_prod(tf.shape(x)[:3]), tf.float32)
            variance *= tf.maximum(positions - 1, 1) / positions  # that of the batch, as Keras keeps it, no estimate
            for value, now in ((self.moving_mean, mean), (self.moving_variance, variance)):
                value.assign(value * self.momentum + tf.stop_gradient(now) * (1 - self.momentum))
        return tf.cast(y, self.compute_dtype)
