"""What reasons of many pictures have in common."""

import numpy as np
import pytest

from keras_realmnet.screening.causes import UNGRADABLE, cause
from keras_realmnet.screening.quality import assess
from keras_realmnet.tasks.rules import OUTCOMES
from training.phantoms.phantom import render


@pytest.mark.parametrize(
    ("reason", "expected"),
    [
        ("Out of focus: sharpness 0.31 (at least 0.45).", "Out of focus"),
        ("A grey picture (angiogram, autofluorescence or infrared), not a colour one.", "A grey picture"),
        ("the picture is incomplete: its data end early (truncated file). Send it again", "The picture is incomplete"),
        ("the same SOP Instance UID as item 12, with other contents", "The same SOP Instance UID as item …"),
        ("decoding took more than 20.5 s and was stopped. Send it again", "Decoding took more than … s"),
        ("", "No reason given"),
    ],
)
def test_a_cause_is_the_reason_without_what_was_measured(reason, expected):
    assert cause(reason).startswith(expected)


def test_two_dark_pictures_have_one_cause():
    image = render(5, width=400, staphyloma=False, grade=0).image
    reasons = [assess((image * dark).astype(np.uint8), None, "uwf_red_green").reasons for dark in (0.05, 0.08)]
    assert reasons[0] != reasons[1]
    assert {cause(*each) for each in reasons} == {"Too dark"}


def test_ungradable_outcomes_are_outcomes():
    assert set(UNGRADABLE) < set(OUTCOMES)
