"""Drawn diabetic retinopathy: its masks lie on what is seen, its grade follows from it, and all else stays the same."""

import cv2
import numpy as np
import pytest

from training.phantoms.drawing.colour.retinopathy import draw_retinopathy
from training.phantoms.photograph import ColourPhantom, render_photograph

WIDTH = 640


def photograph(seed: int, grade: int | None, **options) -> ColourPhantom:
    return render_photograph((5, seed), **{"width": WIDTH, "label": "N", "poor": False, **options}, retinopathy=grade)


@pytest.fixture(scope="module")
def photographs() -> list[ColourPhantom]:
    return [photograph(seed, seed % 5) for seed in range(20)]


def test_without_retinopathy_nothing_of_it_is_there():
    plain = photograph(1, None)
    assert (plain.lesions, plain.grade) == ({}, None)
    healthy = photograph(1, 0)
    assert healthy.grade == 0
    assert not any(mask.any() for mask in healthy.lesions.values())


def test_the_eye_is_the_same_with_it():
    plain, ill = photograph(2, None), photograph(2, 2)
    assert (ill.fovea, ill.disc_centre, ill.eye) == (plain.fovea, plain.disc_centre, plain.eye)
    np.testing.assert_array_equal(ill.disc_mask, plain.disc_mask)
    again = photograph(2, 2)
    np.testing.assert_array_equal(ill.image, again.image)
    lesions = np.maximum.reduce(list(ill.lesions.values()))
    near = cv2.dilate(lesions, np.ones((25, 25), np.uint8))
    difference = np.abs(ill.image.astype(int) - plain.image).max(axis=-1)
    assert difference[lesions == 1].mean() > 4 * difference[(near == 0) & plain.field_mask].mean()


def test_masks_lie_in_the_field_and_on_what_is_seen(photographs):
    """Green is darker in bleedings and brighter in exudates than around them."""
    shares = {"MA": [], "HE": [], "EX": [], "SE": []}
    for drawn in photographs:
        every = np.maximum.reduce(list(drawn.lesions.values()))
        free = ((cv2.dilate(every, np.ones((5, 5), np.uint8)) == 0) & drawn.field_mask & (drawn.disc_mask == 0)).astype(
            float
        )
        green = drawn.image[..., 1].astype(float)
        around = cv2.blur(green * free, (41, 41)) / np.maximum(cv2.blur(free, (41, 41)), 1e-3)
        for code, mask in drawn.lesions.items():
            assert (mask.shape, mask.dtype) == (drawn.image.shape[:2], np.uint8)
            assert not mask[~drawn.field_mask].any()
            inside = cv2.erode(mask, np.ones((3, 3), np.uint8)) == 1
            if code in shares and inside.sum() > 30:
                shares[code].append(np.median(green[inside] / np.maximum(around[inside], 1)))
    assert all(len(each) >= 3 for each in shares.values())
    assert max(np.median(shares["MA"]), np.median(shares["HE"])) < 0.95
    assert min(np.median(shares["EX"]), np.median(shares["SE"])) > 1.05


def test_grades_are_what_was_asked_for_or_less(photographs):
    grades = [drawn.grade for drawn in photographs]
    assert all(grade <= seed % 5 for seed, grade in enumerate(grades))
    assert grades.count(4) >= 3
    assert {0, 1, 2, 3} <= set(grades)
    for drawn in photographs:
        seen = {code for code, mask in drawn.lesions.items() if mask.any()}
        if drawn.grade == 0:
            assert not seen - {"MA", "HE"}  # at the rim, their centres beyond
        if drawn.grade == 1:
            assert "MA" in seen
        if drawn.grade == 4:
            assert seen & {"NV", "PHE"}


def test_the_same_at_every_width():
    large, small = photograph(8, 3, width=1200), photograph(8, 3, width=600)
    assert large.grade == small.grade
    for code in ("HE", "EX"):
        halved = cv2.resize(large.lesions[code], small.image.shape[1::-1], interpolation=cv2.INTER_AREA)
        both = (halved & small.lesions[code]).sum()
        assert both > 0.7 * halved.sum()


def test_no_lesion_on_disc_and_fovea():
    disc, fovea = np.array([0.06, 0.0]), np.array([-0.06, 0.0])
    for grade in range(5):
        eye = draw_retinopathy(np.random.default_rng(grade), disc, fovea, grade)
        bleedings = [spot.centre for spot in (*eye.microaneurysms, *eye.blots)]
        assert all(np.hypot(*(place - disc)) > 0.03 and np.hypot(*(place - fovea)) > 0.003 for place in bleedings)
        assert bool(eye.blots or eye.flames) == (grade >= 2)
        assert bool(eye.tufts or eye.preretinal) == (grade == 4)


def test_a_grade_that_there_is_not():
    with pytest.raises(ValueError, match=r"`retinopathy` must be a grade from 0 to 4 or None\. Received: 5"):
        photograph(1, 5)
