"""Formats told by their first bytes, and whether such bytes follow where a picture ends."""

import re

from keras_realmnet.screening.image_io.streams import TooManyStreams, find_streams, starts_stream

__all__ = ["ANOTHER_PICTURE", "PNG_SIGNATURE", "format_of", "picture_behind"]

ANOTHER_PICTURE = "another picture begins behind the end of this one: not analysed. Export each as a file of its own"
PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
NO_PADDING = re.compile(rb"[^\0\xff \t\r\n]")
BMP_HEADERS = (12, 40, 52, 56, 64, 108, 124)  # sizes of the headers that BMP has had
# An element of group 0008 with its VR, or with a short length.
DATA_SET = re.compile(rb"\x08\0[\0-\x18]\0([A-Z]{2}|[\0-\x40]\0\0\0)")


def format_of(data: bytes) -> str | None:
    """ "JPEG", "PNG", "TIFF", "BMP" or "DICOM"; None for anything else."""
    if data[128:132] == b"DICM":
        return "DICOM"
    for magic, name in (
        (b"\xff\xd8\xff", "JPEG"),
        (PNG_SIGNATURE, "PNG"),
        (b"II*\x00", "TIFF"),
        (b"MM\x00*", "TIFF"),
        (b"II+\x00", "TIFF"),  # BigTIFF
        (b"MM\x00+", "TIFF"),
        (b"BM", "BMP"),
        (b"\x02\x00\x00\x00UL", "DICOM"),  # file meta information without a preamble
    ):
        if data.startswith(magic):
            return name
    # A bare DICOM data set begins with group 0008 (at an element not above 0018, SOP Instance UID).
    if data[:2] == b"\x08\x00" and len(data) > 16 and data[2] <= 0x18 and data[3] == 0:
        return "DICOM"
    return None


def picture_behind(data: bytes, end: int) -> bool:
    """Whether a picture follows where another one ends: directly or after padding; JPEG and PNG also further on.

    A trailer of a camera or a scanner is none.
    """
    first = NO_PADDING.search(data, end)
    if first is None:
        return False
    at = first.start()
    # Some begin with what looks like padding: JPEG with FF, JP2 with three zeros, DICOM with a preamble.
    if any(_begins_picture(data[start : start + 132]) for start in range(max(at - 3, end), at + 1)):
        return True
    if data.find(b"DICM", end, at + 132) >= 0 or data.find(PNG_SIGNATURE, at) >= 0:
        return True
    try:
        return any(stream.whole for stream in find_streams(data[max(at - 3, end) :]))
    except TooManyStreams:
        return True


def _begins_picture(data: bytes) -> bool:
    """As `format_of`, but by more bytes where few are enough for a whole file; and JPEG 2000."""
    kind = format_of(data)
    if kind == "BMP":
        return int.from_bytes(data[14:18], "little") in BMP_HEADERS
    if kind == "DICOM" and data[:2] == b"\x08\0":
        return DATA_SET.match(data) is not None
    return kind is not None or starts_stream(data)
