"""Phantoms: the truth agrees with the picture and the labels."""

import hashlib

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_realmnet.tasks.vocabulary import PSMM
from training.phantoms.drawing import device
from training.phantoms.drawing.canvas import Picture
from training.phantoms.phantom import LESIONS, render

WIDTH = 192


def digest(image: np.ndarray) -> str:
    return hashlib.sha256(image.tobytes()).hexdigest()


def masks_of(phantom):
    names = ("field_mask", "lid_mask", "disc_mask", "cup_mask", "artery_mask", "vein_mask")
    return {name: getattr(phantom, name) for name in names} | phantom.lesion_masks


@settings(max_examples=25)
@given(
    seed=st.integers(0, 2**40),
    grade=st.sampled_from([None, 0, 1, 2, 3, 4]),
    staphyloma=st.sampled_from([None, False, True]),
    view=st.integers(0, 3),
)
def test_truth_is_consistent(seed, grade, staphyloma, view):
    phantom = render(seed, width=WIDTH, grade=grade, staphyloma=staphyloma, view=view)
    height = round(WIDTH * 3072 / 3900)
    assert phantom.image.shape == (height, WIDTH, 3)
    assert phantom.image.dtype == np.uint8
    labels = phantom.labels
    assert labels.dtype == np.uint8
    assert labels.shape == (len(PSMM),)
    assert labels[:2].sum() == 1
    assert labels[2:].sum() == 1
    shown = int(labels[2:].argmax())
    assert grade in (None, shown)
    assert staphyloma in (None, bool(labels[1]))

    masks = masks_of(phantom)
    assert set(phantom.lesion_masks) == set(LESIONS)
    for name, mask in masks.items():
        assert mask.shape == (height, WIDTH), name
        assert mask.dtype == bool, name
        assert not (mask & ~phantom.field_mask).any(), name
    lesions = phantom.lesion_masks
    assert lesions["staphyloma"].any() == bool(labels[1])
    assert lesions["macular_atrophy"].any() == (shown == 4)
    assert lesions["patchy_atrophy"].any() or shown != 3
    assert not lesions["patchy_atrophy"].any() or shown >= 3
    assert lesions["diffuse_atrophy"].any() or shown != 2
    assert not lesions["diffuse_atrophy"].any() or shown >= 2

    x, y = (round(value) for value in phantom.fovea)
    assert phantom.field_mask[y, x]
    assert lesions["macular_atrophy"][y, x] == (shown == 4)
    assert not lesions["patchy_atrophy"][y, x]
    assert not phantom.vessel_mask[y, x]
    # Disc: a round thing of a believable size that holds the cup.
    assert not (phantom.cup_mask & ~phantom.disc_mask).any()
    assert 0.03 < 2 * np.sqrt(phantom.disc_mask.sum() / np.pi) / WIDTH < 0.075
    assert 0.02 < phantom.vessel_mask.mean() < 0.2


@settings(max_examples=15)
@given(seed=st.integers(0, 2**31), eye=st.sampled_from(["OD", "OS"]), view=st.integers(0, 2))
def test_the_disc_is_on_the_nasal_side(seed, eye, view):
    phantom = render(seed, width=WIDTH, eye=eye, view=view)
    disc_x, disc_y = np.argwhere(phantom.disc_mask).mean(axis=0)[::-1]
    step = (disc_x - phantom.fovea[0]) / WIDTH
    assert phantom.eye == eye
    assert 0.09 < (step if eye == "OD" else -step) < 0.16  # in a right eye the disc is on the right of the fovea
    assert abs(disc_y - phantom.fovea[1]) / WIDTH < 0.06


def test_same_seed_same_bytes():
    first, again = (render((3, 1), width=WIDTH, view=2) for _ in range(2))
    assert digest(first.image) == digest(again.image)
    for name, mask in masks_of(first).items():
        assert np.array_equal(mask, masks_of(again)[name]), name
    others = [render((3, 2), width=WIDTH, view=2), render((3, 1), width=WIDTH, view=1)]
    assert len({digest(phantom.image) for phantom in (first, *others)}) == 3


@pytest.mark.parametrize(("seed", "grade"), [(1, 0), (2, 2), (3, 3), (4, 4)])
def test_every_width_shows_the_same_picture(seed, grade):
    wide, narrow = (render(seed, width=width, grade=grade, staphyloma=True) for width in (780, 195))
    assert np.array_equal(wide.labels, narrow.labels)
    assert wide.eye == narrow.eye
    np.testing.assert_allclose((np.array(wide.fovea) + 0.5) / 4, np.array(narrow.fovea) + 0.5, atol=0.75)
    shrunk = cv2.resize(wide.image, narrow.image.shape[1::-1], interpolation=cv2.INTER_AREA)
    assert np.abs(shrunk.astype(float) - narrow.image).mean() < 5
    for name, mask in masks_of(wide).items():
        if name in ("artery_mask", "vein_mask", "hemorrhage", "hard_exudate"):  # of about a pixel
            continue
        small = cv2.resize(mask.astype(np.float32), narrow.image.shape[1::-1], interpolation=cv2.INTER_AREA) > 0.5
        union = (small | masks_of(narrow)[name]).sum()
        least = 0.7 if name == "lid_mask" else 0.8  # lashes have whole pixels of width
        assert union == 0 or (small & masks_of(narrow)[name]).sum() / union > least, name


def test_labels_change_nothing_but_lesions():
    """Field, vessels, disc and cup, and the picture far from the posterior pole, do not depend on the labels."""
    for seed in range(4):
        plain, atrophic = (render(seed, width=WIDTH, grade=g, staphyloma=False) for g in (1, 4))
        for name in ("field_mask", "lid_mask", "disc_mask", "cup_mask", "artery_mask", "vein_mask"):
            assert np.array_equal(getattr(plain, name), getattr(atrophic, name)), name
        rows, columns = np.indices(plain.field_mask.shape)
        far = np.hypot(columns - plain.fovea[0], rows - plain.fovea[1]) > 0.4 * WIDTH
        assert far.any()
        assert np.array_equal(plain.image[far], atrophic.image[far])


def test_brightness_does_not_tell_the_grade():
    """Tessellation changes the pattern of the fundus, not its brightness: same seeds, periphery only."""
    means = []
    for grade in (0, 1, 4):
        phantoms = [render(seed, width=128, grade=grade, staphyloma=False) for seed in range(8)]
        far = []
        for phantom in phantoms:
            rows, columns = np.indices(phantom.field_mask.shape)
            distance = np.hypot(columns - phantom.fovea[0], rows - phantom.fovea[1])
            far.append(phantom.image[phantom.field_mask & (distance > 0.33 * 128)].mean(axis=0)[:2])
        means.append(np.mean(far, axis=0))
    np.testing.assert_allclose(means[1:], [means[0]] * 2, rtol=0.03)


def test_lids_and_lashes_lie_where_their_mask_is(monkeypatch):
    """Beside the mask a picture keeps about two thirds of what it shows without them; inside it is another one."""
    with_lids = [render(seed, width=WIDTH) for seed in range(6)]
    assert sum(phantom.lid_mask.any() for phantom in with_lids) >= 4

    def no_lids(canvas, rng):
        ones = np.ones((canvas.height, canvas.width), np.float32)
        return Picture(ones, ones), Picture(0 * ones, 0 * ones)

    monkeypatch.setattr(device, "_lids", no_lids)
    for seed, phantom in enumerate(with_lids):
        plain = render(seed, width=WIDTH)
        assert not plain.lid_mask.any()
        np.testing.assert_array_equal(plain.field_mask, phantom.field_mask)
        before, after = (each.image[..., :2].max(axis=-1).astype(float) for each in (plain, phantom))
        bright = phantom.field_mask & (before > 40)
        change = (after - before) / np.maximum(before, 1)
        assert np.mean(change[bright & ~phantom.lid_mask] > -0.45) > 0.995
        covered = change[bright & phantom.lid_mask]
        assert not len(covered) or np.mean(np.abs(covered) > 0.2) > 0.8


def test_lesions_are_seen():
    """Patches and macular atrophy are brighter than what surrounds them; vessels are darker."""
    for seed in range(6):
        phantom = render(seed, width=256, grade=4, staphyloma=False)
        green = phantom.image[..., 1].astype(float)
        patch = phantom.lesion_masks["macular_atrophy"]
        ring = cv2.dilate(patch.astype(np.uint8), np.ones((9, 9))).astype(bool) & ~patch & ~phantom.vessel_mask
        assert green[patch].mean() > 1.2 * green[ring].mean()
        plain = render(seed, width=512, grade=0, staphyloma=False)
        green = plain.image[..., 1].astype(float)
        for mask in (plain.vein_mask, plain.artery_mask):
            beside = cv2.dilate(mask.astype(np.uint8), np.ones((7, 7))).astype(bool) & plain.field_mask
            assert green[mask].mean() < 0.95 * green[beside & ~plain.vessel_mask].mean()


def test_views_of_one_eye_share_its_anatomy():
    first, second = (render(11, width=WIDTH, grade=3, view=view) for view in (0, 1))
    assert first.eye == second.eye
    assert np.array_equal(first.labels, second.labels)
    assert first.fovea != second.fovea

    def spread(phantom):  # disc to fovea, and disc diameter: equal but for the zoom of the view
        disc = np.argwhere(phantom.disc_mask).mean(axis=0)[::-1]
        return np.linalg.norm(disc - phantom.fovea) / np.sqrt(phantom.disc_mask.sum())

    assert spread(first) == pytest.approx(spread(second), rel=0.06)


@pytest.mark.parametrize(
    "arguments", [{"grade": 5}, {"grade": -1}, {"eye": "left"}, {"width": 10}, {"view": -1}, {"height": 3}]
)
def test_arguments_out_of_range_are_refused(arguments):
    with pytest.raises(ValueError, match="Received"):
        render(0, **arguments)
