"""The screening process: claims items one by one, screens each and commits its result.

A process of its own, since decoders meet foreign bytes: it may be killed at any moment, its memory is capped, and what
it was doing is in the store. The supervisor (supervisor.py) starts it as `python -m edge_app.processes.worker` with the
settings as one line of JSON on stdin, whose end means that the supervisor is dead. On stdout it says "broken N" (of a
bundle that cannot screen, counted from 0), "ready", "idle", "screening ID", "done ID" and "waiting" (for room on the
disk), where an item may be done after the next is begun; SIGTERM lets it finish the item and end.

It has all bundles open. A picture is claimed once for each bundle that its kind is for, and decoded once for all.
"""

import fcntl
import logging
import os
import resource
import signal
import sqlite3
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from time import monotonic
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from edge_app import contradictions, logs
from edge_app.analysis.models import Models
from edge_app.analysis.screen import FileOrigin, retryable
from edge_app.config import Config
from edge_app.identity import persons
from edge_app.present.pictures import keep_pictures
from edge_app.store.durable import is_full_disk
from edge_app.store.items import Item
from edge_app.store.queue import Stale
from edge_app.store.records import Result
from edge_app.store.store import Store
from keras_realmnet.errors import EngineFailed, MachineFault, ModelOutOfOrder, RealMNetError
from keras_realmnet.screening.decision import Analysis
from keras_realmnet.screening.image_io import DEFAULT_FILE_NAME_PATTERN, UnreadableImage, read_header
from keras_realmnet.screening.record import ScreeningRecord
from keras_realmnet.tasks.findings import MaskFinding

__all__ = ["Worker", "main", "routes"]

log = logging.getLogger("edge_app.processes.worker")  # also where it runs as __main__

COUNTED_AT_ONCE = 50  # objects of earlier releases that an idle worker looks into
POLL_SECONDS = 0.1  # how long a new item waits at most
IDLE_SECONDS = 1.0  # how often an idle worker says so
FULL_DISK_SECONDS = 5.0  # wait before another attempt where there was no room for a result
T = TypeVar("T")
# Pixels, uint8 RGB (h, w, 3); the analysis unless the image never reached the model.
Found = tuple[NDArray[np.uint8], Analysis | None]


class Worker:
    """Screens what the store holds, until told to stop."""

    def __init__(self, config: Config, store: Store, models: Models, say: Callable[[str], None]):
        self._config, self._store, self._models, self._say = config, store, models, say
        self._patterns = {folder.name: folder.file_name_pattern for folder in config.folder}
        self.stopping = threading.Event()

    def run(self) -> None:
        """Screens one item while the one before is written down: neither waits for the other's core or disk."""
        for number, name in enumerate(self._models.names):
            if name in self._models.out_of_order:
                log.critical("the bundle %s is out of order: %s", name, self._models.out_of_order[name])
                self._say(f"broken {number}")
        self._say("ready")
        self._record_killed_items()
        last_word = monotonic()
        with ThreadPoolExecutor(1, "write") as writer:
            writing = writer.submit(lambda: None)
            while not self.stopping.is_set():
                item = self._with_room(self._claim)
                if item is not None:
                    alone = item.crashes > 0  # a suspect's next death must fall on nobody else
                    if alone:
                        writing.result()
                    self._say(f"screening {item.id}")
                    screened = self._screen(item)
                    writing.result()  # few pictures in memory, and a failure ends the process
                    writing = writer.submit(self._write_down, item, *screened)
                    if alone:
                        writing.result()
                    last_word = monotonic()
                elif monotonic() - last_word >= IDLE_SECONDS:
                    writing.result()
                    self._count_pictures()
                    self._say("idle")
                    last_word = monotonic()
                else:
                    self.stopping.wait(POLL_SECONDS)
            writing.result()
            writer.submit(self._store.close)

    def _claim(self) -> Item | None:
        return self._store.claim(self._models.out_of_order)

    def _count_pictures(self) -> None:
        """Looks, while there is nothing else to do, into objects that an earlier release saw one picture of alone."""
        for item in self._store.uncounted(COUNTED_AT_ONCE):
            try:
                pictures = read_header(self._store.object_path(item), self._origin(item).name).pictures
            except UnreadableImage:
                pictures = 1  # there is a result of it: it could be read once
            except MachineFault:
                return  # another time
            self._with_room(partial(self._store.count_pictures, item.id, pictures))

    def _with_room(self, step: Callable[[], T]) -> T | None:
        """Takes a step; where the disk has no room for what comes of it, waits and takes it again."""
        while True:
            try:
                return step()
            except (OSError, sqlite3.OperationalError) as error:
                if not is_full_disk(error):
                    raise
                log.error("no room on the disk: waiting")
                self._say("waiting")
                if self.stopping.wait(FULL_DISK_SECONDS):
                    return None

    def _screen(self, item: Item) -> tuple[ScreeningRecord | None, Found | None]:
        """Screens one item for the bundle that it goes to; no result is written yet. None: its picture goes elsewhere.

        Raises EngineFailed: the process must end.
        """
        path, origin = self._store.object_path(item), self._origin(item)
        bundle = self._with_room(partial(self._route, item, path, origin))
        if bundle is None:
            return None, None
        found: list[Found] = []
        record = self._models.screen(
            bundle, path, item.sha256, None, origin, item.frame, lambda *analysed: found.append(analysed)
        )
        return _with_known_pictures(item, record), found[0] if found else None

    def _route(self, item: Item, path: Path, origin: FileOrigin) -> str | None:
        """Sees to it that the picture has an item for each bundle of its kind; returns the bundle of this one.

        From then on an eye cannot look better than it would with the results of all of them.
        """
        if self._models.names == (item.bundle,):
            return item.bundle
        bundles = self._models.of_kind(path, origin, item.frame, item.bundle)
        try:
            routed = self._store.route(item.id, bundles, item.attempts)
        except Stale:
            log.warning("item %d: another process has taken over", item.id)
            return None
        if routed is None:
            log.info("item %d: its picture is for other bundles", item.id)
        return None if routed is None else routed.bundle

    def _write_down(self, item: Item, record: ScreeningRecord | None, found: Found | None) -> None:
        """Writes down what came of an item, and says so."""
        if record is not None:
            self._with_room(partial(self._commit, item, record, found))
            log.info(
                "item %d: %s in %.0f ms", item.id, record.error or record.outcome, record.timings_ms.get("total", 0)
            )
        self._say(f"done {item.id}")

    def _commit(self, item: Item, record: ScreeningRecord, found: Found | None) -> None:
        """Raises OSError or sqlite3.OperationalError of a full disk."""
        try:
            if record.sha256 != item.sha256:
                reason = "the stored contents are no longer those received"
                self._store.quarantine(item.id, reason, attempt=item.attempts)
            elif record.error == ModelOutOfOrder.__name__:
                record = self._with_contradictions(item, record)
                self._store.await_bundle(item.id, record.reasons[0], record, item.attempts)
            elif record.error is not None or found is None:
                self._retry_or_quarantine(item, record)
            else:
                self._finish(item, record, *found)
        except Stale:
            log.warning("item %d: another process has taken over", item.id)

    def _finish(
        self, item: Item, record: ScreeningRecord, pixels: NDArray[np.uint8], analysis: Analysis | None
    ) -> None:
        task = self._models.of(record.bundle_name).bundle.task
        keep_pictures(self._store.result_dir(item.id), pixels, analysis, task)
        record = self._with_contradictions(item, self._with_operators_eye(item, record))
        siblings = self._siblings(item)
        record = record.warned([contradictions.no_result(each.record) for each in siblings if each.record.missing])
        self._store.finish(item.id, record, routes(record, self._config), item.attempts)
        for sibling in siblings:  # it had failed before
            self._store.withdraw_warning(sibling.item.id, contradictions.no_result(record))

    def _siblings(self, item: Item) -> list[Result]:
        """The results of the other pictures of the same object."""
        return [other for other in self._store.object_records(item.object_id) if other.item.frame != item.frame]

    def _with_operators_eye(self, item: Item, record: ScreeningRecord) -> ScreeningRecord:
        """The record with the eye that an operator has set for the same picture, where the file tells none."""
        if record.eye is None:
            for other in self._store.object_records(item.object_id):
                if other.item.frame == item.frame and other.record.eye_source == "operator":
                    return replace(record, eye=other.record.eye, eye_source="operator")
        return record

    def _retry_or_quarantine(self, item: Item, record: ScreeningRecord) -> None:
        """A fault of the contents is final; after any other the item has another attempt."""
        record = self._with_contradictions(item, record)
        if retryable(record):
            record = replace(record, reasons=tuple(f"this box could not read it: {each}" for each in record.reasons))
            after = self._store.release(item.id, record.reasons[0], True, record, item.attempts)
            final = after.state == "quarantined"
        else:
            self._store.quarantine(item.id, record.reasons[0], record, item.attempts)
            final = True
        if final:
            self._warn_siblings(item, record)

    def _warn_siblings(self, item: Item, record: ScreeningRecord) -> None:
        """The results of an object's other pictures say that this one has none."""
        if record.missing:
            for sibling in self._siblings(item):
                if not sibling.record.missing:
                    self._store.warn(sibling.item.id, [contradictions.no_result(record)])

    def _origin(self, item: Item) -> FileOrigin:
        """Files of folders keep their names; an object of the network is named by its UID."""
        pattern = self._patterns.get(item.origin, DEFAULT_FILE_NAME_PATTERN)
        return FileOrigin(item.file_name or f"{item.sop_instance_uid}.dcm", item.origin, pattern)

    def _with_contradictions(self, item: Item, record: ScreeningRecord) -> ScreeningRecord:
        """The record with what contradicts the images of its study or patient number, which are told too, or its own
        other names."""
        store, study = self._store, item.study_uid or record.source.get("study_instance_uid")
        others = [other for other in store.study_images(study) if other.item.id != item.id] if study else []
        warnings = contradictions.within_study([record, *(other.record for other in others)])
        for other in others:
            store.warn(other.item.id, warnings)
        same = store.patient_records(record.patient_id) if record.patient_id else []
        same = [other for other in same if other.item.id != item.id]
        if len(persons([record, *(other.record for other in same)])) > 1:
            warnings = (*warnings, *contradictions.within_patient_number(record, [other.record for other in same]))
            for other in same:
                rest = [record, *(each.record for each in same if each is not other)]
                store.warn(other.item.id, contradictions.within_patient_number(other.record, rest))
        names = (*store.names(item.id), item.file_name)
        return record.warned((*warnings, *contradictions.among_file_names(names, self._origin(item).pattern)))

    def _record_killed_items(self) -> None:
        """A record for items that killed their workers, so that they show beside the patient's other images."""
        for item in self._store.killed_items():
            error = RealMNetError(f"the analysis was given up: {item.reason}")
            screener = self._models.of(item.bundle)
            record = screener.failure(self._store.object_path(item), item.sha256, error, self._origin(item), item.frame)
            record = _with_known_pictures(item, record)
            self._store.record_failure(item.id, record)
            self._warn_siblings(item, record)


def _with_known_pictures(item: Item, record: ScreeningRecord) -> ScreeningRecord:
    """The record; where the object could not even be opened this time, with as many pictures as it was seen to hold."""
    if record.error is None or item.pictures is None:
        return record
    return replace(record, pictures=max(record.pictures, item.pictures))


def routes(record: ScreeningRecord, config: Config) -> list[tuple[str, str]]:
    """(destination, kind) of every result of this record that is to leave.

    DICOM results need a DICOM image to refer to, a heat map needs evidence to show, a segmentation something found.
    """
    is_dicom = record.source.get("study_instance_uid") is not None
    segmented = any(isinstance(finding, MaskFinding) and finding.found for finding in record.findings or ())
    possible = {"sr": is_dicom, "sc": is_dicom and record.evidence is not None, "seg": is_dicom and segmented}
    return [
        (destination.name, kind)
        for destination in config.destination
        if destination.takes(record.outcome)
        for kind in destination.results
        if possible.get(kind, True)
    ]


# ---- the process ----------------------------------------------------------------------------------------------------


def main() -> int:
    """Exit status 0: told to stop; 2: all bundles or the data base are refused (one line on stderr).

    1: anything else, such as an engine that failed while it worked; a new process may be luckier.
    """
    config = Config.model_validate_json(sys.stdin.buffer.readline())
    logs.set_up(config.log_level)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the supervisor, which knows what to do
    threading.Thread(target=_die_with_supervisor, daemon=True).start()
    say = _status_channel()
    _limit_memory(config.screening.memory_mb)
    try:
        store = Store(config.data_dir)
        with (config.data_dir / "worker.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # until a predecessor that lost its supervisor is gone
            worker = Worker(config, store, Models.open(config.installed, config.threads), say)
            signal.signal(signal.SIGTERM, lambda *_: worker.stopping.set())
            worker.run()
    except EngineFailed as error:
        log.critical("%s", error)
        return 1
    except RealMNetError as error:
        log.critical("%s", error)
        return 2
    except Exception as error:
        log.critical("stopped by %s", logs.error_place(error))
        return 1
    return 0


def _die_with_supervisor() -> None:
    while os.read(0, 4096):  # not through sys.stdin, whose lock would outlive this process's main thread
        pass
    os._exit(3)


def _status_channel() -> Callable[[str], None]:
    """Writes lines to what was stdout; whatever else writes there goes to stderr from now on."""
    channel = os.dup(1)
    os.dup2(2, 1)

    def say(line: str) -> None:
        os.write(channel, f"{line}\n".encode())  # whole: two threads speak

    return say


def _limit_memory(memory_mb: int) -> None:
    """Caps the memory that this process may write to, and offers it to the kernel first when memory runs out.

    RLIMIT_DATA, not RLIMIT_AS: mapped model files and reserved address space cost nothing.
    """
    limit = memory_mb << 20
    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("500")


if __name__ == "__main__":
    sys.exit(main())
