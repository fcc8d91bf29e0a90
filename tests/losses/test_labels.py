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


CLASSES = [losses.AsymmetricLoss, losses.BinaryCrossentropy, losses.FocalLoss, losses.TwoWayLoss]


@pytest.mark.parametrize(
    ("loss", "arguments"),
    [
        (losses.AsymmetricLoss, {"margin": 2.0}),
        (losses.AsymmetricLoss, {"margin": -0.1}),
        (losses.AsymmetricLoss, {"gamma_pos": -1.0}),
        (losses.AsymmetricLoss, {"gamma_neg": float("nan")}),
        (losses.AsymmetricLoss, {"gamma": 2.0}),
        (losses.FocalLoss, {"alpha": 1.5}),
        (losses.FocalLoss, {"gamma": -2.0}),
        (losses.FocalLoss, {"gama": 2.0}),
        (losses.FocalLoss, {"alpha": "0.5"}),
        (losses.BinaryCrossentropy, {"alpha": -0.5}),
        (losses.BinaryCrossentropy, {"from_logits": True}),
        (losses.TwoWayLoss, {"positive_temperature": 0.0}),
        (losses.TwoWayLoss, {"negative_temperature": -1.0}),
        (losses.TwoWayLoss, {"temperature": 1.0}),
    ],
    ids=str,
)
def test_wrong_parameters_are_refused_when_a_loss_is_made(loss, arguments):
    (name,) = arguments
    with pytest.raises((ValueError, TypeError), match=name):
        loss(**arguments)


@pytest.mark.parametrize("function", FUNCTIONS, ids=lambda function: function.__name__)
def test_functions_refuse_wrong_parameters_too(function):
    name = {"asymmetric_loss": "gamma_pos", "two_way_loss": "positive_temperature"}.get(function.__name__, "alpha")
    with pytest.raises(ValueError, match=f"{name} must be .* Received: -1.0"):
        function(np.ones((1, 2)), np.ones((1, 2), "float32"), **{name: -1.0})


@pytest.mark.parametrize("loss", CLASSES)
@pytest.mark.parametrize("as_given", [np.array, ops.convert_to_tensor], ids=["numpy", "tensor"])
@pytest.mark.parametrize("wrong", [-0.5, 1.5, float("inf")])
def test_targets_outside_of_0_to_1_are_refused(loss, as_given, wrong):
    y_true = np.full((2, 3), 0.5, "float32")
    logits = ops.zeros((2, 3))
    assert np.isfinite(float(loss()(as_given(y_true), logits)))
    y_true[1, 2] = wrong
    with pytest.raises(ValueError, match="targets from 0 to 1"):
        loss()(as_given(y_true), logits)


@pytest.mark.parametrize("loss", CLASSES)
@pytest.mark.parametrize("shape", [(2, 1), (3,), (2,), (1, 3), (2, 3, 1), (2, 4)])
def test_targets_of_another_shape_are_refused(loss, shape):
    with pytest.raises(ValueError, match="targets of the shape of the logits"):
        loss()(np.zeros(shape, "float32"), ops.zeros((2, 3)))


@pytest.mark.parametrize("loss", CLASSES)
def test_a_compiled_training_step_compares_shapes(loss):
    """The values of its targets are in a graph; their number of classes is known."""
    model = keras.Sequential([keras.layers.Input((4,)), keras.layers.Dense(3)])
    model.compile("sgd", loss())
    with pytest.raises(ValueError, match="targets of the shape of the logits"):
        model.fit(np.ones((6, 4), "float32"), np.ones((6, 1), "float32"), batch_size=3, verbose=0)


def test_mixed_labels_may_miss_the_ends_by_rounding():
    y_true = np.array([[1.0000002, -1e-7]], "float32")
    assert np.isfinite(float(losses.AsymmetricLoss()(y_true, ops.zeros((1, 2)))))


@pytest.mark.parametrize("function", FUNCTIONS, ids=lambda function: function.__name__)
def test_what_is_unknown_costs_nothing_and_changes_nothing(value_and_gradient, function):
    """A label that is known nowhere, an image of which nothing is known, and a single label of another image."""
    rng = np.random.default_rng(7)
    y_true = (rng.random((5, 4)) < 0.5).astype("float32")
    y_true[1] = 1, 0, 0, 1
    logits = rng.normal(0, 2, (5, 4)).astype("float32")
    expected, slope = value_and_gradient(lambda x: ops.sum(function(y_true[1:, :3], x)), logits[1:, :3])
    masked = y_true.copy()
    masked[0], masked[:, 3] = np.nan, np.nan
    value, gradient = value_and_gradient(lambda x: ops.sum(function(masked, x)), logits)
    np.testing.assert_allclose(value, expected, rtol=1e-6)
    np.testing.assert_allclose(gradient[1:, :3], slope, rtol=1e-5, atol=1e-8)
    np.testing.assert_allclose(gradient[0], 0, atol=1e-40)  # exp(−100) of the two-way loss is not quite 0
    np.testing.assert_allclose(gradient[:, 3], 0, atol=1e-40)
    masked[1, 0] = np.nan
    value, gradient = value_and_gradient(lambda x: ops.sum(function(masked, x)), logits)
    assert np.isfinite(value)
    assert abs(gradient[1, 0]) < 1e-40
    assert (gradient[1, 1:3] != 0).all() or function is losses.two_way_loss  # a row without positives is skipped there


@pytest.mark.parametrize("loss", CLASSES)
def test_a_compiled_step_masks_what_is_unknown(loss):
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.layers.Input((4,)), keras.layers.Dense(3)])
    model.compile(keras.optimizers.Adam(0.1), loss())
    y_true = np.array([[1, 0, np.nan], [0, 1, 0], [np.nan, 0, 1], [np.nan] * 3], "float32")
    first, *_, last = model.fit(np.eye(4, dtype="float32"), y_true, epochs=20, verbose=0).history["loss"]
    assert last < 0.7 * first
