"""What receiving and sending DICOM share: classes, coding, header attributes, TLS, time-outs."""

import logging
import ssl
import time
import zlib
from functools import partial
from io import BytesIO
from itertools import count
from pathlib import Path
from typing import Any
from uuid import UUID, uuid5

import pydicom.config
from pydicom import Dataset, dcmread
from pydicom.filereader import read_dataset
from pydicom.uid import (
    JPEG2000,
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLosslessSV1,
    OphthalmicPhotography8BitImageStorage,
    OphthalmicPhotography16BitImageStorage,
    RLELossless,
    SecondaryCaptureImageStorage,
    VLPhotographicImageStorage,
    WideFieldOphthalmicPhotography3DCoordinatesImageStorage,
    WideFieldOphthalmicPhotographyStereographicProjectionImageStorage,
)
from pynetdicom import _config, events
from pynetdicom.association import Association

__all__ = [
    "IMPLEMENTATION_UID",
    "IMPLEMENTATION_VERSION",
    "MAX_PDU",
    "NAMESPACE",
    "STORAGE_CLASSES",
    "TRANSFER_SYNTAXES",
    "client_tls",
    "limit_connection",
    "parse_attributes",
    "read_attributes",
    "reserve_answers",
    "server_tls",
]

NAMESPACE = UUID("6f0ad8cf-4f9b-5f3c-9d0e-2f8f1a6f7c11")  # of all UIDs made here (UUID-derived, PS3.5 B.2)
# Part of every stored file, and so of its hash: the same object must give the same file after an update of the box.
IMPLEMENTATION_UID = UID(f"2.25.{uuid5(NAMESPACE, 'implementation').int}")
IMPLEMENTATION_VERSION = "REALMNET_BOX_1"  # at most 16 characters

STORAGE_CLASSES = (
    OphthalmicPhotography8BitImageStorage,
    OphthalmicPhotography16BitImageStorage,
    WideFieldOphthalmicPhotographyStereographicProjectionImageStorage,
    WideFieldOphthalmicPhotography3DCoordinatesImageStorage,
    SecondaryCaptureImageStorage,
    VLPhotographicImageStorage,
)
TRANSFER_SYNTAXES = (
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    JPEGBaseline8Bit,
    JPEGLosslessSV1,
    JPEG2000Lossless,
    JPEG2000,
    RLELossless,
)

MAX_PDU = 131072  # bytes we ask for in one PDU, the most that dcmtk sends
MAX_ANY_PDU = 1 << 20  # bytes of any PDU: an association request with 128 contexts stays far below
HEADER_BYTES = 4 << 20  # patient, study, series and image attributes end long before
HEADER_ELEMENTS = 10_000  # and are fewer
LAST_ATTRIBUTE = 0x0028FFFF  # image pixel attributes; palettes, overlays and pixels come after

# pynetdicom's own messages may quote what a peer sent. What matters is logged by those who call it.
_config.LOG_HANDLER_LEVEL = "none"
logging.getLogger("pynetdicom").setLevel(logging.CRITICAL + 1)
# Values are the sender's, and pydicom's warnings about them would put patient data on stderr.
pydicom.config.settings.reading_validation_mode = pydicom.config.IGNORE
pydicom.config.settings.writing_validation_mode = pydicom.config.IGNORE
logging.getLogger("pydicom").setLevel(logging.CRITICAL + 1)
logging.getLogger("highdicom").setLevel(logging.CRITICAL + 1)


def parse_attributes(data: bytes | memoryview, transfer_syntax: str) -> Dataset:
    """The attributes of an encoded data set up to group 0028, without its pixels.

    At most HEADER_BYTES and HEADER_ELEMENTS are looked at, also of a deflated data set, so that a hostile object costs
    little. Raises whatever pydicom stumbles upon.
    """
    syntax = UID(transfer_syntax)
    if syntax == DeflatedExplicitVRLittleEndian:
        head = zlib.decompressobj(-zlib.MAX_WBITS).decompress(data, HEADER_BYTES)
    else:
        head = bytes(data[:HEADER_BYTES])
    elements = count(1)

    def last(tag: int, vr: str | None, size: int) -> bool:
        if next(elements) > HEADER_ELEMENTS:
            raise ValueError(f"more than {HEADER_ELEMENTS} elements before the pixels")
        return tag > LAST_ATTRIBUTE

    return read_dataset(BytesIO(head), syntax.is_implicit_VR, syntax.is_little_endian, stop_when=last)


def read_attributes(path: Path) -> Dataset:
    """The attributes of a DICOM file that was screened, without its pixels."""
    with path.open("rb") as file:
        head = file.read(2 * HEADER_BYTES)
    if head[128:132] == b"DICM" and DeflatedExplicitVRLittleEndian.encode() in head[132:2048]:
        length = 144 + int.from_bytes(head[140:144], "little")  # PS3.10 7.1: preamble, DICM, group length element
        return parse_attributes(head[length:], DeflatedExplicitVRLittleEndian)
    return dcmread(path, force=True, stop_before_pixels=True)


def server_tls(certificate: Path, key: Path, authority: Path | None) -> ssl.SSLContext:
    """TLS 1.2 or newer; with `authority`, peers must have a certificate of it. Raises OSError for unusable files."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(certificate, key)
    if authority is not None:
        context.load_verify_locations(authority)
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def client_tls(certificate: Path | None, key: Path | None, authority: Path | None) -> ssl.SSLContext:
    """TLS 1.2 or newer; the peer's certificate must be of `authority` (default: the system's) and of its host."""
    context = ssl.create_default_context(cafile=authority)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if certificate is not None:
        context.load_cert_chain(certificate, key)
    return context


def limit_connection(event: events.Event, seconds: float) -> None:
    """Handler of EVT_CONN_OPEN: no read or write of this connection may take longer, no PDU be larger than sensible.

    pynetdicom itself waits for ever for the rest of a PDU, and takes one of 4 GiB.
    """
    connection: Any = event.assoc.dul.socket
    connection.socket.settimeout(seconds)
    connection.recv = partial(_receive, connection.socket, seconds)


def reserve_answers(association: Association) -> None:
    """For an association that only sends requests: answers go to whoever asked.

    pynetdicom's reactor looks for requests of the peer, and on a busy machine it may take the answer instead (it is
    told to pause, but checks before it looks); the request then fails for want of one.
    """
    dimse: Any = association.dimse
    get = dimse.get_msg
    dimse.get_msg = lambda block=False: get(block) if block else (None, None)


def _receive(peer: Any, seconds: float, size: int) -> bytearray:
    """Up to `size` bytes, fewer if the connection ends. Raises OSError for a peer that is too slow or asks too much."""
    if size > MAX_ANY_PDU:
        raise OSError(f"a PDU of {size} bytes; at most {MAX_ANY_PDU} are taken")
    data, filled, deadline = bytearray(size), 0, time.monotonic() + seconds
    with memoryview(data) as view:
        while filled < size:
            count = peer.recv_into(view[filled:])
            if count == 0:
                break
            filled += count
            if time.monotonic() > deadline:
                raise TimeoutError("the peer sends too slowly")
    del data[filled:]
    return data
