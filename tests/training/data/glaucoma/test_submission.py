import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from keras_realmnet.errors import DataSetError
from training.data.glaucoma.submission import (
    read_classification,
    read_fovea_locations,
    read_segmentations,
    write_classification,
    write_fovea_locations,
    write_segmentations,
)

NAMES = ("T0001.jpg", "T0002.jpg")


def test_the_files_are_those_that_the_challenge_reads(tmp_path):
    assert write_classification(tmp_path, NAMES, np.array([0.5, 1])).read_bytes() == (
        b"FileName,Glaucoma Risk\r\nT0001.jpg,0.5\r\nT0002.jpg,1.0\r\n"
    )
    assert write_fovea_locations(tmp_path, NAMES[:1], np.array([[1062.25, 0]])).read_bytes() == (
        b"ImageName,Fovea_X,Fovea_Y\r\nT0001.jpg,1062.25,0.0\r\n"
    )
    mask = np.zeros((4, 5, 2), bool)
    mask[1:, 1:, 0] = mask[3, 2:, 1] = True
    write_segmentations(tmp_path, NAMES[:1], [mask])
    with Image.open(tmp_path / "segmentation" / "T0001.bmp") as image:
        assert (image.format, image.mode) == ("BMP", "L")
        np.testing.assert_array_equal(
            np.asarray(image),
            [[255] * 5, [255, 128, 128, 128, 128], [255, 128, 128, 128, 128], [255, 128, 0, 0, 0]],
        )
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "classification_results.csv",
        "fovea_location_results.csv",
        "segmentation",
    ]


@settings(max_examples=25)
@given(st.lists(st.integers(1, 9999), min_size=1, max_size=4, unique=True), st.data())
def test_what_is_written_is_read(tmp_path_factory, numbers, data):
    folder, names = tmp_path_factory.mktemp("submission"), [f"T{number:04}.jpg" for number in numbers]
    risks = data.draw(hnp.arrays(np.float64, len(names), elements=st.floats(0, 1)))
    points = data.draw(hnp.arrays(np.float32, (len(names), 2), elements=st.floats(0, 8, width=32)))
    discs = data.draw(hnp.arrays(np.bool_, (len(names), 8, 9)))
    cups = discs & data.draw(hnp.arrays(np.bool_, discs.shape))
    masks = np.stack([discs, cups], axis=-1)
    classification = write_classification(folder, names, risks)
    foveas = write_fovea_locations(folder, names, points)
    write_segmentations(folder, names, masks)
    order = data.draw(st.permutations(range(len(names))))
    shuffled = [names[k] for k in order]
    np.testing.assert_array_equal(read_classification(classification, shuffled), risks[order])
    np.testing.assert_array_equal(read_fovea_locations(foveas, shuffled, [(9, 8)] * len(names)), points[order])
    np.testing.assert_array_equal(list(read_segmentations(folder, shuffled, [(9, 8)] * len(names))), masks[order])


def test_what_the_challenge_does_not_take_is_not_written(tmp_path):
    beside = np.zeros((1, 4, 5, 2), bool)
    beside[0, 0, 0, 1] = True
    with pytest.raises(ValueError, match=r"the cup must be a part of the disc\. Received: 1 pixels beside it f"):
        write_segmentations(tmp_path, NAMES[:1], beside)
    with pytest.raises(ValueError, match=r"a mask must be bool \(height, width, 2\)\. Received: bool \(4, 5\) f"):
        write_segmentations(tmp_path, NAMES[:1], beside[..., 0])
    with pytest.raises(ValueError, match="zip"):
        write_segmentations(tmp_path, NAMES, beside[:, 1:])
    with pytest.raises(ValueError, match="`risks` must be 2 numbers from 0 to 1"):
        write_classification(tmp_path, NAMES, np.array([0.5, 1.5]))


def test_a_folder_is_checked_as_the_challenge_would(tmp_path):
    place = tmp_path / "segmentation"
    write_segmentations(tmp_path, NAMES[:1], np.zeros((1, 4, 5, 2), bool))
    with pytest.raises(DataSetError, match=r"no mask of T0002\.jpg"):
        list(read_segmentations(tmp_path, NAMES, [(5, 4)] * 2))
    with pytest.raises(DataSetError, match="5 x 4 pixels; expected those of its picture, 4 x 5"):
        list(read_segmentations(tmp_path, NAMES[:1], [(4, 5)]))
    for other in ("T0001.BMP", "T0001.png", "notes.txt"):
        (place / other).write_bytes(b"")
        with pytest.raises(DataSetError, match=rf"{other}: expected nothing but NAME\.bmp of each picture"):
            read_segmentations(tmp_path, NAMES[:1], [(5, 4)])
        (place / other).unlink()
    Image.fromarray(np.full((4, 5), 127, np.uint8)).save(place / "T0001.bmp")
    with pytest.raises(DataSetError, match=r"20 pixels have colours that the vocabulary does not name: 127"):
        list(read_segmentations(tmp_path, NAMES[:1], [(5, 4)]))
    (tmp_path / "r.csv").write_text("FileName,PM Risk\nT0001.jpg,1\n")
    with pytest.raises(DataSetError, match="missing column 'Glaucoma Risk'"):
        read_classification(tmp_path / "r.csv", NAMES)
