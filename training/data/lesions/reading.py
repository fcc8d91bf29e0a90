"""The pictures of public lesion data, each with the files of its masks."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from keras_realmnet.errors import DataSetError
from keras_realmnet.screening.image_io import EXTENSIONS
from training.data.files.file_index import FileIndex
from training.data.files.layout_folders import first_folder, parts_there
from training.data.files.mask_files import MaskFiles, MaskTruth, find_all_masks
from training.data.files.notices import Notice, noticed
from training.data.files.spreadsheet import read_spreadsheet
from training.data.label_table import problems_error
from training.data.lesions.layouts import GradeTable, Layout, Part
from training.data.lesions.vocabulary import GRADES

__all__ = ["LesionTable", "read_lesions"]


@dataclass(frozen=True)
class LesionTable:
    """n pictures.

    `names`: paths below their folder, with slashes. `patients`: ids; the picture's name where the layout does not say.
    `sets`: "train", "validation", "test"; None where the layout gives none. `masks`: of the lesions that were asked
    for, in that order. `grades`: float32 (n, 5), one-hot, a row of NaN where it is unknown; None: the layout has none.
    """

    paths: tuple[Path, ...]
    names: tuple[str, ...]
    patients: tuple[str, ...]
    sets: tuple[str, ...] | None
    masks: MaskTruth
    grades: NDArray[np.float32] | None
    notices: tuple[Notice, ...]

    def __len__(self) -> int:
        return len(self.paths)


@dataclass
class _Picture:
    path: Path
    name: str
    split: str | None
    masks: dict[str, Path | None]  # of the lesions that are known: the file, or None: it has none


def read_lesions(folder: str | Path, layout: Layout, lesions: Sequence[str]) -> LesionTable:
    """Finds the pictures of a layout and the masks of some lesions; no picture and no mask is opened.

    Of a lesion that the layout does not mark nothing is known, nor of one that is marked only in other parts of it; a
    picture that is in several parts is one. Parts that are not there are told.

    Args:
        folder: of the data, or one that holds it (`Layout.roots`).

    Raises:
        DataSetError: no part is there, a folder of masks is not, a name is ambiguous, or two parts contradict each
            other.
    """
    top = Path(folder).expanduser()
    root, parts, missing = parts_there(top, layout.roots, layout.parts, layout.source)
    pictures: dict[str, _Picture] = {}
    notices: tuple[Notice, ...] = noticed(("parts of the data that are not there", missing))
    for place, part in parts:
        found, told = _pictures(root, place, part, layout, [code for code in lesions if code in layout.marks])
        notices += told
        for picture in found:
            _add(pictures, picture)
    rows = sorted(pictures.values(), key=lambda picture: picture.name)
    if not rows:
        raise DataSetError(f"{root}: no pictures in {', '.join(str(place) for place, _ in parts)}")
    names = tuple(picture.name for picture in rows)
    coding = layout.coding_of(tuple(lesions))
    channels = [next(iter(layout.colours))] if layout.colours else lesions  # one file tells all of them
    files = tuple(
        MaskFiles(tuple(row.masks.get(code) for row in rows), np.array([code in row.masks for row in rows]))
        for code in channels
    )
    if layout.patient is None:
        notices += noticed(("pictures that count as patients of their own, since nothing names patients", names))
    return LesionTable(
        paths=tuple(picture.path for picture in rows),
        names=names,
        patients=tuple(map(layout.patient, names)) if layout.patient else names,
        sets=tuple(picture.split or "" for picture in rows) if layout.has_sets else None,
        masks=MaskTruth(files, coding, exclusive=False),
        grades=None if layout.grades is None else _grades(root, layout.grades, names),
        notices=notices,
    )


def _pictures(
    root: Path, place: str, part: Part, layout: Layout, lesions: Sequence[str]
) -> tuple[list[_Picture], tuple[Notice, ...]]:
    index = FileIndex(root / place, EXTENSIONS, f"the pictures of {layout.source}")
    names = tuple(map(index.name, index.paths))
    marked = [code for code in lesions if code in part.masks]
    if layout.colours:
        marked = list(part.masks)[:1]
    places = [(first_folder(root, folders), suffix) for folders, suffix in (part.masks[code] for code in marked)]
    files, notices = find_all_masks(root, names, places, layout.without_mask, "lesions", each=False)
    pictures = []
    for k, (path, name) in enumerate(zip(index.paths, names, strict=True)):
        masks = {code: each.paths[k] for code, each in zip(marked, files, strict=True) if each.known[k]}
        masks |= dict.fromkeys(code for code in lesions if code in part.free_of)
        pictures.append(_Picture(path, name, part.split, masks))
    return pictures, notices


def _add(pictures: dict[str, _Picture], picture: _Picture) -> None:
    """The picture, or what it says of one that another part has, too."""
    same = pictures.setdefault(os.path.splitext(picture.name)[0].casefold(), picture)
    if same is picture:
        return
    twice = sorted(set(same.masks) & set(picture.masks))
    if twice or same.split != picture.split:
        what = f"the masks of {', '.join(twice)}" if twice else f"the sets {same.split} and {picture.split}"
        raise DataSetError(f"{picture.path}: {same.path} is the same picture, and both have {what}; expected one")
    same.masks |= picture.masks


def _grades(root: Path, table: GradeTable, names: Sequence[str]) -> NDArray[np.float32]:
    sheet = read_spreadsheet(root / table.file, (table.name, table.grade), "the grades")
    rows = {os.path.splitext(name)[0]: k for k, name in enumerate(names)}
    grades = np.full((len(names), len(GRADES.labels)), np.nan, np.float32)
    problems = []
    for name, text, origin in zip(sheet.column(table.name), sheet.column(table.grade), sheet.origins, strict=True):
        if text not in ("0", "1", "2", "3", "4"):
            problems.append(f"{origin}: {table.grade} must be 0 to 4. Found: {text!r}")
        elif (row := rows.get(os.path.splitext(name)[0])) is not None:
            grades[row] = np.arange(len(GRADES.labels)) == int(text)
    if problems:
        raise problems_error(problems)
    return grades
