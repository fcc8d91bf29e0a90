"""Each operation against its definition, worked out by other means, and the number in its docstring."""

import io

import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import gaussian_filter

from training.input.operations import (
    compressed,
    down_sampled,
    elastic_displacement,
    iso_noise,
    resize_matrix,
    rgb_shifted,
    sharpened,
    sun_flare,
    with_gamma,
)


def picture(height=48, width=40, seed=0):
    """Smooth, with all values."""
    noise = np.random.default_rng(seed).normal(size=(height, width, 3))
    smooth = gaussian_filter(noise, (2, 2, 0))
    return np.rint(255 * (smooth - smooth.min()) / np.ptp(smooth)).astype(np.uint8)


def grey(value, shape=(5, 7)):
    return np.full((*shape, 3), value, np.uint8)


def test_resizing_is_about_the_centre():
    matrix = resize_matrix((61, 101), (1.25, 0.5))
    np.testing.assert_allclose(matrix @ [40, 20, 1], [37.5, 25])
    np.testing.assert_allclose(matrix @ [50, 30, 1], [50, 30])


def test_an_elastic_change_meets_its_nodes():
    nodes = np.zeros((3, 3, 2))
    nodes[1, 1] = 0.02, -0.01
    displacement = elastic_displacement((75, 150), nodes)
    assert displacement.dtype == np.float32
    np.testing.assert_allclose(displacement[37, 74:76].mean(axis=0), (3.0, -0.75), rtol=0.01)  # in the middle
    np.testing.assert_allclose(displacement[[12, 62]][:, [24, 124]], 0, atol=0.02)  # at the other nodes
    assert not elastic_displacement((8, 8), np.zeros((2, 2, 2))).any()


def test_a_flare_is_brightest_in_its_middle_and_has_three_ghosts():
    flared = sun_flare(grey(55, (201, 201)), (140, 100), 20, 0.8).astype(int)
    assert flared[100, 140].tolist() == [215, 215, 215]
    assert flared[100, 150, 0] == round(55 + 200 * 0.8 * 0.25)  # half way
    assert flared[100, 161, 0] == 55
    for ghost in (80, 60, 40):
        assert flared[100, ghost, 0] == 55 + 40
        assert (flared[100, [ghost - 6, ghost + 6], 0] == 55).all()
    y, x = np.mgrid[:201, :201]
    spots = [np.hypot(x - at, y - 100) <= radius for at, radius in ((140, 20), (80, 5), (60, 5), (40, 5))]
    assert (flared[~np.any(spots, axis=0)] == 55).all()


@pytest.mark.parametrize("gamma", [0.5, 1.0, 1.7])
def test_gamma(gamma):
    image = picture()
    np.testing.assert_array_equal(with_gamma(image, gamma), np.rint(255 * (image / 255) ** gamma))
    assert with_gamma(grey(64), 0.5)[0, 0, 0] == 128


def test_a_shift_of_the_colours_saturates():
    image = np.full((2, 2, 3), (250, 9, 9), np.uint8)
    assert rgb_shifted(image, np.array([10.0, 0, -20]))[1, 1].tolist() == [255, 9, 0]


@pytest.mark.parametrize("value", [25, 100])
@pytest.mark.parametrize("colour", [0, 0.5, 1])
def test_noise_of_a_high_iso_grows_with_the_light(value, colour):
    noise = iso_noise(grey(value, (300, 300)), np.random.default_rng(0), 0.25, colour).astype(float) - value
    assert abs(noise.mean()) < 0.05
    assert noise.var() == pytest.approx(0.25 * value + 1 / 12, rel=0.03)  # rounding adds 1/12
    together = np.corrcoef(noise[..., 0].ravel(), noise[..., 1].ravel())[0, 1]
    assert together == pytest.approx(1 - colour**2, abs=0.03)


def test_an_unsharp_mask():
    image = picture().astype(np.uint8)
    blurred = gaussian_filter(image.astype(float), (2, 2, 0), mode="mirror", truncate=4)
    expected = np.clip(image + 0.5 * (image - blurred), 0, 255)
    assert np.abs(sharpened(image, 0.5, 2.0) - expected).max() <= 1.5  # the blurred image is rounded
    np.testing.assert_array_equal(sharpened(image, 0.0, 2.0), image)


def test_what_is_made_smaller_loses_its_detail():
    stripes = np.tile(np.array([0, 100], np.uint8), (6, 4))[..., None].repeat(3, axis=-1)
    np.testing.assert_array_equal(down_sampled(stripes, 2.0), 50)
    image = picture(48, 48)
    means = image.reshape(12, 4, 12, 4, 3).mean(axis=(1, 3))
    assert np.abs(down_sampled(image, 4.0)[6:-6:4, 6:-6:4].astype(float) - means[1:-1, 1:-1][:9, :9]).mean() < 6
    np.testing.assert_array_equal(down_sampled(image, 1.0), image)


@pytest.mark.parametrize("quality", [40, 90])
def test_compression_is_that_of_a_jpeg_of_this_quality(quality):
    image, file = picture(), io.BytesIO()
    Image.fromarray(image).save(file, "JPEG", quality=quality, subsampling="4:2:0")
    expected = np.asarray(Image.open(file)).astype(int)
    ours = compressed(image, quality).astype(int)
    assert np.abs(ours - expected).mean() < 1
    assert np.abs(ours - image).mean() > 0
