"""A whole box, as a clinic runs it: `python -m edge_app serve` with its processes, to be loaded, watched and killed."""

import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

import numpy as np
from pydicom import Dataset
from pynetdicom import AE

from edge_app.dicom.compat import reserve_answers
from edge_app.store.store import Store
from tests.proofs import peers
from training.phantoms.phantom import render

ROOT = Path(__file__).resolve().parent.parent.parent
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "3"}
READY_SECONDS = 180  # for a start on a busy machine


class Box:
    """`folder` holds everything: box.toml, box.log (stdout and stderr) and `data`, the box's own folder.

    bundle: its folder, or a list of several.
    """

    def __init__(self, folder: Path, bundle: Path | list[Path], /, **sections: object):
        self.folder, self.data, self.log = folder, folder / "data", folder / "box.log"
        self.dicom_port, self.web_port = peers.free_port(), peers.free_port()
        self._process: subprocess.Popen[bytes] | None = None
        self._started = self._said = 0  # bytes of the log that were there at the last start; at the last start or kill
        folder.mkdir(parents=True, exist_ok=True)
        named = {"bundles": [*map(str, bundle)]} if isinstance(bundle, list) else {"bundle": bundle}
        settings = {"data_dir": self.data, **named, "threads": 1, "disk": {"free_mb": 0}, **sections}
        for section, port in (("dicom", self.dicom_port), ("web", self.web_port)):
            settings[section] = {"port": port, **settings.get(section, {})}
        (folder / "box.toml").write_text(peers.toml(settings))

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def alive(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def start(self, *wrapper: str) -> None:
        """Returns at once; `wrapper`: a command that runs it."""
        command = [*wrapper, sys.executable, "-m", "edge_app", "serve", "--config", str(self.folder / "box.toml")]
        self._started = self._said = self.log.stat().st_size if self.log.exists() else 0
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=ENVIRONMENT, start_new_session=True
            )

    def wait_until_ready(self) -> None:
        """Until /readyz says so: the screening process runs, the ports are open."""
        self.wait_for(lambda: self.get("/readyz") == "ok\n", READY_SECONDS)

    def wait_until_listening(self) -> None:
        """Until it takes DICOM connections."""

        def connects() -> bool:
            with socket.socket() as probe:
                return probe.connect_ex(("127.0.0.1", self.dicom_port)) == 0

        self.wait_for(connects, READY_SECONDS)

    def wait_for(self, condition: Callable[[], bool], seconds: float) -> None:
        """Raises TimeoutError, or RuntimeError where the box ends, with the end of its log."""
        deadline = time.monotonic() + seconds
        while not condition():
            if not self.alive:
                raise RuntimeError(f"the box ended:\n{self.log.read_text()[-3000:]}")
            if time.monotonic() > deadline:
                raise TimeoutError(f"not within {seconds:.0f} s; the box says:\n{self.log.read_text()[-3000:]}")
            time.sleep(0.05)

    def has_said(self, text: str) -> bool:
        """Whether the log has it since the last start or kill."""
        with self.log.open("rb") as log:
            log.seek(self._said)
            return text.encode() in log.read()

    def get(self, path: str) -> str:
        """The page or figure at `path`; "" where the box does not answer (yet) or is not ready."""
        with suppress(URLError, OSError), urlopen(f"http://127.0.0.1:{self.web_port}{path}", timeout=10) as response:
            return response.read().decode()
        return ""

    def processes(self) -> list[int]:
        """The serving process, its children and theirs."""
        found = [self.pid]
        for pid in found:
            for task in _tasks(pid):
                with suppress(OSError):
                    found += map(int, Path(f"/proc/{pid}/task/{task}/children").read_text().split())
        return found

    def kill(self, *pids: int) -> None:
        """kill -9 of the given processes, or of all at once."""
        for pid in pids or self.processes():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        if self.pid in (pids or (self.pid,)):
            self._process.wait()
        self._said = self.log.stat().st_size

    def stop(self) -> int:
        """SIGTERM, once the start is over (before, it ends at once, by the signal); returns the exit status."""
        self.wait_for(
            lambda: b"edge_app.processes.serve: ready" in self.log.read_bytes()[self._started :], READY_SECONDS
        )
        self._process.terminate()
        return self._process.wait(120)

    @contextmanager
    def running(self) -> Iterator["Box"]:
        """Started and ready; killed, if it still runs, when the block ends."""
        self.start()
        try:
            self.wait_until_ready()
            yield self
        finally:
            if self.alive:
                self.kill()

    @contextmanager
    def store(self) -> Iterator[Store]:
        """Its store, opened here; not while it is killed, when nobody but its own next start may recover it."""
        store = Store(self.data)
        try:
            yield store
        finally:
            store.close()

    def wait_until_idle(self, seconds: float = 120) -> None:
        """Until nothing is pending, neither to screen nor to deliver."""
        with self.store() as store:

            def idle() -> bool:
                counts = store.counts()
                return not (counts.items["pending"] or counts.items["screening"] or counts.deliveries["pending"])

            self.wait_for(idle, seconds)


def picture(seed: int, width: int = 390) -> np.ndarray:
    """A drawn picture that passes as red/green ultra-widefield: uint8 RGB of shape (h, w, 3)."""
    return render(seed, width=width, staphyloma=False, grade=0, eye="OD").image


def send(port: int, image: Dataset, title: str = "SCANNER") -> int | None:
    """One C-STORE in an association of its own: the status, or None where there was no answer."""
    entity = AE(title)
    entity.acse_timeout = entity.dimse_timeout = entity.network_timeout = 30
    entity.add_requested_context(image.SOPClassUID, image.file_meta.TransferSyntaxUID)
    association = entity.associate("127.0.0.1", port, ae_title="REALMNET")
    reserve_answers(association)
    if not association.is_established:
        return None
    try:
        return association.send_c_store(image).get("Status")
    except (RuntimeError, ValueError):  # the connection broke before it was sent
        return None
    finally:
        association.release() if association.is_established else association.abort()


def resident_mib(pid: int) -> float:
    return int(re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())[1]) / 1024


def threads(pid: int) -> int:
    return len(_tasks(pid))


def _tasks(pid: int) -> list[str]:
    try:
        return os.listdir(f"/proc/{pid}/task")
    except FileNotFoundError:
        return []


def make_tiny_bundle(folder: Path) -> Path:
    """The bundle of tests/tiny_bundle.py, where no test's fixture has made it."""
    script = ROOT / "tests" / "tiny_bundle.py"
    subprocess.run([sys.executable, script, folder / "bundle"], check=True, env=ENVIRONMENT, capture_output=True)
    return folder / "bundle"


@contextmanager
def scratch() -> Iterator[tuple[Path, Path]]:
    """A folder for a program run by name, and the tiny bundle."""
    with tempfile.TemporaryDirectory(prefix="proof-") as folder:
        yield Path(folder), make_tiny_bundle(Path(folder))
