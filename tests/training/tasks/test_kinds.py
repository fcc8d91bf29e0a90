import numpy as np
import pytest
from sklearn.metrics import accuracy_score, cohen_kappa_score, f1_score, roc_auc_score

from keras_realmnet.tasks import outputs
from keras_realmnet.tasks.outputs import Features, Maps
from tests.training.tasks.vocabularies import DISC, LANDMARKS, LESIONS, SEVERITY, SPOTS
from training.tasks.kinds import KINDS, kind_of
from training.tasks.masks import nearest
from training.tasks.motion import IGNORE

NAN = np.nan


def scores_of(output, truth, predicted, parts=1):
    """The figures, with the cases of several parts put together as after several batches."""
    kind = kind_of(output)
    pieces = [
        kind.cases(output, *part)
        for part in zip(np.array_split(truth, parts), np.array_split(predicted, parts), strict=True)
    ]
    together = {name: np.concatenate([piece[name] for piece in pieces]) for name in pieces[0]}
    found = kind.scores(output, together)
    assert set(found) == set(kind.figures)
    return found


def test_each_kind_with_a_truth_is_in_the_table():
    with_labels = {kind for kind in outputs.KINDS.values() if "labels" in kind.__dataclass_fields__}
    assert set(KINDS) == with_labels
    for output in (Maps(of="x"), Features()):
        with pytest.raises(ValueError, match=f"Received: {output.kind}"):
            kind_of(output)


def test_a_loss_fits_the_output():
    assert kind_of(DISC).losses_of(DISC) == {"CrossentropyDice": {"exclusive": True}}
    others = {"DualDice": {}, "PixelCrossentropy": {}, "PixelFocal": {}}
    assert kind_of(SPOTS).losses_of(SPOTS) == {"CrossentropyDice": {"exclusive": False}, **others}
    for output in (LESIONS, SEVERITY, LANDMARKS):
        assert next(iter(kind_of(output).losses_of(output))) == kind_of(output).losses[0]


@pytest.mark.parametrize(
    ("output", "truth", "message"),
    [
        (LESIONS, np.zeros((3, 2)), "float32 of shape .n, 2.. Received: float64"),
        (LESIONS, np.full((3, 2), 2, np.float32), "0 to 1, or be NaN. Received: 2.0"),
        (SEVERITY, np.ones((3, 3), np.float32), "one-hot"),
        (SEVERITY, np.array([[1, 0, NAN]], np.float32), "one-hot"),
        (DISC, np.zeros((3, 8, 8, 2), np.uint8), r"uint8 of shape \(n, 8, 8\)"),
        (SPOTS, np.zeros((3, 8, 8, 2), np.uint8), r"uint8 of shape \(n, 8, 8, 3\)"),
        (LANDMARKS, np.zeros((3, 2, 2), np.float32), r"\(n, 2, 3\)"),
        (LANDMARKS, np.array([[[0.5, 0.5, 0]] * 2], np.float32), "NaN elsewhere"),
        (LANDMARKS, np.array([[[NAN, NAN, 1]] * 2], np.float32), "NaN elsewhere"),
        (LANDMARKS, np.array([[[NAN, NAN, 0.5]] * 2], np.float32), "visible .1., not"),
    ],
)
def test_a_truth_of_another_form_is_refused(output, truth, message):
    with pytest.raises(ValueError, match=message):
        kind_of(output).check(output, truth, 8)


def test_figures_of_labels_are_those_of_scikit_learn():
    rng = np.random.default_rng(0)
    truth, predicted = rng.integers(0, 2, (40, 2)).astype(np.float32), rng.random((40, 2))
    found = scores_of(LESIONS, truth, predicted, parts=3)
    assert found["macro_auroc"] == pytest.approx(roc_auc_score(truth, predicted, average="macro"))
    assert found["pathologic_auroc"] is None  # no label of this vocabulary is pathologic


def test_figures_of_grades_are_those_of_scikit_learn():
    rng = np.random.default_rng(1)
    grade, predicted = rng.integers(0, 3, 50), rng.random((50, 3))
    truth = np.eye(3, dtype=np.float32)[grade]
    truth[40:] = NAN
    found = scores_of(SEVERITY, truth, predicted, parts=4)
    said = predicted.argmax(axis=1)[:40]
    assert found["kappa"] == pytest.approx(cohen_kappa_score(grade[:40], said, weights="quadratic"))
    assert found["accuracy"] == accuracy_score(grade[:40], said)
    one_hot = np.eye(3, dtype=np.float32)
    assert scores_of(SEVERITY, one_hot, one_hot[[0, 2, 2]])["kappa"] == pytest.approx(0.8)
    assert scores_of(SEVERITY, one_hot[[1, 1]], one_hot[[1, 1]])["kappa"] is None
    assert scores_of(SEVERITY, truth[40:], predicted[40:]) == {"kappa": None, "accuracy": None}


@pytest.mark.parametrize("output", [DISC, SPOTS])
def test_figures_of_masks_leave_out_what_is_ignored(output):
    rng = np.random.default_rng(2)
    classes, labels = (3, 2) if output.exclusive else (2, 3)
    truth = rng.integers(0, classes, (5, 8, 8) if output.exclusive else (5, 8, 8, 3)).astype(np.uint8)
    truth[:, :2] = IGNORE
    truth[0][truth[0] != IGNORE] = 0  # nothing is there
    probability = rng.random((5, 8, 8, output.channels)).astype(np.float32)
    if output.exclusive:
        probability /= probability.sum(axis=-1, keepdims=True)
    found = scores_of(output, truth, probability, parts=2)
    known = truth[:, 2:]
    said = probability[:, 2:, :, int(output.exclusive) :] >= 0.5
    there = np.stack([known == k + 1 for k in range(labels)], axis=-1) if output.exclusive else known == 1
    pooled = [f1_score(there[..., k].ravel(), said[..., k].ravel()) for k in range(labels)]
    assert found["pixel_f1"] == pytest.approx(np.mean(pooled))
    each = [f1_score(there[n, ..., k].ravel(), said[n, ..., k].ravel()) for n in range(1, 5) for k in range(labels)]
    assert found["dice"] == pytest.approx(np.mean(each))
    nothing = np.where(truth == IGNORE, truth, 0).astype(np.uint8)
    assert scores_of(output, nothing, np.zeros_like(probability)) == {"dice": None, "pixel_f1": None}


def test_coarse_masks_are_enlarged_before_they_are_compared():
    truth = np.zeros((1, 8, 8), np.uint8)
    truth[0, 4:] = 1
    coarse = np.zeros((1, 2, 2, 3), np.float32)
    coarse[0, 0, :, 0] = coarse[0, 1, :, 1] = 1  # background above, disc below
    assert scores_of(DISC, truth, coarse) == {"dice": 1.0, "pixel_f1": 1.0}


def test_figures_of_points_are_distances_where_places_are_known():
    truth = np.array([[[0.5, 0.5, 1], [NAN, NAN, 0]], [[0.1, 0.2, 1], [NAN, NAN, NAN]]], np.float32)
    predicted = np.array([[[0.8, 0.9], [0.1, 0.1]], [[0.1, 0.3], [0.9, 0.9]]], np.float32)
    found = scores_of(LANDMARKS, truth, predicted, parts=2)
    assert found == {"mean_distance": pytest.approx(0.3), "median_distance": pytest.approx(0.3)}
    assert scores_of(LANDMARKS, truth[:, 1:].repeat(2, axis=1), predicted) == dict.fromkeys(found)


def test_a_mask_is_made_smaller_by_the_pixel_at_the_centre():
    np.testing.assert_array_equal(nearest(9, 3), [1, 4, 7])
    np.testing.assert_array_equal(nearest(2, 4), [0, 0, 1, 1])
    mask = np.arange(81, dtype=np.uint8).reshape(9, 9)
    np.testing.assert_array_equal(kind_of(DISC).resized(mask, 3), mask[1::3, 1::3])
    assert kind_of(DISC).resized(mask, 9) is mask


@pytest.mark.parametrize("output", [LESIONS, SEVERITY, DISC, SPOTS, LANDMARKS])
def test_of_what_is_unknown_nothing_is_present(output):
    kind = kind_of(output)
    truth = kind.unknown(output, 3, 8)
    kind.check(output, truth, 8)
    there, known = kind.presence(output, truth)
    assert there.shape == known.shape == (3, len(output.labels))
    assert not there.any()
    assert not known.any()


def test_what_is_present():
    mask = np.zeros((2, 8, 8), np.uint8)
    mask[1, 2:4], mask[1, 5:] = 2, IGNORE
    there, known = kind_of(DISC).presence(DISC, mask)
    np.testing.assert_array_equal(there, [[False, False], [False, True]])
    assert known.all()
    points = np.array([[[0.5, 0.5, 1], [NAN, NAN, 0]], [[NAN] * 3] * 2], np.float32)
    there, known = kind_of(LANDMARKS).presence(LANDMARKS, points)
    np.testing.assert_array_equal(there, [[True, False], [False, False]])
    np.testing.assert_array_equal(known, [[True, True], [False, False]])
    there, known = kind_of(SEVERITY).presence(SEVERITY, np.array([[0, 1, 0], [NAN] * 3], np.float32))
    np.testing.assert_array_equal(there, [[False, True, False], [False] * 3])
    np.testing.assert_array_equal(known, [[True] * 3, [False] * 3])
