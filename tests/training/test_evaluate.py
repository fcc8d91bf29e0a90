import csv

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score

from keras_realmnet.errors import DataSetError
from keras_realmnet.screening.decision import OperatingPoint
from keras_realmnet.screening.labels import PALM, PSMM
from training.evaluate import (
    Interval,
    auroc,
    average_precision,
    choose_thresholds,
    pathologic,
    print_scores,
    score,
    write_score_table,
)

NAN = np.nan


@pytest.fixture(scope="module")
def cohort():
    """Truth, scores and patients of 200 images with two to five images a patient."""
    rng = np.random.default_rng(0)
    y_true = np.zeros((200, 7))
    y_true[np.arange(200), rng.integers(0, 2, 200)] = 1
    y_true[np.arange(200), 2 + rng.integers(0, 5, 200)] = 1
    y_score = np.clip(0.3 * y_true + rng.random((200, 7)) * 0.7, 0, 1).round(2)  # ties
    return y_true, y_score, tuple(f"p{k // 4}" for k in range(200))


@pytest.mark.parametrize(("ours", "reference"), [(auroc, roc_auc_score), (average_precision, average_precision_score)])
def test_weighted_scores_are_scikit_learns(ours, reference, cohort):
    y_true, y_score, _ = cohort
    weights = np.random.default_rng(1).integers(0, 3, (5, 200))
    for k in range(7):
        assert ours(y_true[:, k], y_score[:, k]) == pytest.approx(reference(y_true[:, k], y_score[:, k]), abs=1e-12)
        for row, value in zip(weights, ours(y_true[:, k], y_score[:, k], weights), strict=True):
            expected = reference(y_true[:, k], y_score[:, k], sample_weight=row)
            assert value == pytest.approx(expected, abs=1e-12)


def values_of(*args):
    return {name: interval.value for name, interval in score(*args).items()}


def test_means_over_labels(cohort):
    y_true, y_score, _ = cohort
    scores = values_of(y_true, y_score, PSMM)
    assert scores["macro_auroc"] == pytest.approx(roc_auc_score(y_true, y_score, average="macro"), abs=1e-12)
    assert scores["map"] == pytest.approx(average_precision_score(y_true, y_score, average="macro"), abs=1e-12)


def test_worked_example():
    # P: positives .9 and .4, negatives .5 and .1: three of four pairs in order; precision 1 and 2/3 at the positives.
    y_true = np.array([[0, 0, 1], [NAN, NAN, 0], [0, 0, 1], [NAN, NAN, 0]])
    y_score = np.array([[0, 0, 0.9], [0, 0, 0.5], [0, 0, 0.4], [0, 0, 0.1]])
    scores = values_of(y_true, y_score, PALM)
    assert scores["auroc_P"] == scores["pathologic_auroc"] == scores["macro_auroc"] == pytest.approx(0.75)
    assert scores["ap_P"] == scores["map"] == pytest.approx((1 + 2 / 3) / 2)
    assert scores["auroc_N"] is None  # no known positive: not a score of 0
    assert scores["ap_N"] is None


def test_pathologic_is_any_pathologic_label():
    y_score = np.array([[0.9, 0.1, 0.8, 0.2, 0.3, 0.05, 0.2], [0.1, 0.95, 0, 0.9, 0.3, 0.1, 0.1]])
    np.testing.assert_array_equal(pathologic(y_score, PSMM), [0.3, 0.95])
    one_unknown = np.array([[1, 0, 1, 0, NAN, 0, 0], [1, 0, 0, 0, NAN, 1, 0], [1, 0, 1, 0, 0, 0, 0]])
    np.testing.assert_array_equal(pathologic(one_unknown, PSMM), [NAN, 1, 0])


def test_intervals_are_reproducible_and_hold_the_value(cohort):
    y_true, y_score, patients = cohort
    point = choose_thresholds(y_true, y_score, PSMM, "these images")
    first = score(y_true, y_score, PSMM, point, patients, replicates=250, seed=3)
    assert first == score(y_true, y_score, PSMM, point, patients, replicates=250, seed=3)
    for name in ("macro_auroc", "map", "pathologic_auroc", "specificity"):
        assert first[name].low < first[name].value < first[name].high
        assert first[name].replicates == 250


def test_the_interval_is_the_textbooks():
    """A sensitivity is a mean of independent images: its interval is the normal approximation's, nearly."""
    y_true, y_score = np.zeros((800, 3)), np.zeros((800, 3))
    y_true[:400, 2], y_score[:300, 2] = 1, 1
    point = OperatingPoint({"P": 0.5}, "by hand")
    interval = score(y_true, y_score, PALM, point, tuple(map(str, range(800))), replicates=2000)["sensitivity"]
    assert interval.value == 0.75
    error = np.sqrt(0.75 * 0.25 / 400)
    assert interval.low == pytest.approx(0.75 - 1.96 * error, abs=0.2 * error)
    assert interval.high == pytest.approx(0.75 + 1.96 * error, abs=0.2 * error)


def test_patients_are_resampled_not_images():
    """Ten copies of every image under one patient carry no more information than one."""
    rng = np.random.default_rng(0)
    y_true, y_score = np.zeros((60, 3)), rng.random((60, 3))
    y_true[:30, 2] = 1
    y_score[:30, 2] += 0.3
    names = tuple(f"{k:02d}" for k in range(60))
    once = score(y_true, y_score, PALM, None, names)["auroc_P"]
    copies = np.repeat(np.arange(60), 10)
    tenfold = score(y_true[copies], y_score[copies], PALM, None, tuple(names[k] for k in copies))["auroc_P"]
    assert (tenfold.value, tenfold.low, tenfold.high) == pytest.approx((once.value, once.low, once.high), abs=1e-12)


def test_replicates_with_one_class_are_left_out_and_counted():
    y_true, y_score = np.zeros((20, 3)), np.random.default_rng(0).random((20, 3))
    y_true[0, 2] = 1  # one positive: absent from (19/20)^20 = 36 % of the replicates
    intervals = score(y_true, y_score, PALM, None, tuple(map(str, range(20))), replicates=500)
    assert intervals["auroc_P"].replicates / 500 == pytest.approx(1 - 0.95**20, abs=0.1)
    assert intervals["macro_auroc"].replicates == intervals["ap_P"].replicates == intervals["auroc_P"].replicates
    assert intervals["auroc_N"] == Interval(None, None, None, 0)
    assert str(intervals["auroc_N"]) == "not defined"


def test_thresholds_are_the_largest_with_the_sensitivity(cohort):
    y_true, y_score, _ = cohort
    point = choose_thresholds(y_true, y_score, PSMM, "the validation images", min_sensitivity=0.9)
    assert set(point.thresholds) == set(PSMM.pathologic)
    assert "0.90" in point.chosen
    assert "the validation images" in point.chosen
    for code, threshold in point.thresholds.items():
        k = PSMM.codes.index(code)
        positive = y_score[y_true[:, k] == 1, k]
        assert (positive >= threshold).mean() >= 0.9
        last_found = y_score[y_score[:, k] > threshold, k].min()
        assert (positive > last_found).mean() < 0.9
        assert threshold < last_found - 1e-6  # never on a score itself


def test_a_label_without_positives_has_no_threshold(cohort):
    y_true, y_score, _ = cohort
    y_true = y_true.copy()
    y_true[:, 6] = 0
    with pytest.raises(DataSetError, match="validation: no image with label A4"):
        choose_thresholds(y_true, y_score, PSMM, "validation")


def test_screening_rates_by_hand():
    y_true = np.array([[0, 0, 1], [0, 0, 1], [1, 0, 0], [0, 1, 0], [NAN, NAN, 0]])
    y_score = np.array([[0, 0, 0.9], [0, 0, 0.4], [0, 0, 0.6], [0, 0, 0.2], [0, 0, 0.5]])
    point = OperatingPoint({"P": 0.5}, "by hand")
    scores = values_of(y_true, y_score, PALM, point)
    assert scores["sensitivity"] == 0.5
    assert scores["specificity"] == pytest.approx(1 / 3)  # .5 is at the threshold: refer
    assert values_of(y_true[:2], y_score[:2], PALM, point)["specificity"] is None


def test_the_score_table_leaves_unknown_truth_empty(tmp_path):
    y_true, y_score = np.array([[NAN, NAN, 0], [0, 0, 1]]), np.array([[0.5, 0.25, 0.125], [0, 0, 1]])
    write_score_table(tmp_path / "scores.csv", ("a.jpg", "b.jpg"), ("a", "b"), y_true, y_score, PALM)
    with (tmp_path / "scores.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert rows[0] == {
        "filename": "a.jpg",
        "patient": "a",
        "true_N": "",
        "true_H": "",
        "true_P": "0",
        "N": "0.500000",
        "H": "0.250000",
        "P": "0.125000",
    }
    assert rows[1]["true_P"] == "1"


def test_scores_print_as_a_table(capsys):
    interval = vars(Interval(0.97, 0.95, 0.99, 1000))
    result = {
        "data": "palm",
        "images": 199,
        "patients": 199,
        "thresholds_chosen_on_test": True,
        "operating_point": {"thresholds": {"P": 0.3}, "chosen": "by rule"},
        "scores": {"auroc_N": vars(Interval(None, None, None, 0)), "macro_auroc": interval},
    }
    print_scores(result)
    text = capsys.readouterr().out
    assert "0.9700 (0.9500 to 0.9900)" in text
    assert "not defined" in text
    assert "optimistic" in text
