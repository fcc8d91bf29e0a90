import cv2
import keras
import numpy as np
import pytest
from keras import ops

from keras_realmnet import losses


def drawn(exclusive, step=1, channels=3):
    """Truth (2, 8, 12[, channels]) with a few pixels ignored, and logits that are `step` times coarser."""
    rng = np.random.default_rng(6)
    shape = (2, 8, 12) if exclusive else (2, 8, 12, channels)
    y_true = rng.integers(0, channels if exclusive else 2, shape).astype("uint8")
    y_true[rng.random(shape) < 0.2] = 255
    return y_true, rng.normal(0, 2, (2, 8 // step, 12 // step, channels)).astype("float32")


def enlarged(logits):
    """At 8 × 12, by OpenCV, whose linear interpolation has the same centres of pixels."""
    x = logits.astype("float64")
    return np.stack([cv2.resize(each, (12, 8), interpolation=cv2.INTER_LINEAR) for each in x])


def expected_crossentropy_dice(y_true, logits, exclusive, weight):
    x, known = enlarged(logits), y_true != 255
    dices = []
    if exclusive:
        p = np.exp(x) / np.exp(x).sum(axis=-1, keepdims=True)
        entropy = [
            -np.log(p[place][y_true[place]]) for place in np.argwhere(known).tolist() for place in [tuple(place)]
        ]
        for k in range(1, x.shape[-1]):
            truth, share = (y_true == k)[known], p[..., k][known]
            dices.append((2 * share[truth].sum() + 1) / (share.sum() + truth.sum() + 1))
    else:
        p = 1 / (1 + np.exp(-x))
        entropy = -np.log(np.where(y_true == 1, p, 1 - p))[known]
        for k in range(x.shape[-1]):
            truth, share = (y_true[..., k] == 1)[known[..., k]], p[..., k][known[..., k]]
            dices.append((2 * share[truth].sum() + 1) / (share.sum() + truth.sum() + 1))
    return np.mean(entropy) + weight * (1 - np.mean(dices))


@pytest.mark.parametrize("exclusive", [True, False])
@pytest.mark.parametrize("step", [1, 2, 4])
def test_crossentropy_and_dice_equal_sums_in_float64(exclusive, step):
    y_true, logits = drawn(exclusive, step)
    expected = expected_crossentropy_dice(y_true, logits, exclusive, 0.7)
    assert float(losses.crossentropy_dice(y_true, logits, exclusive, 0.7)) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("step", [1, 2])
def test_value_and_gradient_equal_pytorchs(value_and_gradient, step):
    import torch

    y_true, logits = drawn(True, step)
    x = torch.tensor(logits, requires_grad=True)
    larger = torch.nn.functional.interpolate(x.permute(0, 3, 1, 2), (8, 12), mode="bilinear", align_corners=False)
    truth = torch.tensor(y_true.astype("int64"))
    entropy = torch.nn.functional.cross_entropy(larger, truth, ignore_index=255)
    entropy.backward()
    loss = losses.CrossentropyDice(True, dice_weight=0.0)
    value, gradient = value_and_gradient(lambda x: loss(y_true, x), logits)
    np.testing.assert_allclose(value, entropy.item(), rtol=1e-5)
    np.testing.assert_allclose(gradient, x.grad.numpy(), atol=1e-6)


def squared_dice(p, truth):
    return 2 * (p * truth).sum() / ((p**2).sum() + (truth**2).sum())


@pytest.mark.parametrize("step", [1, 2])
def test_dual_dice_equals_sums_in_float64(step):
    y_true, logits = drawn(False, step)
    y_true[1, ..., 2] = np.where(y_true[1, ..., 2] == 1, 0, y_true[1, ..., 2])  # not in that picture
    p, known = 1 / (1 + np.exp(-enlarged(logits))), y_true != 255
    p, truth = p * known, (y_true == 1).astype("float64")
    pixels = squared_dice(p, truth)
    images = squared_dice(p.max(axis=(1, 2)), truth.max(axis=(1, 2)))
    assert float(losses.dual_dice(y_true, logits)) == pytest.approx(1 - 0.8 * pixels - 0.2 * images, rel=1e-5)
    assert float(losses.dual_dice(y_true, logits, 1.0)) == pytest.approx(1 - pixels, rel=1e-5)


@pytest.mark.parametrize("step", [1, 2])
def test_weighted_and_focal_crossentropy_equal_sums_in_float64(step):
    y_true, logits = drawn(False, step)
    p, known = 1 / (1 + np.exp(-enlarged(logits))), y_true != 255

    def expected(alpha, gamma):
        positive = -alpha * (1 - p) ** gamma * np.log(p)
        negative = -(1 - alpha) * p**gamma * np.log(1 - p)
        return np.where(y_true == 1, positive, negative)[known].mean()

    assert float(losses.pixel_crossentropy(y_true, logits)) == pytest.approx(expected(0.8, 0), rel=1e-5)
    assert float(losses.pixel_crossentropy(y_true, logits, 0.5)) == pytest.approx(expected(0.5, 0), rel=1e-5)
    assert float(losses.pixel_focal(y_true, logits)) == pytest.approx(expected(0.8, 2), rel=1e-5)
    assert float(losses.pixel_focal(y_true, logits, 0.3, 1.5)) == pytest.approx(expected(0.3, 1.5), rel=1e-5)


def test_a_parameter_that_is_changed_is_that_of_another_loss():
    y_true, logits = drawn(False)
    loss = losses.DualDice(1.0)
    loss.change(lam=0.8)
    assert float(loss(y_true, logits)) == float(losses.DualDice(0.8)(y_true, logits))
    assert loss.get_config()["lam"] == 0.8
    with pytest.raises(ValueError, match=r"DualDice takes lam. Received: gamma=2"):
        loss.change(gamma=2)


def test_the_worked_numbers_of_the_docstrings():
    everywhere, zeros = np.ones((1, 2, 2, 1)), np.zeros((1, 2, 2, 1), "float32")
    assert float(losses.crossentropy_dice(everywhere, zeros)) == pytest.approx(0.9789, abs=1e-4)
    one = np.ones((1, 1, 1, 1)), np.zeros((1, 1, 1, 1), "float32")
    assert float(losses.dual_dice(*one)) == pytest.approx(0.2, abs=1e-6)
    assert float(losses.pixel_crossentropy(*one)) == pytest.approx(0.5545, abs=1e-4)
    assert float(losses.pixel_focal(*one)) == pytest.approx(0.1386, abs=1e-4)


LOSSES = {
    "exclusive": (losses.CrossentropyDice(True), True),
    "not exclusive": (losses.CrossentropyDice(), False),
    "dual": (losses.DualDice(), False),
    "weighted": (losses.PixelCrossentropy(), False),
    "focal": (losses.PixelFocal(), False),
}


@pytest.mark.parametrize("case", LOSSES)
def test_what_is_ignored_gives_no_gradient_and_logits_of_100_a_finite_one(value_and_gradient, case):
    loss, exclusive = LOSSES[case]
    y_true, logits = drawn(exclusive)
    value, gradient = value_and_gradient(lambda x: loss(y_true, x), logits)
    np.testing.assert_array_equal(gradient[y_true == 255], 0)
    assert (gradient != 0).sum() > 50
    for truth in (y_true, np.full_like(y_true, 255), np.zeros_like(y_true)):
        for x in (100 * np.sign(logits), logits):
            value, gradient = value_and_gradient(lambda x, truth=truth: loss(truth, x), x)
            assert np.isfinite(value)
            assert np.isfinite(gradient).all()


def test_a_structure_that_is_nowhere_and_is_found_nowhere_costs_nothing():
    logits = np.array([50.0, -50.0, -50.0], "float32") * np.ones((2, 4, 4, 3), "float32")
    assert float(losses.crossentropy_dice(np.zeros((2, 4, 4)), logits, True)) == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("case", LOSSES)
def test_classes_serialize_and_accept_half_precision(case):
    loss, exclusive = LOSSES[case]
    y_true, logits = drawn(exclusive, 2)
    again = keras.losses.deserialize(keras.losses.serialize(loss))
    assert float(again(y_true, logits)) == pytest.approx(float(loss(y_true, logits)), rel=1e-6)
    half = loss(y_true, ops.cast(logits, "bfloat16"))
    assert "float32" in str(half.dtype)
    assert float(half) == pytest.approx(float(loss(y_true, logits)), rel=0.05)


@pytest.mark.parametrize(
    ("exclusive", "shape", "value", "message"),
    [
        (True, (2, 8, 12, 1), 0, "whole multiples of the 4 and 6 of the logits"),
        (True, (2, 8, 13), 0, "whole multiples"),
        (True, (2, 2, 6), 0, "whole multiples"),
        (True, (3, 8, 12), 0, "whole multiples"),
        (False, (2, 8, 12), 0, "whole multiples"),
        (False, (2, 8, 12, 2), 0, "whole multiples"),
        (True, (2, 8, 12), 3, r"targets among \[0, 1, 2, 255\]. Received: \[3.\]"),
        (False, (2, 8, 12, 3), 2, r"targets among \[0, 1, 255\]. Received: \[2.\]"),
        (False, (2, 8, 12, 3), float("nan"), r"targets among .* Received: \[nan\]"),
    ],
)
def test_other_targets_are_refused(exclusive, shape, value, message):
    loss = losses.CrossentropyDice(exclusive)
    with pytest.raises(ValueError, match=message):
        loss(np.full(shape, value, "float32"), ops.zeros((2, 4, 6, 3)))


@pytest.mark.parametrize(
    "make", [lambda: losses.CrossentropyDice("yes"), lambda: losses.DualDice(2.0), lambda: losses.PixelFocal(gamma=-1)]
)
def test_wrong_parameters_are_refused(make):
    with pytest.raises(ValueError, match=r"(exclusive|lam|gamma) must be"):
        make()


def test_a_compiled_step_learns_from_bytes():
    keras.utils.set_random_seed(0)
    inputs = keras.Input((8, 12, 1))
    model = keras.Model(inputs, {"masks": keras.layers.Conv2D(2, 2, 2, name="masks")(inputs)})
    model.compile(keras.optimizers.Adam(0.1), {"masks": losses.CrossentropyDice(True)})
    y_true = np.zeros((4, 8, 12), "uint8")
    y_true[:, 2:6, 4:10] = 1
    x = y_true[..., None].astype("float32")
    y_true[:, 0] = 255
    first, *_, last = model.fit(x, {"masks": y_true}, epochs=40, verbose=0).history["loss"]
    assert last < 0.5 * first
