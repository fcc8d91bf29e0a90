"""REFUGE / iChallenge-GON (Orlando et al., Medical Image Analysis 2020) and REFUGE2 on disk.

The data comes in archives that everybody unpacks in another way; what counts are the names of files:

    g0001.jpg, n0001.jpg          pictures to train with: g glaucoma, n none (400, 2124 x 2056)
    V0001.jpg, T0001.jpg          those for validation and test (400 each, 1634 x 1634)
    Disc_Cup_Masks/…/g0001.bmp    0 = the cup, 128 = the disc beside it, 255 = background; in REFUGE2 Disc_Masks, PNG
    Fovea_location.xlsx           ImgName, Fovea_X, Fovea_Y in pixels
    Fovea_locations.xlsx          the same, and Glaucoma Label, which V0001.jpg does not tell; of the test pictures
                                  Glaucoma_label_and_Fovea_location.xlsx and Label(Glaucoma=1)
    glaucoma.csv, fovea.csv       REFUGE2: FileName, Glaucoma Risk; ImageName, Fovea_X, Fovea_Y

REFUGE2 has other pictures of the same names: its folder Validation, or Test, is data by itself.
"""

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from keras_realmnet.errors import DataSetError
from training.data.files.challenge_list import ListColumns, check_names, picture_size, read_lists
from training.data.files.file_index import FileIndex
from training.data.files.mask_codings import ColourCoding
from training.data.files.mask_files import MaskFiles, MaskTruth, find_masks
from training.data.files.notices import Notice, noticed
from training.data.files.spreadsheet import Spreadsheet, read_spreadsheet
from training.data.glaucoma.table import GlaucomaTable
from training.data.label_table import problems_error

__all__ = ["BACKGROUND", "CODING", "CUP", "RIM", "read_refuge"]

CUP, RIM, BACKGROUND = 0, 128, 255
CODING = ColourCoding(((CUP, RIM), (CUP,)), background=BACKGROUND)  # disc and cup

SETS = {"g": "train", "n": "train", "v": "validation", "t": "test"}
PICTURE = re.compile(r"(?i)[gnvt][0-9]+\.(jpe?g|png)")
MASK_FOLDERS = ("Disc_Cup_Masks", "Disc_Masks", "Disc_Mask")
DRAWN_ON = "Disc_Cup_Fovea_Illustration"  # pictures of the same names, with outlines
NAMES, LABELS = ("ImgName", "ImageName", "FileName"), ("Glaucoma Label", "Label(Glaucoma=1)", "Glaucoma Risk")
POINT = ("Fovea_X", "Fovea_Y")
LIST = re.compile(r"(?i)(?!~\$)(?!.*results).*(fovea|glaucoma).*")  # Excel leaves ~$…, what is handed in are …_results
EXPECTED = "REFUGE's pictures, such as g0001.jpg, n0001.jpg, V0001.jpg, T0001.jpg, at any depth"


def read_refuge(folder: str | Path) -> GlaucomaTable:
    """All pictures below a folder; their headers are read, and no mask is. What there is no file of is not known.

    Raises:
        DataSetError: a folder or file is missing, damaged or ambiguous, or, with file, line and value: a label that
            contradicts the name, a fovea that is no point of its picture.
    """
    root = Path(folder).expanduser()
    if not root.is_dir():
        raise DataSetError(f"{root}: no such folder; expected {EXPECTED}")
    places = sorted(path for path in root.rglob("*") if path.is_dir() and path.name in (*MASK_FOLDERS, DRAWN_ON))
    index = FileIndex(root, (".jpg", ".jpeg", ".png"), EXPECTED, without=places)
    paths = tuple(path for path in index.paths if PICTURE.fullmatch(path.name))
    check_names(paths, root, EXPECTED)
    names = [path.name for path in paths]
    sets = tuple(SETS[name[0].casefold()] for name in names)
    named = [name[0].casefold() == "g" if part == "train" else None for name, part in zip(names, sets, strict=True)]
    problems: list[str] = []
    truth = read_lists(_lists(root), paths, tuple(map(picture_size, paths)), named, problems)
    if problems:
        raise problems_error(problems)
    glaucoma = [told if name is None else name for name, told in zip(named, truth.labels.tolist(), strict=True)]
    masks, about_masks = _masks([place for place in places if place.name in MASK_FOLDERS], names)
    return GlaucomaTable(
        paths=paths,
        names=tuple(map(index.name, paths)),
        sets=sets,
        glaucoma=np.array(glaucoma, np.float32),
        fovea=truth.points,
        masks=masks,
        notices=truth.notices + about_masks,
    )


def _lists(root: Path) -> list[tuple[Spreadsheet, ListColumns]]:
    """Every table below the folder with a column of names and one of what is true of them."""
    found = []
    for path in FileIndex(root, (".xlsx", ".csv"), EXPECTED).paths:
        if not LIST.fullmatch(path.name):
            continue
        sheet = read_spreadsheet(path, (), "a list of REFUGE")
        name, label = (next((each for each in some if each in sheet), None) for some in (NAMES, LABELS))
        point = POINT if all(each in sheet for each in POINT) else None
        if name is not None and (label is not None or point is not None):
            found.append((sheet, ListColumns(name, label, point)))
    return found


def _masks(places: Sequence[Path], names: Sequence[str]) -> tuple[MaskTruth, tuple[Notice, ...]]:
    found: list[Path | None] = [None] * len(names)
    strangers: list[str] = []
    for place in places:
        files, _, others = find_masks(place, names, "unknown", "the masks of disc and cup")
        strangers += [f"{place.name}/{other}" for other in others]
        for row, path in enumerate(files.paths):
            if path is not None and found[row] is not None:
                raise DataSetError(f"{path}: {found[row]} is a mask of {names[row]}, too; expected one")
            found[row] = path or found[row]
    known = np.array([path is not None for path in found], bool)
    notices = noticed(
        ("pictures without a mask of disc and cup, not known", [names[k] for k in np.flatnonzero(~known).tolist()]),
        ("masks of disc and cup without a picture", strangers),
    )
    return MaskTruth((MaskFiles(tuple(found), known),), CODING, exclusive=False), notices
