import numpy as np
import pytest

from training.phantoms.grading import icdr_grade

NONE = {"microaneurysms": 0, "haemorrhages": np.zeros((0, 2)), "exudates": 0, "proliferative": 0}


def quadrants(*counts):
    """So many haemorrhages to the upper left, upper right, lower left and lower right."""
    corners = [(-1, -1), (1, -1), (-1, 1), (1, 1)]
    return np.repeat(np.array(corners, float), counts, axis=0)


@pytest.mark.parametrize(
    ("signs", "grade"),
    [
        ({}, 0),
        ({"microaneurysms": 40}, 1),
        ({"haemorrhages": quadrants(1, 0, 0, 0)}, 2),
        ({"microaneurysms": 3, "exudates": 1}, 2),
        ({"haemorrhages": quadrants(21, 21, 21, 20), "exudates": 9}, 2),
        ({"haemorrhages": quadrants(21, 21, 21, 21)}, 3),
        ({"haemorrhages": quadrants(21, 21, 21, 21), "proliferative": 1}, 4),
        ({"proliferative": 1}, 4),
    ],
)
def test_the_international_scale(signs, grade):
    assert icdr_grade(**{**NONE, **signs}) == grade
