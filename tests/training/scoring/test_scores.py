import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from sklearn import metrics

from keras_realmnet.screening.decision import OperatingPoint
from keras_realmnet.screening.labels import PALM, PSMM
from training.benchmarks.scores import measure, psmm_like, scikit_learn_scores
from training.data.label_table import read_label_table
from training.scoring.scores import (
    BLOCK,
    HEADLINE,
    Bootstrap,
    Cases,
    Interval,
    auroc,
    average_precision,
    draws,
    interval,
    pathologic,
    resample,
    score,
    score_cases,
    thinned,
    undefined,
    weighted_scores,
)

NAN = np.nan


@pytest.fixture(scope="module")
def cohort():
    """Truth, scores and patients of 200 images, four a patient."""
    rng = np.random.default_rng(0)
    y_true = np.zeros((200, 7))
    y_true[np.arange(200), rng.integers(0, 2, 200)] = 1
    y_true[np.arange(200), 2 + rng.integers(0, 5, 200)] = 1
    y_score = np.clip(0.3 * y_true + rng.random((200, 7)) * 0.7, 0, 1).round(2)  # ties
    return y_true, y_score, tuple(f"p{k // 4}" for k in range(200))


def values_of(*args):
    return {name: found.value for name, found in score(*args).items()}


# ------------------------------------------------------------------------------------------------- against scikit-learn


@pytest.mark.parametrize(
    ("ours", "reference"),
    [(auroc, metrics.roc_auc_score), (average_precision, metrics.average_precision_score)],
)
def test_weighted_curves_are_scikit_learns(ours, reference, cohort):
    y_true, y_score, _ = cohort
    weights = np.random.default_rng(1).integers(0, 3, (5, 200))
    for k in range(7):
        assert ours(y_true[:, k], y_score[:, k]) == pytest.approx(reference(y_true[:, k], y_score[:, k]), abs=1e-12)
        for row, value in zip(weights, ours(y_true[:, k], y_score[:, k], weights), strict=True):
            expected = reference(y_true[:, k], y_score[:, k], sample_weight=row)
            assert value == pytest.approx(expected, abs=1e-12)


TIED = st.sampled_from([0.0, 0.2, 0.5, 0.6, 0.7, 0.8, 1.0])
RANDOM = st.floats(0, 1, width=32)


@st.composite
def multilabel(draw):
    """(y_true, y_score): any truth, also columns and rows with one value, and scores with or without ties."""
    n = draw(st.integers(1, 25))
    y_true = draw(hnp.arrays(np.float64, (n, 7), elements=st.sampled_from([0.0, 1.0])))
    elements = draw(st.sampled_from([TIED, RANDOM]))
    return y_true, draw(hnp.arrays(np.float64, (n, 7), elements=elements))


@settings(max_examples=40)
@given(multilabel())
def test_every_score_is_scikit_learns(data):
    y_true, y_score = data
    truth = y_true.astype(int)
    ours = values_of(y_true, y_score, PSMM)
    positive, negative = truth.any(axis=0), (truth == 0).any(axis=0)
    top2 = np.zeros_like(truth)
    for row, scores in zip(top2, y_score, strict=True):
        row[sorted(range(7), key=lambda k: (-scores[k], k))[:2]] = 1
    rules = {f"@{t}": (y_score >= t).astype(int) for t in (0.6, 0.7, 0.8)}
    rules |= {"": (y_score >= 0.5).astype(int), "@top2": top2}
    expected = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for rule, predicted in rules.items():
            for name in ("precision", "recall", "f1"):
                function = getattr(metrics, f"{name}_score")
                per_label = function(truth, predicted, average=None, zero_division=0)
                expected |= {
                    f"{name}_{c}{rule}": v for c, v, p in zip(PSMM.codes, per_label, positive, strict=True) if p
                }
                if positive.any():
                    expected[f"macro_{name}{rule}"] = np.mean(per_label[positive])
                    expected[f"micro_{name}{rule}"] = function(truth, predicted, average="micro", zero_division=0)
        curves = (
            ("auroc", "macro_auroc", metrics.roc_auc_score, positive & negative),
            ("ap", "map", metrics.average_precision_score, positive),
        )
        for name, mean, function, exists in curves:
            values = {k: function(truth[:, k], y_score[:, k]) for k in range(7) if exists[k]}
            expected |= {f"{name}_{PSMM.codes[k]}": value for k, value in values.items()}
            if values:
                expected[mean] = np.mean(list(values.values()))
        if positive.any() and negative.any():
            expected["micro_auroc"] = metrics.roc_auc_score(truth, y_score, average="micro")
        columns = [PSMM.codes.index(code) for code in PSMM.pathologic]
        ill = truth[:, columns].max(axis=1)
        if len(set(ill)) == 2:
            expected["pathologic_auroc"] = metrics.roc_auc_score(ill, y_score[:, columns].max(axis=1))
        brier = [metrics.mean_squared_error(truth[:, k], y_score[:, k]) for k in range(7)]
        expected |= {f"brier_{code}": value for code, value in zip(PSMM.codes, brier, strict=True)}
        expected["brier"] = np.mean(brier)
        expected["hamming_loss"] = metrics.hamming_loss(truth, y_score > 0.5)
        expected["coverage_error"] = metrics.coverage_error(truth, y_score)
        expected["ranking_loss"] = metrics.label_ranking_loss(truth, y_score)
        expected["exact_match"] = metrics.accuracy_score(truth, y_score >= 0.5)
    assert {name: value for name, value in ours.items() if value is not None} == pytest.approx(expected, abs=1e-12)


def test_replicates_are_scikit_learn_on_the_drawn_images():
    cases = psmm_like(images=1500, patients=150, seed=4)
    found = measure(cases, replicates=3, looped=3)
    assert found["scores"] > 150
    assert found["largest_difference"] < 1e-12


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


def test_means_over_labels(cohort):
    y_true, y_score, _ = cohort
    scores = values_of(y_true, y_score, PSMM)
    assert scores["macro_auroc"] == pytest.approx(metrics.roc_auc_score(y_true, y_score, average="macro"), abs=1e-12)
    assert scores["map"] == pytest.approx(metrics.average_precision_score(y_true, y_score, average="macro"), abs=1e-12)
    assert list(scores)[: len(HEADLINE) - 2] == list(HEADLINE[:-2])  # without a rule no sensitivity or specificity


# --------------------------------------------------------------------------------------------------------- known values


def test_perfect_scores_on_the_published_test_set(shared):
    table = read_label_table(shared / "psmm" / "test.csv")
    scores = values_of(table.labels, table.labels.astype(float), PSMM)
    assert scores["coverage_error"] == 2.0  # the published Coverage has no −1: two true labels an image
    for name in ("macro_f1", "micro_f1", "map", "macro_auroc", "micro_auroc", "exact_match", "macro_f1@top2"):
        assert scores[name] == 1
    assert scores["hamming_loss"] == scores["ranking_loss"] == scores["brier"] == 0


def test_one_score_for_all_on_the_published_test_set(shared):
    """Prevalences 4522, 2052, 294, 4887, 885, 412, 96 of 6,574: what knows nothing gets."""
    table = read_label_table(shared / "psmm" / "test.csv")
    scores = values_of(table.labels, np.full((6574, 7), 0.3), PSMM)
    assert scores["map"] == pytest.approx(13148 / 7 / 6574)
    assert scores["macro_auroc"] == scores["micro_auroc"] == 0.5
    assert scores["coverage_error"] == 7
    assert scores["ranking_loss"] == 1
    assert scores["hamming_loss"] == pytest.approx(2 / 7)
    assert scores["macro_f1"] == scores["macro_precision"] == 0  # nothing is predicted
    assert scores["recall_S0@top2"] == scores["recall_S1@top2"] == 1  # of equal scores the earlier columns
    assert scores["recall_A0@top2"] == 0


def test_worked_example():
    # P: positives .9 and .4, negatives .5 and .1: three of four pairs in order; precision 1 and 2/3 at the positives.
    y_true = np.array([[0, 0, 1], [NAN, NAN, 0], [0, 0, 1], [NAN, NAN, 0]])
    y_score = np.array([[0, 0, 0.9], [0, 0, 0.5], [0, 0, 0.4], [0, 0, 0.1]])
    scores = values_of(y_true, y_score, PALM)
    assert scores["auroc_P"] == scores["pathologic_auroc"] == scores["macro_auroc"] == pytest.approx(0.75)
    assert scores["ap_P"] == scores["map"] == pytest.approx((1 + 2 / 3) / 2)
    assert scores["precision_P"] == scores["recall_P"] == scores["f1_P"] == scores["macro_f1"] == 0.5
    assert scores["auroc_N"] is None  # no known positive: not a score of 0
    assert scores["ap_N"] is scores["f1_N"] is scores["recall_N"] is None
    assert scores["hamming_loss"] == pytest.approx(1 / 8)  # of the known labels; .5 is not above .5
    assert scores["coverage_error"] == 1  # of the two images whose labels are all known
    assert scores["brier_P"] == pytest.approx((0.1**2 + 0.5**2 + 0.6**2 + 0.1**2) / 4)


def test_pathologic_is_any_pathologic_label():
    y_score = np.array([[0.9, 0.1, 0.8, 0.2, 0.3, 0.05, 0.2], [0.1, 0.95, 0, 0.9, 0.3, 0.1, 0.1]])
    np.testing.assert_array_equal(pathologic(y_score, PSMM), [0.3, 0.95])
    one_unknown = np.array([[1, 0, 1, 0, NAN, 0, 0], [1, 0, 0, 0, NAN, 1, 0], [1, 0, 1, 0, 0, 0, 0]])
    np.testing.assert_array_equal(pathologic(one_unknown, PSMM), [NAN, 1, 0])


def test_screening_rates_by_hand():
    y_true = np.array([[0, 0, 1], [0, 0, 1], [1, 0, 0], [0, 1, 0], [NAN, NAN, 0]])
    y_score = np.array([[0, 0, 0.9], [0, 0, 0.4], [0, 0, 0.6], [0, 0, 0.2], [0, 0, 0.5]])
    point = OperatingPoint({"P": 0.5}, "by hand")
    scores = values_of(y_true, y_score, PALM, point)
    assert scores["sensitivity"] == 0.5
    assert scores["specificity"] == pytest.approx(1 / 3)  # .5 is at the threshold: refer
    assert values_of(y_true[:2], y_score[:2], PALM, point)["specificity"] is None


def test_what_does_not_exist_is_explained():
    y_true = np.array([[1, 0, 0], [1, 1, 0]])
    cases = Cases.of_images(y_true, np.full((2, 3), 0.5), PALM)
    assert undefined(cases, "eye") == [
        "N: no negative eye, so it has no AUROC; the mean leaves it out",
        "P: no positive eye, so it has no precision, recall, F1, AP or AUROC; means leave it out",
    ]


def test_a_label_that_all_images_have_equals_scikit_learn():
    y_true = np.array([[1, 0, 1], [1, 1, 0], [1, 0, 0]])
    y_score = np.array([[0.9, 0.2, 0.8], [0.1, 0.7, 0.3], [0.4, 0.4, 0.5]])
    scores = values_of(y_true, y_score, PALM)
    assert scores["ap_N"] == metrics.average_precision_score(y_true[:, 0], y_score[:, 0]) == 1
    assert scores["map"] == pytest.approx(metrics.average_precision_score(y_true, y_score, average="macro"))
    assert scores["auroc_N"] is None
    weights = np.array([[1.0, 2.0, 0.0], [0.0, 0.0, 0.0]])
    np.testing.assert_array_equal(average_precision(y_true[:, 0], y_score[:, 0], weights), [1, NAN])


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


# ------------------------------------------------------------------------------------------------------ eyes, patients


def test_the_worked_example_of_an_eye():
    y_true, y_score = np.zeros((2, 7)), np.zeros((2, 7))
    y_true[0, [0, 3]] = y_true[1, [0, 5]] = 1  # A1, then A3
    y_score[:, 3], y_score[:, 5] = (0.9, 0.2), (0.1, 0.8)
    eye = Cases.of_images(y_true, y_score, PSMM).grouped(["p OD", "p OD"])
    np.testing.assert_array_equal(eye.y_true, [[1, 0, 0, 0, 0, 1, 0]])
    assert eye.y_score[0, 5] == 0.8
    assert eye.y_score[0, 3] == pytest.approx(0.2)
    assert eye.pathologic_true == [1]
    assert eye.pathologic_score == [0.8]


def test_right_about_every_image_is_right_about_every_eye(cohort):
    y_true, _, _ = cohort
    eyes = [f"{k // 2}" for k in range(200)]
    scores = score_cases(Cases.of_images(y_true, y_true, PSMM).grouped(eyes), Bootstrap(replicates=0))
    assert scores["exact_match"].value == scores["macro_auroc"].value == scores["pathologic_auroc"].value == 1


def test_an_eye_with_one_image_is_that_image(cohort):
    y_true, y_score, patients = cohort
    point = OperatingPoint(dict.fromkeys(PSMM.pathologic, 0.6), "by hand")
    images = Cases.of_images(y_true, y_score, PSMM, point, patients)
    each = images.grouped([f"{k:03d}" for k in range(200)])
    for name in ("y_true", "y_score", "patients", "pathologic_true", "pathologic_score", "refers"):
        np.testing.assert_array_equal(getattr(each, name), getattr(images, name))


@settings(max_examples=100)
@given(multilabel(), st.data())
def test_groups_are_what_the_rule_says(data, more):
    """The rule, image by image."""
    y_true, y_score = data
    keys = more.draw(st.lists(st.sampled_from("abc"), min_size=len(y_true), max_size=len(y_true)))
    point = OperatingPoint(dict.fromkeys(PSMM.pathologic, 0.6), "by hand")
    images = Cases.of_images(y_true, y_score, PSMM, point)
    grouped = images.grouped(keys)
    worse = {0: [1], 1: [], 2: [3, 4, 5, 6], 3: [4, 5, 6], 4: [5, 6], 5: [6], 6: []}
    for row, key in enumerate(sorted(set(keys))):
        members = [n for n, k in enumerate(keys) if k == key]
        for k in range(7):
            seen = any(y_true[n, k] for n in members) and not any(y_true[n, w] for n in members for w in worse[k])
            assert grouped.y_true[row, k] == seen
            limited = [
                min([y_score[n, k], *(1 - y_score[m, w] for m in members for w in worse[k] if m != n)]) for n in members
            ]
            assert grouped.y_score[row, k] == max(limited)
        assert grouped.refers[row] == images.refers[members].any()
        assert grouped.pathologic_score[row] == images.pathologic_score[members].max()
        assert grouped.pathologic_true[row] == images.pathologic_true[members].max()


def test_unknown_truth_of_a_patient():
    y_true = np.array([[NAN, NAN, 0], [0, 0, 1], [NAN, NAN, 0], [1, 0, 0], [NAN, NAN, 0]])
    grouped = Cases.of_images(y_true, np.full((5, 3), 0.5), PALM).grouped(["a", "a", "b", "c", "c"])
    np.testing.assert_array_equal(grouped.y_true, [[0, 0, 1], [NAN, NAN, 0], [NAN, NAN, 0]])  # c: N unless H


# ------------------------------------------------------------------------------------------------------------ bootstrap


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


def test_weights_of_units_are_weights_of_their_images(cohort):
    y_true, y_score, _ = cohort
    cases = Cases.of_images(y_true, y_score, PSMM)
    units = np.arange(200) // 4
    weights = np.random.default_rng(2).integers(0, 4, (50, 6))
    by_unit = weighted_scores(cases, weights, units)
    by_image = weighted_scores(cases, weights[units])
    for name, values in by_unit.items():
        np.testing.assert_allclose(values, by_image[name], rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    ("options", "message"),
    [({"unit": "eye"}, "unit must be one of patient, image, paper"), ({"replicates": -1}, "must not be negative")],
)
def test_a_wrong_bootstrap_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        Bootstrap(**options)
