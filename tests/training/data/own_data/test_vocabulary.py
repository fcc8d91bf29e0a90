import textwrap

import pytest

from keras_realmnet.errors import DataSetError
from training.data.files.mask_codings import BinaryCoding, ColourCoding
from training.data.files.shapes import ShapeCoding
from training.data.own_data import vocabulary as module
from training.data.own_data.vocabulary import (
    GradesOutput,
    LabelsOutput,
    MasksOutput,
    PointsOutput,
    read_vocabulary,
)


def example() -> str:
    """The vocabulary in the module's own description."""
    _, _, text = module.__doc__.partition("\n\n")
    return textwrap.dedent(text.partition("\n\nA label's column")[0])


@pytest.fixture
def read(tmp_path):
    def read_text(text):
        (tmp_path / "vocabulary.toml").write_text(text, encoding="utf-8")
        return read_vocabulary(tmp_path / "vocabulary.toml")

    return read_text


def test_the_example_of_the_description(read):
    vocabulary = read(example())
    assert (vocabulary.name, vocabulary.modality, vocabulary.condition) == (
        "clinic",
        "colour_fundus",
        "diabetic retinopathy",
    )
    findings, grade, lesions, disc_and_cup, drawn, landmarks = vocabulary.outputs
    assert isinstance(findings, LabelsOutput)
    assert findings.codes == ("N", "HE")
    assert findings.pathologic == ("HE",)
    assert findings.columns() == ("N", "bleeding")
    assert findings.exclusive == (("N", "HE"),)
    assert isinstance(grade, GradesOutput)
    assert (grade.columns(), grade.values(), grade.ordered) == (("dr_grade",), ("0", "1"), True)
    assert isinstance(lesions, MasksOutput)
    assert lesions.folders() == ("masks/EX", "microaneurysms")
    assert lesions.suffixes() == ("_mask", "_mask")
    assert lesions.coding() == BinaryCoding(0, ignore=(127,))
    assert isinstance(disc_and_cup, MasksOutput)
    assert disc_and_cup.folders() == ("disc_and_cup",)
    yellow, red = (255, 255, 0), (255, 0, 0)
    grey, blue = (128, 128, 128), (0, 0, 255)
    assert disc_and_cup.coding() == ColourCoding(((yellow, red), (red,)), (0, 0, 0), (grey,), (blue,))
    assert (disc_and_cup.suffixes(), disc_and_cup.single) == (("",), True)
    assert [(inner.code, outer.code) for inner, outer in disc_and_cup.within] == [("CUP", "DISC")]
    assert isinstance(drawn, MasksOutput)
    assert (drawn.folders(), drawn.suffixes()) == (("shapes",), ("",))
    assert drawn.coding() == ShapeCoding((("blot", "flame"), ("cotton wool",)), ("unsure",), ("laser scar",))
    assert isinstance(landmarks, PointsOutput)
    assert landmarks.columns() == ("fovea_x", "fovea_y")
    assert landmarks.confidence
    assert vocabulary.columns() == ("N", "bleeding", "dr_grade", "fovea_x", "fovea_y")


def test_what_is_not_said_follows_from_the_codes(read):
    text = example().replace(', x = "fovea_x", y = "fovea_y"', "").replace(", value = 0", "")
    text = text.replace('column = "dr_grade"', "").replace(', column = "bleeding"', "")
    vocabulary = read(text)
    assert vocabulary.columns() == ("N", "HE", "grade", "FOVEA_x", "FOVEA_y")
    assert vocabulary.outputs[1].values() == ("G0", "1")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('name = "clinic"', 'name = "clinic"\nnames = 3', r"names = 3: unknown key"),
        ('kind = "labels"', 'kind = "labels"\ncolumn = "x"', r"outputs\[0\]\.column = 'x': unknown key"),
        (', column = "bleeding"', ", colum = 1", r"outputs\[0\]\.entries\[1\]\.colum = 1: unknown key"),
        (", value = 1", ", x = 1", r"outputs\[1\]\.entries\[1\]\.x = 1: unknown key"),
        ('modality = "colour_fundus"', "", r"modality: is missing"),
        ('"colour_fundus"', '"mri"', r"modality = 'mri': expected one of uwf_red_green, colour_fundus"),
        ('kind = "labels"', 'kind = "boxes"', r"outputs\[0\].*'labels', 'grades', 'masks', 'points'"),
        ('name = "findings"', 'name = "My findings"', r"outputs\[0\]\.name = 'My findings': expected small letters"),
        ('name = "findings"', 'name = "grade"', r"every output to have a name of its own, not 'grade' twice"),
        ('code = "HE"', 'code = "N"', r"outputs\[0\]: expected every entry to have a code of its own, not 'N' twice"),
        ('code = "HE"', 'code = "EX"', r"expected groups of two or more of the codes N, EX, not"),
        ('[["N", "HE"]]', '[["N"]]', r"expected groups of two or more of the codes N, HE, not \['N'\]"),
        ('code = "G1"', 'code = "HE"', r"expected every code to belong to one output of a kind, not 'HE' twice"),
        ('code = "FOVEA"', 'code = "EX"', None),
        ('background = "#000000"', "", None),
        ('background = "#000000"', 'background = "#808080"', r"to have colours of their own, each once"),
        ('background = "#000000"', "background = 0", r'all numbers, or all "#rrggbb"'),
        ('colours = ["#ff0000"]', 'colours = ["#000000"]', r"other colours than background, `ignore` and `others`"),
        ('code = "FOVEA"', 'code = "FOVEACENTRE"', r"at most 16 ASCII characters .* not 'clinic:FOVEACENTRE'"),
        ('code = "FOVEA"', 'code = "FÓVEA"', r"ASCII characters"),
        ('name = "Fovea"', 'name = " "', r"entries\[0\]\.name = ' ': expected a line of text"),
        ("pathologic = true", 'pathologic = "yes"', r"entries\[1\]\.pathologic = 'yes': expected input should be"),
        (", value = 1, pathologic = true", ", value = 0", r"outputs\[1\]: expected every grade to have a value"),
        ("value = 0 }", "value = 0, pathologic = true }", None),
        (", value = 1, pathologic = true", ", value = 1", None),
        ('colours = ["#ff0000"]', 'colours = ["red"]', r"colours\[0\] = 'red': expected a number .* or \"#rrggbb\""),
        ('colours = ["#ff0000"]', "colours = [3]", r'all numbers, or all "#rrggbb"'),
        ('colours = ["#ff0000"]', 'colours = ["#808080"]', r"other colours than background, `ignore` and `others`"),
        ('colours = ["#ff0000"]', "colours = []", r"colours = \(\): expected tuple should have at least 1 item"),
        (', colours = ["#ff0000"]', "", r"expected colours for every entry, or for none"),
        (', colours = ["#ff0000"]', ', colours = ["#ff0000"], folder = "x"', r"colours, or folders and suffixes"),
        ('folder = "microaneurysms"', 'folder = "masks/EX"', r"every entry to have a folder or a suffix of its own"),
        ('without_mask = "unknown"', 'without_mask = "none"', r"without_mask = 'none': expected input should be"),
        ('within = "DISC"', 'within = "CUP"', r"`within` to name an entry that lies in none itself, .* not CUP"),
        (', shapes = ["cotton wool"]', "", r"outputs\[4\]: expected shapes for every entry, or for none"),
        ('shapes = ["cotton wool"]', 'shapes = ["unsure"]', r"other shapes than `ignore_shapes` and `other_shapes`"),
        ('other_shapes = ["laser scar"]', "others = [3]", r"no background, `ignore` and `others` where .* have shapes"),
        ('others = ["#0000ff"]', 'other_shapes = ["x"]', r"`other_shapes` only where the entries have shapes"),
        ("ignore = [127]", 'ignore = ["#808080"]', r"background and `ignore` to be numbers, and no `others`"),
        (
            "ignore = [127]",
            "ignore = [0]",
            r"background and `ignore` to have levels of their own, each once, not 0 twice",
        ),
    ],
)
def test_each_error_names_its_key(read, old, new, message):
    assert old in example()
    text = example().replace(old, new, 1)
    if message is None:
        assert read(text)
        return
    with pytest.raises(DataSetError, match=r"vocabulary\.toml: .*" + message) as error:
        read(text)
    assert ";" not in str(error.value), "one error was made"


def test_colours_exclude_each_other_where_labels_do(read):
    text = example().replace('name = "disc_and_cup"\nkind = "masks"\nexclusive = false', "KEEP")
    text = text.replace("KEEP", 'name = "disc_and_cup"\nkind = "masks"\nexclusive = true')
    with pytest.raises(DataSetError, match=r"outputs\[3\]: expected every entry to have colours of its own"):
        read(text)


def test_the_worst_grades_are_the_pathologic_ones(read):
    text = (
        example().replace("value = 0 }", "value = 0, pathologic = true }").replace(", value = 1, pathologic = true", "")
    )
    with pytest.raises(DataSetError, match=r"of ordered grades the last ones to be pathologic, not G0"):
        read(text)
    assert read(text.replace("ordered = true", "ordered = false")).outputs[1].pathologic == ("G0",)


def test_a_file_that_is_missing(tmp_path):
    with pytest.raises(DataSetError, match=r"none\.toml: cannot be read as TOML .* expected a vocabulary"):
        read_vocabulary(tmp_path / "none.toml")
