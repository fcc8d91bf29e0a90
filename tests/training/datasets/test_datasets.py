import json
import re
from dataclasses import replace

import cv2
import numpy as np
import pytest

from keras_realmnet.errors import DataSetError
from keras_realmnet.screening.image_io import read_image
from keras_realmnet.screening.labels import LABEL_SETS
from keras_realmnet.screening.preprocessing import PreprocessSpec, preprocess
from training.data.label_table import LabelTable, concatenate, read_label_table, write_label_table
from training.data.prepare import prepare
from training.datasets.datasets import (
    CHUNK,
    PalmDataSet,
    PhantomDataSet,
    PsmmDataSet,
    _prepared,
    protocol_tables,
    with_folder,
)

SPEC = PreprocessSpec(size=32)


def write_image(path, seed):
    path.parent.mkdir(parents=True, exist_ok=True)
    image = np.random.default_rng(seed).integers(60, 200, (48, 48, 3)).astype(np.uint8)
    assert cv2.imwrite(str(path), image[..., ::-1])
    return image


@pytest.fixture
def palm(tmp_path):
    """The layout of the 224 px copies."""
    for k, name in enumerate(["N0001", "H0001", "P0001", "P0002"]):
        write_image(tmp_path / "palm" / "train" / f"{name}.png", k)
    for k, name in enumerate(["V0001", "V0002", "V0003"]):
        write_image(tmp_path / "palm" / "val" / f"{name}.png", 10 + k)
    table = "ID,imgName,Label,Fovea_X,Fovea_Y\n1,V0001.png,0,1,1\n2,V0002.png,1,1,1\n3,V0003.png,0,1,1\n"
    (tmp_path / "palm" / "labels.csv").write_text(table)
    return tmp_path / "palm"


def test_palm_training_labels_are_in_the_names(palm, tmp_path):
    data = PalmDataSet(str(palm)).load("train", SPEC, tmp_path / "cache")
    assert data.names == ("H0001.png", "N0001.png", "P0001.png", "P0002.png")
    np.testing.assert_array_equal(data.labels, [[0, 1, 0], [1, 0, 0], [0, 0, 1], [0, 0, 1]])
    expected = preprocess(np.random.default_rng(2).integers(60, 200, (48, 48, 3)).astype(np.uint8), SPEC)[0]
    np.testing.assert_array_equal(data.images[2], expected)


def test_an_image_that_was_replaced_by_one_as_large_is_prepared_anew(palm, tmp_path):
    before = PalmDataSet(str(palm)).load("train", SPEC, tmp_path / "cache")
    file = palm / "train" / "P0001.png"
    size = file.stat().st_size
    image = write_image(file, 81)
    assert file.stat().st_size == size  # that is why it is this seed
    after = PalmDataSet(str(palm)).load("train", SPEC, tmp_path / "cache")
    np.testing.assert_array_equal(after.images[2], preprocess(image, SPEC)[0])
    np.testing.assert_array_equal(after.images[:2], before.images[:2])


@pytest.mark.parametrize("place", ["labels.csv", "val/labels.csv"])
def test_palm_validation_knows_only_whether_myopia_is_pathologic(palm, tmp_path, place):
    (palm / "labels.csv").rename(palm / place)
    data = PalmDataSet(str(palm)).load("validation", SPEC, tmp_path / "cache")
    unknown = [np.nan, np.nan, 0]
    np.testing.assert_array_equal(data.labels, [unknown, [0, 0, 1], unknown])
    again = PalmDataSet(str(palm)).load("test", SPEC, tmp_path / "cache")
    assert again.sha256 == data.sha256


def test_the_official_layout_of_palm(tmp_path):
    for part, names in (("Training", ["N0001", "P0001"]), ("Validation", ["H0001", "P0007"])):
        for k, name in enumerate(names):
            write_image(tmp_path / "PALM" / part / "Images" / f"{name}.png", k)
    data = PalmDataSet(str(tmp_path))
    np.testing.assert_array_equal(data.load("train", SPEC, tmp_path / "c").labels, [[1, 0, 0], [0, 0, 1]])
    np.testing.assert_array_equal(data.load("validation", SPEC, tmp_path / "c").labels, [[0, 1, 0], [0, 0, 1]])


@pytest.mark.parametrize(
    ("break_it", "message"),
    [
        (lambda palm: palm.rename(palm.parent / "elsewhere"), "palm: no such folder. PALM is public"),
        (lambda palm: (palm / "train").rename(palm / "training"), "no images in train or Training/Images"),
        (lambda palm: (palm / "labels.csv").unlink(), "labels.csv: no such file"),
        (
            lambda palm: (palm / "labels.csv").write_text("name,Label\n"),
            "labels.csv:1: missing column 'imgName'; expected imgName, Label",
        ),
        (
            lambda palm: (palm / "labels.csv").write_text("imgName,Label\nV0001.png,2\n"),
            "labels.csv:2: Label must be 0 or 1",
        ),
        (lambda palm: (palm / "labels.csv").write_text("imgName,Label\nV0001.png,1\n"), "no label for V0002.png and 1"),
        (lambda palm: write_image(palm / "train" / "X0001.png", 1), "X0001.png: a training image's name starts with"),
    ],
)
def test_what_is_wrong_is_named(palm, tmp_path, break_it, message):
    break_it(palm)
    data = PalmDataSet(str(palm))
    with pytest.raises(DataSetError, match=re.escape(message)):
        [data.load(split, SPEC, tmp_path / "cache") for split in ("train", "validation")]


def test_palm_without_a_folder_says_how_to_get_it(tmp_path):
    with pytest.raises(DataSetError, match=r"--data PATH\. PALM is public"):
        PalmDataSet().load("train", SPEC, tmp_path)


def test_phantoms(tmp_path, monkeypatch):
    monkeypatch.setattr("os.cpu_count", lambda: 1)  # in this process
    data_set = PhantomDataSet(train_patients=2, validation_patients=1, test_patients=1, width=96)
    data = {split: data_set.load(split, SPEC, tmp_path) for split in ("train", "validation", "test")}
    train = data["train"]
    assert train.images.shape == (len(train), 32, 32, 3)
    assert train.images.dtype == np.uint8
    np.testing.assert_array_equal(train.labels[:, :2].sum(axis=1), 1)
    np.testing.assert_array_equal(train.labels[:, 2:].sum(axis=1), 1)
    assert len(set(train.names)) == len(train)
    assert len(set(train.patients)) == 2
    patients = [patient for images in data.values() for patient in set(images.patients)]
    assert len(set(patients)) == len(patients)  # no patient in two splits
    pixels = {image.tobytes() for images in data.values() for image in images.images}
    assert len(pixels) == sum(len(images) for images in data.values())  # no image twice, within or across splits


def prepare_number(source: int) -> np.ndarray:
    if source < 0:
        raise RuntimeError("interrupted")
    return np.full((32, 32, 3), source % 251, np.uint8)


def prepared(sources, cache, identity="x"):
    names = tuple(map(str, range(len(sources))))
    return _prepared(
        "numbers",
        prepare_number,
        sources,
        identity={"what": identity},
        labels=np.zeros((len(sources), 1), np.float32),
        names=names,
        patients=names,
        label_set=PalmDataSet.label_set,
        spec=SPEC,
        cache=cache,
    )


def test_the_cache_is_made_once_and_resumes_by_chunk(tmp_path, monkeypatch):
    monkeypatch.setattr("os.cpu_count", lambda: 1)  # in this process
    sources = list(range(2 * CHUNK + 3))
    broken = [*sources]
    broken[CHUNK] = -1
    with pytest.raises(RuntimeError, match="interrupted"):
        prepared(broken, tmp_path)
    folder = next(tmp_path.iterdir())
    np.testing.assert_array_equal(np.load(folder / "done.npy"), [1, 0, 0])
    assert not (folder / "complete.json").exists()

    only_the_rest = [*([-1] * CHUNK), *sources[CHUNK:]]  # the first chunk must not be asked for again
    resumed = prepared(only_the_rest, tmp_path)
    np.testing.assert_array_equal(resumed.images[:, 0, 0, 0], sources)
    facts = json.loads((folder / "complete.json").read_text())
    assert facts["spec_hash"] == SPEC.hash
    assert prepared([-1] * len(sources), tmp_path).sha256 == resumed.sha256  # complete: nothing is prepared
    assert len(list(tmp_path.iterdir())) == 1
    prepared(sources[:1], tmp_path, identity="y")
    assert len(list(tmp_path.iterdir())) == 2  # other data, other folder


def test_unknown_split(tmp_path):
    with pytest.raises(ValueError, match="train, validation, test"):
        PalmDataSet(str(tmp_path)).load("training", SPEC, tmp_path)


# ------------------------------------------------------------------------------------------------------------- PSMM


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
    with pytest.raises(DataSetError, match="phantom data is made, not found"):
        with_folder(PhantomDataSet(), "/x")


def test_a_set_follows_its_resampled_table(psmm, tmp_path):
    data = PsmmDataSet(str(psmm)).load("train", SPEC, tmp_path / "cache")
    table = data.table()
    twice = data.like(concatenate([table.take([2, 0]), table.take([2])]))
    assert twice.names == tuple(data.names[k] for k in (2, 0, 2))
    np.testing.assert_array_equal(twice.images, data.images[[2, 0, 2]])
    relabelled = data.like(replace(table, labels=1 - table.labels))
    np.testing.assert_array_equal(relabelled.labels, 1 - data.labels)
    assert len({data.sha256, twice.sha256, relabelled.sha256}) == 3
    unknown = replace(data, labels=np.full_like(data.labels, np.nan))
    with pytest.raises(DataSetError, match="cannot be resampled"):
        unknown.table()


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
    assert data.label_set is labels
    np.testing.assert_array_equal(data.labels, [[0, 1, 1, 0, 0]])
