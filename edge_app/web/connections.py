"""Connections to the web page: each has a time limit in whatever it does, and none keeps another one out.

uvicorn waits for ever for the rest of a request, for a client that does not read, and for a minute for one that does
not finish its TLS handshake; beyond a number of connections it answers nobody. Here a connection that is too slow is
cut, and where there are MAX_CONNECTIONS the one that has been idle or slow the longest gives way to the next.
"""

import asyncio
import socket
import time
from collections import Counter
from contextlib import suppress
from typing import Any, Literal, cast

import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol, RequestResponseCycle

__all__ = ["MAX_CONNECTIONS", "REQUEST_SECONDS", "SECONDS", "WRITE_BUFFER", "Settings"]

Phase = Literal["head", "body", "answer", "write", "idle", "closing", "cut"]

# How long a connection may stay in each phase. "head": from the first byte (of a new connection: from its acceptance,
# the TLS handshake included) to the end of the request's head. "write": until most of WRITE_BUFFER has been read.
SECONDS: dict[Phase, float] = {"head": 5, "body": 10, "answer": 60, "write": 10, "idle": 10, "closing": 5}
REQUEST_SECONDS = 300  # for a request and its answer together
FLUSH_SECONDS = 5  # that an idle connection has to read the rest of its answer, after uvicorn has closed it
WRITE_BUFFER = 64 * 1024  # bytes of an answer that wait for their reader
MAX_CONNECTIONS = 256
GRACE_SECONDS = 0.3  # in which nobody who has just come, or is just sending, gives way
ACCEPTED_AT_ONCE = 16  # then those that are open are heard
PAUSE_SECONDS = 0.002  # between looks for room, while nobody gives way


class Settings(uvicorn.Config):
    """uvicorn's settings, with the limits of this module."""

    def __init__(self, app: Any, error_page: bytes, **settings: Any):
        """`error_page`: HTML for what cannot be read as a request."""
        super().__init__(
            app,
            http=_Protocol,
            loop="asyncio",
            ws="none",
            timeout_keep_alive=int(SECONDS["idle"]),
            h11_max_incomplete_event_size=32 * 1024,
            **settings,
        )
        self.error_page = error_page
        self.open: dict[int, _Connection] = {}  # by file descriptor; what was closed stays until the next one comes

    def listen(self) -> socket.socket:
        """The socket to serve on. Raises OSError or SystemExit (as uvicorn does) where the address is taken."""
        return _Listener(self.open, self.bind_socket().detach())


class _Connection:
    """One accepted connection and the moment when it will be cut."""

    def __init__(self, accepted: socket.socket, address: str):
        self.socket, self.address = accepted, address
        self.transport: asyncio.Transport | None = None  # None: still in its TLS handshake
        self.phase: Phase = "head"
        self._timer: asyncio.TimerHandle | None = None
        self.enter("head", SECONDS["head"])

    @property
    def is_open(self) -> bool:
        return self.socket.fileno() != -1

    def enter(self, phase: Phase, seconds: float) -> None:
        if self.phase != "cut":
            self.phase, self.since = phase, time.monotonic()
            self.forget()
            self._timer = asyncio.get_running_loop().call_later(seconds, self.cut)

    def forget(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def cut(self) -> None:
        self.phase = "cut"
        self.forget()
        if self.transport is not None:
            self.transport.abort()
        else:
            with suppress(OSError):
                self.socket.shutdown(socket.SHUT_RDWR)  # its handshake fails


class _Listener(socket.socket):
    """Accepts at most MAX_CONNECTIONS, those in their TLS handshake included."""

    def __init__(self, open: dict[int, _Connection], fileno: int):
        super().__init__(fileno=fileno)
        self._open, self._accepted = open, 0

    def accept(self) -> tuple[socket.socket, Any]:
        self._accepted = (self._accepted + 1) % (ACCEPTED_AT_ONCE + 1)
        if not self._accepted:
            raise BlockingIOError  # the event loop comes back as long as somebody waits
        for number, connection in list(self._open.items()):
            if not connection.is_open:
                connection.forget()
                del self._open[number]
        if sum(each.phase != "cut" for each in self._open.values()) >= MAX_CONNECTIONS and not self._make_room():
            time.sleep(PAUSE_SECONDS)  # the event loop asks again at once: not so often that it does nothing else
            raise BlockingIOError
        accepted, address = super().accept()
        self._open[accepted.fileno()] = _Connection(accepted, str(address[0]))
        return accepted, address

    def _make_room(self) -> bool:
        """Cuts the connection that has been slow or idle the longest, of the address that has the most of them.

        Those that are being answered stay; there are few (see server.py). Where nobody gives way, the next one waits in
        the kernel's queue.
        """
        late = time.monotonic() - GRACE_SECONDS
        for phases in (("head", "body", "idle", "closing"), ("write",)):
            waiting = [
                each
                for each in self._open.values()
                if each.phase in phases and (each.since < late or each.phase in ("idle", "closing"))
            ]
            if waiting:
                held = Counter(each.address for each in waiting)
                max(waiting, key=lambda each: (held[each.address], -each.since)).cut()
                return True
        return False


class _Protocol(H11Protocol):
    """uvicorn's protocol, which tells its connection's phase."""

    cycle: RequestResponseCycle | None  # type: ignore[assignment]  # None before the first request
    _connection: _Connection
    _watched: tuple[Phase, object] = ("head", None)
    _spoken_after: object = "nothing"  # the last request after which more was received
    _request: object = None  # that the time limit of a whole request runs for
    _request_ends = 0.0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        transport.set_write_buffer_limits(high=WRITE_BUFFER)
        self._connection = cast(Settings, self.config).open[transport.get_extra_info("socket").fileno()]
        self._connection.transport = transport
        if self._connection.phase == "cut":
            transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self._connection.forget()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self.cycle is None or self.cycle.response_complete:
            self._spoken_after = self.cycle
        super().data_received(data)
        self._watch()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._watch()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._watch()

    def resume_writing(self) -> None:
        super().resume_writing()
        self._watch()

    def _watch(self) -> None:
        """Starts the time of a phase when it begins: bytes that trickle in do not prolong it."""
        phase = self._phase()
        if (phase, self.cycle) == self._watched:
            return
        self._watched = (phase, self.cycle)
        now, seconds = time.monotonic(), SECONDS[phase]
        if self._request is not self.cycle:
            self._request, self._request_ends = self.cycle, now + REQUEST_SECONDS
        if phase == "idle":
            seconds += FLUSH_SECONDS
        elif phase in ("answer", "write"):
            seconds = min(seconds, self._request_ends - now)
        self._connection.enter(phase, seconds)

    def _phase(self) -> Phase:
        if self.transport.is_closing():
            return "closing"
        if self.cycle is None:
            return "head"
        if self.cycle.response_complete:
            if self.conn.their_state is h11.SEND_BODY:  # was answered before it was read
                return "body"
            return "head" if self._spoken_after is self.cycle else "idle"
        if self.flow.write_paused:
            return "write"
        return "body" if self.cycle.more_body else "answer"

    def send_400_response(self, msg: str) -> None:
        """An error page for what is no request, too; nothing where an answer is under way already."""
        if self.conn.our_state is not h11.IDLE:
            self.transport.abort()
            return
        headers = [("content-type", "text/html; charset=utf-8"), ("connection", "close"), ("cache-control", "no-store")]
        page = cast(Settings, self.config).error_page
        for event in (h11.Response(status_code=400, headers=headers), h11.Data(data=page), h11.EndOfMessage()):
            self.transport.write(self.conn.send(event) or b"")
        self.transport.close()
