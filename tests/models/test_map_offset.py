import keras
import numpy as np
import pytest
from keras import layers

from keras_realmnet import RealMNet, ResidualAttentionHead, measure_map_offset

CELL, CELLS = 8, 6


def moving_network(rows, columns):
    """Finds red spots on green, class 0, and green anywhere, class 1; answers `rows` below and `columns` right."""
    images = keras.Input((CELL * CELLS, CELL * CELLS, 3))
    x = layers.AveragePooling2D(CELL)(images)
    x = layers.ZeroPadding2D(((2 + rows, 2 - rows), (2 + columns, 2 - columns)))(x)
    backbone = keras.Model(images, layers.Cropping2D(2)(x))
    backbone.image_size = (CELL * CELLS, CELL * CELLS)
    model = RealMNet(backbone, ResidualAttentionHead(2, lam=4.0))
    model.head.kernel.assign(np.tile(np.eye(3, 2, dtype="float32"), (2, 1, 1)))
    return model


def spots(count):
    """Green images, each with one red cell away from the border."""
    images = np.zeros((count, CELLS, CELLS, 3), "uint8")
    images[..., 1] = 200
    for image, (row, column) in zip(images, np.random.default_rng(0).integers(1, CELLS - 1, (count, 2)), strict=True):
        image[row, column] = 200, 0, 0
    return images.repeat(CELL, axis=1).repeat(CELL, axis=2)


@pytest.mark.parametrize("offset", [(0, 0), (1, 0), (0, -1), (-1, 1)])
def test_flipping_tells_by_how_much_a_network_answers_beside_its_evidence(offset):
    model, images = moving_network(*offset), spots(40)
    found = measure_map_offset(model, images, classes=[0])
    assert (found.rows, found.columns, found.maps) == (*offset, 40)

    model.map_offset = found.rows, found.columns
    maps = np.asarray(model.inference_model().predict(images.astype("float32"), verbose=0)["class_maps"])[..., 0]
    peaks = maps.reshape(40, -1).argmax(axis=1)
    evidence = images[:, ::CELL, ::CELL, 0].reshape(40, -1).argmax(axis=1)
    assert (peaks == evidence).all()
    assert measure_map_offset(model, images, classes=[0]) == found  # of the network, whatever is moved back already


@pytest.mark.parametrize(
    "images",
    [spots(0), spots(2)[..., :1], spots(2)[:, :8], spots(1)[0], "x"],
    ids=["none", "one channel", "not high", "one", "text"],
)
def test_images_that_are_none_are_refused(images):
    with pytest.raises(ValueError, match=r"^images must be \(n, 48, 48, 3\), n at least 1\. Received: "):
        measure_map_offset(moving_network(0, 0), images)


@pytest.mark.parametrize(
    "offset", ["ab", 1, (1,), (1, 2, 3), (float("nan"), 1), (1, float("inf")), (99, 1), (0, -6), (True, 0)]
)
def test_an_offset_no_map_can_have_is_refused(offset):
    model = moving_network(0, 0)
    model.map_offset = 5.5, -5
    with pytest.raises(ValueError, match=r"^map_offset must be .* Received: "):
        model.map_offset = offset
    assert model.map_offset == (5.5, -5.0)
    with pytest.raises(ValueError, match=r"^map_offset must be .* Received: "):
        RealMNet(model.backbone, ResidualAttentionHead(2), map_offset=offset)


def test_few_maps_tell_nothing():
    model = moving_network(1, 0)
    assert measure_map_offset(model, spots(29), [0]).rows == 0
    nothing = spots(40)
    nothing[..., 0], nothing[..., 1] = 0, 200  # no red: class 0 is not found
    assert measure_map_offset(model, nothing, [0]).maps == 0
