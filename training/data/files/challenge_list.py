"""The pictures of a challenge, and the lists that say their class and where the fovea lies."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from keras_realmnet.errors import DataSetError
from keras_realmnet.screening.image_io import read_header
from training.data.files.file_index import FileIndex
from training.data.files.notices import Notice, noticed
from training.data.files.points import UNKNOWN_POINT, Point, as_point, outside
from training.data.files.spreadsheet import Spreadsheet

__all__ = ["PICTURES", "ChallengeTruth", "ListColumns", "check_names", "find_pictures", "picture_size", "read_lists"]

PICTURES = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff")
Size = tuple[int, int]


def find_pictures(folder: Path, what: str, endings: Sequence[str] = PICTURES) -> tuple[Path, ...]:
    """The pictures in a folder, in the order of their names; `what` they are, for messages.

    Raises:
        DataSetError: there is no such folder or no picture in it, or two have the same name but for folder and ending.
    """
    paths = FileIndex(folder, endings, what).paths
    check_names(paths, folder, what, endings)
    return paths


def check_names(paths: Sequence[Path], folder: Path, what: str, endings: Sequence[str] = PICTURES) -> None:
    """Raises DataSetError: as `find_pictures`."""
    if not paths:
        raise DataSetError(f"{folder}: no pictures ({', '.join(endings)}); expected {what}")
    first: dict[str, Path] = {}
    for path in paths:  # lists and masks name pictures without folder, and masks with another ending
        if first.setdefault(path.stem.casefold(), path) != path:
            raise DataSetError(f"{path}: has the name of {first[path.stem.casefold()]}; expected each once")


def picture_size(path: Path) -> Size:
    """Width and height, of which the header tells. Raises DataSetError where the file holds no picture."""
    source = read_header(path)
    if source.width is None or source.height is None:
        raise DataSetError(f"{path}: holds no picture; expected a fundus photograph")
    return source.size


@dataclass(frozen=True)
class ListColumns:
    """The columns of a list: the picture's `name`, and of its `label` and `point` (x and y) those that it has."""

    name: str
    label: str | None
    point: tuple[str, str] | None


@dataclass(frozen=True)
class ChallengeTruth:
    """What lists say of n pictures. `labels`: float32 (n,), 1, 0, NaN = unknown. `points`: float32 (n, 1, 3), x and y
    in pixels, and visible (`training.data.files.points`)."""

    labels: NDArray[np.float32]
    points: NDArray[np.float32]
    notices: tuple[Notice, ...]


def read_lists(
    lists: Sequence[tuple[Spreadsheet, ListColumns]],
    paths: Sequence[Path],
    sizes: Sequence[Size | None],
    named: Sequence[bool | None],
    problems: list[str],
) -> ChallengeTruth:
    """What lists say of the pictures at `paths`.

    Args:
        sizes: width and height of each, in which its point must lie; None: not known.
        named: of each, whether its name says that the label holds; None: it does not say.
        problems: what is wrong is added, with file, line and value: a field that is no number, a picture that is
            listed again, a label that contradicts the name, a point that is none of its picture.
    """
    names = [path.name for path in paths]
    labels, points, strangers = _rows(lists, names, problems)
    for row, (origin, label) in labels.items():
        if named[row] is not None and label is not None and named[row] != (label == 1):
            problems.append(f"{origin}: Label is {label}, but the name {names[row]} says {names[row][0]}")
    found = np.full((len(paths), 1, 3), np.nan, np.float32)
    for row, (_, point) in points.items():
        found[row, 0] = point
    for row, _ in outside(found, sizes):
        width, height = sizes[row] or (0, 0)
        x, y, _ = found[row, 0].tolist()
        place = f"the {width} x {height} pixels of {names[row]}"
        problems.append(f"{points[row][0]}: the fovea must lie in {place}. Found: {x:g}, {y:g}")
    values = [np.nan if (told := labels.get(row, ("", None))[1]) is None else told for row in range(len(paths))]
    return ChallengeTruth(np.array(values, np.float32), found, _notices(lists, names, found, points, strangers))


def _rows(
    lists: Iterable[tuple[Spreadsheet, ListColumns]], names: Sequence[str], problems: list[str]
) -> tuple[dict[int, tuple[str, int | None]], dict[int, tuple[str, Point]], list[str]]:
    """{picture: file:line and label}, {picture: file:line and fovea}, and names in lists that are of no picture."""
    at = {Path(name).stem.casefold(): k for k, name in enumerate(names)}
    labels: dict[int, tuple[str, int | None]] = {}
    points: dict[int, tuple[str, Point]] = {}
    strangers = []
    for sheet, columns in lists:
        nothing = ("",) * len(sheet)
        told = nothing if columns.label is None else sheet.column(columns.label)
        xs, ys = (nothing, nothing) if columns.point is None else map(sheet.column, columns.point)
        for name, label, x, y, origin in zip(sheet.column(columns.name), told, xs, ys, sheet.origins, strict=True):
            row = at.get(Path(name).stem.casefold())
            if row is None:
                strangers.append(name or f"{origin}, without a name")
                continue
            first = (columns.label and labels.get(row)) or (columns.point and points.get(row))
            if first:
                problems.append(f"{origin}: {name} is listed again, after {first[0]}; expected each once")
                continue
            number, point = None, UNKNOWN_POINT
            try:
                number, point = _label(label, columns.label), as_point(*_coordinates(sheet, x, y))
            except ValueError as error:
                problems.append(f"{origin}: {name}: {error}")
            if columns.label is not None:
                labels[row] = origin, number
            if columns.point is not None:
                points[row] = origin, point
    return labels, points, strangers


def _label(text: str, column: str | None) -> int | None:
    """1 or 0; None where the field is empty. Raises ValueError for anything else."""
    if text not in ("", "0", "1"):
        raise ValueError(f"{column} must be 0 or 1. Found: {text!r}")
    return int(text) if text else None


def _coordinates(sheet: Spreadsheet, *texts: str) -> list[float]:
    try:
        return [sheet.number(text) for text in texts]
    except ValueError:
        raise ValueError(f"Fovea_X and Fovea_Y must be numbers, or empty. Found: {', '.join(texts)}") from None


def _notices(
    lists: Sequence[tuple[Spreadsheet, ListColumns]],
    names: Sequence[str],
    found: NDArray[np.float32],
    points: dict[int, tuple[str, Point]],
    strangers: Sequence[str],
) -> tuple[Notice, ...]:
    seen = found[:, 0, 2]
    unlisted = [name for row, name in enumerate(names) if row not in points]
    return noticed(
        ("rows of the list of foveas without a picture", strangers),
        ("pictures that the list of foveas does not have", unlisted if any(c.point for _, c in lists) else []),
        ("pictures without a visible fovea", [names[row] for row in points if seen[row] == 0]),
        ("pictures whose fovea the list does not know", [names[row] for row in points if np.isnan(seen[row])]),
    )
