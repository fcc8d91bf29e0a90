"""Drishti-GS1 (Sivaswamy et al., ISBI 2014; research use) on disk, in two layouts: 101 pictures, four experts.

As it is given:

    Training/Images/drishtiGS_002.png                              50 pictures, in some copies below GLAUCOMA, NORMAL
    Training/GT/drishtiGS_002/SoftMap/drishtiGS_002_ODsegSoftmap.png, …_cupsegSoftmap.png
    Test/Images/, Test/Test_GT/                                    51 of the same
                                                  soft maps: how many of four experts marked a pixel, of 255

and in a smaller form, of masks that at least two experts marked:

    images/drishtiGS_002.jpg, disc/drishtiGS_002.png, cup/drishtiGS_002.png (not black inside)
    labels.csv                                                     image, official_split (Training or Test)
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from keras_realmnet.errors import DataSetError
from training.data.files.challenge_list import check_names, find_pictures
from training.data.files.mask_codings import BinaryCoding, SharesCoding
from training.data.files.mask_files import Coding, MaskFiles, MaskTruth, find_masks
from training.data.files.notices import Notice, noticed
from training.data.files.spreadsheet import read_spreadsheet
from training.data.glaucoma.table import GlaucomaTable
from training.data.label_table import problems_error

__all__ = ["read_drishti_gs"]

PARTS = {"train": ("Training", "GT"), "test": ("Test", "Test_GT")}
SUFFIXES = ("_ODsegSoftmap", "_cupsegSoftmap")
ROOTS = ("", "Drishti-GS1_files", "Drishti-GS1_files/Drishti-GS1_files", "Drishti-GS")
EXPECTED = "Drishti-GS's folders Training/Images and Test/Images, or images, disc and cup"


def read_drishti_gs(folder: str | Path) -> GlaucomaTable:
    """All pictures, and their masks: none is opened. Glaucoma is what the folder of a picture says, else unknown.

    Raises:
        DataSetError: neither layout is there, or a folder of masks is not; two files have the same name; or, with line
            and value, a set that is none.
    """
    top = Path(folder).expanduser()
    if (top / "images").is_dir() and not (top / "Training").is_dir():
        return _small(top)
    root = next((top / name for name in ROOTS if (top / name / "Training" / "Images").is_dir()), None)
    if root is None:
        raise DataSetError(f"{top}: expected {EXPECTED}")
    paths: list[Path] = []
    sets: list[str] = []
    files: list[list[MaskFiles]] = [[], []]
    notices: tuple[Notice, ...] = ()
    for part, (place, truth) in PARTS.items():
        if not (root / place / "Images").is_dir():
            notices += noticed(("parts of the data that are not there", [place]))
            continue
        found = find_pictures(root / place / "Images", EXPECTED)
        paths += found
        sets += [part] * len(found)
        for each, suffix in zip(files, SUFFIXES, strict=True):
            masks, told = _masks(root / place / truth, found, suffix)
            each.append(masks)
            notices += told
    check_names(paths, root, EXPECTED)
    joined = [_joined(each) for each in files]
    names = tuple(path.relative_to(root).as_posix() for path in paths)
    return _table(paths, names, tuple(sets), joined, SharesCoding(), notices)


def _small(top: Path) -> GlaucomaTable:
    paths = find_pictures(top / "images", EXPECTED)
    files, notices = zip(*(_masks(top / place, paths) for place in ("disc", "cup")), strict=True)
    names = tuple(path.name for path in paths)
    sets = tuple(_sets(top / "labels.csv", names)) if (top / "labels.csv").is_file() else ("train",) * len(paths)
    return _table(paths, names, sets, files, BinaryCoding(), sum(notices, ()))


def _masks(folder: Path, paths: Sequence[Path], suffix: str = "") -> tuple[MaskFiles, tuple[Notice, ...]]:
    files, without, strangers = find_masks(folder, [path.name for path in paths], "unknown", EXPECTED, suffix)
    what = suffix.lstrip("_") or folder.name
    own = strangers if not suffix else ()  # beside soft maps there are those of the other structure
    return files, noticed(
        (f"pictures without a mask of {what}, not known", without),
        (f"masks of {what} without a picture", own),
    )


def _sets(path: Path, names: Sequence[str]) -> list[str]:
    sheet = read_spreadsheet(path, ("image", "official_split"), "the pictures of Drishti-GS and their sets")
    split_of = {place: part for part, (place, _) in PARTS.items()}
    rows = list(zip(sheet.column("image"), sheet.column("official_split"), sheet.origins, strict=True))
    problems = [
        f"{origin}: official_split must be {' or '.join(split_of)}. Found: {split!r}"
        for _, split, origin in rows
        if split not in split_of
    ]
    listed = {Path(name).stem: split_of.get(split, "") for name, split, _ in rows}
    problems += [f"{path}: does not list {name}" for name in names if Path(name).stem not in listed]
    if problems:
        raise problems_error(problems)
    return [listed[Path(name).stem] for name in names]


def _joined(files: Sequence[MaskFiles]) -> MaskFiles:
    paths = tuple(path for each in files for path in each.paths)
    return MaskFiles(paths, np.concatenate([each.known for each in files]))


def _table(
    paths: Sequence[Path],
    names: tuple[str, ...],
    sets: tuple[str, ...],
    files: Sequence[MaskFiles],
    coding: Coding,
    notices: tuple[Notice, ...],
) -> GlaucomaTable:
    told = {"glaucoma": 1.0, "normal": 0.0}
    return GlaucomaTable(
        paths=tuple(paths),
        names=names,
        sets=sets,
        glaucoma=np.array([told.get(path.parent.name.casefold(), np.nan) for path in paths], np.float32),
        fovea=np.full((len(paths), 1, 3), np.nan, np.float32),
        masks=MaskTruth(tuple(files), coding, exclusive=False),
        notices=notices,
    )
