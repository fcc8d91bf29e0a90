"""DICOM in: a storage SCP that says success only of what is on the disk and in the data base.

The received bytes are kept as they came; nothing is decoded here but the few attributes that identify the object.
docs/dicom.md is its conformance statement.
"""

import ipaddress
import logging
import re
import socket
import sqlite3
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from io import BytesIO
from socketserver import BaseServer
from threading import Lock, Thread
from typing import Any, cast

from pydicom import Dataset
from pynetdicom import AE, events
from pynetdicom.dsutils import create_file_meta, encode_file_meta
from pynetdicom.sop_class import Verification  # type: ignore[attr-defined]
from pynetdicom.transport import AssociationServer

from edge_app.config import Config
from edge_app.dicom import (
    IMPLEMENTATION_UID,
    IMPLEMENTATION_VERSION,
    MAX_PDU,
    STORAGE_CLASSES,
    TRANSFER_SYNTAXES,
    limit_connection,
    parse_attributes,
    server_tls,
)
from edge_app.durable import has_room
from edge_app.store import Store
from keras_realmnet.errors import RealMNetError

__all__ = ["DicomIntake", "start"]

log = logging.getLogger(__name__)

SUCCESS = 0x0000
INVALID_INSTANCE = 0x0117
CLASS_NOT_SUPPORTED = 0x0122
NOT_AUTHORISED = 0x0124
OUT_OF_RESOURCES = 0xA700
MISMATCH = 0xA900
CANNOT_UNDERSTAND = 0xC000

UID_PATTERN = re.compile(r"[0-9][0-9.]{0,63}")  # what devices send is not always conformant, but digits and dots it is
DRAIN_SECONDS = 20.0
ABORT_SECONDS = 2.0


class _Refused(Exception):
    """Why an object is not taken: its DICOM status and a text without patient data (at most 64 characters)."""

    def __init__(self, status: int, reason: str):
        super().__init__(reason)
        self.status, self.reason = status, reason


class _Discarded(BytesIO):
    """Takes the place of a data set that is not wanted: what still comes of it is not kept."""

    def __init__(self, refused: _Refused):
        super().__init__()
        self.refused = refused

    def write(self, data: Any) -> int:
        return len(data)


def start(config: Config, store: Store) -> "DicomIntake":
    """Listens for associations in the background until `stop`.

    Raises:
        RealMNetError: the port is taken, or a TLS file is missing or unusable.
    """
    return DicomIntake(config, store)


class DicomIntake:
    """A running storage SCP."""

    def __init__(self, config: Config, store: Store):
        self.config, self.store = config, store
        self._stores = 0  # C-STORE requests being answered
        self._lock = Lock()
        self._writer = ThreadPoolExecutor(1, "dicom-intake")  # one connection to the data base for all associations
        settings = config.dicom
        entity = AE(settings.ae_title)
        entity.require_called_aet = settings.require_called_ae_title
        entity.maximum_associations = settings.max_associations
        entity.maximum_pdu_size = MAX_PDU
        entity.acse_timeout = settings.acse_timeout_seconds
        entity.dimse_timeout = settings.dimse_timeout_seconds
        entity.network_timeout = settings.network_timeout_seconds
        entity.implementation_class_uid = IMPLEMENTATION_UID
        entity.implementation_version_name = IMPLEMENTATION_VERSION
        entity.add_supported_context(Verification)
        for storage_class in STORAGE_CLASSES:
            entity.add_supported_context(storage_class, list(TRANSFER_SYNTAXES))
        try:
            tls = None
            if settings.tls_certificate is not None and settings.tls_key is not None:
                tls = server_tls(settings.tls_certificate, settings.tls_key, settings.tls_ca)
            self._server = _Server(
                entity,
                (settings.host, settings.port),
                settings.ae_title,
                entity.supported_contexts,
                tls,
                [
                    (events.EVT_CONN_OPEN, partial(limit_connection, seconds=settings.network_timeout_seconds)),
                    (events.EVT_CONN_CLOSE, _forget),
                    (events.EVT_PDU_RECV, self._watch),
                    (events.EVT_C_ECHO, lambda event: SUCCESS),
                    (events.EVT_C_STORE, self._answer),
                ],
            )
        except (OSError, ValueError) as error:
            raise RealMNetError(f"DICOM on {settings.host} port {settings.port} cannot start: {error}") from error
        self._server.accepts = partial(_accepts, settings.allowed_hosts, 2 * settings.max_associations)
        self._thread = Thread(target=self._server.serve_forever, args=(0.1,), name="dicom-intake", daemon=True)
        self._thread.start()
        log.info("DICOM: %s listens on port %d%s", settings.ae_title, self.port, " with TLS" if tls else "")

    @property
    def port(self) -> int:
        """The port it listens on."""
        return int(self._server.server_address[1])

    @property
    def associations(self) -> int:
        """How many are open."""
        return len(self._server.active_associations)

    def stop(self, seconds: float = DRAIN_SECONDS) -> None:
        """Takes no more associations, lets objects that are under way arrive, then ends what is left."""
        self._server.stop_listening()
        self._thread.join()
        deadline = time.monotonic() + seconds
        while self._receiving() and time.monotonic() < deadline:
            time.sleep(0.02)
        for association in self._server.active_associations:
            if association.is_established:
                association.abort(block=False)
        self._ended(ABORT_SECONDS)
        for association in self._server.active_associations:  # its peer has stalled, or said nothing at all
            with suppress(OSError, AttributeError):  # it has just ended
                connection: Any = association.dul.socket
                socket.socket.shutdown(connection.socket, socket.SHUT_RD)
        self._ended(ABORT_SECONDS)
        self._writer.submit(self.store.close)
        self._writer.shutdown()

    def _ended(self, seconds: float) -> None:
        """Waits for all associations to end."""
        deadline = time.monotonic() + seconds
        while self._server.active_associations and time.monotonic() < deadline:
            time.sleep(0.02)

    def _receiving(self) -> bool:
        return self._stores > 0 or any(each.dimse.message is not None for each in self._server.active_associations)

    def _watch(self, event: events.Event) -> None:
        """Handler of every received PDU: stops keeping a data set that will not be taken."""
        message: Any = event.assoc.dimse.message
        if message is None or isinstance(message.data_set, _Discarded):
            return
        if not self._authorised(event):
            message.data_set = _Discarded(_Refused(NOT_AUTHORISED, "this calling AE title may not store here"))
        elif message.data_set.tell() > self.config.dicom.max_object_mb << 20:
            message.data_set = _Discarded(_Refused(OUT_OF_RESOURCES, "the object is larger than this box accepts"))

    def _authorised(self, event: events.Event) -> bool:
        allowed = self.config.dicom.allowed_ae_titles
        return not allowed or _caller(event) in {title.strip() for title in allowed}

    def _answer(self, event: events.Event) -> Dataset:
        """Handler of C-STORE: the status of `_take`. Nothing is raised, whatever came."""
        with self._lock:
            self._stores += 1
        try:
            self._take(event)
            return _status(SUCCESS)
        except _Refused as refused:
            status, reason = refused.status, refused.reason
        except (OSError, sqlite3.Error, MemoryError) as error:
            status, reason = OUT_OF_RESOURCES, f"the object cannot be stored ({type(error).__name__})"
        except Exception as error:
            status, reason = CANNOT_UNDERSTAND, f"the object cannot be read ({type(error).__name__})"
        finally:
            with self._lock:
                self._stores -= 1
        log.warning("DICOM: object from %r refused with %04X: %s", _caller(event), status, reason)
        return _status(status, reason)

    def _take(self, event: events.Event) -> None:
        """Returns when the object is durable: its file, the file's name, and its row in the data base."""
        request: Any = event.request
        context = event.context
        received = request.DataSet
        if isinstance(received, _Discarded):
            raise received.refused
        if not self._authorised(event):
            raise _Refused(NOT_AUTHORISED, "this calling AE title may not store here")
        if request.AffectedSOPClassUID != context.abstract_syntax:
            raise _Refused(CLASS_NOT_SUPPORTED, "not the SOP class of this presentation context")
        if received is None or not received.getbuffer().nbytes:
            raise _Refused(CANNOT_UNDERSTAND, "there is no data set")
        data = received.getbuffer()
        if data.nbytes > self.config.dicom.max_object_mb << 20:
            raise _Refused(OUT_OF_RESOURCES, "the object is larger than this box accepts")
        if not has_room(self.store.data_dir, self.config.disk.free_mb, data.nbytes):
            raise _Refused(OUT_OF_RESOURCES, "the disk is full")
        instance, study = _identify(parse_attributes(data, context.transfer_syntax), request)
        meta = create_file_meta(
            sop_class_uid=request.AffectedSOPClassUID,
            sop_instance_uid=request.AffectedSOPInstanceUID,
            transfer_syntax=context.transfer_syntax,
            implementation_uid=IMPLEMENTATION_UID,
            implementation_version=IMPLEMENTATION_VERSION,
        )
        head = b"\0" * 128 + b"DICM" + encode_file_meta(meta)
        sha256, size = self.store.keep_object((head, data), "dcm")
        add = partial(
            self.store.add_item,
            source="dicom",
            origin=_caller(event),
            sha256=sha256,
            extension="dcm",
            file_name="",
            bytes=size,
            sop_instance_uid=instance,
            sop_class_uid=str(request.AffectedSOPClassUID),
            study_uid=study,
        )
        item, new = self._writer.submit(add).result()
        log.info("DICOM: item %d from %r%s", item.id, _caller(event), "" if new else ", known already")


class _Server(AssociationServer):
    """pynetdicom's, with a say in who may connect. Each association is a thread; no peer can hold up the others."""

    accepts: Callable[[str, int], bool]

    def get_request(self) -> tuple[socket.socket, Any]:
        peer, address = cast("socket.socket", self.socket).accept()
        if self.ssl_context:  # the handshake comes with the first read, in the association's own thread
            peer = self.ssl_context.wrap_socket(peer, server_side=True, do_handshake_on_connect=False)
        return peer, address

    def verify_request(self, request: Any, client_address: Any) -> bool:
        return self.accepts(client_address[0], len(self.active_associations))

    def handle_error(self, request: Any, client_address: Any) -> None:
        log.warning("DICOM: a connection failed", exc_info=True)

    def stop_listening(self) -> None:
        BaseServer.shutdown(self)  # pynetdicom's own also deregisters what `AE.start_server` has registered
        self.server_close()


def _accepts(networks: tuple[str, ...], most: int, host: str, connected: int) -> bool:
    """Whether a connection is taken at all; `most` leaves room for associations that are rejected politely."""
    address = ipaddress.ip_address(host)
    if networks and not any(address in ipaddress.ip_network(network, strict=False) for network in networks):
        log.warning("DICOM: connection from %s refused: not an allowed address", host)
        return False
    if connected >= most:
        log.warning("DICOM: connection from %s refused: %d are open", host, connected)
        return False
    return True


def _forget(event: events.Event) -> None:
    """Handler of EVT_CONN_CLOSE: pynetdicom would wait on for the request of a peer that has left without one."""
    if event.assoc.requestor.primitive is None:
        event.assoc.dul.to_user_queue.put(cast("Any", None))


def _identify(attributes: Dataset, request: Any) -> tuple[str, str]:
    """SOP Instance and Study Instance UID of the data set, which must agree with the request."""
    uids = {}
    for keyword in ("SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID", "SOPClassUID"):
        uids[keyword] = str(attributes.get(keyword) or "").strip()
        if not UID_PATTERN.fullmatch(uids[keyword]):
            raise _Refused(INVALID_INSTANCE, f"{keyword} is missing or not a UID")
    if uids["SOPInstanceUID"] != request.AffectedSOPInstanceUID:
        raise _Refused(INVALID_INSTANCE, "the SOP Instance UIDs of request and data set differ")
    if uids["SOPClassUID"] != request.AffectedSOPClassUID:
        raise _Refused(MISMATCH, "the SOP Class UIDs of request and data set differ")
    return uids["SOPInstanceUID"], uids["StudyInstanceUID"]


def _caller(event: events.Event) -> str:
    return str(event.assoc.requestor.ae_title).strip()


def _status(status: int, reason: str = "") -> Dataset:
    answer = Dataset()
    answer.Status = status
    if reason:
        answer.ErrorComment = reason[:64]
    return answer
