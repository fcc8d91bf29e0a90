"""Ways to a destination: a folder, or a peer that takes DICOM."""

import ssl
from contextlib import AbstractContextManager
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import Protocol

from pydicom import dcmread
from pydicom.uid import (
    Comprehensive3DSRStorage,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    SecondaryCaptureImageStorage,
    SegmentationStorage,
)
from pynetdicom import AE, events
from pynetdicom.association import Association

from edge_app.config import Destination
from edge_app.dicom.compat import reserve_answers
from edge_app.dicom.connections import client_tls, limit_connection
from edge_app.dicom.identifiers import IMPLEMENTATION_UID, IMPLEMENTATION_VERSION
from edge_app.store.durable import move_durably, temporary_file
from keras_realmnet.errors import RealMNetError

__all__ = ["Channel", "Failed", "Opener", "Unreachable", "opener"]

DUPLICATE_INSTANCE = 0x0111  # PS3.7 C.5.5: the peer has it, from an attempt whose answer was lost


class Failed(Exception):
    """This result was not taken; another one may be."""


class Unreachable(Exception):
    """Nothing can be sent there at the moment."""


class Channel(Protocol):
    """An opened way to a destination."""

    def send(self, content: bytes, name: str) -> None:
        """Returns when the result has arrived. Raises Failed or Unreachable."""


class Opener(Protocol):
    """Opens a channel, for as many results as are due. To enter it raises Unreachable."""

    def __call__(self) -> AbstractContextManager[Channel]: ...


def opener(destination: Destination) -> Opener:
    """How this destination is reached. Raises RealMNetError for TLS files that cannot be used."""
    if destination.kind == "folder":
        return partial(FolderChannel, destination)
    tls = None
    if destination.tls_ca is not None or destination.tls_certificate is not None:
        try:
            tls = client_tls(destination.tls_certificate, destination.tls_key, destination.tls_ca)
        except (OSError, ValueError) as error:
            raise RealMNetError(f"destination {destination.name}: TLS cannot be used: {error}") from error
    entity = AE(destination.calling_ae_title)
    entity.implementation_class_uid = IMPLEMENTATION_UID
    entity.implementation_version_name = IMPLEMENTATION_VERSION
    entity.acse_timeout = entity.dimse_timeout = destination.timeout_seconds
    entity.connection_timeout = destination.timeout_seconds
    entity.network_timeout = None  # of an idle association: results take their time; each read and write has its own
    for storage_class in (Comprehensive3DSRStorage, SecondaryCaptureImageStorage, SegmentationStorage):
        entity.add_requested_context(storage_class, [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
    return partial(DicomChannel, destination, entity, None if tls is None else (tls, str(destination.host)))


class FolderChannel:
    """Files in a folder, each complete as soon as it has its name."""

    def __init__(self, destination: Destination):
        self._path = Path(destination.path or "")

    def __enter__(self) -> "FolderChannel":
        if not self._path.is_dir():  # never made here: it may be a share that is away
            raise Unreachable("the folder is not there")
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def send(self, content: bytes, name: str) -> None:
        try:
            with temporary_file(self._path, name) as temporary:  # nobody else tidies up there after a crash
                temporary.write(content)
                move_durably(temporary, self._path / name)
        except OSError as error:
            raise Unreachable(f"the file cannot be written ({error.strerror})") from error


class DicomChannel:
    """C-STORE over one association for as many results as are due."""

    def __init__(self, destination: Destination, entity: AE, tls: tuple[ssl.SSLContext, str] | None):
        self._destination, self._entity, self._tls = destination, entity, tls

    def __enter__(self) -> "DicomChannel":
        destination = self._destination
        self._association: Association = self._entity.associate(
            str(destination.host),
            int(destination.port or 0),
            ae_title=str(destination.ae_title),
            tls_args=self._tls,
            evt_handlers=[(events.EVT_CONN_OPEN, partial(limit_connection, seconds=destination.timeout_seconds))],
        )
        reserve_answers(self._association)
        if not self._association.is_established:
            rejected = self._association.is_rejected
            raise Unreachable("the association was rejected" if rejected else "no association")
        return self

    def __exit__(self, *error: object) -> None:
        if self._association.is_established:
            self._association.release()

    def send(self, content: bytes, name: str) -> None:
        result = dcmread(BytesIO(content))
        try:
            answer = self._association.send_c_store(result)
        except ValueError as error:  # no context was accepted for this class
            raise Failed(f"the peer does not take {result.SOPClassUID.name}") from error
        except RuntimeError as error:
            raise Unreachable("the association ended") from error
        if "Status" not in answer:
            self._association.abort()
            raise Unreachable("no answer, or the association was aborted")
        status = int(answer.Status)
        if status >> 12 != 0xB and status not in (0x0000, DUPLICATE_INSTANCE):  # B: stored, with a warning
            raise Failed(f"status {status:04X}")
