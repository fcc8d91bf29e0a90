import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from keras_realmnet.errors import DataSetError
from training.data.palm.submission import (
    read_classification,
    read_fovea_locations,
    read_segmentations,
    write_classification,
    write_fovea_locations,
    write_segmentations,
)

NAMES = ("T0001.jpg", "T0002.jpg", "T0003.jpg")
SIZES = ((2124, 2056), (1444, 1444), (2124, 2056))
NAME = st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs", "Zs", "Zl", "Zp"]), min_size=1, max_size=6)


@given(st.lists(NAME.filter(lambda text: text == text.strip()), min_size=1, max_size=5, unique=True), st.data())
def test_csv_files_are_read_as_they_were_written(tmp_path_factory, names, data):
    folder = tmp_path_factory.mktemp("submission")
    risks = data.draw(hnp.arrays(np.float64, len(names), elements=st.floats(0, 1)))
    points = data.draw(hnp.arrays(np.float32, (len(names), 2), elements=st.floats(0, 4096, width=32)))
    order = data.draw(st.permutations(range(len(names))))
    shuffled = [names[k] for k in order]
    path = write_classification(folder, names, risks)
    assert path.name == "classification_results.csv"
    np.testing.assert_array_equal(read_classification(path, shuffled), risks[order])
    path = write_fovea_locations(folder, names, points)
    assert path.name == "fovea_location_results.csv"
    np.testing.assert_array_equal(read_fovea_locations(path, shuffled), points[order])


def test_the_columns_are_the_challenge_s(tmp_path):
    assert write_classification(tmp_path, NAMES, np.array([0.5, 0, 1])).read_bytes() == (
        b"FileName,PM Risk\r\nT0001.jpg,0.5\r\nT0002.jpg,0.0\r\nT0003.jpg,1.0\r\n"
    )
    assert write_fovea_locations(tmp_path, NAMES[:1], np.array([[1062.25, 0]])).read_bytes() == (
        b"ImageName,Fovea_X,Fovea_Y\r\nT0001.jpg,1062.25,0.0\r\n"
    )
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "classification_results.csv",
        "fovea_location_results.csv",
    ]


@pytest.mark.parametrize("risks", [[0.5, 0.5], [0.5, 0.5, 1.1], [0.5, 0.5, np.nan], [[0.5, 0.5, 0.5]]])
def test_risks_that_are_none_are_not_written(tmp_path, risks):
    with pytest.raises(ValueError, match="`risks` must be 3 numbers from 0 to 1"):
        write_classification(tmp_path, NAMES, np.array(risks))
    with pytest.raises(ValueError, match=r"`points` must be 3 pairs .* not negative"):
        write_fovea_locations(tmp_path, NAMES, np.full((3, 2), np.inf))
    with pytest.raises(ValueError, match=r"`names` must be file names, each once. Received: \['a'\]"):
        write_classification(tmp_path, ["a", "a"], np.zeros(2))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("FileName,Risk\n", "missing column 'PM Risk'"),
        ("PM Risk,FileName\n", "expected the columns FileName, PM Risk. Found: PM Risk, FileName"),
        ("FileName,PM Risk,x\n", "Found: FileName, PM Risk, x"),
        ("FileName,PM Risk\nT0001.jpg,1\nT0002.jpg,0\n", r"2 of 3 pictures; missing is 'T0003\.jpg'"),
        ("FileName,PM Risk\n", r"0 of 3 pictures; missing is 'T0001\.jpg' and 2 more"),
        ("FileName,PM Risk\nT0009.jpg,1\n", r"csv:2: 'T0009\.jpg' is not in the list .*each of the 3 pictures once"),
        ("FileName,PM Risk\nT0001.jpg,1\nT0001.jpg,1\n", r"csv:3: 'T0001\.jpg' is listed again"),
        ("FileName,PM Risk\nT0001.jpg,1.5\n", "csv:2: PM Risk must be a number from 0 to 1. Found: 1.5"),
        ("FileName,PM Risk\nT0001.jpg,nan\n", "csv:2: PM Risk must be a number from 0 to 1. Found: nan"),
        ("FileName,PM Risk\nT0001.jpg,high\n", "csv:2: PM Risk must be numbers. Found: high"),
        ("FileName,PM Risk\nT0001.jpg\n", "csv:2: 1 fields; expected 2"),
    ],
)
def test_each_error_of_a_classification_is_named(tmp_path, content, message):
    (tmp_path / "r.csv").write_text(content)
    with pytest.raises(DataSetError, match=message):
        read_classification(tmp_path / "r.csv", NAMES)


def test_points_must_lie_in_their_pictures(tmp_path):
    path = write_fovea_locations(tmp_path, NAMES, np.array([[1500, 700], [1500, 700], [0, 2056]]))
    assert read_fovea_locations(path, NAMES).shape == (3, 2)
    with pytest.raises(DataSetError, match=r"1 problem: .*csv:3: .* the 1444 x 1444 pixels of T0002\.jpg. Found: 1500"):
        read_fovea_locations(path, NAMES, SIZES)
    path.write_text("ImageName,Fovea_X,Fovea_Y\nT0001.jpg,-1,nan\n")
    with pytest.raises(DataSetError, match=r"csv:2: Fovea_X and Fovea_Y must be not negative. Found: -1, nan"):
        read_fovea_locations(path, NAMES[:1])


@given(
    hnp.arrays(np.bool_, st.tuples(st.just(2), st.integers(1, 9), st.integers(1, 9))), st.sampled_from([".bmp", ".png"])
)
def test_masks_are_read_as_they_were_written(tmp_path_factory, masks, ending):
    folder = tmp_path_factory.mktemp("masks") / "Disc_Segmentation"
    write_segmentations(folder, NAMES[:2], masks, ending)
    assert sorted(path.name for path in folder.iterdir()) == [f"T0001{ending}", f"T0002{ending}"]
    with Image.open(folder / f"T0001{ending}") as image:
        np.testing.assert_array_equal(np.asarray(image) == 0, masks[0])  # 0 = the structure
        assert image.mode == "L"
    read = list(read_segmentations(folder, NAMES[:2], [masks[0].shape[::-1]] * 2))
    np.testing.assert_array_equal(read, masks)


def test_a_folder_of_masks_is_checked_against_the_pictures(tmp_path):
    write_segmentations(tmp_path, NAMES[:2], np.zeros((2, 4, 5), bool))
    with pytest.raises(DataSetError, match=r"no mask of T0003\.jpg; .*T0002\.bmp: is the mask of no picture"):
        list(read_segmentations(tmp_path, (NAMES[0], NAMES[2]), ((5, 4), (5, 4))))
    with pytest.raises(DataSetError, match="5 x 4 pixels; expected those of its picture, 4 x 5"):
        list(read_segmentations(tmp_path, NAMES[:2], ((4, 5), (4, 5))))
    Image.fromarray(np.full((4, 5), 1, np.uint8)).save(tmp_path / "T0001.bmp")
    with pytest.raises(DataSetError, match=r"must be 255 \(background\) or 0. Found: 1"):
        list(read_segmentations(tmp_path, NAMES[:2], ((5, 4), (5, 4))))


def test_what_is_no_mask_is_not_written(tmp_path):
    with pytest.raises(ValueError, match=r"a mask must be bool \(height, width\). Received: uint8"):
        write_segmentations(tmp_path, NAMES[:1], np.zeros((1, 4, 5), np.uint8))
    with pytest.raises(ValueError, match=r"`ending` must be \.bmp or \.png. Received: '\.jpg'"):
        write_segmentations(tmp_path, NAMES[:1], np.zeros((1, 4, 5), bool), ".jpg")
    with pytest.raises(ValueError, match="zip"):
        write_segmentations(tmp_path, NAMES[:1], np.zeros((2, 4, 5), bool))
