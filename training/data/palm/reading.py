"""PALM / iChallenge-PM (Fang et al., Scientific Data 2024; CC BY 4.0) on disk, in two layouts.

The challenge's:

    PALM/Training/Images/H0001.jpg        the letter is the class (N normal, H high myopia, P pathologic myopia)
    PALM/Training/Disc Masks/H0001.bmp    0 = the structure, 255 = background; BMP or PNG
    PALM/Training/Lesion Masks/Atrophy/, Lesion Masks/Detachment/
    PALM/Training/Fovea_Location.xlsx     or ....csv: imgName, Fovea_X, Fovea_Y in pixels, and perhaps Label (1 =
    PALM/Validation/, PALM/Testing/       pathologic), which is what the names V0001.jpg and T0001.jpg do not tell

and small square copies: train/ (class by name), val/, and labels.csv (imgName, Label, Fovea_X, Fovea_Y) in the folder
or in val/.
"""

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from keras_realmnet.errors import DataSetError
from keras_realmnet.screening.image_io import read_image
from keras_realmnet.tasks.vocabulary import PALM
from training.data.files.challenge_list import ListColumns, find_pictures, picture_size, read_lists
from training.data.files.mask_files import Absent, MaskFiles, find_masks
from training.data.files.notices import Notice, noticed
from training.data.files.points import outside
from training.data.files.spreadsheet import Spreadsheet, read_spreadsheet
from training.data.label_table import problems_error
from training.data.palm.table import STRUCTURES, PalmTable, native_size_of_copy

__all__ = ["SPLITS", "palm_root", "read_challenge", "read_copies", "read_palm"]

SPLITS = {"train": "Training", "validation": "Validation", "test": "Testing"}
COLUMNS = ("imgName", "Fovea_X", "Fovea_Y")
EXPECTED = (
    "PALM/Training/Images, PALM/Validation/Images and PALM/Testing/Images, or train/ and val/ with labels.csv (public: "
    "Fang et al., Scientific Data 2024, https://doi.org/10.6084/m9.figshare.c.6224148)"
)
Size = tuple[int, int]


def palm_root(folder: str | Path) -> Path:
    """The folder that holds the splits: PALM in the one that is named, or that itself.

    Raises:
        DataSetError: there is no such folder.
    """
    root = Path(folder).expanduser()
    if not root.is_dir():
        raise DataSetError(f"{root}: no such folder; expected {EXPECTED}")
    return root / "PALM" if (root / "PALM").is_dir() else root


def read_palm(folder: str | Path, split: str, without_mask: Absent = "empty") -> PalmTable:
    """One split, in whichever layout is there: `read_challenge` or `read_copies`, with their errors."""
    root = palm_root(folder)
    if (root / _part(split) / "Images").is_dir() or not (root / "train").is_dir():
        return read_challenge(root, split, without_mask)
    return read_copies(root, split)


def read_challenge(folder: str | Path, split: str, without_mask: Absent = "empty") -> PalmTable:
    """One split in the layout of the challenge; the pictures' headers are read, and no mask is.

    Args:
        split: "train", "validation" or "test".
        without_mask: what it means that a picture has no file in a folder of masks that others have one in. The
            challenge has files only of what can be seen, so by default the mask is known to be "empty"; "unknown" is
            for a copy of which parts are missing. Where a whole folder is missing its masks are not known.

    Raises:
        DataSetError: a folder or file is missing, damaged or ambiguous, or, with file, line and value: a class that
            contradicts the name, a fovea that is no point of its picture.
    """
    part = palm_root(folder) / _part(split)
    paths = find_pictures(part / "Images", f"the pictures of {part.name}; {EXPECTED}")
    sizes = tuple(map(picture_size, paths))
    sheet = _fovea_list(part)
    labels, fovea, notices = _truth(paths, sizes, sheet, with_class=split == "train")
    masks, about_masks = _masks(part, tuple(path.name for path in paths), without_mask)
    return PalmTable(split, paths, labels, fovea, sizes, sizes, masks, notices + about_masks)


def read_copies(folder: str | Path, split: str) -> PalmTable:
    """The split "train" or "validation" in the layout of the small copies, which has foveas only for the second.

    A list may be missing where the names say the class of every picture. Where there is a list of foveas the pictures
    are read, as that is in native pixels and only the picture shows which (`native_size_of_copy`); a fovea that lies
    outside of that size makes it unknown. `notices` names those whose fovea is of no use for that. Of the pictures for
    training `native_sizes` are None.

    Raises:
        DataSetError: as `read_challenge`.
    """
    root = palm_root(folder)
    if split not in ("train", "validation"):
        raise DataSetError(f"the small copies of PALM have the splits train and validation. Received: {split!r}")
    place = root / ("train" if split == "train" else "val")
    paths = find_pictures(place, f"the pictures; {EXPECTED}")
    lists = [file for file in (place / "labels.csv", root / "labels.csv") if file.is_file()]
    named = all(_class(path.name) for path in paths)
    if split == "train" or (named and not lists):
        labels, fovea, notices = _truth(paths, (None,) * len(paths), None, with_class=True)
        sizes = tuple(map(picture_size, paths))
        return PalmTable(split, paths, labels, fovea, sizes, (None,) * len(paths), {}, notices)
    if not lists:
        raise DataSetError(f"{place / 'labels.csv'}: no such file; it lists {', '.join(COLUMNS)} and Label")
    sheet = read_spreadsheet(lists[0], (*COLUMNS, "Label"), "the labels and foveas of PALM's validation pictures")
    labels, fovea, notices = _truth(paths, (None,) * len(paths), sheet, with_class=False)
    pictures = [read_image(path).pixels for path in paths]
    native = [native_size_of_copy(pixels) for pixels in pictures]
    beyond = {row for row, _ in outside(fovea, native)}
    native = [None if row in beyond else size for row, size in enumerate(native)]
    ambiguous = [paths[row].name for row, size in enumerate(native) if size is None and fovea[row, 0, 2] == 1]
    notices += noticed(("pictures whose native size does not show, so that their fovea is not known", ambiguous))
    sizes = tuple((pixels.shape[1], pixels.shape[0]) for pixels in pictures)
    return PalmTable(split, paths, labels, fovea, sizes, tuple(native), {}, notices)


def _part(split: str) -> str:
    if split not in SPLITS:
        raise DataSetError(f"the splits of PALM are {', '.join(SPLITS)}. Received: {split!r}")
    return SPLITS[split]


def _class(name: str) -> str | None:
    """N, H or P of `P0212.jpg`; None of `V0001.jpg`."""
    match = re.match(r"([NHP])[0-9]", name.upper())
    return match[1] if match else None


def _fovea_list(part: Path) -> Spreadsheet | None:
    found = sorted(
        path
        for path in part.iterdir()
        if re.fullmatch(r"(?i).*fovea_location\.(xlsx|csv)", path.name) and not path.name.startswith((".", "~$"))
    )
    if len(found) > 1:
        raise DataSetError(f"{part}: several lists of foveas, {', '.join(p.name for p in found)}; expected one")
    return read_spreadsheet(found[0], COLUMNS, "a list of foveas") if found else None


def _truth(
    paths: Sequence[Path], sizes: Sequence[Size | None], sheet: Spreadsheet | None, with_class: bool
) -> tuple[NDArray[np.float32], NDArray[np.float32], tuple[Notice, ...]]:
    """Labels (n, 3), foveas (n, 1, 3) and what was noticed; `with_class`: names without a class are refused."""
    classes = [_class(path.name) for path in paths]
    problems = [
        f"{path}: the name of a training picture must begin with N, H or P, its class, and a number"
        for path, code in zip(paths, classes, strict=True)
        if with_class and code is None
    ]
    lists = []
    if sheet is not None:
        name, *point = COLUMNS
        lists.append((sheet, ListColumns(name, "Label" if "Label" in sheet else None, (point[0], point[1]))))
    named = [None if code is None else code == "P" for code in classes]
    truth = read_lists(lists, paths, sizes, named, problems)
    if problems:
        raise problems_error(problems)
    labels = [_label_row(code, label) for code, label in zip(classes, truth.labels.tolist(), strict=True)]
    return np.array(labels, np.float32), truth.points, truth.notices


def _label_row(code: str | None, pathologic: float) -> list[float]:
    if code is not None:
        return [float(code == other) for other in PALM.codes]
    if np.isnan(pathologic):
        return [np.nan] * len(PALM)
    return [0.0, 0.0, 1.0] if pathologic else [np.nan, np.nan, 0.0]  # not pathologic: normal or highly myopic


def _masks(part: Path, names: Sequence[str], without_mask: Absent) -> tuple[dict[str, MaskFiles], tuple[Notice, ...]]:
    masks: dict[str, MaskFiles] = {}
    notices: tuple[Notice, ...] = ()
    meaning = "known to have none" if without_mask == "empty" else "not known"
    for structure, folder in STRUCTURES.items():
        masks[structure] = MaskFiles((None,) * len(names), np.zeros(len(names), bool))
        without, strangers = tuple(names), tuple[str, ...]()
        meant = "not known, as there is none at all"
        if (part / folder).is_dir():
            found, without, strangers = find_masks(part / folder, names, without_mask, f"the masks of {folder}")
            if len(without) < len(names):  # else they are elsewhere, which tells nothing of any picture
                masks[structure], meant = found, meaning
        notices += noticed(
            (f"pictures without a mask in {folder}, {meant}", without),
            (f"masks in {folder} without a picture", strangers),
        )
    return masks, notices
