"""What is handed in to the PALM challenge: two csv files and a folder of masks for each structure.

    classification_results.csv   FileName, PM Risk (0-1)
    fovea_location_results.csv   ImageName, Fovea_X, Fovea_Y (pixels of the picture)
    a folder of masks            the pictures' names with .bmp or .png: 0 = the structure, 255 = background

Each writer has a reader that checks the file against the list of pictures and gives the numbers back in its order.
"""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from training.data.files.submission_files import (
    CLASSIFICATION,
    FOVEA_LOCATION,
    read_masks,
    read_points,
    read_risks,
    write_masks,
    write_points,
    write_risks,
)
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

RISK = "PM Risk"
Size = tuple[int, int]


def write_classification(folder: str | Path, names: Sequence[str], risks: NDArray[np.floating]) -> Path:
    """Writes classification_results.csv and returns its path.

    Args:
        names: file names of the pictures.
        risks: (n,), the probabilities of pathologic myopia, 0-1.

    Raises:
        ValueError: a risk is out of range, or their number is not that of the names.
    """
    return write_risks(Path(folder) / CLASSIFICATION, RISK, names, risks)


def read_classification(path: str | Path, names: Sequence[str]) -> NDArray[np.float64]:
    """The risks of the pictures of these names, (n,) in their order.

    Raises:
        DataSetError: lists columns, names or values that are not what the challenge takes, with their lines.
    """
    return read_risks(Path(path), RISK, names)


def write_fovea_locations(folder: str | Path, names: Sequence[str], points: NDArray[np.floating]) -> Path:
    """Writes fovea_location_results.csv and returns its path.

    Args:
        names: file names of the pictures.
        points: (n, 2), x and y in pixels of the picture; the challenge takes a point of every picture.

    Raises:
        ValueError: a coordinate is negative or not finite, or their number is not that of the names.
    """
    return write_points(Path(folder) / FOVEA_LOCATION, names, points)


def read_fovea_locations(
    path: str | Path, names: Sequence[str], sizes: Sequence[Size] | None = None
) -> NDArray[np.float64]:
    """The points of the pictures of these names, (n, 2) in their order.

    Args:
        sizes: width and height of each picture, in which the point must lie.

    Raises:
        DataSetError: as `read_classification`.
    """
    return read_points(Path(path), names, sizes)


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
    levels = (_levels(name, mask) for name, mask in zip(names, masks, strict=True))
    write_masks(Path(folder), names, levels, ending)


def _levels(name: str, mask: NDArray[np.bool_]) -> NDArray[np.uint8]:
    if mask.dtype != np.bool_ or mask.ndim != 2:
        raise ValueError(f"a mask must be bool (height, width). Received: {mask.dtype} {mask.shape} for {name}")
    return np.where(mask, STRUCTURE, BACKGROUND).astype(np.uint8)


def read_segmentations(folder: str | Path, names: Sequence[str], sizes: Sequence[Size]) -> Iterator[NDArray[np.bool_]]:
    """The masks of the pictures of these names, one after the other: bool (height, width), True where the structure is.

    Args:
        sizes: width and height of each picture.

    Raises:
        DataSetError: before the first, that masks are missing, or belong to no picture; at a mask, that it cannot be
            read, has another size, or values other than 0 and 255.
    """
    return (mask[..., 0] == 1 for mask in read_masks(folder, names, sizes, CODING))
