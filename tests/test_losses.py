import re

import keras
import numpy as np
import pytest
from keras import ops

from keras_realmnet import losses

ASYMMETRIC = ["gp0_gn0_m0", "gp0_gn4_m0.05", "gp1_gn4_m0.05", "gp3_gn4_m0.0", "gp2_gn4_m0.2", "gp1_gn1_m0"]
TWO_WAY = ["tp1_tn1", "tp4_tn1", "tp0.5_tn2", "tp2_tn4"]
FUNCTIONS = [losses.asymmetric_loss, losses.two_way_loss, losses.focal_loss, losses.binary_crossentropy]


def numbers(name):
    return [float(number) for number in re.findall(r"[0-9.]+", name)]


@pytest.mark.parametrize("name", ASYMMETRIC)
def test_asymmetric_loss_equals_the_authors_code(goldens, value_and_gradient, name):
    golden = np.load(goldens / "losses.npz")
    y_true, logits = golden["targets"], golden["logits"]

    def loss(x):
        return losses.asymmetric_loss(y_true, x, *numbers(name))

    np.testing.assert_allclose(ops.convert_to_numpy(loss(logits)), golden[f"asl_{name}"], rtol=1e-5, atol=1e-12)
    _, gradient = value_and_gradient(lambda x: ops.mean(loss(x)), logits)
    np.testing.assert_allclose(gradient, golden[f"asl_{name}_grad_of_mean"], rtol=1e-5, atol=1e-12)


@pytest.mark.parametrize("name", ["gp3_gn4_m0.0", "gp1_gn4_m0.05"])
def test_asymmetric_loss_on_soft_labels_equals_realmnets_code(goldens, name):
    golden = np.load(goldens / "losses_soft_targets.npz")
    value = losses.asymmetric_loss(golden["targets"], golden["logits"], *numbers(name))
    np.testing.assert_allclose(ops.convert_to_numpy(value), golden[f"asl_{name}"], rtol=1e-5, atol=1e-12)


@pytest.mark.parametrize("name", TWO_WAY)
def test_two_way_loss_equals_the_authors_code(goldens, value_and_gradient, name):
    golden = np.load(goldens / "losses.npz")
    value, gradient = value_and_gradient(
        lambda x: losses.two_way_loss(golden["targets"], x, *numbers(name)), golden["logits"]
    )
    np.testing.assert_allclose(value, golden[f"twoway_{name}"], rtol=1e-5)
    np.testing.assert_allclose(gradient, golden[f"twoway_{name}_grad"], rtol=1e-5, atol=1e-9)


def test_two_way_loss_skips_samples_and_classes_without_a_positive():
    logits = np.array([[2.0, -1.0], [0.5, 3.0]], "float32")
    assert float(losses.two_way_loss(np.zeros((2, 2)), logits)) == 0.0
    # Only sample 0 and class 0 hold a positive: softplus(−1 − 2) over classes and softplus(0.5 − 2) over samples.
    value = losses.two_way_loss(np.array([[1.0, 0.0], [0.0, 0.0]]), logits, 1.0, 1.0)
    assert float(value) == pytest.approx(np.log1p(np.exp(-3.0)) + np.log1p(np.exp(-1.5)), rel=1e-5)


def test_the_worked_numbers_of_the_docstrings():
    one, zero = np.ones((1, 1)), np.zeros((1, 1), "float32")
    assert float(losses.binary_crossentropy(one, zero)[0, 0]) == pytest.approx(0.3466, abs=1e-4)
    assert float(losses.focal_loss(one, zero)[0, 0]) == pytest.approx(0.0433, abs=1e-4)
    assert float(losses.asymmetric_loss(one, zero)[0, 0]) == pytest.approx(0.0866, abs=1e-4)


def test_focal_loss_equals_keras_and_a_float64_formula():
    rng = np.random.default_rng(0)
    y_true = (rng.random((32, 7)) < 0.4).astype("float32")
    logits = rng.normal(0, 3, (32, 7)).astype("float32")
    p = 1 / (1 + np.exp(-logits.astype("float64")))
    expected = -(0.3 * y_true * (1 - p) ** 1.5 * np.log(p) + 0.7 * (1 - y_true) * p**1.5 * np.log(1 - p))
    value = ops.convert_to_numpy(losses.focal_loss(y_true, logits, alpha=0.3, gamma=1.5))
    np.testing.assert_allclose(value, expected, rtol=1e-4, atol=1e-9)
    reference = keras.losses.BinaryFocalCrossentropy(
        apply_class_balancing=True, alpha=0.3, gamma=1.5, from_logits=True, reduction="sum"
    )
    assert value.sum() / 7 == pytest.approx(float(reference(y_true, logits)), rel=1e-4)


def test_balanced_cross_entropy_at_one_half_is_half_the_cross_entropy():
    rng = np.random.default_rng(1)
    y_true = rng.random((8, 3)).astype("float32")
    logits = rng.normal(0, 2, (8, 3)).astype("float32")
    expected = keras.losses.BinaryCrossentropy(from_logits=True, reduction=None)(y_true, logits)
    value = ops.mean(losses.binary_crossentropy(y_true, logits), axis=-1)
    np.testing.assert_allclose(2 * ops.convert_to_numpy(value), ops.convert_to_numpy(expected), rtol=1e-5)


@pytest.mark.parametrize("function", FUNCTIONS, ids=lambda function: function.__name__)
@pytest.mark.parametrize("label", [0.0, 0.3, 1.0, "mixed"])
def test_value_and_gradient_are_finite_for_logits_of_100(value_and_gradient, function, label):
    logits = np.array([[100.0, -100.0, 0.0], [-100.0, 100.0, 0.0]], "float32")
    y_true = np.eye(2, 3) if label == "mixed" else np.full((2, 3), label)
    value, gradient = value_and_gradient(lambda x: ops.sum(function(y_true.astype("float32"), x)), logits)
    assert np.isfinite(value)
    assert np.isfinite(gradient).all()


@pytest.mark.parametrize(
    "loss",
    [
        losses.AsymmetricLoss(2.0, 5.0, 0.1),
        losses.FocalLoss(0.6, 1.5),
        losses.BinaryCrossentropy(0.7),
        losses.TwoWayLoss(2.0, 3.0),
    ],
    ids=lambda loss: loss.name,
)
def test_loss_classes_serialize_and_accept_half_precision(loss):
    rng = np.random.default_rng(2)
    y_true = (rng.random((4, 7)) < 0.5).astype("float32")
    logits = rng.normal(0, 2, (4, 7)).astype("float32")
    again = keras.losses.deserialize(keras.losses.serialize(loss))
    assert type(again) is type(loss)
    assert float(again(y_true, logits)) == pytest.approx(float(loss(y_true, logits)), rel=1e-6)
    half = loss(y_true, ops.cast(logits, "bfloat16"))
    assert "float32" in str(half.dtype)
    assert float(half) == pytest.approx(float(loss(y_true, logits)), rel=0.05)


def test_loss_class_sums_over_labels_and_averages_over_the_batch(goldens):
    golden = np.load(goldens / "losses.npz")
    value = losses.AsymmetricLoss()(golden["targets"], golden["logits"])
    assert float(value) == pytest.approx(golden["asl_gp3_gn4_m0.0"].sum(axis=1).mean(), rel=1e-5)
