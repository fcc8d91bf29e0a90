"""HRF (Budai et al., International Journal of Biomedical Imaging 2013) on disk: 45 pictures, whose names say the eye.

    images/01_h.jpg, 01_g.jpg, 01_dr.JPG    healthy, with glaucoma, with diabetic retinopathy; also hrf_01_h.jpg

Its masks of vessels and of the field are no JPEG, and are not read here.
"""

import re
from pathlib import Path

import numpy as np

from keras_realmnet.errors import DataSetError
from training.data.files.file_index import FileIndex
from training.data.files.mask_files import MaskFiles, MaskTruth
from training.data.glaucoma.refuge import CODING
from training.data.glaucoma.table import GlaucomaTable

__all__ = ["read_hrf"]

PICTURE = re.compile(r"(?i)(?:hrf_)?[0-9]+_(g|h|dr)")
GLAUCOMA = {"g": 1.0, "h": 0.0, "dr": np.nan}  # whether an eye with retinopathy has glaucoma, too, nobody says
EXPECTED = "HRF's pictures, such as 01_h.jpg and 01_g.jpg, at any depth"


def read_hrf(folder: str | Path) -> GlaucomaTable:
    """All pictures below a folder; none is opened. Nobody says sets, the fovea, or where disc and cup lie.

    Raises:
        DataSetError: there is no such folder, or no picture.
    """
    index = FileIndex(folder, (".jpg", ".jpeg"), EXPECTED)
    found = [(path, match) for path in index.paths if (match := PICTURE.fullmatch(path.stem))]
    if not found:
        raise DataSetError(f"{folder}: no pictures of these names; expected {EXPECTED}")
    paths = tuple(path for path, _ in found)
    unknown = MaskFiles((None,) * len(paths), np.zeros(len(paths), bool))
    return GlaucomaTable(
        paths=paths,
        names=tuple(map(index.name, paths)),
        sets=None,
        glaucoma=np.array([GLAUCOMA[match[1].casefold()] for _, match in found], np.float32),
        fovea=np.full((len(paths), 1, 3), np.nan, np.float32),
        masks=MaskTruth((unknown,), CODING, exclusive=False),
    )
