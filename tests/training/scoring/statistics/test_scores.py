import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from sklearn import metrics

from keras_realmnet.tasks.rules import OperatingPoint
from keras_realmnet.tasks.vocabulary import PALM, PSMM
from tests.training.scoring.made_up import multilabel, values_of
from training.benchmarks.scores import measure, psmm_like
from training.data.label_table import read_label_table
from training.scoring.statistics.cases import Cases
from training.scoring.statistics.ranking import average_precision
from training.scoring.statistics.scores import HEADLINE, undefined, weighted_scores

NAN = np.nan


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


def test_means_over_labels(cohort):
    y_true, y_score, _ = cohort
    scores = values_of(y_true, y_score, PSMM)
    assert scores["macro_auroc"] == pytest.approx(metrics.roc_auc_score(y_true, y_score, average="macro"), abs=1e-12)
    assert scores["map"] == pytest.approx(metrics.average_precision_score(y_true, y_score, average="macro"), abs=1e-12)
    assert list(scores)[: len(HEADLINE) - 2] == list(HEADLINE[:-2])  # without a rule no sensitivity or specificity


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


def test_weights_of_units_are_weights_of_their_images(cohort):
    y_true, y_score, _ = cohort
    cases = Cases.of_images(y_true, y_score, PSMM)
    units = np.arange(200) // 4
    weights = np.random.default_rng(2).integers(0, 4, (50, 6))
    by_unit = weighted_scores(cases, weights, units)
    by_image = weighted_scores(cases, weights[units])
    for name, values in by_unit.items():
        np.testing.assert_allclose(values, by_image[name], rtol=0, atol=1e-12)
