"""The pictures of a data set as they were before they were made ready for the model: what is judged on the box."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from keras_realmnet.errors import DataSetError
from keras_realmnet.screening.image_io import EXTENSIONS, ImageSource, read_image
from keras_realmnet.screening.preprocessing import PreprocessSpec
from training.data.files.file_index import FileIndex
from training.datasets.combined import CombinedDataSet
from training.datasets.cross_validation import CrossValidation
from training.datasets.data_set import DataSet
from training.datasets.image_set import ImageSet
from training.datasets.made.phantom import PhantomDataSet

__all__ = ["Original", "originals_of_test"]


@dataclass(frozen=True)
class Original:
    """One picture. source: the kind of the data set it is from.

    read: gives its pixels, uint8 RGB (h, w, 3), and what the file says of itself, None of one that is drawn; raises as
    `image_io.read_image`.
    """

    name: str
    source: str
    read: Callable[[], tuple[NDArray[np.uint8], ImageSource | None]]


def originals_of_test(data: DataSet, spec: PreprocessSpec, cache: Path) -> Iterator[Original]:
    """The pictures of the test split in the order of its `ImageSet`.

    Raises DataSetError: there is none, a file is not there, or the data draws its pictures as small as the model sees
    them.
    """
    images = data.load("test", spec, cache)
    if images is None:
        raise DataSetError(f"{data.kind} data has no test split")
    if isinstance(data, CombinedDataSet):
        for part in data.parts:
            if part.load("test", spec, cache) is not None:
                yield from originals_of_test(part, spec, cache)
    elif isinstance(data, PhantomDataSet):
        for name, case in zip(images.names, data.cases("test")[0], strict=True):
            yield Original(name, data.kind, partial(_drawn, case, data.width))
    else:
        yield from _files(data.of if isinstance(data, CrossValidation) else data, images, spec)


def _files(data: Any, images: ImageSet, spec: PreprocessSpec) -> Iterator[Original]:
    folder = getattr(data, "folder", None)
    if folder is None:
        raise DataSetError(
            f"{data.kind} data draws its pictures as the model sees them, or its folder is not given: there are no "
            "originals that could be judged"
        )
    index = FileIndex(folder, EXTENSIONS, "the pictures of the test split")
    for name in images.names:
        path = index.find(name)
        if path is None:
            raise DataSetError(f"{folder}: no picture {name!r} of the test split")
        yield Original(name, data.kind, partial(_read, path, spec))


def _read(path: Path, spec: PreprocessSpec) -> tuple[NDArray[np.uint8], ImageSource | None]:
    image = read_image(path, min_side=spec.min_side)
    return image.pixels, image.source


def _drawn(case: Any, width: int) -> tuple[NDArray[np.uint8], None]:
    return case.render(width).image, None
