"""Drawn eyes with and without glaucoma: how large the cup is, and where nerve fibres are missing."""

import numpy as np
import pytest

from training.phantoms.photograph import render_photograph


def height(mask):
    rows = np.flatnonzero(mask.any(axis=1))
    return rows[-1] - rows[0] + 1


@pytest.fixture(scope="module")
def eyes():
    return {
        glaucoma: [render_photograph(seed, width=256, label="N", glaucoma=glaucoma, poor=False) for seed in range(6)]
        for glaucoma in (True, False)
    }


def test_the_cup_is_large_or_small(eyes):
    for glaucoma, drawn in eyes.items():
        whole = [each for each in drawn if each.shows(each.disc_centre) and not touches_the_border(each)]
        ratios = [height(each.cup_mask) / height(each.disc_mask) for each in whole]
        assert len(ratios) >= 3
        assert all(ratio > 0.68 for ratio in ratios) if glaucoma else all(ratio < 0.62 for ratio in ratios)
        assert {each.glaucoma for each in drawn} == {glaucoma}


def touches_the_border(eye):
    beside = eye.disc_mask.astype(bool)
    beside[:, 1:] |= beside[:, :-1]
    beside[:, :-1] |= beside[:, 1:]
    return bool((beside & ~eye.field_mask).any())


def test_where_nerve_fibres_are_missing_the_retina_is_darker(eyes):
    """Than without them, in the same picture; elsewhere, but for the disc, it is the same."""
    found = 0
    for seed, eye in enumerate(eyes[True]):
        mask = eye.defect_mask.astype(bool)
        other = eyes[False][seed]
        assert not other.defect_mask.any()
        assert not (mask & ~eye.field_mask).any()
        if mask.sum() < 100:
            continue
        found += 1
        change = eye.image[..., 1].astype(float) - other.image[..., 1]
        away = eye.field_mask & ~mask & ~eye.disc_mask.astype(bool)
        assert change[mask & ~eye.disc_mask.astype(bool)].mean() < change[away].mean() - 3
    assert found >= 2


def test_other_drawings_stay_as_they_were():
    """Whether there is such a question changes nothing else: no draw of another subject is shifted."""
    plain, asked = (render_photograph(3, width=128, label="N", glaucoma=each) for each in (None, False))
    assert plain.defect_mask is None
    assert plain.glaucoma is None
    np.testing.assert_array_equal(plain.disc_mask, asked.disc_mask)
    np.testing.assert_array_equal(plain.field_mask, asked.field_mask)
    assert plain.fovea == asked.fovea
