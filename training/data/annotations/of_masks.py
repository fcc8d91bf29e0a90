"""Records of an annotator who drew masks: a finding is marked in every region in which its mask has a pixel."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from keras_realmnet.errors import DataSetError, RealMNetError
from keras_realmnet.screening.image_io import EXTENSIONS, read_header
from keras_realmnet.screening.record import ScreeningRecord
from keras_realmnet.tasks.regions import REGIONS, Eye, eye_in, region_map
from training.data.annotations.records import Annotations, Picture
from training.data.files.file_index import FileIndex
from training.data.files.mask_codings import ColourCoding
from training.data.files.mask_files import find_masks

__all__ = ["annotations_of_masks", "eyes_of_records", "regions_of_mask"]

ANNOTATOR = "masks"


def regions_of_mask(mask: NDArray[np.bool_], eye: Eye) -> tuple[str, ...]:
    """The regions in which a mask (h, w) of a whole picture has a pixel; `eye`: disc and fovea there."""
    touched = set(np.unique(region_map(mask.shape, *eye)[mask]).tolist())
    return tuple(name for k, name in enumerate(REGIONS) if k in touched)


def eyes_of_records(path: Path) -> dict[str, Eye | None]:
    """{name of a picture: its disc and fovea}, of the records.jsonl that `edge_app screen` writes; None: not found.

    Raises:
        DataSetError: the file is none of that kind, or two of its pictures have the same name.
    """
    eyes: dict[str, Eye | None] = {}
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
        records = [ScreeningRecord.from_dict(json.loads(line)) for line in lines if line.strip()]
    except OSError as error:
        raise DataSetError(f"{path}: cannot be read ({error.strerror}); expected a records.jsonl") from error
    except (ValueError, AttributeError, RealMNetError) as error:
        raise DataSetError(f"{path}: not records as edge_app screen writes them ({error})") from error
    for record in records:
        eye = eye_in(record.findings or ())
        if eyes.setdefault(record.file, eye) != eye:
            raise DataSetError(f"{path}: two pictures are called {record.file}, and have other landmarks; expected one")
    return eyes


def annotations_of_masks(
    folder: Path,
    pictures: str,
    masks: str,
    values: Mapping[str, int],
    names: Mapping[str, str],
    eyes: Mapping[str, Eye | None],
) -> tuple[Annotations, Sequence[str]]:
    """The records of pictures with a mask each, in which findings have grey values of their own.

    A picture without a mask, or whose file name is not among `eyes`, is left out. Where disc and fovea were not found
    the finding is marked, if it is there, and its regions are not known.

    Args:
        folder: of the data. pictures, masks: folders below it; a mask has its picture's name.
        values: {finding: grey value}; all other values are background. names: {finding: its name}.
        eyes: {name of a picture's file: disc and fovea}.

    Returns:
        The records, and the pictures that were left out.

    Raises:
        DataSetError: a folder is not there, a mask cannot be read, or no picture is left.
    """
    index = FileIndex(folder / pictures, EXTENSIONS, "pictures")
    files = [f"{pictures}/{index.name(path)}" for path in index.paths]
    found, _, _ = find_masks(folder / masks, [index.name(path) for path in index.paths], "unknown")
    others = tuple(sorted(set(range(1, 256)) - set(values.values())))
    coding = ColourCoding(tuple((value,) for value in values.values()), others=others)
    records, left_out = [], []
    for path, name, mask in zip(index.paths, files, found.paths, strict=True):
        if mask is None or path.name not in eyes:
            left_out.append(name)
            continue
        drawn = coding.read(mask, read_header(path).size) == 1
        eye = eyes[path.name]
        marks = {code: _marked(drawn[..., k], eye) for k, code in enumerate(values)}
        disc, fovea = eye or (None, None)
        records.append(Picture(name, {ANNOTATOR: marks}, disc, fovea))
    if not records:
        raise DataSetError(f"{folder / pictures}: no picture has a mask in {masks} and landmarks")
    return Annotations({code: names[code] for code in values}, tuple(records)), left_out


def _marked(mask: NDArray[np.bool_], eye: Eye | None) -> tuple[str, ...]:
    if eye is None:
        return REGIONS if mask.any() else ()
    return regions_of_mask(mask, eye)
