import csv
import io
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from openpyxl import Workbook

from keras_realmnet.errors import DataSetError
from training.data.files.spreadsheet import number, read_spreadsheet

ROWS = [("müller/1.jpg", "1", "0.5"), ("b 2.jpg", "", "nan")]


def csv_text(separator):
    lines = [separator.join(("path", "HE", "x")), *(separator.join(row) for row in ROWS)]
    return "\r\n".join(lines) + "\r\n"


@pytest.mark.parametrize("separator", [",", ";", "\t"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "latin-1", "cp1252", "utf-16", "utf-32"])
def test_encodings_and_separators(tmp_path, encoding, separator):
    (tmp_path / "t.csv").write_bytes(csv_text(separator).encode(encoding))
    sheet = read_spreadsheet(tmp_path / "t.csv", ("path", "HE"), "a table")
    assert sheet.header == ("path", "HE", "x")
    assert sheet.rows == tuple(ROWS)
    assert sheet.lines == (2, 3)
    assert sheet.origins[1] == f"{tmp_path / 't.csv'}:3"
    assert sheet.encoding == {"latin-1": "cp1252"}.get(encoding, encoding)
    assert sheet.column("he") == ("1", "")
    assert "X" in sheet
    assert "y" not in sheet


def test_big_endian_utf_16_without_semicolons_in_the_way(tmp_path):
    text = 'path,HE\n"a;b;c.jpg",1\n'
    (tmp_path / "t.csv").write_bytes(b"\xfe\xff" + text.encode("utf-16-be"))
    assert read_spreadsheet(tmp_path / "t.csv", ("path", "HE"), "a table").rows == (("a;b;c.jpg", "1"),)


def test_xlsx(tmp_path):
    book = Workbook()
    book.active.append(["imgName", "Fovea_X", None, "seen"])
    book.active.append(["a.jpg", 1157.74, None, True])
    book.active.append([None, None, None, None])
    book.active.append(["b.jpg", 12.0, None, None])
    book.create_sheet("other").append(["nothing"])
    book.save(tmp_path / "t.xlsx")
    sheet = read_spreadsheet(tmp_path / "t.xlsx", ("imgName",), "a table")
    assert sheet.header == ("imgName", "Fovea_X", "seen")
    assert sheet.rows == (("a.jpg", "1157.74", "1"), ("b.jpg", "12", ""))
    assert sheet.lines == (2, 4)


def test_empty_columns_at_the_end_are_those_of_excel(tmp_path):
    (tmp_path / "t.csv").write_text("path;HE;;\na.jpg;1;;\nb.jpg\n;;;\n")
    assert read_spreadsheet(tmp_path / "t.csv", ("path",), "a table").rows == (("a.jpg", "1"), ("b.jpg", ""))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"name,HE\n", r"t\.csv: no column 'path', or not one alone; expected a table. Found: 'name', 'HE'"),
        (b"Path,PATH\n", r"no column 'path', or not one alone"),
        (b"path,HE,HE\n", r"repeated column 'HE'"),
        (b"path,HE\na,1\nb,1,0\n", r"t\.csv:3: 3 fields; expected 2"),
        (b"", r"no column 'path'.*Found: nothing"),
        (b"path\0,HE\n", r"not a table of text \(it holds zero bytes\)"),
        (b"\xff\xfea", r"not a table of text"),
        (b"PK\x03\x04broken", r"cannot be read as xlsx"),
    ],
)
def test_what_is_no_table_is_refused_with_its_place(tmp_path, content, message):
    (tmp_path / "t.csv").write_bytes(content)
    with pytest.raises(DataSetError, match=message):
        read_spreadsheet(tmp_path / "t.csv", ("path",), "a table")


def test_a_missing_file_and_a_missing_column(tmp_path):
    with pytest.raises(DataSetError, match=r"t\.csv: cannot be read \(No such file"):
        read_spreadsheet(tmp_path / "t.csv", ("path",), "a table")
    (tmp_path / "t.csv").write_text("path\n")
    with pytest.raises(DataSetError, match="no column 'HE'; found 'path'"):
        read_spreadsheet(tmp_path / "t.csv", ("path",), "a table").column("HE")


@pytest.mark.parametrize("text", ["", "NaN", "n/a", "#N/A", "NULL", " none "])
def test_what_is_not_known_is_nan(text):
    assert math.isnan(number(text))


@pytest.mark.parametrize("text", ["yes", "inf", "1,5", "1_000", "1;2"])
def test_what_is_no_number_is_refused(text):
    with pytest.raises(ValueError, match=r"could not convert|a number was expected"):
        number(text)


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_numbers_are_read_as_they_were_written(value):
    assert number(repr(value)) == value
    assert number(repr(value).replace(".", ","), decimal_comma=True) == value
    assert number(repr(value).replace("-", "\N{MINUS SIGN}")) == value


# Letters of all the encodings; of csv's own characters all but line ends, which a field of a table has no use for.
FIELD = st.text(st.characters(codec="cp1252", exclude_categories=["Cc", "Zs"]), max_size=8).map(str.strip)


@given(
    st.lists(st.tuples(FIELD.filter(bool), FIELD, FIELD), min_size=1, max_size=5),
    st.sampled_from([",", ";", "\t"]),
    st.sampled_from(["utf-8-sig", "utf-16"]),
)
def test_what_csv_writes_is_read(tmp_path_factory, rows, separator, encoding):
    text = io.StringIO()
    csv.writer(text, delimiter=separator).writerows([("path", "first", "second"), *rows])
    path = tmp_path_factory.mktemp("csv") / "t.csv"
    path.write_bytes(text.getvalue().encode(encoding))
    assert read_spreadsheet(path, ("path", "first", "second"), "a table").rows == tuple(rows)
