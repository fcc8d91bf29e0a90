"""Tables as people keep them: csv in the encodings and with the separators that Excel writes, and xlsx.

`training.data.label_table.read_csv` is the strict reader, of the lists of a published data set.
"""

import csv
import io
import math
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path
from typing import Any

from openpyxl import load_workbook
from openpyxl.utils.exceptions import InvalidFileException

from keras_realmnet.errors import DataSetError
from training.data.label_table import problems_error

__all__ = ["UNKNOWN", "Spreadsheet", "number", "read_spreadsheet"]

SEPARATORS = (",", ";", "\t")
EXCEL = (".xlsx", ".xlsm")
UNKNOWN = frozenset({"", "nan", "na", "n/a", "#n/a", "null", "none"})  # casefolded: how programs write "not known"
BYTE_ORDER_MARKS = (
    (b"\xef\xbb\xbf", "utf-8-sig"),
    (b"\xff\xfe\x00\x00", "utf-32"),
    (b"\x00\x00\xfe\xff", "utf-32"),
    (b"\xff\xfe", "utf-16"),
    (b"\xfe\xff", "utf-16"),
)


@dataclass(frozen=True)
class Spreadsheet:
    """A table of text with one header; every field stripped, empty rows and columns without a name left out.

    `rows`: the fields of each, as many as `header` has names. `lines`: where each stands in the file, from 1; in xlsx
    the row. `encoding`: of a csv file, by Python's name; "xlsx" of a workbook. `decimal_comma`: whether 0,5 is a half,
    as where the separator is no comma.
    """

    path: Path
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    lines: tuple[int, ...]
    encoding: str
    decimal_comma: bool

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def origins(self) -> tuple[str, ...]:
        """`file:line` of each row, for messages."""
        return tuple(f"{self.path}:{line}" for line in self.lines)

    def __contains__(self, name: str) -> bool:
        return _column(self.header, name) is not None

    def column(self, name: str) -> tuple[str, ...]:
        """The fields of a column; upper and lower case count only where two columns differ in nothing else.

        Raises:
            DataSetError: there is no such column.
        """
        at = _column(self.header, name)
        if at is None:
            raise DataSetError(f"{self.path}: no column {name!r}; found {', '.join(map(repr, self.header))}")
        return tuple(row[at] for row in self.rows)

    def number(self, text: str) -> float:
        """A field of this table as a number; NaN where it says that it is not known. Raises ValueError: is none."""
        return number(text, self.decimal_comma)


def number(text: str, decimal_comma: bool = False) -> float:
    """`0.5`, and with `decimal_comma` `0,5` too; NaN for what `UNKNOWN` holds. Raises ValueError for anything else."""
    if text.strip().casefold() in UNKNOWN:
        return math.nan
    plain = text.strip().replace("\N{MINUS SIGN}", "-")
    value = float(plain.replace(",", ".") if decimal_comma and plain.count(",") == 1 and "." not in plain else plain)
    if not math.isfinite(value) or "_" in plain:
        raise ValueError(f"a number was expected. Received: {text!r}")
    return value


def read_spreadsheet(path: str | Path, wanted: Sequence[str], what: str) -> Spreadsheet:
    """Reads a csv file or the first sheet of an xlsx workbook.

    A csv file is read by its byte order mark (UTF-8, UTF-16, UTF-32); without one as UTF-8 or, where that fails, as
    Windows-1252, of which Latin-1's letters are a part. Its separator is the one of comma, semicolon and tab with which
    the header has the columns that are wanted.

    Args:
        wanted: columns that must be there, each once; case does not count.
        what: the table, for messages.

    Raises:
        DataSetError: the file cannot be read, or has other columns, or rows that are longer than its header.
    """
    path = Path(path)
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DataSetError(f"{path}: cannot be read ({error.strerror}); expected {what} (csv or xlsx)") from error
    if path.suffix.lower() in EXCEL or data[:4] == b"PK\x03\x04":
        numbered, encoding, separator = _workbook(path, data, what), "xlsx", ""
    else:
        text, encoding = _text(path, data, what)
        numbered, separator = _separated(path, text, wanted)
    filled = [(line, row) for line, row in numbered if any(row)]
    header = filled[0][1] if filled else []
    _check_header(path, header, wanted, what)
    columns = [k for k, name in enumerate(header) if name]
    long = [(line, row) for line, row in filled[1:] if any(row[len(header) :])]
    if long:
        raise problems_error([f"{path}:{line}: {len(row)} fields; expected {len(header)}" for line, row in long])
    return Spreadsheet(
        path=path,
        header=tuple(header[k] for k in columns),
        rows=tuple(tuple(row[k] if k < len(row) else "" for k in columns) for _, row in filled[1:]),
        lines=tuple(line for line, _ in filled[1:]),
        encoding=encoding,
        decimal_comma=separator in (";", "\t"),
    )


def _column(header: Sequence[str], name: str) -> int | None:
    if name in header:
        return list(header).index(name)
    alike = [k for k, other in enumerate(header) if other.casefold() == name.casefold()]
    return alike[0] if len(alike) == 1 else None


def _check_header(path: Path, header: Sequence[str], wanted: Sequence[str], what: str) -> None:
    repeated = sorted({name for name in header if name and header.count(name) > 1})
    missing = [name for name in wanted if _column(header, name) is None]
    found = ", ".join(repr(name) for name in header if name) or "nothing"
    if missing:
        names = ", ".join(map(repr, missing))
        raise DataSetError(f"{path}: no column {names}, or not one alone; expected {what}. Found: {found}")
    if repeated:
        raise DataSetError(f"{path}: repeated column {', '.join(map(repr, repeated))}; expected each once")


def _text(path: Path, data: bytes, what: str) -> tuple[str, str]:
    marked = next((name for mark, name in BYTE_ORDER_MARKS if data.startswith(mark)), None)
    try:
        if marked is not None:
            return data.decode(marked), marked
        try:
            text, encoding = data.decode("utf-8"), "utf-8"
        except UnicodeDecodeError:
            text, encoding = data.decode("cp1252"), "cp1252"
        if "\0" in text:
            raise ValueError("it holds zero bytes")
    except ValueError as error:
        raise DataSetError(f"{path}: not a table of text ({error}); expected {what} (csv or xlsx)") from error
    return text, encoding


def _separated(path: Path, text: str, wanted: Sequence[str]) -> tuple[list[tuple[int, list[str]]], str]:
    """Rows with their lines, and the separator with which most of the wanted columns are in the first of them."""
    best: tuple[list[tuple[int, list[str]]], str] = ([], SEPARATORS[0])
    most = -1
    for separator in SEPARATORS:
        try:
            reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator)
            rows = [(reader.line_num, [field.strip() for field in row]) for row in reader]
        except csv.Error as error:
            raise DataSetError(f"{path}: not a csv file ({error})") from error
        header = next((row for _, row in rows if any(row)), [])
        found = sum(_column(header, name) is not None for name in wanted)
        # Where none is found, most fields are most likely what was meant; the message then shows them.
        if (score := found * 1000 + len(header)) > most:
            best, most = (rows, separator), score
    return best


def _workbook(path: Path, data: bytes, what: str) -> list[tuple[int, list[str]]]:
    try:
        book = load_workbook(io.BytesIO(data), read_only=True, data_only=True)
        try:
            rows = [[_field(value) for value in row] for row in book.worksheets[0].iter_rows(values_only=True)]
        finally:
            book.close()
    # openpyxl lets through whatever its parts raise at a damaged file
    except (InvalidFileException, zipfile.BadZipFile, KeyError, ValueError, TypeError, IndexError, OSError) as error:
        raise DataSetError(f"{path}: cannot be read as xlsx ({error}); expected {what} (csv or xlsx)") from error
    return list(enumerate(rows, 1))


def _field(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(int(value))
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    if isinstance(value, datetime) and value.time() == datetime.min.time():
        return value.date().isoformat()
    if isinstance(value, (date, datetime)):
        return value.isoformat()
    return str(value).strip()
