"""DICOM in: a storage SCP that says success only of what is on the disk and in the data base.

The received bytes are kept as they came; nothing is decoded here but the few attributes that identify the object. What
is no ophthalmic picture is noted in the audit trail and dropped, so that its sender goes on with the pictures.
docs/dicom.md is its conformance statement.
"""

import logging
import sqlite3
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from threading import Lock, Thread
from typing import Any, cast

from pydicom import Dataset
from pynetdicom import events
from pynetdicom.association import Association

from edge_app.config import Config
from edge_app.dicom import compat
from edge_app.dicom.connections import hang_up, limit_connection, server_tls
from edge_app.dicom.header import parse_attributes
from edge_app.dicom.identifiers import STORAGE_CLASSES, UID_PATTERN
from edge_app.dicom.own_results import is_own_result
from edge_app.inbox.arriving import Arriving, ArrivingOther, ArrivingPicture, file_head
from edge_app.inbox.dicom_server import Server
from edge_app.inbox.negotiation import class_name, offer_others, receiving_entity, serve_others
from edge_app.inbox.refusals import (
    CANNOT_UNDERSTAND,
    CLASS_NOT_SUPPORTED,
    INVALID_INSTANCE,
    NOT_AUTHORISED,
    OUT_OF_RESOURCES,
    SUCCESS,
    Refused,
    answer,
    identify,
    refuse_contradiction,
)
from edge_app.store.store import Store
from keras_realmnet.errors import RealMNetError

__all__ = ["DicomIntake", "start"]

log = logging.getLogger(__name__)

OWN = "a result of this software"  # the kind of the box's own objects that come back
MAX_COMMAND = 1 << 16  # bytes of a request without its data set; 64 of them are UIDs
MAX_WAITING = 8  # requests of an association that wait for their answer; more than one is not even allowed
DRAIN_SECONDS = 20.0
ABORT_SECONDS = 2.0


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
        self._under_way: dict[Association, list[Arriving]] = {}  # until they are answered
        self._lock = Lock()
        self._writer = ThreadPoolExecutor(1, "dicom-intake")  # one connection to the data base for all associations
        settings = config.dicom
        entity = receiving_entity(settings)
        others = ((events.EVT_REQUESTED, offer_others), (events.EVT_SOP_COMMON, serve_others))
        try:
            tls = None
            if settings.tls_certificate is not None and settings.tls_key is not None:
                tls = server_tls(settings.tls_certificate, settings.tls_key, settings.tls_ca)
            self._server = Server(
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
        elif message is None or isinstance(message.data_set, Arriving):
            return
        elif message.command_bytes > MAX_COMMAND:
            log.warning("DICOM: %r sends a command without an end: aborted", _caller(event))
            event.assoc.abort()
        elif message.context_id is not None:  # its command has come
            began = message.data_set.getvalue()
            arriving = self._arriving(event.assoc, message.context_id, *message.affected_uids)
            message.data_set = arriving
            arriving.write(began)

    def _arriving(self, association: Association, context_id: int | None, sop_class: Any, instance: Any) -> Arriving:
        """For the data set of a request; one that will be refused is not kept. Nothing is raised."""
        limit = self.config.dicom.max_object_mb
        try:
            context = next((each for each in association.accepted_contexts if each.context_id == context_id), None)
            if not self._authorised(association):
                raise Refused(NOT_AUTHORISED, "this calling AE title may not store here")
            if context is None or sop_class != context.abstract_syntax:
                raise Refused(CLASS_NOT_SUPPORTED, "not the SOP class of this presentation context")
            if not isinstance(instance, str) or not UID_PATTERN.fullmatch(instance):
                raise Refused(INVALID_INSTANCE, "SOPInstanceUID is missing or not a UID")
            if sop_class not in STORAGE_CLASSES:
                arriving: Arriving = ArrivingOther(limit)
            else:
                head = file_head(sop_class, instance, context.transfer_syntax[0])
                arriving = ArrivingPicture(limit, head, self.store.data_dir, self.config.disk.free_mb)
        except Exception as error:
            return Arriving(limit, error)
        with self._lock:
            self._under_way.setdefault(association, []).append(arriving)
        return arriving

    def _take_over(self, association: Association, arriving: Arriving) -> None:
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
            arriving.give_up(Refused(OUT_OF_RESOURCES, "the connection ended"))
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
            return answer(SUCCESS)
        except Refused as refused:
            status, reason = refused.status, refused.reason
        except (OSError, sqlite3.Error, MemoryError) as error:
            status, reason = OUT_OF_RESOURCES, f"the object cannot be stored ({type(error).__name__})"
        except Exception as error:
            status, reason = CANNOT_UNDERSTAND, f"the object cannot be read ({type(error).__name__})"
        finally:
            with self._lock:
                self._stores -= 1
        log.warning("DICOM: object from %r refused with %04X: %s", _caller(event), status, reason)
        return answer(status, reason)

    def _take(self, event: events.Event) -> None:
        """Returns when the object is durable: its file, the file's name, and its row in the data base; or, where it is
        not kept, its line in the audit trail.
        """
        request: Any = event.request
        received = request.DataSet
        if not isinstance(received, Arriving):  # it came as a whole, with its command
            whole = b"" if received is None else received.getvalue()
            uids = request.AffectedSOPClassUID, request.AffectedSOPInstanceUID
            received = self._arriving(event.assoc, event.context.context_id, *uids)
            received.write(whole)
        self._take_over(event.assoc, received)
        try:
            if received.failure is not None:
                raise received.failure
            if not received.size:
                raise Refused(CANNOT_UNDERSTAND, "there is no data set")
            if isinstance(received, ArrivingPicture):
                self._take_picture(event, received)
            elif isinstance(received, ArrivingOther):
                refuse_contradiction(received.beginning, event.context.transfer_syntax, request)
                own = self._is_own(request.AffectedSOPInstanceUID)
                self._drop(event, OWN if own else class_name(request.AffectedSOPClassUID))
        finally:
            received.let_go()

    def _take_picture(self, event: events.Event, received: ArrivingPicture) -> None:
        request, context = cast("Any", event.request), event.context
        file = received.incoming.file
        file.seek(len(received.head))
        attributes = parse_attributes(file, context.transfer_syntax)
        instance, study = identify(attributes, request)
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


def _caller(event: events.Event) -> str:
    return _title(event.assoc)


def _title(association: Association) -> str:
    return str(association.requestor.ae_title).strip()
