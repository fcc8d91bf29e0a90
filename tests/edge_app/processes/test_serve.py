"""The whole box in its processes: killed, stopped, started again. Nothing acknowledged is lost or done twice."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from urllib.request import urlopen

import cv2
import numpy as np
import pydicom
import pytest
from PIL import Image

from edge_app.__main__ import main
from edge_app.config import load_config
from edge_app.outbox import delivery
from edge_app.processes.serve import Box
from edge_app.store.items import Item
from edge_app.store.store import Store
from tests.proofs import peers, served

pytestmark = pytest.mark.slow

CANARY = "CANARY4711"  # in every file name, so in every patient number
TIMEOUT = 6  # seconds for one image


class Clinic:
    """A running box, its watched folder, and what it tells systemd."""

    def __init__(self, folder: Path, bundle: Path, picture: np.ndarray):
        self.share = folder / "share"
        self.share.mkdir()
        self.picture, self.sent = cv2.resize(picture, None, fx=3, fy=3), 0  # so large that it can be caught
        self.notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.notify.bind(str(folder / "notify"))
        self.heard: list[str] = []
        threading.Thread(target=self._listen, daemon=True).start()
        watched = {"name": "share", "path": self.share, "rescan_seconds": 0.1, "stable_seconds": 0.1}
        self.box = served.Box(folder / "box", bundle, folder=[watched], screening={"timeout_seconds": TIMEOUT})
        self.settings = self.box.folder / "box.toml"
        self.store = Store(self.box.data)

    def export(self) -> str:
        """Another picture in the folder; returns its name."""
        self.sent += 1
        picture = self.picture.copy()
        picture[0, 0] = self.sent
        name = f"{CANARY}_OD_2025-01-31_{self.sent}.png"
        Image.fromarray(picture).save(self.share.parent / name, compress_level=1)
        (self.share.parent / name).rename(self.share / name)
        return name

    def item(self, name: str) -> Item | None:
        return next((item for item in self.store.items(limit=1000) if item.file_name == name), None)

    def wait_for(self, name: str, *states: str) -> Item:
        self.box.wait_for(lambda: (item := self.item(name)) is not None and item.state in states, 120)
        return self.item(name)

    def worker(self) -> int:
        for pid in self.box.processes():
            if b"edge_app.processes.worker" in Path(f"/proc/{pid}/cmdline").read_bytes():
                return pid
        raise AssertionError("there is no screening process")

    def catch(self) -> tuple[str, int]:
        """Exports a picture and halts the process that screens it; returns the picture's name and the process."""
        for _ in range(5):
            self.box.wait_until_ready()
            name, pid = self.export(), self.worker()
            deadline = time.monotonic() + 60
            while not self.store.items("screening") and time.monotonic() < deadline:
                time.sleep(0.001)
            os.kill(pid, signal.SIGSTOP)
            time.sleep(0.05)
            if self.item(name).state == "screening":
                return name, pid
            os.kill(pid, signal.SIGCONT)
        raise AssertionError("no picture could be caught")

    def _listen(self) -> None:
        while message := self.notify.recv(1000).decode():
            self.heard.append(message)

    def told(self, text: str) -> bool:
        """Whether systemd hears it within a minute."""
        deadline = time.monotonic() + 60
        while text not in self.heard and time.monotonic() < deadline:
            time.sleep(0.05)
        return text in self.heard


@pytest.fixture(scope="module")
def clinic(tiny_bundle, tmp_path_factory, pictures, samples):
    folder = tmp_path_factory.mktemp("clinic")
    clinic = Clinic(folder, tiny_bundle, pictures["refer"])
    contents = (samples / "PHANTOM-0004_OD_2026-03-02_1.dcm").read_bytes()
    clinic.store.keep_object([contents], "dcm")  # as a crash between rename and commit leaves it
    (clinic.store.incoming / "half.part").write_bytes(contents[:1000])
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(served.ENVIRONMENT, "NOTIFY_SOCKET", str(folder / "notify"))
        with clinic.box.running():
            yield clinic


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "edge_app", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, cwd=served.ROOT, timeout=120)


def test_what_had_arrived_before_a_crash_is_taken_up(clinic, samples):
    uid = pydicom.dcmread(samples / "PHANTOM-0004_OD_2026-03-02_1.dcm").SOPInstanceUID
    clinic.box.wait_for(lambda: any(item.state == "done" for item in clinic.store.items()), 60)
    [item] = clinic.store.items()
    assert (item.origin, item.sop_instance_uid, item.state) == ("recovered", uid, "done")
    assert list(clinic.store.incoming.iterdir()) == []


def test_systemd_hears_of_start_and_progress(clinic):
    assert clinic.told("READY=1")
    assert clinic.told("WATCHDOG=1")


def test_status_shows_the_box_and_no_patient(clinic, capsys):
    name = clinic.export()
    item = clinic.wait_for(name, "done")
    assert main(["status", "--config", str(clinic.settings)]) == 0
    shown = capsys.readouterr().out
    assert shown.startswith("healthy")
    assert f"\n{item.id} " in shown
    assert "Refer" in shown
    assert CANARY not in shown
    main(["status", "--config", str(clinic.settings), "--patients"])
    assert CANARY in capsys.readouterr().out


def test_two_boxes_do_not_share_a_folder(clinic):
    second = run("serve", "--config", clinic.settings)
    assert second.returncode == 2
    assert second.stderr.splitlines()[-1].endswith("another box is running in this folder")


def test_a_killed_screening_process_comes_back_and_its_item_with_it(clinic):
    name, pid = clinic.catch()
    os.kill(pid, signal.SIGKILL)
    item = clinic.wait_for(name, "done")
    assert (item.attempts, item.crashes) == (2, 1)
    assert clinic.worker() != pid
    assert "realmnet_box_worker_deaths_total 1.0" in clinic.box.get("/metrics")


def test_an_item_that_kills_it_again_and_again_is_put_aside_and_the_next_one_is_screened(clinic):
    name, pid = clinic.catch()
    os.kill(pid, signal.SIGKILL)
    other = clinic.export()
    clinic.box.wait_for(lambda: clinic.item(other) is not None, 60)
    while clinic.item(name).state != "quarantined":  # whenever it is tried again, it kills again
        # A suspect is looked at alone: it cannot kill while another result is being written down.
        if clinic.item(name).state == "screening" and clinic.item(other).state != "screening":
            with suppress(AssertionError, OSError):  # it is between two lives
                os.kill(clinic.worker(), signal.SIGKILL)
            time.sleep(0.2)
        time.sleep(0.001)
    item = clinic.item(name)
    assert item.crashes >= 2
    assert "killed by signal 9" in item.reason
    assert clinic.wait_for(other, "done").crashes == 0
    clinic.box.wait_for(lambda: clinic.store.record(item.id) is not None, 60)
    record = clinic.store.record(item.id).record
    assert (record.outcome, record.patient_id) == ("not_analysed", CANARY)
    clinic.store.retry(item.id, "anna")
    assert clinic.wait_for(name, "done").attempts == 1


def test_an_item_that_takes_too_long_is_stopped(clinic):
    name, pid = clinic.catch()
    started = time.monotonic()
    clinic.box.wait_for(lambda: clinic.item(name).crashes == 1, 60)
    assert time.monotonic() - started > TIMEOUT - 2
    assert not Path(f"/proc/{pid}").exists()
    assert f"after {TIMEOUT} s" in clinic.box.log.read_text()
    clinic.wait_for(name, "done")


def test_a_box_killed_at_work_loses_nothing_and_does_nothing_twice(clinic):
    caught, _ = clinic.catch()
    waiting = [clinic.export() for _ in range(3)]
    clinic.box.wait_for(lambda: all(clinic.item(name) for name in waiting), 60)
    clinic.box.kill()
    clinic.box.start()
    clinic.box.wait_until_ready()
    for name in (caught, *waiting):
        item = clinic.wait_for(name, "done")
        assert item.crashes == 0
        assert clinic.store.record(item.id).revision == 1
    done = clinic.store.db.execute("SELECT count(*) FROM audit WHERE action = 'screened' AND item_id = ?", (item.id,))
    assert done.fetchone()[0] == 1


def test_a_worker_whose_box_was_killed_ends(clinic):
    pid = clinic.worker()
    clinic.box.kill(clinic.box.pid)
    deadline = time.monotonic() + 10
    while Path(f"/proc/{pid}").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not Path(f"/proc/{pid}").exists()
    clinic.box.start()
    clinic.box.wait_until_ready()


def test_told_to_stop_it_finishes_the_item_and_ends_well(clinic):
    name, pid = clinic.catch()
    clinic.box._process.terminate()
    time.sleep(0.3)
    assert clinic.box.alive
    os.kill(pid, signal.SIGCONT)
    assert clinic.box._process.wait(120) == 0
    assert clinic.told("STOPPING=1")
    assert clinic.item(name).state == "done"
    status = run("status", "--config", clinic.settings)
    assert status.returncode == 1
    assert status.stdout.startswith("the box is not running")


def test_nobody_reads_of_a_patient_in_the_log(clinic):
    log = clinic.box.log.read_text()
    assert "item 1" in log
    assert CANARY not in log
    assert "Traceback" not in log


def test_told_twice_it_ends_at_once(clinic):
    clinic.box.start()
    name, _ = clinic.catch()
    clinic.box._process.terminate()
    time.sleep(0.5)
    clinic.box._process.terminate()
    assert clinic.box._process.wait(5) == 128 + signal.SIGTERM
    assert clinic.item(name).state == "screening"  # the next start takes it up


def test_the_shipped_settings_start_a_healthy_box(tmp_path):
    """Nothing is changed but the folder and the ports, which others may use here, and the disk's watermark."""
    example = served.ROOT / "edge_app" / "deploy" / "box.toml"
    ports = peers.free_port(), peers.free_port()
    settings = {"DATA_DIR": tmp_path / "data", "DICOM__PORT": ports[0], "WEB__PORT": ports[1], "DISK__FREE_MB": 0}
    environment = {**served.ENVIRONMENT, **{f"REALMNET_BOX__{key}": str(value) for key, value in settings.items()}}
    command = [sys.executable, "-m", "edge_app"]
    with (tmp_path / "log").open("wb") as log:
        box = subprocess.Popen([*command, "serve", "--config", example], env=environment, stdout=log, stderr=log)
    try:
        deadline, answer = time.monotonic() + served.READY_SECONDS, ""
        while answer != "ok\n" and box.poll() is None and time.monotonic() < deadline:
            time.sleep(0.2)
            with suppress(OSError), urlopen(f"http://127.0.0.1:{ports[1]}/readyz", timeout=10) as page:
                answer = page.read().decode()
        status = subprocess.run(
            [*command, "status", "--config", example], env=environment, capture_output=True, text=True
        )
        assert (answer, status.returncode, status.stdout.split("\n")[0]) == ("ok\n", 0, "healthy"), status.stdout
    finally:
        box.terminate()
        assert box.wait(60) == 0, (tmp_path / "log").read_text()


@pytest.fixture
def idle(screened_box):
    """A box that was not started, with a store of delivered results, and its outbox."""
    config = screened_box.config()
    config = config.model_copy(update={"retention": config.retention.model_copy(update={"days": 1})})
    box = Box(config)
    box.store = screened_box.store()
    for waiting in box.store.deliveries(state="pending"):
        box.store.delivered(waiting.id)
    with box.store.write() as db:
        db.execute("UPDATE items SET received_at = ?1, finished_at = ?1 WHERE state = 'done'", ("2025-01-01",))
        db.execute("UPDATE deliveries SET delivered_at = '2025-01-01'")
    yield box
    box.store.close()


def test_nothing_is_removed_by_age_in_the_first_hour_or_after_the_clock_has_jumped(idle):
    done = idle.store.counts().items["done"]
    idle._expire()  # the clock may not be set yet
    assert idle.store.counts().items["done"] == done
    idle._next_expiry = 0.0
    started, mark = idle._clock
    idle._clock = started - timedelta(days=2), mark  # as if it had gained two days since
    idle._expire()
    assert idle.store.counts().items["done"] == done
    assert idle._clock_jumped()
    idle._clock = started - timedelta(hours=2), mark  # as daylight saving on a badly set clock
    idle._expire()
    assert idle.store.counts().items["expired"] == done > 5


def test_what_begins_to_wait_for_a_destination_that_is_gone_is_put_aside_while_the_box_runs(idle):
    idle.outbox = delivery.start(idle.config, idle.store)
    try:
        with idle.store.write() as db:
            db.execute("UPDATE deliveries SET state = 'pending', destination = 'gone'")
        waiting = idle.store.counts().deliveries["pending"]
        idle._give_up_gone_destinations()
        assert idle.store.counts().deliveries["dead"] == waiting > 5
    finally:
        idle.outbox.stop()


def test_what_cannot_work_is_refused_in_one_line(tmp_path, tiny_bundle):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        for number, (sections, expected) in enumerate(
            (
                ({"bundle": tmp_path}, "bundle.json"),
                ({"dicom": {"port": port}}, str(port)),
                ({"web": {"port": port}}, str(port)),
            )
        ):
            box = served.Box(tmp_path / str(number), sections.pop("bundle", tiny_bundle), **sections)
            refused = run("serve", "--config", box.folder / "box.toml")
            assert refused.returncode == 2
            last = refused.stderr.splitlines()[-1]
            assert last.startswith("edge_app: error: ")
            assert expected in last
            assert "Traceback" not in refused.stderr
    assert run("status", "--config", tmp_path / "0" / "box.toml").returncode in (1, 2)


def test_the_watchdog_is_fed_only_while_there_is_progress(tmp_path, tiny_bundle):
    box = served.Box(tmp_path / "box", tiny_bundle, dicom={"enabled": False}, web={"enabled": False})
    with Box(load_config(box.folder / "box.toml")) as parts:
        assert parts.makes_progress()
        assert parts.process.ready.wait(120)
        assert parts.problems() == []
        os.kill(parts.process.pid, signal.SIGSTOP)
        parts.process.progress -= 1000.0  # it has been silent for so long
        assert not parts.makes_progress()
        parts.process.kill()
        parts.process.ready.clear()
        assert parts.process.ready.wait(120)
        assert parts.makes_progress()
