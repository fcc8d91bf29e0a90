import re
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from training.input.augmentation import (
    ADDED,
    OPERATIONS,
    Augmentation,
    affine_matrix,
    augment,
    color_jitter,
    cutmix,
    mix_batch,
    mixup,
)
from training.input.operations import compressed
from training.tasks.motion import Motion

NONE = Augmentation.none()
PUBLISHED = ("erase", "affine", "horizontal_flip", "vertical_flip", "blur", "jitter", "noise")
GOLDEN = np.load(Path(__file__).parents[2] / "goldens" / "augmentation.npz")


def image(size=32, seed=0):
    return np.random.default_rng(seed).integers(40, 216, (size, size, 3)).astype(np.uint8)


def changed(*arguments) -> np.ndarray:
    """The image alone."""
    return augment(*arguments)[0]


def moved(source, seed, settings) -> np.ndarray:
    """The image after the affine change alone, always."""
    shape = source.shape[:2]
    return Motion(shape, affine_matrix(shape, np.random.default_rng(seed), settings)).image(source)


@pytest.mark.parametrize(("name", "chance"), [("always", 1.0), ("often", 0.5)])
def test_images_are_those_of_the_code_before_there_were_masks_and_points(name, chance):
    """Arrays saved when only images were augmented: the same draws, byte by byte."""
    settings = replace(Augmentation(), **dict.fromkeys(PUBLISHED, chance))
    for k, expected in enumerate(GOLDEN[name]):
        np.testing.assert_array_equal(changed(image(20, k), np.random.default_rng((7, k)), settings), expected)


@pytest.mark.parametrize("chance", [0.5, 1.0])
@pytest.mark.parametrize(
    "still",
    [
        {"resize": 1, "resize_factor": (1, 1)},
        {"sun_flare": 1, "flare_strength": (0, 0)},
        {"gamma": 1, "gamma_exponent": (1, 1)},
        {"rgb_shift": 1, "rgb_limit": 0},
        {"iso_noise": 1, "iso_gain": (0, 0)},
        {"sharpness": 1, "sharpness_amount": (0, 0)},
        {"downsampling": 1, "downsampling_factor": (1, 1)},
        {"jpeg": 1, "jpeg_quality": (90, 90)},
    ],
    ids=lambda still: next(iter(still)),
)
def test_an_operation_that_is_added_shifts_no_draw_of_the_others(still, chance):
    settings = replace(Augmentation(), **dict.fromkeys(PUBLISHED, chance), **still)
    name = "always" if chance == 1 else "often"
    for k, expected in enumerate(GOLDEN[name]):
        expected = compressed(expected, 90) if "jpeg" in still else expected
        np.testing.assert_array_equal(changed(image(20, k), np.random.default_rng((7, k)), settings), expected)


def test_an_elastic_change_shifts_no_draw_of_the_others_either():
    settings = replace(Augmentation(), **dict.fromkeys(PUBLISHED, 0.5))
    for k in range(20):
        (_, without), (_, with_it) = (
            augment(image(20, k), np.random.default_rng(k), each) for each in (settings, replace(settings, elastic=1))
        )
        np.testing.assert_array_equal(without.matrix, with_it.matrix)
        assert (without.horizontal, without.vertical) == (with_it.horizontal, with_it.vertical)
        assert without.displacement is None
        assert with_it.displacement is not None


def test_none_changes_nothing():
    np.testing.assert_array_equal(changed(image(), np.random.default_rng(0), NONE), image())
    images, labels = np.ones((4, 8, 8, 3), np.float32), np.eye(4, dtype=np.float32)
    mixed = mix_batch(images, {"y": labels}, np.random.default_rng(0), NONE)
    assert mixed[0] is images
    assert mixed[1]["y"] is labels


def test_same_seed_same_image_and_the_input_is_left_alone():
    always = replace(NONE, **dict.fromkeys(OPERATIONS, 1))
    source = image()
    first = changed(source, np.random.default_rng((1, 2)), always)
    np.testing.assert_array_equal(first, changed(source, np.random.default_rng((1, 2)), always))
    assert (first != changed(source, np.random.default_rng((1, 3)), always)).any()
    np.testing.assert_array_equal(source, image())
    assert first.dtype == np.uint8
    assert first.shape == source.shape


def test_what_is_added_is_off():
    assert set(OPERATIONS) == {*PUBLISHED, *ADDED}
    assert all(getattr(Augmentation(), name) == 0 for name in ADDED)


@pytest.mark.parametrize("name", OPERATIONS)
def test_each_operation_has_its_own_probability(name):
    settings = replace(NONE, **{name: 0.3}, blur_sigma=(0.5, 1.0))
    count = 1000 if name in PUBLISHED else 300
    others = [(changed(image(), np.random.default_rng(k), settings) != image()).any() for k in range(count)]
    assert abs(np.mean(others) - 0.3) < 5 * np.sqrt(0.3 * 0.7 / count)


def test_operations_happen_independently():
    both = replace(NONE, horizontal_flip=0.5, vertical_flip=0.5)
    flips = [image(), image()[:, ::-1], image()[::-1], image()[::-1, ::-1]]
    counts = np.zeros(4)
    for k in range(1000):
        result = changed(image(), np.random.default_rng(k), both)
        counts += [np.array_equal(result, flip) for flip in flips]
    assert counts.sum() == 1000
    assert (abs(counts - 250) < 5 * np.sqrt(1000 * 0.25 * 0.75)).all()


def test_erasing_fills_a_rectangle_of_the_stated_area():
    settings = replace(NONE, erase=1)
    for k in range(50):
        erased = (changed(np.zeros((100, 100, 3), np.uint8), np.random.default_rng(k), settings) == 128).all(axis=2)
        rows, columns = np.flatnonzero(erased.any(axis=1)), np.flatnonzero(erased.any(axis=0))
        assert erased.sum() == len(rows) * len(columns)  # one full rectangle
        assert 0.04 <= erased.mean() <= 0.31  # .05 to .3, up to rounding
        assert 0.28 <= len(rows) / len(columns) <= 3.5


def test_affine_without_ranges_is_the_identity_and_rotation_turns_about_the_centre():
    still = replace(NONE, scale=(1, 1), rotation=0, shear=0)
    np.testing.assert_array_equal(moved(image(), 0, still), image())
    disc = np.zeros((65, 65, 3), np.uint8)
    cv2.circle(disc, (32, 32), 12, (255, 255, 255), -1)
    for k in range(20):
        turned = moved(disc, k, replace(still, rotation=90))
        assert abs(turned.astype(int) - disc).mean() < 3
        grown = moved(disc, k, replace(still, scale=(1.2, 1.2)))
        assert grown.sum() / disc.sum() == pytest.approx(1.44, rel=0.03)


def test_color_jitter_matches_the_plain_definition():
    settings = replace(NONE, hue=0)
    for k in range(20):
        rng = np.random.default_rng(k)
        b, c, s = 1 + rng.uniform(-1, 1, 3) * 0.25
        x = image().astype(float)
        luma = [0.299, 0.587, 0.114]
        x = s * x + (1 - s) * (x @ luma)[..., None]
        x = b * (c * x + (1 - c) * (image() @ luma).mean())
        result = color_jitter(image(), np.random.default_rng(k), settings)
        assert abs(result - np.clip(x, 0, 255)).max() <= 1


def test_a_turn_of_the_hue_keeps_the_value():
    settings = replace(NONE, brightness=0, contrast=0, saturation=0, hue=0.25)
    result = color_jitter(image(), np.random.default_rng(1), settings)
    assert abs(result.max(axis=2).astype(int) - image().max(axis=2)).max() <= 2
    assert (result != image()).any()


def test_noise_has_the_stated_variance():
    settings = replace(NONE, noise=1, noise_variance=(30.0, 30.0))
    grey = np.full((200, 200, 3), 128, np.uint8)
    noise = changed(grey, np.random.default_rng(0), settings).astype(float) - 128
    assert abs(noise.mean()) < 0.1
    assert noise.var() == pytest.approx(30 + 1 / 12, rel=0.03)  # rounding adds 1/12


def test_mixup_weighs_images_and_labels_alike():
    rng = np.random.default_rng(0)
    labels = np.eye(8, dtype=np.float32)
    images = labels[:, None, None, :3] * np.ones((1, 4, 4, 1), np.float32)
    mixed, targets = mixup(images, {"y": labels}, rng, 0.6)
    np.testing.assert_allclose(mixed[:, 0, 0], targets["y"][:, :3], rtol=1e-6)
    np.testing.assert_allclose(targets["y"].sum(axis=1), 1, rtol=1e-6)


def test_cutmix_labels_follow_the_area():
    labels = np.eye(8, dtype=np.float32)
    images = np.broadcast_to(labels[:, None, None, :], (8, 16, 16, 8)).copy()
    for k in range(20):
        mixed, targets = cutmix(images, {"y": labels}, np.random.default_rng(k), 1.0)
        np.testing.assert_allclose(mixed.mean(axis=(1, 2)), targets["y"], atol=1e-6)


def test_a_batch_is_mixed_up_or_cut_or_neither():
    labels = np.eye(4, dtype=np.float32)
    images = np.random.default_rng(0).random((4, 16, 16, 3)).astype(np.float32)
    kinds = {"none": 0, "mixup": 0, "cutmix": 0}
    for k in range(1000):
        mixed, targets = mix_batch(images, {"y": labels}, np.random.default_rng(k), Augmentation())
        assert mixed.dtype == targets["y"].dtype == np.float32
        if mixed is images:
            kinds["none"] += 1
        else:  # a cut leaves every pixel that of some image
            whole = (mixed[0][None] == images).all(axis=-1).any(axis=0).all()
            kinds["cutmix" if whole else "mixup"] += 1
    # A permutation may leave image 0 in its place, which looks like a cut: a quarter of the mixups.
    assert abs(kinds["none"] - 400) < 5 * np.sqrt(240)
    assert abs(kinds["mixup"] - 225) < 5 * np.sqrt(175)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"mixup": 0.6, "cutmix": 0.6}, "mixup + cutmix must be at most 1. Received: 0.6 + 0.6"),
        ({"blur": 1.2}, "blur must be a number at least 0 and at most 1. Received: 1.2"),
        ({"noise": -0.1}, "noise must be a number at least 0 and at most 1. Received: -0.1"),
        ({"jpeg_quality": (50, 40)}, "jpeg_quality must be two values, each a whole number, 1 … 100, not falling. Rec"),
        ({"elastic_shift": 0.05}, "elastic_shift times elastic_grid must be at most 0.1, or images fold. Rec"),
    ],
)
def test_impossible_probabilities_are_refused(settings, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}"):
        Augmentation(**settings)
