"""Cohorts: the frequencies that are promised, and files laid out as PSMM's."""

import csv
from collections import Counter

import cv2
import numpy as np
import pytest

from keras_realmnet.tasks.vocabulary import PSMM
from training.phantoms.cohorts import PSMM_CELLS, cohort, write_psmm_tree


def test_cohort_has_psmm_frequencies():
    cases = cohort(1500, seed=4, imbalance="psmm")
    total = sum(PSMM_CELLS.values())
    found = Counter((case.staphyloma, case.grade) for case in cases)
    for cell in {(s, g) for s in (False, True) for g in range(5)}:
        wanted = PSMM_CELLS.get(cell, 0) / total
        # Eyes of the same patient and images of the same eye are alike, so the spread is that of about 1500 draws.
        assert abs(found[cell] / len(cases) - wanted) < 3 * np.sqrt(wanted * (1 - wanted) / 1500) + 1e-9, cell
    with_staphyloma = [
        np.mean([case.staphyloma for case in cases if case.grade == grade] or [np.nan]) for grade in range(5)
    ]
    assert with_staphyloma[0] == 0
    assert 0.1 < with_staphyloma[1] < 0.25
    assert min(with_staphyloma[2:]) > 0.85


def test_psmm_frequencies_are_those_of_the_published_list(shared):
    with (shared / "psmm" / "train.csv").open() as file:
        counts = Counter(
            (float(row["S1"]) != 0, next(g for g in range(5) if float(row[f"A{g}"]) != 0))
            for row in csv.DictReader(file)
        )
    assert counts == PSMM_CELLS


def test_balanced_cohort():
    cases = cohort(1000, seed=5, imbalance="balanced", images_per_eye=(1, 1))
    labels = np.array([case.labels for case in cases])
    np.testing.assert_allclose(labels.mean(axis=0), [0.5, 0.5, 0.2, 0.2, 0.2, 0.2, 0.2], atol=0.03)


def test_patients_have_two_alike_eyes_and_several_images():
    cases = cohort(300, seed=6)
    assert cases == cohort(300, seed=6)
    assert cases != cohort(300, seed=7)
    assert len({case.file_name for case in cases}) == len(cases)
    eyes: dict[tuple[str, str], set] = {}
    for case in cases:
        eyes.setdefault((case.patient_id, case.eye), set()).add((case.labels, case.seed))
        assert case.labels[2 + case.grade] == 1
    assert len(eyes) == 600
    assert all(len(facts) == 1 for facts in eyes.values())  # the images of one eye share labels and anatomy
    grades = np.array(
        [
            [next(iter(eyes[patient, eye]))[0][2:].index(1) for eye in ("OD", "OS")]
            for patient in sorted({patient for patient, _ in eyes})
        ]
    )
    assert np.corrcoef(grades.T)[0, 1] > 0.6
    with pytest.raises(ValueError, match="imbalance"):
        cohort(3, seed=0, imbalance="equal")


def test_tree_is_psmm_and_resumes(tmp_path):
    cases = cohort(2, seed=8, images_per_eye=(1, 2))
    path = write_psmm_tree(cases, tmp_path, width=96)
    with path.open() as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == [*PSMM.codes, "filename", "ID"]
    assert [row["filename"] for row in rows] == [case.file_name for case in cases]
    images = tmp_path / "JPEGImages"
    assert {file.name for file in images.iterdir()} == {case.file_name for case in cases}
    for case, row in zip(cases, rows, strict=True):
        assert tuple(int(row[code]) for code in PSMM.codes) == case.labels
        written = cv2.imread(str(images / case.file_name))[..., ::-1].astype(float)
        assert np.abs(written - case.render(96).image).mean() < 6  # JPEG at 92 with its colours halved

    kept, lost = (images / case.file_name for case in cases[:2])
    before, stamp = lost.read_bytes(), kept.stat().st_mtime_ns
    lost.unlink()
    write_psmm_tree(cases, tmp_path, width=96, workers=2)
    assert lost.read_bytes() == before
    assert kept.stat().st_mtime_ns == stamp
    with pytest.raises(ValueError, match="distinct"):
        write_psmm_tree([cases[0], cases[0]], tmp_path, width=96)
