from dataclasses import replace

import numpy as np
import pytest
from sklearn.metrics import f1_score, precision_recall_curve

from keras_realmnet.errors import DataSetError
from keras_realmnet.tasks.vocabulary import PSMM
from tests.training.tasks.vocabularies import DISC, SPOTS
from training.scoring.by_kind.masks import LEVELS, best_f1_threshold, level_of
from training.scoring.thresholds import choose_mask_thresholds, choose_thresholds, chosen_by_pixels, ranked_pixels
from training.tasks.kinds import kind_of


def test_thresholds_are_the_largest_with_the_sensitivity(two_models):
    y_true, y_score = two_models.table.labels, two_models.better
    point = choose_thresholds(y_true, y_score, PSMM, "the validation images", min_sensitivity=0.9)
    assert set(point.thresholds) == set(PSMM.pathologic)
    assert "0.90" in point.chosen
    assert "the validation images" in point.chosen
    for code, threshold in point.thresholds.items():
        k = PSMM.codes.index(code)
        positive = y_score[y_true[:, k] == 1, k]
        assert (positive >= threshold).mean() >= 0.9
        last_found = y_score[y_score[:, k] > threshold, k].min()
        assert (positive > last_found).mean() < 0.9
        assert threshold < last_found - 1e-6  # never on a score itself


def test_a_label_without_positives_has_no_threshold(two_models):
    y_true = two_models.table.labels.copy()
    y_true[:, 6] = 0
    with pytest.raises(DataSetError, match="validation: no image with label A4"):
        choose_thresholds(y_true, two_models.better, PSMM, "validation")


def ranked(y, probability):
    pixels = np.zeros((LEVELS, 2), np.int64)
    np.add.at(pixels, (level_of(probability), y), 1)
    return pixels


@pytest.mark.parametrize(("positives", "spread"), [(40_000, 2.0), (2_000, 1.0), (20_000, 6.0)])
def test_no_other_threshold_has_a_better_f1_of_pixels(positives, spread):
    """Against all of them; pixels of one level cannot be told apart, which costs two thousandths at most."""
    y = np.repeat([0, 1], [60_000, positives])
    logit = np.random.default_rng(positives).normal(3.0 * y - 2.0, spread)
    probability = (1 / (1 + np.exp(-logit))).astype(np.float32)
    threshold = best_f1_threshold(ranked(y, probability))
    precision, recall, _ = precision_recall_curve(y, probability)
    best = (2 * precision * recall / np.maximum(precision + recall, 1e-9)).max()
    assert best - 2e-3 <= f1_score(y, probability >= threshold) <= best + 1e-9
    assert (threshold * 256) % 1 != 0  # no value of an int8 network


def test_a_threshold_lies_halfway_between_what_is_found_and_what_is_not():
    pixels = ranked(np.array([0, 0, 1, 1]), np.array([0.1, 0.3, 0.8, 0.9], np.float32))
    assert best_f1_threshold(pixels) == pytest.approx(0.55, abs=0.005)
    few = ranked(np.array([0, 1]), np.array([1e-5, 1e-3], np.float32))  # a network that is nearly sure of nothing
    assert best_f1_threshold(few) == pytest.approx(5e-4, rel=0.02)
    assert best_f1_threshold(ranked(np.zeros(3, int), np.array([0.1, 0.5, 0.9], np.float32))) is None


def test_masks_are_judged_by_the_pixels_of_all_images_together():
    truth = np.zeros((2, 8, 8, 3), np.uint8)
    truth[0, :4, :, 0], truth[1, 0, 0, 0] = 1, 1
    truth[:, 4:, :, 1] = 255  # outside of the field of view
    truth[0, :2, :, 1] = 1
    said = np.where(truth == 1, [0.4, 0.03, 0.5], [0.2, 0.01, 0.5]).astype(np.float32)
    said[1, :, :, 0] = 0.3  # the second image alone would have a higher one, the first a lower one
    pixels = ranked_pixels(SPOTS, kind_of(SPOTS).cases(SPOTS, truth, said))
    assert {code: int(each.sum()) for code, each in pixels.items()} == {"ma": 128, "se": 64, "nv": 128}
    found = choose_mask_thresholds(pixels, "2 images")
    assert found["thresholds"] == {"ma": pytest.approx(0.35, abs=0.01), "se": pytest.approx(0.02, abs=0.001)}
    assert found["chosen"] == "the best F1 of pixels on 2 images"
    with pytest.raises(DataSetError, match="2 images: no image with any of nv; thresholds"):
        choose_mask_thresholds({"nv": pixels["nv"]}, "2 images")
    assert chosen_by_pixels(SPOTS)
    assert not any(map(chosen_by_pixels, (DISC, replace(SPOTS, single=True))))
