import numpy as np
import pytest

from export.speed.summary import percentiles, ratio_of_medians


def test_percentiles_of_known_times():
    assert percentiles(np.arange(101)) == {"p50": 50, "p90": 90, "p99": 99, "max": 100, "mean": 50}


def test_ratio_of_medians_is_paired_by_round():
    """The machine drifts by a factor of four; the ratio of engines measured side by side does not."""
    rng = np.random.default_rng(0)
    drift = np.exp(rng.uniform(0, np.log(4), 30))
    reference = [100 * d * rng.normal(1, 0.01, 8) for d in drift]
    times = [80 * d * rng.normal(1, 0.01, 8) for d in drift]
    ratio, low, high = ratio_of_medians(times, reference, replicates=500)
    assert low < ratio < high
    assert ratio == pytest.approx(0.8, abs=0.03)
    assert high - low < 0.15
    shuffled = [times[k] for k in rng.permutation(30)]
    _, low_apart, high_apart = ratio_of_medians(shuffled, reference, replicates=500)
    assert high_apart - low_apart > 2 * (high - low)
    with pytest.raises(ValueError, match="30 and 29"):
        ratio_of_medians(times, reference[:29])
