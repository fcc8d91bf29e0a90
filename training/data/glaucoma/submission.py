"""What is handed in to the REFUGE challenge: two csv files and a folder of masks.

    classification_results.csv   FileName, Glaucoma Risk (0-1)
    fovea_location_results.csv   ImageName, Fovea_X, Fovea_Y (pixels of the picture)
    segmentation/                the pictures' names with .bmp: 0 = the cup, 128 = the disc beside it, 255 = background

Each writer has a reader that checks the file against the list of pictures and gives the numbers back in its order.
The names are those that the challenge's own program looks for (github.com/ignaciorlando/refuge-evaluation).
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
from training.data.glaucoma.refuge import BACKGROUND, CODING, CUP, RIM
from training.data.label_table import problems_error

__all__ = [
    "CLASSIFICATION",
    "FOVEA_LOCATION",
    "SEGMENTATION",
    "read_classification",
    "read_fovea_locations",
    "read_segmentations",
    "write_classification",
    "write_fovea_locations",
    "write_segmentations",
]

SEGMENTATION = "segmentation"
RISK, ENDING = "Glaucoma Risk", ".bmp"
Size = tuple[int, int]


def write_classification(folder: str | Path, names: Sequence[str], risks: NDArray[np.floating]) -> Path:
    """Writes classification_results.csv and returns its path.

    Args:
        names: file names of the pictures.
        risks: (n,), the probabilities of glaucoma, 0-1.

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


def write_segmentations(folder: str | Path, names: Sequence[str], masks: Iterable[NDArray[np.bool_]]) -> None:
    """Writes segmentation/NAME.bmp for each picture.

    Args:
        names: file names of the pictures.
        masks: bool (height, width, 2) each, of the picture's size: disc and cup, which is a part of the disc, as the
            file has no level for a cup beside it; one at a time is enough.

    Raises:
        ValueError: other arrays, a cup that leaves the disc, or not one for each name.
    """
    levels = (_levels(name, mask) for name, mask in zip(names, masks, strict=True))
    write_masks(Path(folder) / SEGMENTATION, names, levels, ENDING)


def _levels(name: str, mask: NDArray[np.bool_]) -> NDArray[np.uint8]:
    if mask.dtype != np.bool_ or mask.ndim != 3 or mask.shape[-1] != 2:
        raise ValueError(f"a mask must be bool (height, width, 2). Received: {mask.dtype} {mask.shape} for {name}")
    disc, cup = mask[..., 0], mask[..., 1]
    if (beside := int((cup & ~disc).sum())) > 0:
        raise ValueError(f"the cup must be a part of the disc. Received: {beside} pixels beside it for {name}")
    return np.where(cup, CUP, np.where(disc, RIM, BACKGROUND)).astype(np.uint8)


def read_segmentations(folder: str | Path, names: Sequence[str], sizes: Sequence[Size]) -> Iterator[NDArray[np.bool_]]:
    """The masks of the pictures of these names, one after the other: bool (height, width, 2), disc and cup.

    Args:
        sizes: width and height of each picture.

    Raises:
        DataSetError: before the first, that masks are missing, that there is anything else in the folder (the challenge
            takes nothing but .bmp, in small letters); at a mask, that it cannot be read, has another size, or values
            other than 0, 128 and 255.
    """
    place = Path(folder) / SEGMENTATION
    wanted = {f"{Path(name).stem}{ENDING}" for name in names}
    others = sorted(path.name for path in place.iterdir() if path.name not in wanted) if place.is_dir() else []
    if others:
        raise problems_error([f"{place / name}: expected nothing but NAME{ENDING} of each picture" for name in others])
    return (mask == 1 for mask in read_masks(place, names, sizes, CODING, endings=(ENDING,)))
