import re

import numpy as np
import pytest

from keras_realmnet.errors import DataSetError
from keras_realmnet.screening.preprocessing import preprocess
from tests.training.datasets.drawn import SPEC, write_image
from training.datasets.palm import PalmDataSet


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


def test_unknown_split(tmp_path):
    with pytest.raises(ValueError, match="train, validation, test"):
        PalmDataSet(str(tmp_path)).load("training", SPEC, tmp_path)
