"""Proof: a backup of a box at work is a whole box; one that is started from it finishes what waited, once each.

    python -m tests.proofs.box.restore --count 50

Scanners send without pause, results leave, delivered ones are removed by age, and the command `backup` copies the box
again and again. For every second backup the screening process is halted and the destination is away, so that images
and results wait. Each backup is restored into an empty folder, looked through, and a box is started there.
"""

import argparse
import hashlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta, timezone
from itertools import count
from pathlib import Path

from edge_app.store.store import Store
from tests.proofs import served
from tests.proofs.box.crash import Scanner

KEPT_SECONDS = 5.0  # age at which delivered results are removed
EXPIRY_SECONDS = 0.2  # between removals


class Retention(threading.Thread):
    """Removes by age what was delivered, as the box does every hour, all the time."""

    def __init__(self, data: Path):
        super().__init__(daemon=True)
        self._data, self.stopping, self.removed = data, threading.Event(), 0

    def run(self) -> None:
        store = Store(self._data)
        while not self.stopping.wait(EXPIRY_SECONDS):
            self.removed += store.expire(datetime.now(timezone.utc) - timedelta(seconds=KEPT_SECONDS))
        store.close()


def run(folder: Path, bundle: Path, backups: int) -> dict:
    """Makes and restores so many backups; returns what was done, or raises AssertionError for what went wrong."""
    box = _box(folder / "box", bundle)
    numbers = count()
    scanners = [Scanner(box, folder / f"scanner{n}", False, numbers) for n in range(2)]
    found: Counter[str] = Counter()
    with box.running():
        retention = Retention(box.data)
        for thread in (*scanners, retention):
            thread.start()
        for number in range(backups):
            time.sleep(1.0)
            sent = {uid for scanner in scanners for uid in scanner.sent.copy()}
            backup = folder / f"backup{number}"
            if number % 2:
                with _standstill(box):
                    _command("backup", "--config", box.folder / "box.toml", "--out", backup)
            else:
                _command("backup", "--config", box.folder / "box.toml", "--out", backup)
            found += _restored(folder / f"restored{number}", bundle, backup, sent)
            assert all(thread.is_alive() for thread in (*scanners, retention)), "a scanner or the removal by age failed"
            print(f"{number + 1} backups, {len(sent)} images", file=sys.stderr)
        for thread in (*scanners, retention):
            thread.stopping.set()
        for thread in (*scanners, retention):
            thread.join(120)
        box.wait_until_idle(600)
    sent = {uid for scanner in scanners for uid in scanner.sent}
    return {"backups": backups, "images sent": len(sent), "removed by age": retention.removed, **found}


def _box(folder: Path, bundle: Path) -> served.Box:
    (folder / "out").mkdir(parents=True)
    destination = [{"name": "files", "kind": "folder", "path": folder / "out", "results": ["json"]}]
    delivery = {"first_retry_seconds": 0.2, "max_retry_seconds": 1.0, "attempts": 10_000}
    return served.Box(folder, bundle, destination=destination, delivery=delivery)


def _command(*arguments: object) -> None:
    command = [sys.executable, "-m", "edge_app", *map(str, arguments)]
    done = subprocess.run(command, env=served.ENVIRONMENT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@contextmanager
def _standstill(box: served.Box) -> Iterator[None]:
    """The destination is away and the screening process halted, from when images and results have begun to wait."""
    out = box.folder / "out"
    out.rename(out.with_name("away"))
    time.sleep(1.0)
    halted = [
        pid for pid in box.processes() if b"edge_app.processes.worker" in Path(f"/proc/{pid}/cmdline").read_bytes()
    ]
    for pid in halted:
        os.kill(pid, signal.SIGSTOP)
    time.sleep(1.0)
    try:
        yield
    finally:
        for pid in halted:
            os.kill(pid, signal.SIGCONT)
        out.with_name("away").rename(out)


def _restored(folder: Path, bundle: Path, backup: Path, sent: set[str]) -> Counter[str]:
    """Restores the backup, looks it through, and has a box finish it. `sent`: acknowledged before the backup began."""
    box = _box(folder, bundle)
    _command("restore", backup, "--config", box.folder / "box.toml")
    with box.store() as store:
        store.check()
        items = {item.id: item for item in store.items(limit=1_000_000)}
        uids = {item.sop_instance_uid for item in items.values()}
        assert sent <= uids, f"{len(sent - uids)} images that were acknowledged before the backup are not in it"
        assert store.orphans() == []
        for item in items.values():
            _whole(store, item.id)
        unscreened = {item.id for item in items.values() if item.state in ("pending", "screening")}
        screened_before = _screened(store)
        waiting = {each.item_id for each in store.deliveries(state="pending", limit=1_000_000)}
        assert not waiting & unscreened
    with box.running():
        box.wait_until_idle(300)
        assert box.stop() == 0
    with box.store() as store:
        store.check()
        for item in store.items(limit=1_000_000):
            if item.state != "expired":
                assert item.state == "done", f"item {item.id} is {item.state}: {item.reason}"
                assert _whole(store, item.id)
                assert {each.state for each in store.deliveries(item.id)} == {"delivered"}
        assert _screened(store) - screened_before == Counter(unscreened), "what waited was not screened once"
    delivered = Counter(int(path.name.split("-")[0]) for path in (folder / "out").iterdir())
    assert delivered == Counter(unscreened | waiting), "what waited was not delivered once, or something else was"
    return Counter(
        {
            "images restored": len(items),
            "of these removed by age": sum(item.state == "expired" for item in items.values()),
            "finished by the restored boxes: screened": len(unscreened),
            "finished by the restored boxes: delivered": len(delivered),
        }
    )


def _screened(store: Store) -> Counter[int]:
    return Counter(row["item_id"] for row in store.trail() if row["action"] == "screened")


def _whole(store: Store, item_id: int) -> bool:
    """Whether everything is there that belongs to an item in its state; raises AssertionError where it is not."""
    item, result = store.item(item_id), store.record(item_id)
    assert item is not None
    path = store.object_path(item)
    if item.state == "expired":
        assert not path.exists()
        assert result is None
        return True
    assert hashlib.sha256(path.read_bytes()).hexdigest() == item.sha256, f"item {item_id}: its object"
    assert (result is not None) == (item.state == "done"), f"item {item_id} is {item.state}: its record"
    if result is not None:
        assert result.record.analysed, f"item {item_id}: {result.record.reasons}"
        for name in ("preview.jpg", "maps.npz"):
            assert (store.data_dir / "results" / str(item_id) / name).is_file(), f"item {item_id}: its {name}"
    return True


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--count", type=int, default=50, help="backups")
    arguments = parser.parse_args()
    with served.scratch() as (folder, bundle):
        print(json.dumps(run(folder, bundle, arguments.count), indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
