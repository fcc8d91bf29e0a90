"""Drawn photographs: the same every time, with a truth that fits the picture, and taken for what they are."""

import cv2
import numpy as np
import pytest

from keras_realmnet.screening.quality import assess
from keras_realmnet.tasks.vocabulary import PALM
from training.phantoms.photograph import ColourPhantom, render_photograph

SEEDS = range(20)


@pytest.fixture(scope="module")
def photographs() -> list[ColourPhantom]:
    """Sound photographs of the three classes in turn."""
    return [
        render_photograph((3, seed), width=512, label=PALM.codes[seed % 3], eye=("OD", "OS")[seed % 2], poor=False)
        for seed in SEEDS
    ]


def whole(photograph: ColourPhantom) -> bool:
    """Whether all of the disc is in the field."""
    grown = cv2.dilate(photograph.disc_mask, np.ones((3, 3), np.uint8))
    return bool(grown.any() and photograph.field_mask[grown == 1].all())


def near(photograph: ColourPhantom, point: tuple[float, float], low: float, high: float) -> np.ndarray:
    """The pixels of the field between two distances from a point, in image widths."""
    height, width = photograph.field_mask.shape
    y, x = np.mgrid[:height, :width]
    distance = np.hypot(x - point[0], y - point[1]) / width
    return (distance >= low) & (distance < high) & photograph.field_mask


def test_a_seed_is_a_photograph():
    first, again = (render_photograph((3, 1), width=300) for _ in range(2))
    for name in ("image", "disc_mask", "cup_mask", "field_mask"):
        assert getattr(first, name).tobytes() == getattr(again, name).tobytes()
    for name in ("fovea", "disc_centre", "label", "eye", "poor"):
        assert getattr(first, name) == getattr(again, name)
    other = render_photograph((3, 2), width=300)
    assert other.fovea != first.fovea


def test_types_and_shapes(photographs):
    for photograph in photographs:
        height, width = photograph.image.shape[:2]
        assert (width, photograph.image.shape[2], photograph.image.dtype) == (512, 3, np.uint8)
        assert 0.6 * width < height <= width
        for mask in (photograph.disc_mask, photograph.cup_mask):
            assert (mask.shape, mask.dtype) == ((height, width), np.uint8)
            assert mask.max() <= 1
        assert (photograph.field_mask.shape, photograph.field_mask.dtype) == ((height, width), bool)
    assert {photograph.label for photograph in photographs} == set(PALM.codes)


def test_the_disc_is_where_its_truth_says(photographs):
    complete = [photograph for photograph in photographs if whole(photograph)]
    assert len(complete) >= 12
    for photograph in complete:
        centre = np.argwhere(photograph.disc_mask).mean(axis=0)[::-1]
        assert centre == pytest.approx(photograph.disc_centre, abs=0.3)
        assert 0 < photograph.cup_mask.sum() < photograph.disc_mask.sum()
    for photograph in photographs:
        assert not (photograph.cup_mask > photograph.disc_mask).any()
        assert not photograph.disc_mask[~photograph.field_mask].any()


def test_atrophy_is_where_its_truth_says(photographs):
    """Paler than the rest, within the field, and of pathologic eyes alone."""
    paler = []
    for photograph in photographs:
        atrophy = photograph.atrophy_mask
        assert (atrophy.shape, atrophy.dtype) == (photograph.field_mask.shape, bool)
        assert not (atrophy & ~photograph.field_mask).any()
        assert photograph.label == "P" or not atrophy.any()
        beside = photograph.field_mask & ~atrophy & (photograph.disc_mask == 0)
        if atrophy.any():
            green = photograph.image[..., 1]
            paler.append(np.median(green[atrophy]) / np.median(green[beside]))
    assert len(paler) >= 5
    assert np.median(paler) > 1.15


def test_sizes_are_those_of_real_eyes(photographs):
    """Discs 0.11 to 0.25 of the field wide, and about as far from the fovea as in IDRiD: 0.34 to 0.43 (5 to 95 %)."""
    distances = []
    for photograph in photographs:
        field = np.flatnonzero(photograph.field_mask.any(axis=0))
        width = np.ptp(field) + 1
        beside, below = np.array(photograph.fovea) - photograph.disc_centre
        assert (beside < 0) == (photograph.eye == "OD")  # the disc is on the nasal side
        distances.append(np.hypot(beside, below) / width)
        if whole(photograph):
            assert 0.11 < 2 * np.sqrt(photograph.disc_mask.sum() / np.pi) / width < 0.25
    assert 0.35 < np.median(distances) < 0.43
    assert np.mean([photograph.fovea[1] > photograph.disc_centre[1] for photograph in photographs]) > 0.8


def test_the_truth_is_seen():
    """The disc is brighter than what is around it; the fovea is darker, but where a reflex or the light hides it."""
    seen = []
    for seed in range(16):
        photograph = render_photograph((4, seed), width=400, label="N", poor=False)
        green = cv2.GaussianBlur(photograph.image[..., 1].astype(np.float32), (0, 0), 2)
        if photograph.shows(photograph.disc_centre):
            around = near(photograph, photograph.disc_centre, 0.13, 0.18)
            assert green[photograph.disc_mask == 1].mean() > 1.15 * np.median(green[around])
        if photograph.shows(photograph.fovea):
            pit, around = near(photograph, photograph.fovea, 0, 0.02), near(photograph, photograph.fovea, 0.1, 0.14)
            seen.append(green[pit].mean() < np.median(green[around]))
    assert len(seen) >= 10
    assert np.mean(seen) >= 0.8


@pytest.mark.parametrize("seed", [0, 5, 6])
def test_the_same_at_every_width(seed):
    small, large = (render_photograph((3, seed), width=width, poor=False) for width in (300, 900))
    for point in ("fovea", "disc_centre"):
        scaled = (np.array(getattr(large, point)) + 0.5) / 3 - 0.5
        assert scaled == pytest.approx(getattr(small, point), abs=1e-6)
    reduced = cv2.resize(large.image, small.image.shape[1::-1], interpolation=cv2.INTER_AREA)
    assert np.abs(reduced.astype(float) - small.image).mean() < 4
    mask = cv2.resize(large.disc_mask, small.image.shape[1::-1], interpolation=cv2.INTER_NEAREST)
    assert (mask & small.disc_mask).sum() / (mask | small.disc_mask).sum() > 0.9


def test_views_are_photographs_of_one_eye():
    def spread(photograph):  # the eye's own, whatever the camera: how far the disc from the fovea, in its diameters
        apart = np.subtract(photograph.fovea, photograph.disc_centre)
        return np.hypot(*apart) / np.sqrt(photograph.disc_mask.sum())

    views = [render_photograph(8, width=512, label="N", eye="OD", view=view, poor=False) for view in range(8)]
    spreads = [spread(photograph) for photograph in views if whole(photograph)]
    assert len(spreads) >= 3
    assert spreads == pytest.approx([spreads[0]] * len(spreads), rel=0.02)
    assert len({photograph.fovea for photograph in views}) == len(views)
    assert len({photograph.image.shape for photograph in views}) > 1  # of cameras


def test_points_outside_of_the_field_are_told(photographs):
    for photograph in photographs:
        height, width = photograph.field_mask.shape
        assert photograph.shows((width / 2, height / 2))
        assert not photograph.shows((0, 0))
        assert not photograph.shows((-3, height / 2))
        assert not photograph.shows((width / 2, height + 2))
        assert photograph.image[~photograph.field_mask].mean() < 12


def test_the_gate_takes_them_for_colour_fundus_photographs(photographs):
    for photograph in photographs:
        assert assess(photograph.image, None, "colour_fundus").verdict == "gradable"
        assert assess(photograph.image, None, "uwf_red_green").verdict == "not_analysed"


def test_poor_ones_are_worse():
    worse = []
    for seed in SEEDS:
        sound, poor = (
            assess(render_photograph((5, seed), width=512, poor=poor).image, None, "colour_fundus")
            for poor in (False, True)
        )
        assert poor.verdict in ("gradable", "insufficient")
        # Dark, blurred or veiled.
        worse += [
            poor.measures["brightness"] < 0.7 * sound.measures["brightness"]
            or poor.measures["sharpness"] < 0.85 * sound.measures["sharpness"]
            or poor.measures["saturation"] < 0.9 * sound.measures["saturation"]
        ]
    assert np.mean(worse) > 0.9
    marked = [render_photograph((6, seed), width=64).poor for seed in range(60)]
    assert 0 < sum(marked) < 20


@pytest.mark.parametrize("arguments", [{"label": "A2"}, {"eye": "left"}, {"width": 10}, {"view": -1}])
def test_arguments_out_of_range_are_refused(arguments):
    with pytest.raises(ValueError, match="Received"):
        render_photograph(0, **arguments)
