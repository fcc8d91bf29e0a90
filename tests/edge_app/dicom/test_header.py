"""The header of a received object: found whole wherever it lies, and cheap however hostile it is."""

import time
import tracemalloc
import zlib
from contextlib import suppress
from io import BytesIO

import numpy as np
import pytest
from pydicom import Dataset, dcmread
from pydicom.sequence import Sequence
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEGBaseline8Bit,
    RLELossless,
)

from edge_app.dicom import header
from edge_app.dicom.header import parse_attributes, read_attributes
from tests.proofs import peers

SYNTAXES = (
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    ExplicitVRBigEndian,
    DeflatedExplicitVRLittleEndian,
    JPEGBaseline8Bit,
)
SMALL = np.full((64, 80, 3), 90, np.uint8)
MIB = 1 << 20
NOISE = np.random.default_rng(0).bytes(MIB)


def private_value(image: Dataset, mib: int) -> None:
    """A private element of so many MiB before group 0020."""
    image.private_block(0x0011, "MAKER", create=True).add_new(0x01, "OB", NOISE * mib)


def private_sequence(image: Dataset, mib: int) -> None:
    """The same in items of items, all of undefined length."""
    inner = Dataset()
    inner.private_block(0x0013, "MAKER", create=True).add_new(0x01, "OB", NOISE)
    inner.is_undefined_length_sequence_item = True
    outer = Dataset()
    outer.private_block(0x0013, "MAKER", create=True).add_new(0x02, "SQ", Sequence([inner] * mib))
    outer[0x0013, 0x1002].is_undefined_length = True
    outer.is_undefined_length_sequence_item = True
    image.private_block(0x0011, "MAKER", create=True).add_new(0x02, "SQ", Sequence([outer]))
    image[0x0011, 0x1002].is_undefined_length = True


def public_sequence(image: Dataset, mib: int) -> None:
    """A public sequence of defined length that is as large."""
    item = Dataset()
    item.private_block(0x0013, "MAKER", create=True).add_new(0x01, "OB", NOISE * mib)
    image.ReferencedImageSequence = Sequence([item])


def written(image: Dataset, path) -> bytes:
    """The data set of a file of it; pixels may be none of the transfer syntax's, they are not looked at."""
    if image.file_meta.TransferSyntaxUID == ExplicitVRBigEndian:
        image["PixelData"].VR = "OB"
    return peers.encoded(peers.write(image, path))


@pytest.mark.parametrize("syntax", SYNTAXES, ids=lambda uid: uid.keyword)
@pytest.mark.parametrize("add", [private_value, private_sequence, public_sequence])
def test_the_header_is_found_behind_a_large_element(tmp_path, syntax, add):
    mib = 5 if syntax != ExplicitVRLittleEndian else 60
    image = peers.ophthalmic(SMALL, syntax)
    add(image, mib)
    data = written(image, tmp_path / "x.dcm")
    assert len(data) > mib * MIB
    tracemalloc.start()
    found = parse_attributes(BytesIO(data), syntax)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 3 * MIB
    from_file = read_attributes(tmp_path / "x.dcm")
    for keyword in ("SOPInstanceUID", "SOPClassUID", "StudyInstanceUID", "SeriesInstanceUID", "PatientID", "Rows"):
        assert found[keyword].value == from_file[keyword].value == image[keyword].value, keyword
    assert found.ImageLaterality == from_file.ImageLaterality == "R"
    assert found.ImageType == image.ImageType
    assert "PixelData" not in found


def test_a_large_element_is_passed_over_not_read(tmp_path):
    image = peers.ophthalmic(SMALL)
    private_value(image, 20)
    peers.write(image, tmp_path / "x.dcm")

    class Counting(BytesIO):
        total = 0

        def read(self, size=-1):
            data = super().read(size)
            self.total += len(data)
            return data

    file = Counting(peers.encoded(tmp_path / "x.dcm"))
    assert parse_attributes(file, ExplicitVRLittleEndian).StudyInstanceUID == image.StudyInstanceUID
    assert file.total < 10_000


@pytest.mark.parametrize("syntax", [*SYNTAXES, RLELossless], ids=lambda uid: uid.keyword)
def test_small_attributes_are_all_there(tmp_path, syntax):
    image = peers.ophthalmic(SMALL, syntax, SpecificCharacterSet="ISO_IR 192", PatientName="Müller^Jürgen")
    code = Dataset()
    code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = "409898007", "SCT", "Ophthalmic"
    deeper = Dataset()
    deeper.ContextIdentifier = "1"
    code.EquivalentCodeSequence = Sequence([deeper])
    code["EquivalentCodeSequence"].is_undefined_length = True
    code.is_undefined_length_sequence_item = True
    image.AnatomicRegionSequence = Sequence([code, code])
    image["AnatomicRegionSequence"].is_undefined_length = True
    path = peers.write(image, tmp_path / "x.dcm")
    whole = dcmread(path)
    for found in (read_attributes(path), parse_attributes(peers.encoded(path), syntax)):
        wanted = [element for element in whole if element.tag <= 0x0028FFFF]
        assert list(found) == wanted


@pytest.mark.parametrize(("said", "real"), [(SYNTAXES[0], SYNTAXES[1]), (SYNTAXES[1], SYNTAXES[0])])
def test_the_coding_is_told_by_the_data_where_another_was_said(tmp_path, said, real):
    image = peers.ophthalmic(SMALL, real)
    data = peers.encoded(peers.write(image, tmp_path / "x.dcm"))
    assert parse_attributes(data, said).StudyInstanceUID == image.StudyInstanceUID


def test_files_without_preamble_or_meta_information_are_read(tmp_path):
    image = peers.ophthalmic(SMALL)
    contents = peers.write(image, tmp_path / "x.dcm").read_bytes()
    for number, data in enumerate((contents[132:], peers.data_set(contents))):
        path = tmp_path / f"{number}"
        path.write_bytes(data)
        assert read_attributes(path).StudyInstanceUID == image.StudyInstanceUID


def element(tag: int, vr: bytes, size: int, value: bytes = b"") -> bytes:
    """Explicit VR little endian, with a length of 32 bits that may be a lie."""
    group, number = divmod(tag, 1 << 16)
    return (
        group.to_bytes(2, "little") + number.to_bytes(2, "little") + vr + b"\0\0" + size.to_bytes(4, "little") + value
    )


ITEM, OPEN = b"\xfe\xff\x00\xe0", b"\xff\xff\xff\xff"
HOSTILE = {
    "many": element(0x00081080, b"UT", 0) * 200_000,
    "many that are kept": b"".join(element(0x00081080, b"UT", 60_000, b"x" * 60_000) for _ in range(400)),
    "nested": element(0x00081111, b"SQ", 0xFFFFFFFF) + (ITEM + OPEN + element(0x00081111, b"SQ", 0xFFFFFFFF)) * 200_000,
    "items": element(0x00091111, b"SQ", 0xFFFFFFFF) + (ITEM + bytes(4)) * 200_000,
    "sequences": (element(0x00091111, b"SQ", 0xFFFFFFFF) + (ITEM + bytes(4)) * 99 + b"\xfe\xff\xdd\xe0" + bytes(4))
    * 5000,
    "beyond the end": element(0x00081080, b"UT", 0xFFFFFFFE),
    "zeros": bytes(MIB),
    "noise": NOISE * 5,
    "in levels that end": element(0x00081111, b"SQ", 0xFFFFFFFF)
    + (ITEM + OPEN + element(0x00081111, b"SQ", 0xFFFFFFFF)) * 1500
    + (b"\xfe\xff\xdd\xe0" + bytes(4) + b"\xfe\xff\x0d\xe0" + bytes(4)) * 1500
    + b"\xfe\xff\xdd\xe0"
    + bytes(4),
}


@pytest.mark.parametrize("deflated", [False, True], ids=["plain", "deflated"])
@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_header_costs_little(name, deflated):
    data, syntax = HOSTILE[name], ExplicitVRLittleEndian
    if deflated:
        deflate = zlib.compressobj(1, wbits=-15)
        data, syntax = deflate.compress(data) + deflate.flush(), DeflatedExplicitVRLittleEndian
    file = BytesIO(data)
    tracemalloc.start()
    started = time.process_time()
    found = Dataset()
    with suppress(ValueError):
        found = parse_attributes(file, syntax)
    assert "StudyInstanceUID" not in found
    seconds = time.process_time() - started
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 30 * MIB
    assert seconds < 10  # tracing makes it some times slower than it is


def test_a_deflated_bomb_before_the_pixels_is_given_up(monkeypatch):
    monkeypatch.setattr(header, "INFLATED_BYTES", 64 * MIB)
    deflate = zlib.compressobj(9, wbits=-15)
    bomb = deflate.compress(element(0x00091111, b"UT", 0xFFFFFFF0) + bytes(80 * MIB)) + deflate.flush()
    with pytest.raises(ValueError, match="before the pixels"):
        parse_attributes(bomb, DeflatedExplicitVRLittleEndian)
