"""Marked regions as what is trained, and the activation in region on the images found and missed."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from keras_realmnet.tasks.guidance import marked_regions
from keras_realmnet.tasks.outputs import Labels
from tests.training.tasks.vocabularies import task, vocabulary
from training.datasets.image_set import ImageSet
from training.scoring.by_kind.regions import activation_in_regions
from training.scoring.evaluate import measured, score_outputs
from training.scoring.statistics.bootstrap import Bootstrap, with_intervals
from training.scoring.thresholds import balanced_threshold
from training.tasks.figures import figure_columns
from training.tasks.kinds import kind_of
from training.tasks.motion import IGNORE

FINDING = vocabulary("finding", "ex")
REGIONS = marked_regions(FINDING)
BOTH = task(probabilities=Labels(FINDING), class_maps=REGIONS)
NAN = np.nan


def test_it_is_told_from_other_masks_and_has_a_loss_of_its_own():
    kind = kind_of(REGIONS)
    assert kind.losses_of(REGIONS) == {"Guidance": {}}
    assert kind.spatial
    assert kind.beside_pixels
    assert not kind.mixes
    assert figure_columns(BOTH)["val_class_maps_air"] is True
    kind.check(REGIONS, np.zeros((3, 8, 8, 1), np.uint8), 8)
    with pytest.raises(ValueError, match=r"uint8 of shape \(n, 8, 8, 1\)"):
        kind.check(REGIONS, np.zeros((3, 8, 8), np.uint8), 8)


@given(st.integers(0, 2**32 - 1), st.sampled_from([1, 2, 4]))
def test_the_activation_in_regions_is_that_of_the_pixels(seed, step):
    rng = np.random.default_rng(seed)
    truth = rng.choice([0, 1, IGNORE], (8, 8, 2)).astype(np.uint8)
    a = rng.random((8 // step, 8 // step, 2))
    found = activation_in_regions(a, truth == 1, truth != IGNORE)
    large = a.repeat(step, axis=0).repeat(step, axis=1)
    for k in range(2):
        inside, known = truth[..., k] == 1, truth[..., k] != IGNORE
        expected = large[inside, k].sum() / large[known, k].sum() if inside.any() else NAN
        np.testing.assert_allclose(found[k], expected)


def test_where_it_is_in_none_or_all():
    a, inside = np.zeros((2, 2, 1)), np.zeros((4, 4, 1), bool)
    known = np.ones_like(inside)
    assert np.isnan(activation_in_regions(a + 0.5, inside, known)[0])
    assert activation_in_regions(a + 0.5, ~inside, known)[0] == 1
    inside[:2, :2] = True
    assert activation_in_regions(a + 0.5, inside, known)[0] == 0.25
    a[0, 0] = 1
    assert activation_in_regions(a, inside, known)[0] == 1
    with pytest.raises(ValueError, match=r"whole multiples of 2 × 2\. Received: 5 × 5"):
        activation_in_regions(a, np.ones((5, 5, 1), bool), np.ones((5, 5, 1), bool))


def test_the_best_harmonic_mean_of_sensitivity_and_specificity():
    assert balanced_threshold(np.array([0, 1, 0, 1]), np.array([0.1, 0.4, 0.6, 0.9])) == pytest.approx(0.25)
    assert balanced_threshold(np.array([0, NAN, 1]), np.array([0.1, 0.3, 0.6])) == pytest.approx(0.35)
    assert np.isnan(balanced_threshold(np.array([0, 0]), np.array([0.1, 0.4])))
    assert np.isnan(balanced_threshold(np.array([1, NAN]), np.array([0.1, 0.4])))


@given(st.lists(st.tuples(st.booleans(), st.sampled_from([0.1, 0.2, 0.3, 0.4, 0.5])), min_size=2, max_size=20))
def test_no_other_threshold_is_better(images):
    true, score = (np.array(each) for each in zip(*images, strict=True))

    def mean(threshold):
        sensitivity, specificity = (score[true] >= threshold).mean(), (score[~true] < threshold).mean()
        return 2 * sensitivity * specificity / max(sensitivity + specificity, 1e-12)

    found = balanced_threshold(true.astype(float), score)
    if true.all() or not true.any():
        assert np.isnan(found)
    else:
        assert mean(found) == pytest.approx(max(map(mean, np.arange(0.05, 0.65, 0.05))))


def images_and_cases():
    """Six images: two found, one missed, one unknown, two without; the left half is marked where there is a mark."""
    truth = np.array([[1], [1], [1], [NAN], [0], [0]], np.float32)
    masks = np.zeros((6, 8, 8, 1), np.uint8)
    masks[:4, :, :4] = 1
    masks[:, :2] = IGNORE
    names = tuple("abcdef")
    data = ImageSet(
        np.zeros((6, 8, 8, 3), np.uint8),
        {"probabilities": truth},
        names,
        ("p", "p", *names[2:]),
        BOTH,
        "hash",
        masks={"class_maps": masks},
    )
    predicted = np.array([[0.9], [0.8], [0.2], [0.7], [0.3], [0.1]], np.float32)
    a = np.zeros((6, 2, 2, 1), np.float32)
    a[:, :, 0, 0], a[:, :, 1, 0] = (
        np.array([1, 0.5, 0.1, 0.2, 0, 0])[:, None],
        np.array([0, 0.5, 0.3, 0.2, 1, 1])[:, None],
    )
    cases = {
        "probabilities": kind_of(BOTH.trained["probabilities"]).cases(BOTH.trained["probabilities"], truth, predicted),
        "class_maps": kind_of(REGIONS).cases(REGIONS, masks, a),
    }
    return data, cases


def test_air_of_what_is_found_and_what_is_missed():
    data, cases = images_and_cases()
    np.testing.assert_allclose(cases["class_maps"]["air"][:, 0], [1, 0.5, 0.25, 0.5, NAN, NAN])
    more = measured(data, cases)["class_maps"]
    assert more["threshold"][0, 0] == pytest.approx(0.55)
    assert more["said"][:, 0].tolist() == [True, True, False, True, False, False]
    found = score_outputs(data, cases, replicates=50)
    scores = found["outputs"]["class_maps"]["scores"]
    expected = {"air": 1.75 / 3, "air_tp": 0.75, "air_fn": 0.25, "sensitivity": 2 / 3, "specificity": 1.0}
    for name, value in expected.items():
        assert scores[name]["value"] == scores[f"{name}_ex"]["value"] == pytest.approx(value)
    assert set(scores) == {each for name in expected for each in (name, f"{name}_ex")}
    assert found["scores"]["class_maps_air_tp"]["value"] == pytest.approx(0.75)
    assert scores["air"]["low"] < scores["air"]["value"] < scores["air"]["high"]
    assert scores["air_tp"]["low"] == scores["air_tp"]["high"] == pytest.approx(0.75)  # one patient has both
    assert found["outputs"]["class_maps"]["counts"]["ex"] == {
        "with": 4,
        "without": 2,
        "unknown": 0,
        "threshold": pytest.approx(0.55),
        "true positives": 2,
        "false negatives": 1,
    }


def test_without_labels_it_is_of_all_that_are_marked_and_what_is_not_there_has_no_score():
    data, cases = images_and_cases()
    kind = kind_of(REGIONS)
    assert kind.scores(REGIONS, cases["class_maps"]) == {"air": pytest.approx(2.25 / 4)}
    nothing = {name: values[4:] for name, values in cases["class_maps"].items()}
    assert kind.scores(REGIONS, nothing) == {"air": None}
    column = kind.columns("class_maps", REGIONS, cases["class_maps"])["ex_air"]
    assert [float(value or "nan") for value in column] == pytest.approx([1, 0.5, 0.25, 0.5, NAN, NAN], nan_ok=True)
    only = {name: values[:2] for name, values in measured(data, cases)["class_maps"].items()}
    scores = with_intervals(kind.make_scorer(REGIONS, only), np.array(["p", "q"]), Bootstrap("patient", 20))
    assert scores["air_fn"].value is None
    assert scores["specificity"].value is None
    assert kind.counts(REGIONS, cases["class_maps"]) == {"ex": {"with": 4, "without": 2, "unknown": 0}}
