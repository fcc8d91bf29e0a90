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


# ---- maps of cells


def in_cells(y_true, height, width):
    """{image, point: the cell (row, column) that has it, and how far beyond that it lies, (x, y)} of those visible."""
    found = {}
    for n, k in np.ndindex(y_true.shape[:2]):
        x, y, visible = y_true[n, k].astype("float64")
        if visible == 1:
            column, row = min(int(x * width), width - 1), min(int(y * height), height - 1)
            found[n, k] = (row, column), (x * width - column, y * height - row)
    return found


def drawn_maps(batch=6, points=3, height=4, width=5):
    y_true, _ = drawn(batch, points)
    y_true[0, 0], y_true[1, 2], y_true[2, 1], y_true[3, 0] = (NAN, NAN, 0), NAN, (0.3, 0.3, 0), (1, 1, 1)
    return y_true, np.random.default_rng(6).normal(0, 2, (batch, height, width, 3 * points)).astype("float32")


def test_of_maps_it_is_which_cell_and_where_in_it():
    y_true, maps = drawn_maps()
    probability = 1 / (1 + np.exp(-maps.astype("float64")))
    known = ~np.isnan(y_true[..., 2])
    entropies, apart, cells = [], [], in_cells(y_true, 4, 5)
    for n, k in zip(*np.nonzero(known), strict=True):
        cell = np.zeros((4, 5))
        if (n, k) in cells:
            (row, column), offset = cells[n, k]
            cell[row, column] = 1
            apart.append(np.abs(probability[n, row, column, [3 + k, 6 + k]] - offset).sum())
        entropies.append(20 * log_loss(cell.ravel(), probability[n, ..., k].ravel(), labels=[0, 1]))
    assert len(apart) == len(cells) < len(entropies) < 18
    given = losses.confidence_offsets(y_true, maps, 0.3)
    assert float(given) == pytest.approx(np.mean(entropies) + 0.3 * np.mean(apart), rel=1e-5)
    # What is decoded stands beside the maps: its mean distance.
    _, points = drawn()
    assert float(losses.confidence_offsets(y_true, points)) == float(losses.euclidean_distance(y_true, points[..., :2]))


def test_the_worked_number_of_cells():
    y_true = np.array([[[0.875, 0.625, 1.0]]], "float32")
    expected = 4 * np.log(2) + 0.5
    assert float(losses.confidence_offsets(y_true, np.zeros((1, 2, 2, 3), "float32"))) == pytest.approx(expected)
    assert f"{expected:.4f}" == "3.2726"


def test_the_gradient_of_cells_equals_pytorchs(value_and_gradient):
    import torch

    y_true, maps = drawn_maps()
    x = torch.tensor(maps, requires_grad=True)
    positive = torch.zeros(6, 4, 5, 3)
    apart = []
    for (n, k), ((row, column), offset) in in_cells(y_true, 4, 5).items():
        positive[n, row, column, k] = 1
        said = torch.sigmoid(x[n, row, column, [3 + k, 6 + k]])
        apart.append(torch.nn.functional.l1_loss(said, torch.tensor(offset, dtype=torch.float32), reduction="sum"))
    entropy = torch.nn.functional.binary_cross_entropy_with_logits(x[..., :3], positive, reduction="none")
    known = torch.tensor(~np.isnan(y_true[..., 2]))
    (entropy.sum(dim=(1, 2))[known].mean() + torch.stack(apart).mean()).backward()
    value, gradient = value_and_gradient(lambda x: losses.confidence_offsets(y_true, x), maps)
    assert np.isfinite(value)
    np.testing.assert_allclose(gradient, x.grad.numpy(), atol=1e-6)
    np.testing.assert_array_equal(gradient[1, ..., 2], 0)  # of which nothing is known
    extreme = 100 * np.sign(maps)
    value, gradient = value_and_gradient(lambda x: losses.confidence_offsets(y_true, x), extreme)
    assert np.isfinite([value, *gradient.ravel()]).all()


def test_maps_and_targets_that_do_not_fit_are_refused():
    y_true, maps = drawn_maps()
    for truth, said, message in (
        (
            y_true[:, :2],
            maps,
            r"maps \(batch, h, w, 3 · points\) of known size\. Received: \(6, 2, 3\) for \(6, 4, 5, 9\)",
        ),
        (y_true, maps[..., :8], r"3 · points\) of known size"),
        (np.full_like(y_true, 0.5), maps, "ConfidenceOffsets needs a visible of 0, 1 or NaN"),
    ):
        with pytest.raises(ValueError, match=message):
            losses.ConfidenceOffsets()(truth, said)
    with pytest.raises(ValueError, match="offset_weight must be"):
        losses.ConfidenceOffsets(-1.0)
    again = keras.losses.deserialize(keras.losses.serialize(losses.ConfidenceOffsets(0.7)))
    expected = float(losses.confidence_offsets(y_true, maps, 0.7))
    assert float(again(y_true, maps)) == pytest.approx(expected, rel=1e-6)
