"""Probabilities to outcomes: every outcome, every refusal, and how images of an eye and a patient are combined."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_realmnet.screening.decision import Analysis, Summary, decide, eye_summary, patient_summary
from keras_realmnet.screening.preprocessing import FieldGeometry
from keras_realmnet.screening.quality import Quality
from keras_realmnet.screening.quality.macula import MACULA
from keras_realmnet.screening.record import ScreeningRecord
from keras_realmnet.tasks.fitted.calibration import Calibration, Platt
from keras_realmnet.tasks.fitted.doubts import LabelSets, MissedRisk
from keras_realmnet.tasks.fitted.fitted import Fitted
from keras_realmnet.tasks.outputs import Points
from keras_realmnet.tasks.rules import OUTCOMES, NoReferral, OperatingPoint
from keras_realmnet.tasks.task import FOVEA_CODE, Task, labels_task
from keras_realmnet.tasks.vocabulary import PALM, PSMM, Label, LabelSet

POINT = OperatingPoint({"S1": 0.5, "A2": 0.4, "A3": 0.3, "A4": 0.2}, chosen="by hand")
TASK = labels_task(PSMM, "uwf_red_green", POINT)
FOVEA = Label(FOVEA_CODE, "Fovea", "centre of the fovea")
GRADABLE = Quality("gradable", (), {})


def analysis(probabilities: np.ndarray) -> Analysis:
    predicted = {"probabilities": probabilities, "class_maps": np.zeros((2, 2, 7), np.float32)}
    return Analysis(predicted, np.zeros((8, 8, 3), np.uint8), FieldGeometry((8, 8), (0, 0, 8, 8), 8))


def psmm(**probabilities: float) -> Analysis:
    return analysis(np.array([probabilities.get(code, 0.0) for code in PSMM.codes], np.float32))


def record(outcome: str, eye: str | None = "OD") -> ScreeningRecord:
    return ScreeningRecord(
        file="a.jpg",
        folder="/",
        sha256=None,
        outcome=outcome,
        reasons=(),
        eye=eye,
        bundle_name="tiny",
        bundle_version="1",
        bundle_digest="d",
        artifact="float32",
        model_sha256="m",
        spec_hash="s",
        screened_at="2025-01-01T00:00:00+00:00",
    )


def outcome(*pairs: tuple[str, str | None]) -> str:
    return patient_summary([record(*pair) for pair in pairs]).outcome


def test_any_pathologic_label_at_its_threshold_refers():
    for code, threshold in POINT.thresholds.items():
        decision = decide(psmm(**{code: np.float32(threshold + 1e-6)}), GRADABLE, TASK)
        assert (decision.outcome, decision.triggered) == ("refer", (code,))
        assert PSMM[code].name in decision.reasons[0]
        assert decide(psmm(**{code: threshold - 1e-4}), GRADABLE, TASK).outcome == "negative"


def test_a_probability_exactly_at_the_threshold_refers():
    assert decide(psmm(S1=0.5), GRADABLE, TASK).outcome == "refer"


def test_harmless_labels_never_refer_and_triggered_codes_come_most_exceeding_first():
    assert decide(psmm(S0=1.0, A0=1.0, A1=1.0), GRADABLE, TASK).outcome == "negative"
    assert decide(psmm(S1=0.6, A4=0.9, A2=0.5), GRADABLE, TASK).triggered[0] == "A4"


@pytest.mark.parametrize("verdict", ["insufficient", "not_analysed"])
@pytest.mark.parametrize("probabilities", [None, psmm(A4=1.0), psmm(), psmm(A4=np.nan)])
def test_probabilities_of_an_ungradable_image_are_not_looked_at(verdict, probabilities):
    decision = decide(probabilities, Quality(verdict, ("too dark",), {}), TASK)
    assert (decision.outcome, decision.reasons, decision.triggered) == (verdict, ("too dark",), ())


def test_a_network_that_answers_where_the_fovea_is_tells_whether_the_macula_is_seen():
    task = Task(
        "landmarks", "colour_fundus", {"points": Points(LabelSet("fundus", (FOVEA,)), confidence=True)}, NoReferral()
    )
    away = f"the fovea is 0.80 of the field's radius from its middle (at most {MACULA.limit:.2f})"
    needing = replace(task, needs=("macula",))
    square = np.full((100, 100, 3), 90, np.uint8)
    for x, confidence, outcome, reason in [
        (0.5, 0.9, "described", "Described"),
        (0.7, 0.9, "described", "Described"),
        (0.9, 0.9, "insufficient", away),
        (0.5, 0.2, "insufficient", "the fovea was not found"),
    ]:
        said = {"points": np.array([[x, 0.5, confidence]], np.float32)}
        seen = Analysis(said, square, FieldGeometry((100, 100), (0, 0, 100, 100), 100))
        decision = decide(seen, GRADABLE, needing)
        assert decision.outcome == outcome
        assert reason in decision.reasons[0]
        assert decide(seen, GRADABLE, task).outcome == "described"
        if outcome == "insufficient":
            assert decision.findings == ()
            assert decision.triggered == ()


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, -1e-6, 1.0001])
@pytest.mark.parametrize("code", ["S0", "A4"])
def test_impossible_probabilities_raise(code, value):
    with pytest.raises(ValueError, match=r"\[0, 1\]|not finite"):
        decide(psmm(**{code: value}), GRADABLE, TASK)


@pytest.mark.parametrize("found", [None, analysis(np.zeros(6)), analysis(np.zeros((1, 7)))])
def test_missing_probabilities_raise(found):
    with pytest.raises(ValueError, match=r"shape|Received: None"):
        decide(found, GRADABLE, TASK)


@pytest.mark.parametrize("threshold", [np.nan, -0.1, 1.1])
def test_impossible_thresholds_raise(threshold):
    with pytest.raises(ValueError, match="threshold"):
        OperatingPoint({"P": threshold}, chosen="")


def test_an_operating_point_must_fit_the_labels():
    with pytest.raises(ValueError, match="needs thresholds for P"):
        POINT.check(PALM)
    with pytest.raises(ValueError, match="any_pathologic"):
        OperatingPoint({}, chosen="", rule="majority")
    assert OperatingPoint.from_dict(POINT.to_dict()) == POINT


@settings(max_examples=50)
@given(st.lists(st.floats(0, 1, width=32), min_size=7, max_size=7), st.integers(0, 6), st.floats(0, 1, width=32))
def test_more_probability_never_turns_a_referral_into_a_negative(values, index, higher):
    raised = list(values)
    raised[index] = max(raised[index], higher)
    if decide(analysis(np.array(values)), GRADABLE, TASK).outcome == "refer":
        assert decide(analysis(np.array(raised)), GRADABLE, TASK).outcome == "refer"


@settings(max_examples=50)
@given(st.lists(st.sampled_from(OUTCOMES), max_size=5))
def test_the_rule_for_an_eye(outcomes):
    received = eye_summary([record(o) for o in outcomes]).outcome
    if "refer" in outcomes:
        assert received == "refer"
    elif "uncertain" in outcomes:
        assert received == "uncertain"
    elif "negative" in outcomes:
        assert received == "negative"
    elif "described" in outcomes:
        assert received == "described"
    elif "insufficient" in outcomes:
        assert received == "insufficient"
    else:
        assert received == "not_analysed"


def test_an_eye_says_how_many_of_its_images_failed():
    assert eye_summary([record("negative"), record("insufficient")]).reasons == ("1 of 2 images could not be analysed",)
    assert eye_summary([]).reasons == ("no image",)


def test_among_images_of_unknown_eyes_one_negative_does_not_settle_another():
    assert eye_summary([record("negative", None), record("insufficient", None)]).outcome == "insufficient"
    assert eye_summary([record("negative", None), record("negative", None)]).outcome == "negative"


def test_a_patient_is_negative_only_if_both_eyes_are():
    assert outcome(("negative", "OD"), ("negative", "OS")) == "negative"
    assert outcome(("negative", "OD")) == "not_analysed"
    assert outcome(("negative", "OD"), ("insufficient", "OS")) == "insufficient"
    assert outcome(("negative", "OD"), ("negative", "OS"), ("not_analysed", None)) == "not_analysed"
    assert outcome(("negative", "OD"), ("refer", "OS")) == "refer"
    assert outcome(("negative", "OD"), ("negative", "OS"), ("refer", None)) == "refer"
    assert outcome() == "not_analysed"
    assert patient_summary([record("negative", "OD")]).reasons == ("left eye: no image",)


def test_a_patient_with_an_uncertain_image_is_uncertain_unless_one_refers():
    """A retake does not settle it, nor does a result that is missing outweigh it: a person must look."""
    assert outcome(("uncertain", "OD"), ("negative", "OD"), ("negative", "OS")) == "uncertain"
    assert outcome(("uncertain", "OD"), ("insufficient", "OS")) == "uncertain"
    assert outcome(("uncertain", "OD")) == "uncertain"
    assert outcome(("uncertain", "OD"), ("refer", "OS")) == "refer"
    missing = replace(record("not_analysed"), error="ModelOutOfOrder")
    assert eye_summary([record("uncertain"), missing]) == Summary("uncertain", ("1 of 2 images could not be analysed",))


def test_what_is_doubted_is_never_negative():
    """A referral stays one; a negative result of which something doubts becomes uncertain, with the reason."""
    sets = LabelSets("probabilities", "by hand", (("A0", "A1", "A2", "A3", "A4"),), (0.2,), 0.9)
    missed = MissedRisk("probabilities", "by hand", 0.1, 0.05, 0.95)
    task = replace(TASK, fitted=Fitted(doubts=(sets, missed)))
    assert task.abstains
    assert decide(psmm(S0=0.9, A1=0.9), GRADABLE, task).outcome == "negative"
    assert decide(psmm(S0=0.9, A1=0.1, A2=0.5), GRADABLE, task).outcome == "refer"
    doubted = decide(psmm(S0=0.9, A1=0.9, A2=0.39), GRADABLE, task)
    assert (doubted.outcome, doubted.triggered, doubted.evidence) == ("uncertain", (), "A2")
    assert doubted.reasons == (
        "What is referred cannot be excluded: Diffuse atrophy.",
        "Too probable for a negative result: Diffuse atrophy, with a probability of 0.39; less than 0.1 is needed.",
    )
    unlike = decide(psmm(S0=0.9, S1=0.05, A0=0.09), GRADABLE, replace(TASK, fitted=Fitted(doubts=(sets,))))
    assert unlike.outcome == "negative"  # its group's share is A0's alone
    even = decide(psmm(S0=0.9), GRADABLE, replace(TASK, fitted=Fitted(doubts=(replace(sets, limits=(0.3,)),))))
    assert even.reasons[0].startswith("No label fits: none of No myopic lesion")


def test_the_rule_looks_at_calibrated_probabilities():
    curves = dict.fromkeys(PSMM.codes, Platt(1.0, -2.0))  # σ(logit(.5) − 2) = .119
    task = replace(TASK, fitted=Fitted({"probabilities": Calibration(curves, "by hand")}))
    decision = decide(psmm(A4=0.5), GRADABLE, task)
    assert decision.outcome == "negative"
    assert {each.code: each.probability for each in decision.findings}["A4"] == pytest.approx(0.1192, abs=1e-4)
    assert decide(psmm(A4=0.5), GRADABLE, TASK).outcome == "refer"


def test_no_combination_without_a_negative_image_of_each_eye_is_negative():
    for right, left in itertools.product(OUTCOMES, repeat=2):
        expected = right == left == "negative"
        assert (outcome((right, "OD"), (left, "OS")) == "negative") is expected
