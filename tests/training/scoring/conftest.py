from types import SimpleNamespace

import numpy as np
import pytest

from keras_realmnet.tasks.vocabulary import PSMM
from training.benchmarks.scores import psmm_like
from training.data.label_table import LabelTable, write_label_table
from training.scoring.tables import write_score_table


@pytest.fixture(scope="module")
def cohort():
    """Truth, scores and patients of 200 images, four a patient."""
    rng = np.random.default_rng(0)
    y_true = np.zeros((200, 7))
    y_true[np.arange(200), rng.integers(0, 2, 200)] = 1
    y_true[np.arange(200), 2 + rng.integers(0, 5, 200)] = 1
    y_score = np.clip(0.3 * y_true + rng.random((200, 7)) * 0.7, 0, 1).round(2)  # ties
    return y_true, y_score, tuple(f"p{k // 4}" for k in range(200))


@pytest.fixture(scope="module")
def two_models():
    """80 patients with up to eight images of two eyes, some of which do not say whose, and scores of two models."""
    cases = psmm_like(images=400, patients=80, seed=3)
    names = [f"{p}_{('OD_', 'OS_', '')[k % 3]}{k}.jpg" for k, p in enumerate(cases.patients)]
    table = LabelTable(
        labels=cases.y_true.astype(np.uint8),
        names=np.array(names),
        patients=cases.patients,
        origins=np.array([f"test.csv:{k + 2}" for k in range(400)]),
    )
    better, worse = (
        np.clip(cases.y_score + np.random.default_rng(0).normal(0, noise, (400, 7)), 0, 1).astype(np.float32)
        for noise in (1e-3, 0.2)
    )
    return SimpleNamespace(table=table, better=better, worse=worse)


@pytest.fixture
def files(two_models, tmp_path):
    """(label list, scores of the better, scores of the worse model), as files."""
    table = two_models.table
    write_label_table(tmp_path / "test.csv", table)
    for name in ("better", "worse"):
        write_score_table(
            tmp_path / f"{name}.csv", table.names, table.patients, table.labels, getattr(two_models, name), PSMM
        )
    return tmp_path / "test.csv", tmp_path / "better.csv", tmp_path / "worse.csv"
