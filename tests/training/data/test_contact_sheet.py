import numpy as np
import pytest

from training.data.contact_sheet import BACKGROUND, GAP, contact_sheet


def plain(color, height=40, width=40):
    return np.full((height, width, 3), color, np.uint8)


def test_images_lie_in_rows_scaled_into_squares():
    colors = [(200, 0, 0), (0, 200, 0), (0, 0, 200)]
    page = contact_sheet([plain(c) for c in colors], ["", "", ""], columns=2, side=100)
    assert page.shape == (224, 224, 3)  # the docstring's number
    assert page.dtype == np.uint8
    for k, color in enumerate(colors):
        top, left = GAP + k // 2 * (100 + GAP), GAP + k % 2 * (100 + GAP)
        np.testing.assert_array_equal(page[top : top + 100, left : left + 100].reshape(-1, 3), [color] * 10_000)
    np.testing.assert_array_equal(page[116:216, 116:216].reshape(-1, 3), [BACKGROUND] * 10_000)  # the empty place


def test_the_aspect_ratio_is_kept():
    page = contact_sheet([plain(250, 50, 200)], [""], columns=5, side=100)
    rows, columns = np.nonzero((page == 250).all(axis=2))
    assert (np.ptp(rows) + 1, np.ptp(columns) + 1) == (25, 100)


def test_captions_stand_beneath_and_stay_inside_of_their_column():
    names = ["short", "ShenzhenEye-2415460_OD_2020-12-27_2.jpg and much more than fits\nsecond line"]
    page = contact_sheet([plain(0)] * 2, names, columns=2, side=160)
    text = (page[GAP + 160 :] > 150).all(axis=2).any(axis=0)
    first, second = slice(GAP, GAP + 160), slice(2 * GAP + 160, 2 * GAP + 320)
    assert text[first].any()
    assert text[second].sum() > text[first].sum()
    assert not text[: first.start].any()
    assert not text[first.stop : second.start].any()
    assert not text[second.stop :].any()
    assert page.shape[0] > contact_sheet([plain(0)], ["short"], columns=1, side=160).shape[0]


def test_float_images_are_rounded_and_clipped():
    image = np.full((8, 8, 3), 99.6, np.float32)
    image[:4] = 300
    page = contact_sheet([image], [""], columns=1, side=8)
    np.testing.assert_array_equal(page[GAP : GAP + 4, GAP : GAP + 8], 255)
    np.testing.assert_array_equal(page[GAP + 4 : GAP + 8, GAP : GAP + 8], 100)


@pytest.mark.parametrize(
    ("images", "captions", "columns", "message"),
    [
        ([], [], 1, "0 images, 0 captions"),
        ([plain(0)], ["a", "b"], 1, "1 images, 2 captions"),
        ([plain(0)], ["a"], 0, "at least 1"),
        ([np.zeros((4, 4), np.uint8)], ["a"], 1, r"shape \(4, 4\)"),
    ],
)
def test_wrong_arguments_are_named(images, captions, columns, message):
    with pytest.raises(ValueError, match=message):
        contact_sheet(images, captions, columns)
