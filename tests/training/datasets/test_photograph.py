import numpy as np
import pytest

from keras_realmnet.screening.preprocessing import PreprocessSpec
from training.datasets.photograph import PhotographDataSet
from training.phantoms.photograph import render_photograph


def test_points_and_masks_lie_where_they_are_drawn(tmp_path):
    data = PhotographDataSet(3, 1, 0, width=128)
    images = data.load("train", PreprocessSpec(size=64), tmp_path)
    assert len(images) == 3
    assert data.load("test", PreprocessSpec(size=64), tmp_path) is None
    disc = images.masks["disc"]
    for k in range(3):
        fovea, centre = images.truth["landmarks"][k]
        if centre[2] == 1 and (disc[k] == 1).any():
            rows, columns = np.nonzero(disc[k] == 1)
            at = np.array([columns.mean() + 0.5, rows.mean() + 0.5]) / 64
            np.testing.assert_allclose(centre[:2], at, atol=0.04)
        drawn = render_photograph((2027, 0, k), width=128)
        assert fovea[2] == drawn.shows(drawn.fovea)
    assert (images.truth["landmarks"][..., 2] == 1).sum() >= 4
    again = PhotographDataSet(3, 1, 0, width=128).load("train", PreprocessSpec(size=64), tmp_path)
    np.testing.assert_array_equal(again.truth["landmarks"], images.truth["landmarks"])
    assert data.load("validation", PreprocessSpec(size=64), tmp_path).names != images.names


def test_values_out_of_range():
    with pytest.raises(ValueError, match=r"width must be a whole number, at least 64\. Received: 63"):
        PhotographDataSet(width=63)
