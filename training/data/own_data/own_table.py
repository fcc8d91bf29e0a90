"""A researcher's table: which picture, of whose which eye, and what is true of it, by the outputs of a vocabulary.

    list.csv    file;patient;side;HE;dr_grade;fovea_x;fovea_y
                clinic/0001.jpg;17;R;1;2;512,5;498

Empty, NaN and -1 mean that something is not known; it is counted, and masked in the loss. A point at (0, 0) cannot be
seen (`training.data.files.points`). Masks lie in folders and are named as the pictures are.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from keras_realmnet.errors import DataSetError
from keras_realmnet.screening.image_io import EXTENSIONS, read_header
from training.data.files.file_index import FileIndex
from training.data.files.mask_files import MaskFiles, MaskTruth, find_masks
from training.data.files.notices import Notice, noticed
from training.data.files.points import as_point, outside
from training.data.files.spreadsheet import UNKNOWN, Spreadsheet, read_spreadsheet
from training.data.label_table import problems_error
from training.data.own_data.vocabulary import (
    GradesOutput,
    LabelsOutput,
    MasksOutput,
    PointsOutput,
    Vocabulary,
)

__all__ = ["OwnTable", "TableColumns", "Truth", "parse_columns", "read_own_table"]

EYES = {"OD": ("od", "r", "re", "right"), "OS": ("os", "l", "le", "left")}
EYE_OF = {word: eye for eye, words in EYES.items() for word in words}
Truth = NDArray[np.float32] | MaskTruth


@dataclass(frozen=True)
class TableColumns:
    """What the columns of a table are called that say which picture a row is about; None: there is no such column."""

    path: str = "path"
    patient: str | None = None
    eye: str | None = None


@dataclass(frozen=True)
class OwnTable:
    """n pictures in the order of their rows.

    `names`: paths below the pictures' folder, with slashes. `patients`: ids; the picture's name where the table has no
    such column. `eyes`: "OD" (right), "OS" (left) or None. `origins`: file:line of each row.

    `truth`, by the names of the vocabulary's outputs:
    labels   float32 (n, c): 1 present, 0 absent, NaN unknown
    grades   float32 (n, c): one-hot; a row of NaN is unknown
    points   float32 (n, k, 3): x, y in pixels of the picture, visible: 1, 0, NaN unknown (`training.data.files.points`)
    masks    `MaskTruth`: the files of each picture, and how they are read

    `notices`: what was noticed, each kind in one line.
    """

    vocabulary: Vocabulary
    paths: tuple[Path, ...]
    names: tuple[str, ...]
    patients: tuple[str, ...]
    eyes: tuple[str | None, ...]
    truth: Mapping[str, Truth]
    origins: tuple[str, ...]
    notices: tuple[Notice, ...]

    def __len__(self) -> int:
        return len(self.paths)


def parse_columns(text: str) -> TableColumns:
    """`path=file,patient=ID,eye=side`: which column of the table is which; what is not named is not there.

    Raises:
        ValueError: another key, one that is repeated or without a column, or no path.
    """
    keys = [field.name for field in fields(TableColumns)]
    pairs = [tuple(part.strip() for part in item.split("=", 1)) for item in text.split(",")]
    given = {pair[0]: pair[-1] for pair in pairs}
    complete = all(len(pair) == 2 and pair[0] in keys and pair[1] for pair in pairs)
    if not complete or len(given) < len(pairs) or "path" not in given:
        raise ValueError(
            f"columns must be given as path=...,patient=...,eye=..., the last two only where there are such columns. "
            f"Received: {text!r}"
        )
    return TableColumns(**given)


def read_own_table(
    pictures: str | Path, table: str | Path, vocabulary: Vocabulary, columns: TableColumns | None = None
) -> OwnTable:
    """Reads a table of pictures; the pictures themselves only where they have points, which must lie in them.

    Rows that repeat another, rows whose picture is not there, and pictures that no row names are left out and told.

    Args:
        pictures: their folder, with any folders below it.
        table: csv (UTF-8, UTF-16, Windows-1252; commas, semicolons or tabs) or xlsx.
        columns: what the columns are called; default: "path" alone.

    Raises:
        DataSetError: a file, folder or column is missing, no picture is found, or, with file and line, the value and
            what was expected: a row contradicts another, a name may be several pictures, a value is none of the
            vocabulary's, a point is outside of its picture.
    """
    columns = columns or TableColumns()
    asked = (columns.path, columns.patient, columns.eye)
    wanted = dict.fromkeys([*filter(None, asked), *vocabulary.columns()])
    sheet = read_spreadsheet(table, tuple(wanted), f"the columns {', '.join(wanted)}")
    folder = Path(pictures).expanduser()
    mask_folders = [folder / place for output in _masks_of(vocabulary) for place in output.folders()]
    index = FileIndex(folder, EXTENSIONS, "the pictures", without=mask_folders)
    chosen, missing, repeated = _rows(sheet, tuple(wanted), index, columns)
    if not chosen:
        raise DataSetError(
            f"{sheet.path}: none of its {len(sheet)} pictures is in {folder}; expected paths below that folder. Found: "
            f"{', '.join(missing[:3]) or 'no rows'}"
        )
    rows, paths = tuple(chosen), tuple(chosen.values())
    names = tuple(map(index.name, paths))
    origins = tuple(sheet.origins[row] for row in rows)
    problems: list[str] = []
    patients, eyes, about_rows = _whose(sheet, rows, names, columns, problems)
    truth: dict[str, Truth] = {}
    about_truth: tuple[Notice, ...] = ()
    for output in vocabulary.outputs:
        if isinstance(output, LabelsOutput):
            truth[output.name], told = _labels(output, sheet, rows, names, problems)
        elif isinstance(output, GradesOutput):
            truth[output.name], told = _grades(output, sheet, rows, names, problems)
        elif isinstance(output, PointsOutput):
            truth[output.name], told = _points(output, sheet, rows, paths, names, problems)
        else:
            truth[output.name], told = _masks(output, folder, names)
        about_truth += told
    if problems:
        raise problems_error(problems)
    unlisted = sorted(set(index.paths) - set(paths))
    notices = noticed(
        ("read as Windows-1252, since it is not UTF-8", [str(sheet.path)] if sheet.encoding == "cp1252" else []),
        ("rows that repeat another, left out", repeated),
        ("pictures of the table that are not in the folder, left out", missing),
        ("pictures in the folder that are not in the table, left out", map(index.name, unlisted)),
    )
    return OwnTable(vocabulary, paths, names, patients, eyes, truth, origins, notices + about_rows + about_truth)


def _masks_of(vocabulary: Vocabulary) -> Iterable[MasksOutput]:
    return (output for output in vocabulary.outputs if isinstance(output, MasksOutput))


def _rows(
    sheet: Spreadsheet, wanted: Sequence[str], index: FileIndex, columns: TableColumns
) -> tuple[dict[int, Path], list[str], list[str]]:
    """{row: picture}, names of pictures that are not there, and rows that say again what another one does."""
    chosen: dict[int, Path] = {}
    missing, repeated, problems = [], [], []
    first: dict[Path, int] = {}
    said = [sheet.column(name) for name in wanted if name != columns.path]
    for row, (name, origin) in enumerate(zip(sheet.column(columns.path), sheet.origins, strict=True)):
        if not name:
            problems.append(f"{origin}: {columns.path} must be a picture's path. Found: ''")
            continue
        try:
            path = index.find(name)
        except DataSetError as error:
            problems.append(f"{origin}: {error}")
            continue
        if path is None:
            missing.append(name)
        elif first.setdefault(path, row) != row:
            before = first[path]
            differing = [f"{values[before]!r} and {values[row]!r}" for values in said if values[before] != values[row]]
            if differing:
                problems.append(
                    f"{origin}: {name} is listed again, after line {sheet.lines[before]}; expected the same values. "
                    f"Found: {', '.join(differing)}"
                )
            repeated.append(f"{name} in line {sheet.lines[row]}")
        else:
            chosen[row] = path
    if problems:
        raise problems_error(problems)
    return chosen, missing, repeated


def _whose(
    sheet: Spreadsheet, rows: Sequence[int], names: tuple[str, ...], columns: TableColumns, problems: list[str]
) -> tuple[tuple[str, ...], tuple[str | None, ...], tuple[Notice, ...]]:
    """Patients, eyes and what was noticed of them."""
    patients = names
    eyes: list[str | None] = [None] * len(rows)
    notices: tuple[Notice, ...] = ()
    if columns.patient is None:
        notices += noticed(("pictures that count as patients of their own, since no column names patients", names))
    else:
        column = sheet.column(columns.patient)
        patients = tuple(column[row] for row in rows)
        problems += [
            f"{sheet.origins[row]}: {columns.patient} must be a patient's id, since the sets must not share patients. "
            f"Found: {column[row]!r}"
            for row in rows
            if column[row].casefold() in UNKNOWN
        ]
    if columns.eye is not None:
        column = sheet.column(columns.eye)
        eyes = [EYE_OF.get(column[row].casefold()) for row in rows]
        problems += [
            f"{sheet.origins[row]}: {columns.eye} must be one of {', '.join(EYE_OF)}, or empty. Found: {column[row]!r}"
            for row, eye in zip(rows, eyes, strict=True)
            if eye is None and not _is_unknown(column[row])
        ]
        unknown = [name for name, eye in zip(names, eyes, strict=True) if eye is None]
        notices += noticed((f"pictures whose {columns.eye} is not known", unknown))
    return patients, tuple(eyes), notices


def _is_unknown(text: str) -> bool:
    """Whether a field says that nothing is known: empty, NaN, -1."""
    return text.casefold() in UNKNOWN or text.replace("\N{MINUS SIGN}", "-") in ("-1", "-1.0", "-1,0")


def _numbers(sheet: Spreadsheet, column: str, rows: Sequence[int], problems: list[str]) -> NDArray[np.float64]:
    """(n,): the fields of a column; NaN where nothing is known or what there is is no number, which is a problem."""
    values, texts = np.full(len(rows), np.nan), sheet.column(column)
    for k, row in enumerate(rows):
        if not _is_unknown(texts[row]):
            try:
                values[k] = sheet.number(texts[row])
            except ValueError:
                problems.append(f"{sheet.origins[row]}: {column} must be a number. Found: {texts[row]!r}")
    return values


def _unknown(output: str, codes: Sequence[str], known: NDArray[np.bool_], names: Sequence[str]) -> tuple[Notice, ...]:
    """`known`: (n, codes)."""
    return noticed(
        *(
            (f"{output}: pictures of which {code} is not known", [names[k] for k in np.flatnonzero(~column).tolist()])
            for code, column in zip(codes, known.T, strict=True)
        )
    )


def _labels(
    output: LabelsOutput, sheet: Spreadsheet, rows: Sequence[int], names: Sequence[str], problems: list[str]
) -> tuple[NDArray[np.float32], tuple[Notice, ...]]:
    truth = np.stack([_numbers(sheet, column, rows, problems) for column in output.columns()], axis=1)
    for k, c in np.argwhere(~np.isnan(truth) & (truth != 0) & (truth != 1)).tolist():
        problems.append(
            f"{sheet.origins[rows[k]]}: {output.columns()[c]} must be 0 or 1, or empty, NaN or -1 where it is not "
            f"known. Found: {truth[k, c]:g}"
        )
    for group in output.exclusive:
        part = truth[:, [output.codes.index(code) for code in group]]
        present, unknown = (part == 1).sum(axis=1), np.isnan(part).any(axis=1)
        for k in np.flatnonzero((present > 1) | ((present == 0) & ~unknown)).tolist():
            problems.append(
                f"{sheet.origins[rows[k]]}: of {', '.join(group)} exactly one must be 1. Found: {present[k]}"
            )
    return truth.astype(np.float32), _unknown(output.name, output.codes, ~np.isnan(truth), names)


def _grades(
    output: GradesOutput, sheet: Spreadsheet, rows: Sequence[int], names: Sequence[str], problems: list[str]
) -> tuple[NDArray[np.float32], tuple[Notice, ...]]:
    (column,) = output.columns()
    values, texts = output.values(), sheet.column(column)
    truth = np.zeros((len(rows), len(values)), np.float32)
    for k, row in enumerate(rows):
        text = texts[row]
        found = [_same(text, value, sheet.number) for value in values]
        if any(found):
            truth[k] = found
        elif _is_unknown(text):
            truth[k] = np.nan
        else:
            problems.append(
                f"{sheet.origins[row]}: {column} must be one of {', '.join(values)}, or empty, NaN or -1 where it is "
                f"not known. Found: {text!r}"
            )
    unknown = [names[k] for k in np.flatnonzero(np.isnan(truth).any(axis=1)).tolist()]
    return truth, noticed((f"{output.name}: pictures whose grade is not known", unknown))


def _same(text: str, value: str, number: Callable[[str], float]) -> bool:
    """Whether a field is a grade's value: the same text, or, as Excel and pandas write 2 as 2.0, the same number."""
    if text == value:
        return True
    try:
        return number(text) == number(value)
    except ValueError:
        return False


def _points(
    output: PointsOutput,
    sheet: Spreadsheet,
    rows: Sequence[int],
    paths: Sequence[Path],
    names: Sequence[str],
    problems: list[str],
) -> tuple[NDArray[np.float32], tuple[Notice, ...]]:
    columns = output.columns()
    fields_of = [_numbers(sheet, column, rows, problems) for column in columns]
    truth = np.full((len(rows), len(output.codes), 3), np.nan, np.float32)
    for k, row in enumerate(rows):
        for c, (x, y) in enumerate(zip(fields_of[::2], fields_of[1::2], strict=True)):
            try:
                truth[k, c] = as_point(x[k], y[k])
            except ValueError as error:
                problems.append(f"{sheet.origins[row]}: {columns[2 * c]}, {columns[2 * c + 1]}: {error}")
    sizes = []
    for path, point in zip(paths, truth, strict=True):
        source = read_header(path) if (point[:, 2] == 1).any() else None
        sizes.append(source.size if source is not None else None)
    for k, c in outside(truth, sizes):
        width, height = sizes[k] or (0, 0)
        what = f"{sheet.origins[rows[k]]}: {columns[2 * c]}, {columns[2 * c + 1]}"
        place = f"the {width} x {height} pixels of {names[k]}"
        problems.append(f"{what} must lie in {place}. Found: {truth[k, c, 0]:g}, {truth[k, c, 1]:g}")
    return truth, _unknown(output.name, output.codes, ~np.isnan(truth[..., 2]), names)


def _masks(output: MasksOutput, folder: Path, names: Sequence[str]) -> tuple[MaskTruth, tuple[Notice, ...]]:
    files: list[MaskFiles] = []
    notices: tuple[Notice, ...] = ()
    meaning = "known to be empty" if output.without_mask == "empty" else "not known"
    for place in output.folders():
        found, without, strangers = find_masks(folder / place, names, output.without_mask, f"the masks {place}")
        if len(without) == len(names):
            raise DataSetError(
                f"{folder / place}: no mask of any picture of the table; expected the pictures' names with .png, .bmp "
                f"or .tif. Found: {', '.join(strangers[:3]) or 'nothing'}"
            )
        files.append(found)
        notices += noticed(
            (f"{output.name}: pictures without a mask in {place}, {meaning}", without),
            (f"{output.name}: masks in {place} without a picture of the table", strangers),
        )
    return MaskTruth(tuple(files), output.coding(), output.exclusive), notices
