import json

import numpy as np

from keras_realmnet.tasks.vocabulary import PSMM
from tests.training.scoring.made_up import image_set
from training.scoring.comparison import compare_tables
from training.scoring.evaluate import score_predictions
from training.scoring.printing import print_comparison, print_level, print_scores
from training.scoring.statistics.bootstrap import Bootstrap
from training.scoring.tables import score_table
from training.scoring.thresholds import choose_thresholds


def test_the_better_model_is_found(files, capsys):
    found = compare_tables([files[0]], files[1], files[2], replicates=200)
    assert json.loads(json.dumps(found)) == found
    assert found["differences"]["macro_auroc"]["high"] < 0
    assert found["differences"]["hamming_loss"]["low"] > 0
    assert found["delong"]["S1"]["p"] < 0.05
    assert found["t_test"]["macro_auroc"] < 1e-6
    assert set(found["differences"]) == set(found["t_test"])
    print_comparison(found)
    text = capsys.readouterr().out
    assert "hamming_loss ↓" in text
    assert "images of one patient are not" in " ".join(text.split())
    assert "are not independent samples" in " ".join(text.split())


def test_scores_print_as_tables(two_models, capsys):
    table = two_models.table
    labels = table.labels.astype(np.float32)
    labels[:, 6] = 0
    images = image_set(labels, table)
    point = choose_thresholds(table.labels, two_models.better, PSMM, "these images")
    found = score_predictions(images, two_models.better, point, replicates=40)
    print_scores({"data": "phantom", "thresholds_chosen_on_test": True, **found}, PSMM)
    text = " ".join(capsys.readouterr().out.split())
    interval = found["image"]["scores"]["macro_auroc"]
    assert f"{interval['value']:.4f} ({interval['low']:.4f} to {interval['high']:.4f})" in text
    assert "not defined" in text
    assert "A4: no positive image" in text
    assert "optimistic" in text
    assert "patients: macro_f1" in text


def test_the_papers_tables_show_the_standard_error_in_points(files, capsys):
    found = score_table([files[0]], files[1], bootstrap=Bootstrap("paper", 100))
    print_level("paper", found, found["bootstrap"], PSMM)
    text = capsys.readouterr().out
    assert f"{100 * found['scores']['macro_f1']['sd'] / np.sqrt(1000):.3f}" in text
    assert "mean ± 1.96 SD, 1000 resampled" in " ".join(text.split())
