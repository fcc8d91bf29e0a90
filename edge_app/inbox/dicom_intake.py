"""DICOM in: a storage SCP that says success only of what is on the disk and in the data base.

The received bytes are kept as they came; nothing is decoded here but the few attributes that identify the object. What
is no ophthalmic picture is noted in the audit trail and dropped, so that its sender goes on with the pictures.
docs/dicom.md is its conformance statement.
"""

import ipaddress
import logging
import re
import socket
import sqlite3
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from io import BytesIO
from pathlib import Path
from threading import Lock, Thread
from typing import Any, cast

from pydicom import Dataset
from pydicom.uid import UID
from pynetdicom import build_context, events
from pynetdicom.association import Association
from pynetdicom.dsutils import create_file_meta, encode_file_meta
from pynetdicom.pdu_primitives import SOPClassCommonExtendedNegotiation
from pynetdicom.sop_class import Verification  # type: ignore[attr-defined]
from pynetdicom.transport import AssociationServer

from edge_app.config import Config
from edge_app.config import Dicom as DicomSettings
from edge_app.dicom import compat
from edge_app.dicom.connections import MAX_PDU, hang_up, limit_connection, server_tls
from edge_app.dicom.header import parse_attributes
from edge_app.dicom.identifiers import IMPLEMENTATION_UID, IMPLEMENTATION_VERSION, STORAGE_CLASSES, TRANSFER_SYNTAXES
from edge_app.dicom.own_results import is_own_result
from edge_app.store.durable import has_room
from edge_app.store.items import Incoming
from edge_app.store.store import Store
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
STORAGE_SERVICE = "1.2.840.10008.4.2"
OWN = "a result of this software"  # the kind of the box's own objects that come back
BEGINNING = 1 << 16  # bytes that are looked at of an object that is dropped: its UIDs come first
MAX_COMMAND = 1 << 16  # bytes of a request without its data set; 64 of them are UIDs
MAX_WAITING = 8  # requests of an association that wait for their answer; more than one is not even allowed
DRAIN_SECONDS = 20.0
ABORT_SECONDS = 2.0


class _Refused(Exception):
    """Why an object is not taken: its DICOM status and a text without patient data (at most 64 characters)."""

    def __init__(self, status: int, reason: str):
        super().__init__(reason)
        self.status, self.reason = status, reason


class _Arriving(BytesIO):
    """Takes the place of a data set while it comes, so that none is kept in memory.

    Nothing is raised while it comes, when nobody could answer: `failure` is what stopped it, the rest is not kept.
    """

    def __init__(self, limit_mb: int, failure: Exception | None = None):
        super().__init__()
        self.size, self.failure = 0, failure
        self._limit = limit_mb << 20

    def write(self, data: Any) -> int:
        if self.failure is None:
            try:
                self.size += len(data)
                if self.size > self._limit:
                    raise _Refused(OUT_OF_RESOURCES, "the object is larger than this box accepts")
                self._keep(data)
            except Exception as error:
                self.give_up(error)
        return len(data)

    def give_up(self, failure: Exception) -> None:
        """What has come is let go."""
        self.failure = self.failure or failure
        self.let_go()

    def let_go(self) -> None:
        """Leaves nothing behind but what was kept on purpose."""

    def _keep(self, data: bytes) -> None:
        raise NotImplementedError


class _ArrivingPicture(_Arriving):
    """Goes into a file, behind the file meta information (`head`)."""

    def __init__(self, limit_mb: int, head: bytes, data_dir: Path, free_mb: int):
        super().__init__(limit_mb)
        self.head, self._data_dir, self._free_mb = head, data_dir, free_mb
        self.incoming = Incoming(data_dir)

    def let_go(self) -> None:
        with suppress(OSError):  # of a full disk: what was not written yet
            self.incoming.close()

    def _keep(self, data: bytes) -> None:
        if not has_room(self._data_dir, self._free_mb, len(data)):
            raise _Refused(OUT_OF_RESOURCES, "the disk is full")
        if not self.incoming.size:
            self.incoming.write(self.head)
        self.incoming.write(data)


class _ArrivingOther(_Arriving):
    """No picture: only its beginning is looked at."""

    def __init__(self, limit_mb: int):
        super().__init__(limit_mb)
        self.beginning = b""

    def _keep(self, data: bytes) -> None:
        self.beginning += bytes(data[: BEGINNING - len(self.beginning)])


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
        self._under_way: dict[Association, list[_Arriving]] = {}  # until they are answered
        self._lock = Lock()
        self._writer = ThreadPoolExecutor(1, "dicom-intake")  # one connection to the data base for all associations
        settings = config.dicom
        entity = compat.Entity(settings.ae_title)
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
        others = ((events.EVT_REQUESTED, _offer_others), (events.EVT_SOP_COMMON, _serve_others))
        try:
            tls = None
            if settings.tls_certificate is not None and settings.tls_key is not None:
                tls = server_tls(settings.tls_certificate, settings.tls_key, settings.tls_ca)
            self._server = _Server(
                settings,
                entity,
                (settings.host, settings.port),
                settings.ae_title,
                entity.supported_contexts,
                tls,
                [
                    (events.EVT_CONN_OPEN, partial(limit_connection, seconds=settings.network_timeout_seconds)),
                    (events.EVT_CONN_CLOSE, self._forget),
                    (events.EVT_PDU_RECV, self._watch),
                    (events.EVT_C_ECHO, lambda event: SUCCESS),
                    (events.EVT_C_STORE, self._answer),
                    *(others if settings.accept_other_objects else ()),
                ],
            )
        except (OSError, ValueError) as error:
            raise RealMNetError(f"DICOM on {settings.host} port {settings.port} cannot start: {error}") from error
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
        compat.stop_listening(self._server)
        self._thread.join()
        deadline = time.monotonic() + seconds
        while self._receiving() and time.monotonic() < deadline:
            time.sleep(0.02)
        for association in self._server.active_associations:
            if association.is_established:
                association.abort(block=False)
        self._ended(ABORT_SECONDS)
        for association in self._server.active_associations:  # its peer has stalled, or said nothing at all
            hang_up(association)
        self._ended(ABORT_SECONDS)
        self._writer.submit(self.store.close)
        self._writer.shutdown()

    def _ended(self, seconds: float) -> None:
        """Waits for all associations to end."""
        deadline = time.monotonic() + seconds
        while self._server.active_associations and time.monotonic() < deadline:
            time.sleep(0.02)

    def _receiving(self) -> bool:
        return self._stores > 0 or any(
            compat.message_under_way(each) is not None for each in self._server.active_associations
        )

    def _watch(self, event: events.Event) -> None:
        """Handler of every received PDU: sees to it that no data set is kept in memory while it comes."""
        message = compat.message_under_way(event.assoc)
        if compat.unanswered_requests(event.assoc) > MAX_WAITING:
            log.warning("DICOM: %r does not wait for answers: aborted", _caller(event))
            event.assoc.abort()
        elif message is None or isinstance(message.data_set, _Arriving):
            return
        elif message.command_bytes > MAX_COMMAND:
            log.warning("DICOM: %r sends a command without an end: aborted", _caller(event))
            event.assoc.abort()
        elif message.context_id is not None:  # its command has come
            began = message.data_set.getvalue()
            arriving = self._arriving(event.assoc, message.context_id, *message.affected_uids)
            message.data_set = arriving
            arriving.write(began)

    def _arriving(self, association: Association, context_id: int | None, sop_class: Any, instance: Any) -> _Arriving:
        """For the data set of a request; one that will be refused is not kept. Nothing is raised."""
        limit = self.config.dicom.max_object_mb
        try:
            context = next((each for each in association.accepted_contexts if each.context_id == context_id), None)
            if not self._authorised(association):
                raise _Refused(NOT_AUTHORISED, "this calling AE title may not store here")
            if context is None or sop_class != context.abstract_syntax:
                raise _Refused(CLASS_NOT_SUPPORTED, "not the SOP class of this presentation context")
            if not isinstance(instance, str) or not UID_PATTERN.fullmatch(instance):
                raise _Refused(INVALID_INSTANCE, "SOPInstanceUID is missing or not a UID")
            if sop_class not in STORAGE_CLASSES:
                arriving: _Arriving = _ArrivingOther(limit)
            else:
                head = _file_head(sop_class, instance, context.transfer_syntax[0])
                arriving = _ArrivingPicture(limit, head, self.store.data_dir, self.config.disk.free_mb)
        except Exception as error:
            return _Arriving(limit, error)
        with self._lock:
            self._under_way.setdefault(association, []).append(arriving)
        return arriving

    def _take_over(self, association: Association, arriving: _Arriving) -> None:
        """What has come whole is let go by who answers, no longer with the connection."""
        with self._lock:
            under_way = self._under_way.get(association, [])
            if arriving in under_way:
                under_way.remove(arriving)
            if not under_way:
                self._under_way.pop(association, None)

    def _forget(self, event: events.Event) -> None:
        """Handler of EVT_CONN_CLOSE: lets go of what was under way."""
        with self._lock:
            under_way = self._under_way.pop(event.assoc, [])
        for arriving in under_way:
            arriving.give_up(_Refused(OUT_OF_RESOURCES, "the connection ended"))
        if event.assoc.requestor.primitive is None:
            compat.stop_waiting_for_request(event.assoc)

    def _authorised(self, association: Association) -> bool:
        allowed = self.config.dicom.allowed_ae_titles
        return not allowed or _title(association) in {title.strip() for title in allowed}

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
        """Returns when the object is durable: its file, the file's name, and its row in the data base; or, where it is
        not kept, its line in the audit trail.
        """
        request: Any = event.request
        received = request.DataSet
        if not isinstance(received, _Arriving):  # it came as a whole, with its command
            whole = b"" if received is None else received.getvalue()
            uids = request.AffectedSOPClassUID, request.AffectedSOPInstanceUID
            received = self._arriving(event.assoc, event.context.context_id, *uids)
            received.write(whole)
        self._take_over(event.assoc, received)
        try:
            if received.failure is not None:
                raise received.failure
            if not received.size:
                raise _Refused(CANNOT_UNDERSTAND, "there is no data set")
            if isinstance(received, _ArrivingPicture):
                self._take_picture(event, received)
            elif isinstance(received, _ArrivingOther):
                _contradicts(received.beginning, event.context.transfer_syntax, request)
                own = self._is_own(request.AffectedSOPInstanceUID)
                self._drop(event, OWN if own else _class_name(request.AffectedSOPClassUID))
        finally:
            received.let_go()

    def _take_picture(self, event: events.Event, received: _ArrivingPicture) -> None:
        request, context = cast("Any", event.request), event.context
        file = received.incoming.file
        file.seek(len(received.head))
        attributes = parse_attributes(file, context.transfer_syntax)
        instance, study = _identify(attributes, request)
        if is_own_result(attributes) or self._is_own(instance):
            self._drop(event, OWN)
            return
        sha256, size = received.incoming.keep("dcm")
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

    def _is_own(self, instance: str) -> bool:
        return self._writer.submit(self.store.is_own_result, instance).result()

    def _drop(self, event: events.Event, kind: str) -> None:
        self._writer.submit(self.store.drop_object, kind, _caller(event)).result()
        log.info("DICOM: received and dropped: %s, from %r", kind, _caller(event))


class _Server(AssociationServer):
    """pynetdicom's, with a say in who may connect. Each association is a thread; no peer can hold up the others.

    A connection that has no association (not yet, no longer, or it was rejected) ends after `acse_timeout_seconds`,
    whatever comes on it; and gives way to the next where there are twice `max_associations` connections, which leaves
    room for associations that are rejected politely.
    """

    def __init__(self, settings: DicomSettings, *arguments: Any):
        self._settings = settings
        self._waiting: dict[Association, float] = {}  # without an association, since when
        self._ended: set[Association] = set()  # by us, their threads still run
        super().__init__(*arguments)

    def get_request(self) -> tuple[socket.socket, Any]:
        peer, address = cast("socket.socket", self.socket).accept()
        if self.ssl_context:  # the handshake comes with the first read, in the association's own thread
            peer = self.ssl_context.wrap_socket(peer, server_side=True, do_handshake_on_connect=False)
        return peer, address

    def verify_request(self, request: Any, client_address: Any) -> bool:
        """Whether a connection is taken at all."""
        host, networks = client_address[0], self._settings.allowed_hosts
        address = ipaddress.ip_address(host)
        if networks and not any(address in ipaddress.ip_network(network, strict=False) for network in networks):
            log.warning("DICOM: connection from %s refused: not an allowed address", host)
            return False
        connected = self._look()
        if connected >= 2 * self._settings.max_associations and not self._make_room():
            log.warning("DICOM: connection from %s refused: %d are open", host, connected)
            return False
        return True

    def service_actions(self) -> None:
        """Called after every connection and every poll."""
        super().service_actions()
        self._look()
        late = time.monotonic() - self._settings.acse_timeout_seconds
        for association in [each for each, since in self._waiting.items() if since < late]:
            self._end(association, "no association in time")

    def _look(self) -> int:
        """Brings `_waiting` up to date; how many connections there are."""
        running, now = set(self.active_associations), time.monotonic()
        self._ended &= running
        connected = running - self._ended
        self._waiting = {each: self._waiting.get(each, now) for each in connected if not each.is_established}
        return len(connected)

    def _make_room(self) -> bool:
        """Ends the connection that has waited the longest, of the address that has the most of them."""
        if not self._waiting:
            return False
        held = Counter(map(_host, self._waiting))
        self._end(
            max(self._waiting, key=lambda each: (held[_host(each)], -self._waiting[each])), "it gives way to the next"
        )
        return True

    def _end(self, association: Association, reason: str) -> None:
        log.warning("DICOM: connection from %s ended: %s", _host(association), reason)
        del self._waiting[association]
        self._ended.add(association)
        hang_up(association)

    def handle_error(self, request: Any, client_address: Any) -> None:
        log.warning("DICOM: a connection failed", exc_info=True)


def _host(association: Association) -> str:
    address: Any = association.requestor.address_info
    return str(address.address)


def _offer_others(event: events.Event) -> None:
    """Handler of EVT_REQUESTED: accepts every storage class that is proposed, in any transfer syntax.

    What is no public SOP class is taken for one, as Orthanc does with UnknownSopClassAccepted.
    """
    acceptor = event.assoc.acceptor
    supported = acceptor.supported_contexts
    others = {
        uid: build_context(uid, [*syntaxes])
        for uid, syntaxes in _proposed(event.assoc).items()
        if uid not in {context.abstract_syntax for context in supported} and _may_be_stored(uid)
    }
    acceptor.supported_contexts = [*supported, *others.values()]


def _serve_others(event: events.Event) -> dict[UID, SOPClassCommonExtendedNegotiation]:
    """Handler of EVT_SOP_COMMON: tells pynetdicom that the storage service answers for classes it does not know."""
    services = {}
    for uid in _proposed(event.assoc):
        if uid not in STORAGE_CLASSES and _may_be_stored(uid):
            services[uid] = SOPClassCommonExtendedNegotiation()
            services[uid].sop_class_uid, services[uid].service_class_uid = uid, UID(STORAGE_SERVICE)
    return services


def _proposed(association: Association) -> dict[UID, list[UID]]:
    """{abstract syntax: every transfer syntax proposed for it} of the association request."""
    proposed: dict[UID, list[UID]] = {}
    for context in cast("Any", association.requestor.primitive).presentation_context_definition_list:
        proposed.setdefault(context.abstract_syntax, []).extend(context.transfer_syntax)
    return proposed


def _may_be_stored(uid: UID) -> bool:
    """Whether it is a storage class, or none of the public UIDs that we know."""
    if not UID_PATTERN.fullmatch(uid):
        return False
    return not uid.type or (uid.type == "SOP Class" and "Storage" in uid.name and "Commitment" not in uid.name)


def _class_name(uid: UID) -> str:
    return f"{uid.name} ({uid})" if uid.type else f"unknown class {uid}"


def _file_head(sop_class: UID, instance: str, syntax: UID) -> bytes:
    """Preamble and file meta information: part of the stored file's hash, so the same for ever."""
    meta = create_file_meta(
        sop_class_uid=sop_class,
        sop_instance_uid=UID(instance),
        transfer_syntax=syntax,
        implementation_uid=IMPLEMENTATION_UID,
        implementation_version=IMPLEMENTATION_VERSION,
    )
    return b"\0" * 128 + b"DICM" + encode_file_meta(meta)


def _contradicts(beginning: bytes, transfer_syntax: str, request: Any) -> None:
    """Refuses an object that is to be dropped but says that it is another: a picture must not get lost under the name
    of something else. One whose beginning cannot be read says nothing.
    """
    try:
        attributes = parse_attributes(beginning, transfer_syntax)
    except Exception:
        return
    if str(attributes.get("SOPClassUID") or request.AffectedSOPClassUID).strip() != request.AffectedSOPClassUID:
        raise _Refused(MISMATCH, "the SOP Class UIDs of request and data set differ")
    if (
        str(attributes.get("SOPInstanceUID") or request.AffectedSOPInstanceUID).strip()
        != request.AffectedSOPInstanceUID
    ):
        raise _Refused(INVALID_INSTANCE, "the SOP Instance UIDs of request and data set differ")


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
    return _title(event.assoc)


def _title(association: Association) -> str:
    return str(association.requestor.ae_title).strip()


def _status(status: int, reason: str = "") -> Dataset:
    answer = Dataset()
    answer.Status = status
    if reason:
        answer.ErrorComment = reason[:64]
    return answer
