import numpy as np
import pytest

from keras_realmnet.tasks.rules import OperatingPoint
from keras_realmnet.tasks.vocabulary import PALM, PSMM
from training.benchmarks.scores import scikit_learn_scores
from training.scoring.statistics.bootstrap import BLOCK, Bootstrap, Interval, draws, interval
from training.scoring.statistics.cases import Cases
from training.scoring.statistics.scores import HEADLINE, resample, score, score_cases, thinned

NAN = np.nan


def test_replicates_by_patient_hold_whole_patients(cohort):
    y_true, y_score, patients = cohort
    point = OperatingPoint(dict.fromkeys(PSMM.pathologic, 0.5), "by hand")
    cases = Cases.of_images(y_true, y_score, PSMM, point, patients)
    names, units = np.unique(patients, return_inverse=True)
    replicates = resample(cases, Bootstrap("patient", BLOCK + 3, seed=5))
    weights = np.concatenate(list(draws(len(names), len(names), BLOCK + 3, 5)), axis=1)
    assert weights.shape == (50, BLOCK + 3)
    assert set(weights.sum(axis=0)) == {50}
    for k in (0, BLOCK, BLOCK + 2):
        rows = np.repeat(np.arange(200), weights[units, k].astype(int))
        expected = scikit_learn_scores(cases.take(rows))
        assert {name: values[k] for name, values in replicates.items()} == pytest.approx(expected, abs=1e-12)


def test_intervals_of_means_say_how_many_replicates_had_every_label():
    y_true = np.zeros((40, 3))
    y_true[np.arange(40), np.arange(40) % 2] = 1
    y_true[7] = [0, 0, 1]  # the only image of P: in about 63 % of the replicates
    y_score = np.random.default_rng(0).random((40, 3))
    cases = Cases.of_images(y_true, y_score, PALM)
    bootstrap = Bootstrap("image", 200)
    scores = score_cases(cases, bootstrap)
    drawn = np.concatenate([weights[7] for weights in draws(40, 40, 200, 0)]) > 0
    count = int(drawn.sum())
    assert 100 < count < 150
    assert scores["macro_f1"].replicates == scores["map"].replicates == scores["macro_auroc"].replicates == count
    assert thinned(scores, 200) == [
        f"intervals of macro_f1, macro_precision, macro_recall, map: from {count} of 200 replicates, those in which "
        "every label has a positive image",
        f"intervals of macro_auroc: from {count} of 200 replicates, those in which every label has a positive and a "
        "negative image",
    ]
    assert thinned(score_cases(cases, Bootstrap("image", 0)), 0) == []


def test_intervals_are_reproducible_and_hold_the_value(cohort):
    y_true, y_score, patients = cohort
    point = OperatingPoint(dict.fromkeys(PSMM.pathologic, 0.6), "by hand")
    first = score(y_true, y_score, PSMM, point, patients, replicates=250, seed=3)
    assert first == score(y_true, y_score, PSMM, point, patients, replicates=250, seed=3)
    assert first["map"] != score(y_true, y_score, PSMM, point, patients, replicates=250, seed=4)["map"]
    for name in HEADLINE:
        assert first[name].low < first[name].value < first[name].high
        assert first[name].replicates == 250


@pytest.mark.parametrize("unit", ["patient", "image"])
def test_the_interval_is_the_textbooks(unit):
    """A sensitivity is a mean of independent images: its interval is the normal approximation's, nearly."""
    y_true, y_score = np.zeros((800, 3)), np.zeros((800, 3))
    y_true[:400, 2], y_score[:300, 2] = 1, 1
    cases = Cases.of_images(y_true, y_score, PALM, OperatingPoint({"P": 0.5}, "by hand"))
    found = score_cases(cases, Bootstrap(unit, 2000))["sensitivity"]
    assert found.value == 0.75
    error = np.sqrt(0.75 * 0.25 / 400)
    assert found.low == pytest.approx(0.75 - 1.96 * error, abs=0.2 * error)
    assert found.high == pytest.approx(0.75 + 1.96 * error, abs=0.2 * error)


def test_the_papers_interval_is_of_a_thousand_images():
    """However many there are: mean ± 1.96 SD of accuracies of 1,000 draws."""
    y_true, y_score = np.zeros((5000, 3)), np.zeros((5000, 3))
    y_true[:, 2], y_score[:4000, 2] = 1, 1
    found = score_cases(Cases.of_images(y_true, y_score, PALM), Bootstrap("paper", 1000))["exact_match"]
    sd = np.sqrt(0.8 * 0.2 / 1000)
    assert found.sd == pytest.approx(sd, rel=0.1)
    assert found.mean == pytest.approx(0.8, abs=4 * sd / np.sqrt(1000))
    assert (found.low, found.high) == pytest.approx((found.mean - 1.96 * found.sd, found.mean + 1.96 * found.sd))


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
    assert intervals["brier_N"].replicates == 500


def test_no_replicates_no_interval(cohort):
    y_true, y_score, _ = cohort
    assert score(y_true, y_score, PSMM)["map"].low is None
    assert interval(0.5, np.array([NAN]), "image") == Interval(0.5, None, None, 0)


@pytest.mark.parametrize(
    ("options", "message"),
    [({"unit": "eye"}, "unit must be one of patient, image, paper"), ({"replicates": -1}, "must not be negative")],
)
def test_a_wrong_bootstrap_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        Bootstrap(**options)
