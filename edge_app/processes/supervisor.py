"""Keeps the screening process alive: starts it, listens to it, kills it when it is silent, starts it again.

An item that was being screened when its process died goes back to the queue, or to quarantine the second time.
"""

import contextlib
import logging
import os
import selectors
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from functools import partial
from time import monotonic

from edge_app import logs
from edge_app.config import Config
from edge_app.store.items import Item
from edge_app.store.store import Store
from keras_realmnet.screening.process_memory import engine_environment

__all__ = ["ScreeningProcess"]

log = logging.getLogger(__name__)

START_SECONDS = 300.0  # until "ready": loading packages and checking the model, on a slow and busy board
SILENCE_SECONDS = 60.0  # without a word while it has nothing to do
FIRST_BACKOFF_SECONDS = 0.5
MAX_BACKOFF_SECONDS = 60.0
REFUSED = 2  # the worker's exit status for a bundle or data base that another start would not mend


class ScreeningProcess:
    """The worker process and the thread that watches it.

    on_done: called with every item that left the worker, screened or not. on_death: whenever the process died.
    """

    def __init__(
        self,
        config: Config,
        store: Store,
        on_done: Callable[[Item], None] = lambda item: None,
        on_death: Callable[[], None] = lambda: None,
    ):
        self._config, self._store, self._on_done, self._on_death = config, store, on_done, on_death
        self._process: subprocess.Popen[bytes] | None = None
        self._stopping = threading.Event()
        self._failures = 0  # in a row
        self._found_broken: set[int] = set()  # while it starts
        self.ready = threading.Event()
        self.broken: frozenset[int] = frozenset()  # bundles that cannot screen, as they are counted in the settings
        self.refused = False  # it ended before it ever was ready, and would again
        self.trouble: str | None = None  # how it last ended, until it is ready again
        self.progress = monotonic()  # when it last said something, or was started
        self._thread = threading.Thread(target=self._watch, name="screening", daemon=True)
        self._thread.start()

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process is not None else None

    def is_watched(self) -> bool:
        """Whether the watching goes on, and the process made progress within the longest time it may be silent."""
        longest = max(START_SECONDS, self._config.screening.timeout_seconds) + MAX_BACKOFF_SECONDS
        return self._thread.is_alive() and monotonic() - self.progress < longest

    def stop(self) -> None:
        """Lets it finish the item it is at, and end."""
        self._stopping.set()
        self._signal(signal.SIGTERM)
        self._thread.join(self._config.screening.timeout_seconds + SILENCE_SECONDS)

    def kill(self) -> None:
        """Ends it and its children at once."""
        self._signal(signal.SIGKILL)

    def _signal(self, number: int) -> None:
        if self._process is not None and self._process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, number)

    def _watch(self) -> None:
        while not self._stopping.is_set() and not self.refused:
            ended = self._attempt(self._run)
            if self._stopping.is_set() or self.refused:
                return
            ended = self.trouble = ended or "could not be started"
            log.error("the screening process %s", ended)
            self._on_death()
            while self._attempt(partial(self._release_items, f"the screening process {ended}")) is None:
                if self._stopping.wait(FIRST_BACKOFF_SECONDS):
                    return
            self._failures += 1
            self._stopping.wait(min(MAX_BACKOFF_SECONDS, FIRST_BACKOFF_SECONDS * 2 ** min(10, self._failures - 1)))

    def _attempt(self, step: Callable[[], str]) -> str | None:
        """What `step` returns; None where it fails (a full disk, no memory): the watching must go on."""
        try:
            return step()
        except Exception as error:
            log.error("the screening process cannot be looked after: %s", logs.error_place(error))
            return None

    def _release_items(self, reason: str) -> str:
        for item in self._store.items("screening"):
            after = self._store.release(item.id, reason, crashed=True)
            log.error("item %d: %s", item.id, after.state)
            self._on_done(after)
        return reason

    def _run(self) -> str:
        """One life of the process; returns how it ended."""
        self.progress = monotonic()
        self._found_broken.clear()
        process = self._process = subprocess.Popen(
            [sys.executable, "-m", "edge_app.processes.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=engine_environment(),
            start_new_session=True,  # Ctrl-C is not for it, and it is killed with its children
        )
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            process.stdin.write(self._config.model_dump_json().encode() + b"\n")
            process.stdin.flush()
            if self._stopping.is_set():  # told while it was being started
                self._signal(signal.SIGTERM)
            silent_for = self._listen(process.stdout.fileno())
        except BrokenPipeError:
            silent_for = None
        finally:
            if self._stopping.is_set():
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(5)
            self.kill()
            was_ready = self.ready.is_set()
            self.ready.clear()
            process.stdin.close()
            process.stdout.close()
            status = process.wait()
        self.refused = status == REFUSED and not was_ready and self._failures == 0
        if silent_for is not None:
            return f"was stopped after {silent_for:.0f} s without a result"
        return f"was killed by signal {-status}" if status < 0 else f"ended with status {status}"

    def _listen(self, channel: int) -> float | None:
        """Until the process closes its channel (None), or is silent for longer than it may be (for how long)."""
        allowed, unread, current = START_SECONDS, b"", b""
        with selectors.DefaultSelector() as selector:
            selector.register(channel, selectors.EVENT_READ)
            while selector.select(allowed):
                received = os.read(channel, 4096)
                if not received:
                    return None
                self.progress = monotonic()
                *lines, unread = (unread + received).split(b"\n")
                for line in lines:
                    self._handle(*line.decode().split())
                    word, _, item = line.partition(b" ")
                    if word == b"screening":
                        allowed, current = self._config.screening.timeout_seconds, item
                    elif word != b"done" or item == current:  # else: the one before, written down meanwhile
                        allowed = SILENCE_SECONDS
        return allowed

    def _handle(self, word: str, number: str = "") -> None:
        if word == "broken":
            self._found_broken.add(int(number))
        elif word == "ready":
            self.broken = frozenset(self._found_broken)
            self.trouble = None
            self.ready.set()
        elif word == "done":
            self._failures = 0
            item = self._store.item(int(number))
            if item is not None:
                self._on_done(item)
