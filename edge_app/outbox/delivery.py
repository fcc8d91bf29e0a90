"""The outbox: every result reaches every destination it is meant for, once by its identity, however long that takes.

Each destination has a thread of its own, so that a dead archive holds up nobody else. What is due, how often it was
tried and when it is tried again is in the store: a restart forgets nothing. A result counts as delivered only when
the peer said so, or when its file is durable. One that cannot be made or sent waits alone: only what stops every
result, such as a full disk or a destination that is away, holds up a destination.
"""

import logging
import random
import sqlite3
from contextlib import suppress
from datetime import datetime, timedelta, timezone
from threading import Event, Thread
from time import monotonic

from edge_app.config import Config, Destination
from edge_app.config import Delivery as Settings
from edge_app.outbox.channels import Channel, Failed, Unreachable, opener
from edge_app.outbox.documents import SUFFIXES, render
from edge_app.store.durable import is_full_disk
from edge_app.store.outbox import Delivery
from edge_app.store.store import Store

__all__ = ["Outbox", "start"]

log = logging.getLogger(__name__)

POLL_SECONDS = 0.5  # how long a new result waits at most
LONGEST_PAUSE = 60.0  # seconds until a destination that cannot be reached is tried again, at most
STOP_SECONDS = 20.0


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
        self._open = opener(destination)
        self._failures = 0  # in a row, of the destination as a whole

    def run(self) -> None:
        while not self.stopping.is_set():
            try:
                self._send_due()
                self.stopping.wait(POLL_SECONDS)
            except Unreachable as error:
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
        except Unreachable as error:
            if delivery is not None:
                self._failed(delivery, str(error))
            self._store.clear_urgent(self._destination.name)
            raise

    def _next(self) -> Delivery | None:
        longest = timedelta(seconds=self._settings.max_retry_seconds)
        return self._store.next_delivery(destination=self._destination.name, longest_wait=longest)

    def _send(self, channel: Channel, delivery: Delivery) -> None:
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
        except Unreachable:
            raise
        except Exception as error:
            self._failed(delivery, str(error) if isinstance(error, Failed) else f"not sent: {type(error).__name__}")
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
