"""Points by maps of cells: read back where they were placed, learned, and the same in the deployed network."""

import keras
import numpy as np
import pytest
from keras import layers, ops

from keras_realmnet import losses
from keras_realmnet.deploy.graph import deploy_graph
from keras_realmnet.models.layers.offset_maps import OffsetPeaks, offset_points
from keras_realmnet.models.network import Network
from keras_realmnet.models.networks import build
from keras_realmnet.models.refuge.fovea import fovea_network
from keras_realmnet.tasks.outputs import Masks, Points
from keras_realmnet.tasks.vocabulary import Label, LabelSet

tensorflow_only = pytest.mark.tensorflow_only
MARKS = Points(LabelSet("marks", (Label("FOVEA", "Fovea", "fovea"), Label("DISC", "Disc", "disc"))))


def numbers(values):
    return keras.tree.map_structure(lambda x: ops.convert_to_numpy(x), values)


@pytest.mark.parametrize(("height", "width"), [(4, 6), (1, 5), (7, 7)])
def test_points_are_read_back_from_maps_that_say_where_they_lie(height, width):
    """Of such maps the loss is that of sure confidences and right offsets: nothing."""
    rng = np.random.default_rng(0)
    places = rng.uniform(0.001, 0.999, (50, 3, 2)).astype("float32")
    maps = rng.normal(0, 1, (50, height, width, 9)).astype("float32")
    maps[..., :3] -= 30
    scaled = places * (width, height)
    cells = np.floor(scaled).astype(int)
    inside = np.clip(scaled - cells, 1e-6, 1 - 1e-6)
    for n, k in np.ndindex(50, 3):
        column, row = cells[n, k]
        maps[n, row, column, k] = 30
        maps[n, row, column, [3 + k, 6 + k]] = np.log(inside[n, k] / (1 - inside[n, k]))
    said = numbers(OffsetPeaks(confidence=True)(maps))
    np.testing.assert_allclose(said[..., :2], places, atol=1e-5)
    np.testing.assert_allclose(said[..., 2], 1, atol=1e-6)
    np.testing.assert_array_equal(numbers(OffsetPeaks()(maps)), said[..., :2])
    y_true = np.concatenate([places, np.ones((50, 3, 1), "float32")], axis=-1)
    assert float(losses.confidence_offsets(y_true, maps)) == pytest.approx(0, abs=1e-4)


def test_of_equal_cells_the_first_has_the_point_and_nothing_learns_by_it(value_and_gradient):
    maps = np.zeros((1, 2, 3, 3), "float32")
    maps[0, :, 1:, 0] = 1
    np.testing.assert_allclose(numbers(OffsetPeaks()(maps)), [[[1.5 / 3, 0.5 / 2]]])
    if keras.backend.backend() != "tensorflow":  # whose gradient of what does not depend on x is none at all
        _, gradient = value_and_gradient(lambda x: ops.sum(OffsetPeaks()(x)) + 0 * ops.sum(x), maps)
        assert not gradient.any()
    again = OffsetPeaks.from_config(OffsetPeaks(confidence=True).get_config())
    assert again.confidence
    assert again.compute_output_shape((None, 2, 3, 6)) == (None, 2, 3)


def spots(count, seed):
    """Dark pictures of 16 px with a bright pixel each, or none in every fourth, and where that lies."""
    rng = np.random.default_rng(seed)
    pixels, truth = np.zeros((count, 16, 16, 3), "float32"), np.full((count, 1, 3), np.nan, "float32")
    truth[:, 0, 2] = 0
    for n in range(count):
        if n % 4:
            row, column = rng.integers(0, 16, 2)
            pixels[n, row, column] = 1
            truth[n, 0] = (column + 0.5) / 16, (row + 0.5) / 16, 1
    return pixels, truth


def test_a_spot_is_found_and_missed_where_there_is_none():
    """On each backend; every pixel of a cell has an offset of its own."""
    pixels = keras.Input((16, 16, 3), name="images")
    x = layers.Conv2D(16, 4, 4, activation="relu", name="cells")(pixels)
    model = Network(pixels, offset_points(x, 1, True, 1, "spot"), name="spots")
    assert {name: tuple(end.shape[1:]) for name, end in model.output.items()} == {
        "spot": (1, 3),
        "spot_auxiliary": (4, 4, 3),
    }
    seen, truth = spots(128, 0)
    said = numbers(model(seen))["spot"]
    assert said[..., 2].mean() == pytest.approx(1 / 17, rel=0.3)  # 1 in 16 cells
    loss = losses.ConfidenceOffsets()
    compiled = keras.backend.backend() == "jax"
    model.compile(keras.optimizers.Adam(0.05), {"spot": loss, "spot_auxiliary": loss}, jit_compile=compiled)
    for _ in range(100):
        model.train_on_batch(seen, {"spot": truth})
    others, truth = spots(64, 1)
    said = numbers(model(others))["spot"][:, 0]
    visible = truth[:, 0, 2] == 1
    assert ((said[:, 2] > 0.5) == visible).mean() > 0.95
    apart = np.linalg.norm(said[visible, :2] - truth[visible, 0, :2], axis=-1) * 16
    assert np.median(apart) < 1  # pixels; a cell has 4


@tensorflow_only
def test_the_edge_network_with_offset_maps():
    model = build("edge_mobilenet_v2", {"marks": MARKS}, 64, point_head="offset_maps")
    pixels = np.random.default_rng(0).integers(0, 256, (2, 64, 64, 3)).astype("float32")
    said = numbers(model(pixels))
    assert {name: value.shape for name, value in said.items()} == {
        "marks": (2, 2, 2),
        "marks_auxiliary": (2, 4, 4, 6),
    }
    np.testing.assert_array_equal(numbers(OffsetPeaks()(said["marks_auxiliary"])), said["marks"])
    graph = deploy_graph(model, batch_size=2, activations={"marks": None})
    assert list(graph.output) == ["marks"]
    np.testing.assert_allclose(numbers(graph(pixels))["marks"], said["marks"], atol=1e-5)
    with pytest.raises(ValueError, match=r"point_head must be soft_argmax or offset_maps\. Received: 'centre'"):
        build("edge_mobilenet_v2", {"marks": MARKS}, 64, point_head="centre")


@tensorflow_only
def test_the_published_cells_of_the_fovea():
    """80 × 80 of 640 px; the decoder ends at a stride of 8."""
    model = fovea_network("fovea", 1, fundus_encoder="mobilenet_v2", image_size=640)
    shapes = {layer.name: tuple(layer.output.shape[1:]) for layer in model.layers if not isinstance(layer, keras.Model)}
    assert (shapes["stride8_swish"], shapes["fovea_auxiliary"], shapes["fovea"]) == ((80, 80, 64), (80, 80, 3), (1, 2))
    assert "stride4_up" not in shapes
    masks = Masks(MARKS.labels)
    with pytest.raises(ValueError, match=r"refuge_fovea answers one output of points\. Received: m \(masks\)"):
        build("refuge_fovea", {"m": masks}, 64)
