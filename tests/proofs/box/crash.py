"""Proof: after any crash every acknowledged image has one result; none is lost, none screened or delivered twice.

    python -m tests.proofs.box.crash --count 500

Scanners (dcmtk's storescu and pynetdicom) send without pause, each image again until it is acknowledged, while the box
is killed with `kill -9` at random moments, also while it starts: all of its processes, the screening process alone, or
the serving process alone, so that an orphaned screening process meets the next one. A destination takes every result
as a file, so the outbox is killed, too.
"""

import argparse
import hashlib
import json
import random
import sys
import threading
import time
from collections import Counter
from copy import deepcopy
from dataclasses import dataclass, field
from functools import cache
from itertools import count
from pathlib import Path

from pydicom import Dataset
from pydicom.uid import JPEGBaseline8Bit, generate_uid

from tests.proofs import peers, served

KINDS = ("all processes", "screening process", "serving process")
WEIGHTS = (2, 1, 1)
MOMENTS = {"starting": 0.25, "receiving": 0.25, "screening": 0.5}  # what the box is to be at when it is killed
PAUSE_SECONDS = 0.3  # of a scanner after an image: the rate is not what is proved


@cache
def _template() -> Dataset:
    return peers.ophthalmic(served.picture(1), JPEGBaseline8Bit)


def _image(number: int) -> Dataset:
    image = deepcopy(_template())
    image.SOPInstanceUID, image.StudyInstanceUID = generate_uid(), generate_uid()
    image.PatientID = f"T-{number}"
    return image


@dataclass
class Scanner(threading.Thread):
    """Sends image after image until told to stop, each until it is acknowledged.

    sent: {SOP Instance UID: SHA-256 of the data set} of what was acknowledged. `again`: attempts without an answer.
    """

    box: served.Box
    folder: Path
    dcmtk: bool
    numbers: "count[int]"
    sent: dict[str, str] = field(default_factory=dict)
    again: int = 0
    stopping: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        super().__init__(daemon=True)

    __hash__ = threading.Thread.__hash__

    def run(self) -> None:
        while not self.stopping.is_set():
            image = _image(next(self.numbers))
            file = peers.write(image, self.folder / f"{image.SOPInstanceUID}.dcm")
            while not self._acknowledged(image, file):
                self.again += 1
                time.sleep(0.1)
            self.sent[image.SOPInstanceUID] = hashlib.sha256(peers.encoded(file)).hexdigest()
            file.unlink()
            self.stopping.wait(PAUSE_SECONDS)

    def _acknowledged(self, image: Dataset, file: Path) -> bool:
        if not self.dcmtk:
            return served.send(self.box.dicom_port, image) == 0x0000
        to = ("-aec", "REALMNET", "127.0.0.1", self.box.dicom_port)
        return peers.run("storescu", "-R", "-xy", "-to", 10, "-ta", 30, "-td", 30, *to, file).returncode == 0


def run(folder: Path, bundle: Path, kills: int, seed: int = 0) -> dict:
    """Kills the box so often; returns what was done, or raises AssertionError for what went wrong."""
    rng = random.Random(seed)
    results = folder / "results"
    results.mkdir(parents=True)
    destination = {"name": "files", "kind": "folder", "path": results, "results": ["json"]}
    box = served.Box(folder / "box", bundle, destination=[destination], web={"enabled": False})
    numbers = count()
    dcmtk = not peers.missing("storescu")
    scanners = [Scanner(box, folder / f"scanner{n}", dcmtk and n == 0, numbers) for n in range(2)]
    killed: Counter[str] = Counter()
    killed_at: Counter[str] = Counter()
    box.start()
    try:
        box.wait_until_listening()
        for scanner in scanners:
            scanner.start()
        while killed.total() < kills:
            assert all(scanner.is_alive() for scanner in scanners), "a scanner failed"
            moment = rng.choices(list(MOMENTS), list(MOMENTS.values()))[0]
            _wait_for(box, moment)
            time.sleep(rng.uniform(0, 0.5 if moment == "screening" else 2.0))
            kind = rng.choices(KINDS, WEIGHTS)[0]
            if _kill(box, kind):
                killed[kind] += 1
                killed_at[moment] += 1
            if not box.alive:
                box.start()
            if killed.total() % 50 == 0:
                print(f"{killed.total()} kills, {sum(len(s.sent) for s in scanners)} images", file=sys.stderr)
        for scanner in scanners:
            scanner.stopping.set()
        for scanner in scanners:
            scanner.join(served.READY_SECONDS + 120)  # the box may just have been killed
            assert not scanner.is_alive(), "a scanner gets no answer any more"
        retried = _drain(box)
        assert box.stop() == 0
    finally:
        if box.alive:
            box.kill()
    sent = {uid: digest for scanner in scanners for uid, digest in scanner.sent.items()}
    check(box, sent, results, retried)
    return {
        "kills": dict(killed),
        "while the box was": dict(killed_at),
        "images acknowledged, each with one result": len(sent),
        "attempts of scanners without success": sum(scanner.again for scanner in scanners),
        "put aside after killing its process three times, then retried": len(retried),
    }


def _wait_for(box: served.Box, moment: str) -> None:
    if moment != "starting":
        box.wait_until_listening()
    if moment == "screening":  # there always is a backlog by then
        box.wait_for(lambda: box.has_said("edge_app.processes.worker: item"), 120)


def _kill(box: served.Box, kind: str) -> bool:
    """Whether there was something to kill: the screening process may just be on its way up."""
    serving, *others = box.processes()
    if kind == "all processes":
        box.kill(serving, *others)
    elif kind == "serving process":
        box.kill(serving)
    elif others:
        box.kill(*others)
    else:
        return False
    return True


def _drain(box: served.Box) -> set[int]:
    """Waits until all is screened and delivered; what was killed too often is retried, as an operator would."""
    retried = set()
    while True:
        box.wait_until_idle(600)
        with box.store() as store:
            aside = store.items("quarantined", limit=100_000)
            if not aside:
                return retried
            for item in aside:
                assert item.id not in retried, f"item {item.id} is put aside again: {item.reason}"
                store.retry(item.id, "proof")
                retried.add(item.id)


def check(box: served.Box, sent: dict[str, str], results: Path, retried: set[int]) -> None:
    """`sent`: {SOP Instance UID: SHA-256 of the data set} of every acknowledged image."""
    with box.store() as store:
        store.check()
        items = store.items(limit=1_000_000)
        uids = Counter(item.sop_instance_uid for item in items)
        assert set(sent) <= set(uids), f"lost: {set(sent) - set(uids)}"
        assert set(uids) <= set(sent), f"never sent: {set(uids) - set(sent)}"
        assert max(uids.values()) == 1, f"taken in twice: {uids.most_common(3)}"
        screened = Counter(row["item_id"] for row in store.trail() if row["action"] == "screened")
        for item in items:
            path = store.object_path(item)
            assert item.state == "done", f"item {item.id} is {item.state}: {item.reason}"
            assert screened[item.id] == 1, f"item {item.id} was screened {screened[item.id]} times"
            assert hashlib.sha256(path.read_bytes()).hexdigest() == item.sha256
            assert hashlib.sha256(peers.encoded(path)).hexdigest() == sent[item.sop_instance_uid]
            result = store.record(item.id)
            assert result is not None
            assert result.record.analysed, f"item {item.id}: {result.record.reasons}"
            revisions = 2 if item.id in retried else 1  # one "not analysed" before the retry
            assert result.revision <= revisions, f"item {item.id} has revision {result.revision}"
            [delivery] = store.deliveries(item.id)
            assert delivery.state == "delivered", f"item {item.id} is {delivery.state}: {delivery.last_error}"
        assert store.orphans() == []
        assert list(store.data_dir.rglob("*.part")) == []
    delivered = [path for path in results.rglob("*") if path.is_file()]
    assert len(delivered) == len(sent), f"{len(delivered)} files were delivered for {len(sent)} images"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--count", type=int, default=500, help="kills")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    with served.scratch() as (folder, bundle):
        print(json.dumps(run(folder, bundle, arguments.count, arguments.seed), indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
