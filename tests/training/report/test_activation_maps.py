"""Activation maps as the publication draws them, and which examples show them."""

import cv2
import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from training.report.activation_map_section import found_and_missed
from training.report.plots.activation_maps import Mapped, activation_maps, rendered
from training.report.plots.files import png

NAN = np.nan


def test_a_map_is_enlarged_blurred_and_drawn_from_0_to_1():
    a = np.random.default_rng(0).random((4, 4)).astype(np.float32)
    shown = rendered(a, 64)
    assert shown.shape == (64, 64)
    assert (shown.min(), shown.max()) == (0, 1)
    large = cv2.resize(a, (64, 64), interpolation=cv2.INTER_LINEAR)
    expected = gaussian_filter(large, 4 / 6, mode="nearest")  # 4 px of 64, where 32 are published of 512
    expected = (expected - expected.min()) / (expected.max() - expected.min())
    assert np.abs(shown - expected).mean() < 0.02
    np.testing.assert_allclose(rendered(3 * a + 1, 64), shown, atol=1e-6)
    assert not rendered(np.full((4, 4), 0.7), 64).any()


def test_the_kernel_has_32_of_512_pixels():
    a = np.zeros((512, 512))
    a[200, 300] = 1
    shown = rendered(a, 512)
    rows, columns = np.nonzero(shown)
    assert np.ptp(rows) + 1 == np.ptp(columns) + 1 == 32
    assert abs(rows.mean() - 200) == abs(columns.mean() - 300) == 0.5


def test_examples_are_the_extremes_of_what_is_found_and_the_worst_miss():
    true = np.array([1, 1, 1, 1, 1, 0, NAN, 1])
    score = np.array([0.9, 0.8, 0.7, 0.2, 0.1, 0.9, 0.9, 0.95])
    air = np.array([0.4, 0.9, 0.6, 0.3, 0.2, NAN, 0.5, NAN])
    chosen = found_and_missed(true, score, air, 0.5)
    assert chosen == {"found, largest AIR": 1, "found, median": 2, "found, smallest": 0, "missed": 4}
    assert found_and_missed(true, score, air, 0.85) == {"found, largest AIR": 0, "missed": 4}
    assert found_and_missed(true, score, air, None) == {}
    assert found_and_missed(true[5:], score[5:], air[5:], 0.5) == {}


@pytest.mark.parametrize("rows", [1, 3])
def test_the_figure_is_drawn(rows):
    rng = np.random.default_rng(rows)
    image, inside = rng.integers(0, 255, (64, 64, 3)).astype(np.uint8), rng.random((64, 64)) < 0.5
    figure = activation_maps({f"found\nAIR .{k}": Mapped(image, inside, rng.random((4, 4))) for k in range(rows)})
    assert [axis.get_title(loc="left") for axis in figure.axes[:3]] == ["picture", "marked regions", "activation map"]
    assert len(figure.axes) == 3 * rows
    assert png(figure).startswith(b"\x89PNG")
