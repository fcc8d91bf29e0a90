import cv2
import numpy as np

from training.phantoms.borders import ellipses_around

SIDE = 500


def spots(*places, radius=5):
    mask = np.zeros((SIDE, SIDE), np.uint8)
    for x, y in places:
        cv2.circle(mask, (x, y), radius, 1, -1)
    return mask


def parts(mask):
    return cv2.connectedComponents(mask)[0] - 1


def test_they_are_wider_and_lose_nothing():
    lesions = spots((100, 100), (300, 120), (200, 400))
    marked = ellipses_around(lesions, np.random.default_rng(0))
    assert parts(marked) == 3
    assert (marked >= lesions).all()
    assert 1.3 < marked.sum() / lesions.sum() < 4
    assert not np.array_equal(marked, ellipses_around(lesions, np.random.default_rng(1)))
    assert np.array_equal(marked, ellipses_around(lesions, np.random.default_rng(0)))


def test_lesions_that_lie_close_together_share_one():
    assert parts(ellipses_around(spots((100, 100), (112, 100), radius=5), np.random.default_rng(0))) == 1
    marked = ellipses_around(spots((100, 100), (112, 100), (124, 100), radius=5), np.random.default_rng(0))
    rows, columns = np.nonzero(marked)
    assert np.ptp(columns) > 2 * np.ptp(rows)


def test_nothing_and_the_rim():
    assert not ellipses_around(spots(), np.random.default_rng(0)).any()
    corner = spots((0, 0), (SIDE - 1, SIDE - 1))
    assert (ellipses_around(corner, np.random.default_rng(0)) >= corner).all()
