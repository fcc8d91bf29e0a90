"""Where compressed pictures begin and end inside of bytes, by their own markers: JPEG, JPEG-LS and JPEG 2000.

Nothing else is as certain. A trailer may hold any bytes, an offset table or a number of frames may be wrong, but inside
of a picture's data no byte FF is followed by one that would make it a marker (ITU T.81 B.1.1.5, T.87 A.1, T.800 A.1).
"""

import re
from typing import NamedTuple

__all__ = ["Stream", "TooManyStreams", "find_streams", "starts_stream"]

MAX_STREAMS = 1000  # looked at; real files hold a few
MAX_SEGMENTS = 1000  # of one picture: tables, scans, chunks of colour profiles

JP2 = b"\x00\x00\x00\x0cjP  \r\n\x87\n"
START = re.compile(rb"\xff\xd8\xff[\xc0-\xcf\xdb-\xff]|\xff\x4f\xff\x51|" + re.escape(JP2))
# Not 00 (a data byte FF), RSTn (inside of a scan), FF (fill) or what JPEG reserves and JPEG-LS takes for data.
JPEG_MARKER = re.compile(rb"\xff[\xc0-\xcf\xd8-\xfe]")
HEADER_MARKER = re.compile(rb"\xff{1,1000}[\xc0-\xcf\xd8-\xfe]")  # where a segment begins, after fill bytes
UNTIL_END = re.compile(rb"\xff\xd9|\xff\x4f\xff\x51")  # of JPEG 2000: its end, or the next picture's beginning
SOI, EOI, SOS, APP2 = 0xD8, 0xD9, 0xDA, 0xE2
CODINGS = {0xC3: "JPEG lossless", 0xF7: "JPEG-LS"}  # by frame header SOFn; the others are "JPEG"
NO_FRAME_HEADERS = {0xC4, 0xC8, 0xCC}  # DHT, JPG, DAC lie among SOF0 to SOF15


class Stream(NamedTuple):
    """A compressed picture at `data[start:end]`.

    `coding`: "JPEG", "JPEG lossless", "JPEG-LS" or "JPEG 2000". `whole`: whether its end marker is there. `scan`: where
    the data of a JPEG's last scan begin. `transformed`: whether a JPEG 2000 picture's colours were transformed, so that
    decoding gives RGB. `mp_index`: start and end of the MP index (CIPA DC-007), None without one.
    """

    coding: str
    start: int
    end: int
    whole: bool
    width: int
    height: int
    samples: int
    bits: int
    scan: int = 0
    transformed: bool = False
    mp_index: tuple[int, int] | None = None


class TooManyStreams(Exception):
    """More starts of pictures than can be looked at in reasonable time."""


def starts_stream(data: bytes) -> bool:
    """Whether the first bytes are those of a compressed picture."""
    return START.match(data) is not None


def find_streams(data: bytes) -> list[Stream]:
    """All compressed pictures in `data`, in order; the last ones may lack their end. Thumbnails inside of one are not.

    Raises `TooManyStreams` above MAX_STREAMS candidates.
    """
    found: list[Stream] = []
    at = 0
    for _ in range(MAX_STREAMS):
        start = START.search(data, at)
        if start is None:
            return found
        at = start.start()
        stream = _jpeg(data, at) if data[at + 1] == SOI else _jpeg_2000(data, at)
        if stream is None:
            at += 3
        else:
            found.append(stream)
            at = stream.end
    raise TooManyStreams


def _jpeg(data: bytes, start: int) -> Stream | None:
    """None where these are bytes like others, which begin like a JPEG by chance.

    What is a JPEG but damaged or cut off before its data is a stream without its end, so that a thumbnail in its
    header is not taken for it.
    """
    frame = "JPEG", 0, 0, 0, 0
    mp_index: tuple[int, int] | None = None
    at, scan, whole = start + 2, 0, False
    for segment in range(MAX_SEGMENTS):
        marker = JPEG_MARKER.search(data, at) if scan else HEADER_MARKER.match(data, at)
        if marker is None:
            if scan:
                at = len(data)
            elif at < len(data) and segment < 2 and data[start + 6 : start + 10] not in (b"JFIF", b"Exif"):
                return None
            break
        at, kind = marker.end(), marker[0][-1]
        if kind == EOI:
            whole = True
            break
        if kind == SOI:  # the next picture
            at -= 2
            break
        if not scan and (kind == 0xF7 or (0xC0 <= kind <= 0xCF and kind not in NO_FRAME_HEADERS)):
            height, width = _number(data, at + 3, 2), _number(data, at + 5, 2)
            frame = CODINGS.get(kind, "JPEG"), width, height, _number(data, at + 7, 1), _number(data, at + 2, 1)
        elif kind == APP2 and not scan and data[at + 2 : at + 6] == b"MPF\0":
            mp_index = at + 6, at + _number(data, at, 2)
        at += _number(data, at, 2)
        if kind == SOS:
            scan = at
    whole = whole and scan > 0 and frame[1] > 0
    return Stream(frame[0], start, min(at, len(data)), whole, *frame[1:], scan=scan, mp_index=mp_index)


def _jpeg_2000(data: bytes, start: int) -> Stream | None:
    """A codestream (ISO 15444-1 Annex A), or the one inside of a JP2 file's boxes (Annex I)."""
    at = start
    if data.startswith(JP2, start):
        for _ in range(MAX_SEGMENTS):
            size, kind, header = _number(data, at, 4), data[at + 4 : at + 8], 8
            if size == 1:
                size, header = _number(data, at + 8, 8), 16
            if kind == b"jp2c":
                at += header
                break
            if size < header:
                return None
            at += size
    if data[at : at + 4] != b"\xff\x4f\xff\x51":
        return None
    right, lower, left, upper = (_number(data, at + n, 4) for n in (8, 12, 16, 20))
    samples, bits = _number(data, at + 40, 2), (_number(data, at + 42, 1) & 0x7F) + 1
    at, transformed, whole = at + 2, False, False
    for _ in range(100 * MAX_SEGMENTS):  # tile parts: some writers make thousands
        marker = data[at : at + 2]
        if marker == b"\xff\xd9":
            at, whole = at + 2, True
            break
        if marker == b"\xff\x90":  # SOT: the length of its tile part, 0 for "until the end"
            size = _number(data, at + 6, 4)
            following = UNTIL_END.search(data, at) if size == 0 else None
            if following is None and size < 12:
                break
            at = following.start() if following else at + size
            continue
        if marker[:1] != b"\xff" or len(marker) < 2:
            break
        if marker == b"\xff\x52":  # COD
            transformed = _number(data, at + 8, 1) == 1
        at += 2 + max(_number(data, at + 2, 2), 2)
    if not whole:
        following = START.search(data, start + 4)
        at = following.start() if following else len(data)
    return Stream("JPEG 2000", start, at, whole, right - left, lower - upper, samples, bits, transformed=transformed)


def _number(data: bytes, at: int, size: int) -> int:
    return int.from_bytes(data[at : at + size], "big")
