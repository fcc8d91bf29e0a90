import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_realmnet.tasks.rules import OperatingPoint
from keras_realmnet.tasks.vocabulary import PALM, PSMM
from tests.training.scoring.made_up import multilabel
from training.scoring.statistics.bootstrap import Bootstrap
from training.scoring.statistics.cases import Cases, pathologic
from training.scoring.statistics.scores import score_cases

NAN = np.nan


def test_pathologic_is_any_pathologic_label():
    y_score = np.array([[0.9, 0.1, 0.8, 0.2, 0.3, 0.05, 0.2], [0.1, 0.95, 0, 0.9, 0.3, 0.1, 0.1]])
    np.testing.assert_array_equal(pathologic(y_score, PSMM), [0.3, 0.95])
    one_unknown = np.array([[1, 0, 1, 0, NAN, 0, 0], [1, 0, 0, 0, NAN, 1, 0], [1, 0, 1, 0, 0, 0, 0]])
    np.testing.assert_array_equal(pathologic(one_unknown, PSMM), [NAN, 1, 0])


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
