"""What the worker leaves beside a record, and what the page's pictures and the heat map are drawn of."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_app.store.durable import move_durably, temporary_file, write_durably
from keras_realmnet.screening.arrays import HEADER_PARSING
from keras_realmnet.screening.decision import Analysis
from keras_realmnet.screening.preprocessing import FieldGeometry
from keras_realmnet.screening.record import ScreeningRecord
from keras_realmnet.tasks.task import Task

__all__ = ["keep_pictures", "mapped_codes", "read_map"]

PREVIEW = 2048  # px, longest side
PREVIEW_QUALITY = 90  # JPEG


def keep_pictures(folder: Path, pixels: NDArray[np.uint8], analysis: Analysis | None, task: Task) -> None:
    """Writes what the web page and the heat map are made of, durably.

    preview.jpg: the image, its longest side at most PREVIEW px and a whole fraction of the image's: OpenCV averages ten
    times as fast then. maps.npz, where the network explains itself: `class_maps` float16 (h', w', codes) over the
    model's square, `codes` (texts), `box` int (x0, y0, x1, y1), the crop that the square was made of, in pixels of the
    preview.
    """
    height, width = pixels.shape[:2]
    fraction = -(-max(height, width) // PREVIEW)
    size = max(1, width // fraction), max(1, height // fraction)
    preview = pixels if fraction == 1 else cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)
    quality = (cv2.IMWRITE_JPEG_QUALITY, PREVIEW_QUALITY)
    encoded = cv2.imencode(".jpg", cv2.cvtColor(preview, cv2.COLOR_RGB2BGR), quality)[1]
    write_durably(folder / "preview.jpg", encoded.tobytes())
    maps = folder / "maps.npz"
    maps.unlink(missing_ok=True)  # of an earlier attempt
    by_code = {} if analysis is None else task.class_maps(analysis.predicted)
    if analysis is not None and by_code:
        rows, columns = analysis.geometry.source  # of the picture itself, where `pixels` are a smaller copy
        box = np.round(np.array(analysis.geometry.box) * (*size, *size) / (columns, rows, columns, rows))
        class_maps = np.stack(list(by_code.values()), axis=-1).astype(np.float16)
        with temporary_file(folder) as file:
            np.savez_compressed(file, class_maps=class_maps, codes=list(by_code), box=box.astype(np.int32))
            move_durably(file, maps)


def mapped_codes(folder: Path, record: ScreeningRecord) -> tuple[str, ...]:
    """The codes that have a class map, in their order; empty where there is no file of maps.

    Raises OSError or ValueError for a damaged file.
    """
    path = folder / "maps.npz"
    if not path.is_file():
        return ()
    with _arrays(path) as arrays:
        return _codes(arrays, record)


@contextmanager
def _arrays(path: Path) -> Iterator[Mapping[str, NDArray[Any]]]:
    """The arrays of a file, one thread at a time."""
    with path.open("rb") as file, HEADER_PARSING, np.load(file, allow_pickle=False) as arrays:
        yield arrays  # of an open file, since NumPy leaves open what it opens itself


def _codes(arrays: Mapping[str, NDArray[Any]], record: ScreeningRecord) -> tuple[str, ...]:
    """Earlier releases explained labels alone, and kept their maps in label order."""
    return tuple(arrays["codes"].tolist() if "codes" in arrays else record.probabilities or ())


def read_map(
    folder: Path, record: ScreeningRecord, code: str, size_hw: tuple[int, int]
) -> tuple[NDArray[np.float32], FieldGeometry]:
    """The class map of a code, float32 (h', w'), and where it lies on the preview of that (height, width).

    Raises OSError for a file that is not there, ValueError for a damaged one, or a code without a map.
    """
    with _arrays(folder / "maps.npz") as arrays:
        class_map, box = arrays["class_maps"][..., _codes(arrays, record).index(code)], arrays["box"]
    x0, y0, x1, y1 = (int(value) for value in box)
    # The map covers the square around the box; in which pixels that square is counted makes no difference.
    return class_map.astype(np.float32), FieldGeometry(size_hw, (x0, y0, x1, y1), max(x1 - x0, y1 - y0))
