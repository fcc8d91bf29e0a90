"""The outbox: every result reaches every destination it is meant for, once by its identity, however long that takes.

Each destination has a thread of its own, so that a dead archive holds up nobody else. What is due, how often it was
tried and when it is tried again is in the store: a restart forgets nothing. A result counts as delivered only when
the peer said so, or when its file is durable. One that cannot be made or sent waits alone: only what stops every
result, such as a full disk or a destination that is away, holds up a destination.
"""

import json
import logging
import random
import sqlite3
import ssl
from contextlib import AbstractContextManager, suppress
from datetime import datetime, timedelta, timezone
from functools import partial
from io import BytesIO
from pathlib import Path
from threading import Event, Thread
from time import monotonic
from typing import Protocol

import cv2
import numpy as np
from pydicom import Dataset, dcmread
from pydicom.uid import (
    Comprehensive3DSRStorage,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    SecondaryCaptureImageStorage,
)
from pynetdicom import AE, events
from pynetdicom.association import Association

from edge_app.config import Config, Destination
from edge_app.config import Delivery as Settings
from edge_app.dicom.compat import reserve_answers
from edge_app.dicom.connections import client_tls, limit_connection
from edge_app.dicom.header import read_attributes
from edge_app.dicom.identifiers import IMPLEMENTATION_UID, IMPLEMENTATION_VERSION
from edge_app.present import dicom_results, exports, fhir
from edge_app.store.durable import is_full_disk, move_durably, temporary_file, write_durably
from edge_app.store.outbox import Delivery
from edge_app.store.records import Result
from edge_app.store.store import Store
from keras_realmnet.errors import RealMNetError
from keras_realmnet.screening.preprocessing import FieldGeometry

__all__ = ["Outbox", "render", "start"]

log = logging.getLogger(__name__)

SUFFIXES = {"sr": "sr.dcm", "sc": "sc.dcm", "json": "json", "csv": "csv", "fhir": "fhir.json"}
DUPLICATE_INSTANCE = 0x0111  # PS3.7 C.5.5: the peer has it, from an attempt whose answer was lost
POLL_SECONDS = 0.5  # how long a new result waits at most
LONGEST_PAUSE = 60.0  # seconds until a destination that cannot be reached is tried again, at most
STOP_SECONDS = 20.0


class _Failed(Exception):
    """This result was not taken; another one may be."""


class _Unreachable(Exception):
    """Nothing can be sent there at the moment."""


class _Channel(Protocol):
    """An opened way to a destination."""

    def send(self, content: bytes, name: str) -> None:
        """Returns when the result has arrived. Raises _Failed or _Unreachable."""


def start(config: Config, store: Store) -> "Outbox":
    """Delivers in the background until `stop`. Raises RealMNetError for TLS files that cannot be used."""
    return Outbox(config, store)


class Outbox:
    """One running thread per destination."""

    def __init__(self, config: Config, store: Store):
        self._store = store
        self._accepted = {(to.name, kind) for to in config.destination for kind in to.results}
        self.give_up_removed()
        self._senders = [_Sender(destination, config.delivery, store) for destination in config.destination]
        for sender in self._senders:
            sender.start()

    def give_up_removed(self) -> None:
        """What waits for a destination, or as a kind of result, that is no longer in the configuration becomes a dead
        letter, for a person to see. Not only at the start: a result that is revised leaves again for all it went to."""
        for name, number in self._store.give_up(self._accepted).items():
            log.warning("delivery: %s: %d results that the configuration no longer sends are put aside", name, number)

    def stop(self, seconds: float = STOP_SECONDS) -> None:
        """Lets each destination finish the result it is sending; what is not sent stays in the store."""
        for sender in self._senders:
            sender.stopping.set()
        for sender in self._senders:
            sender.join(seconds)


class _Sender(Thread):
    """Sends what is due to one destination."""

    def __init__(self, destination: Destination, settings: Settings, store: Store):
        super().__init__(name=f"delivery-{destination.name}", daemon=True)
        self.stopping = Event()
        self._destination, self._settings, self._store = destination, settings, store
        self._open = _opener(destination)
        self._failures = 0  # in a row, of the destination as a whole

    def run(self) -> None:
        while not self.stopping.is_set():
            try:
                self._send_due()
                self.stopping.wait(POLL_SECONDS)
            except _Unreachable as error:
                pause = min(LONGEST_PAUSE, self._backoff(self._failures))
                self._failures += 1
                log.warning("delivery: %s: %s; next attempt in %.0f s", self._destination.name, error, pause)
                self._wait(pause)
            except Exception as error:  # the store is locked, the disk is full: later is another day
                log.error("delivery: %s: %s", self._destination.name, type(error).__name__)
                self.stopping.wait(min(LONGEST_PAUSE, self._settings.max_retry_seconds))
        self._store.close()

    def _wait(self, seconds: float) -> None:
        """Waits so long, or until a person asks to send something now."""
        end = monotonic() + seconds
        while (left := end - monotonic()) > 0 and not self.stopping.wait(min(left, POLL_SECONDS)):
            with suppress(sqlite3.Error):
                if self._store.is_urgent(self._destination.name):
                    return

    def _send_due(self) -> None:
        """Sends all that is due, over one association."""
        delivery = self._next()
        if delivery is None:
            return
        try:
            with self._open() as channel:
                while delivery is not None and not self.stopping.is_set():
                    self._send(channel, delivery)
                    delivery = self._next()
        except _Unreachable as error:
            if delivery is not None:
                self._failed(delivery, str(error))
            self._store.clear_urgent(self._destination.name)
            raise

    def _next(self) -> Delivery | None:
        longest = timedelta(seconds=self._settings.max_retry_seconds)
        return self._store.next_delivery(destination=self._destination.name, longest_wait=longest)

    def _send(self, channel: _Channel, delivery: Delivery) -> None:
        result = self._store.record(delivery.item_id)
        if result is None or result.revision != delivery.revision:
            self._store.delivery_failed(delivery.id, "there is another result by now", None)
            return
        try:
            content = render(self._store, result, delivery.kind).read_bytes()
        except Exception as error:
            self._not_made(delivery, error)
            return
        name = f"{result.item.id:08d}-{result.item.sha256[:12]}-r{result.revision}.{SUFFIXES[delivery.kind]}"
        try:
            channel.send(content, name)
        except _Unreachable:
            raise
        except Exception as error:
            self._failed(delivery, str(error) if isinstance(error, _Failed) else f"not sent: {type(error).__name__}")
            return
        self._store.delivered(delivery.id)
        self._failures = 0
        log.info("delivery: item %d: %s delivered to %s", result.item.id, delivery.kind, self._destination.name)

    def _not_made(self, delivery: Delivery, error: Exception) -> None:
        """A result that cannot be made is a dead letter, where the machine is at fault only after some attempts.

        Raises the error where the same would befall every other result.
        """
        if is_full_disk(error) or isinstance(error, sqlite3.Error):
            raise error
        reason = error.strerror if isinstance(error, OSError) else None  # its text would name the file
        text = f"cannot be made: {reason or type(error).__name__}"
        log.error("delivery: item %d: %s %s", delivery.item_id, delivery.kind, text)
        if isinstance(error, (OSError, MemoryError)):
            self._failed(delivery, text)
        else:
            self._store.delivery_failed(delivery.id, text, None)

    def _failed(self, delivery: Delivery, error: str) -> None:
        last = delivery.attempts + 1 >= self._settings.attempts
        wait = timedelta(seconds=self._backoff(delivery.attempts))
        self._store.delivery_failed(delivery.id, error, None if last else datetime.now(timezone.utc) + wait)

    def _backoff(self, failures: int) -> float:
        """Seconds to wait after so many earlier failures: doubled each time up to the longest, with jitter."""
        wait = self._settings.first_retry_seconds * 2.0 ** min(failures, 30)
        return min(wait, self._settings.max_retry_seconds) * random.uniform(0.5, 1.0)


def render(store: Store, result: Result, kind: str) -> Path:
    """The result's file of this kind and revision, made once and then kept: every destination gets the same bytes.

    Raises RealMNetError where there cannot be one, OSError where it cannot be written or its source be read.
    """
    folder = store.result_dir(result.item.id)
    path = folder / f"result-r{result.revision}.{SUFFIXES[kind]}"
    if not path.exists():
        write_durably(path, _content(store, result, kind, folder))
    return path


def _content(store: Store, result: Result, kind: str, folder: Path) -> bytes:
    if kind == "csv":
        return exports.as_csv([result]).encode()
    if kind in ("json", "fhir"):
        content = exports.as_dict(result) if kind == "json" else fhir.bundle(result)
        return json.dumps(content, ensure_ascii=False, indent=1, allow_nan=False).encode()
    source = read_attributes(store.object_path(result.item))
    if kind == "sr":
        predecessor = store.delivered_revision(result.item.id, kind, result.revision)
        document = dicom_results.structured_report(result.record, source, result.revision, predecessor)
    else:
        document = _heat_map(result, source, folder)
    store.made_result(document.SOPInstanceUID)  # it is known when it comes back
    return dicom_results.encode(document)


def _heat_map(result: Result, source: Dataset, folder: Path) -> Dataset:
    """Drawn from the preview and the class maps that the worker left."""
    record = result.record
    encoded = np.frombuffer((folder / "preview.jpg").read_bytes(), np.uint8)
    preview = cv2.imdecode(encoded, cv2.IMREAD_COLOR_RGB) if encoded.size else None
    if preview is None or record.evidence is None:
        raise RealMNetError(f"item {result.item.id}: the preview is damaged, or there is no evidence to draw")
    # NumPy leaves a damaged file open that it opened itself.
    with open(folder / "maps.npz", "rb") as file, np.load(file, allow_pickle=False) as arrays:
        maps, (x0, y0, x1, y1) = arrays["class_maps"], (int(value) for value in arrays["box"])
    class_map = maps[..., list(record.probabilities or {}).index(record.evidence)].astype(np.float32)
    # The map covers the square around the box; in which pixels that square is counted makes no difference.
    geometry = FieldGeometry((preview.shape[0], preview.shape[1]), (x0, y0, x1, y1), max(x1 - x0, y1 - y0))
    return dicom_results.heat_map(record, source, np.asarray(preview, np.uint8), class_map, geometry, result.revision)


# ---- ways to a destination -----------------------------------------------------------------------------------------


class _Opener(Protocol):
    def __call__(self) -> AbstractContextManager[_Channel]: ...


def _opener(destination: Destination) -> _Opener:
    if destination.kind == "folder":
        return partial(_FolderChannel, destination)
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
    entity.network_timeout = (
        None  # of an idle association; each read and write has its own, and results take their time
    )
    for storage_class in (Comprehensive3DSRStorage, SecondaryCaptureImageStorage):
        entity.add_requested_context(storage_class, [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
    return partial(_DicomChannel, destination, entity, None if tls is None else (tls, str(destination.host)))


class _FolderChannel:
    """Files in a folder, each complete as soon as it has its name."""

    def __init__(self, destination: Destination):
        self._path = Path(destination.path or "")

    def __enter__(self) -> "_FolderChannel":
        if not self._path.is_dir():  # never made here: it may be a share that is away
            raise _Unreachable("the folder is not there")
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def send(self, content: bytes, name: str) -> None:
        try:
            with temporary_file(self._path, name) as temporary:  # nobody else tidies up there after a crash
                temporary.write(content)
                move_durably(temporary, self._path / name)
        except OSError as error:
            raise _Unreachable(f"the file cannot be written ({error.strerror})") from error


class _DicomChannel:
    """C-STORE over one association for as many results as are due."""

    def __init__(self, destination: Destination, entity: AE, tls: tuple[ssl.SSLContext, str] | None):
        self._destination, self._entity, self._tls = destination, entity, tls

    def __enter__(self) -> "_DicomChannel":
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
            raise _Unreachable("the association was rejected" if rejected else "no association")
        return self

    def __exit__(self, *error: object) -> None:
        if self._association.is_established:
            self._association.release()

    def send(self, content: bytes, name: str) -> None:
        result = dcmread(BytesIO(content))
        try:
            answer = self._association.send_c_store(result)
        except ValueError as error:  # no context was accepted for this class
            raise _Failed(f"the peer does not take {result.SOPClassUID.name}") from error
        except RuntimeError as error:
            raise _Unreachable("the association ended") from error
        if "Status" not in answer:
            self._association.abort()
            raise _Unreachable("no answer, or the association was aborted")
        status = int(answer.Status)
        if status >> 12 != 0xB and status not in (0x0000, DUPLICATE_INSTANCE):  # B: stored, with a warning
            raise _Failed(f"status {status:04X}")
