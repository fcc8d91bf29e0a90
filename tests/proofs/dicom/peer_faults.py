"""Proof: whatever an archive does wrong, every result arrives once it does right, exactly once by its identity.

    python -m tests.proofs.dicom.peer_faults --count 20

dcmtk's storescp refuses, rejects, aborts during and after a store, and falls asleep; then a sound one takes its place
on the same port. `count` images make as many reports and heat maps, for each fault.
"""

import argparse
import tempfile
import time
from pathlib import Path

from pydicom import dcmread
from pydicom.uid import generate_uid

from edge_app.outbox import delivery, documents
from edge_app.store.store import Store
from tests.proofs import peers

FAULTS = {
    "--refuse": ("--refuse",),
    "--reject": ("--reject",),  # only peers without an implementation class UID, so never the box
    "--abort-during": ("--abort-during",),
    "--abort-after": ("--abort-after",),
    "--sleep-during 60": ("--sleep-during", "60"),
}
TIMEOUT = 4.0  # seconds that the box waits for an archive; a minute in a clinic


def prove(folder: Path, count: int, faults: tuple[str, ...] = tuple(FAULTS), bundle: Path = peers.BUNDLE) -> list[str]:
    """Raises AssertionError or RuntimeError where it does not hold; returns what was counted, fault by fault."""
    return [f"{fault}: {_prove(folder / str(number), count, fault, bundle)}" for number, fault in enumerate(faults)]


def _prove(folder: Path, count: int, fault: str, bundle: Path) -> str:
    port = peers.free_port()
    config = peers.settings(
        folder / "box",
        destination=[
            {"name": "archive", "kind": "dicom", "host": "127.0.0.1", "port": port, "ae_title": "ARCHIVE"}
            | {"results": ["sr", "sc"], "timeout_seconds": TIMEOUT}
        ],
        delivery={"first_retry_seconds": 0.2, "max_retry_seconds": 1.0, "attempts": 10_000},
    )
    store = Store(config.data_dir)
    image = peers.ophthalmic(peers.picture())
    for _ in range(count):
        image.SOPInstanceUID = generate_uid()
        peers.take_in(store, peers.write(image, folder / "image.dcm"))
    peers.screen(store, config, bundle)
    total = store.counts().deliveries["pending"]
    assert total == 2 * count, total
    sound_already = fault == "--reject"
    with peers.storescp(folder / "faulty", port, *FAULTS[fault]):
        outbox = delivery.start(config, store)
        if sound_already:
            peers.wait_until(lambda: _delivered(store) == total, 300, "everything is delivered")
        else:
            peers.wait_until(lambda: _failures(store) >= 3, 120, "three failures")
        early = _delivered(store)
    healed = time.monotonic()
    try:
        with peers.storescp(folder / "sound", port):
            peers.wait_until(lambda: _delivered(store) == total, 300, "everything is delivered")
            seconds = time.monotonic() - healed
    finally:
        outbox.stop()
    failures = _failures(store)
    assert early == (total if sound_already else 0)
    expected = {}
    for result in store.worklist(limit=count):
        for kind in ("sr", "sc"):
            file = documents.render(store, result, kind)
            expected[str(dcmread(file, stop_before_pixels=True).SOPInstanceUID)] = peers.encoded(file)
    received = {}
    for file in (folder / ("faulty" if sound_already else "sound")).iterdir():
        uid = str(dcmread(file, stop_before_pixels=True).SOPInstanceUID)
        assert uid not in received, "a result came twice"
        received[uid] = peers.encoded(file)
    assert received == expected
    store.close()
    return f"{total} results, {failures} failed attempts, all delivered {seconds:.1f} s after the archive was sound"


def _failures(store: Store) -> int:
    return sum(each.attempts - (each.state == "delivered") for each in store.deliveries(limit=100_000))


def _delivered(store: Store) -> int:
    return store.counts().deliveries["delivered"]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=20, help="images for each fault")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        print("\n".join(prove(Path(directory), options.count)))
