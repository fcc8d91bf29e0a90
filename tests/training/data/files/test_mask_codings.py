import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from keras_realmnet.errors import DataSetError
from training.data.files.mask_codings import IGNORE, BinaryCoding, ColourCoding, read_pixels

SIZE = (5, 4)  # width, height
INSIDE = np.zeros((4, 5), bool)
INSIDE[1:3, 2:] = True


def save(path, pixels, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **options)
    return path


def palette_image(path, indices, palette):
    image = Image.frombytes("P", indices.shape[::-1], indices.tobytes())
    image.putpalette([value for colour in palette for value in colour])
    image.save(path)
    return path


# ---- one structure


@pytest.mark.parametrize("name", ["m.png", "m.bmp", "m.tif"])
@pytest.mark.parametrize("value", [1, 128, 255])
def test_a_binary_mask(tmp_path, name, value):
    save(tmp_path / name, np.where(INSIDE, value, 0).astype(np.uint8))
    np.testing.assert_array_equal(BinaryCoding().read(tmp_path / name, SIZE)[..., 0], INSIDE)


def test_black_and_white_grey_in_colours_and_sixteen_bits(tmp_path):
    save(tmp_path / "bits.png", INSIDE)
    save(tmp_path / "rgb.png", np.repeat(np.where(INSIDE, 255, 0).astype(np.uint8)[..., None], 3, axis=-1))
    save(tmp_path / "deep.png", np.where(INSIDE, 255, 0).astype(np.uint16))
    for name in ("bits", "rgb", "deep"):
        np.testing.assert_array_equal(BinaryCoding().read(tmp_path / f"{name}.png", SIZE)[..., 0], INSIDE)


def test_a_mask_whose_structure_is_black(tmp_path):
    palm = BinaryCoding(background=255, structure=0)
    path = save(tmp_path / "m.bmp", np.where(INSIDE, 0, 255).astype(np.uint8))
    np.testing.assert_array_equal(palm.read(path, SIZE)[..., 0], INSIDE)
    save(path, np.full((4, 5), 255, np.uint8))
    assert not palm.read(path, SIZE).any()
    save(path, np.where(INSIDE, 128, 255).astype(np.uint8))
    with pytest.raises(DataSetError, match=r"m\.bmp: .* must be 255 \(background\) or 0. Found: 128"):
        palm.read(path, SIZE)


def test_levels_of_where_nothing_is_known(tmp_path):
    pixels = np.where(INSIDE, 255, 0).astype(np.uint8)
    pixels[0] = 127
    path = save(tmp_path / "m.png", pixels)
    expected = np.where(pixels == 127, IGNORE, INSIDE)
    np.testing.assert_array_equal(BinaryCoding(ignore=(127,)).read(path, SIZE)[..., 0], expected)
    with pytest.raises(DataSetError, match=r"must be 0 \(background\) or 1, or 127 \(ignored\)\. Found: 255"):
        BinaryCoding(structure=1, ignore=(127,)).read(path, SIZE)


def test_a_structure_in_any_one_colour(tmp_path):
    red = np.where(INSIDE[..., None], np.uint8([255, 0, 0, 255]), np.uint8([0, 0, 0, 255]))
    coloured, grey = save(tmp_path / "red.tif", red), save(tmp_path / "grey.tif", red[..., 0])
    indices = palette_image(tmp_path / "p.tif", INSIDE.astype(np.uint8), [(0, 0, 0), (255, 0, 0)])
    for path in (coloured, grey, indices):
        np.testing.assert_array_equal(BinaryCoding(coloured=True).read(path, SIZE)[..., 0], INSIDE)
    red[0, 0] = (0, 255, 0, 255)
    save(coloured, red)
    with pytest.raises(DataSetError, match=r"or one other value\. Found: #00ff00, #ff0000"):
        BinaryCoding(coloured=True).read(coloured, SIZE)


def test_a_smoothed_mask_and_one_of_another_size_are_refused(tmp_path):
    path = save(tmp_path / "m.png", np.arange(20, dtype=np.uint8).reshape(4, 5))
    with pytest.raises(DataSetError, match=r"or one other value. Found: 1, 2, 3, 4, 5, 6 \.\.\."):
        BinaryCoding().read(path, SIZE)
    with pytest.raises(DataSetError, match=r"the mask has 5 x 4 pixels; expected those of its picture, 4 x 5"):
        BinaryCoding().read(path, (4, 5))
    path.write_bytes(b"")
    with pytest.raises(DataSetError, match=r"m\.png: cannot be read as a mask"):
        BinaryCoding().read(path, SIZE)
    save(path, np.full((4, 5), 300, np.uint16))
    with pytest.raises(DataSetError, match="values up to 300; expected 0 to 255"):
        BinaryCoding().read(path, SIZE)
    save(path, np.tile(np.uint8([255, 0, 0]), (4, 5, 1)))
    with pytest.raises(DataSetError, match="the mask has colours; expected grey levels"):
        BinaryCoding().read(path, SIZE)


# ---- several labels in one file

RED, YELLOW, GREY, BLACK = (255, 0, 0), (255, 255, 0), (128, 128, 128), (0, 0, 0)
DISC_AND_CUP = ColourCoding(((YELLOW, RED), (RED,)), background=BLACK, ignore=(GREY,))


def test_colours_may_belong_to_several_labels(tmp_path):
    pixels = np.uint8([[BLACK, YELLOW, RED, GREY, BLACK]] * 4)
    path = save(tmp_path / "m.png", pixels)
    read = DISC_AND_CUP.read(path, SIZE)
    np.testing.assert_array_equal(read[0], [[0, 0], [1, 0], [1, 1], [IGNORE, IGNORE], [0, 0]])
    assert (read == read[:1]).all()


def test_indices_are_not_colours(tmp_path):
    indices = np.uint8([[0, 1, 2, 3, 0]] * 4)
    path = palette_image(tmp_path / "m.png", indices, [BLACK, YELLOW, RED, GREY])
    np.testing.assert_array_equal(DISC_AND_CUP.read(path, SIZE)[0, :, 1], [0, 0, 1, IGNORE, 0])
    by_index = ColourCoding(((1, 2), (2,)), background=0, ignore=(3,))
    np.testing.assert_array_equal(by_index.read(path, SIZE), DISC_AND_CUP.read(path, SIZE))


def test_unnamed_colours_are_counted(tmp_path):
    path = save(tmp_path / "m.png", np.uint8([[BLACK, YELLOW, (1, 2, 3), (1, 2, 3), (0, 0, 1)]] * 4))
    with pytest.raises(DataSetError, match=r"12 pixels have colours .* does not name: #000001, #010203"):
        DISC_AND_CUP.read(path, SIZE)


@given(hnp.arrays(np.uint8, (4, 5), elements=st.integers(0, 3)))
def test_colours_and_indices_of_any_picture(tmp_path_factory, indices):
    path = palette_image(tmp_path_factory.mktemp("m") / "m.png", indices, [BLACK, YELLOW, RED, GREY])
    expected = np.stack([np.isin(indices, [1, 2]), indices == 2], axis=-1).astype(np.uint8)
    expected[indices == 3] = IGNORE
    np.testing.assert_array_equal(DISC_AND_CUP.read(path, SIZE), expected)
    np.testing.assert_array_equal(read_pixels(path, SIZE, colour=False), indices)
