"""A point and the mask around it move together, whatever happens to the image."""

from dataclasses import replace

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.interpolate import RegularGridInterpolator
from scipy.ndimage import map_coordinates

from training.input.augmentation import OPERATIONS, Augmentation, augment
from training.input.operations import elastic_displacement, resize_matrix
from training.tasks.motion import IGNORE, Motion

NONE = Augmentation.none()
MOVING = ("affine", "resize", "elastic", "horizontal_flip", "vertical_flip")
# Such that the disc that shows where the image went stays to be seen, and its centre that of what it becomes.
GENTLE = {
    "erase_area": (0.001, 0.002),
    "elastic_shift": 0.005,
    "flare_strength": (0.0, 0.1),
    "downsampling_factor": (1.0, 1.5),
}
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
    settings = replace(NONE, **dict.fromkeys(chosen, 1.0), rotation=45.0, **GENTLE)
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
    settings = replace(NONE, affine=0.7, elastic=0.5, horizontal_flip=0.5, vertical_flip=0.5)
    _, motion = augment(np.zeros((24, 24, 3), np.uint8), np.random.default_rng(seed), settings)
    together = motion.mask(masks)
    for k in range(masks.shape[-1]):
        np.testing.assert_array_equal(together[..., k], motion.mask(masks[..., k].copy()))


@given(
    seed=st.integers(0, 2**32 - 1),
    side=st.sampled_from([33, 64, 97]),
    at=st.tuples(st.floats(0.1, 0.9), st.floats(0.1, 0.9)),
    moving=st.sets(st.sampled_from(MOVING), min_size=1),
)
def test_a_point_stays_on_the_pixel_that_it_marked(seed, side, at, moving):
    """Of each pixel after the motion the mask says where it came from: that of the point's is where the point was."""
    x, y = (round(value * (side - 1)) for value in at)
    rows, columns = np.indices((side, side))
    origin = np.stack([columns, rows], axis=-1).astype(np.uint8)
    settings = replace(NONE, **dict.fromkeys(moving, 1.0), elastic_shift=0.025)
    _, motion = augment(np.zeros((side, side, 3), np.uint8), np.random.default_rng(seed), settings)
    point = motion.points(np.array([[(x + 0.5) / side, (y + 0.5) / side, 1]], np.float32))
    if point[0, 2] != 1:  # it has left the square
        return
    place = point[0, :2].astype(np.float64) * side - 0.5
    shown = forward(motion, place)
    np.testing.assert_allclose(shown, (x, y), atol=2e-3)
    column, row = np.clip(np.rint(place).astype(int), 0, side - 1)
    came_from = motion.mask(origin)[row, column]
    if (came_from == IGNORE).any():  # the nearest pixel shows what is just outside
        return
    # The nearest pixel is at most half a pixel away along each axis, and shows what is so many times that away.
    steps = [forward(motion, place + step) - shown for step in ((0.5, 0.5), (0.5, -0.5), (-0.5, 0.5), (-0.5, -0.5))]
    assert (np.abs(came_from - shown) <= 1.5 * np.abs(steps).max(axis=0) + 0.5).all()


def forward(motion, place) -> np.ndarray:
    """What a place (x, y) after a motion shows of the image before, worked out anew: SciPy and linear algebra."""
    height, width = motion.shape
    x, y = place
    x = width - 1 - x if motion.horizontal else x
    y = height - 1 - y if motion.vertical else y
    if motion.displacement is not None:
        axes = np.arange(height), np.arange(width)
        at = np.clip([y, x], 0, (height - 1, width - 1))
        dx, dy = (RegularGridInterpolator(axes, motion.displacement[..., k])(at)[0] for k in range(2))
        x, y = x + dx, y + dy
    matrix = np.vstack([np.eye(2, 3) if motion.matrix is None else motion.matrix, (0, 0, 1)])
    return np.linalg.solve(matrix, (x, y, 1))[:2]


@given(
    shape=st.tuples(st.integers(8, 90), st.integers(8, 90)),
    grid=st.integers(2, 8),
    seed=st.integers(0, 2**32 - 1),
    ends=st.booleans(),
)
def test_what_is_elastic_does_not_fold(shape, grid, seed, ends):
    """At the limit, and with nodes that pull against each other as hard as they may."""
    nodes = np.random.default_rng(seed).uniform(-1, 1, (grid, grid, 2))
    nodes = np.sign(nodes) if ends else nodes
    displacement = elastic_displacement(shape, nodes * 0.1 / grid).astype(np.float64) / (shape[1], shape[0])
    slopes = [np.abs(np.diff(displacement, axis=k)).max(axis=(0, 1)) * shape[k] for k in range(2)]
    assert max(slopes[0].max() + slopes[1].max(), 0) < 0.85


def test_images_and_masks_show_what_the_displacement_says():
    rng = np.random.default_rng(0)
    height, width = 40, 50
    image = cv2.GaussianBlur(rng.integers(0, 256, (height, width, 3)).astype(np.uint8), (0, 0), 1.5)
    mask = rng.integers(0, 3, (height, width)).astype(np.uint8)
    matrix = resize_matrix((height, width), (1.2, 0.9))
    displacement = elastic_displacement((height, width), rng.uniform(-0.02, 0.02, (4, 4, 2)))
    motion = Motion((height, width), matrix, displacement=displacement)
    places = [[forward(motion, (x, y)) for x in range(width)] for y in range(height)]
    at = np.moveaxis(np.array(places), -1, 0)[::-1]  # rows, columns
    inside = ((at > 0) & (at < np.array([height - 1, width - 1])[:, None, None])).all(axis=0)
    smooth = [map_coordinates(image[..., k].astype(float), at, order=1) for k in range(3)]
    assert np.abs(motion.image(image) - np.stack(smooth, axis=-1))[inside].max() < 4  # OpenCV has steps of 1/32 px
    sure = inside & (np.abs(at - np.floor(at) - 0.5) > 1e-3).all(axis=0)  # not in the middle between two
    rows, columns = np.clip(np.rint(at).astype(int), 0, np.array([height - 1, width - 1])[:, None, None])
    np.testing.assert_array_equal(motion.mask(mask)[sure], mask[rows, columns][sure])
    np.testing.assert_array_equal(motion.mask(mask)[(at < -0.51).any(axis=0)], IGNORE)


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
