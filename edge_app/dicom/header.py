"""The header of a DICOM object: found wherever it lies, at a bounded cost, without its pixels."""

import logging
import os
import zlib
from io import BytesIO
from pathlib import Path
from struct import unpack
from typing import BinaryIO, NamedTuple

from pydicom import Dataset
from pydicom.filereader import read_dataset, read_partial
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)
from pydicom.valuerep import EXPLICIT_VR_LENGTH_32

__all__ = ["PatientFacts", "parse_attributes", "patient_facts", "read_attributes"]

HEADER_BYTES = 1 << 20  # that are kept of a header: patient, study, series and image attributes are far smaller
ELEMENT_BYTES = 1 << 16  # and so is each of them
HEADER_ELEMENTS = 10_000  # and they are fewer
NESTED_ELEMENTS = 100_000  # all of them, with those in sequences that are passed over: far under a second
NESTED_LEVELS = 16  # of sequences that are kept: pydicom reads them by recursion
INFLATED_BYTES = 512 << 20  # passed over before the pixels of a deflated data set: a second or two
BLOCK = 1 << 18
UNDEFINED = 0xFFFFFFFF  # length of a value that ends with a delimiter
ITEM, ITEM_END, SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD
LAST_ATTRIBUTE = 0x0028FFFF  # image pixel attributes; palettes, overlays and pixels come after


def parse_attributes(data: bytes | memoryview | BinaryIO, transfer_syntax: str) -> Dataset:
    """The attributes of an encoded data set up to group 0028, without its pixels, however much lies between them.

    Elements of more than ELEMENT_BYTES and private ones are passed over, not read: no attribute that anybody asks for
    is among them. Memory and time are bounded (HEADER_BYTES, HEADER_ELEMENTS, NESTED_ELEMENTS, INFLATED_BYTES), so that
    a hostile object costs little. Raises ValueError beyond these bounds, or whatever pydicom stumbles upon.

    Args:
        data: the data set, or an open file that stands at its beginning.
    """
    syntax = UID(transfer_syntax)
    file = BytesIO(data) if isinstance(data, (bytes, memoryview)) else data
    source = (_Inflated if syntax == DeflatedExplicitVRLittleEndian else _Source)(file)
    implicit, head = _header(source, "<" if syntax.is_little_endian else ">", syntax.is_implicit_VR)
    return read_dataset(BytesIO(head), implicit, syntax.is_little_endian)


def read_attributes(path: Path) -> Dataset:
    """`parse_attributes` of a DICOM file, with or without preamble and file meta information."""
    with path.open("rb") as file:
        head = file.read(2048)
        if head[128:132] == b"DICM" and DeflatedExplicitVRLittleEndian.encode() in head[132:]:
            file.seek(144 + int.from_bytes(head[140:144], "little"))  # PS3.10 7.1: preamble, DICM, group length element
            return parse_attributes(file, DeflatedExplicitVRLittleEndian)
        file.seek(0)
        opened = read_partial(file, stop_when=lambda tag, vr, size: True, force=True)  # the file stands at the data set
        implicit, little = opened.original_encoding
        plain = ImplicitVRLittleEndian if implicit else ExplicitVRLittleEndian if little else ExplicitVRBigEndian
        return parse_attributes(file, plain)


class _Source:
    """An encoded data set in an open file, of which parts are passed over."""

    def __init__(self, file: BinaryIO):
        self._file = file
        self._elements = 0
        self._notes: bytearray | None = None
        self._room = 0

    def element(self, order: str, implicit: bool, first: bool = False) -> "_Element | None":
        """The next one's beginning; None at the end of the data.

        As with pydicom, the `first` tells the coding of all, whatever was said; one without letters for its VR is read
        as implicit (within UN, for one: PS3.5 6.2.2). Raises ValueError after NESTED_ELEMENTS.
        """
        self._elements += 1
        if self._elements > NESTED_ELEMENTS:
            raise ValueError(f"more than {NESTED_ELEMENTS} elements before the pixels")
        head = self.read(8)
        if len(head) < 8:
            return None
        group, number, size = unpack(f"{order}HHL", head)
        letters = all(0x41 <= letter <= 0x5A for letter in head[4:6])
        if group == 0xFFFE or not letters or (implicit and not first):
            return _Element(group << 16 | number, size, True, head)
        if head[4:6].decode() in EXPLICIT_VR_LENGTH_32:
            more = self.read(4)
            if len(more) < 4:
                return None
            return _Element(group << 16 | number, unpack(f"{order}L", more)[0], False, head + more)
        return _Element(group << 16 | number, unpack(f"{order}H", head[6:])[0], False, head)

    def read(self, size: int) -> bytes:
        data = self._read(size)
        if self._notes is not None:
            self._notes += data
            if len(self._notes) > self._room:
                self._notes = None
        return data

    def skip(self, size: int) -> None:
        if self._notes is not None and len(self._notes) + size <= self._room:
            self.read(size)
        else:
            self._notes = None
            self._skip(size)

    def note(self, room: int) -> None:
        """Keeps what is read and passed over from now on, as long as it is at most `room` bytes."""
        self._notes, self._room = bytearray(), room

    def noted(self) -> bytes | None:
        """What `note` kept, None where it was too much; nothing more is kept."""
        notes, self._notes = self._notes, None
        return None if notes is None else bytes(notes)

    def _read(self, size: int) -> bytes:
        return self._file.read(size)

    def _skip(self, size: int) -> None:
        self._file.seek(size, os.SEEK_CUR)


class _Inflated(_Source):
    """A deflated one, inflated as far as it is read: at most INFLATED_BYTES, a block at a time."""

    def __init__(self, file: BinaryIO):
        super().__init__(file)
        self._inflate = zlib.decompressobj(-zlib.MAX_WBITS)
        self._block, self._left = b"", INFLATED_BYTES

    def _read(self, size: int) -> bytes:
        while len(self._block) < size and (more := self._more()):
            self._block += more
        data, self._block = self._block[:size], self._block[size:]
        return data

    def _skip(self, size: int) -> None:
        while size > len(self._block):
            size -= len(self._block)
            self._block = self._more()
            if not self._block:
                return
        self._block = self._block[size:]

    def _more(self) -> bytes:
        """The next block, empty at the end."""
        while not self._inflate.eof and (deflated := self._inflate.unconsumed_tail or self._file.read(BLOCK)):
            if block := self._inflate.decompress(deflated, BLOCK):
                self._left -= len(block)
                if self._left < 0:
                    raise ValueError(f"more than {INFLATED_BYTES} bytes before the pixels")
                return block
        return b""


class _Element(NamedTuple):
    """The beginning of an element or item; `head`: its bytes as they came, before the value."""

    tag: int
    size: int
    implicit: bool
    head: bytes


def _header(source: _Source, order: str, implicit: bool) -> tuple[bool, bytes]:
    """Whether the data set has implicit VR, whatever was said of it; and its small public elements, as they came.

    order: "<" or ">" (`struct`).
    """
    kept = bytearray()
    for number in range(HEADER_ELEMENTS):
        element = source.element(order, implicit, first=number == 0)
        if element is None or element.tag > LAST_ATTRIBUTE:
            return implicit, bytes(kept)
        if number == 0:
            implicit = element.implicit
        room = min(ELEMENT_BYTES, HEADER_BYTES - len(kept))
        value = None
        if element.size == UNDEFINED:
            value = _sequence(source, order, element.implicit, room)
        elif element.size > room:
            source.skip(element.size)
        else:
            value = source.read(element.size)
            if len(value) < element.size:  # the data end within it
                return implicit, bytes(kept)
        if value is not None and not element.tag & 0x10000:  # private groups are odd
            kept += element.head + value
    raise ValueError(f"more than {HEADER_ELEMENTS} elements before the pixels")


def _sequence(source: _Source, order: str, implicit: bool, room: int) -> bytes | None:
    """Passes over a value of undefined length (PS3.5 7.5): its bytes, or None where it is longer than `room` or deeper
    than NESTED_LEVELS. Nothing is parsed by recursion.
    """
    source.note(room)
    inside, deep = [True], False  # of a sequence (True) or of an item, the outermost first
    while inside:
        element = source.element(order, implicit)
        if element is None or (inside[-1] and element.tag not in (ITEM, SEQUENCE_END)):
            raise ValueError("a sequence without an end before the pixels")
        if element.tag in (SEQUENCE_END, ITEM_END):
            inside.pop()
        elif element.size == UNDEFINED:
            inside.append(element.tag != ITEM)
            deep |= len(inside) > 2 * NESTED_LEVELS
        else:
            source.skip(element.size)
    value = source.noted()
    return None if deep else value


class PatientFacts(NamedTuple):
    """Whose picture a DICOM object says it is, named as in a record; None where it does not say."""

    patient_name: str | None
    patient_id: str | None
    birth_date: str | None
    eye: str | None
    study_date: str | None


def patient_facts(path: Path) -> PatientFacts | None:
    """Whose picture a stored object says it is, whatever else is wrong with it; None where it cannot be read."""
    try:
        header = read_attributes(path)
        text = {
            keyword: str(header.get(keyword) or "").strip() or None
            for keyword in (
                "PatientName",
                "PatientID",
                "PatientBirthDate",
                "StudyDate",
                "ImageLaterality",
                "Laterality",
            )
        }
    except Exception as error:  # pydicom raises whatever it stumbles upon
        logging.getLogger(__name__).info("a header cannot be read: %s", type(error).__name__)
        return None
    eye = {"R": "OD", "L": "OS"}.get(text["ImageLaterality"] or text["Laterality"] or "")
    born, day = (_iso_date(text[keyword]) for keyword in ("PatientBirthDate", "StudyDate"))
    return PatientFacts(text["PatientName"], text["PatientID"], born, eye, day)


def _iso_date(value: str | None) -> str | None:
    return f"{value[:4]}-{value[4:6]}-{value[6:]}" if value and len(value) == 8 and value.isdecimal() else value
