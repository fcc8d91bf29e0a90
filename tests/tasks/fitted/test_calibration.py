"""Curves from a network's probabilities to true ones: worked numbers, what they keep, what is none."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_realmnet.tasks.fitted.calibration import Calibration, Isotonic, Platt, Temperature
from keras_realmnet.tasks.outputs import Grades, Labels
from keras_realmnet.tasks.vocabulary import PALM
from tests.tasks.made_up import GRADES

CURVES = (Temperature(2.0), Platt(0.5, -1.0), Isotonic((0.2, 0.6), (0.1, 0.9)))


def test_worked_numbers():
    p = np.array([0.5, 0.8, 0.2])  # logits 0, 1.386, −1.386
    np.testing.assert_allclose(Temperature(2.0)(p), [0.5, 2 / 3, 1 / 3])  # odds 4 become their root, 2
    np.testing.assert_allclose(Platt(1.0, np.log(2))(p), [2 / 3, 8 / 9, 1 / 3])  # odds are doubled
    np.testing.assert_allclose(Isotonic((0.2, 0.6), (0.1, 0.9))(np.array([0.0, 0.4, 1.0])), [0.1, 0.5, 0.9])


@settings(max_examples=30)
@given(st.lists(st.floats(0, 1, width=32), min_size=2, max_size=8))
def test_a_curve_does_not_fall_and_stays_a_probability(values):
    rising = np.sort(np.array(values, np.float32))
    for curve in CURVES:
        calibrated = curve(rising)
        assert ((calibrated >= 0) & (calibrated <= 1)).all()
        assert (np.diff(calibrated) >= -1e-12).all()


def test_labels_are_calibrated_one_by_one():
    calibration = Calibration(dict(zip(PALM.codes, CURVES, strict=True)), "by hand")
    said = np.array([[0.8, 0.5, 0.4], [0.5, 0.5, 0.0]], np.float32)
    np.testing.assert_allclose(
        calibration.apply(Labels(PALM), said), [[2 / 3, 0.2689, 0.5], [0.5, 0.2689, 0.1]], atol=1e-4
    )
    assert calibration.apply(Labels(PALM), said).dtype == np.float32


def test_grades_add_up_to_one():
    said = np.array([[0.7, 0.2, 0.1], [1.0, 0.0, 0.0]], np.float32)
    for curve in CURVES:
        calibrated = Calibration(dict.fromkeys(GRADES.codes, curve), "by hand").apply(Grades(GRADES), said)
        np.testing.assert_allclose(calibrated.sum(axis=1), 1, atol=1e-6)
    nothing = Isotonic((0.0, 1.0), (0.0, 0.0))
    calibrated = Calibration(dict.fromkeys(GRADES.codes, nothing), "by hand").apply(Grades(GRADES), said)
    np.testing.assert_allclose(calibrated, 1 / 3)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Temperature(0.0), "above 0. Received: 0.0"),
        (lambda: Platt(-1.0, 0.0), "`slope` must be a number above 0"),
        (lambda: Isotonic((0.5, 0.5), (0.1, 0.2)), "scores that rise"),
        (lambda: Isotonic((0.1, 0.5), (0.2, 0.1)), "do not fall"),
        (lambda: Isotonic((), ()), "scores that rise"),
        (lambda: Calibration.from_dict({"curves": {"P": {"kind": "beta"}}, "chosen": ""}), "a curve must be one of"),
        (
            lambda: Calibration.from_dict({"curves": {"P": {"kind": "isotonic", "scores": ["1"]}}, "chosen": ""}),
            "scores of a curve are a list of numbers",
        ),
        (lambda: Calibration.from_dict([]), "has curves by code"),
    ],
)
def test_what_is_no_curve_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
