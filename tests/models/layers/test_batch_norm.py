"""Batch normalization in one operation gives what Keras' layer gives."""

import keras
import numpy as np
import pytest

from keras_realmnet.models.layers.batch_norm import BatchNormalization

pytestmark = pytest.mark.tensorflow_only
SHAPE = (3, 5, 4, 6)


def trained(kind, x, dtype, **options):
    """Output, gradients of the input and of the weights, and the weights after one step of training."""
    import tensorflow as tf

    layer = kind(momentum=0.9, epsilon=1e-3, dtype=dtype, **options)
    layer.build(x.shape)
    rng = np.random.default_rng(1)
    layer.set_weights([rng.uniform(0.5, 2, weight.shape) for weight in layer.weights])
    x, towards = tf.constant(x), rng.normal(size=x.shape).astype("float32")
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = layer(x, training=True)
        loss = tf.reduce_sum(tf.cast(y, "float32") * towards)
    gradients = tape.gradient(loss, [x, *layer.trainable_variables])
    return y, [np.asarray(part, "float32") for part in (y, *gradients, *layer.weights)]


@pytest.mark.parametrize("shape", [SHAPE, (2, 1, 1, 6), (7, 6)])
@pytest.mark.parametrize("dtype", ["float32", "mixed_bfloat16"])
def test_training_as_keras(shape, dtype):
    x = np.random.default_rng(0).normal(3, 2, shape).astype("float32")
    ours, theirs = (trained(kind, x, dtype) for kind in (BatchNormalization, keras.layers.BatchNormalization))
    assert ours[0].dtype == theirs[0].dtype
    for mine, other in zip(ours[1], theirs[1], strict=True):
        np.testing.assert_allclose(mine, other, rtol=1e-4 if dtype == "float32" else 2e-2, atol=1e-4)


@pytest.mark.parametrize("options", [{"center": False}, {"scale": False}, {"axis": 1}])
def test_other_settings_as_keras(options):
    x = np.random.default_rng(0).normal(size=SHAPE).astype("float32")
    ours, theirs = (
        trained(kind, x, "float32", **options) for kind in (BatchNormalization, keras.layers.BatchNormalization)
    )
    for mine, other in zip(ours[1], theirs[1], strict=True):
        np.testing.assert_array_equal(mine, other)


def test_inference_and_frozen_layers_as_keras():
    x = np.random.default_rng(0).normal(size=SHAPE).astype("float32")
    layer, keras_own = BatchNormalization(), keras.layers.BatchNormalization()
    for each in (layer, keras_own):
        each.build(SHAPE)
        each.set_weights([np.random.default_rng(k).uniform(0.5, 2, SHAPE[-1:]) for k in range(4)])
    np.testing.assert_allclose(layer(x, training=False), keras_own(x, training=False), rtol=1e-5, atol=1e-6)
    layer.trainable = False
    keras_own.trainable = False
    np.testing.assert_allclose(layer(x, training=True), keras_own(x, training=True), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(*(of_input(each, x) for each in (layer, keras_own)), rtol=1e-4, atol=1e-6)


def of_input(layer, x):
    """The gradient of the input of a layer that does not learn."""
    import tensorflow as tf

    x = tf.constant(x)
    with tf.GradientTape() as tape:
        tape.watch(x)
        loss = tf.reduce_sum(tf.square(layer(x, training=True)))
    return tape.gradient(loss, x)
