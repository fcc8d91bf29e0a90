import re

import cv2
import numpy as np
import pytest

from keras_realmnet.errors import DataSetError
from keras_realmnet.screening.preprocessing import PreprocessSpec, preprocess
from tests.training.datasets.drawn import SPEC, write_image
from training.datasets.found.palm import PalmDataSet


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


def test_validation_pictures_may_be_named_by_their_class(palm, tmp_path):
    (palm / "labels.csv").unlink()
    for k, name in enumerate(["V0001", "V0002", "V0003"]):
        (palm / "val" / f"{name}.png").rename(palm / "val" / f"{'NHP'[k]}{k:04}.png")
    data = PalmDataSet(str(palm)).load("validation", SPEC, tmp_path / "cache")
    assert data.names == ("H0001.png", "N0000.png", "P0002.png")
    np.testing.assert_array_equal(data.labels, [[0, 1, 0], [1, 0, 0], [0, 0, 1]])


def test_the_official_layout_of_palm(tmp_path):
    for part, names in (("Training", ["N0001", "P0001"]), ("Validation", ["H0001", "P0007"])):
        for k, name in enumerate(names):
            write_image(tmp_path / "PALM" / part / "Images" / f"{name}.png", k)
    data = PalmDataSet(str(tmp_path))
    np.testing.assert_array_equal(data.load("train", SPEC, tmp_path / "c").labels, [[1, 0, 0], [0, 0, 1]])
    np.testing.assert_array_equal(data.load("validation", SPEC, tmp_path / "c").labels, [[0, 1, 0], [0, 0, 1]])


@pytest.fixture
def challenge(tmp_path):
    """The layout of the challenge, with a list of foveas and masks of the disc for training pictures."""
    part = tmp_path / "PALM" / "Training"
    for k, name in enumerate(["H0001", "N0001", "P0001", "P0002"]):
        write_image(part / "Images" / f"{name}.png", k)
    rows = "H0001.png,11,23\nN0001.png,0,0\nP0001.png,30.5,20\nP0002.png,,\n"
    (part / "Fovea_Location.csv").write_text(f"imgName,Fovea_X,Fovea_Y\n{rows}")
    (part / "Disc Masks").mkdir()
    mask = np.full((48, 48), 255, np.uint8)
    mask[10:20, 6:12] = 0
    cv2.imwrite(str(part / "Disc Masks" / "N0001.bmp"), mask)
    write_image(tmp_path / "PALM" / "Validation" / "Images" / "V0001.png", 9)
    return tmp_path


def test_where_the_fovea_lies(challenge, tmp_path, capsys):
    data = PalmDataSet(str(challenge), "fovea")
    images = data.load("train", PreprocessSpec(size=96), tmp_path / "cache")
    assert images.names == ("H0001.png", "N0001.png", "P0001.png")
    assert "train pictures of which the fovea is not known, left out: 1 (P0002.png)" in capsys.readouterr().err
    points = images.truth["landmarks"][:, 0]
    np.testing.assert_allclose(points[[0, 2], :2], np.array([[11.5, 23.5], [31, 20.5]]) / 48, atol=1e-6)
    np.testing.assert_array_equal(points[:, 2], [1, 0, 1])
    assert np.isnan(points[1, :2]).all()
    with pytest.raises(DataSetError, match="the fovea is known of none of PALM's validation pictures"):
        data.load("test", SPEC, tmp_path / "cache")


def test_the_mask_of_the_disc(challenge, tmp_path, palm):
    images = PalmDataSet(str(challenge), "disc").load("train", PreprocessSpec(size=96), tmp_path / "cache")
    masks = images.masks["disc"]
    assert images.names == ("H0001.png", "N0001.png", "P0001.png", "P0002.png")
    rows, columns = np.nonzero(masks[1] == 1)
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (20, 39, 12, 23)
    assert not masks[[0, 2, 3]].any()  # the challenge has masks only of what can be seen
    with pytest.raises(DataSetError, match="the disc is known of none of PALM's train pictures"):
        PalmDataSet(str(palm), "disc").load("train", SPEC, tmp_path / "cache")


def test_pathologic_or_not(palm, tmp_path):
    data = PalmDataSet(str(palm), "pathologic")
    train, test = (data.load(split, SPEC, tmp_path / "cache") for split in ("train", "test"))
    np.testing.assert_array_equal(train.truth["myopia"], [[1, 0], [1, 0], [0, 1], [0, 1]])
    np.testing.assert_array_equal(test.truth["myopia"], [[1, 0], [0, 1], [1, 0]])
    assert data.task.rule.grade == "P"
    classes = PalmDataSet(str(palm)).load("train", SPEC, tmp_path / "cache")
    assert classes.pixels.filename == train.pixels.filename  # one cache for questions of the same pictures


def test_another_question():
    with pytest.raises(ValueError, match=r"question must be classes, pathologic, fovea or disc\. Received: 'age'"):
        PalmDataSet(question="age")


@pytest.mark.parametrize(
    ("break_it", "message"),
    [
        (lambda palm: palm.rename(palm.parent / "elsewhere"), "palm: no such folder; expected PALM/Training/Images"),
        (lambda palm: (palm / "train").rename(palm / "training"), "Training/Images: no such folder"),
        (lambda palm: (palm / "labels.csv").unlink(), "labels.csv: no such file"),
        (
            lambda palm: (palm / "labels.csv").write_text("name,Label\n"),
            "labels.csv: no column 'imgName', 'Fovea_X', 'Fovea_Y'",
        ),
        (
            lambda palm: (palm / "labels.csv").write_text("imgName,Label,Fovea_X,Fovea_Y\nV0001.png,2,1,1\n"),
            "Label must be 0 or 1",
        ),
        (
            lambda palm: write_image(palm / "train" / "X0001.png", 1),
            "X0001.png: the name of a training picture must begin",
        ),
    ],
)
def test_what_is_wrong_is_named(palm, tmp_path, break_it, message):
    break_it(palm)
    data = PalmDataSet(str(palm))
    with pytest.raises(DataSetError, match=re.escape(message)):
        [data.load(split, SPEC, tmp_path / "cache") for split in ("train", "validation")]


def test_palm_without_a_folder_says_how_to_get_it(tmp_path):
    with pytest.raises(DataSetError, match=r"pass it with --data PATH; expected PALM/Training/Images"):
        PalmDataSet().load("train", SPEC, tmp_path)


def test_unknown_split(tmp_path):
    with pytest.raises(ValueError, match="train, validation, test"):
        PalmDataSet(str(tmp_path)).load("training", SPEC, tmp_path)
