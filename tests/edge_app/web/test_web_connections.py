"""Slow, silent and half-open clients of the web page, on real sockets: each is cut, and none keeps others out."""

import re
import socket
import ssl
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from urllib.error import HTTPError
from urllib.request import urlopen

import pytest
from starlette.responses import PlainTextResponse

from edge_app.web import connections as web_connections
from edge_app.web import server as web
from edge_app.web.auth import LOCAL_USER
from edge_app.web.words import NOT_RECORDED
from tests.proofs import peers

HEAD = b"GET /about HTTP/1.1\r\nHost: localhost\r\n"
FORM = b"POST /theme HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/x-www-form-urlencoded\r\n"
LIMIT = 1.0  # s, of every phase in these tests
MARGIN = 8.0  # s, that a busy machine may be late


@pytest.fixture
def short(monkeypatch):
    for phase in web_connections.SECONDS:
        monkeypatch.setitem(web_connections.SECONDS, phase, LIMIT)
    monkeypatch.setattr(web_connections, "FLUSH_SECONDS", LIMIT)


@pytest.fixture
def serve(screened_box, store):
    """serve(**settings) starts a server and returns its port."""
    with ExitStack() as stack:

        def start(**settings):
            config = screened_box.config(port=peers.free_port(), **settings)
            server = web.start(config, store, [screened_box.bundle], lambda: b"numbers")
            stack.callback(server.stop)
            return server.port

        yield start


@contextmanager
def connection(port, buffer=None):
    with socket.socket() as client:
        if buffer:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
        client.settimeout(10)
        client.connect(("127.0.0.1", port))
        yield client


def receive_until(client, end, at_once=1):
    received = b""
    while end not in received:
        came = client.recv(at_once)
        assert came, f"the connection ended before {end!r} came: {received[-200:]!r}"
        received += came
    return received


def seconds_until_cut(client, drip=b"", limit=LIMIT):
    """Sends `drip` again and again until the server has closed the connection."""
    started = time.monotonic()
    client.settimeout(0.1)
    while time.monotonic() - started < limit + MARGIN:
        with suppress(TimeoutError):
            try:
                if drip:
                    client.sendall(drip)
                if not client.recv(65536):
                    return time.monotonic() - started
            except (ConnectionError, ssl.SSLError):
                return time.monotonic() - started
    pytest.fail("the connection is still open")


@pytest.mark.parametrize(
    ("said", "drip"),
    [
        (b"", b""),
        (b"", b"\r\n"),
        (HEAD + b"X-Slow: ", b"x"),
        (HEAD[:10], b""),
        (FORM + b"Content-Length: 1000\r\n\r\n", b""),
        (FORM + b"Content-Length: 1000\r\n\r\n", b"x"),
        (FORM + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n"),
        (FORM.replace(b"/theme", b"/nowhere") + b"Content-Length: 1000000\r\n\r\n", b"x"),  # answered before it is read
        (HEAD + b"\r\n", b""),
        (HEAD + b"\r\n", b"\r\n"),  # blank lines are no request
        (HEAD + b"\r\n", b"G"),
        (HEAD + b"\r\n" + HEAD, b""),
    ],
    ids=[
        "silent",
        "blank lines",
        "slow head",
        "half a head",
        "no body",
        "slow body",
        "slow chunks",
        "slow body, answered",
        "idle",
        "blank lines later",
        "slow second head",
        "half a second head",
    ],
)
def test_a_slow_client_is_cut(serve, short, said, drip):
    with connection(serve()) as client:
        client.sendall(said)
        assert seconds_until_cut(client, drip) < 2 * LIMIT + MARGIN


def test_a_client_that_reads_nothing_is_cut(serve, store, monkeypatch):
    monkeypatch.setitem(web_connections.SECONDS, "write", LIMIT)
    with store.write() as db:
        db.executemany("INSERT INTO audit (at, actor, action) VALUES (?, 'x', ?)", [("2025", "y" * 1000)] * 20_000)
    port = serve()
    with connection(port, 4096) as client:
        client.sendall(HEAD + b"\r\n")
        page = receive_until(client, b"</html>", 65536)
        cookie = re.search(rb"set-cookie: (realmnet=[\w-]+)", page)[1]
        form = b"csrf=" + re.search(rb'name="csrf" value="(\w+)"', page)[1]
        client.sendall(FORM.replace(b"/theme", b"/audit.csv") + b"Cookie: %b\r\n" % cookie)
        client.sendall(b"Content-Length: %d\r\n\r\n%b" % (len(form), form))
        head = receive_until(client, b"\r\n\r\n")
        assert b"200 OK" in head
        length = int(re.search(rb"content-length: (\d+)", head)[1])
        time.sleep(3 * LIMIT)
        client.settimeout(MARGIN)
        received = 0
        with suppress(ConnectionError):
            while data := client.recv(1 << 20):
                received += len(data)
        assert received < length / 2


@pytest.mark.parametrize("drip", [b"", b"\x16"])
def test_a_tls_handshake_that_never_ends_is_cut(serve, short, tls, drip):
    with connection(serve(**tls)) as client:
        assert seconds_until_cut(client, drip) < LIMIT + MARGIN


@pytest.mark.parametrize("said", [b"", HEAD, HEAD + b"\r\n"])
def test_a_slow_client_is_cut_behind_tls_too(serve, short, tls, said):
    trusted = ssl.create_default_context(cafile=tls["tls_certificate"])
    with connection(serve(**tls)) as plain, trusted.wrap_socket(plain, server_hostname="localhost") as client:
        client.sendall(said)
        assert seconds_until_cut(client) < 2 * LIMIT + MARGIN  # idle: the answer first


def test_a_client_that_is_only_unhurried_is_served(serve):
    port = serve()
    with connection(port) as client:
        for part in (HEAD[:7], HEAD[7:], b"\r\n"):
            client.sendall(part)
            time.sleep(0.5)
        assert b"200 OK" in receive_until(client, b"\r\n\r\n")


def get(port, path, scheme="http", **options):
    with urlopen(f"{scheme}://localhost:{port}{path}", timeout=10, **options) as answer:
        return answer.read().decode()


@pytest.mark.parametrize("said", [b"", HEAD, FORM + b"Content-Length: 9\r\n\r\n", HEAD + b"\r\n"])
@pytest.mark.parametrize("encrypted", [False, True])
def test_slow_clients_keep_nobody_out(serve, monkeypatch, tls, said, encrypted):
    """Long before their time is over: four times as many as the page has room for, from the same address."""
    monkeypatch.setattr(web_connections, "MAX_CONNECTIONS", 60)
    port = serve(**(tls if encrypted else {}))
    options = {"context": ssl.create_default_context(cafile=tls["tls_certificate"])} if encrypted else {}
    scheme = "https" if encrypted else "http"
    with ExitStack() as stack:
        started = time.monotonic()
        for number in range(240):
            client = stack.enter_context(connection(port))
            client.sendall(said)  # where TLS is spoken, nonsense
            if number % 40 == 39:
                for path in ("/healthz", "/readyz"):
                    assert get(port, path, scheme, **options) == "ok\n"
                assert get(port, "/metrics", scheme, **options) == "numbers"
                assert "Research use only" in get(port, "/about" if not encrypted else "/login", scheme, **options)
        assert time.monotonic() - started < 60


def test_the_number_of_connections_is_bounded(serve, monkeypatch):
    monkeypatch.setattr(web_connections, "MAX_CONNECTIONS", 20)
    port = serve()
    with ExitStack() as stack:
        clients = [stack.enter_context(connection(port)) for _ in range(100)]
        assert get(port, "/healthz") == "ok\n"
        still_open = 0
        for client in clients:
            client.settimeout(0.02)
            try:
                still_open += bool(client.recv(1))
            except TimeoutError:
                still_open += 1
            except ConnectionError:
                pass
        assert 10 <= still_open <= 20


def test_what_is_no_request_is_answered_by_a_page(serve):
    port = serve()
    for nonsense in (
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\r\n\r\n",
        b"GET\r\n\r\n",
        HEAD + b"Cookie: " + b"x" * 70_000,
    ):
        with connection(port) as client, suppress(ConnectionError):
            client.sendall(nonsense)
            received = b""
            while data := client.recv(65536):
                received += data
            assert received.startswith(b"HTTP/1.1 400")
            assert b"<h1>Not understood</h1>" in received
            assert b'<a href="/">' in received
    with connection(port) as client:  # in the middle of a request
        client.sendall(FORM + b"Transfer-Encoding: chunked\r\n\r\nno chunk\r\n")
        assert client.recv(100) == b""


# ---- pages that hang ---------------------------------------------------------------------------------------------


@pytest.fixture
def hanging(monkeypatch):
    """A page, /hangs, that takes until the event is set; pages may take a second."""
    go_on = threading.Event()

    def hangs(visitor):
        go_on.wait(60)
        return PlainTextResponse("late")

    monkeypatch.setattr(web, "PAGE_SECONDS", 1.0)
    monkeypatch.setattr(web, "ROUTES", (*web.ROUTES, ("/hangs", "GET", None, hangs)))
    yield go_on
    go_on.set()


def refused(port, path):
    """The page that says no, and its status."""
    with pytest.raises(HTTPError) as error:
        get(port, path)
    return error.value.code, error.value.read().decode()


def test_a_page_that_hangs_ends_as_a_page_and_leaves_the_others_alone(serve, hanging):
    port = serve()
    with ThreadPoolExecutor(40) as clients:
        answers = [clients.submit(refused, port, "/hangs") for _ in range(40)]
        for path in ("/", "/about", "/healthz", "/readyz", "/static/web.css"):
            assert get(port, path)
        for answer in answers:
            status, page = answer.result()
            assert status == 503
            assert '<a href="/">To the worklist</a>' in page
    assert get(port, "/about")
    assert sum(thread.name.startswith("web /hangs") for thread in threading.enumerate()) <= web.PAGE_THREADS
    hanging.set()
    time.sleep(0.2)
    assert get(port, "/hangs") == "late"


def test_too_many_pages_at_once_are_refused_and_monitors_are_not(serve, hanging, monkeypatch):
    monkeypatch.setattr(web, "MAX_PAGES", 8)
    monkeypatch.setattr(web, "PAGE_SECONDS", 4.0)
    port = serve()
    with ThreadPoolExecutor(8) as clients:
        for _ in range(8):
            clients.submit(refused, port, "/hangs")
        time.sleep(1)
        started = time.monotonic()
        assert refused(port, "/about")[0] == 503
        assert time.monotonic() - started < 2
        assert get(port, "/healthz") == "ok\n"
        assert get(port, "/readyz") == "ok\n"
        hanging.set()


def test_a_data_base_that_is_locked_does_not_hold_up_a_page(serve, store, monkeypatch, screened_box):
    monkeypatch.setattr(web, "BUSY_SECONDS", 1)
    port, item = serve(), screened_box.items["dicom"]
    with store.write():
        started = time.monotonic()
        assert NOT_RECORDED in get(port, f"/items/{item}")
        assert get(port, "/")
        assert get(port, "/readyz") == "ok\n"
        assert time.monotonic() - started < 10
    assert NOT_RECORDED not in get(port, f"/items/{item}")
    assert [row["actor"] for row in store.trail() if row["action"] == "viewed"] == [LOCAL_USER.name]
