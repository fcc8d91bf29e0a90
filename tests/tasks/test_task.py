"""A task as data, and what it makes of the answer of a network."""

import json
from dataclasses import replace

import numpy as np
import pytest
from pydicom.sr.codedict import codes

from keras_realmnet.screening.preprocessing import FieldGeometry
from keras_realmnet.tasks.findings import Finding, finding_from_dict
from keras_realmnet.tasks.fitted.calibration import Calibration, Temperature
from keras_realmnet.tasks.fitted.doubts import LabelSets, MissedRisk
from keras_realmnet.tasks.fitted.fitted import Fitted
from keras_realmnet.tasks.measures import VerticalRatio
from keras_realmnet.tasks.outputs import KINDS, Features, Labels, Maps, Masks, Points
from keras_realmnet.tasks.rules import RULES, MeasureAbove, NoReferral, OperatingPoint
from keras_realmnet.tasks.task import Task, labels_task
from keras_realmnet.tasks.vocabulary import LABEL_SETS, PALM, PSMM
from tests.tasks.made_up import BY_COST, FITTED, LANDMARKS, OUTPUTS, RULE, TASK

SIZE = 64
WIDE = FieldGeometry(source=(300, 420), box=(10, 20, 410, 280), size=SIZE)  # padded above and below


def answer(**changes: object) -> dict[str, np.ndarray]:
    """What a network of TASK might say of one image, as it is handed to `Task.findings`."""
    disc, cup = (circle((32, 32), radius) for radius in (12.0, 6.0))
    said = {
        "labels": np.array([0.1, 0.2, 0.9]),
        "grades": np.array([0.2, 0.5, 0.3]),
        "label_maps": np.ones((4, 4, 3)),
        "masks": np.stack([disc, cup], axis=-1),
        "points": np.array([[0.25, 0.5, 0.9], [0.5, 0.5, 0.8]]),
        "features": np.zeros(5),
    }
    return {name: np.asarray(value, np.float32) for name, value in {**said, **changes}.items()}


def circle(centre: tuple[float, float], radius: float) -> np.ndarray:
    y, x = np.mgrid[:SIZE, :SIZE]
    return (np.hypot(x - centre[0], y - centre[1]) <= radius).astype(np.float32)


def findings(said: dict[str, np.ndarray], geometry: FieldGeometry = WIDE) -> dict[str, Finding]:
    image = np.full((SIZE, SIZE, 3), 90, np.uint8)
    return {f"{each.kind} {each.code}": each for each in TASK.findings(said, geometry, image)}


def test_every_kind_is_there():
    assert {output.kind for output in OUTPUTS.values()} == set(KINDS)
    kinds = {each.kind for each in findings(answer()).values()}
    assert kinds == {"label", "grade", "mask", "point", "measure"}
    assert {rule.kind for rule in (RULE, *RULE.rules, BY_COST, NoReferral())} == set(RULES)


def test_a_task_survives_json():
    assert Task.from_dict(json.loads(json.dumps(TASK.to_dict()))) == TASK
    fitted = replace(TASK, rule=BY_COST, fitted=FITTED)
    assert Task.from_dict(json.loads(json.dumps(fitted.to_dict()))) == fitted
    for label_set in LABEL_SETS.values():
        described = Task(label_set.name, "colour_fundus", {"answer": Labels(label_set)}, NoReferral())
        assert Task.from_dict(json.loads(json.dumps(described.to_dict()))) == described


def test_needs_are_optional_and_survive_json():
    assert "needs" not in TASK.to_dict()
    needing = replace(TASK, needs=("macula",))
    assert Task.from_dict(json.loads(json.dumps(needing.to_dict()))) == needing
    assert needing.looked_for == ("macula",)  # in the picture: its points are others
    points = replace(LANDMARKS, labels=(replace(LANDMARKS.labels[0], code="FOVEA"), *LANDMARKS.labels[1:]))
    locating = Task("landmarks", "colour_fundus", {"points": Points(points)}, NoReferral(), needs=("macula",))
    assert locating.looked_for == ()
    assert replace(locating, modality="uwf_red_green").needs == ("macula",)
    with pytest.raises(ValueError, match="a list expected"):
        Task.from_dict({**TASK.to_dict(), "needs": "macula"})


def test_findings_survive_json():
    for finding in findings(answer()).values():
        assert finding_from_dict(json.loads(json.dumps(finding.to_dict()))) == finding


def test_the_answer_is_checked():
    batch = {name: values[None] for name, values in answer().items()}
    TASK.check(batch)
    for name, values, said in [
        ("labels", batch["labels"][:, :2], r"labels: labels have the shape \(1, 3\)"),
        ("grades", batch["grades"] + 1, r"grades: not in \[0, 1\]"),
        ("label_maps", batch["label_maps"] * np.nan, "label_maps: not finite"),
        ("masks", batch["masks"][..., :1], r"masks: masks have the shape \(1, any, any, 2\)"),
        ("points", batch["points"][..., :2], r"points: points have the shape \(1, 2, 3\)"),
    ]:
        with pytest.raises(ValueError, match=said):
            TASK.check({**batch, name: values})
    with pytest.raises(ValueError, match="gives no features"):
        TASK.check({name: values for name, values in batch.items() if name != "features"})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": "far too long a name"}, "1 to 16 letters"),
        ({"modality": "oct"}, "modality must be one of"),
        ({"outputs": {"features": Features()}}, "needs an output of labels"),
        ({"outputs": {"a": Labels(PALM), "maps": Maps(of="b")}}, "maps explain an output"),
        ({"outputs": {"a": Labels(PALM), "b": Labels(PALM)}}, "the code 'N' in several"),
        ({"outputs": {"an output": Labels(PALM)}}, "letters, digits and '_'"),
        ({"measures": (VerticalRatio("ratio", "Ratio", "macula", "disc"),)}, "needs a mask 'macula'"),
        ({"measures": ()}, "needs a measure of the task. Received: 'vcdr'"),
        ({"rule": MeasureAbove("area", 1.0, "by hand")}, "Received: 'area'"),
        ({"fitted": Fitted({"labels": Calibration({"P": Temperature(2.0)}, "")})}, "a curve for each of N, H, P"),
        ({"fitted": Fitted({"masks": Calibration({"disc": Temperature(2.0)}, "")})}, "needs labels or grades"),
        ({"fitted": Fitted(doubts=(MissedRisk("points", "", 0.1, 0.05, 0.9),))}, "needs an output of labels or grades"),
        (
            {"fitted": Fitted(doubts=(LabelSets("labels", "", (("N", "P"),), (0.1,), 0.9),))},
            "groups of which one label",
        ),
        ({"outputs": {**OUTPUTS, "more": Maps(of="grades")}}, "explains one output at most"),
        ({"needs": ("cornea",)}, r"needs are of macula, each once\. Received: \('cornea',\)"),
    ],
)
def test_what_is_no_task_is_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        replace(TASK, **changes)


def test_an_operating_point_belongs_to_labels():
    assert (TASK.label_set, TASK.thresholds, TASK.condition) == (PALM, {"P": 0.5}, "pathologic myopia")
    with pytest.raises(ValueError, match="has no thresholds of labels"):
        _ = TASK.operating_point
    described = Task("landmarks", "colour_fundus", {"points": Points(LANDMARKS)}, NoReferral())
    with pytest.raises(ValueError, match="has no labels"):
        _ = described.label_set
    assert not described.refers


def test_places_are_pixels_of_the_picture():
    """The square shows 400 x 260 px of the picture in 64 x 42 px, so that 11 px above are padding."""
    found = findings(answer())
    fovea = found["point fovea"]
    assert (fovea.x, fovea.y) == pytest.approx((10 + 0.25 * 400 - 0.5, 150 - 0.5), abs=0.06)
    disc = np.array(found["mask disc"].outlines[0])
    diameter = 25 / SIZE * 400  # 25 px of the square, one more than twice the radius
    assert np.ptp(disc[:, 0]) == pytest.approx(diameter, abs=0.5 / SIZE * 400)
    assert disc.mean(axis=0) == pytest.approx((10 + 32.5 / 64 * 400 - 0.5, 150 + 0.5 / 64 * 400), abs=4)


def test_measures_are_those_of_the_findings():
    found = findings(answer())
    assert found["measure vcdr"].value == pytest.approx(13 / 25, abs=0.01)
    distance = 0.25 * 400 / (25 / 42 * 260)
    assert found["measure fovea_disc"].value == pytest.approx(distance, rel=0.02)
    no_disc = findings(answer(masks=np.zeros((SIZE, SIZE, 2))))
    assert no_disc["measure vcdr"].value is no_disc["measure fovea_disc"].value is None
    no_cup = answer()
    no_cup["masks"][..., 1] = 0
    assert findings(no_cup)["measure vcdr"].value == 0


def test_what_was_not_found_has_no_place():
    unsure = answer(points=[[0.25, 0.5, 0.49], [1.4, 0.5, 0.9]])  # too little confidence; beside the picture
    found = findings(unsure)
    assert (found["point fovea"].x, found["point disc_centre"].x) == (None, None)
    assert found["measure fovea_disc"].value is None
    empty = findings(answer(masks=np.full((SIZE, SIZE, 2), 0.4)))["mask disc"]
    assert (empty.found, empty.share, empty.probability) == (False, 0.0, None)


def test_nothing_is_found_beside_the_picture():
    """Padding above and below the picture is black; what a network sees there is not there."""
    found = findings(answer(masks=np.ones((SIZE, SIZE, 2))))["mask disc"]
    assert np.array(found.outlines[0])[:, 1].min() >= 19.5
    assert np.array(found.outlines[0])[:, 1].max() <= 279.5


def test_a_share_is_of_the_field_and_only_in_pictures_that_stretch_nothing():
    said = answer()
    image = np.zeros((SIZE, SIZE, 3), np.uint8)
    image[16:48, 16:48] = 90
    inside = said["masks"][16:48, 16:48, 0].mean()
    found = {each.code: each for each in TASK.findings(said, WIDE, image) if each.kind == "mask"}
    assert found["disc"].share == pytest.approx(float(inside))
    stretched = replace(TASK, modality="uwf_red_green").findings(said, WIDE, image)
    assert [each.share for each in stretched if each.kind == "mask"] == [None, None]


def test_an_exclusive_mask_has_a_background():
    output = Masks(OUTPUTS["masks"].labels, exclusive=True)
    assert (output.channels, output.activation) == (3, "softmax")
    task = Task("nerve", "colour_fundus", {"masks": output}, NoReferral())
    disc, cup = circle((32, 32), 12), circle((32, 32), 6)
    said = np.stack([1 - disc, disc - cup, cup], axis=-1)
    found = {each.code: each for each in task.findings({"masks": said}, WIDE, np.full((SIZE, SIZE, 3), 90, np.uint8))}
    assert found["cup"].share == pytest.approx(cup.sum() / SIZE**2)


def test_concepts_are_those_of_dicom():
    """SNOMED CT as DICOM's own dictionary has it."""
    for label in (*LANDMARKS.labels, *OUTPUTS["masks"].labels.labels):
        if label.concept is not None:
            known = {
                codes.SCT.OpticNerveHead.value: "Optic nerve head",
                codes.SCT.FoveaCentralis.value: "Fovea centralis",
            }
            assert known[label.concept.value] == label.concept.meaning


def test_the_rule_of_realmnet_is_a_task_of_two_outputs():
    point = OperatingPoint(dict.fromkeys(PSMM.pathologic, 0.5), "by hand")
    task = labels_task(PSMM, "uwf_red_green", point)
    assert list(task.outputs) == ["probabilities", "class_maps"]
    maps = task.class_maps({"class_maps": np.arange(28).reshape(2, 2, 7)})
    assert list(maps) == list(PSMM.codes)
    np.testing.assert_array_equal(maps["A3"], [[5, 12], [19, 26]])
