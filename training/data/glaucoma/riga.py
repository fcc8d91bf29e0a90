"""RIGA (Almazroa et al., SPIE Medical Imaging 2018) on disk: 750 pictures, on which six ophthalmologists drew.

    MESSIDOR/image1prime.tif            the picture
    MESSIDOR/image1-1.tif … image1-6    copies of it, on each of which one has drawn disc and cup
    BinRushed/BinRushed1-Corrected/ … BinRushed4/, Magrabia/MagrabiaMale/, MagrabiFemale/    the same, also as JPEG

Read in the code of those who use it: upper and lower case mix, and so do endings within a picture; BinRushed1, which
was replaced by BinRushed1-Corrected, has copies alone, and so has MagrabiFemale/image48.
"""

import re
from pathlib import Path

import numpy as np

from keras_realmnet.errors import DataSetError
from training.data.files.challenge_list import PICTURES
from training.data.files.file_index import FileIndex
from training.data.files.mask_files import MaskFiles, MaskTruth, MaskVotes
from training.data.files.notices import noticed
from training.data.files.outlines import OutlineCoding
from training.data.glaucoma.table import GlaucomaTable

__all__ = ["ANNOTATORS", "read_riga"]

ANNOTATORS = 6
EXPECTED = "RIGA's pictures, such as image1prime.tif, with image1-1.tif to image1-6.tif beside them, at any depth"
Key = tuple[Path, str]  # folder, and what a picture and its copies are called alike
_PICTURE, _COPY = re.compile(r"(.+)prime"), re.compile(r"(.+)-([1-6])")


def read_riga(folder: str | Path, annotator: int | None = None) -> GlaucomaTable:
    """All pictures below a folder; none is opened. Nobody says sets, patients or whether there is glaucoma.

    Args:
        annotator: 1 to 6, whose outlines are the truth; None: what at least half of those say who drew any
            (`MaskVotes`).

    Raises:
        DataSetError: there is no such folder, no picture, or two files of a picture or of what one drew on it.
    """
    index = FileIndex(folder, PICTURES, EXPECTED)
    pictures: dict[Key, list[Path]] = {}
    copies: dict[tuple[Key, int], list[Path]] = {}  # by picture and who drew
    for path in index.paths:
        stem = path.stem.casefold()
        if match := _PICTURE.fullmatch(stem):
            pictures.setdefault((path.parent, match[1]), []).append(path)
        elif match := _COPY.fullmatch(stem):
            copies.setdefault(((path.parent, match[1]), int(match[2])), []).append(path)
    if not pictures:
        raise DataSetError(f"{folder}: no pictures ({', '.join(PICTURES)}); expected {EXPECTED}")
    for found in (*pictures.values(), *(paths for (key, _), paths in copies.items() if key in pictures)):
        if len(found) > 1:
            raise DataSetError(f"{found[1]}: has the name of {found[0]}; expected each once")
    keys = list(pictures)
    truths = []
    for who in range(1, ANNOTATORS + 1) if annotator is None else [annotator]:
        files = tuple(copies.get((key, who), [None])[0] for key in keys)
        known = np.array([path is not None for path in files], bool)
        truths.append(MaskTruth((MaskFiles(files, known),), OutlineCoding(), exclusive=False))
    masks = MaskVotes(tuple(truths)) if annotator is None else truths[0]
    alone = [index.name(path) for (key, _), paths in copies.items() if key not in pictures for path in paths]
    paths = tuple(path for (path,) in pictures.values())
    names = tuple(map(index.name, paths))
    return GlaucomaTable(
        paths=paths,
        names=names,
        sets=None,
        glaucoma=np.full(len(keys), np.nan, np.float32),
        fovea=np.full((len(keys), 1, 3), np.nan, np.float32),
        masks=masks,
        notices=noticed(
            ("pictures on which nobody drew", [names[k] for k in np.flatnonzero(~masks.known.any(axis=1)).tolist()]),
            ("drawings without their picture, left out", alone),
        ),
    )
