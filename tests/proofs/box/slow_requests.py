"""Proof: clients of the web page that are slow, silent or half open are cut, and keep nobody out meanwhile.

    python -m tests.proofs.box.slow_requests --count 1000

So many at once connect and say nothing, send a request's head or body byte by byte, do not read the answer, stay
without asking again, or never finish their TLS handshake; whoever is cut comes back. A monitor asks /healthz, /readyz
and /metrics all the while, and a person looks at the worklist and a static file: each must be answered with 200 within
PATIENCE seconds. In the end, when the slow ones no longer come back, all that were left are cut within CUT_SECONDS.
Once in plain HTTP, once with TLS.
"""

import argparse
import json
import os
import random
import resource
import socket
import ssl
import subprocess
import sys
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from urllib.request import urlopen

from tests.proofs import served

PATIENCE = 5.0
PATIENCE_OF_THE_SLOW = 20.0
CUT_SECONDS = 30.0
MOST_SOCKETS = 300  # of the serving process, those that have nothing to do with the page included
PERSON = ("/login", "/static/htmx.min.js")
MONITOR = ("/healthz", "/readyz", "/metrics")
HEAD = b"GET /static/htmx.min.js HTTP/1.1\r\nHost: localhost\r\n"
FORM = b"POST /theme HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/x-www-form-urlencoded\r\n"
KINDS = {  # what is said at once, what is said byte by byte later
    "silent": (b"", b""),
    "slow head": (HEAD + b"X-Slow: ", b"x" * 10_000),
    "slow body": (FORM + b"Content-Length: 60000\r\n\r\n", b"x" * 10_000),
    "not reading": ((HEAD + b"\r\n") * 20, b""),
    "idle": (HEAD + b"\r\n", b""),
    "handshake": (b"\x16\x03\x01\x02\x00", b"\x01" * 10_000),
}


class Slow:
    """One slow client, which comes back whenever it is cut."""

    def __init__(self, port: int, kind: str, tls: ssl.SSLContext | None):
        self.port, self.kind, self.tls = port, kind, tls if kind not in ("silent", "handshake") else None
        self.connect()

    def connect(self) -> None:
        self.socket = socket.socket()
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        self.socket.settimeout(5)
        self.rest = b""
        with suppress(OSError):  # the server may cut it at once
            self.socket.connect(("127.0.0.1", self.port))
            if self.tls:
                self.socket = self.tls.wrap_socket(self.socket, server_hostname="localhost")
            said, self.rest = KINDS[self.kind]
            self.socket.sendall(said)
        self.socket.setblocking(False)
        self.since = time.monotonic()

    def goes_on(self) -> bool:
        """Says its next byte; False where it has been cut."""
        try:
            if self.rest:
                self.socket.send(self.rest[:1])
                self.rest = self.rest[1:]
            if self.kind == "not reading":  # sees neither answer nor end of it: gives up itself
                return time.monotonic() < self.since + PATIENCE_OF_THE_SLOW
            while self.socket.recv(65536):
                pass
            return False
        except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return True
        except OSError:
            return False


def sockets(pid: int) -> int:
    """How many sockets a process has open."""
    found = 0
    for link in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(OSError):
            found += os.readlink(link).startswith("socket:")
    return found


def run(folder: Path, bundle: Path, count: int, seconds: float, encrypted: bool) -> dict:
    """Returns what was done and measured; raises AssertionError where it does not hold."""
    web: dict[str, object] = {}
    tls = None
    folder.mkdir(parents=True)
    if encrypted:
        web = {"tls_certificate": folder / "certificate.pem", "tls_key": folder / "key.pem"}
        command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=localhost"]
        command += ["-addext", "subjectAltName=DNS:localhost"]
        command += ["-keyout", str(web["tls_key"]), "-out", str(web["tls_certificate"])]
        subprocess.run(command, check=True, capture_output=True)
        tls = ssl.create_default_context(cafile=web["tls_certificate"])
    box = served.Box(folder / "box", bundle, web=web)
    address = f"{'https' if encrypted else 'http'}://localhost:{box.web_port}"
    waits: dict[str, list[float]] = {path: [] for path in (*MONITOR, *PERSON)}

    def ask(path: str) -> None:
        started = time.monotonic()
        with urlopen(address + path, timeout=PATIENCE, context=tls) as answer:
            assert answer.status == 200
            answer.read()
        waits[path].append(time.monotonic() - started)

    def ready() -> bool:
        with suppress(OSError):
            ask("/readyz")
            return True
        return False

    box.start()
    try:
        box.wait_for(ready, served.READY_SECONDS)
        waits["/readyz"].clear()
        threads, before, most = served.threads(box.pid), sockets(box.pid), 0
        rng = random.Random(0)
        kinds = [kind for kind in KINDS if encrypted or kind != "handshake"]
        with ThreadPoolExecutor(2) as askers:
            clients: list[Slow] = []
            cuts: Counter[str] = Counter()
            end = time.monotonic() + seconds
            asked = [askers.submit(_until, end, ask, paths, rng.random()) for paths in (MONITOR, PERSON)]
            while time.monotonic() < end:
                if len(clients) < count:
                    clients += [
                        Slow(box.web_port, rng.choice(kinds), tls) for _ in range(min(20, count - len(clients)))
                    ]
                for client in clients:
                    if not client.goes_on():
                        client.socket.close()
                        cuts[client.kind] += 1
                        client.connect()
                most = max(most, sockets(box.pid))
                time.sleep(0.2)
            for answer in asked:
                answer.result()
        assert len(clients) == count, f"only {len(clients)} slow clients in {seconds:.0f} s"
        assert most <= MOST_SOCKETS, f"{most} sockets"
        started = time.monotonic()
        while sockets(box.pid) > before:
            for client in clients:
                client.goes_on()
            assert time.monotonic() - started < CUT_SECONDS, f"{sockets(box.pid) - before} are still open"
            time.sleep(0.1)
        cut_after = time.monotonic() - started
        for client in clients:
            client.socket.close()
        assert box.alive
        return {
            "slow clients at once": count,
            "cut and come back": dict(cuts),
            "answers": {path: len(each) for path, each in waits.items()},
            "slowest answer, s": {path: round(max(each), 2) for path, each in waits.items()},
            "the last slow one cut after, s": round(cut_after, 1),
            "sockets before, most": [before, most],
            "threads before and after": [threads, served.threads(box.pid)],
        }
    finally:
        if box.alive:
            box.kill()


def _until(end: float, ask, paths: tuple[str, ...], seed: float) -> None:
    rng = random.Random(seed)
    while time.monotonic() < end:
        for path in paths:
            ask(path)
        time.sleep(rng.random())


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--count", type=int, default=1000, help="slow clients at once")
    parser.add_argument("--seconds", type=float, default=120, help="how long they keep coming back")
    arguments = parser.parse_args()
    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    with served.scratch() as (folder, bundle):
        for encrypted in (False, True):
            found = run(folder / str(encrypted), bundle, arguments.count, arguments.seconds, encrypted)
            print(json.dumps({"TLS": encrypted, **found}, indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
