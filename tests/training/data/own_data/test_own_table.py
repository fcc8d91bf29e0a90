import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from openpyxl import Workbook
from PIL import Image

from keras_realmnet.errors import DataSetError
from training.data.own_data.own_table import Columns, parse_columns, read_own_table
from training.data.own_data.vocabulary import read_vocabulary

NAN = np.nan
WIDTH, HEIGHT = 40, 30
HEAD = 'name = "mine"\nmodality = "colour_fundus"\n'
LABELS = """
[[outputs]]
name = "findings"
kind = "labels"
entries = [
  { code = "A", name = "First", meaning = "first finding" },
  { code = "B", name = "Second", meaning = "second finding", pathologic = true },
]
"""
GRADES = """
[[outputs]]
name = "grade"
kind = "grades"
entries = [
  { code = "G0", name = "None", meaning = "no disease", value = 0 },
  { code = "G1", name = "Some", meaning = "some disease", value = 1 },
  { code = "G2", name = "Much", meaning = "much disease", value = "much", pathologic = true },
]
"""
POINTS = """
[[outputs]]
name = "landmarks"
kind = "points"
entries = [
  { code = "F", name = "Fovea", meaning = "centre of the fovea" },
  { code = "D", name = "Disc", meaning = "centre of the optic disc", x = "disc x", y = "disc y" },
]
"""
MASKS = """
[[outputs]]
name = "lesions"
kind = "masks"
exclusive = false
folder = "masks"
entries = [
  { code = "EX", name = "Exudate", meaning = "hard exudate" },
  { code = "MA", name = "Microaneurysm", meaning = "microaneurysm", folder = "small" },
]
"""
COLOURED = """
[[outputs]]
name = "disc_and_cup"
kind = "masks"
exclusive = true
folder = "coloured"
without_mask = "empty"
entries = [
  { code = "RIM", name = "Rim", meaning = "neuroretinal rim", colours = ["#ffff00"] },
  { code = "CUP", name = "Cup", meaning = "optic cup", colours = ["#ff0000"] },
]
"""
ALL = Columns("path", "patient", "eye")


def save(path, pixels):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


@pytest.fixture
def study(tmp_path):
    """Reads a table (of text, or bytes) of pictures with a vocabulary made of some outputs."""
    for name in ("one/a.jpg", "one/b.jpg", "two/c.png"):
        save(tmp_path / "pictures" / name, np.full((HEIGHT, WIDTH, 3), 90, np.uint8))

    def read(table, *outputs, columns=None):
        (tmp_path / "vocabulary.toml").write_text(HEAD + "".join(outputs), encoding="utf-8")
        (tmp_path / "list.csv").write_bytes(table if isinstance(table, bytes) else table.encode())
        vocabulary = read_vocabulary(tmp_path / "vocabulary.toml")
        return read_own_table(tmp_path / "pictures", tmp_path / "list.csv", vocabulary, columns)

    read.folder = tmp_path / "pictures"
    return read


def notices(table):
    return [str(notice) for notice in table.notices]


# ---- which picture, of whom


def test_a_table_as_excel_writes_it(study, tmp_path):
    text = "path;patient;eye;A;B\none/a.jpg;Müller;R;1;0\none\\b.jpg;Müller;left;-1;1\nc.png;7;;;\n"
    table = study(text.encode("latin-1"), LABELS, columns=ALL)
    assert table.names == ("one/a.jpg", "one/b.jpg", "two/c.png")
    assert table.paths[2] == tmp_path / "pictures" / "two" / "c.png"
    assert table.patients == ("Müller", "Müller", "7")
    assert table.eyes == ("OD", "OS", None)
    assert table.origins[0] == f"{tmp_path / 'list.csv'}:2"
    np.testing.assert_array_equal(table.truth["findings"], [[1, 0], [NAN, 1], [NAN, NAN]])
    assert table.truth["findings"].dtype == np.float32
    assert notices(table) == [
        f"read as Windows-1252, since it is not UTF-8: 1 ({tmp_path / 'list.csv'})",
        "pictures whose eye is not known: 1 (two/c.png)",
        "findings: pictures of which A is not known: 2 (one/b.jpg, two/c.png)",
        "findings: pictures of which B is not known: 1 (two/c.png)",
    ]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_names_in_any_encoding(study, encoding):
    save(study.folder / "Zoë ü.png", np.zeros((HEIGHT, WIDTH, 3), np.uint8))
    table = study("path,A,B\nZoë ü.png,1,0\n".encode(encoding), LABELS)
    assert table.names == ("Zoë ü.png",)


def test_a_workbook(study, tmp_path):
    book = Workbook()
    for row in (["path", "A", "B"], ["a.jpg", 1, None], ["c.png", 0.0, -1]):
        book.active.append(row)
    book.save(tmp_path / "book.xlsx")
    table = study((tmp_path / "book.xlsx").read_bytes(), LABELS)
    np.testing.assert_array_equal(table.truth["findings"], [[1, NAN], [0, NAN]])


def test_what_does_not_fit_together_is_told_and_counted(study):
    rows = ["one/a.jpg,1,0", "gone.jpg,1,0", "two/a.jpg,1,1", "one/a.jpg,1,0", "one/b.jpg,0,1"]
    table = study("\n".join(["path,A,B", *rows]), LABELS)
    assert table.names == ("one/a.jpg", "one/b.jpg")
    np.testing.assert_array_equal(table.truth["findings"], [[1, 0], [0, 1]])
    assert table.patients == table.names
    assert notices(table) == [
        "rows that repeat another, left out: 1 (one/a.jpg in line 5)",
        "pictures of the table that are not in the folder, left out: 2 (gone.jpg, two/a.jpg)",
        "pictures in the folder that are not in the table, left out: 1 (two/c.png)",
        "pictures that count as patients of their own, since no column names patients: 2 (one/a.jpg, one/b.jpg)",
    ]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ("a.jpg,1,0,1,R\na.jpg,1,1,1,R", r"list\.csv:3: a\.jpg is listed again, after line 2; .* Found: '0' and '1'"),
        (",1,0,1,R", r"list\.csv:2: path must be a picture's path. Found: ''"),
        ("gone.jpg,1,0,1,R", r"none of its 1 pictures is in .*; expected paths below .* Found: gone\.jpg"),
        ("a.jpg,1,0,,R", r"list\.csv:2: patient must be a patient's id, since .* Found: ''"),
        ("a.jpg,1,0,1,up", r"list\.csv:2: eye must be one of od, r, re, right, os, l, le, left, or empty. Found: 'up'"),
        ("a.jpg,2,0,1,R", r"list\.csv:2: A must be 0 or 1, or empty, NaN or -1 where it is not known. Found: 2"),
        ("a.jpg,yes,0,1,R", r"list\.csv:2: A must be a number. Found: 'yes'"),
        ("a.jpg,2,yes,,up", r"4 problems: "),
    ],
)
def test_errors_name_file_line_and_value(study, rows, message):
    with pytest.raises(DataSetError, match=message):
        study(f"path,A,B,patient,eye\n{rows}\n", LABELS, columns=ALL)


def test_a_name_that_may_be_two_pictures(study):
    save(study.folder / "two" / "a.jpg", np.zeros((HEIGHT, WIDTH, 3), np.uint8))
    with pytest.raises(DataSetError, match=r"list\.csv:2: .*'a\.jpg' may be any of one/a\.jpg, two/a\.jpg"):
        study("path,A,B\na.jpg,1,0\n", LABELS)


def test_a_column_that_is_missing(study):
    with pytest.raises(DataSetError, match=r"no column 'B', .*expected the columns path, A, B. Found: 'path', 'A'"):
        study("path,A\na.jpg,1\n", LABELS)


def test_columns_are_named_on_the_command_line():
    assert parse_columns("path=file,patient=ID, eye = side") == Columns("file", "ID", "side")
    assert parse_columns("path=file") == Columns("file", None, None)
    assert parse_columns("path=p,split=set,same_picture=twin") == Columns("p", None, None, "set", ("twin",))
    twins = parse_columns("path=p,same_picture=twin,same_picture=copy")
    assert twins == Columns("p", same_picture=("twin", "copy"))
    assert twins.named == ("p", "twin", "copy")


TWICE = "path=a,same_picture=b,same_picture=b"


@pytest.mark.parametrize("text", ["", "patient=ID", "path=", "path=a,path=b", "path=a,age=b", "path", TWICE])
def test_columns_that_cannot_be_meant(text):
    with pytest.raises(ValueError, match=r"columns must be given as path=\.\.\.,patient=\.\.\.,eye=\.\.\."):
        parse_columns(text)


# ---- patients and sets


def test_pictures_that_are_the_same_are_of_one_patient(study):
    columns = Columns("path", "patient", same_picture=("twin",))
    rows = "a.jpg,1,,1,0\nb.jpg,2,c,1,0\nc.png,3,elsewhere,0,1\n"
    table = study(f"path,patient,twin,A,B\n{rows}", LABELS, columns=columns)
    assert table.patients == ("1", "elsewhere", "elsewhere")
    assert notices(table) == [
        "pictures that are the same as another, which stay together and count as one patient's: 1 (one/b.jpg = "
        "two/c.png)",
        "pictures that others are the same as, and that are not in the folder: 1 (elsewhere)",
    ]
    with pytest.raises(DataSetError, match=r"list\.csv:4: patient 2 is in test, and in train in line 3"):
        study(
            "path,patient,twin,set,A,B\na.jpg,1,,val,1,0\nb.jpg,2,c,training,1,0\nc.png,3,,test,0,1\n",
            LABELS,
            columns=Columns("path", "patient", None, "set", ("twin",)),
        )


def test_several_columns_may_name_the_same_picture(study):
    columns = Columns("path", same_picture=("twin", "other"))
    rows = "a.jpg,,elsewhere,1,0\nb.jpg,a,,1,0\nc.png,,elsewhere,0,1\n"
    assert study(f"path,twin,other,A,B\n{rows}", LABELS, columns=columns).patients == ("elsewhere",) * 3
    rows = "a.jpg,,x.jpg,1,0\nb.jpg,a,y.jpg,1,0\nc.png,,y.jpg,0,1\n"
    assert study(f"path,twin,other,A,B\n{rows}", LABELS, columns=columns).patients == ("x.jpg",) * 3
    rows = "a.jpg,b,,1,0\nb.jpg,a,,1,0\nc.png,,,0,1\n"
    assert study(f"path,twin,other,A,B\n{rows}", LABELS, columns=columns).patients == (
        "one/a.jpg",
        "one/a.jpg",
        "two/c.png",
    )


def test_the_set_is_in_a_column(study):
    columns = Columns("path", "patient", split="set")
    head = "path,patient,set,A,B\n"
    table = study(f"{head}a.jpg,1,Training,1,0\nb.jpg,2,VAL,1,0\nc.png,3,,0,1\n", LABELS, columns=columns)
    assert table.sets == ("train", "validation", None)
    assert notices(table) == ["pictures in no set, since their set is empty: 1 (two/c.png)"]
    with pytest.raises(DataSetError, match=r"list\.csv:2: set must be one of train, training, .* Found: 'later'"):
        study(f"{head}a.jpg,1,later,1,0\n", LABELS, columns=columns)
    with pytest.raises(DataSetError, match=r"list\.csv:3: patient 1 is in test, and in train in line 2; expected one"):
        study(f"{head}a.jpg,1,train,1,0\nb.jpg,1,test,1,0\n", LABELS, columns=columns)


# ---- grades


@pytest.mark.parametrize(
    ("text", "truth"),
    [
        ("0", [1, 0, 0]),
        ("1.0", [0, 1, 0]),
        ("much", [0, 0, 1]),
        ("-1", [NAN] * 3),
        ("", [NAN] * 3),
        ("NaN", [NAN] * 3),
    ],
)
def test_a_grade(study, text, truth):
    table = study(f"path,grade\na.jpg,{text}\nb.jpg,0\n", GRADES)
    np.testing.assert_array_equal(table.truth["grade"], [truth, [1, 0, 0]])
    unknown = ["grade: pictures whose grade is not known: 1 (one/a.jpg)"] if np.isnan(truth[0]) else []
    assert notices(table)[2:] == unknown


@pytest.mark.parametrize("text", ["2", "G2", "Much", "0.5"])
def test_a_grade_that_the_vocabulary_does_not_have(study, text):
    with pytest.raises(DataSetError, match=rf"csv:2: grade must be one of 0, 1, much, or empty.* Found: '{text}'"):
        study(f"path,grade\na.jpg,{text}\n", GRADES)


def test_labels_that_exclude_each_other(study):
    exclusive = LABELS.replace('kind = "labels"', 'kind = "labels"\nexclusive = [["A", "B"]]')
    table = study("path,A,B\na.jpg,1,0\nb.jpg,1,\nc.png,,0\n", exclusive)
    np.testing.assert_array_equal(table.truth["findings"], [[1, 0], [1, NAN], [NAN, 0]])
    with pytest.raises(DataSetError, match=r"2 problems: .*csv:2: of A, B exactly one must be 1. Found: 2.*Found: 0"):
        study("path,A,B\na.jpg,1,1\nb.jpg,0,0\n", exclusive)


# ---- points


def test_points_in_pixels_of_the_picture(study):
    text = "path;F_x;F_y;disc x;disc y\na.jpg;12,5;7;40;30\nb.jpg;0;0;-1;-1\nc.png;;;1e1;NaN\n"
    with pytest.raises(DataSetError, match=r"csv:4: disc x, disc y: x and y must both be known, or neither"):
        study(text, POINTS)
    table = study(text.replace("1e1;NaN", "1e1;2"), POINTS)
    expected = [[[12.5, 7, 1], [40, 30, 1]], [[NAN, NAN, 0], [NAN] * 3], [[NAN] * 3, [10, 2, 1]]]
    np.testing.assert_array_equal(table.truth["landmarks"], np.float32(expected))
    assert notices(table)[1:] == [
        "landmarks: pictures of which F is not known: 1 (two/c.png)",
        "landmarks: pictures of which D is not known: 1 (one/b.jpg)",
    ]


def test_a_point_of_another_size_of_the_picture(study):
    with pytest.raises(
        DataSetError, match=r"csv:2: F_x, F_y must lie in the 40 x 30 pixels of one/a\.jpg. Found: 9, 31"
    ):
        study("path,F_x,F_y,disc x,disc y\na.jpg,9,31,,\n", POINTS)


# ---- masks


def test_masks_in_a_folder_for_each_label(study):
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    mask[3:6, 4:8] = 255
    save(study.folder / "masks" / "EX" / "a.png", mask)
    save(study.folder / "masks" / "EX" / "other.png", mask)
    save(study.folder / "small" / "one" / "b.bmp", mask)
    table = study("path\none/a.jpg\none/b.jpg\n", MASKS)
    truth = table.truth["lesions"]
    np.testing.assert_array_equal(truth.known, [[True, False], [False, True]])
    read = truth.read(0, (WIDTH, HEIGHT))
    np.testing.assert_array_equal(read[..., 0], mask == 255)
    assert (read[..., 1] == 255).all()
    assert notices(table) == [
        "pictures in the folder that are not in the table, left out: 1 (two/c.png)",  # masks are no pictures
        "pictures that count as patients of their own, since no column names patients: 2 (one/a.jpg, one/b.jpg)",
        "lesions: pictures without a mask in masks/EX, not known: 1 (one/b.jpg)",
        "lesions: pictures without a mask in small, not known: 1 (one/a.jpg)",
        "lesions: masks in masks/EX without a picture: 1 (other.png)",
    ]


def test_masks_in_colours(study):
    mask = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    mask[5:9, 5:9] = (255, 255, 0)
    mask[6:8, 6:8] = (255, 0, 0)
    save(study.folder / "coloured" / "a.png", mask)
    table = study("path\na.jpg\nb.jpg\n", COLOURED)
    truth = table.truth["disc_and_cup"]
    read = truth.read(0, (WIDTH, HEIGHT))
    assert [(read == k).sum() for k in range(3)] == [WIDTH * HEIGHT - 16, 12, 4]
    assert truth.known.tolist() == [[True, True], [True, True]]
    assert not truth.read(1, (WIDTH, HEIGHT)).any()
    assert notices(table)[2:] == ["disc_and_cup: pictures without a mask in coloured, known to be empty: 1 (one/b.jpg)"]


def test_masks_of_several_labels_in_one_folder_without_a_table(study):
    for name, level in (("a_EX", 255), ("a_MA", 9), ("c_EX", 1), ("d_EX", 1)):
        save(study.folder / "truth" / f"{name}.png", np.full((HEIGHT, WIDTH), level, np.uint8))
    text = MASKS.replace('folder = "masks"', 'folder = "truth"').replace(', folder = "small"', ', suffix = "_MA"')
    text = text.replace('meaning = "hard exudate"', 'meaning = "hard exudate", suffix = "_EX"')
    for code in ("EX", "MA"):
        text = text.replace(f'code = "{code}"', f'code = "{code}", folder = "truth"')
    (study.folder.parent / "vocabulary.toml").write_text(HEAD + text)
    vocabulary = read_vocabulary(study.folder.parent / "vocabulary.toml")
    table = read_own_table(study.folder, None, vocabulary)
    assert table.names == ("one/a.jpg", "one/b.jpg", "two/c.png")
    assert table.truth["lesions"].known.tolist() == [[True, True], [False, False], [True, False]]
    assert table.known.tolist() == [True, False, True]
    assert notices(table)[1:] == [
        "lesions: pictures without a mask in truth (_EX), not known: 1 (one/b.jpg)",
        "lesions: pictures without a mask in truth (_MA), not known: 2 (one/b.jpg, two/c.png)",
        "lesions: masks in truth without a picture: 1 (d_EX.png)",
    ]
    (study.folder.parent / "vocabulary.toml").write_text(HEAD + LABELS)
    with pytest.raises(DataSetError, match="a table is needed for A, B; only masks are found without one"):
        read_own_table(study.folder, None, read_vocabulary(study.folder.parent / "vocabulary.toml"))


def test_colours_of_what_is_not_asked_for(study):
    mask = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    mask[:, :5], mask[:, 5:9] = (255, 255, 0), (1, 2, 3)
    save(study.folder / "coloured" / "a.png", mask)
    with pytest.raises(DataSetError, match="pixels have colours that the vocabulary does not name: #010203"):
        study("path\na.jpg\n", COLOURED).truth["disc_and_cup"].read(0, (WIDTH, HEIGHT))
    named = COLOURED.replace("exclusive = true", 'exclusive = true\nothers = ["#010203"]')
    read = study("path\na.jpg\n", named).truth["disc_and_cup"].read(0, (WIDTH, HEIGHT))
    assert [(read == k).sum() for k in range(3)] == [(WIDTH - 5) * HEIGHT, 5 * HEIGHT, 0]


def test_a_folder_of_masks_of_none_of_the_pictures(study):
    save(study.folder / "coloured" / "a_mask.png", np.zeros((HEIGHT, WIDTH, 3), np.uint8))
    with pytest.raises(DataSetError, match=r"coloured: no mask of any picture; .* Found: a_mask\.png"):
        study("path\na.jpg\n", COLOURED)


def test_several_outputs_of_one_task(study):
    table = study("path,A,B,grade,F_x,F_y,disc x,disc y\nb.jpg,1,0,much,3,4,5,6\n", LABELS, GRADES, POINTS)
    assert {name: values.tolist() for name, values in table.truth.items()} == {
        "findings": [[1, 0]],
        "grade": [[0, 0, 1]],
        "landmarks": [[[3, 4, 1], [5, 6, 1]]],
    }
    assert len(table) == 1


CELL = st.sampled_from(
    [("1", 1.0), ("0", 0.0), ("1.0", 1.0), ("-1", NAN), ("", NAN), ("nan", NAN), ("\N{MINUS SIGN}1", NAN)]
)


@given(st.lists(st.tuples(CELL, CELL), min_size=1, max_size=4), st.sampled_from([",", ";", "\t"]), st.randoms())
def test_every_way_to_write_a_label(tmp_path_factory, cells, separator, random):
    folder = tmp_path_factory.mktemp("own")
    (folder / "vocabulary.toml").write_text(HEAD + LABELS)
    for k in range(len(cells)):
        (folder / f"{k}.jpg").touch()  # labels need no look at the pictures
    order = random.sample(range(len(cells)), len(cells))
    rows = [("path", "A", "B"), *((f"{k}.jpg", *(text for text, _ in cells[k])) for k in order)]
    (folder / "list.csv").write_text("\n".join(map(separator.join, rows)))
    table = read_own_table(folder, folder / "list.csv", read_vocabulary(folder / "vocabulary.toml"))
    assert table.names == tuple(f"{k}.jpg" for k in order)
    expected = [[value for _, value in cells[k]] for k in order]
    np.testing.assert_array_equal(table.truth["findings"], expected)
    unknown = {
        str(notice).split(" of which ")[1][0]: len(notice) for notice in table.notices if "of which" in str(notice)
    }
    assert unknown == {c: n for c, n in zip("AB", np.isnan(expected).sum(axis=0).tolist(), strict=True) if n}
