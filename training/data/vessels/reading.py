"""The pictures of public vessel data, each with the files of its masks."""

import os
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from keras_realmnet.errors import DataSetError
from keras_realmnet.screening.image_io import EXTENSIONS
from training.data.files.file_index import FileIndex
from training.data.files.layout_folders import first_folder, parts_there
from training.data.files.mask_codings import BinaryCoding
from training.data.files.mask_files import MaskFiles, MaskTruth, find_masks
from training.data.files.notices import Notice, noticed
from training.data.vessels.layouts import Layout, Part, Place

__all__ = ["VesselTable", "read_vessels"]

ENDINGS = (*BinaryCoding.endings, ".gif")  # DRIVE's


@dataclass(frozen=True)
class VesselTable:
    """n pictures.

    `names`: paths below their folder, with slashes. `patients`: ids. `sets`: "train", "test"; None where the layout
    gives none. `vessels`, `fields`: their masks, 1 in a vessel and in the field of view; not known where there is none.
    """

    paths: tuple[Path, ...]
    names: tuple[str, ...]
    patients: tuple[str, ...]
    sets: tuple[str, ...] | None
    vessels: MaskTruth
    fields: MaskTruth
    notices: tuple[Notice, ...]

    def __len__(self) -> int:
        return len(self.paths)


@dataclass(frozen=True)
class _Pictures:
    """Those of a part."""

    paths: tuple[Path, ...]
    names: tuple[str, ...]
    vessels: MaskFiles
    fields: MaskFiles
    split: str


def read_vessels(folder: str | Path, layout: Layout, observer: int = 1) -> VesselTable:
    """Finds the pictures of a layout and their masks; no picture and no mask is opened. Parts that are not there, and
    pictures without a mask of their vessels, are told.

    Args:
        folder: of the data, or one that holds it (`Layout.roots`).
        observer: whose masks, from 1.

    Raises:
        DataSetError: no part is there, a folder of masks is not, there are no pictures, or a name is ambiguous.
    """
    root, there, missing = parts_there(Path(folder).expanduser(), layout.roots, layout.parts, layout.source)
    notices = noticed(("parts of the data that are not there", missing))
    found: list[_Pictures] = []
    for place, part in there:
        if observer > len(part.vessels):
            continue  # this observer did not look at it
        pictures, told = _pictures(root, place, part, layout.source, observer)
        found.append(pictures)
        notices += told
    paths = tuple(path for each in found for path in each.paths)
    names = tuple(name for each in found for name in each.names)
    if not paths:
        raise DataSetError(f"{root}: no pictures in {', '.join(place or '.' for place, _ in there)}")
    pattern, patient = layout.patient
    return VesselTable(
        paths=paths,
        names=names,
        patients=tuple(re.sub(pattern, patient, _stem(name)) for name in names),
        sets=tuple(each.split for each in found for _ in each.paths) if layout.has_sets else None,
        vessels=_joined([each.vessels for each in found]),
        fields=_joined([each.fields for each in found]),
        notices=notices,
    )


def _pictures(root: Path, folder: str, part: Part, source: str, observer: int) -> tuple[_Pictures, tuple[Notice, ...]]:
    index = FileIndex(root / folder, EXTENSIONS, f"the pictures of {source}")
    paths = tuple(path for path in index.paths if re.fullmatch(part.only or ".*", path.stem))
    names = tuple(map(index.name, paths))
    vessels, without = _masks(root, part.vessels[observer - 1], names, "the masks of vessels")
    notices = noticed(("vessels: pictures without a mask, not known", without))
    fields = MaskFiles((None,) * len(paths), np.zeros(len(paths), bool))
    if part.field is not None and (root / first_folder(root, part.field.folders)).is_dir():
        fields, without = _masks(root, part.field, names, "the masks of fields of view")
        notices += noticed(("pictures without a mask of their field of view: it is the illuminated part", without))
    return _Pictures(paths, names, vessels, fields, part.split or ""), notices


def _masks(root: Path, place: Place, pictures: tuple[str, ...], what: str) -> tuple[MaskFiles, tuple[str, ...]]:
    """The mask of each picture, and the pictures without one."""
    wanted = [f"{re.sub(*place.name, _stem(name), count=1)}.mask" for name in pictures]  # any ending
    files, without, _ = find_masks(root / first_folder(root, place.folders), wanted, "unknown", what, endings=ENDINGS)
    lacking = set(without)
    return files, tuple(name for name, mask in zip(pictures, wanted, strict=True) if mask in lacking)


def _joined(parts: list[MaskFiles]) -> MaskTruth:
    paths = tuple(path for files in parts for path in files.paths)
    files = MaskFiles(paths, np.concatenate([files.known for files in parts]))
    return MaskTruth((files,), BinaryCoding(), exclusive=False)


def _stem(name: str) -> str:
    return os.path.splitext(name)[0]
