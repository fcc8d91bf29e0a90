import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from export.explanations.explained import SHOWN, Found
from export.explanations.pictures import Picture
from export.explanations.pointing import energy_inside, examples, pointing, points_at
from keras_realmnet.screening.preprocessing import FieldGeometry

GEOMETRY = FieldGeometry(source=(280, 280), box=(0, 0, 280, 280), size=140)


@given(row=st.integers(1, 5), column=st.integers(1, 5))
def test_a_map_points_at_where_its_peak_lies_on_the_image(row, column):
    geometry = FieldGeometry(source=(300, 400), box=(40, 30, 360, 270), size=224)  # 28 rows of padding in the square
    class_map = np.zeros((7, 7), np.float32)
    class_map[row, column] = 1
    x, y = geometry.to_source(np.array([[32 * column + 15.5, 32 * row + 15.5]]))[0]
    rows, columns = np.indices((300, 400))
    around = (abs(rows - y) <= 2) & (abs(columns - x) <= 2)
    assert points_at(class_map, geometry, around)
    assert not points_at(class_map, geometry, ~around)
    assert not points_at(0 * class_map, geometry, around | ~around)  # nothing speaks for the label


def test_energy_is_the_share_of_the_map_within_the_lesion():
    everywhere, left = np.ones((280, 280), bool), np.zeros((280, 280), bool)
    left[:, :140] = True
    flat = np.ones((7, 7), np.float32)
    assert energy_inside(flat, GEOMETRY, everywhere, left) == pytest.approx(0.5)
    assert energy_inside(flat, GEOMETRY, left, left) == pytest.approx(1)  # what lies outside of the field is left out
    ramp = flat * np.arange(7, dtype=np.float32)  # symmetric about the middle but for its slope
    assert energy_inside(ramp, GEOMETRY, everywhere, ~left) + energy_inside(
        ramp, GEOMETRY, everywhere, left
    ) == pytest.approx(1)
    assert energy_inside(ramp, GEOMETRY, everywhere, left) < 0.3
    assert energy_inside(0 * flat, GEOMETRY, everywhere, left) == 0


def found(patient: str, row: int, column: int, code: str = "A3") -> Found:
    """A lesion in the cell (1, 1) of seven, and a map whose peak lies in the cell (row, column)."""
    lesion, class_map = np.zeros((280, 280), bool), np.zeros((7, 7), np.float32)
    lesion[40:80, 40:80] = True
    class_map[row, column] = 1
    picture = Picture(patient, np.zeros((140, 140, 3), np.uint8), GEOMETRY, np.ones((280, 280), bool), {code: lesion})
    return Found(code, 0.9, picture, {SHOWN: class_map, "other": np.ones((7, 7), np.float32)})


def test_shares_are_beside_those_of_centre_and_chance_with_intervals_by_patient():
    measured = pointing([found("a", 1, 1), found("b", 1, 1), found("b", 5, 5), found("c", 1, 1, "S1")], 200)
    assert list(measured) == ["A3", "S1", "all"]
    of_all = measured["all"]
    assert (of_all.maps, of_all.patients) == (4, 3)
    assert of_all.hits[SHOWN].value == 0.75
    assert of_all.hits["centre"].value == 0
    # The lesion is a 49th of the field; with half a cell around it, corners rounded, less than four of them.
    assert of_all.energy["random"].value == pytest.approx(1 / 49)
    assert 3 / 49 < of_all.hits["random"].value < 4 / 49
    assert of_all.energy[SHOWN].value > 10 * of_all.energy["random"].value
    assert of_all.energy["other"].value == pytest.approx(1 / 49, abs=1e-3)
    assert of_all.hit_differences["centre"].value == 0.75
    assert of_all.hits[SHOWN].low < 0.75 < of_all.hits[SHOWN].high
    assert measured["A3"].hits[SHOWN].value == pytest.approx(2 / 3)


def test_an_example_of_each_label_has_its_lesion_outlined():
    shown = examples([found("a", 1, 1), found("c", 1, 1, "S1")])
    assert list(shown) == ["A3", "S1"]
    assert shown["A3"][SHOWN].image.any()  # of a black picture: the outline
