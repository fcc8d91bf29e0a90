"""JPEG, PNG and BMP files, and one page of a TIFF: Pillow reads the header, OpenCV decodes JPEG twice as fast."""

import io
import re
import zlib
from collections.abc import Iterator
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL.BmpImagePlugin import BmpImageFile
from PIL.ImageFile import ImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.TiffImagePlugin import TiffImageFile

from keras_realmnet.screening.image_io.formats import ANOTHER_PICTURE, PNG_SIGNATURE, picture_behind
from keras_realmnet.screening.image_io.source import MAX_PICTURES, RESEND, Opened, UnreadableImage, too_many
from keras_realmnet.screening.image_io.streams import Stream, TooManyStreams, find_streams
from keras_realmnet.screening.image_io.tiff import find_pages, single_page

__all__ = ["PlainFile", "decode_jpeg", "other_kind_between"]

MAX_CHUNKS = 200_000
READERS = {"JPEG": JpegImageFile, "PNG": PngImageFile, "TIFF": TiffImageFile, "BMP": BmpImageFile}
INCOMPLETE = f"the picture is incomplete: its data end early (truncated file). {RESEND}"


class PlainFile(Opened):
    """A file of the format `kind`: "JPEG", "PNG", "TIFF" or "BMP"."""

    def __init__(self, data: bytes, kind: str):
        self._data, self._kind = data, kind
        self._streams: list[Stream] = []
        self._pages: list[tuple[int, int]] = []
        if kind == "JPEG":
            self._find_jpegs()
        elif kind == "TIFF":
            self._pages, end, problem = find_pages(data)
            self.pictures = len(self._pages)
            if problem:
                self.refuse(problem)
            elif picture_behind(data, end):
                self.refuse(ANOTHER_PICTURE)
            elif data.startswith(b"MM\0+"):  # Pillow takes it for an ordinary TIFF
                self.refuse("the file is a big-endian BigTIFF, which cannot be read here. Export it as JPEG or DICOM")
        elif kind == "PNG":
            self._look_for_more_in_png()
        elif picture_behind(data, _end_of_bmp(data)):
            self.refuse(ANOTHER_PICTURE)
        if self.pictures > MAX_PICTURES:
            self.refuse(too_many(self.pictures))
        self._opened: dict[int, tuple[ImageFile, bytes]] = {}

    def facts(self, frame: int) -> dict[str, Any]:
        if not self.pictures:
            return {"width": None, "height": None}
        image, _ = self._open(frame)
        width, height = image.size
        if _orientation(image) >= 5:
            width, height = height, width
        return {"width": width, "height": height}

    def decodes_at_half_size(self, frame: int) -> bool:
        return _is_plain_jpeg(self._open(frame)[0])

    def pixels(self, frame: int, half: bool) -> NDArray[np.uint8]:
        image, data = self._open(frame)
        return _upright(self._decode(image, data, frame, half), _orientation(image))

    def _open(self, frame: int) -> tuple[ImageFile, bytes]:
        """One picture's header, and its bytes as a file of its own."""
        if frame not in self._opened:
            data = self._data
            if self._kind == "JPEG":
                stream = self._streams[frame - 1]
                if not stream.scan:
                    raise UnreadableImage(INCOMPLETE)
                data = data[stream.start : stream.end]
            elif self._kind == "TIFF":
                data = single_page(data, *self._pages[frame - 1])
            self._opened[frame] = READERS[self._kind](io.BytesIO(data)), data
        return self._opened[frame]

    def _decode(self, image: ImageFile, data: bytes, frame: int, half: bool) -> NDArray[np.uint8]:
        if self._kind == "JPEG" and not self._streams[frame - 1].whole:
            raise UnreadableImage(INCOMPLETE)
        if _is_plain_jpeg(image):
            stream = self._streams[frame - 1]
            return decode_jpeg(data, stream.scan - stream.start, half)
        if self._kind == "PNG":
            _check_png(data)
        image.load()
        if image.mode.startswith("I;16"):
            return np.repeat((np.asarray(image) >> 8).astype(np.uint8)[..., None], 3, axis=2)
        if image.mode not in ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr"):
            raise UnreadableImage(
                "the pixels are of a kind that cannot be screened; export it in grey or colour of 8 or 16 bits"
            )
        return np.asarray(image.convert("RGB"))

    def _find_jpegs(self) -> None:
        """All whole pictures but the thumbnails that an MP index names as such (CIPA DC-007 5.2.3.3)."""
        try:
            streams = find_streams(self._data)
        except TooManyStreams:
            return self.refuse(f"the pictures in this file cannot be told apart with certainty: not analysed. {RESEND}")
        if not streams or streams[0].start != 0:
            raise UnreadableImage(f"the beginning of this JPEG file is damaged. {RESEND}")
        entries = _mp_entries(self._data, streams[0])
        if len(entries) == len(streams):  # by order: Pillow, for one, writes wrong offsets
            entries = [(stream.start, kind) for stream, (_, kind) in zip(streams, entries, strict=True)]
        thumbnails = {start for start, kind in entries if kind >> 16 == 1}
        self._streams = [stream for stream in streams if stream.start not in thumbnails]
        self.pictures = len(self._streams)
        announced = sum(kind >> 16 != 1 for _, kind in entries)
        if self.pictures < announced:
            self.refuse(f"the file announces {announced} pictures, but not all are there: not analysed. {RESEND}")
        elif any(stream.coding == "JPEG 2000" for stream in streams) or other_kind_between(self._data, streams):
            self.refuse(ANOTHER_PICTURE)
        return None

    def _look_for_more_in_png(self) -> None:
        animated, number, end, kind = False, 0, 0, b""
        for number, (kind, _, end) in enumerate(_chunks(self._data), 1):  # noqa: B007
            animated = animated or kind == b"fdAT"
        if number == MAX_CHUNKS:
            self.refuse("the file is a PNG of too many parts to be read. Export it as JPEG or DICOM")
        elif animated or self._data.find(PNG_SIGNATURE, max(end, 1)) > 0:
            self.refuse("the file holds several pictures in one PNG: not analysed. Export each as a file of its own")
        elif kind == b"IEND" and picture_behind(self._data, end):
            self.refuse(ANOTHER_PICTURE)


# ---- JPEG ----------------------------------------------------------------------------------------------------------


def _is_plain_jpeg(image: ImageFile) -> bool:
    return isinstance(image, JpegImageFile) and image.mode in ("RGB", "L")


def decode_jpeg(data: bytes, scan: int, half: bool) -> NDArray[np.uint8]:
    """RGB of a whole JPEG stream, twice as fast as Pillow, or of half its size; orientation is left to the caller.

    Decoders paint missing data in mid-grey and go on. So grey blocks at the right edge (where each row of blocks ends)
    are suspicious: stuffing put at the end of the data is skipped when they are complete, and fills the gap when not.
    `scan`: where the data of the last scan begin.
    """
    pixels = _imdecode(data, half)
    block = 4 if half else 8
    grey = (pixels[:, -block:] == 128).all(axis=(1, 2))
    if len(grey) < block or np.convolve(grey, np.ones(block), "valid").max() == block:
        stuffed = re.sub(rb"\xff[\xd0-\xd7\xd9]", lambda marker: b"\x5a" * 256 + marker[0], data[scan:])
        if not np.array_equal(pixels, _imdecode(data[:scan] + stuffed, half)):
            raise UnreadableImage(f"a part of the picture's data is missing. {RESEND}")
    if half:
        width, height = JpegImageFile(io.BytesIO(data)).size
        pixels = pixels[: height // 2, : width // 2]
    return pixels


def _imdecode(data: bytes, half: bool) -> NDArray[np.uint8]:
    # REDUCED_GRAYSCALE_2 is the bit "half size" alone: REDUCED_COLOR_2 is that and the order BGR.
    size = cv2.IMREAD_REDUCED_GRAYSCALE_2 if half else 0
    pixels = cv2.imdecode(np.frombuffer(data, np.uint8), size | cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION)
    if pixels is None:
        raise UnreadableImage(f"the picture's data are damaged or end early. {RESEND}")
    return np.asarray(pixels, np.uint8)


def other_kind_between(data: bytes, streams: list[Stream]) -> bool:
    """Whether a picture of another kind stands behind one of these, which are all the JPEGs of the data."""
    ends = [*(stream.start for stream in streams[1:]), len(data)]
    return any(
        stream.whole and picture_behind(data[stream.end : end], 0) for stream, end in zip(streams, ends, strict=True)
    )


def _mp_entries(data: bytes, first: Stream) -> list[tuple[int, int]]:
    """Where each picture that the MP index names begins, and its type code; nothing where there is no sound index."""
    if first.mp_index is None:
        return []
    base, end = first.mp_index
    order = {b"II*\0": "little", b"MM\0*": "big"}.get(data[base : base + 4])
    if order is None:
        return []

    def number(at: int, size: int) -> int:
        return int.from_bytes(data[at : min(at + size, end)], order)  # type: ignore[arg-type]

    directory = base + number(base + 4, 4)
    entries = []
    for entry in range(directory + 2, min(directory + 2 + 12 * number(directory, 2), end), 12):
        if number(entry, 2) == 0xB002:  # MP Entry: 16 bytes for each picture
            table, size = base + number(entry + 8, 4), number(entry + 4, 4)
            for at in range(table, min(table + size, end - 15), 16):
                offset = number(at + 8, 4)  # from the index's own beginning; 0 is the first picture
                entries.append((base + offset if offset else 0, number(at, 4) & 0xFFFFFF))
    return entries


# ---- PNG -----------------------------------------------------------------------------------------------------------


def _chunks(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Type, start and end of each whole chunk, to the end chunk."""
    at = len(PNG_SIGNATURE)
    for _ in range(MAX_CHUNKS):
        if at + 12 > len(data):
            return
        end = at + 12 + int.from_bytes(data[at : at + 4], "big")
        if end > len(data):
            return
        yield data[at + 4 : at + 8], at, end
        if data[at + 4 : at + 8] == b"IEND":
            return
        at = end


def _check_png(data: bytes) -> None:
    """Every chunk whole and with its checksum, down to the end chunk (Pillow lets some damage pass)."""
    view, last = memoryview(data), b""
    for kind, start, end in _chunks(data):
        last = kind
        if zlib.crc32(view[start + 4 : end - 4]) != int.from_bytes(view[end - 4 : end], "big"):
            raise UnreadableImage(f"a part of the picture's data is damaged (checksum). {RESEND}")
    if last != b"IEND":
        raise UnreadableImage(INCOMPLETE)


# ---- BMP -----------------------------------------------------------------------------------------------------------


def _end_of_bmp(data: bytes) -> int:
    """Where the pixels end: by their size, or where they are compressed by the file's own length in its header."""

    def number(at: int, size: int) -> int:
        return int.from_bytes(data[at : at + size], "little", signed=size == 4)

    old = number(14, 4) == 12  # OS/2: sides of two bytes each
    width, height = (number(18, 2), number(20, 2)) if old else (number(18, 4), abs(number(22, 4)))
    bits, compression = (number(24, 2), 0) if old else (number(28, 2), number(30, 4))
    if compression in (1, 2, 4, 5):  # RLE, JPEG, PNG
        return max(number(2, 4), 0)
    return max(number(10, 4), 0) + (max(width, 0) * bits + 31) // 32 * 4 * height


# ---- orientation ---------------------------------------------------------------------------------------------------


def _orientation(image: ImageFile) -> int:
    """EXIF orientation, 1 to 8 (1: upright). Pillow turns TIFF by itself, and tells the upright size."""
    if isinstance(image, TiffImageFile):
        return 1
    try:
        value = image.getexif().get(0x0112, 1)
    except Exception:  # damaged EXIF says nothing about the pixels
        return 1
    return value if value in range(1, 9) else 1


def _upright(pixels: NDArray[np.uint8], orientation: int) -> NDArray[np.uint8]:
    """Undo the EXIF orientation (EXIF 2.32, tag 0112)."""
    if orientation >= 5:  # rows and columns are exchanged
        pixels = pixels.transpose(1, 0, 2)
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return pixels
