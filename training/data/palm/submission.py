"""What is handed in to the PALM challenge: two csv files and a folder of masks for each structure.

    classification_results.csv   FileName, PM Risk (0-1)
    fovea_location_results.csv   ImageName, Fovea_X, Fovea_Y (pixels of the picture)
    a folder of masks            the pictures' names with .bmp or .png: 0 = the structure, 255 = background

Each writer has a reader that checks the file against the list of pictures and gives the numbers back in its order.
"""

import csv
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from training.data.files.mask_files import find_masks
from training.data.label_table import problems_error, read_csv
from training.data.palm.table import BACKGROUND, CODING, STRUCTURE

__all__ = [
    "CLASSIFICATION",
    "FOVEA_LOCATION",
    "read_classification",
    "read_fovea_locations",
    "read_segmentations",
    "write_classification",
    "write_fovea_locations",
    "write_segmentations",
]

CLASSIFICATION, FOVEA_LOCATION = "classification_results.csv", "fovea_location_results.csv"
RISK_COLUMNS = ("FileName", "PM Risk")
FOVEA_COLUMNS = ("ImageName", "Fovea_X", "Fovea_Y")
Size = tuple[int, int]


def write_classification(folder: str | Path, names: Sequence[str], risks: NDArray[np.floating]) -> Path:
    """Writes classification_results.csv and returns its path.

    Args:
        names: file names of the pictures.
        risks: (n,), the probabilities of pathologic myopia, 0-1.

    Raises:
        ValueError: a risk is out of range, or their number is not that of the names.
    """
    if np.shape(risks) != (len(names),) or not ((np.asarray(risks) >= 0) & (np.asarray(risks) <= 1)).all():
        raise ValueError(f"`risks` must be {len(names)} numbers from 0 to 1. Received: {risks!r}")
    return _write(Path(folder) / CLASSIFICATION, RISK_COLUMNS, names, np.reshape(risks, (-1, 1)))


def read_classification(path: str | Path, names: Sequence[str]) -> NDArray[np.float64]:
    """The risks of the pictures of these names, (n,) in their order.

    Raises:
        DataSetError: lists columns, names or values that are not what the challenge takes, with their lines.
    """

    def problem(name: str, values: list[float]) -> str | None:
        return None if 0 <= values[0] <= 1 else f"PM Risk must be a number from 0 to 1. Found: {values[0]:g}"

    return _read(Path(path), RISK_COLUMNS, names, problem)[:, 0]


def write_fovea_locations(folder: str | Path, names: Sequence[str], points: NDArray[np.floating]) -> Path:
    """Writes fovea_location_results.csv and returns its path.

    Args:
        names: file names of the pictures.
        points: (n, 2), x and y in pixels of the picture; the challenge takes a point of every picture.

    Raises:
        ValueError: a coordinate is negative or not finite, or their number is not that of the names.
    """
    if np.shape(points) != (len(names), 2) or not (np.isfinite(points) & (np.asarray(points) >= 0)).all():
        raise ValueError(f"`points` must be {len(names)} pairs of numbers that are not negative. Received: {points!r}")
    return _write(Path(folder) / FOVEA_LOCATION, FOVEA_COLUMNS, names, points)


def read_fovea_locations(
    path: str | Path, names: Sequence[str], sizes: Sequence[Size] | None = None
) -> NDArray[np.float64]:
    """The points of the pictures of these names, (n, 2) in their order.

    Args:
        sizes: width and height of each picture, in which the point must lie.

    Raises:
        DataSetError: as `read_classification`.
    """
    limits = dict(zip(names, sizes, strict=True)) if sizes is not None else {}

    def problem(name: str, values: list[float]) -> str | None:
        width, height = limits.get(name, (math.inf, math.inf))
        if all(math.isfinite(value) for value in values) and 0 <= values[0] <= width and 0 <= values[1] <= height:
            return None
        place = f"in the {width} x {height} pixels of {name}" if name in limits else "not negative"
        return f"Fovea_X and Fovea_Y must be {place}. Found: {values[0]:g}, {values[1]:g}"

    return _read(Path(path), FOVEA_COLUMNS, names, problem)


def write_segmentations(
    folder: str | Path, names: Sequence[str], masks: Iterable[NDArray[np.bool_]], ending: str = ".bmp"
) -> None:
    """Writes a mask for each picture, with its name and `ending` (".bmp" or ".png").

    Args:
        names: file names of the pictures.
        masks: bool (height, width) each, of the picture's size, True where the structure is; one at a time is enough.

    Raises:
        ValueError: other endings or arrays, or not one mask for each name.
    """
    if ending not in (".bmp", ".png"):
        raise ValueError(f"`ending` must be .bmp or .png. Received: {ending!r}")
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    for name, mask in zip(names, masks, strict=True):
        if mask.dtype != np.bool_ or mask.ndim != 2:
            raise ValueError(f"a mask must be bool (height, width). Received: {mask.dtype} {mask.shape} for {name}")
        image = Image.fromarray(np.where(mask, STRUCTURE, BACKGROUND).astype(np.uint8))
        image.save(folder / f"{Path(name).stem}{ending}")


def read_segmentations(folder: str | Path, names: Sequence[str], sizes: Sequence[Size]) -> Iterator[NDArray[np.bool_]]:
    """The masks of the pictures of these names, one after the other: bool (height, width), True where the structure is.

    Args:
        sizes: width and height of each picture.

    Raises:
        DataSetError: before the first, that masks are missing, or belong to no picture; at a mask, that it cannot be
            read, has another size, or values other than 0 and 255.
    """
    files, without, strangers = find_masks(folder, names, absent="unknown")
    problems = [f"{folder}: no mask of {name}" for name in without]
    problems += [f"{Path(folder) / name}: is the mask of no picture in the list" for name in strangers]
    if problems:
        raise problems_error(problems)
    for path, size in zip(files.paths, sizes, strict=True):
        assert path is not None
        yield CODING.read(path, size)[..., 0] == 1


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
