"""A point and the mask around it move together, whatever happens to the image."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.input.augmentation import Augmentation, augment
from training.tasks.motion import IGNORE, Motion

NONE = Augmentation.none()
OPERATIONS = ("erase", "affine", "horizontal_flip", "vertical_flip", "blur", "jitter", "noise")
MOVING = ("affine", "horizontal_flip", "vertical_flip")
RADIUS = 6


def scene(x: float, y: float, side: int):
    """A grey image with a white disc at a point (pixels), the mask of the disc, and the point in fractions."""
    rows, columns = np.mgrid[:side, :side]
    mask = (np.hypot(columns - x, rows - y) <= RADIUS).astype(np.uint8)
    image = np.repeat((60 + 180 * mask)[..., None], 3, axis=-1).astype(np.uint8)
    return image, mask, np.array([[(x + 0.5) / side, (y + 0.5) / side, 1]], np.float32)


def centre(inside) -> np.ndarray:
    """x, y of the middle of what is true."""
    rows, columns = np.nonzero(inside)
    return np.array([columns.mean(), rows.mean()])


@pytest.mark.parametrize("operation", [*OPERATIONS, "all"])
@given(
    seed=st.integers(0, 2**32 - 1),
    side=st.sampled_from([48, 65, 96]),
    at=st.tuples(st.floats(0.35, 0.65), st.floats(0.35, 0.65)),
)
def test_a_point_and_the_mask_around_it_move_together(operation, seed, side, at):
    x, y = (value * (side - 1) for value in at)
    image, mask, point = scene(x, y, side)
    chosen = OPERATIONS if operation == "all" else (operation,)
    # Erasing would hide the disc that shows where the image went.
    settings = replace(NONE, **dict.fromkeys(chosen, 1.0), rotation=45.0, erase_area=(0.001, 0.002))
    augmented, motion = augment(image, np.random.default_rng(seed), settings)
    moved_mask, moved_point = motion.mask(mask), motion.points(point)
    assert set(np.unique(moved_mask)) <= {0, 1, IGNORE}
    assert moved_point[0, 2] == 1
    place = moved_point[0, :2] * side - 0.5
    np.testing.assert_allclose(place, centre(moved_mask == 1), atol=0.75)
    if operation not in MOVING and operation != "all":
        np.testing.assert_array_equal(moved_mask, mask)
        np.testing.assert_array_equal(moved_point, point)
    if operation != "all":  # colours and noise do not hide the disc, and the image went along
        grey = augmented.astype(int).sum(axis=-1)
        visible = grey > (grey[moved_mask == 1].mean() + grey[moved_mask == 0].mean()) / 2
        assert (visible == (moved_mask == 1))[moved_mask != IGNORE].mean() > 0.97


@given(seed=st.integers(0, 2**32 - 1), data=st.data())
def test_masks_of_several_labels_move_as_each_of_them(seed, data):
    rng = np.random.default_rng(seed)
    masks = rng.choice(np.array([0, 1, IGNORE], np.uint8), (24, 24, data.draw(st.integers(1, 7))))
    settings = replace(NONE, affine=0.7, horizontal_flip=0.5, vertical_flip=0.5)
    _, motion = augment(np.zeros((24, 24, 3), np.uint8), np.random.default_rng(seed), settings)
    together = motion.mask(masks)
    for k in range(masks.shape[-1]):
        np.testing.assert_array_equal(together[..., k], motion.mask(masks[..., k].copy()))


def test_flips_are_those_of_the_array():
    mask = np.arange(20, dtype=np.uint8).reshape(4, 5)
    points = np.array([[0.1, 0.125, 1], [np.nan, np.nan, 0], [np.nan, np.nan, np.nan]], np.float32)
    flipped = Motion((4, 5), None, horizontal=True, vertical=True)
    np.testing.assert_array_equal(flipped.mask(mask), mask[::-1, ::-1])
    np.testing.assert_allclose(flipped.points(points), [[0.9, 0.875, 1], *points[1:]], rtol=1e-6)
    np.testing.assert_array_equal(Motion((4, 5)).mask(mask), mask)


def test_what_comes_in_from_outside_is_not_known_and_what_leaves_is_not_visible():
    to_the_right = np.array([[1, 0, 3], [0, 1, 0]], np.float64)
    motion = Motion((8, 8), to_the_right)
    mask = motion.mask(np.ones((8, 8), np.uint8))
    np.testing.assert_array_equal(mask[:, :3], IGNORE)
    np.testing.assert_array_equal(mask[:, 3:], 1)
    points = motion.points(np.array([[0.5, 0.5, 1], [0.7, 0.5, 1]], np.float32))
    np.testing.assert_array_equal(points, np.array([[0.875, 0.5, 1], [np.nan, np.nan, 0]], np.float32))
    image = motion.image(np.full((8, 8, 3), 9, np.uint8))
    assert not image[:, :3].any()
    assert (image[:, 3:] == 9).all()
