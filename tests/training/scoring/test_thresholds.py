import pytest

from keras_realmnet.errors import DataSetError
from keras_realmnet.tasks.vocabulary import PSMM
from training.scoring.thresholds import choose_thresholds


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
