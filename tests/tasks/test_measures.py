"""Numbers of lesions: how much of the field they cover, how many there are, and in which quadrant."""

import json
from dataclasses import replace

import numpy as np
import pytest

from keras_realmnet.screening.preprocessing import FieldGeometry
from keras_realmnet.tasks.findings import GradeFinding, MaskFinding, Measure, finding_from_dict, percent
from keras_realmnet.tasks.measures import QUADRANTS, CountOf, ShareOfField, lesion_measures, quadrant_of
from keras_realmnet.tasks.outputs import Grades, Masks
from keras_realmnet.tasks.rules import MeasureAbove, NoReferral
from keras_realmnet.tasks.task import Task
from keras_realmnet.tasks.vocabulary import Label, LabelSet
from tests.tasks.made_up import DISC, GRADES

SIZE = 64
GEOMETRY = FieldGeometry(source=(300, 420), box=(10, 20, 410, 280), size=SIZE)  # padded above and below
LESIONS = LabelSet(
    "lesion",
    (Label("MA", "Microaneurysm", "a microaneurysm"), Label("EX", "Hard exudate", "a hard exudate")),
    pathologic=("MA", "EX"),
    condition="diabetic retinopathy",
)
TASK = Task(
    "lesions",
    "colour_fundus",
    {"lesions": Masks(LESIONS), "grade": Grades(GRADES)},
    NoReferral(),
    lesion_measures(LESIONS, quadrants=("MA",)),
)


def findings(task: Task = TASK):
    """Three microaneurysms, no exudate, in a field that is a square of 32 pixels with a dark vessel across."""
    said = {"lesions": np.zeros((SIZE, SIZE, 2), np.float32), "grade": np.array([0.1, 0.7, 0.2], np.float32)}
    for x, y in ((20, 20), (40, 20), (44, 42)):
        said["lesions"][y : y + 2, x : x + 2, 0] = 0.9
    image = np.zeros((SIZE, SIZE, 3), np.uint8)
    image[16:48, 16:48, 0] = 90
    image[16:47, 30:32] = 5
    return {(each.kind, each.code): each for each in task.findings(said, GEOMETRY, image)}


def test_shares_are_of_the_field_and_parts_are_counted_where_they_lie():
    found = findings()
    values = {code: each.value for (kind, code), each in found.items() if kind == "measure"}
    assert values == {
        "MA_pct": pytest.approx(100 * 12 / 32**2, rel=0.02),  # the vessel is dark, and of the field
        "MA_n": 3,
        "MA_ul": 1,
        "MA_ur": 1,
        "MA_ll": 0,
        "MA_lr": 1,
        "EX_pct": 0,
        "EX_n": 0,
    }
    assert {each.unit for (_, code), each in found.items() if code.endswith("_pct")} == {"%"}
    upper_left = found["measure", "MA_ul"]
    assert (upper_left.unit, upper_left.of, upper_left.part) == ("{count}", "MA", "upper left")
    for each in found.values():
        assert finding_from_dict(json.loads(json.dumps(each.to_dict()))) == each
    assert Task.from_dict(json.loads(json.dumps(TASK.to_dict()))) == TASK


def test_a_quadrant_is_that_of_the_centre_of_gravity():
    rng = np.random.default_rng(0)
    for turns in (1, -1):  # outlines may run either way round
        for _ in range(20):
            corners = rng.uniform(-1, 1, 2) + [[0, 0], [4, 0], [0, 4]][::turns]  # its centre of gravity: + 4 / 3
            x, y = corners.mean(axis=0)
            quadrant = quadrant_of(tuple(map(tuple, corners)), (1.5, 1.5))
            assert quadrant == f"{'lower' if y >= 1.5 else 'upper'} {'right' if x >= 1.5 else 'left'}"
    assert {quadrant_of(((x, y),) * 3, (0.0, 0.0)) for x in (-1.0, 1.0) for y in (-1.0, 1.0)} == set(QUADRANTS)


def test_lesions_speak_for_the_grades_of_the_same_condition():
    assert findings()["grade", "G1"].signs == ("MA", "EX")
    assert GradeFinding.kind == "grade"
    structures = replace(TASK, outputs={**TASK.outputs, "lesions": Masks(DISC)}, measures=())
    assert structures.signs("grade") is None
    other = replace(LESIONS, condition="pathologic myopia")
    assert replace(TASK, outputs={**TASK.outputs, "lesions": Masks(other)}).signs("grade") is None


@pytest.mark.parametrize(
    ("measure", "message"),
    [
        (lambda: CountOf("c", "Count", "MA", "temporal"), "`quadrant` must be one of upper left"),
        (lambda: lesion_measures(LESIONS, ["SE"]), "label set 'lesion' has no label SE"),
        (lambda: replace(TASK, measures=(ShareOfField("s", "Share", "SE"),)), "needs a mask 'SE'; the task has none"),
        (lambda: replace(TASK, modality="uwf_red_green"), "needs pictures that stretch no areas"),
        (lambda: replace(TASK, measures=(CountOf("c", "C" * 65, "MA"),)), "name has at most 64 characters"),
    ],
)
def test_what_no_measure_can_be_is_refused(measure, message):
    with pytest.raises(ValueError, match=message):
        measure()


def test_a_measure_is_told_with_its_unit():
    assert [percent(value) for value in (0, 0.0004, 0.0123, 0.34, 1.26, 34.4)] == [
        *("0 %", "less than 0.001 %", "0.012 %", "0.34 %", "1.3 %", "34 %")
    ]
    share = Measure("", "lesions", "EX_pct", "Hard exudate: share of the field", 1.26, "%", of="EX")
    assert (share.text, replace(share, value=12.0, unit="{count}").text, replace(share, value=None).text) == (
        *("1.3 %", "12", ""),
    )
    verdict = MeasureAbove("EX_pct", 1.0, "by hand").decide([share])
    assert verdict.reasons == ("Hard exudate: share of the field: 1.3 % reaches the threshold of 1.0 %.",)
    mask = MaskFinding("lesions", "lesion", "EX", "Hard exudate", ())
    assert ShareOfField("s", "Share", "EX").value([mask], (0, 0)) is None  # the picture stretches areas
