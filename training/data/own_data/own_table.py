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
from training.data.files.mask_files import MaskTruth, find_all_masks
from training.data.files.notices import Notice, noticed
from training.data.files.points import as_point, outside
from training.data.files.spreadsheet import Spreadsheet, read_spreadsheet
from training.data.label_table import problems_error
from training.data.own_data.belonging import Columns, belonging, is_unknown
from training.data.own_data.vocabulary import (
    GradesOutput,
    LabelsOutput,
    MasksOutput,
    PointsOutput,
    Vocabulary,
)

__all__ = ["Columns", "OwnTable", "Truth", "parse_columns", "read_own_table"]

Truth = NDArray[np.float32] | MaskTruth
SAME = "same_picture"  # the key that may be given again


@dataclass(frozen=True)
class OwnTable:
    """n pictures in the order of their rows.

    `names`: paths below the pictures' folder, with slashes. `patients`: ids; the picture's name where the table has no
    such column; pictures that are said to be the same count as one patient's. `eyes`: "OD" (right), "OS" (left) or
    None. `sets`: "train", "validation", "test", or None for a picture in no set; None where no column says it.
    `origins`: file:line of each row.

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
    sets: tuple[str | None, ...] | None
    truth: Mapping[str, Truth]
    origins: tuple[str, ...]
    notices: tuple[Notice, ...]

    def __len__(self) -> int:
        return len(self.paths)

    @property
    def known(self) -> NDArray[np.bool_]:
        """bool (n,): whether anything is known of each picture, for any output."""
        told = np.zeros(len(self), bool)
        for values in self.truth.values():
            known = values.known if isinstance(values, MaskTruth) else ~np.isnan(values)
            told |= known.reshape(len(self), -1).any(axis=1)
        return told


def parse_columns(text: str) -> Columns:
    """`path=file,patient=ID,eye=side`: which column of the table is which; what is not named is not there.

    Raises:
        ValueError: another key, one without a column, one but same_picture that is repeated, or no path.
    """
    keys = [field.name for field in fields(Columns)]
    pairs = [tuple(part.strip() for part in item.split("=", 1)) for item in text.split(",")]
    given = {pair[0]: pair[-1] for pair in pairs if pair[0] != SAME}
    same = tuple(pair[-1] for pair in pairs if pair[0] == SAME)
    complete = all(len(pair) == 2 and pair[0] in keys and pair[1] for pair in pairs)
    if not complete or len(given) + len(set(same)) < len(pairs) or "path" not in given:
        raise ValueError(
            f"columns must be given as path=...,patient=...,eye=...,split=...,{SAME}=..., all but the first only "
            f"where there are such columns, {SAME} for each of several. "
            f"Received: {text!r}"
        )
    return Columns(**given, same_picture=same)


def read_own_table(
    pictures: str | Path, table: str | Path | None, vocabulary: Vocabulary, columns: Columns | None = None
) -> OwnTable:
    """Reads a table of pictures; the pictures themselves only where they have points, which must lie in them.

    Rows that repeat another, rows whose picture is not there, and pictures that no row names are left out and told.

    Args:
        pictures: their folder, with any folders below it.
        table: csv (UTF-8, UTF-16, Windows-1252; commas, semicolons or tabs) or xlsx; None: all pictures of the folder,
            where nothing but masks is asked for.
        columns: what the columns are called; default: "path" alone.

    Raises:
        DataSetError: a file, folder or column is missing, no picture is found, or, with file and line, the value and
            what was expected: a row contradicts another, a name may be several pictures, a value is none of the
            vocabulary's, a point is outside of its picture.
    """
    columns = columns or Columns()
    wanted = tuple(dict.fromkeys([*columns.named, *vocabulary.columns()]))
    folder = Path(pictures).expanduser()
    mask_folders = [folder / place for output in _masks_of(vocabulary) for place in output.folders()]
    index = FileIndex(folder, EXTENSIONS, "the pictures", without=mask_folders)
    if table is None:
        sheet = _listing(index, wanted)
    else:
        sheet = read_spreadsheet(table, wanted, f"the columns {', '.join(wanted)}")
    chosen, missing, repeated = _rows(sheet, wanted, index, columns)
    if not chosen:
        raise DataSetError(
            f"{sheet.path}: none of its {len(sheet)} pictures is in {folder}; expected paths below that folder. Found: "
            f"{', '.join(missing[:3]) or 'no rows'}"
        )
    rows, paths = tuple(chosen), tuple(chosen.values())
    names = tuple(map(index.name, paths))
    origins = tuple(sheet.origins[row] for row in rows)
    whose, problems = belonging(sheet, rows, names, columns, index)
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
    notices += whose.notices + about_truth
    return OwnTable(vocabulary, paths, names, whose.patients, whose.eyes, whose.sets, truth, origins, notices)


def _masks_of(vocabulary: Vocabulary) -> Iterable[MasksOutput]:
    return (output for output in vocabulary.outputs if isinstance(output, MasksOutput))


def _listing(index: FileIndex, wanted: Sequence[str]) -> Spreadsheet:
    """All pictures of a folder as the table that there is not."""
    if len(wanted) > 1:
        raise DataSetError(
            f"{index.folder}: a table is needed for {', '.join(wanted[1:])}; only masks are found without one"
        )
    names = tuple((index.name(path),) for path in index.paths)
    return Spreadsheet(index.folder, tuple(wanted), names, tuple(range(1, len(names) + 1)), "folder", False)


def _rows(
    sheet: Spreadsheet, wanted: Sequence[str], index: FileIndex, columns: Columns
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


def _numbers(sheet: Spreadsheet, column: str, rows: Sequence[int], problems: list[str]) -> NDArray[np.float64]:
    """(n,): the fields of a column; NaN where nothing is known or what there is is no number, which is a problem."""
    values, texts = np.full(len(rows), np.nan), sheet.column(column)
    for k, row in enumerate(rows):
        if not is_unknown(texts[row]):
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
        elif is_unknown(text):
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
    places = list(zip(output.folders(), output.suffixes(), strict=True))
    coding = output.coding()
    files, notices = find_all_masks(folder, names, places, output.without_mask, output.name, endings=coding.endings)
    return MaskTruth(files, coding, output.exclusive), notices
