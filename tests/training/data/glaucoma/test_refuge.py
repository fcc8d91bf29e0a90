import csv

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_realmnet.errors import DataSetError
from tests.training.data.glaucoma.made_up import HEIGHT, WIDTH, levels, picture, save, workbook, write_refuge
from training.data.files.mask_codings import IGNORE
from training.data.glaucoma.refuge import read_refuge

NAN = np.nan
SIZE = (WIDTH, HEIGHT)


@pytest.fixture
def refuge(tmp_path):
    write_refuge(tmp_path / "REFUGE")
    return tmp_path / "REFUGE"


def notices(table):
    return [str(notice) for notice in table.notices]


def test_the_archives_as_they_unpack(refuge):
    table = read_refuge(refuge)
    assert [path.name for path in table.paths] == ["V0001.jpg", "T0001.jpg", "T0002.jpg", "g0001.jpg", "n0001.jpg"]
    assert table.names[-2:] == ("Training400/Glaucoma/g0001.jpg", "Training400/Non-Glaucoma/n0001.jpg")
    assert table.sets == ("validation", "test", "test", "train", "train")
    np.testing.assert_array_equal(table.glaucoma, [1, 1, 0, 1, 0])
    expected = [[40, 30.5, 1], [11, 12, 1], [NAN] * 3, [31.25, 20, 1], [NAN, NAN, 0]]
    np.testing.assert_array_equal(table.fovea[:, 0], expected)
    np.testing.assert_array_equal(table.masks.known, [[True, True]] * 2 + [[False, False]] + [[True, True]] * 2)
    assert notices(table) == [
        "pictures without a visible fovea: 1 (n0001.jpg)",
        "pictures whose fovea the list does not know: 1 (T0002.jpg)",
        "pictures without a mask of disc and cup, not known: 1 (T0002.jpg)",
    ]


def test_the_cup_is_a_part_of_the_disc(refuge):
    masks = read_refuge(refuge).masks
    read = masks.read(0, SIZE)
    np.testing.assert_array_equal(read[..., 0], levels() < 255)
    np.testing.assert_array_equal(read[..., 1], levels() == 0)
    assert (masks.read(2, SIZE) == IGNORE).all()
    save(refuge / "REFUGE-Validation400-GT" / "Disc_Cup_Masks" / "V0001.bmp", np.full((HEIGHT, WIDTH), 77, np.uint8))
    with pytest.raises(DataSetError, match=r"V0001\.bmp: 3000 pixels have colours .*: 77"):
        masks.read(0, SIZE)


def test_refuge2_has_its_lists_in_the_form_that_is_handed_in(tmp_path):
    picture(tmp_path / "Images" / "V0001.jpg")
    picture(tmp_path / "Images" / "V0002.jpg")
    save(tmp_path / "Disc_Masks" / "V0002.png", levels())
    (tmp_path / "glaucoma.csv").write_text("FileName,Glaucoma Risk\nV0002.jpg,1\nV0001.jpg,0\n")
    (tmp_path / "fovea.csv").write_text("ImageName,Fovea_X,Fovea_Y\nV0001.jpg,20.5,30\nV0003.jpg,1,1\n")
    (tmp_path / "classification_results.csv").write_text("FileName,Glaucoma Risk\nV0001.jpg,0.31\n")
    table = read_refuge(tmp_path)
    np.testing.assert_array_equal(table.glaucoma, [0, 1])
    np.testing.assert_array_equal(table.fovea[:, 0], [[20.5, 30, 1], [NAN] * 3])
    assert table.masks.known[:, 0].tolist() == [False, True]
    assert notices(table)[:2] == [
        "rows of the list of foveas without a picture: 1 (V0003.jpg)",
        "pictures that the list of foveas does not have: 1 (V0002.jpg)",
    ]


@pytest.mark.parametrize(
    ("break_it", "message"),
    [
        (lambda root: picture(root / "Validation" / "v0001.png"), r"has the name of .*; expected each once"),
        (
            lambda root: workbook(root / "more_Fovea.xlsx", ("ImgName", "Fovea_X", "Fovea_Y"), ("V0001.jpg", 1, 2)),
            r"V0001\.jpg is listed again, after .*; expected each once",
        ),
        (
            lambda root: workbook(root / "glaucoma.xlsx", ("ImgName", "Glaucoma Label"), ("g0001.jpg", 0)),
            r"glaucoma\.xlsx:2: Label is 0, but the name g0001\.jpg says g",
        ),
        (
            lambda root: workbook(root / "glaucoma.xlsx", ("ImgName", "Glaucoma Label"), ("n0001.jpg", "no")),
            r"glaucoma\.xlsx:2: n0001\.jpg: Glaucoma Label must be 0 or 1\. Found: 'no'",
        ),
        (
            lambda root: save(root / "Disc_Masks" / "V0001.png", levels()),
            r"V0001\.bmp is a mask of V0001\.jpg, too; expected one|V0001\.png is a mask of V0001\.jpg, too",
        ),
    ],
)
def test_what_is_ambiguous_or_contradicts_itself_is_refused(refuge, break_it, message):
    break_it(refuge)
    with pytest.raises(DataSetError, match=message):
        read_refuge(refuge)


def test_a_fovea_outside_of_its_picture_and_a_folder_without_pictures(refuge, tmp_path):
    place = refuge / "REFUGE-Validation400-GT" / "Fovea_locations.xlsx"
    workbook(place, ("ImgName", "Fovea_X", "Fovea_Y"), ("V0001.jpg", 61, 20))
    with pytest.raises(DataSetError, match=r"xlsx:2: the fovea must lie in the 60 x 50 pixels of V0001\.jpg\. Fo"):
        read_refuge(refuge)
    with pytest.raises(DataSetError, match=r"nowhere: no such folder; expected REFUGE's pictures, such as g0001\.jpg"):
        read_refuge(refuge / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataSetError, match=r"empty: no pictures \(\.jpg.*\); expected REFUGE's pictures"):
        read_refuge(tmp_path / "empty")


@settings(max_examples=25)
@given(
    st.dictionaries(
        st.sampled_from(["g0001", "n0002", "V0003", "T0400"]),
        st.tuples(
            st.sampled_from(["", "0", "1"]),
            st.one_of(st.none(), st.tuples(st.floats(0, WIDTH, width=32), st.floats(0, HEIGHT, width=32))),
        ),
        min_size=1,
    ),
    st.sampled_from([(",", "utf-8"), (";", "utf-8-sig"), ("\t", "utf-16"), (",", "xlsx")]),
    st.data(),
)
def test_a_list_is_read_as_it_was_written(tmp_path_factory, rows, form, data):
    """Whatever the order of its rows, its separator and its encoding."""
    root = tmp_path_factory.mktemp("refuge")
    written = []
    for name in data.draw(st.permutations(sorted(rows))):
        label, point = rows[name]
        known = {"g": "1", "n": "0"}.get(name[0], label)
        picture(root / f"{name}.jpg")
        written.append((f"{name}.jpg", known, *(("", "") if point is None else map(repr, point))))
    header = ("ImgName", "Glaucoma Label", "Fovea_X", "Fovea_Y")
    separator, encoding = form
    if encoding == "xlsx":
        numbers = [(name, *(float(each) if each else None for each in rest)) for name, *rest in written]
        workbook(root / "Fovea_location.xlsx", header, *numbers)
    else:
        with (root / "Fovea_location.csv").open("w", newline="", encoding=encoding) as file:
            csv.writer(file, delimiter=separator).writerows([header, *written])
    table = read_refuge(root)
    for path, glaucoma, (x, y, visible) in zip(table.paths, table.glaucoma, table.fovea[:, 0], strict=True):
        label, point = rows[path.stem]
        label = {"g": "1", "n": "0"}.get(path.stem[0], label)
        assert (np.isnan(glaucoma) and not label) or glaucoma == float(label or "nan")
        if point is None:
            assert np.isnan(visible)
        else:
            assert visible == (0 if point == (0, 0) else 1)
            assert visible == 0 or (x, y) == point
