"""The pictures of a result page, drawn on demand from the files the worker left: preview.jpg, maps.npz.

The files may be gone, damaged or unreadable: `exists`, `size` and `codes` then say that there is nothing, the others
give None or raise whatever the decoder raises.
"""

import logging
import os
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from edge_app.logs import error_place
from edge_app.present.pictures import mapped_codes, read_map
from edge_app.store.store import Store
from keras_realmnet.screening import overlay
from keras_realmnet.screening.record import ScreeningRecord

__all__ = ["class_map", "codes", "evidence", "exists", "folder_of", "marks", "preview", "size", "thumbnail"]

log = logging.getLogger(__name__)

MAP_SIDE = 1024  # px, longest side of a class map: the browser stretches it over the image
THUMBNAIL = 380  # px, longest side
PRINTED = 900  # px, longest side of the evidence on paper


def folder_of(store: Store, item_id: int) -> Path:
    """Where the worker left the pictures of an item; there may be none."""
    return store.data_dir / "results" / str(item_id)


def exists(folder: Path) -> bool:
    """Whether there is a preview."""
    return os.path.isfile(folder / "preview.jpg")  # Path.is_file raises where a folder may not be entered


def preview(folder: Path) -> bytes | None:
    """The preview itself."""
    return (folder / "preview.jpg").read_bytes() if exists(folder) else None


def size(folder: Path) -> tuple[int, int] | None:
    """(width, height) of the preview; None where there is none that can be read."""
    try:
        with Image.open(folder / "preview.jpg") as picture:
            return picture.size
    except FileNotFoundError:
        return None
    except Exception as error:  # Pillow tells of damaged files in many ways
        log.warning("results/%s/preview.jpg cannot be read: %s", folder.name, error_place(error))
        return None


def codes(folder: Path, record: ScreeningRecord | None) -> tuple[str, ...]:
    """The labels or grades that have a class map, in their order."""
    if record is None or record.findings is None:
        return ()
    try:
        return mapped_codes(folder, record)
    except Exception as error:  # NumPy and zipfile tell of damaged files in many ways
        log.warning("results/%s/maps.npz cannot be read: %s", folder.name, error_place(error))
        return ()


def thumbnail(folder: Path) -> bytes | None:
    """A small JPEG of the preview."""
    preview = cv2.imread(str(folder / "preview.jpg"), cv2.IMREAD_REDUCED_COLOR_4)
    if preview is None:
        return None
    scale = THUMBNAIL / max(preview.shape[:2])
    small = cv2.resize(preview, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    return cv2.imencode(".jpg", small, (cv2.IMWRITE_JPEG_QUALITY, 85))[1].tobytes()


def evidence(folder: Path, record: ScreeningRecord | None) -> bytes | None:
    """The image as JPEG with what was found marked, and with the region outlined that speaks for what refers.

    None where there is neither.
    """
    preview = cv2.imread(str(folder / "preview.jpg"), cv2.IMREAD_COLOR_RGB)
    if record is None or preview is None:
        return None
    refers = record.evidence in record.triggered and record.evidence in codes(folder, record)
    if not refers and not record.located:
        return None
    height, width = preview.shape[:2]
    scale = min(1.0, PRINTED / max(height, width))
    size = max(1, round(width * scale)), max(1, round(height * scale))
    picture = np.asarray(cv2.resize(preview, size, interpolation=cv2.INTER_AREA), np.uint8)
    if refers:
        found = read_map(folder, record, str(record.evidence), (height, width))
        picture = overlay.outlined(picture, overlay.strength(*found, picture.shape[:2]))
    if record.located:
        picture = overlay.marked(picture, record.findings or (), _source(record), 2.0)  # 45 mm wide on paper
    bgr = cv2.cvtColor(picture, cv2.COLOR_RGB2BGR)
    return cv2.imencode(".jpg", bgr, (cv2.IMWRITE_JPEG_QUALITY, 80))[1].tobytes()


def marks(folder: Path, record: ScreeningRecord | None) -> bytes | None:
    """What was found, marked on a PNG that lies exactly over the preview and is transparent otherwise."""
    preview = size(folder)
    if record is None or not record.located or preview is None:
        return None
    width, height = preview
    picture = np.zeros((height, width, 4), np.uint8)
    overlay.draw_marks(picture, record.findings or (), _source(record))
    bgra = cv2.cvtColor(picture, cv2.COLOR_RGBA2BGRA)
    return cv2.imencode(".png", bgra, (cv2.IMWRITE_PNG_COMPRESSION, 3))[1].tobytes()


def _source(record: ScreeningRecord) -> tuple[int, int]:
    """(height, width) of the picture that findings lie on."""
    return int(record.source["height"]), int(record.source["width"])


def class_map(folder: Path, record: ScreeningRecord | None, code: str) -> bytes | None:
    """The class map of one label as a PNG that lies exactly over the preview, transparent where nothing speaks for it.

    Opacity follows the evidence relative to its maximum in this map, see `overlay.opacity`; around a label that reaches
    its threshold, lines are drawn at half and three quarters of it.
    """
    preview = size(folder)
    if record is None or code not in codes(folder, record) or preview is None:
        return None
    scale = MAP_SIDE / max(preview)
    width, height = (max(1, round(side * scale)) for side in preview)
    shown = overlay.strength(*read_map(folder, record, code, preview[::-1]), (height, width))
    picture = np.zeros((height, width, 4), np.uint8)
    picture[..., :3] = overlay.COLOUR[::-1]  # OpenCV writes BGRA
    picture[..., 3] = overlay.opacity(shown)
    if code in record.triggered:
        overlay.draw_levels(picture, shown, (0, 0, 0, 255), (255, 255, 255, 255))
    return cv2.imencode(".png", picture, (cv2.IMWRITE_PNG_COMPRESSION, 3))[1].tobytes()
