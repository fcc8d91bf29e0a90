from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.training.tasks.vocabularies import DISC, LANDMARKS, SEVERITY, SPOTS, task
from training.datasets.image_set import ImageSet
from training.input.augment_workers import AugmentedImages, WorkerPool
from training.input.augmentation import Augmentation
from training.input.input_pipeline import TrainingBatches
from training.input.windows import Windows, check_windows, cut, places_of
from training.recipe import Recipe, override
from training.tasks.motion import IGNORE

SIZE, SIDE = 96, 32
STILL = Augmentation.none()


def pictures(count=3):
    """Each pixel says where it is (red: column, green: row), and blue that it is in the picture.

    Of three kinds of spots, row and column decide where the first is, the second is one pixel, the third is not known.
    """
    rows, columns = np.mgrid[:SIZE, :SIZE]
    pixels = np.stack([columns, rows, np.full_like(rows, 255)], axis=-1).astype(np.uint8)
    masks = np.zeros((SIZE, SIZE, 3), np.uint8)
    masks[..., 0] = (rows // 5 + columns // 7) % 11 == 0
    masks[70, 50, 1] = 1  # a single pixel
    masks[..., 2] = IGNORE
    masks[:10] = IGNORE  # beside the picture
    names = tuple(map(str, range(count)))
    stack = np.stack([masks] * count)
    stack[2, 10:, :, :2] = 0  # known to have nothing
    return ImageSet(np.stack([pixels] * count), {}, names, names, task(spots=SPOTS), "", masks={"spots": stack})


@given(st.integers(-40, 40), st.integers(-40, 40), st.integers(1, 50))
@settings(max_examples=60, deadline=None)
def test_cut(top, left, side):
    array = np.arange(30 * 20 * 2, dtype=np.uint8).reshape(30, 20, 2)
    wide = np.pad(array, ((100, 100), (100, 100), (0, 0)), constant_values=7)
    np.testing.assert_array_equal(
        cut(array, top, left, side, 7), wide[100 + top : 100 + top + side, 100 + left : 100 + left + side]
    )


def test_a_window_and_its_masks_are_of_one_place():
    data = pictures()
    source = AugmentedImages.of(data, SIZE, STILL, seed=1, windows=Windows(SIDE))
    corners = set()
    for epoch in range(20):
        images, moved = source.batch(epoch, range(3))
        assert images.shape == (3, SIDE, SIDE, 3)
        for k, (image, mask) in enumerate(zip(images, moved["spots"], strict=True)):
            left, top = image[0, 0, :2].astype(int)
            part = slice(top, top + SIDE), slice(left, left + SIDE)
            np.testing.assert_array_equal(image, data.image(k)[part])
            np.testing.assert_array_equal(mask, data.masks["spots"][k][part])
            corners.add((top, left))
    assert len(corners) > 30


def test_turned_windows_bring_in_what_lies_around_them():
    """Nothing black, and nothing unknown, but from beside the picture."""
    data = pictures()
    turned = replace(STILL, affine=1.0, rotation=180.0, scale=(0.8, 1.2), horizontal_flip=0.5)
    source = AugmentedImages.of(data, SIZE, turned, seed=1, windows=Windows(SIDE, around=1.0))
    inside = 0
    for epoch in range(20):
        images, moved = source.batch(epoch, [0, 1])
        for image, mask in zip(images.astype(int), moved["spots"], strict=True):
            columns, rows, there = np.moveaxis(image, -1, 0)
            deep = (there == 255) & (rows > 11)
            assert (mask[..., 0] != IGNORE)[deep].all()
            true = (rows // 5 + columns // 7) % 11 == 0
            assert (mask[..., 0] == true)[deep].mean() > 0.85  # spots of 5 by 7 pixels, bilinear against nearest
            inside += int(deep.all())
    assert inside > 5


def test_windows_are_about_labels_each_as_often():
    data = pictures()
    places = [places_of({"spots": mask}, {"spots": SPOTS}) for mask in data.masks["spots"]]
    assert [len(each.of_labels) for each in places] == [2, 2, 0]
    assert places[0].known == (10, 0, SIZE - 1, SIZE - 1)
    rng, windows = np.random.default_rng(0), Windows(SIDE, around=1.0)
    corners = np.array([windows.corner(places[0], SIZE, rng) for _ in range(400)])
    assert corners.min() >= 0
    assert corners.max() <= SIZE - SIDE
    (top, left) = corners.T
    holds_the_single = (top <= 70) & (top + SIDE > 70) & (left <= 50) & (left + SIDE > 50)
    assert 0.5 < holds_the_single.mean() < 0.75  # half of them for its sake, some for that of others
    anywhere = np.array([Windows(SIDE, around=0.0).corner(places[0], SIZE, rng) for _ in range(400)])
    holds_the_single = (anywhere <= (70, 50)).all(axis=1) & (anywhere + SIDE > (70, 50)).all(axis=1)
    assert 0.05 < holds_the_single.mean() < 0.4
    nothing = places_of({"spots": np.full((SIZE, SIZE, 3), IGNORE, np.uint8)}, {"spots": SPOTS})
    assert nothing.known == (0, 0, SIZE - 1, SIZE - 1)


def test_windows_depend_on_seed_epoch_and_index_alone():
    data, windows = pictures(), Windows(SIDE)
    source = AugmentedImages.of(data, SIZE, replace(STILL, affine=0.5), seed=4, windows=windows)
    pool = WorkerPool(source, processes=1)
    try:
        for epoch in (3, 0):
            mine, theirs = source.batch(epoch, [2, 0]), pool.batch(epoch, np.array([2, 0]))
            np.testing.assert_array_equal(mine[0], theirs[0])
            np.testing.assert_array_equal(mine[1]["spots"], theirs[1]["spots"])
    finally:
        pool.close()
    x, y = TrainingBatches(data, SIZE, 2, STILL, seed=4, named=True, windows=windows)[0]
    assert (x.shape, y["spots"].shape) == ((2, SIDE, SIDE, 3), (2, SIDE, SIDE, 3))


def test_windows_that_do_not_fit():
    for changes, message in (
        ({"side": 48}, "a side that 32 divides. Received: 48"),
        ({"side": 16}, "side must be .*32"),
        ({"side": 64, "per_image": 0}, "per_image must be .*at least 1"),
        ({"side": 64, "around": 1.5}, "around must be .*1"),
    ):
        with pytest.raises(ValueError, match=message):
            Windows(**changes)
    check_windows(task(dr=SEVERITY), None, (64,))
    check_windows(task(disc=DISC), Windows(64), (64, 96))
    with pytest.raises(ValueError, match=r"fit into pictures of 64 px\. Received: side=96"):
        check_windows(task(disc=DISC), Windows(96), (64, 128))
    with pytest.raises(ValueError, match=r"say nothing of dr \(grades\), marks \(points\)"):
        check_windows(task(dr=SEVERITY, disc=DISC, marks=LANDMARKS), Windows(64), (64,))
    with pytest.raises(ValueError, match="say nothing of probabilities"):
        Recipe("x", windows=Windows(64))


def test_a_recipe_keeps_its_windows():
    from training.recipes.lesions import lesions_lite

    recipe = lesions_lite.RECIPE
    assert Recipe.from_dict(recipe.to_dict()) == recipe
    assert override(recipe, "windows.side=256").windows == replace(recipe.windows, side=256)
    assert recipe.trained_size(1152) == recipe.windows.side
    assert override(recipe, "windows=None").trained_size(1152) == 1152
