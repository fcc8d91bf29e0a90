import numpy as np
import pytest
from PIL import Image

from keras_realmnet.errors import DataSetError
from training.data.files.mask_codings import IGNORE
from training.data.lesions.layouts import LAYOUTS
from training.data.lesions.reading import read_lesions

SIZE = (6, 5)  # width, height
SPOT = np.zeros((5, 6), np.uint8)
SPOT[1:3, 2:4] = 255


def save(path, pixels=None, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.full((5, 6, 3), 120, np.uint8) if pixels is None else pixels
    Image.fromarray(pixels).save(path, **options)


def read(folder, layout, *lesions):
    return read_lesions(folder, LAYOUTS[layout], lesions)


def notices(table):
    return [str(notice) for notice in table.notices]


@pytest.fixture
def idrid(tmp_path):
    top = tmp_path / "A. Segmentation"
    for folder, numbers in (("a. Training Set", (1, 2)), ("b. Testing Set", (55,))):
        truth = top / "2. All Segmentation Groundtruths" / folder
        for number in numbers:
            name = f"IDRiD_{number:02}"
            save(top / "1. Original Images" / folder / f"{name}.jpg")
            save(truth / "1. Microaneurysms" / f"{name}_MA.tif", SPOT > 0)
            save(truth / "3. Hard Exudates" / f"{name}_EX.tif", np.stack([SPOT, 0 * SPOT, 0 * SPOT], axis=-1))
        save(truth / "2. Haemorrhages" / f"IDRiD_{numbers[0]:02}_HE.tif", SPOT)
        save(truth / "4. Soft Exudates" / f"IDRiD_{numbers[0]:02}_SE.tif", 0 * SPOT)
    return tmp_path


def test_idrid(idrid):
    table = read(idrid, "idrid", "MA", "HE", "EX", "SE")
    assert table.names == ("IDRiD_01.jpg", "IDRiD_02.jpg", "IDRiD_55.jpg") == table.patients
    assert table.sets == ("train", "train", "test")
    assert table.masks.known.all()
    np.testing.assert_array_equal(
        table.masks.read(0, SIZE), np.stack([SPOT > 0, SPOT > 0, SPOT > 0, SPOT < 0], axis=-1)
    )
    assert table.masks.read(1, SIZE).sum(axis=(0, 1)).tolist() == [4, 0, 4, 0]  # without HE and SE: nothing there
    truth = "2. All Segmentation Groundtruths/a. Training Set"
    told = f"lesions: pictures without a mask in {truth}/2. Haemorrhages (_HE), known to be empty: 1 (IDRiD_02.jpg)"
    assert told in notices(table)
    assert read(idrid / "A. Segmentation", "idrid", "MA").names == table.names


def test_a_lesion_that_is_not_marked_is_unknown(idrid):
    table = read(idrid, "idrid", "NV", "MA")
    assert table.masks.known.tolist() == [[False, True]] * 3
    assert (table.masks.read(0, SIZE)[..., 0] == IGNORE).all()


def test_what_is_missing(idrid, tmp_path):
    (idrid / "A. Segmentation" / "1. Original Images" / "b. Testing Set").rename(idrid / "away")
    assert "parts of the data that are not there: 1 (1. Original Images/b. Testing Set)" in notices(
        read(idrid, "idrid", "MA")
    )
    with pytest.raises(
        DataSetError, match=r"holds no pictures of DDR .*; expected the folders train/image, valid/image"
    ):
        read(idrid, "ddr", "MA")
    truth = idrid / "A. Segmentation" / "2. All Segmentation Groundtruths" / "a. Training Set"
    (truth / "1. Microaneurysms").rename(tmp_path / "MA")
    with pytest.raises(DataSetError, match=r"Microaneurysms: no such folder; expected the masks"):
        read(idrid, "idrid", "MA")


def test_ddr(tmp_path):
    for folder, labels, number in (("train", "label", 1), ("valid", "segmentation label", 2), ("test", "label", 3)):
        save(tmp_path / folder / "image" / f"007-000{number}-000.jpg")
        for code in ("EX", "HE", "MA", "SE"):
            (tmp_path / folder / labels / code).mkdir(parents=True)
            if (code, number) != ("SE", 3):
                save(tmp_path / folder / labels / code / f"007-000{number}-000.tif", SPOT if code == "EX" else 0 * SPOT)
    table = read(tmp_path, "ddr", "SE", "EX")
    assert table.sets == ("train", "validation", "test")
    assert table.masks.known.tolist() == [[True, True], [True, True], [False, True]]
    assert table.masks.read(1, SIZE).sum(axis=(0, 1)).tolist() == [0, 4]


def test_e_ophtha(tmp_path):
    """A picture of both halves is one; what a half does not mark is unknown."""
    ex, ma = tmp_path / "e_optha_EX", tmp_path / "e_optha_MA"
    for path in ("E01/C1.jpg", "E02/C2.jpg"):
        save(ex / "EX" / path)
        save(ex / "Annotation_EX" / path.replace(".jpg", "_EX.png"), SPOT)
    save(ex / "healthy" / "E01" / "C3.JPG", format="JPEG")
    save(ma / "MA" / "E01" / "C1.jpg")
    save(ma / "Annotation_MA" / "E01" / "C1.png", SPOT)
    save(ma / "healthy" / "E02" / "C2.JPG", format="JPEG")
    table = read(tmp_path, "e_ophtha", "MA", "EX")
    assert table.names == ("E01/C1.jpg", "E01/C3.JPG", "E02/C2.jpg")
    assert table.patients == ("E01", "E01", "E02")
    assert table.sets is None
    assert table.masks.known.tolist() == [[True, True], [False, True], [True, True]]
    counts = [[int((table.masks.read(k, SIZE)[..., c] == 1).sum()) for c in range(2)] for k in range(3)]
    assert counts == [[4, 4], [0, 0], [0, 4]]
    save(ex / "healthy" / "E01" / "C1.jpg")
    with pytest.raises(DataSetError, match="is the same picture, and both have the masks of EX"):
        read(tmp_path, "e_ophtha", "MA", "EX")


def test_retinal_lesions(tmp_path):
    for name in ("10_left", "10_right", "12_left"):
        save(tmp_path / "images_896x896" / f"{name}.jpg")
    masks = tmp_path / "lesion_segs_896x896"
    mixed = SPOT.copy()
    mixed[0] = 127
    save(masks / "10_left" / "microaneurysm.png", mixed)
    save(masks / "10_right" / "cotton_wool_spots.png", SPOT)
    (tmp_path / "dr_grades.csv").write_text("image id,kaggle label,our label\n10_left,0,1\n12_left.jpg,0,4\n")
    table = read(tmp_path, "retinal_lesions", "MA", "SE", "NV")
    assert table.patients == ("kaggle-10", "kaggle-10", "kaggle-12")
    assert table.masks.known.all()
    first = table.masks.read(0, SIZE)
    np.testing.assert_array_equal(first[..., 0], np.where(mixed == 127, IGNORE, mixed == 255))
    assert not first[..., 1:].any()
    assert table.masks.read(1, SIZE)[..., 1].sum() == 4
    np.testing.assert_array_equal(table.grades, [[0, 1, 0, 0, 0], [np.nan] * 5, [0, 0, 0, 0, 1]])
    (tmp_path / "dr_grades.csv").write_text("image id,our label\n10_left,5\n")
    with pytest.raises(DataSetError, match=r"dr_grades\.csv:2: our label must be 0 to 4\. Found: '5'"):
        read(tmp_path, "retinal_lesions", "MA")


def test_colours(tmp_path):
    pixels = np.zeros((5, 6, 3), np.uint8)
    pixels[1, 1], pixels[1, 2], pixels[1, 3], pixels[4] = (255, 0, 0), (254, 255, 255), (255, 255, 255), (255, 255, 0)
    for name in ("a", "b"):
        save(tmp_path / "images" / f"{name}.jpg")
    save(tmp_path / "masks" / "a.png", pixels)
    table = read(tmp_path, "idrid_colours", "NV", "HE", "MA")
    assert table.masks.known.tolist() == [[False, True, True], [False, False, False]]
    masks = table.masks.read(0, SIZE)
    assert [np.argwhere(masks[..., k] == 1).tolist() for k in (1, 2)] == [[[1, 1], [1, 2]], [[1, 2], [1, 3]]]
    assert (masks[..., 0] == IGNORE).all()
