import keras
import numpy as np
import pytest
from keras import ops
from sklearn.metrics import log_loss

from keras_realmnet import losses

NAN = float("nan")


def drawn(batch=16, grades=5):
    rng = np.random.default_rng(3)
    y_true = np.eye(grades, dtype="float32")[rng.integers(0, grades, batch)]
    return y_true, rng.normal(0, 3, (batch, grades)).astype("float32")


def test_it_is_the_log_loss_of_the_softmax():
    y_true, logits = drawn()
    x = logits.astype("float64")
    p = np.exp(x) / np.exp(x).sum(axis=-1, keepdims=True)
    expected = log_loss(y_true.argmax(axis=-1), p, labels=range(5))
    assert float(losses.softmax_crossentropy(y_true, logits)) == pytest.approx(expected, rel=1e-5)


def test_value_and_gradient_equal_pytorchs_with_soft_targets(value_and_gradient):
    import torch

    _, logits = drawn()
    y_true = np.random.default_rng(4).dirichlet(np.ones(5), 16).astype("float32")
    x = torch.tensor(logits, requires_grad=True)
    expected = torch.nn.functional.cross_entropy(x, torch.tensor(y_true))
    expected.backward()
    value, gradient = value_and_gradient(lambda x: losses.softmax_crossentropy(y_true, x), logits)
    np.testing.assert_allclose(value, expected.item(), rtol=1e-5)
    np.testing.assert_allclose(gradient, x.grad.numpy(), atol=1e-6)


def test_the_worked_number_of_the_docstring():
    assert float(losses.softmax_crossentropy(np.eye(3), np.zeros((3, 3), "float32"))) == pytest.approx(1.0986, abs=1e-4)


def test_images_of_unknown_grade_change_nothing(value_and_gradient):
    y_true, logits = drawn()
    expected, slope = value_and_gradient(lambda x: losses.softmax_crossentropy(y_true[4:], x), logits[4:])
    y_true[:3] = NAN
    y_true[3, 2] = NAN  # one grade of which nothing is known leaves nothing known of all
    value, gradient = value_and_gradient(lambda x: losses.softmax_crossentropy(y_true, x), logits)
    np.testing.assert_allclose(value, expected, rtol=1e-6)
    np.testing.assert_allclose(gradient[4:], slope, atol=1e-7)
    np.testing.assert_array_equal(gradient[:4], 0)
    value, gradient = value_and_gradient(lambda x: losses.softmax_crossentropy(np.full((16, 5), NAN), x), logits)
    assert value == 0
    np.testing.assert_array_equal(gradient, 0)


def test_it_stays_finite_for_logits_of_100(value_and_gradient):
    logits = np.array([[100.0, -100.0], [-100.0, 100.0]], "float32")
    value, gradient = value_and_gradient(lambda x: losses.softmax_crossentropy(np.eye(2)[::-1].copy(), x), logits)
    assert value == pytest.approx(200.0)
    assert np.isfinite(gradient).all()


@pytest.mark.parametrize(
    ("y_true", "message"),
    [
        (np.zeros((2, 4)), "targets of the shape of the logits"),
        (np.zeros(2), "targets of the shape of the logits"),
        (np.ones((2, 3)), "add up to 1"),
        (np.array([[1.0, 0.0, 0.0], [1.5, -0.5, 0.0]]), "not negative"),
    ],
)
def test_other_targets_are_refused(y_true, message):
    with pytest.raises(ValueError, match=message):
        losses.SoftmaxCrossentropy()(y_true, ops.zeros((2, 3)))


def test_a_compiled_step_learns_from_rows_that_are_partly_unknown():
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.layers.Input((4,)), keras.layers.Dense(3)])
    model.compile(keras.optimizers.Adam(0.1), losses.SoftmaxCrossentropy())
    x = np.eye(4, dtype="float32")
    y_true = np.array([[1, 0, 0], [0, 1, 0], [0, 0, 1], [NAN] * 3], "float32")
    first, *_, last = model.fit(x, y_true, epochs=30, verbose=0).history["loss"]
    assert last < 0.2 * first
