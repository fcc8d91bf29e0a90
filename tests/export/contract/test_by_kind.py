"""The contract of each kind by hand: figures, broken limits, and changes of scores on 500 images."""

from dataclasses import replace

import numpy as np
import pytest
from sklearn import metrics

from export.commands.tables import print_parity
from export.contract.by_kind.kinds import KINDS, contract_of
from export.contract.images import Images
from export.contract.parity import measure
from keras_realmnet.tasks.masks import found_masks
from keras_realmnet.tasks.outputs import Features, Grades, Masks, Points
from keras_realmnet.tasks.rules import NoReferral
from keras_realmnet.tasks.task import Task
from tests.training.tasks.vocabularies import DISC, LANDMARKS, SEVERITY, SPOTS, vocabulary

SIZE = 16
TASK = Task(
    "tiny",
    "colour_fundus",
    {
        "dr": SEVERITY,
        "disc": DISC,
        "marks": Points(LANDMARKS.labels, confidence=True),
        "vector": Features(),
    },
    NoReferral(),
)


def made_up(images=40, seed=0):
    """Predictions of every output, and a truth that they come near."""
    rng = np.random.default_rng(seed)
    grade = rng.integers(0, 3, images)
    one_hot = np.eye(3, dtype=np.float32)[grade]
    truth_mask = np.zeros((images, SIZE, SIZE), np.uint8)
    truth_mask[:, 4:12, 4:12], truth_mask[:, 6:10, 6:10] = 1, 2
    probability = np.eye(3, dtype=np.float32)[truth_mask[:, ::2, ::2]] * 0.8 + 0.2 / 3
    places = rng.uniform(0.2, 0.8, (images, 2, 2))
    marks = np.concatenate([places, np.full((images, 2, 1), 0.9)], axis=-1).astype(np.float32)
    expected = {
        "dr": (one_hot * 0.7 + 0.1).astype(np.float32),
        "disc": probability.astype(np.float32),
        "marks": marks,
        "vector": rng.normal(size=(images, 6)).astype(np.float32),
    }
    truth_points = np.concatenate([places + 0.01, np.ones((images, 2, 1))], axis=-1).astype(np.float32)
    truth = {"dr": one_hot, "disc": truth_mask, "marks": truth_points}
    patients = [f"p{k // 2}" for k in range(images)]
    return expected, Images(np.zeros((images, SIZE, SIZE, 3), np.uint8), "made up", truth, patients)


def changed(expected, **changes):
    return {name: changes[name](values.copy()) if name in changes else values for name, values in expected.items()}


def test_the_same_answer_breaks_nothing(capsys):
    expected, images = made_up()
    found = measure(expected, expected, TASK, images, replicates=10)
    for precision in ("float32", "float16", "int8_static"):
        assert found.violations(precision) == []
    assert found.values["dr"]["kappa"].difference == found.values["disc"]["dice_to_truth"].difference == 0
    assert found.values["marks"]["mean_distance"].a == pytest.approx(np.hypot(0.01, 0.01), rel=1e-5)
    assert "dr: changes of κ were not judged: 500 labelled images needed, 40 images received" in found.unjudged("int8")
    assert "disc: changes of Dice were not judged" in found.unjudged("int8")
    assert found.unjudged("float32") is None
    print_parity({"a": found, "b": measure(expected, expected, TASK, Images(images.pixels, "no truth"))})
    printed = capsys.readouterr().out
    for text in (
        "dr: difference to Keras on 40 images",
        "disc: difference",
        "marks: difference",
        "Dice to Keras",
        "Δκ",
    ):
        assert text in printed


def test_grades_that_change_are_counted():
    expected, images = made_up()

    def another(values):
        values[:3] = np.roll(values[:3], 1, axis=1)
        return values

    found = measure(expected, changed(expected, dr=another), TASK, images, replicates=10)
    assert found.values["dr"]["grades_changed"] == 3
    assert found.values["dr"]["max_probability"] == pytest.approx(0.7)
    assert found.values["dr"]["mean_probability"] == pytest.approx(3 * 1.4 / 120)
    told = found.violations("int8")
    assert "dr: 3 of 40 grades changed, allowed 1" in told
    assert all(line.startswith("dr: ") for line in told)
    grade = images.truth["dr"].argmax(axis=1)
    said = changed(expected, dr=another)["dr"].argmax(axis=1)
    kappa = metrics.cohen_kappa_score(grade, said, weights="quadratic")
    assert found.values["dr"]["kappa"].b == pytest.approx(kappa)


def test_changes_of_scores_are_judged_on_500_images():
    expected, images = made_up(600)

    def worse(values):
        values[:20] = np.roll(values[:20], 1, axis=1)
        return values

    def smaller(values):
        values[:200, :5, :, 1:], values[:200, :5, :, 0] = 0, 1
        return values

    found = measure(expected, changed(expected, dr=worse, disc=smaller), TASK, images, replicates=20)
    told = found.violations("int8")
    assert any(line.startswith("dr: quadratic kappa changes by -0.0") for line in told)
    assert any(line.startswith("disc: Dice changes by -0.") for line in told)
    assert found.unjudged("int8") is None
    assert not any("changes by" in line for line in found.violations("float32"))


def beside(mask):
    """A mask (h, w), and the eight neighbours of its pixels."""
    shifts = [(y, x) for y in (-1, 0, 1) for x in (-1, 0, 1)]
    return np.any([np.roll(np.pad(mask, 1), shift, (0, 1))[1:-1, 1:-1] for shift in shifts], axis=0)


@pytest.mark.parametrize("single", [True, False])
@pytest.mark.parametrize("output", [DISC, SPOTS, Masks(SPOTS.labels, threshold=0.3)])
def test_masks_are_compared_by_dice_over_all_pixels(output, single):
    """What is there once exactly, what is there many times with a pixel of grace at its rim."""
    output = replace(output, single=single)
    rng = np.random.default_rng(1)
    task = Task("tiny", "colour_fundus", {"m": output}, NoReferral())
    a, b = (rng.random((5, 8, 8, output.channels)).astype(np.float32) ** 5 for _ in range(2))
    found = measure({"m": a}, {"m": b}, task, Images(np.zeros((5, 16, 16, 3), np.uint8), "made up"))
    start = int(output.exclusive)
    if single:
        x, y = (np.stack([found_masks(output, values[..., start:]) for values in given]) for given in (a, b))
        near_x, near_y = x, y
    else:
        x, y = (values[..., start:] >= output.threshold for values in (a, b))
        near_x, near_y = (
            np.stack([[beside(m[..., k]) for k in range(m.shape[-1])] for m in masks]).transpose(0, 2, 3, 1)
            for masks in (x, y)
        )
    agreed = (x & near_y).sum(axis=(1, 2)) + (y & near_x).sum(axis=(1, 2))
    counted = x.sum(axis=(1, 2), dtype=int) + y.sum(axis=(1, 2), dtype=int)
    assert found["dice"] == pytest.approx(np.mean(agreed.sum(axis=0) / counted.sum(axis=0)))
    if single:
        each = [metrics.f1_score(x[..., k].ravel(), y[..., k].ravel()) for k in range(len(output.labels))]
        assert found["dice"] == pytest.approx(np.mean(each))
    assert found["max_probability"] == np.abs(a - b).max()
    told = [line for line in found.violations("int8") if line.startswith("Dice to Keras is 0.")]
    assert [line.split()[-1] for line in told] == ["0.99" if single else "0.98"]
    drawn = contract_of(output).drawn("m", task, 16, {"m": a}, {"m": b})
    np.testing.assert_allclose(drawn, np.where(counted > 0, 1 - agreed / np.maximum(counted, 1), np.nan))
    nothing = measure({"m": 0 * a}, {"m": 0 * b}, task, Images(np.zeros((5, 16, 16, 3), np.uint8), "made up"))
    assert nothing["dice"] == 1


def test_a_rim_may_move_by_a_pixel_and_no_part_may_go():
    """A lesion of 3 × 3 pixels that grows by one all around is the same one; one that vanishes is not."""
    task = Task("tiny", "colour_fundus", {"m": Masks(vocabulary("spot", "ma"))}, NoReferral())
    image = Images(np.zeros((1, 32, 32, 3), np.uint8), "made up")
    spots, grown, fewer = (np.zeros((1, 32, 32, 1), np.float32) for _ in range(3))
    spots[:, 4:7, 4:7], spots[:, 20:23, 20:23] = 1, 1
    grown[:, 3:8, 3:8], grown[:, 20:23, 20:23] = 1, 1
    fewer[:, 4:7, 4:7] = 1
    assert measure({"m": spots}, {"m": grown}, task, image)["dice"] == 1
    assert measure({"m": spots}, {"m": fewer}, task, image)["dice"] == pytest.approx(2 / 3)


def test_points_are_compared_in_256ths_of_the_side_where_one_is_found():
    expected, images = made_up()

    def moved(values):
        values[0, 0, 0] += 3 / 256
        values[0, 0, 1] += 4 / 256
        values[1, 1, 2] = 0.1  # not found any more
        return values

    found = measure(expected, changed(expected, marks=moved), TASK, images, replicates=10).values["marks"]
    assert found["max_pixels"] == pytest.approx(5, rel=1e-5)
    assert found["mean_pixels"] == pytest.approx(5 / 80, rel=1e-4)
    assert found["found_changed"] == 1
    lost = changed(expected, marks=lambda values: values * np.array([1, 1, 0]))
    away = changed(lost, marks=lambda values: values + np.array([0.5, 0, 0]))
    assert measure(lost, away, TASK, images, replicates=0).values["marks"]["max_pixels"] == 0
    told = measure(expected, changed(expected, marks=moved), TASK, images, replicates=0).violations("float32")
    assert "marks: largest distance of a point in 256ths of the side is 5, allowed 0.05" in told
    assert "marks: 1 of 40 images' found points changed, allowed 0" in told


def test_features_are_compared_by_their_direction():
    expected, images = made_up()
    longer = changed(expected, vector=lambda values: 2 * values)
    assert measure(expected, longer, TASK, images, replicates=0).values["vector"]["cosine"] == pytest.approx(1)
    turned = changed(expected, vector=lambda values: -values)
    assert measure(expected, turned, TASK, images, replicates=0).values["vector"]["cosine"] == pytest.approx(-1)
    assert "vector: cosine of features to Keras' is -1.0000, required 0.99" in measure(
        expected, turned, TASK, images, replicates=0
    ).violations("int8")
    zeros = changed(expected, vector=np.zeros_like)
    assert measure(zeros, zeros, TASK, images, replicates=0).values["vector"]["cosine"] == 1


def test_the_golden_image_is_where_the_network_says_most():
    expected, _ = made_up()
    expected["dr"][5], expected["marks"][7, :, 2], expected["disc"][3] = (0, 0, 1), 1, (0, 1, 0)
    for name, most in (("dr", 5), ("marks", 7), ("disc", 3)):
        output = TASK.trained[name]
        tells = contract_of(output).tells(output, expected[name])
        assert tells.shape == (40,)
        assert tells.argmax() == most
    assert (contract_of(LANDMARKS).tells(LANDMARKS, expected["marks"][..., :2]) == 0).all()


def test_each_kind_has_a_table_and_limits_for_each_precision():
    assert all(set(contract.limits) >= {"float32", "float16", "int8"} for contract in KINDS.values())
    assert all(contract.cells for contract in KINDS.values())
    for output, form in (
        (SEVERITY, ("float32", (4, 3))),
        (DISC, ("uint8", (4, SIZE, SIZE))),
        (SPOTS, ("uint8", (4, SIZE, SIZE, 3))),
        (LANDMARKS, ("float32", (4, 2, 3))),
    ):
        assert contract_of(output).truth_form(output, 4, SIZE) == form
    with pytest.raises(ValueError, match="features have no truth"):
        contract_of(Features()).truth_form(Features(), 4, SIZE)
    assert isinstance(SEVERITY, Grades)
