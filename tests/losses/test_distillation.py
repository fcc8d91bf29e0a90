import keras
import numpy as np
import pytest

from keras_realmnet import losses


def drawn(batch=6, classes=4):
    rng = np.random.default_rng(3)
    teacher, student = rng.normal(0, 3, (2, batch, classes)).astype("float32")
    truth = rng.integers(0, 2, (batch, classes)).astype("float32")
    return truth, teacher, student


def sigmoid(x):
    return (1 / (1 + np.exp(-x.astype("float64")))).astype("float32")


def softmax(x):
    e = np.exp(x.astype("float64"))
    return (e / e.sum(axis=-1, keepdims=True)).astype("float32")


def test_of_labels_value_and_gradient_equal_pytorchs(value_and_gradient):
    import torch

    _, teacher, student = drawn()
    x, q = torch.tensor(student, requires_grad=True), torch.sigmoid(torch.tensor(teacher) / 3)
    costs = torch.nn.functional.binary_cross_entropy_with_logits(x / 3, q, reduction="none")
    expected = 9 * costs.sum(dim=1).mean()
    expected.backward()
    value, gradient = value_and_gradient(
        lambda x: keras.ops.mean(losses.distillation(sigmoid(teacher / 3), x, 3.0)), student
    )
    np.testing.assert_allclose(value, expected.item(), rtol=1e-5)
    np.testing.assert_allclose(gradient, x.grad.numpy(), atol=1e-5)


def test_of_grades_value_and_gradient_equal_pytorchs(value_and_gradient):
    import torch

    _, teacher, student = drawn()
    x, q = torch.tensor(student, requires_grad=True), torch.softmax(torch.tensor(teacher) / 2, dim=1)
    expected = 4 * torch.nn.functional.cross_entropy(x / 2, q)
    expected.backward()
    value, gradient = value_and_gradient(
        lambda x: keras.ops.mean(losses.distillation(softmax(teacher / 2), x, 2.0, "softmax")), student
    )
    np.testing.assert_allclose(value, expected.item(), rtol=1e-5)
    np.testing.assert_allclose(gradient, x.grad.numpy(), atol=1e-5)


def test_the_worked_number_of_the_docstring():
    assert float(losses.distillation([[0.5]], np.zeros((1, 1), "float32"))[0]) == pytest.approx(2.7726, abs=1e-4)


@pytest.mark.parametrize("of", ["sigmoid", "softmax"])
def test_there_is_nothing_to_learn_from_oneself(of, value_and_gradient):
    _, teacher, _ = drawn()
    soft = (sigmoid if of == "sigmoid" else softmax)(teacher / 2)
    _, gradient = value_and_gradient(lambda x: keras.ops.sum(losses.distillation(soft, x, 2.0, of)), teacher)
    np.testing.assert_allclose(gradient, 0, atol=1e-5)


def test_the_loss_is_the_share_of_each():
    truth, teacher, student = drawn()
    soft = sigmoid(teacher / 2)
    inner = losses.AsymmetricLoss()
    loss = losses.Distillation(inner, temperature=2.0, weight=0.25)
    told = np.mean(keras.ops.convert_to_numpy(losses.distillation(soft, student, 2.0)))
    expected = 0.75 * float(inner(truth, student)) + 0.25 * told
    targets = np.stack([truth, soft], axis=1)
    assert float(loss(targets, student)) == pytest.approx(expected, rel=1e-5)
    loss.change(gamma_neg=0.0)
    assert float(loss(targets, student)) > expected
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(loss))
    assert float(again(targets, student)) == pytest.approx(float(loss(targets, student)), rel=1e-6)


def test_of_grades_the_share_is_the_same():
    """Whose own loss is one number for the batch."""
    _, teacher, student = drawn()
    truth, soft = np.eye(4, dtype="float32")[[0, 1, 2, 3, 0, 1]], softmax(teacher / 2)
    loss = losses.Distillation(losses.SoftmaxCrossentropy(), temperature=2.0, weight=0.5, of="softmax")
    told = np.mean(keras.ops.convert_to_numpy(losses.distillation(soft, student, 2.0, "softmax")))
    expected = 0.5 * float(losses.softmax_crossentropy(truth, student)) + 0.5 * told
    assert float(loss(np.stack([truth, soft], axis=1), student)) == pytest.approx(expected, rel=1e-5)


def test_of_what_is_unknown_the_teacher_still_tells(value_and_gradient):
    truth, teacher, student = drawn()
    targets = np.stack([np.full_like(truth, np.nan), sigmoid(teacher / 2)], axis=1)
    loss = losses.Distillation(losses.BinaryCrossentropy(), temperature=2.0, weight=0.5)
    value, gradient = value_and_gradient(lambda x: loss(targets, x), student)
    assert np.isfinite(value)
    assert (np.abs(gradient) > 0).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"temperature": 0}, r"temperature must be a number above 0\. Received: 0"),
        ({"weight": 0.0}, r"weight must be a number above 0 and at most 1\. Received: 0"),
        ({"of": "relu"}, r"of must be sigmoid or softmax\. Received: 'relu'"),
    ],
)
def test_what_is_out_of_range_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        losses.Distillation(losses.BinaryCrossentropy(), **options)


def test_targets_of_another_shape_are_refused():
    with pytest.raises(ValueError, match=r"distillation needs targets of the shape of the logits, \(2, 3\)"):
        losses.distillation(np.zeros((2, 4)), np.zeros((2, 3)))
