import numpy as np
import pytest

from export.make_bundle import refuse
from export.parity import LIMITS, Parity, measure
from keras_realmnet.errors import BundleMismatch
from keras_realmnet.screening.decision import OperatingPoint
from keras_realmnet.screening.labels import PALM
from keras_realmnet.screening.runtimes import Prediction

POINT = OperatingPoint(thresholds={"P": 0.5}, chosen="for this test")


def prediction(p, maps=None):
    probabilities = np.array([[0.1, 0.1, value] for value in p], "float32")
    maps = np.tile(np.arange(16, dtype="float32").reshape(1, 4, 4, 1), (len(p), 1, 1, 3)) if maps is None else maps
    return Prediction(probabilities, maps)


def test_figures_by_hand():
    found = measure(prediction([0.9, 0.4, 0.2, 0.6]), prediction([0.9, 0.52, 0.2, 0.6]), PALM, POINT)
    assert found.images == 4
    assert found.max_probability == pytest.approx(0.12)
    assert found.mean_probability == pytest.approx(0.12 / 12)
    assert found.flips == 1  # 0.4 → 0.52 crosses the threshold
    assert found.map_correlation == pytest.approx(1)


def test_identical_predictions_break_no_limit():
    found = measure(prediction([0.9, 0.1]), prediction([0.9, 0.1]), PALM, POINT)
    assert all(found.violations(limits) == [] for limits in LIMITS.values())


def test_each_broken_limit_is_told_and_the_bundle_refused():
    reversed_maps = prediction([0.9, 0.9, 0.9]).class_maps[:, ::-1, ::-1]
    found = measure(prediction([0.9, 0.9, 0.9]), prediction([0.9, 0.3, 0.3], reversed_maps), PALM, POINT)
    assert found.map_correlation == pytest.approx(-1)
    told = " ".join(found.violations(LIMITS["int8"]))
    for figure in ("99th percentile", "mean", "2 of 3 decisions changed, allowed 1", "class-map correlation"):
        assert figure in told
    with pytest.raises(BundleMismatch, match="float32: largest"):
        refuse({"float32": found})


def test_a_float_model_may_change_no_decision_and_an_int8_one_hardly_any():
    one_flip = measure(prediction([0.5001] + [0.9] * 9), prediction([0.4999] + [0.9] * 9), PALM, POINT)
    assert "1 of 10 decisions changed, allowed 0" in one_flip.violations(LIMITS["float32"])
    assert one_flip.violations(LIMITS["int8"]) == []
    many = Parity(images=1000, max_probability=0, p99_probability=0, mean_probability=0, flips=6, map_correlation=1)
    assert many.violations(LIMITS["int8"]) == ["6 of 1000 decisions changed, allowed 5"]


def test_not_a_number_is_never_within_a_limit():
    found = measure(prediction([0.9]), prediction([np.nan]), PALM, POINT)
    assert found.violations(LIMITS["float32"])
