import numpy as np
import pytest

from keras_realmnet.errors import DataSetError
from keras_realmnet.screening.image_io import read_image
from keras_realmnet.screening.preprocessing import PreprocessSpec, preprocess
from keras_realmnet.tasks.vocabulary import LABEL_SETS
from tests.training.datasets.drawn import SPEC, write_image
from training.data.label_table import LabelTable, read_label_table, write_label_table
from training.data.prepare import prepare
from training.datasets.found.psmm import PsmmDataSet, protocol_tables


def psmm_table(rows):
    return LabelTable(
        labels=np.array([[1, 0, *np.eye(5, dtype=int)[k % 5]] for k in range(len(rows))], np.uint8),
        names=np.array([name for name, _ in rows], np.str_),
        patients=np.array([patient for _, patient in rows], np.str_),
        origins=np.array([f"list.csv:{k + 2}" for k in range(len(rows))], np.str_),
    )


SPLIT_ROWS = {
    "train": [
        ("ShenzhenEye-1_OD_2020-01-01_1.jpg", "ShenzhenEye-1"),
        ("ShenzhenEye-2_OS_2020-01-01_1.jpg", "ShenzhenEye-2"),
        ("SUSTech-3_1.jpg", "SUSTech-3"),
    ],
    "validation": [("ShenzhenEye-4_OD_2020-01-01_1.jpg", "ShenzhenEye-4"), ("LishuiR-5_1.jpg", "LishuiR-5")],
    "test": [("ShenzhenEye-6_OD_2020-01-01_1.jpg", "ShenzhenEye-6"), ("SUSTech-7_1.jpg", "SUSTech-7")],
}


@pytest.fixture
def psmm(tmp_path):
    folder = tmp_path / "psmm"
    files = {"train": "MYOPIA/MYOPIA.csv", "validation": "val.csv", "test": "test.csv"}
    for k, (split, rows) in enumerate(SPLIT_ROWS.items()):
        write_label_table(folder / "ImageSets" / "Main" / files[split], psmm_table(rows))
        for n, (name, _) in enumerate(rows):
            write_image(folder / "JPEGImages" / name, 10 * k + n)
    return folder


def sources_of(images):
    return sorted({patient.partition("-")[0] for patient in images.patients})


def test_psmm_under_its_protocols(psmm, tmp_path):
    def load(split, **settings):
        return PsmmDataSet(str(psmm), **settings).load(split, SPEC, tmp_path / "cache")

    train, validation, test = (load(split) for split in ("train", "validation", "test"))
    assert [len(images) for images in (train, validation, test)] == [3, 2, 2]
    assert train.names == tuple(name for name, _ in SPLIT_ROWS["train"])
    np.testing.assert_array_equal(train.labels, psmm_table(SPLIT_ROWS["train"]).labels)
    for images in (train, test):
        for k, name in enumerate(images.names):
            expected = preprocess(read_image(psmm / "JPEGImages" / name).pixels, SPEC)[0]
            np.testing.assert_array_equal(images.image(k), expected)

    assert (len(load("train", protocol="mrp")), len(load("test", protocol="mrp"))) == (4, 3)
    assert sources_of(load("train", protocol="mrp")) == ["ShenzhenEye"]
    assert sources_of(load("test", protocol="mrp")) == ["LishuiR", "SUSTech"]
    assert load("validation", protocol="mrp") is None
    without = {"protocol": "cgp", "external": "SUSTech"}
    assert (sources_of(load("train", **without)), sources_of(load("test", **without))) == (
        ["LishuiR", "ShenzhenEye"],
        ["SUSTech"],
    )
    assert len(list((tmp_path / "cache").iterdir())) == 1  # one cache for all of them
    with pytest.raises(DataSetError, match="no image is from Zhongshan"):
        load("test", protocol="cgp", external="Zhongshan")


def test_published_protocol_counts(shared):
    lists = {split: read_label_table(shared / "psmm" / f"{file}.csv") for split, file in PSMM_FILES.items()}
    mrp = protocol_tables(lists, "mrp")
    assert (len(mrp["train"]), len(set(mrp["train"].patients))) == (38922, 4003)
    assert len(mrp["test"]) == 43371 - 38922
    for source, (count, patients) in {"SUSTech": (2835, 226), "LishuiZ": (220, 91)}.items():
        test = protocol_tables(lists, "cgp", source)["test"]
        assert (len(test), len(set(test.patients))) == (count, patients)


PSMM_FILES = {"train": "train", "validation": "val", "test": "test"}


def test_psmm_from_prepared_images(psmm, tmp_path):
    """Images that `prepare` made go in as they are; their stamp must fit what the run needs."""
    ready = tmp_path / "ready"
    lists = [psmm / "ImageSets" / "Main" / file for file in ("MYOPIA/MYOPIA.csv", "val.csv", "test.csv")]
    prepare([psmm / "JPEGImages"], ready, SPEC, image_format="png", labels=lists)
    raw = PsmmDataSet(str(psmm)).load("test", SPEC, tmp_path / "cache")
    data_set = PsmmDataSet(str(ready))
    prepared_images = data_set.load("test", SPEC, tmp_path / "cache")
    np.testing.assert_array_equal(prepared_images.images, raw.images)
    with pytest.raises(DataSetError, match="prepare the raw images again"):
        data_set.load("test", PreprocessSpec(size=64), tmp_path / "cache")
    assert data_set.load("test", PreprocessSpec(size=16), tmp_path / "cache").image(0).shape == (16, 16, 3)


def test_what_is_wrong_with_psmm_is_said(psmm, tmp_path):
    with pytest.raises(DataSetError, match="--data PATH"):
        PsmmDataSet().load("train", SPEC, tmp_path)
    (psmm / "JPEGImages" / "SUSTech-7_1.jpg").unlink()
    (psmm / "JPEGImages" / "SUSTech-3_1.jpg").write_bytes(b"not a picture")
    with pytest.raises(DataSetError, match=r"SUSTech-7_1\.jpg: no such file; python -m training check"):
        PsmmDataSet(str(psmm)).load("test", SPEC, tmp_path)
    with pytest.raises(DataSetError, match=r"(?s)^2 problems: .*MYOPIA\.csv:4: .*SUSTech-3.*test\.csv:3: .*SUSTech-7"):
        PsmmDataSet(str(psmm)).load("train", SPEC, tmp_path)
    assert not (tmp_path / "cache").exists()  # nothing was prepared
    for settings in ({"protocol": "xyz"}, {"protocol": "cgp"}, {"external": "SUSTech"}, {"labels": "none"}):
        with pytest.raises(ValueError, match="Received"):
            PsmmDataSet(str(psmm), **settings)


def test_peripheral_lesions_are_laid_out_alike(tmp_path):
    labels = LABEL_SETS["peripheral"]
    for split, file in {"train": "train.csv", "validation": "val.csv", "test": "test.csv"}.items():
        name = f"Clinic-{split}_OD_2024-05-01_1.jpg"
        write_image(tmp_path / "p" / "JPEGImages" / name, 1)
        table = LabelTable(
            np.array([[0, 1, 1, 0, 0]], np.uint8),
            *(np.array([text]) for text in (name, f"Clinic-{split}", "x")),
            label_set=labels,
        )
        write_label_table(tmp_path / "p" / file, table)
    data = PsmmDataSet(str(tmp_path / "p"), labels="peripheral").load("test", SPEC, tmp_path / "cache")
    assert data.label_set == labels
    np.testing.assert_array_equal(data.labels, [[0, 1, 1, 0, 0]])
