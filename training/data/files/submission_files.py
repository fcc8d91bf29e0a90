"""Files that are handed in to a challenge: a csv with numbers of each picture, a folder with a mask of each.

Each writer has a reader that checks the file against the list of pictures and gives the numbers back in its order.
"""

import csv
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from training.data.files.mask_codings import BinaryCoding
from training.data.files.mask_files import Coding, find_masks
from training.data.label_table import problems_error, read_csv

__all__ = [
    "CLASSIFICATION",
    "FOVEA_LOCATION",
    "read_masks",
    "read_points",
    "read_risks",
    "write_masks",
    "write_points",
    "write_risks",
]

Size = tuple[int, int]
# Of all iChallenge data sets.
CLASSIFICATION, FOVEA_LOCATION = "classification_results.csv", "fovea_location_results.csv"
POINT_COLUMNS = ("ImageName", "Fovea_X", "Fovea_Y")


def write_risks(path: Path, column: str, names: Sequence[str], risks: NDArray[np.floating]) -> Path:
    """Writes a table with FileName and `column`, and returns its path.

    Args:
        names: file names of the pictures.
        risks: (n,), probabilities, 0-1.

    Raises:
        ValueError: a risk is out of range, or their number is not that of the names.
    """
    if np.shape(risks) != (len(names),) or not ((np.asarray(risks) >= 0) & (np.asarray(risks) <= 1)).all():
        raise ValueError(f"`risks` must be {len(names)} numbers from 0 to 1. Received: {risks!r}")
    return _write(path, ("FileName", column), names, np.reshape(risks, (-1, 1)))


def read_risks(path: Path, column: str, names: Sequence[str]) -> NDArray[np.float64]:
    """The risks of the pictures of these names, (n,) in their order.

    Raises:
        DataSetError: lists columns, names or values that are not what the challenge takes, with their lines.
    """

    def problem(name: str, values: list[float]) -> str | None:
        return None if 0 <= values[0] <= 1 else f"{column} must be a number from 0 to 1. Found: {values[0]:g}"

    return _read(path, ("FileName", column), names, problem)[:, 0]


def write_points(path: Path, names: Sequence[str], points: NDArray[np.floating]) -> Path:
    """Writes a table with ImageName, Fovea_X and Fovea_Y, and returns its path.

    Args:
        names: file names of the pictures.
        points: (n, 2), x and y in pixels of the picture; a challenge takes a point of every picture.

    Raises:
        ValueError: a coordinate is negative or not finite, or their number is not that of the names.
    """
    if np.shape(points) != (len(names), 2) or not (np.isfinite(points) & (np.asarray(points) >= 0)).all():
        raise ValueError(f"`points` must be {len(names)} pairs of numbers that are not negative. Received: {points!r}")
    return _write(path, POINT_COLUMNS, names, points)


def read_points(path: Path, names: Sequence[str], sizes: Sequence[Size] | None = None) -> NDArray[np.float64]:
    """The points of the pictures of these names, (n, 2) in their order.

    Args:
        sizes: width and height of each picture, in which the point must lie.

    Raises:
        DataSetError: as `read_risks`.
    """
    limits = dict(zip(names, sizes, strict=True)) if sizes is not None else {}

    def problem(name: str, values: list[float]) -> str | None:
        width, height = limits.get(name, (math.inf, math.inf))
        if all(math.isfinite(value) for value in values) and 0 <= values[0] <= width and 0 <= values[1] <= height:
            return None
        place = f"in the {width} x {height} pixels of {name}" if name in limits else "not negative"
        return f"Fovea_X and Fovea_Y must be {place}. Found: {values[0]:g}, {values[1]:g}"

    return _read(path, POINT_COLUMNS, names, problem)


def write_masks(folder: Path, names: Sequence[str], levels: Iterable[NDArray[np.uint8]], ending: str) -> None:
    """Writes a grey picture for each, with its name and `ending`; `levels`: uint8 (height, width), one at a time.

    Raises:
        ValueError: not one for each name.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for name, pixels in zip(names, levels, strict=True):
        Image.fromarray(pixels).save(folder / f"{Path(name).stem}{ending}")


def read_masks(
    folder: str | Path,
    names: Sequence[str],
    sizes: Sequence[Size],
    coding: Coding,
    endings: Sequence[str] = BinaryCoding.endings,
) -> Iterator[NDArray[np.uint8]]:
    """The masks of the pictures of these names, one after the other: uint8 (height, width, labels), as `coding` says.

    Args:
        sizes: width and height of each picture.
        endings: that the challenge takes.

    Raises:
        DataSetError: before the first, that masks are missing, or belong to no picture; at a mask, that it cannot be
            read, has another size, or other values.
    """
    files, without, strangers = find_masks(folder, names, absent="unknown", endings=endings)
    problems = [f"{folder}: no mask of {name}" for name in without]
    problems += [f"{Path(folder) / name}: is the mask of no picture in the list" for name in strangers]
    if problems:
        raise problems_error(problems)
    for path, size in zip(files.paths, sizes, strict=True):
        assert path is not None
        yield coding.read(path, size)


def _write(path: Path, columns: Sequence[str], names: Sequence[str], values: NDArray[np.floating]) -> Path:
    repeated = {name for name in names if names.count(name) > 1} if len(set(names)) < len(names) else set()
    if repeated or any(not name.strip() or name != name.strip() for name in names):
        raise ValueError(f"`names` must be file names, each once. Received: {sorted(repeated) or list(names)!r}")
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.part")
    with temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows(
            [name, *map(repr, row)] for name, row in zip(names, np.asarray(values, np.float64).tolist(), strict=True)
        )
    temporary.replace(path)
    return path


def _read(
    path: Path, columns: Sequence[str], names: Sequence[str], problem: Callable[[str, list[float]], str | None]
) -> NDArray[np.float64]:
    """(n, columns without the first), in the order of the names; `problem` says what is wrong with a row."""
    header, rows = read_csv(path, columns, f"the columns {', '.join(columns)}")
    problems = []
    if tuple(header) != tuple(columns):
        problems.append(f"{path}:1: expected the columns {', '.join(columns)}. Found: {', '.join(header)}")
        raise problems_error(problems)
    found: dict[str, list[float]] = {}
    wanted = set(names)
    for line, (name, *fields) in rows:
        if name not in wanted or name in found:
            why = "is listed again" if name in found else "is not in the list of pictures"
            problems.append(f"{path}:{line}: {name!r} {why}; expected each of the {len(names)} pictures once")
            continue
        found[name] = [math.nan] * len(fields)
        try:
            found[name] = [float(text) for text in fields]
        except ValueError:
            problems.append(f"{path}:{line}: {', '.join(columns[1:])} must be numbers. Found: {', '.join(fields)}")
            continue
        if (said := problem(name, found[name])) is not None:
            problems.append(f"{path}:{line}: {said}")
    missing = [name for name in names if name not in found]
    if missing:
        more = f" and {len(missing) - 1} more" if missing[1:] else ""
        problems.append(f"{path}: {len(found)} of {len(names)} pictures; missing is {missing[0]!r}{more}")
    if problems:
        raise problems_error(problems)
    return np.array([found[name] for name in names], np.float64).reshape(len(names), len(columns) - 1)
