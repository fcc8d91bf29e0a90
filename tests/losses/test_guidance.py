import keras
import numpy as np
import pytest

from keras_realmnet import losses


def drawn(step=4):
    """Truth (2, 8, 12, 2) in which cells lie inside, outside and both, some of it ignored; logits (2, 8/step, …)."""
    rng = np.random.default_rng(3)
    truth = (rng.random((2, 8, 12, 2)) < 0.4).astype("uint8")
    truth[0, :4] = 1
    truth[rng.random(truth.shape) < 0.2] = 255
    return truth, rng.normal(0, 4, (2, 8 // step, 12 // step, 2)).astype("float32")


def by_pixel(truth, logits, cost):
    """The mean over known pixels, each with the activation of the cell that it lies in, in float64."""
    step = truth.shape[1] // logits.shape[1]
    a = 1 / (1 + np.exp(-logits.astype("float64").repeat(step, axis=1).repeat(step, axis=2)))
    return ((truth == 0) * cost(a))[truth != 255].mean()


@pytest.mark.parametrize("step", [1, 2, 4])
def test_it_is_the_mean_over_the_known_pixels(step):
    truth, logits = drawn(step)
    printed = by_pixel(truth, logits, lambda a: np.log(np.maximum(a, 1e-3)))
    assert printed < 0
    assert float(losses.guidance(truth, logits)) == pytest.approx(printed, rel=1e-5)
    assert float(losses.guidance(truth, logits, 0.3)) == pytest.approx(0.3 * printed, rel=1e-5)
    higher = by_pixel(truth, logits, lambda a: np.log(np.maximum(a, 0.1)))
    assert float(losses.guidance(truth, logits, epsilon=0.1)) == pytest.approx(higher, rel=1e-5)
    other = by_pixel(truth, logits, lambda a: -np.log(1 - a))
    assert float(losses.guidance(truth, logits, form="crossentropy")) == pytest.approx(other, rel=1e-5)


@pytest.mark.parametrize("form", ["printed", "crossentropy"])
def test_it_pushes_down_what_lies_outside_and_nothing_else(value_and_gradient, form):
    truth, logits = drawn()
    truth[0, :4, :4, 0], truth[1, 4:, 8:, 1], truth[1, :4, :4, 0] = 1, 255, 0
    logits[1, 0, 0, 0] = 0
    value, gradient = value_and_gradient(lambda x: losses.guidance(truth, x, form=form), logits)
    assert np.isfinite(value)
    assert gradient[0, 0, 0, 0] == gradient[1, 1, 2, 1] == 0
    assert gradient[1, 0, 0, 0] == pytest.approx(
        16 * 0.5 / (truth != 255).sum(), rel=1e-4
    )  # 1 − a, and a, are one half
    assert (gradient >= 0).all()
    for x in (100 * np.sign(logits), np.zeros_like(logits)):
        value, gradient = value_and_gradient(lambda x: losses.guidance(truth, x, form=form), x)
        assert np.isfinite(value)
        assert np.isfinite(gradient).all()


def test_below_epsilon_nothing_is_pushed_any_more(value_and_gradient):
    outside, low = np.zeros((1, 4, 4, 1), "uint8"), np.full((1, 2, 2, 1), -7.0, "float32")
    value, gradient = value_and_gradient(lambda x: losses.guidance(outside, x), low)
    assert value == pytest.approx(np.log(1e-3), rel=1e-6)
    assert not gradient.any()
    _, gradient = value_and_gradient(lambda x: losses.guidance(outside, x), low + 1)
    assert gradient.min() > 0


def test_the_worked_number_and_what_is_not_known():
    outside, zero = np.zeros((1, 1, 1, 1), "uint8"), np.zeros((1, 1, 1, 1), "float32")
    assert float(losses.guidance(outside, zero)) == pytest.approx(-0.6931, abs=1e-4)
    assert float(losses.guidance(outside, zero, form="crossentropy")) == pytest.approx(0.6931, abs=1e-4)
    assert float(losses.guidance(outside + 255, zero)) == 0
    assert float(losses.guidance(outside + 1, zero)) == 0
    assert float(losses.guidance(outside, zero, lam=0.0)) == 0


def test_the_class_serializes_and_learns_from_bytes_in_a_compiled_step():
    truth, logits = drawn()
    loss = losses.Guidance(0.5, 0.01, "crossentropy")
    again = keras.losses.deserialize(keras.losses.serialize(loss))
    assert float(again(truth, logits)) == float(loss(truth, logits))
    inputs = keras.Input((2, 3, 2))
    model = keras.Model(inputs, {"maps": keras.layers.Conv2D(2, 1, name="maps")(inputs)})
    model.compile(keras.optimizers.SGD(0.5), {"maps": losses.Guidance()})
    first, *_, last = model.fit(logits, {"maps": truth}, epochs=10, verbose=0).history["loss"]
    assert last < first < 0


@pytest.mark.parametrize(
    ("options", "shape", "value", "message"),
    [
        ({"lam": -1.0}, (2, 8, 12, 2), 0, "lam must be a number at least 0"),
        ({"epsilon": 0.0}, (2, 8, 12, 2), 0, "epsilon must be a number above 0 and below 1"),
        ({"form": "paper"}, (2, 8, 12, 2), 0, "form must be printed or crossentropy. Received: 'paper'"),
        ({}, (2, 8, 13, 2), 0, "Guidance needs targets .* whole multiples of the 2 and 3"),
        ({}, (2, 8, 12), 0, "whole multiples"),
        ({}, (2, 8, 12, 2), 2, r"targets among \[0, 1, 255\]"),
    ],
)
def test_what_it_does_not_take_is_refused(options, shape, value, message):
    with pytest.raises(ValueError, match=message):
        losses.guidance(np.full(shape, value, "uint8"), drawn()[1], **options)
