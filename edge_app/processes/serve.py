"""The box as a service: one process that receives, delivers and shows, and one that screens.

This process never decodes a picture. It starts the parts in the order in which they depend on one another and stops
them in the opposite one. docs/box.md describes processes, states and recovery.
"""

import contextlib
import logging
import os
import signal
import socket
import threading
from datetime import datetime, timedelta, timezone
from time import monotonic
from typing import Protocol

from edge_app import logs
from edge_app.analysis.models import described
from edge_app.config import Config
from edge_app.health import status
from edge_app.health.metrics import Metrics
from edge_app.inbox import folder_intake
from edge_app.outbox import delivery
from edge_app.processes.supervisor import ScreeningProcess
from edge_app.store.database import lock_data_dir
from edge_app.store.store import Store
from keras_realmnet.errors import RealMNetError
from keras_realmnet.screening.bundle.bundle import Bundle

__all__ = ["Box", "serve"]

log = logging.getLogger(__name__)

TICK_SECONDS = 1.0
RETENTION_SECONDS = 3600.0
CLOCK_JUMP_SECONDS = 86400.0
OUTBOX_CHECK_SECONDS = 60.0  # how often is looked for results that wait for a destination that is gone


class _Part(Protocol):
    def stop(self) -> None: ...


def serve(config: Config) -> int:
    """Runs the box until SIGTERM or SIGINT: the item being screened is finished, then everything ends with status 0.

    A second signal ends it at once; nothing is lost by that.

    Raises:
        RealMNetError: the box cannot start: another one runs, the data base or the bundle is refused, a port is taken.
    """
    logs.set_up(config.log_level)
    os.umask(0o077)  # what is kept is patient data: for this account alone
    stopping = threading.Event()
    with Box(config) as box:
        box.stop_on_signals(stopping)
        log.info("ready")
        _notify("READY=1")
        box.run(stopping)
        log.info("stopping: the image being screened is finished first")
        _notify("STOPPING=1")
    log.info("stopped")
    return 0


class Box:
    """All parts of a running box."""

    def __init__(self, config: Config):
        self.config = config
        self._stack = contextlib.ExitStack()
        self._next_outbox_check = 0.0
        self._next_expiry = monotonic() + RETENTION_SECONDS  # not before NTP had time to set the clock
        self._clock = datetime.now(timezone.utc), monotonic()

    def __enter__(self) -> "Box":
        with contextlib.ExitStack() as started:  # stops what did start where something does not
            self._start(started)
            self._stack = started.pop_all()
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()

    def _start(self, stack: contextlib.ExitStack) -> None:
        config = self.config
        self.bundles = described(config.installed)
        if len(self.bundles) == 1:
            Bundle.load(config.installed[0].path)  # one that cannot work is refused at once
        self.store = Store(config.data_dir, [bundle.name for bundle in self.bundles])
        stack.callback(self.store.close)
        stack.enter_context(lock_data_dir(config.data_dir))
        self.store.check()
        _recover(self.store)
        self.metrics = Metrics(config, self.store, self.bundles)
        if config.web.enabled:
            from edge_app.web import server as web

            self._stop_later(stack, web.start(config, self.store, self.bundles, self.metrics.render, self.problems))
        self.outbox = delivery.start(config, self.store)
        self._stop_later(stack, self.outbox)
        self.process = ScreeningProcess(config, self.store, self.metrics.observe, self.metrics.deaths.inc)
        self.metrics.count_broken(lambda: self.out_of_order)
        self._stop_later(stack, self.process)
        self.folders = folder_intake.start(config, self.store)
        self._stop_later(stack, self.folders)
        if config.dicom.enabled:
            from edge_app.inbox import dicom_intake

            self._stop_later(stack, dicom_intake.start(config, self.store))

    @staticmethod
    def _stop_later(stack: contextlib.ExitStack, part: _Part) -> None:
        stack.callback(part.stop)

    def run(self, stopping: threading.Event) -> None:
        """Watches over the parts until told to stop."""
        while not stopping.wait(TICK_SECONDS):
            if self.process.refused:
                raise RealMNetError("the screening process refuses to start: its message is above")
            if self.makes_progress():
                _notify("WATCHDOG=1")
            self._expire()
            self._give_up_gone_destinations()

    def makes_progress(self) -> bool:
        """Whether the store answers and the screening process works, waits or is being started again."""
        try:
            self.store.changes()
        except Exception as error:
            log.error("the data base does not answer: %s", logs.error_place(error))
            return False
        return self.process.is_watched()

    @property
    def out_of_order(self) -> dict[str, bool]:
        """{bundle: whether it cannot screen}, as the screening process found when it was started last."""
        return {bundle.name: number in self.process.broken for number, bundle in enumerate(self.bundles)}

    def problems(self) -> list[str]:
        """What keeps the box from its work, one line each, without patient data."""
        why = "" if self.process.trouble is None else f": it {self.process.trouble}; its message is in the log"
        found = [] if self.process.ready.is_set() else [f"the screening process is not ready{why}"]
        found += [
            f"the model {name} is out of order: its results are missing; its message is in the log"
            for name, broken in self.out_of_order.items()
            if broken
        ]
        found += [f"the folder {name} cannot be read" for name in self.folders.unreachable()]
        if self.config.retention.days is not None and self._clock_jumped():
            found.append("the clock has jumped ahead: nothing is removed by age until the box is started again")
        return found + status.problems(self.config, self.store)

    def _clock_jumped(self) -> bool:
        """Whether the clock has gained so much since the start that ages cannot be believed."""
        started, mark = self._clock
        gained = datetime.now(timezone.utc) - started - timedelta(seconds=monotonic() - mark)
        return gained > timedelta(seconds=CLOCK_JUMP_SECONDS)

    def stop_on_signals(self, stopping: threading.Event) -> None:
        """Sets `stopping` at the first SIGTERM or SIGINT; a second one ends everything at once."""

        def handle(number: int, frame: object) -> None:
            if stopping.is_set():
                self.process.kill()
                os._exit(128 + number)
            stopping.set()

        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, handle)

    def _expire(self) -> None:
        days = self.config.retention.days
        if days is None or monotonic() < self._next_expiry or self._clock_jumped():
            return
        self._next_expiry = monotonic() + RETENTION_SECONDS
        try:
            removed = self.store.expire(datetime.now(timezone.utc) - timedelta(days=days))
        except Exception as error:  # a full disk, for one: the next time
            log.error("nothing could be removed by age: %s", logs.error_place(error))
            return
        if removed:
            log.info("%d delivered results are older than %d days: removed", removed, days)

    def _give_up_gone_destinations(self) -> None:
        if monotonic() < self._next_outbox_check:
            return
        self._next_outbox_check = monotonic() + OUTBOX_CHECK_SECONDS
        try:
            self.outbox.give_up_removed()
        except Exception as error:
            log.error("the outbox cannot be looked through: %s", logs.error_place(error))


def _recover(store: Store) -> None:
    """Brings the store to where nothing is half done, see `Store.recover`."""
    from edge_app.dicom.header import read_attributes

    for item in store.recover():
        log.warning("item %d: was being screened when the box stopped; now %s", item.id, item.state)
    for path in store.orphans():
        if path.suffix != ".dcm":  # its folder still has it, or its sender was told of the failure
            log.warning("a file that was received in part of its way is left in objects/: %s", path.stem)
            continue
        try:
            attributes = read_attributes(path)
            item, _ = store.add_item(
                source="dicom",
                origin="recovered",
                sha256=path.stem,
                extension="dcm",
                file_name="",
                bytes=path.stat().st_size,
                sop_instance_uid=str(attributes.SOPInstanceUID),
                sop_class_uid=str(attributes.SOPClassUID),
                study_uid=str(attributes.StudyInstanceUID),
            )
            log.warning("item %d: had arrived, unacknowledged, when the box stopped", item.id)
        except Exception as error:
            log.error("%s: an object without an item cannot be read (%s)", path.stem, logs.error_place(error))


def _notify(state: str) -> None:
    """Tells systemd (sd_notify(3)); does nothing without it."""
    address = os.environ.get("NOTIFY_SOCKET")
    if address:
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
            channel.settimeout(1.0)  # whoever listens may have stopped reading
            channel.connect("\0" + address[1:] if address.startswith("@") else address)
            channel.send(state.encode())
