import numpy as np
import pytest

from keras_realmnet.errors import DataSetError
from keras_realmnet.tasks.vocabulary import PSMM
from training.data.label_table import read_label_table
from training.scoring.statistics.bootstrap import Bootstrap
from training.scoring.statistics.cases import Cases
from training.scoring.statistics.levels import eyes, score_level


def test_eyes_come_from_the_column_then_from_the_name():
    names = ["P1_OD_2023-06-25_2.jpg", "P1_os_20230625.jpg", "P1_3.jpg", "scan.jpg"]
    assert eyes(names).tolist() == ["OD", "OS", "", ""]
    assert eyes(names, np.array(["os", "", "OD", ""])).tolist() == ["OS", "OS", "OD", ""]
    with pytest.raises(DataSetError, match=r"x.csv:3: eye must be OD, OS or empty. Found: 'left'"):
        eyes(names, np.array(["", "left", "", ""]), np.array([f"x.csv:{k}" for k in range(2, 6)]))


def test_levels_count_what_they_score(two_models):
    table = two_models.table
    cases = Cases.of_images(table.labels, two_models.better, PSMM, None, table.patients)
    eye = eyes(table.names)
    levels = {level: score_level(cases, eye, level, Bootstrap(replicates=20)) for level in ("image", "eye", "patient")}
    pairs = {(p, e) for p, e in zip(table.patients, eye, strict=True) if e}
    counts = {level: found["cases"] for level, found in levels.items()}
    assert counts == {"image": 400, "eye": len(pairs), "patient": len(set(table.patients))}
    assert levels["eye"]["notes"][0] == "133 of 400 images do not say which eye they show and are left out"
    for found in levels.values():
        assert found["scores"]["pathologic_auroc"]["low"] < found["scores"]["pathologic_auroc"]["value"]
    unknown = score_level(cases, np.full(400, ""), "eye", Bootstrap(replicates=20))
    assert (unknown["cases"], unknown["scores"]) == (0, {})
    with pytest.raises(ValueError, match=r"level must be one of image, eye, patient. Received: 'visit'"):
        score_level(cases, eye, "visit", Bootstrap())


def test_grades_of_the_published_eyes(shared):
    """1,140 eyes of the test set have a side in their file name; 58 hold images with different labels."""
    table = read_label_table(shared / "psmm" / "test.csv")
    cases = Cases.of_images(table.labels, table.labels.astype(float), PSMM, None, table.patients)
    found = score_level(cases, eyes(table.names), "eye", Bootstrap(replicates=0))
    assert found["cases"] == 1140
    assert found["scores"]["coverage_error"]["value"] == 2
    assert found["scores"]["macro_f1"]["value"] == 1
