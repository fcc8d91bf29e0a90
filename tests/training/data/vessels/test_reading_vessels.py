"""Folders laid out as the public sets are, of a few pixels."""

import numpy as np
import pytest
from PIL import Image

from keras_realmnet.errors import DataSetError
from training.data.vessels.layouts import LAYOUTS
from training.data.vessels.reading import read_vessels

SIZE = (8, 6)  # width, height
VESSEL = np.zeros((6, 8), np.uint8)
VESSEL[2:4, 1:7] = 255
FIELD = np.zeros((6, 8), np.uint8)
FIELD[1:5, 1:7] = 255


def save(path, pixels=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((6, 8, 3), 120, np.uint8) if pixels is None else pixels).save(path)


def read(folder, layout, observer=1):
    return read_vessels(folder, LAYOUTS[layout], observer)


def told(table):
    return [str(notice) for notice in table.notices]


@pytest.fixture
def drive(tmp_path):
    top = tmp_path / "DRIVE"
    for part, kind, numbers in (("training", "training", (21, 22)), ("test", "test", (1,))):
        for n in numbers:
            save(top / part / "images" / f"{n:02}_{kind}.tif")
            save(top / part / "1st_manual" / f"{n:02}_manual1.gif", VESSEL)
            save(top / part / "mask" / f"{n:02}_{kind}_mask.gif", FIELD)
    save(top / "test" / "2nd_manual" / "01_manual2.gif", FIELD)
    return tmp_path


def test_drive(drive):
    table = read(drive, "drive")
    assert table.names == ("21_training.tif", "22_training.tif", "01_test.tif")
    assert table.patients == ("drive-21", "drive-22", "drive-01")
    assert table.sets == ("train", "train", "test")
    assert len(table) == 3
    for k in range(3):
        np.testing.assert_array_equal(table.vessels.read(k, SIZE)[..., 0], VESSEL > 0)
        np.testing.assert_array_equal(table.fields.read(k, SIZE)[..., 0], FIELD > 0)
    assert told(table) == []
    second = read(drive / "DRIVE", "drive", observer=2)  # who looked at the test pictures alone
    assert (second.names, second.sets) == (("01_test.tif",), ("test",))
    np.testing.assert_array_equal(second.vessels.read(0, SIZE)[..., 0], FIELD > 0)


def test_what_is_missing(drive, tmp_path):
    (drive / "DRIVE" / "training" / "1st_manual" / "22_manual1.gif").unlink()
    (drive / "DRIVE" / "training" / "mask" / "21_training_mask.gif").unlink()
    (drive / "DRIVE" / "test" / "images").rename(tmp_path / "away")
    table = read(drive, "drive")
    assert told(table) == [
        "parts of the data that are not there: 1 (test/images)",
        "vessels: pictures without a mask, not known: 1 (22_training.tif)",
        "pictures without a mask of their field of view: it is the illuminated part: 1 (21_training.tif)",
    ]
    assert table.vessels.known[:, 0].tolist() == [True, False]
    assert table.fields.known[:, 0].tolist() == [False, True]
    (drive / "DRIVE" / "training" / "1st_manual").rename(tmp_path / "masks")
    with pytest.raises(DataSetError, match=r"1st_manual: no such folder; expected the masks of vessels"):
        read(drive, "drive")
    with pytest.raises(DataSetError, match=r"holds no pictures of HRF .*; expected the folders images"):
        read(drive, "hrf")
    (tmp_path / "masks" / "images").mkdir()
    (tmp_path / "masks" / "masks").mkdir()
    with pytest.raises(DataSetError, match=r"masks: no pictures in images"):
        read(tmp_path / "masks", "folders")


def test_chase_db1_as_published_and_as_passed_on(tmp_path):
    for eye in ("01L", "01R", "12L"):
        save(tmp_path / "whole" / f"Image_{eye}.jpg")
        save(tmp_path / "whole" / f"Image_{eye}_1stHO.png", VESSEL > 0)
        save(tmp_path / "whole" / f"Image_{eye}_2ndHO.png", FIELD > 0)
        save(tmp_path / "passed" / "images" / f"chase_{eye}.jpg")
        save(tmp_path / "passed" / "vessel" / f"chase_{eye}.png", VESSEL)
        save(tmp_path / "passed" / "vessel_observer2" / f"chase_{eye}.png", FIELD)
    for folder, layout in (("whole", "chase_db1"), ("passed", "chase_db1_folders")):
        for observer, mask in ((1, VESSEL), (2, FIELD)):
            table = read(tmp_path / folder, layout, observer)
            assert table.patients == ("chase-01", "chase-01", "chase-12")
            np.testing.assert_array_equal(table.vessels.read(2, SIZE)[..., 0], mask > 0)
            assert not table.fields.known.any()
            assert table.sets is None
            assert told(table) == []


def test_hrf_and_its_arteries_and_veins_are_of_the_same_patients(tmp_path):
    save(tmp_path / "hrf" / "images" / "01_dr.JPG")
    save(tmp_path / "hrf" / "manual1" / "01_dr.tif", VESSEL)
    save(tmp_path / "hrf" / "mask" / "01_dr_mask.tif", FIELD)
    save(tmp_path / "av" / "images" / "hrf_01_dr.jpg")
    save(tmp_path / "av" / "vessel" / "hrf_01_dr.png", VESSEL)
    save(tmp_path / "av" / "fov" / "hrf_01_dr.png", FIELD)
    tables = [read(tmp_path / "hrf", "hrf"), read(tmp_path / "av", "hrf_av")]
    assert [table.patients for table in tables] == [("hrf-01_dr",)] * 2
    for table in tables:
        np.testing.assert_array_equal(table.vessels.read(0, SIZE)[..., 0], VESSEL > 0)
        np.testing.assert_array_equal(table.fields.read(0, SIZE)[..., 0], FIELD > 0)


@pytest.mark.parametrize(
    ("folder", "layout", "pictures", "patients"),
    [
        ("chase_db1", "chase_db1_folders", 20, 10),
        ("hrf_av", "hrf_av", 30, 30),
        ("hrf", "hrf", 6, 6),
        ("idrid_vessel", "idrid_vessel", 6, 6),
        ("uwf_av_wide", "av_wide", 21, 21),
    ],
)
def test_the_pictures_at_hand_are_found(shared, folder, layout, pictures, patients):
    table = read(shared / "fundus" / folder, layout)
    assert (len(table), len(set(table.patients))) == (pictures, patients)
    assert table.vessels.known.all()
    assert table.fields.known.all() == (layout == "hrf_av")
    assert told(table) == []
