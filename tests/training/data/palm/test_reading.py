import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from openpyxl import Workbook
from PIL import Image

from keras_realmnet.errors import DataSetError
from training.data.palm.reading import read_challenge, read_copies, read_palm
from training.data.palm.table import NATIVE_SIZES, native_size_of_copy

NAN = np.nan
WIDTH, HEIGHT = 60, 50


def save(path, pixels):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def picture(path):
    save(path, np.full((HEIGHT, WIDTH, 3), 120, np.uint8))


def mask(path, rows=slice(10, 20)):
    pixels = np.full((HEIGHT, WIDTH), 255, np.uint8)
    pixels[rows, 5:15] = 0
    save(path, pixels)


def notices(table):
    return [str(notice) for notice in table.notices]


# ---- the challenge's layout


@pytest.fixture
def palm(tmp_path):
    training = tmp_path / "PALM" / "Training"
    for name in ("H0001", "N0001", "N0002", "P0001"):
        picture(training / "Images" / f"{name}.jpg")
    for name in ("H0001.bmp", "N0001.bmp", "N0002.png"):
        mask(training / "Disc Masks" / name)
    mask(training / "Lesion Masks" / "Atrophy" / "P0001.bmp")
    book = Workbook()
    book.active.append(["ID", "ImgName", "Fovea_X", "Fovea_Y"])
    for number, row in enumerate([("H0001.jpg", 31.25, 20), ("N0001.jpg", 0, 0), ("P0001.jpg", None, None)]):
        book.active.append([number, *row])
    book.save(training / "Training_Fovea_Location.xlsx")
    for name in ("V0001", "V0002"):
        picture(tmp_path / "PALM" / "Validation" / "Images" / f"{name}.jpg")
    return tmp_path


def test_a_training_set(palm):
    table = read_palm(palm, "train")
    assert table.names == ("H0001.jpg", "N0001.jpg", "N0002.jpg", "P0001.jpg")
    np.testing.assert_array_equal(table.labels, [[0, 1, 0], [1, 0, 0], [1, 0, 0], [0, 0, 1]])  # N, H, P
    np.testing.assert_array_equal(table.fovea[:, 0], [[31.25, 20, 1], [NAN, NAN, 0], [NAN] * 3, [NAN] * 3])
    np.testing.assert_allclose(table.fovea_in_files()[0, 0], [31.25, 20, 1], rtol=1e-6)
    np.testing.assert_allclose(table.fovea_fractions()[0, 0, :2], [31.75 / WIDTH, 20.5 / HEIGHT], rtol=1e-6)
    assert table.sizes == table.native_sizes == ((WIDTH, HEIGHT),) * 4
    assert notices(table) == [
        "pictures that the list of foveas does not have: 1 (N0002.jpg)",
        "pictures without a visible fovea: 1 (N0001.jpg)",
        "pictures whose fovea the list does not know: 1 (P0001.jpg)",
        "pictures without a mask in Disc Masks, known to have none: 1 (P0001.jpg)",
        "pictures without a mask in Lesion Masks/Atrophy, known to have none: 3 (H0001.jpg, N0001.jpg, N0002.jpg)",
        "pictures without a mask in Lesion Masks/Detachment, not known, as there is none at all: 4 (H0001.jpg, "
        "N0001.jpg, N0002.jpg, P0001.jpg)",
    ]


def test_masks_that_are_empty_and_masks_that_nobody_gave(palm):
    table = read_challenge(palm / "PALM", "train")
    truth = table.mask_truth("disc", "atrophy", "detachment")
    np.testing.assert_array_equal(truth.known, [[True, True, False]] * 4)
    read = truth.read(0, table.sizes[0])
    assert read.shape == (HEIGHT, WIDTH, 3)
    assert read[..., 0].sum() == 100
    assert read[12, 7].tolist() == [1, 0, 255]
    assert not truth.read(3, table.sizes[3])[..., 0].any()

    unknown = read_palm(palm, "train", without_mask="unknown")
    assert unknown.masks["disc"].known.tolist() == [True, True, True, False]
    assert (unknown.mask_truth("disc").read(3, (WIDTH, HEIGHT)) == 255).all()
    with pytest.raises(KeyError):
        read_challenge(palm, "train").mask_truth("cup")


@pytest.mark.parametrize("ending", ["csv", "xlsx"])
def test_labels_of_pictures_whose_names_have_no_class(palm, ending):
    part = palm / "PALM" / "Validation"
    rows = [["imgName", "Label", "Fovea_X", "Fovea_Y"], ["V0001.jpg", 1, 3.5, 4], ["V0002.jpg", 0, "NaN", ""]]
    if ending == "xlsx":
        book = Workbook()
        for row in rows:
            book.active.append(row)
        book.save(part / "PM_Label_and_Fovea_Location.xlsx")
    else:
        (part / "PM_Label_and_Fovea_Location.csv").write_text("\n".join(",".join(map(str, row)) for row in rows))
    table = read_palm(palm, "validation")
    np.testing.assert_array_equal(table.labels, [[0, 0, 1], [NAN, NAN, 0]])
    np.testing.assert_array_equal(table.fovea[:, 0], [[3.5, 4, 1], [NAN] * 3])


def test_a_set_without_any_truth(palm):
    table = read_palm(palm, "validation")
    assert np.isnan(table.labels).all()
    assert np.isnan(table.fovea).all()
    assert not table.mask_truth("disc", "atrophy", "detachment").known.any()


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ("V0001.jpg,60.5,2,", r"csv:2: the fovea must lie in the 60 x 50 pixels of V0001\.jpg. Found: 60\.5, 2"),
        ("V0001.jpg,-3,2,", r"csv:2: V0001\.jpg: a point must lie in its picture. Found: -3, 2"),
        ("V0001.jpg,3,,", r"csv:2: V0001\.jpg: x and y must both be known, or neither. Found: 3 and nan"),
        ("V0001.jpg,3,two,", r"csv:2: V0001\.jpg: Fovea_X and Fovea_Y must be numbers, or empty. Found: 3, two"),
        ("V0001.jpg,3,2,2", r"csv:2: V0001\.jpg: Label must be 0 or 1. Found: '2'"),
        ("V0001.jpg,3,2,1\nV0001.jpg,3,2,1", r"csv:3: V0001\.jpg is listed again, after .*csv:2; expected each once"),
    ],
)
def test_errors_of_a_list_name_file_line_and_value(palm, rows, message):
    (palm / "PALM/Validation/Fovea_Location.csv").write_text(f"imgName,Fovea_X,Fovea_Y,Label\n{rows}\n")
    with pytest.raises(DataSetError, match=message):
        read_palm(palm, "validation")


def test_a_label_that_contradicts_the_name(palm):
    (palm / "PALM/Training/Training_Fovea_Location.xlsx").unlink()
    (palm / "PALM/Training/Fovea_location.csv").write_text("imgName,Fovea_X,Fovea_Y,Label\nH0001.jpg,1,1,1\n")
    with pytest.raises(DataSetError, match=r"csv:2: Label is 1, but the name H0001\.jpg says H"):
        read_palm(palm, "train")


def test_errors_of_the_layout(palm):
    training = palm / "PALM" / "Training"
    with pytest.raises(DataSetError, match=r"splits of PALM are train, validation, test. Received: 'val'"):
        read_palm(palm, "val")
    with pytest.raises(DataSetError, match=r"Testing/Images: no such folder; expected the pictures of Testing; PALM/"):
        read_palm(palm, "test")
    with pytest.raises(DataSetError, match="nowhere: no such folder; expected PALM/Training/Images"):
        read_palm(palm / "nowhere", "train")
    (training / "Fovea_Location.csv").write_text("imgName,Fovea_X,Fovea_Y\n")
    with pytest.raises(DataSetError, match=r"several lists of foveas, Fovea_Location\.csv, Training_Fovea_Locat"):
        read_palm(palm, "train")
    (training / "Fovea_Location.csv").unlink()
    picture(training / "Images" / "X1.jpg")
    with pytest.raises(DataSetError, match=r"X1\.jpg: the name of a training picture must begin with N, H or P"):
        read_palm(palm, "train")
    picture(training / "Images" / "h0001.png")
    with pytest.raises(DataSetError, match=r"h0001\.png: has the name of .*H0001\.jpg; expected each once"):
        read_palm(palm, "train")


# ---- the small copies, which do not say which size their picture had


def field(size):
    """A camera's circle as wide as the picture, of which 2124 x 2056 cuts off the top and the bottom."""
    width, height = size
    pixels = np.zeros((height, width, 3), np.uint8)
    cv2.circle(pixels, (width // 2, height // 2), width // 2, (40, 90, 160), -1)
    return pixels


@settings(max_examples=20)
@given(st.sampled_from(NATIVE_SIZES), st.integers(150, 512))
def test_the_shape_of_the_field_tells_the_native_size(native, side):
    copy = cv2.resize(field(native), (side, side), interpolation=cv2.INTER_AREA)
    assert native_size_of_copy(copy) == native


def test_no_size_is_guessed():
    assert native_size_of_copy(np.zeros((224, 224, 3), np.uint8)) is None
    assert native_size_of_copy(np.full((224, 225, 3), 90, np.uint8)) is None
    assert native_size_of_copy(np.zeros((2056, 2124, 3), np.uint8)) == (2124, 2056)
    edge = np.zeros((100, 100, 3), np.uint8)
    edge[[0, -1], :20] = edge[:20, [0, -1]] = 90  # between the two
    assert native_size_of_copy(edge) is None


@pytest.fixture
def copies(tmp_path):
    for k, native in enumerate((NATIVE_SIZES[0], NATIVE_SIZES[1], NATIVE_SIZES[1], NATIVE_SIZES[0]), 1):
        save(tmp_path / "val" / f"V000{k}.png", cv2.resize(field(native), (224, 224), interpolation=cv2.INTER_AREA))
    save(tmp_path / "train" / "P0001.png", cv2.resize(field(NATIVE_SIZES[0]), (224, 224)))
    rows = ["1,V0001.png,0,1061.5,1027.5", "2,V0002.png,1,721.5,721.5", "3,V0003.png,0,1500,722", "4,V0004.png,1,0,0"]
    (tmp_path / "labels.csv").write_text("\n".join(["ID,imgName,Label,Fovea_X,Fovea_Y", *rows]))
    return tmp_path


def test_foveas_of_copies_are_scaled_by_the_size_that_the_picture_shows(copies):
    table = read_palm(copies, "validation")
    assert table.native_sizes == (NATIVE_SIZES[0], NATIVE_SIZES[1], None, NATIVE_SIZES[0])
    assert table.sizes == ((224, 224),) * 4
    np.testing.assert_allclose(table.fovea_in_files()[:2, 0, :2], 111.5, rtol=1e-6)
    np.testing.assert_array_equal(table.fovea[2, 0], [1500, 722, 1])  # as the list says
    np.testing.assert_array_equal(table.fovea_fractions()[2:, 0], [[NAN] * 3, [NAN, NAN, 0]])
    np.testing.assert_array_equal(table.labels, [[NAN, NAN, 0], [0, 0, 1], [NAN, NAN, 0], [0, 0, 1]])
    assert notices(table) == [
        "pictures without a visible fovea: 1 (V0004.png)",
        "pictures whose native size does not show, so that their fovea is not known: 1 (V0003.png)",
    ]


def test_copies_for_training_have_classes_alone(copies):
    table = read_copies(copies, "train")
    np.testing.assert_array_equal(table.labels, [[0, 0, 1]])
    assert np.isnan(table.fovea).all()
    assert table.native_sizes == (None,)
    with pytest.raises(DataSetError, match=r"have the splits train and validation. Received: 'test'"):
        read_palm(copies, "test")
    (copies / "labels.csv").unlink()
    with pytest.raises(DataSetError, match=r"val/labels\.csv: no such file; it lists imgName, Fovea_X"):
        read_copies(copies, "validation")


def test_the_public_copies(shared):
    table = read_palm(shared / "fundus" / "palm224", "validation")
    assert len(table) == 199
    assert {size: table.native_sizes.count(size) for size in set(table.native_sizes)} == {
        (2124, 2056): 170,
        (1444, 1444): 29,
    }
    # Read as if all were of 2124 x 2056, the foveas of the 29 would lie above the middle: at .30 to .54.
    small = np.array([size == (1444, 1444) for size in table.native_sizes])
    heights = table.fovea_fractions()[:, 0, 1]
    assert 0.37 < heights.min() <= heights.max() < 0.77
    assert abs(np.median(heights[small]) - np.median(heights[~small])) < 0.01
    training = read_palm(shared / "fundus" / "palm224", "train")
    assert training.labels.sum(axis=0).tolist() == [161, 26, 213]


def test_the_native_size_of_public_pictures_of_which_both_are_there(shared):
    found = {}
    for file in sorted((shared / "fundus" / "palm_native").glob("*.jpg")):
        with Image.open(file) as native, Image.open(shared / "fundus" / "palm224" / "train" / file.name) as copy:
            found[file.stem] = native.size
            assert native_size_of_copy(np.asarray(copy)) == native.size
            assert native_size_of_copy(np.asarray(native.resize((512, 512)))) == native.size
    assert set(found.values()) == set(NATIVE_SIZES)
