import numpy as np

from training.report.class_map_section import examples


def test_examples_are_the_extremes():
    y_true = np.array([1, 1, 1, 0, 0, np.nan, 1])
    y_score = np.array([0.6, 0.9, 0.2, 0.7, 0.1, 0.99, 0.3])
    assert examples(y_true, y_score) == {"found": 1, "missed": 2, "false positive": 3}
    assert examples(y_true[:2], y_score[:2]) == {"found": 1, "missed": None, "false positive": None}
