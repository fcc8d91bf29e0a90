"""What makes a negative result uncertain: sets of labels, and the bound on what is missed."""

import numpy as np
import pytest

from keras_realmnet.tasks.findings import GradeFinding, LabelFinding
from keras_realmnet.tasks.fitted.doubts import LabelSets, MissedRisk, doubt_from_dict, shares
from keras_realmnet.tasks.vocabulary import PSMM

GRADES = ("A0", "A1", "A2", "A3", "A4")
REFERRED = ("S1", "A2", "A3", "A4")


def labels(**probabilities):
    return [
        LabelFinding("answer", "psmm", each.code, each.name, probabilities.get(each.code, 0.0)) for each in PSMM.labels
    ]


def test_shares_add_up_to_one():
    np.testing.assert_allclose(shares(np.array([[0.6, 0.2], [0.0, 0.0]])), [[0.75, 0.25], [0.5, 0.5]])


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        ({"A1": 0.9, "A2": 0.05}, None),  # a share of .053
        ({"A1": 0.8, "A2": 0.2}, "What is referred cannot be excluded: Diffuse atrophy."),
        ({"A1": 0.8, "A0": 0.2}, None),  # what else may hold is not referred, either
        (dict.fromkeys(GRADES, 0.5), "What is referred cannot be excluded: Diffuse atrophy, Patchy atrophy, Macular"),
    ],
)
def test_a_set_with_a_label_that_is_referred_doubts(said, reason):
    sets = LabelSets("answer", "by hand", (GRADES,), (0.1,), 0.9)
    why = sets.why(labels(**said), REFERRED)
    assert why is None if reason is None else str(why).startswith(reason)


def test_an_empty_set_doubts():
    sets = LabelSets("answer", "by hand", (GRADES,), (0.6,), 0.9)
    assert sets.why(labels(A0=0.5, A1=0.5), REFERRED).startswith("No label fits: none of No myopic lesion")
    assert sets.why(labels(A0=0.2, A1=0.5), REFERRED) is None


def test_too_much_probability_is_too_much_for_a_negative_result():
    missed = MissedRisk("answer", "by hand", 0.1, 0.05, 0.95)
    assert missed.why(labels(A1=0.9, A2=0.09, A3=0.09), REFERRED) is None  # the most probable label counts
    assert "Patchy atrophy, with a probability of 0.1" in missed.why(labels(A3=0.1), REFERRED)
    assert missed.why(labels(A3=0.9), ()) is None
    grade = GradeFinding("answer", "dr", "G0", "None", 0, {"G0": 0.8, "G1": 0.09, "G2": 0.11}, {"G0": "None"})
    names = {"G0": "None", "G1": "Mild", "G2": "Moderate"}
    grade = GradeFinding("answer", "dr", "G0", "None", 0, grade.probabilities, names)
    assert "Moderate, with a probability of 0.2" in missed.why([grade], ("G1", "G2"))  # all that are referred


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"kind": "guess"}, "a doubt must be one of label_sets, missed_risk"),
        ({"kind": "label_sets", "groups": "A"}, "are lists"),
        ({"kind": "missed_risk", "output": "a", "chosen": "", "limit": "x"}, "limit must be a number"),
        (
            {"kind": "missed_risk", "output": "a", "chosen": "", "limit": 1.5, "risk": 0.1, "confidence": 0.9},
            r"`limit` must lie in \[0, 1\]",
        ),
        (
            {"kind": "label_sets", "output": "a", "chosen": "", "groups": [["A"]], "limits": [], "coverage": 0.9},
            "a limit for each group",
        ),
    ],
)
def test_what_is_no_doubt_is_refused(values, message):
    with pytest.raises(ValueError, match=message):
        doubt_from_dict(values)
