"""Scores of grades, masks and points against scikit-learn and NumPy, and their bootstrap against repeated cases."""

from dataclasses import replace

import numpy as np
import pytest
from sklearn import metrics

from keras_realmnet.tasks.outputs import Masks, Points
from tests.training.tasks.vocabularies import DISC, LANDMARKS, SEVERITY, SPOTS
from training.scoring.by_kind.masks import LEVELS, level_of
from training.scoring.statistics.bootstrap import Bootstrap, values_of, with_intervals
from training.scoring.statistics.significance import paired
from training.tasks.kinds import kind_of
from training.tasks.motion import IGNORE

NAN = np.nan


def grades(rng, n=60):
    truth = np.eye(3, dtype=np.float32)[rng.integers(0, 3, n)]
    truth[::7] = NAN
    predicted = rng.dirichlet(np.ones(3), n).round(2).astype(np.float32)  # ties
    return SEVERITY, truth, predicted


def masks(output, rng, n=12):
    shape = (n, 8, 8) if output.exclusive else (n, 8, 8, len(output.labels))
    truth = rng.integers(0, 3 if output.exclusive else 2, shape).astype(np.uint8)
    truth[:, 0] = IGNORE
    truth[0], truth[1, 1:] = IGNORE, 0  # nothing known, nothing there
    predicted = rng.random((n, 8, 8, output.channels)).astype(np.float32)
    return output, truth, predicted / predicted.sum(axis=-1, keepdims=True) if output.exclusive else predicted


def points(rng, n=20, confidence=True):
    output = Points(LANDMARKS.labels, confidence=confidence)
    truth = rng.random((n, 2, 3)).astype(np.float32)
    truth[..., 2] = rng.choice([1, 1, 0, NAN], (n, 2))
    truth[truth[..., 2] != 1, :2] = NAN
    return output, truth, rng.random((n, 2, 3 if confidence else 2)).astype(np.float32)


MADE = {
    "grades": grades,
    "exclusive masks": lambda rng: masks(DISC, rng),
    "masks": lambda rng: masks(SPOTS, rng),
    "points": points,
}


def cases_and_values(output, truth, predicted):
    cases = kind_of(output).cases(output, truth, predicted)
    return cases, values_of(kind_of(output).make_scorer(output, cases), len(truth))


@pytest.mark.parametrize("kind", MADE)
def test_a_weight_of_two_is_the_case_twice_and_units_are_their_cases(kind):
    rng = np.random.default_rng(3)
    output, truth, predicted = MADE[kind](rng)
    cases, _ = cases_and_values(output, truth, predicted)
    if kind == "points":
        cases["diameter"] = np.where(rng.random(len(truth)) < 0.3, NAN, rng.random(len(truth)))
    make = kind_of(output).make_scorer(output, cases)
    weights = rng.integers(0, 3, (len(truth), 6))
    found = make(np.arange(len(truth)))(weights.astype(np.float64))
    for r in range(6):
        rows = np.repeat(np.arange(len(truth)), weights[:, r])
        repeated = {name: values[rows] for name, values in cases.items()}
        expected = values_of(kind_of(output).make_scorer(output, repeated), len(rows))
        assert {name: values[r] for name, values in found.items()} == pytest.approx(expected, nan_ok=True, rel=1e-12)
    units = rng.integers(0, 5, len(truth))
    by_unit = make(units)(weights[:5].astype(np.float64))
    by_case = make(np.arange(len(truth)))(weights[:5].astype(np.float64)[units])
    for name in by_unit:
        np.testing.assert_allclose(by_unit[name], by_case[name], rtol=1e-12, err_msg=name)


@pytest.mark.parametrize("kind", MADE)
def test_patients_are_resampled_and_networks_compared_on_the_same(kind):
    rng = np.random.default_rng(4)
    output, truth, predicted = MADE[kind](rng)
    cases, values = cases_and_values(output, truth, predicted)
    make, patients = kind_of(output).make_scorer(output, cases), np.arange(len(truth)) // 2
    intervals = with_intervals(make, patients, Bootstrap("patient", 200, seed=1))
    figure = next(iter(kind_of(output).figures))
    found = intervals[figure]
    assert found.low < found.value == values[figure] < found.high
    assert found.replicates == 200
    # Each patient's two images are drawn together: as if every image counted for both, resampled one by one.
    twice = {name: np.repeat(each[::2], 2, axis=0) for name, each in cases.items()}
    alone = {name: each[::2] for name, each in cases.items()}
    pairs = with_intervals(kind_of(output).make_scorer(output, twice), patients, Bootstrap("patient", 200, seed=1))
    single = Bootstrap("image", 200, seed=1)
    singles = with_intervals(kind_of(output).make_scorer(output, alone), patients[::2], single)
    assert (pairs[figure].low, pairs[figure].high) == pytest.approx((singles[figure].low, singles[figure].high))
    same = paired(make, make, patients, replicates=20)
    assert same[figure].a == same[figure].b == values[figure]
    assert (same[figure].difference, same[figure].low, same[figure].high) == (0, 0, 0)


def test_grades_are_scored_as_by_scikit_learn():
    output, truth, predicted = grades(np.random.default_rng(0))
    cases, found = cases_and_values(output, truth, predicted)
    known = ~np.isnan(truth).any(axis=1)
    true, said = truth[known].argmax(axis=1), predicted[known].argmax(axis=1)
    assert found["kappa"] == pytest.approx(metrics.cohen_kappa_score(true, said, weights="quadratic"))
    assert found["macro_f1"] == pytest.approx(metrics.f1_score(true, said, average="macro"))
    assert found["accuracy"] == metrics.accuracy_score(true, said)
    for k, code in enumerate(output.labels.codes):
        assert found[f"auroc_{code}"] == pytest.approx(metrics.roc_auc_score(true == k, predicted[known, k]))
        assert found[f"f1_{code}"] == pytest.approx(metrics.f1_score(true == k, said == k))
    assert found["macro_auroc"] == pytest.approx(np.mean([found[f"auroc_{code}"] for code in output.labels.codes]))
    counts = kind_of(output).counts(output, cases)
    assert counts["confusion"] == metrics.confusion_matrix(true, said).tolist()
    assert counts["known"] == known.sum()


def test_a_grade_that_no_image_has_is_left_out_of_means():
    truth = np.eye(3, dtype=np.float32)[[0, 0, 1, 1]]
    predicted = np.array([[0.6, 0.3, 0.1], [0.2, 0.2, 0.6], [0.3, 0.6, 0.1], [0.5, 0.4, 0.1]], np.float32)
    _, found = cases_and_values(SEVERITY, truth, predicted)
    assert np.isnan(found["f1_r2"])
    assert np.isnan(found["auroc_r2"])
    assert found["macro_f1"] == pytest.approx((0.5 + 2 / 3) / 2)
    assert found["macro_auroc"] == pytest.approx((0.5 + 1) / 2)


@pytest.mark.parametrize("output", [DISC, SPOTS])
def test_masks_are_scored_as_by_scikit_learn(output):
    output, truth, predicted = masks(output, np.random.default_rng(1))
    cases, found = cases_and_values(output, truth, predicted)
    channels = predicted[..., int(output.exclusive) :]
    n, labels = len(truth), len(output.labels)
    for k, code in enumerate(output.labels.codes):
        mask = truth if output.exclusive else truth[..., k]
        there, known, said = mask == (k + 1 if output.exclusive else 1), mask != IGNORE, channels[..., k] >= 0.5
        y, y_said, y_score = there[known], said[known], channels[..., k][known]
        assert found[f"pixel_f1_{code}"] == pytest.approx(metrics.f1_score(y, y_said))
        assert found[f"aupr_{code}"] == pytest.approx(metrics.average_precision_score(y, level_of(y_score)))
        assert found[f"aupr_{code}"] == pytest.approx(metrics.average_precision_score(y, y_score), abs=0.01)
        assert found[f"pixel_auroc_{code}"] == pytest.approx(metrics.roc_auc_score(y, level_of(y_score)))
        each = [(there[i][known[i]], said[i][known[i]]) for i in range(2, n)]
        assert found[f"dice_{code}"] == pytest.approx(np.mean([metrics.f1_score(*pair) for pair in each]))
        assert found[f"iou_{code}"] == pytest.approx(np.mean([metrics.jaccard_score(*pair) for pair in each]))
        image_true = [there[i].any() for i in range(1, n)]
        peaks = np.where(known, channels[..., k], 0).max(axis=(1, 2))[1:]
        image_said = peaks >= 0.5
        assert found[f"image_f1_{code}"] == pytest.approx(metrics.f1_score(image_true, image_said))
        assert found[f"image_auroc_{code}"] == pytest.approx(metrics.roc_auc_score(image_true, peaks))
        counted = kind_of(output).counts(output, cases)[code]
        assert counted == {"with": n - 2, "without": 1, "unknown": 1, "found where it is not": int(image_said[0])}
    for name in ("dice", "iou", "aupr", "pixel_auroc", "pixel_f1", "image_f1", "image_auroc"):
        assert found[name] == pytest.approx(np.mean([found[f"{name}_{code}"] for code in output.labels.codes]))
    nothing = np.where(truth == IGNORE, truth, 0).astype(np.uint8)
    _, empty = cases_and_values(output, nothing, predicted)
    classes = {"pixel_accuracy", "pixel_iou", "pixel_iou_rest"} if output.exclusive else set()
    assert {name for name, value in empty.items() if not np.isnan(value)} == classes
    assert len(empty) == 7 * (1 + labels) + (5 + labels if output.exclusive else 0)
    assert kind_of(output).curves(output, kind_of(output).cases(output, nothing, predicted)) == {}


def test_masks_that_exclude_each_other_are_also_scored_as_classes():
    """scikit-learn's accuracy and Jaccard scores of all pixels, the rest as a class; and of labelled or not."""
    rng = np.random.default_rng(4)
    output = replace(SPOTS, exclusive=True)
    truth = rng.integers(0, len(output.labels) + 1, (5, 12, 12)).astype(np.uint8)
    truth[:, :2] = IGNORE
    logits = rng.normal(size=(*truth.shape, output.channels)) + 3 * (truth[..., None] == np.arange(output.channels))
    predicted = np.exp(logits) / np.exp(logits).sum(axis=-1, keepdims=True)
    _, found = cases_and_values(output, truth, predicted.astype(np.float32))
    known = truth != IGNORE
    y = truth[known]
    said = np.where(predicted[..., 1:].max(axis=-1) >= 0.5, 1 + predicted[..., 1:].argmax(axis=-1), 0)[known]
    assert found["pixel_accuracy"] == pytest.approx(metrics.accuracy_score(y, said))
    iou = metrics.jaccard_score(y, said, average=None)
    classes = ("rest", *output.labels.codes)
    assert [found[f"pixel_iou_{code}"] for code in classes] == pytest.approx(iou)
    assert found["pixel_iou"] == pytest.approx(iou.mean())
    labelled = metrics.jaccard_score(y > 0, said > 0)
    assert found["pixel_iou_any"] == pytest.approx(labelled)
    assert found["pixel_iou_two"] == pytest.approx((labelled + iou[0]) / 2)


def saturated(rng, n=6, side=40):
    """What a network trained by Dice says of lesions of a few pixels: nearly 0 or nearly 1 of each."""
    truth = (rng.random((n, side, side, 3)) < 0.01).astype(np.uint8)
    logit = 6 * (rng.normal(size=truth.shape) * 1.2 + 3 * truth) - 10
    return SPOTS, truth, (1 / (1 + np.exp(-logit))).astype(np.float32)


def test_levels_keep_the_order_of_probabilities_and_tell_those_of_a_saturated_network_apart():
    rng = np.random.default_rng(5)
    probability = np.sort(np.concatenate([[0, 1], rng.random(500), *(10.0**-k * rng.random(99) for k in range(8))]))
    for values in (probability, 1 - probability[::-1]):
        levels = level_of(values)
        assert (np.diff(levels) >= 0).all()
        assert (levels.min(), levels.max()) == (0, LEVELS - 1)
        rest = np.minimum(values, 1 - values)
        same = (np.diff(levels) == 0) & (rest[1:] > 1e-6) & (rest[:-1] > 1e-6)
        assert np.abs(np.diff(rest))[same].max() <= rest.max() / 64
    output, truth, predicted = saturated(rng)
    cases, found = cases_and_values(output, truth, predicted)
    for k, code in enumerate(output.labels.codes):
        y, score = truth[..., k].ravel(), predicted[..., k].ravel()
        exact = metrics.average_precision_score(y, score)
        assert found[f"aupr_{code}"] == pytest.approx(exact, abs=0.01)
        assert metrics.average_precision_score(y, np.rint(score * 255)) < exact - 0.05  # what levels of one width give
    curves = kind_of(output).curves(output, cases)
    for code, curve in curves.items():
        precision, recall = np.array(curve["precision"]), np.array(curve["recall"])
        assert (np.diff(recall) > 0).all()
        assert recall[-1] == 1
        k = output.labels.codes.index(code)
        assert curve["share"] == pytest.approx(truth[..., k].mean())
        area = (np.diff(recall, prepend=0) * precision).sum()
        assert area == pytest.approx(found[f"aupr_{code}"], abs=0.01)


def test_an_image_is_said_to_have_a_lesion_from_one_half_on_whatever_the_threshold_of_pixels():
    output = Masks(type(SPOTS.labels)("one", SPOTS.labels.labels[:1]), threshold=0.2)
    truth, predicted = np.zeros((2, 8, 8, 1), np.uint8), np.zeros((2, 8, 8, 1), np.float32)
    truth[0, :2, :2], predicted[0, :2, :2], predicted[1, :2, :2] = 1, 0.6, 0.4
    _, found = cases_and_values(output, truth, predicted)
    assert (found["image_f1"], found["image_auroc"]) == (1, 1)
    assert found["pixel_f1"] == pytest.approx(2 * 4 / (4 + 8))


def test_of_a_structure_that_is_there_once_the_largest_part_counts():
    truth, predicted = np.zeros((1, 8, 8, 1), np.uint8), np.zeros((1, 8, 8, 1), np.float32)
    truth[0, :4, :4] = 1
    predicted[0, :4, :4], predicted[0, 2, 2], predicted[0, 6:, 6:] = 0.9, 0.1, 0.9  # with a hole, and a part beside it
    for single, dice in ((False, 2 * 15 / (19 + 16)), (True, 1.0)):
        output = Masks(type(SPOTS.labels)("one", SPOTS.labels.labels[:1]), single=single)
        assert cases_and_values(output, truth, predicted)[1]["dice"] == pytest.approx(dice)


def test_points_are_scored_as_by_numpy():
    rng = np.random.default_rng(2)
    output, truth, predicted = points(rng)
    cases, _ = cases_and_values(output, truth, predicted)
    cases["diameter"] = np.where(rng.random(len(truth)) < 0.3, NAN, 0.1 + rng.random(len(truth)))
    found = values_of(kind_of(output).make_scorer(output, cases), len(truth))
    visible, said = truth[..., 2], predicted[..., 2] >= 0.5
    distance = np.linalg.norm(predicted[..., :2] - truth[..., :2], axis=-1)
    for suffix, chosen in (("", slice(None)), ("_fovea", [0]), ("_centre", [1])):
        d, v, s = distance[:, chosen], visible[:, chosen], said[:, chosen]
        assert found[f"mean_distance{suffix}"] == pytest.approx(np.nanmean(d), rel=1e-6)
        assert found[f"median_distance{suffix}"] == pytest.approx(np.nanmedian(d), rel=1e-6)
        in_diameters = d / cases["diameter"][:, None]
        assert found[f"mean_diameters{suffix}"] == pytest.approx(np.nanmean(in_diameters), rel=1e-6)
        assert found[f"median_diameters{suffix}"] == pytest.approx(np.nanmedian(in_diameters), rel=1e-6)
        assert found[f"missed{suffix}"] == pytest.approx(np.mean(~s[v == 1]))
        assert found[f"spurious{suffix}"] == pytest.approx(np.mean(s[v == 0]))
    output, truth, predicted = points(rng, confidence=False)
    predicted[0, 0, 0] = 1.2  # outside of the square
    truth[:, 0] = (0.5, 0.5, 1)
    assert cases_and_values(output, truth, predicted)[1]["missed_fovea"] == pytest.approx(1 / len(truth))


def test_a_disc_is_as_high_as_its_rows():
    mask = np.zeros((3, 10, 10), np.uint8)
    mask[0, 2:6, 3] = 1
    mask[1, 2], mask[1, 7] = 1, 1
    said = np.zeros((3, 10, 10, 3), np.float32)
    said[..., 0] = 1
    said[1, 3:6, :, :2] = 0, 1
    cases = kind_of(DISC).cases(DISC, mask, said)
    np.testing.assert_allclose(cases["true_height"], [[0.4, 0], [0.6, 0], [0, 0]])
    np.testing.assert_allclose(cases["found_height"], [[0, 0], [0.3, 0], [0, 0]])
