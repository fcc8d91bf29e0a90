import json

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score

from export.contract.by_kind.kinds import PRECISIONS, precision_of
from export.contract.images import Images
from export.contract.parity import Parity, measure, refuse
from keras_realmnet.errors import BundleMismatch, RealMNetError
from keras_realmnet.tasks.rules import OperatingPoint
from keras_realmnet.tasks.task import labels_task
from keras_realmnet.tasks.vocabulary import PALM

TASK = labels_task(PALM, "colour_fundus", OperatingPoint(thresholds={"P": 0.5}, chosen="for this test"))


def prediction(p, maps=None):
    probabilities = np.array([[0.1, 0.1, value] for value in p], "float32")
    maps = np.tile(np.arange(16, dtype="float32").reshape(1, 4, 4, 1), (len(p), 1, 1, 3)) if maps is None else maps
    return {"probabilities": probabilities, "class_maps": maps}


def compared(expected, received, truth=None, patients=None, replicates=1000):
    images = Images(np.zeros((len(expected["probabilities"]), 8, 8, 3), np.uint8), "made up", truth, patients)
    return measure(expected, received, TASK, images, replicates)


def test_figures_by_hand():
    found = compared(prediction([0.9, 0.4, 0.2, 0.6]), prediction([0.9, 0.52, 0.2, 0.6]))
    assert found.images == 4
    assert found["max_probability"] == pytest.approx(0.12)
    assert found["mean_probability"] == pytest.approx(0.12 / 12)
    assert found["flips"] == 1  # 0.4 → 0.52 crosses the threshold
    assert found["map_correlation"] == pytest.approx(1)


def test_identical_predictions_break_no_limit():
    found = compared(prediction([0.9, 0.1]), prediction([0.9, 0.1]))
    assert all(found.violations(precision) == [] for precision in PRECISIONS)


def test_each_broken_limit_is_told_and_the_bundle_refused():
    reversed_maps = prediction([0.9, 0.9, 0.9])["class_maps"][:, ::-1, ::-1]
    found = compared(prediction([0.9, 0.9, 0.9]), prediction([0.9, 0.3, 0.3], reversed_maps))
    assert found["map_correlation"] == pytest.approx(-1)
    told = " ".join(found.violations("int8"))
    for figure in ("99th percentile", "mean", "2 of 3 decisions changed, allowed 1", "class-map correlation"):
        assert figure in told
    with pytest.raises(BundleMismatch, match="float32: largest"):
        refuse({"float32": found})
    with pytest.raises(BundleMismatch, match=r"int8: does not open; differs from Keras .*float32: largest"):
        refuse({"float32": found}, failed={"int8": "does not open"})


def test_a_float_model_may_change_no_decision_and_an_int8_one_hardly_any():
    one_flip = compared(prediction([0.5001] + [0.9] * 9), prediction([0.4999] + [0.9] * 9))
    assert "1 of 10 decisions changed, allowed 0" in one_flip.violations("float32")
    assert one_flip.violations("int8") == []
    many = Parity(
        1000, TASK, {"probabilities": {"max_probability": 0, "flips": 6}, "class_maps": {"map_correlation": 1}}
    )
    assert many.violations("int8") == ["6 of 1000 decisions changed, allowed 5"]


def test_every_kind_of_int8_is_held_to_the_limits_of_int8_and_an_unknown_precision_to_none():
    assert precision_of("int8_mixed") == precision_of("int8") == "int8"
    with pytest.raises(RealMNetError, match="int4"):
        precision_of("int4")


def test_scores_are_compared_on_labels_and_judged_on_500_images():
    rng = np.random.default_rng(0)
    truth = np.eye(3)[rng.integers(0, 3, 600)]
    good = np.clip(truth * 0.6 + rng.uniform(0, 0.5, truth.shape), 0.01, 0.99).astype("float32")
    worse = np.clip(good + rng.normal(0, 0.3, good.shape), 0.01, 0.99).astype("float32")
    maps = np.tile(np.arange(16, dtype="float32").reshape(1, 4, 4, 1), (600, 1, 1, 3))
    patients = np.repeat(np.arange(200), 3).astype(str)
    expected, received = {"probabilities": good, "class_maps": maps}, {"probabilities": worse, "class_maps": maps}
    found = compared(expected, received, {"probabilities": truth}, patients, 200)
    for difference, by_hand in (
        (found["macro_auroc"], roc_auc_score(truth, worse) - roc_auc_score(truth, good)),
        (found["mean_ap"], average_precision_score(truth, worse) - average_precision_score(truth, good)),
    ):
        assert difference.difference == pytest.approx(by_hand, abs=1e-9)
        assert difference.low < by_hand < difference.high < 0
    told = found.violations("int8")
    assert any(line.startswith("macro AUROC changes by -0.") for line in told)
    assert any(line.startswith("mAP changes by -0.") for line in told)
    assert found.unjudged("int8") is None
    few = compared(
        {"probabilities": good[:90], "class_maps": maps[:90]},
        {"probabilities": worse[:90], "class_maps": maps[:90]},
        {"probabilities": truth[:90]},
        replicates=20,
    )
    assert not any("changes by" in line for line in few.violations("int8"))
    assert "500 labelled images needed, 90 images received" in few.unjudged("int8")
    alike = np.eye(3)[np.zeros(600, int)]
    of_one_class = compared(expected, received, {"probabilities": alike}, patients, 20)
    assert "600 images whose labels are too much alike received" in of_one_class.unjudged("int8")
    assert json.loads(json.dumps(found.to_dict()))["macro_auroc"]["difference"] < -0.005


def test_a_peak_in_another_cell_is_counted():
    moved = prediction([0.9, 0.9])["class_maps"].copy()
    moved[0, 0, 0] = 99
    assert compared(prediction([0.9, 0.9]), prediction([0.9, 0.9], moved))["same_peak"] == 0.5


def test_not_a_number_is_never_within_a_limit():
    found = compared(prediction([0.9]), prediction([np.nan]))
    assert found.violations("float32")
