import numpy as np
import pytest

from export.conversion.calibration import PERCENTILE, RANGE_METHODS, activation_ranges
from export.conversion.to_litert import to_litert


def histogram(values, bins=2048):
    return np.histogram(values, bins)


def test_percentile_leaves_out_the_outermost_values():
    values = np.random.default_rng(0).normal(size=200_000)
    low, high = RANGE_METHODS["percentile"](*histogram(values))
    np.testing.assert_allclose([low, high], np.percentile(values, [100 - PERCENTILE, PERCENTILE]), atol=0.02)
    assert RANGE_METHODS["min-max"](*histogram(values)) == pytest.approx((values.min(), values.max()))


def test_entropy_clips_outliers_but_not_a_flat_distribution():
    rng = np.random.default_rng(0)
    bulk, outliers = rng.normal(size=1_000_000), np.array([-60.0, 60.0])
    low, high = RANGE_METHODS["entropy"](*histogram(np.concatenate([bulk, outliers])))
    assert 3 < high < 12
    assert low == pytest.approx(-high)
    low, high = RANGE_METHODS["entropy"](*histogram(rng.uniform(-1, 1, 1_000_000)))
    assert high > 0.95


def test_ranges_of_a_network(tmp_path, small_model, pictures):
    """By min-max, of the pixels: they are an activation like others, and known."""
    path = to_litert(small_model, tmp_path / "float32.tflite")
    ranges = activation_ranges(path, pictures[:4], "min-max")
    (padded,) = (value for name, value in ranges.items() if name.endswith("patch_embed_conv1_pad_1/Pad"))
    assert padded["min"].shape == (1, 1, 1, 1)
    assert (padded["min"].item(), padded["max"].item()) == (0, pictures[:4].max())
    narrower = activation_ranges(path, pictures[:4], "percentile")
    assert ranges.keys() == narrower.keys()
    assert all(narrower[name]["max"] <= ranges[name]["max"] for name in ranges)
