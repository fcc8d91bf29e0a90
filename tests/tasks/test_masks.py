"""From probabilities to masks, from masks to outlines."""

import json
from dataclasses import replace

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from edge_app.present.segmentation import filled
from keras_realmnet.screening.preprocessing import FieldGeometry
from keras_realmnet.tasks.findings import MaskFinding, finding_from_dict
from keras_realmnet.tasks.masks import binary_mask, borders_of, found_masks, outlines_of, polygons
from keras_realmnet.tasks.measures import VerticalRatio
from keras_realmnet.tasks.outputs import Masks, output_from_dict
from keras_realmnet.tasks.rules import NoReferral
from keras_realmnet.tasks.task import Task
from tests.tasks.made_up import DISC

DISC_AND_CUP = Masks(DISC, single=True, within=(("cup", "disc"),))
TOUCHING = np.ones((3, 3), int)  # also over corners


@settings(max_examples=60)
@given(st.integers(1, 40), st.integers(1, 40), st.integers(0, 10_000), st.floats(0.02, 0.6))
def test_outlines_enclose_what_the_mask_holds(width, height, seed, density):
    """Drawn again, they give the mask without its holes; each part has one that does not lie in another's hole."""
    mask = (np.random.default_rng(seed).random((height, width)) < density).astype(np.uint8)
    outlines = outlines_of(mask)
    fine = 8
    drawn = np.zeros((height * fine, width * fine), np.uint8)
    for outline in outlines:
        cv2.fillPoly(drawn, [np.round((outline + 0.5) * fine - 0.5).astype(np.int32)], 1)
    inside = drawn.reshape(height, fine, width, fine).mean(axis=(1, 3)) > 0.5
    assert inside[mask > 0].all()
    filled = mask.copy()
    contours, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    assert len(outlines) == len(contours)
    cv2.drawContours(filled, contours, -1, 1, cv2.FILLED)
    assert (inside == (filled > 0)).mean() > 0.97  # corners of a chessboard touch


@settings(max_examples=60)
@given(st.integers(1, 40), st.integers(1, 40), st.integers(0, 10_000), st.floats(0.02, 0.98))
def test_borders_of_what_branches_give_its_mask_back(width, height, seed, density):
    """With parts in holes, and holes in these; an odd number of borders is around a pixel of the mask."""
    mask = (np.random.default_rng(seed).random((height, width)) < density).astype(np.uint8)
    outlines, holes = borders_of(mask)
    assert len(outlines) == ndimage.label(mask, TOUCHING)[1]
    assert len(holes) == ndimage.label(np.pad(1 - mask, 1, constant_values=1))[1] - 1
    wrong = (filled(polygons([*outlines, *holes]), mask.shape) != mask).sum()
    assert wrong <= max(3, 0.03 * mask.size)  # corners of a chessboard touch


def test_a_ring_with_a_dot_in_it_is_drawn_again_as_it_was():
    mask = np.zeros((40, 40), np.uint8)
    cv2.circle(mask, (20, 20), 15, 1, 3)
    mask[19:22, 18:23] = 1
    outlines, holes = borders_of(mask)
    assert (len(outlines), len(holes)) == (2, 1)
    np.testing.assert_array_equal(filled(polygons([*outlines, *holes]), mask.shape), mask)
    assert [part.tolist() for part in outlines_of(mask)] == [outlines[0].tolist()]


@pytest.mark.parametrize("name", ["outlines", "holes"])
def test_borders_that_are_none_are_refused(name):
    values = {**MaskFinding("vessels", "set", "VES", "Vessels", ()).to_dict(), name: None}
    with pytest.raises(ValueError, match=f"{name} are lists of corners"):
        finding_from_dict(values)


def test_masks_branch_or_are_single():
    with pytest.raises(ValueError, match="`single`, whose holes are filled, or `branching`"):
        Masks(DISC, single=True, branching=True)
    branching = Masks(DISC, branching=True)
    assert output_from_dict(branching.to_dict()) == branching
    assert "branching" not in Masks(DISC).to_dict()


def test_a_single_structure_is_its_largest_part_without_holes():
    probability = np.zeros((20, 20))
    probability[2:12, 2:12] = 0.9
    probability[5:7, 5:7] = 0.1
    probability[15:18, 15:18] = 0.8
    mask = binary_mask(probability, 0.5, single=True)
    assert mask.sum() == 100
    assert binary_mask(probability, 0.5, single=False).sum() == 100 - 4 + 9


def clouds(seed: int, side: int, grain: float) -> np.ndarray:
    """Probabilities (side, side, 2) in clouds that overlap, with holes."""
    noise = np.random.default_rng(seed).normal(size=(side, side, 2))
    smooth = ndimage.gaussian_filter(noise, (grain, grain, 0))
    return (1 / (1 + np.exp(-4 * smooth / smooth.std()))).astype(np.float32)


def largest_filled(mask: np.ndarray) -> set[bytes]:
    """Each part of the largest size, its holes filled."""
    parts, count = ndimage.label(mask, TOUCHING)
    sizes = ndimage.sum_labels(mask, parts, range(1, count + 1))
    largest = [k for k in range(1, count + 1) if sizes[k - 1] == sizes.max()]
    return {ndimage.binary_fill_holes(parts == k).tobytes() for k in largest}


@settings(max_examples=60)
@given(st.integers(0, 10_000), st.integers(8, 40), st.floats(0.5, 4.0), st.floats(0.1, 0.9))
def test_disc_and_cup_are_one_part_each_without_holes_and_the_cup_lies_in_the_disc(seed, side, grain, threshold):
    output, probability = replace(DISC_AND_CUP, threshold=threshold), clouds(seed, side, grain)
    masks = found_masks(output, probability)
    assert masks.dtype == np.uint8
    disc, cup = np.moveaxis(masks.astype(bool), -1, 0)
    assert not (cup & ~disc).any()
    for mask, among in ((disc, probability[..., 0]), (cup, np.where(disc, probability[..., 1], 0))):
        reached = among >= threshold
        if reached.any():
            assert mask.tobytes() in largest_filled(reached)
        else:
            assert not mask.any()
    np.testing.assert_array_equal(found_masks(output, masks.astype(np.float32)), masks)
    apart = found_masks(replace(output, within=()), probability)
    np.testing.assert_array_equal(apart[..., 0], masks[..., 0])
    several = found_masks(replace(output, single=False), probability)
    np.testing.assert_array_equal(several[..., 1] == 1, (probability >= threshold).all(axis=-1))


def test_a_cup_beside_the_disc_does_not_win_over_the_one_inside():
    probability = np.zeros((20, 20, 2))
    probability[2:12, 2:12, 0] = 0.9
    probability[4:8, 4:8, 1], probability[13:20, 13:20, 1] = 0.8, 0.9
    probability[9:11, 11:16, 1] = 0.9  # hangs out of the disc, and is smaller inside
    masks = found_masks(DISC_AND_CUP, probability)
    assert masks.sum(axis=(0, 1)).tolist() == [100, 16]
    assert found_masks(replace(DISC_AND_CUP, within=()), probability).sum(axis=(0, 1)).tolist() == [100, 49]
    task = Task(
        "nerve", "colour_fundus", {"m": DISC_AND_CUP}, NoReferral(), (VerticalRatio("r", "Ratio", "cup", "disc"),)
    )
    geometry = FieldGeometry(source=(20, 20), box=(0, 0, 20, 20), size=20)
    *_, ratio = task.findings({"m": probability}, geometry, np.full((20, 20, 3), 90, np.uint8))
    assert ratio.value == pytest.approx(0.4, abs=0.02)


def test_which_lies_in_which_survives_json_and_is_left_out_where_nothing_does():
    assert output_from_dict(json.loads(json.dumps(DISC_AND_CUP.to_dict()))) == DISC_AND_CUP
    assert "within" not in replace(DISC_AND_CUP, within=()).to_dict()


@pytest.mark.parametrize(
    ("options", "received"),
    [
        ({"within": (("cup", "macula"),)}, r"\(\('cup', 'macula'\),\)"),
        ({"within": (("cup", "disc"), ("disc", "cup"))}, "'disc', 'cup'"),
        ({"within": (("cup",),)}, r"\(\('cup',\),\)"),
        ({"within": (("cup", "disc"),), "exclusive": True}, "'cup', 'disc'"),
    ],
)
def test_what_lies_in_nothing_is_refused(options, received):
    with pytest.raises(ValueError, match=rf"`within` needs pairs .*Received: .*{received}"):
        Masks(DISC, **options)


def test_each_label_may_have_a_threshold_of_its_own():
    output = Masks(DISC, threshold=(0.2, 0.7))
    assert output.thresholds == {"disc": 0.2, "cup": 0.7}
    assert output_from_dict(json.loads(json.dumps(output.to_dict()))) == output
    probability = clouds(3, 16, 1.0)
    np.testing.assert_array_equal(found_masks(output, probability), probability >= np.array([0.2, 0.7]))
    one = Masks(DISC, threshold=0.3)
    np.testing.assert_array_equal(
        found_masks(one, probability), found_masks(replace(one, threshold=(0.3, 0.3)), probability)
    )


def test_without_a_threshold_a_document_means_one_half_and_is_written_as_before():
    document = Masks(DISC).to_dict()
    assert list(document) == ["kind", "labels", "exclusive", "single", "threshold"]
    assert document.pop("threshold") == 0.5
    assert output_from_dict(document) == Masks(DISC)


@pytest.mark.parametrize(
    "threshold", [0, 1, float("nan"), "0.5", None, (0.5,), [0.5, 0.5, 0.5], (0.5, 1.0), {"disc": 0.5}]
)
def test_a_threshold_that_is_none_is_refused(threshold):
    with pytest.raises(ValueError, match=r"`threshold` must lie in \(0, 1\), one number or one for each of disc, cup"):
        output_from_dict({**Masks(DISC).to_dict(), "threshold": threshold})


def test_what_a_task_asks_is_the_same_whatever_threshold_was_chosen():
    tasks = [Task("nerve", "colour_fundus", {"m": Masks(DISC, threshold=t)}, NoReferral()) for t in (0.3, (0.4, 0.6))]
    assert tasks[0].trained != tasks[1].trained
    assert tasks[0].questions == tasks[1].questions == {"m": Masks(DISC)}
