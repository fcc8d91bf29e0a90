import math

import numpy as np
import pytest

from training.data.files.notices import noticed
from training.data.files.points import as_point, fractions, outside

NAN = math.nan


@pytest.mark.parametrize(
    ("x", "y", "point"),
    [
        (3.5, 0, (3.5, 0, 1)),
        (0, 0, (NAN, NAN, 0)),
        (NAN, NAN, (NAN, NAN, NAN)),
        (-1, -1, (NAN, NAN, NAN)),
        (NAN, -1, (NAN, NAN, NAN)),
    ],
)
def test_what_two_fields_say(x, y, point):
    np.testing.assert_array_equal(as_point(x, y), point)


@pytest.mark.parametrize(("x", "y"), [(NAN, 3), (3, -1), (-2, 3), (3, -2)])
def test_half_a_point_and_negative_ones_are_refused(x, y):
    with pytest.raises(ValueError, match=r"both be known, or neither|must lie in its picture"):
        as_point(x, y)


def test_pixels_become_fractions():
    points = np.float32([[[0, 3, 1]], [[1, 1, 1]], [[NAN, NAN, 0]], [[NAN, NAN, NAN]]])
    expected = [[[0.5 / 8, 3.5 / 4, 1]], [[NAN] * 3], [[NAN, NAN, 0]], [[NAN] * 3]]
    np.testing.assert_array_equal(fractions(points, [(8, 4), None, None, (8, 4)]), np.float32(expected))
    assert points[1, 0, 0] == 1  # the argument stays


def test_points_outside_of_their_pictures():
    points = np.float32([[[8, 4, 1], [9, 1, 1]], [[99, 99, 1], [NAN, NAN, 0]], [[1, 5, 1], [NAN] * 3]])
    assert outside(points, [(8, 4), None, (8, 4)]) == [(0, 1), (2, 0)]


def test_a_notice_is_one_line_that_counts():
    many, few = noticed(("many", map(str, range(7))), ("none", []), ("few", ["a"]))
    assert (str(many), len(many)) == ("many: 7 (0, 1, 2, 3, 4 and 2 more)", 7)
    assert str(few) == "few: 1 (a)"
