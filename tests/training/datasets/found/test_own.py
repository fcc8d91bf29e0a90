from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from keras_realmnet.errors import DataSetError
from keras_realmnet.screening.preprocessing import PreprocessSpec
from keras_realmnet.tasks.measures import VerticalRatio
from keras_realmnet.tasks.outputs import Grades, Labels, Masks, Points
from keras_realmnet.tasks.rules import GradeFrom, NoReferral
from training.data.own_data.vocabulary import parse_vocabulary
from training.datasets.combined import CombinedDataSet
from training.datasets.found.own import OwnDataSet, task_of_vocabulary

SPEC = PreprocessSpec(size=32)
PICTURES, PATIENTS, SIDE = 24, 12, 48
VOCABULARY = {
    "name": "clinic",
    "modality": "colour_fundus",
    "condition": "diabetic retinopathy",
    "outputs": [
        {
            "name": "findings",
            "kind": "labels",
            "entries": [
                {"code": "HE", "name": "Haemorrhage", "meaning": "haemorrhage", "pathologic": True},
                {"code": "EX", "name": "Exudate", "meaning": "hard exudate", "pathologic": True},
            ],
        },
        {
            "name": "grade",
            "kind": "grades",
            "column": "dr",
            "entries": [
                {"code": "G0", "name": "None", "meaning": "no retinopathy", "value": 0},
                {"code": "G1", "name": "Some", "meaning": "retinopathy", "value": 1, "pathologic": True},
            ],
        },
        {
            "name": "landmarks",
            "kind": "points",
            "confidence": True,
            "entries": [{"code": "F", "name": "Fovea", "meaning": "fovea", "x": "x", "y": "y"}],
        },
        {
            "name": "disc",
            "kind": "masks",
            "exclusive": True,
            "single": True,
            "folder": "masks",
            "entries": [{"code": "D", "name": "Disc", "meaning": "optic disc"}],
        },
    ],
}


@pytest.fixture
def clinic(tmp_path):
    """Two pictures of each patient; of picture k the fovea lies at (10 + k, 20), the disc to its left."""
    rng, rows = np.random.default_rng(0), []
    for k in range(PICTURES):
        name = f"{k % 3}/{k:02}.png"
        for folder, pixels in (
            ("pictures", rng.integers(60, 200, (SIDE, SIDE, 3))),
            ("pictures/masks", np.pad(np.full((6, 4), 255), ((17, 25), (2, 42)))),
        ):
            path = tmp_path / folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels.astype(np.uint8)).save(path)
        part = ["train", "train", "val", "test"][k // 2 % 4]
        rows.append([name, f"p{k // 2}", "RL"[k % 2], k % 2, "" if k == 3 else 0, k // 2 % 2, 10 + k, 20, part, ""])
    return tmp_path, rows


def data_of(clinic, columns="path=file,patient=id,eye=side", vocabulary=VOCABULARY, **changes):
    folder, rows = clinic
    lines = ["file,id,side,HE,EX,dr,x,y,set,twin", *(",".join(map(str, row)) for row in rows)]
    (folder / "pictures" / "list.csv").write_text("\n".join(lines))
    return OwnDataSet(str(folder / "pictures"), "list.csv", columns, vocabulary, **changes)


def test_a_vocabulary_becomes_a_task():
    task = task_of_vocabulary(parse_vocabulary(VOCABULARY))
    assert (task.name, task.modality, task.condition) == ("clinic", "colour_fundus", "diabetic retinopathy")
    findings, grade, landmarks, disc = task.outputs.values()
    assert [type(output) for output in task.outputs.values()] == [Labels, Grades, Points, Masks]
    assert (findings.labels.codes, findings.labels.pathologic) == (("HE", "EX"), ("HE", "EX"))
    assert grade.labels["G1"].meaning == "retinopathy"
    assert landmarks.confidence
    assert (disc.exclusive, disc.single) == (True, True)
    assert task.rule == GradeFrom("grade", "G1", "the first pathologic one of clinic")
    without = {**VOCABULARY, "outputs": VOCABULARY["outputs"][:1]}
    assert task_of_vocabulary(parse_vocabulary(without)).rule == NoReferral()
    with pytest.raises(DataSetError, match="the vocabulary 'a:b': a task's name has 1 to 16 letters"):
        task_of_vocabulary(parse_vocabulary({**VOCABULARY, "name": "a:b"}))


def test_a_structure_within_another_one_is_measured_by_it():
    disc = {"code": "DISC", "name": "Optic disc", "meaning": "optic disc"}
    cup = {"code": "CUP", "name": "Optic cup", "meaning": "optic cup", "within": "DISC"}
    masks = {"name": "disc", "kind": "masks", "exclusive": False, "folder": "masks", "entries": [cup, disc]}
    vocabulary = {"name": "nerve", "modality": "colour_fundus", "outputs": [masks]}
    task = task_of_vocabulary(parse_vocabulary(vocabulary))
    assert task.trained["disc"].within == (("CUP", "DISC"),)
    assert task.measures == (VerticalRatio("CUP_DISC", "Vertical ratio, Optic cup : Optic disc", "CUP", "DISC"),)
    other = OwnDataSet(vocabulary={**vocabulary, "outputs": [{**masks, "name": "other"}]})
    with pytest.raises(ValueError, match="has the code 'CUP' in several outputs"):
        _ = CombinedDataSet("all", (OwnDataSet(vocabulary=vocabulary), other)).task
    assert CombinedDataSet("all", (OwnDataSet(vocabulary=vocabulary),) * 2).task.measures == task.measures


def test_what_is_known_comes_with_the_pixels(clinic, tmp_path, capsys):
    data = data_of(clinic, held_out=0.0)
    images = data.load("train", SPEC, tmp_path / "cache")
    assert "note: findings: pictures of which EX is not known: 1 (0/03.png)" in capsys.readouterr().err
    assert len(images) == PICTURES
    assert (images.names[3], images.patients[3]) == ("0/03.png", "p1")
    np.testing.assert_array_equal(images.truth["findings"][3], [1, np.nan])
    np.testing.assert_array_equal(images.truth["grade"][:4], [[1, 0], [1, 0], [0, 1], [0, 1]])
    expected = [[(10.5 + k) / SIDE, 20.5 / SIDE, 1] for k in range(PICTURES)]
    np.testing.assert_allclose(images.truth["landmarks"][:, 0], expected, rtol=1e-5)
    rows, columns = np.nonzero(images.truth_of("disc")[5] == 1)
    assert 17 / SIDE <= (rows.mean() + 0.5) / 32 <= 23 / SIDE
    assert 2 / SIDE <= (columns.mean() + 0.5) / 32 <= 6 / SIDE
    assert data.load("test", SPEC, tmp_path / "cache") is None
    assert capsys.readouterr().err == ""  # told once
    assert data_of(clinic, held_out=0.5).load("train", SPEC, tmp_path / "cache").pixels.filename == (
        images.pixels.filename  # one cache whatever the sets are
    )


def test_patients_are_dealt_to_three_sets(clinic, tmp_path):
    data = data_of(clinic, seed=3)
    sets = {split: data.load(split, SPEC, tmp_path / "cache") for split in ("train", "validation", "test")}
    patients = {split: set(images.patients) for split, images in sets.items()}
    assert {split: len(each) for split, each in patients.items()} == {"train": 8, "validation": 2, "test": 2}
    assert len(set().union(*patients.values())) == PATIENTS
    assert sum(map(len, sets.values())) == PICTURES
    other = data_of(clinic, seed=4).load("test", SPEC, tmp_path / "cache")
    assert set(other.patients) != patients["test"]


def test_a_column_says_the_sets(clinic, tmp_path):
    data = data_of(clinic, "path=file,patient=id,split=set")
    assert data.has_sets
    counts = [len(data.load(split, SPEC, tmp_path / "cache")) for split in ("train", "validation", "test")]
    assert counts == [12, 6, 6]
    clinic[1][0][8] = "test"  # one of two pictures of a patient
    with pytest.raises(DataSetError, match=r"list\.csv:3: patient p0 is in train, and in test in line 2"):
        data_of(clinic, "path=file,patient=id,split=set").load("train", SPEC, tmp_path / "cache")


def test_pictures_that_are_the_same_stay_together(clinic, tmp_path):
    clinic[1][0][9] = "14.png"
    data = data_of(clinic, "path=file,patient=id,same_picture=twin")
    (where,) = (
        images
        for images in (data.load(split, SPEC, tmp_path / "cache") for split in ("train", "validation", "test"))
        if "0/00.png" in images.names
    )
    assert {"0/00.png", "1/01.png", "2/14.png", "0/15.png"} <= set(where.names)
    assert {where.patients[where.names.index(name)] for name in ("0/00.png", "2/14.png", "0/15.png")} == {"p0"}


def test_pictures_of_which_nothing_is_known_are_left_out(clinic, tmp_path, capsys):
    vocabulary = {**VOCABULARY, "outputs": VOCABULARY["outputs"][2:3]}
    clinic[1][7][6] = clinic[1][7][7] = ""
    images = data_of(clinic, vocabulary=vocabulary, held_out=0).load("train", SPEC, tmp_path / "cache")
    assert len(images) == PICTURES - 1
    assert "1/07.png" not in images.names
    assert "note: pictures of which nothing is known, left out: 1 (1/07.png)" in capsys.readouterr().err


def test_what_is_not_given_is_asked_for(tmp_path):
    with pytest.raises(DataSetError, match="pass a vocabulary with --labels FILE"):
        _ = OwnDataSet("pictures").task
    with pytest.raises(DataSetError, match="pass it with --data PATH"):
        OwnDataSet(vocabulary=VOCABULARY).load("train", SPEC, tmp_path)
    with pytest.raises(ValueError, match=r"held_out must be a number at least 0 and below 1\. Received: 1"):
        OwnDataSet(held_out=1)
    with pytest.raises(ValueError, match="columns must be given as"):
        OwnDataSet(columns="name=file")


def test_patients_are_left_out_and_told(clinic, tmp_path, capfd):
    data = data_of(clinic, without=["p1", "p4"], held_out=0.0)
    assert data.without == ("p1", "p4")  # as JSON has it
    images = data.load("train", SPEC, tmp_path / "cache")
    assert len(images) == PICTURES - 4
    assert not {"p1", "p4"} & set(images.patients)
    assert "pictures of patients without whom the data is asked for, left out: 4 (2/02.png, " in capfd.readouterr().err
    with pytest.raises(DataSetError, match=r"without must name patients of the table\. Received: p99"):
        replace(data, without=("p1", "p99")).load("train", SPEC, tmp_path / "cache")
