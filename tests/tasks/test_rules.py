"""Every rule: when it refers, when it does not, and when it cannot say."""

import json
from dataclasses import replace

import numpy as np
import pytest

from keras_realmnet.tasks.findings import GradeFinding, LabelFinding, Measure
from keras_realmnet.tasks.outputs import Labels
from keras_realmnet.tasks.rule import probability_text
from keras_realmnet.tasks.rules import (
    OUTCOMES,
    AnyAbove,
    AnyOf,
    GradeByCost,
    GradeFrom,
    MeasureAbove,
    NoReferral,
    OperatingPoint,
    acted_on_as,
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


# ---- by cost ------------------------------------------------------------------------------------------------------

GROUPS = (("S0", "S1"), ("A0", "A1", "A2", "A3", "A4"))
COSTS = (  # the distance of the grades; 4 more for calling A2 … A4 one of A0 and A1, 1 more the other way round
    (0, 1, 3, 4, 5),
    (1, 0, 2, 3, 4),
    (6, 5, 0, 1, 2),
    (7, 6, 1, 0, 1),
    (8, 7, 2, 1, 0),
)
BY_COST = GradeByCost("answer", GROUPS[1], COSTS, "A2", {"S1": 0.5}, GROUPS, 0.5, "by hand")

# What the network says → outcome, what refers, a part of the reason. The decision table of pathologic myopia, which is
# grade 2 or more, or a staphyloma.
DECISIONS = [
    (
        {"S0": 1, "A0": 1},
        "negative",
        (),
        "Grade 0 of 0 to 4, No myopic lesion; Diffuse atrophy or worse has a probability of 0.00",
    ),
    ({"S0": 1, "A1": 1}, "negative", (), "Posterior staphyloma stays below its threshold"),
    (
        {"S0": 1, "A2": 1},
        "refer",
        ("A2",),
        "Diffuse atrophy; Diffuse atrophy or worse has a probability of 1.00 among the grades.",
    ),
    ({"S0": 1, "A3": 1}, "refer", ("A3",), "Grade 3"),
    ({"S0": 1, "A4": 1}, "refer", ("A4",), "Grade 4"),
    ({"S1": 1, "A0": 1}, "refer", ("S1",), "Posterior staphyloma: a probability of 1.00 reaches the threshold of 0.50"),
    ({"S1": 1, "A1": 1}, "refer", ("S1",), "Posterior staphyloma"),
    ({"S1": 1, "A2": 1}, "refer", ("A2", "S1"), "Grade 2"),
    ({"S1": 1, "A3": 1}, "refer", ("A3", "S1"), "Grade 3"),
    ({"S1": 1, "A4": 1}, "refer", ("A4", "S1"), "Grade 4"),
    # Saying A1 costs 5·p, saying A2 2·(1 − p): the latter is cheaper from p = 2/7 = .286 on.
    ({"S0": 1, "A1": 0.72, "A2": 0.28}, "negative", (), "Tessellation only"),
    ({"S0": 1, "A1": 0.71, "A2": 0.29}, "refer", ("A2",), "0.29 among the grades: enough, since a miss weighs more."),
    ({"S0": 0.51, "S1": 0.49, "A1": 1}, "negative", (), "Tessellation only"),
    ({"S0": 0.5, "S1": 0.5, "A1": 1}, "refer", ("S1",), "a probability of 0.50 reaches"),
    # Of two or no labels of which one holds nobody knows which: never negative.
    ({"S0": 1, "A0": 1, "A1": 1}, "uncertain", (), "contradict each other: one of A0, A1, A2, A3, A4 holds"),
    ({"S0": 1}, "refer", ("A2",), "Grade 2"),  # all grades alike
    ({"A1": 1}, "uncertain", (), "one of S0, S1 holds, their probabilities add up to 0.00"),
    ({"S0": 0.4, "A1": 0.6}, "uncertain", (), "add up to 0.40"),
    ({"S0": 1, "A2": 1, "A3": 1}, "refer", ("A3",), "contradict each other"),
]


@pytest.mark.parametrize(("said", "outcome", "triggered", "reason"), DECISIONS)
def test_the_decision_table_of_pathologic_myopia(said, outcome, triggered, reason):
    verdict = BY_COST.decide(labels(**said))
    assert (verdict.outcome, verdict.triggered) == (outcome, triggered)
    assert any(reason in each for each in verdict.reasons), verdict.reasons
    probabilities = np.array([[said.get(code, 0.0) for code in PSMM.codes]])
    assert BY_COST.refers("answer", probabilities, PSMM)[0] == (outcome == "refer")
    assert (verdict.score >= 0) == (outcome == "refer")


def test_other_costs_are_another_decision():
    """Where a miss costs no more than a false referral it takes half of the probability."""
    even = replace(BY_COST, costs=tuple(tuple(abs(i - j) for j in range(5)) for i in range(5)))
    assert even.decide(labels(S0=1, A1=0.6, A2=0.4)).outcome == "negative"
    assert even.decide(labels(S0=1, A1=0.5, A2=0.5)).outcome == "refer"  # of equal costs the later grade
    assert BY_COST.decide(labels(S0=1, A1=0.6, A2=0.4)).outcome == "refer"


def test_a_rule_by_cost_is_data():
    assert rule_from_dict(json.loads(json.dumps(BY_COST.to_dict()))) == BY_COST
    assert BY_COST.thresholds("answer") == {"S1": 0.5}
    assert set(BY_COST.referred("answer", PSMM)) == set(PSMM.pathologic)
    assert BY_COST.abstains
    assert AnyOf((BY_COST, MeasureAbove("m", 1.0, "by hand"))).abstains
    BY_COST.check({"answer": Labels(PSMM)}, ())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"costs": COSTS[:4]}, "needs 5 rows of 5 numbers"),
        ({"costs": ((1, *COSTS[0][1:]), *COSTS[1:])}, "0 where the grade is right"),
        ({"from_code": "A0"}, "must be one of A1, A2"),
        ({"beside": {"S1": 1.5}}, r"probabilities in \[0, 1\]"),
        ({"tolerance": 0.0}, "`tolerance` must be above 0"),
    ],
)
def test_what_is_no_rule_by_cost_is_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        replace(BY_COST, **changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"output": "else"}, "needs an output of labels"),
        ({"beside": {}}, "must refer S1, A2, A3, A4"),
        ({"from_code": "A1"}, "must refer S1, A2, A3, A4"),
        ({"exactly_one": (("S0", "A0"),)}, "groups that exclude each other"),
    ],
)
def test_a_rule_by_cost_must_fit_the_labels(changes, message):
    with pytest.raises(ValueError, match=message):
        replace(BY_COST, **changes).check({"answer": Labels(PSMM)}, ())


def test_an_uncertain_result_goes_where_a_referral_goes():
    assert [acted_on_as(outcome) for outcome in OUTCOMES] == ["refer", "refer", *OUTCOMES[2:]]


@pytest.mark.parametrize(
    ("probability", "text"),
    [(0, "0.00"), (1, "1.00"), (0.5, "0.50"), (0.995, "0.995"), (0.98999, "0.99"), (0.0049, "0.005")],
)
def test_a_probability_near_0_or_1_has_three_decimals(probability, text):
    assert probability_text(probability) == text
