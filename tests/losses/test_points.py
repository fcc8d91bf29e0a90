import keras
import numpy as np
import pytest
from keras import ops
from sklearn.metrics import log_loss

from keras_realmnet import losses

NAN = float("nan")


def drawn(batch=6, points=3):
    rng = np.random.default_rng(5)
    y_true = rng.random((batch, points, 3)).astype("float32")
    y_true[..., 2] = 1
    return y_true, rng.uniform(0.05, 0.95, (batch, points, 3)).astype("float32")


def test_it_is_the_mean_distance_of_what_is_visible():
    y_true, points = drawn()
    y_true[0, 0] = NAN, NAN, 0
    y_true[1, 2] = NAN
    y_true[2, 1] = 0.3, 0.3, 0  # x and y of what is not visible are not looked at
    seen = y_true[..., 2] == 1
    expected = np.linalg.norm((y_true - points)[..., :2][seen].astype("float64"), axis=-1).mean()
    assert float(losses.euclidean_distance(y_true, points[..., :2])) == pytest.approx(expected, rel=1e-5)
    known = ~np.isnan(y_true[..., 2])
    confidence = log_loss(y_true[..., 2][known], points[..., 2][known].astype("float64"))
    expected += 0.3 * confidence
    assert float(losses.euclidean_distance(y_true, points, 0.3)) == pytest.approx(expected, rel=1e-5)


def test_the_worked_number_of_the_docstring():
    y_true, point = np.array([[[0.5, 0.5, 1.0]]]), np.array([[[0.8, 0.9]]], "float32")
    assert float(losses.euclidean_distance(y_true, point)) == pytest.approx(0.5, rel=1e-5)


def test_the_gradient_equals_pytorchs_and_is_0_where_nothing_is_known(value_and_gradient):
    import torch

    y_true, points = drawn()
    y_true[0] = NAN
    y_true[1, 0] = NAN, NAN, 0
    x = torch.tensor(points, requires_grad=True)
    truth = torch.tensor(y_true)
    seen = truth[..., 2] == 1
    distance = torch.linalg.vector_norm(x[..., :2][seen] - truth[..., :2][seen], dim=-1).mean()
    known = ~torch.isnan(truth[..., 2])
    entropy = torch.nn.functional.binary_cross_entropy(x[..., 2][known], truth[..., 2][known])
    (distance + 0.1 * entropy).backward()
    _, gradient = value_and_gradient(lambda x: losses.euclidean_distance(y_true, x), points)
    np.testing.assert_allclose(gradient, x.grad.numpy(), atol=1e-6)
    np.testing.assert_array_equal(gradient[0], 0)
    np.testing.assert_array_equal(gradient[1, 0, :2], 0)


@pytest.mark.parametrize("confidence", [0.0, 1.0])
def test_it_stays_finite_where_a_point_is_right_and_a_confidence_certain(value_and_gradient, confidence):
    y_true = np.array([[[0.5, 0.5, 1.0], [NAN, NAN, 0.0], [NAN, NAN, NAN]]], "float32")
    points = np.array([[[0.5, 0.5, confidence]] * 3], "float32")
    value, gradient = value_and_gradient(lambda x: losses.euclidean_distance(y_true, x), points)
    assert np.isfinite(value)
    assert np.isfinite(gradient).all()
    value, gradient = value_and_gradient(lambda x: losses.euclidean_distance(np.full((1, 3, 3), NAN), x), points)
    assert value == 0
    np.testing.assert_array_equal(gradient, 0)


@pytest.mark.parametrize(
    ("y_true", "message"),
    [
        (np.ones((2, 1, 2)), r"targets \(batch, points, 3\)"),
        (np.ones((2, 2, 3)), r"targets \(batch, points, 3\)"),
        (np.ones((2, 3)), r"targets \(batch, points, 3\)"),
        (np.full((2, 1, 3), 0.5), "a visible of 0, 1 or NaN"),
        (np.array([[[NAN, 0.5, 1.0]]] * 2), "2 visible points without a place"),
    ],
)
def test_other_targets_are_refused(y_true, message):
    with pytest.raises(ValueError, match=message):
        losses.EuclideanDistance()(y_true, ops.zeros((2, 1, 2)))
    with pytest.raises(ValueError, match="confidence_weight must be"):
        losses.EuclideanDistance(-1.0)


def test_serialization():
    again = keras.losses.deserialize(keras.losses.serialize(losses.EuclideanDistance(0.7)))
    y_true, points = drawn()
    assert float(again(y_true, points)) == pytest.approx(
        float(losses.euclidean_distance(y_true, points, 0.7)), rel=1e-6
    )
