"""A network on windows of an image, averaged."""

import keras
import numpy as np
import pytest
from keras import layers, ops

from keras_realmnet.models.lesions.patches import patch_network
from keras_realmnet.models.lesions.segmentation import lesion_network
from keras_realmnet.models.network import Network


def small(window=(8, 6), channels=2):
    """Its zero padding shows in what it gives where a window begins."""
    images = keras.Input((*window, 3), name="images")
    return Network(images, {"lesions": layers.Conv2D(channels, 3, padding="same", name="lesions")(images)})


def images(*shape):
    return np.random.default_rng(0).normal(size=(*shape, 3)).astype("float32")


def test_windows_are_averaged_where_they_overlap(tmp_path):
    network, pixels = small(), images(2, 16, 9)
    model = patch_network(network, (16, 9), step=1)
    total, counts = np.zeros((2, 16, 9, 2)), np.zeros((16, 9, 1))
    for top in range(9):
        for left in range(4):
            logits = ops.convert_to_numpy(network(pixels[:, top : top + 8, left : left + 6])["lesions"])
            total[:, top : top + 8, left : left + 6] += 1 / (1 + np.exp(-logits.astype("float64")))
            counts[top : top + 8, left : left + 6] += 1
    given = ops.convert_to_numpy(model(pixels)["lesions"])
    np.testing.assert_allclose(1 / (1 + np.exp(-given)), total / counts, atol=1e-6)
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(ops.convert_to_numpy(again(pixels)["lesions"]), given)


def test_one_window_changes_nothing_and_logits_stay_finite():
    network, pixels = small(), 1000 * images(1, 8, 6)
    given = ops.convert_to_numpy(patch_network(network, (8, 6), 2)(pixels)["lesions"])
    expected = ops.convert_to_numpy(network(pixels)["lesions"])
    assert np.abs(expected).max() > 100
    assert np.isfinite(given).all()
    np.testing.assert_allclose(given, np.clip(expected, *np.log([1e-7, 1e7])), atol=0.5)  # float32 near 1


@pytest.mark.tensorflow_only
def test_fcn_on_patches_covers_the_published_image():
    """7 × 7 windows of 224 px, 112 px apart."""
    network = lesion_network("lesions", 8, "fcn", 32, "mobilenet_v2", 224, full_size=True)
    model = patch_network(network)
    assert model.image_size == (896, 896)
    assert tuple(model.output["lesions"].shape) == (None, 896, 896, 8)
    windows = keras.Model(model.input, model.get_layer("windows").output)(np.zeros((1, 896, 896, 3), "float32"))
    assert tuple(windows.shape) == (49, 224, 224, 3)
    assert [id(w) for w in model.trainable_variables] == [id(w) for w in network.trainable_variables]


@pytest.mark.parametrize(
    ("size", "step", "message"),
    [
        ((16, 9), 2, r"a window of \(8, 6\) px and whole steps of 2 px, at most a window each\. Received: \(16, 9\)"),
        ((4, 6), 1, r"Received: \(4, 6\)"),
        ((22, 20), 7, r"whole steps of 7 px"),
        ((8, 6), 0, r"whole steps of 0 px"),
        ("large", 1, r"image_size must be positive\. Received: 'large'"),
    ],
)
def test_images_that_windows_do_not_cover_are_refused(size, step, message):
    with pytest.raises(ValueError, match=message):
        patch_network(small(), size, step)


def test_a_network_with_coarser_masks_is_refused():
    network = keras.Input((8, 8, 3))
    coarse = Network(network, {"lesions": layers.AveragePooling2D(2)(network)})
    with pytest.raises(ValueError, match=r"one output at the size of its input, \(8, 8\)\. Received: "):
        patch_network(coarse, 16, 4)
