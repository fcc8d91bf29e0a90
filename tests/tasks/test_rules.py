"""Every rule: when it refers, when it does not, and when it cannot say."""

import pytest

from keras_realmnet.tasks.findings import GradeFinding, LabelFinding, Measure
from keras_realmnet.tasks.rules import (
    AnyAbove,
    AnyOf,
    GradeFrom,
    MeasureAbove,
    NoReferral,
    OperatingPoint,
    rule_from_dict,
)
from keras_realmnet.tasks.vocabulary import PALM, PSMM
from tests.tasks.made_up import GRADES, TASK

POINT = OperatingPoint({"S1": 0.5, "A2": 0.4, "A3": 0.3, "A4": 0.2}, chosen="by hand")


def labels(**probabilities):
    return [
        LabelFinding("answer", "psmm", each.code, each.name, probabilities.get(each.code, 0.0)) for each in PSMM.labels
    ]


def grade(*probabilities):
    top = max(range(3), key=lambda k: probabilities[k])
    label = GRADES.labels[top]
    names = {each.code: each.name for each in GRADES.labels}
    return GradeFinding(
        "grades", "dr", label.code, label.name, top, dict(zip(names, probabilities, strict=True)), names
    )


def ratio(value):
    return Measure("", "nerve", "vcdr", "Vertical cup-to-disc ratio", value)


def test_any_label_above_its_threshold():
    rule = AnyAbove("answer", POINT)
    verdict = rule.decide(labels(A3=0.35, A4=0.9))
    assert (verdict.outcome, verdict.triggered, verdict.evidence) == ("refer", ("A4", "A3"), "A4")
    assert verdict.score == pytest.approx(0.7)
    verdict = rule.decide(labels(S1=0.45, A4=0.1))
    assert (verdict.outcome, verdict.triggered, verdict.evidence) == ("negative", (), "S1")
    assert verdict.score == pytest.approx(-0.05)


def test_a_grade_and_all_beyond_it():
    rule = GradeFrom("grades", "G1", "by hand")
    assert rule.decide([grade(0.5, 0.3, 0.2)]).outcome == "negative"
    verdict = rule.decide([grade(0.3, 0.3, 0.4)])
    assert (verdict.outcome, verdict.triggered) == ("refer", ("G2",))
    assert verdict.score == pytest.approx(0.2)
    assert "referred from Mild on" in verdict.reasons[0]


def test_a_measure_that_could_not_be_taken_is_no_negative_result():
    rule = MeasureAbove("vcdr", 0.7, "by hand")
    assert rule.decide([ratio(0.7)]).outcome == "refer"
    assert rule.decide([ratio(0.69)]).outcome == "negative"
    verdict = rule.decide([ratio(None)])
    assert (verdict.outcome, verdict.score) == ("not_analysed", None)
    assert verdict.reasons == ("Vertical cup-to-disc ratio could not be measured.",)


@pytest.mark.parametrize(
    ("graded", "measured", "outcome"),
    [
        (grade(1, 0, 0), ratio(0.2), "negative"),
        (grade(0, 0, 1), ratio(0.2), "refer"),
        (grade(1, 0, 0), ratio(0.9), "refer"),
        (grade(1, 0, 0), ratio(None), "not_analysed"),
        (grade(0, 0, 1), ratio(None), "refer"),
    ],
)
def test_any_of_several_is_negative_only_where_all_are(graded, measured, outcome):
    rule = AnyOf((GradeFrom("grades", "G2", "by hand"), MeasureAbove("vcdr", 0.7, "by hand")))
    assert rule.decide([graded, measured]).outcome == outcome


def test_without_a_rule_nothing_is_negative():
    verdict = NoReferral().decide(labels(A4=1.0))
    assert (verdict.outcome, verdict.triggered) == ("described", ())


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"kind": "most"}, "kind of a rule must be one of any_above"),
        ([], "an object expected"),
        ({"kind": "grade_from", "output": "grades", "grade": "G2"}, "needs the field 'chosen'"),
        ({"kind": "grade_from", "output": "grades", "grade": 2, "chosen": ""}, "grade must be a text. Received: 2"),
        ({"kind": "measure_above", "measure": "vcdr", "threshold": True, "chosen": ""}, "threshold must be a number"),
        ({"kind": "any_of", "rules": [{"kind": "no_referral"}] * 2}, "combines two or more rules that refer"),
        ({"kind": "no_referral", "why": ""}, "has no field 'why'"),
        (
            {"kind": "any_above", "output": "a", "rule": "any_pathologic", "thresholds": {"P": "1"}, "chosen": ""},
            "thresholds are numbers by code",
        ),
    ],
)
def test_what_is_no_rule_is_refused(values, message):
    with pytest.raises(ValueError, match=message):
        rule_from_dict(values)


def test_a_rule_must_fit_the_outputs():
    for rule in (
        AnyAbove("grades", OperatingPoint({"P": 0.5}, "by hand")),
        AnyAbove("labels", POINT),
        GradeFrom("grades", "G9", "by hand"),
    ):
        with pytest.raises(ValueError, match="needs"):
            rule.check(TASK.outputs, [])
    assert PALM.pathologic_columns == [2]
