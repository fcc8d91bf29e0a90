"""Proof: whatever a sender includes in a study, every picture gets its result; the rest is noted, then dropped.

    python -m tests.proofs.dicom.foreign_classes --count 200 --kills 100

Studies of pictures among PDFs, raw data, reports, objects of private and unknown classes and other transfer
syntaxes, and the box's own heat maps and reports that come back, are sent by dcmtk's storescu and by pynetdicom, which
stop at the first object that is not taken. First the box runs on: one line of the audit trail for each. Then it is
killed (`kill -9`) at random moments meanwhile, and each study is sent again until all of it is acknowledged: no
acknowledged object without its line. Where Orthanc is installed, it forwards the box's results to the box, too.
"""

import argparse
import itertools
import json
import random
import re
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from pydicom import Dataset, dcmread
from pydicom.uid import (
    UID,
    Comprehensive3DSRStorage,
    EncapsulatedPDFStorage,
    HTJ2KLossless,
    JPEGBaseline8Bit,
    OphthalmicTomographyImageStorage,
    RawDataStorage,
    SecondaryCaptureImageStorage,
    generate_uid,
)
from pynetdicom import AE

from edge_app.dicom.compat import reserve_answers
from edge_app.store.store import Store
from tests.proofs import peers, served

OWN = "a result of this software"
UNKNOWN = UID("1.2.840.10008.5.1.4.1.1.77.1.5.999")
PRIVATE = UID("1.2.276.0.99999.1.1")
OTHERS = {  # class: the kind that the audit trail names
    EncapsulatedPDFStorage: f"Encapsulated PDF Storage ({EncapsulatedPDFStorage})",
    RawDataStorage: f"Raw Data Storage ({RawDataStorage})",
    Comprehensive3DSRStorage: f"Comprehensive 3D SR Storage ({Comprehensive3DSRStorage})",
    OphthalmicTomographyImageStorage: f"Ophthalmic Tomography Image Storage ({OphthalmicTomographyImageStorage})",
    UNKNOWN: f"unknown class {UNKNOWN}",
    PRIVATE: f"unknown class {PRIVATE}",
}


@dataclass(frozen=True)
class Sent:
    """An object of a study: its file, and its kind as the audit trail names it; None: a picture."""

    file: Path
    uid: str
    kind: str | None


def study(folder: Path, number: int, own: list[Path], dcmtk: bool) -> list[Sent]:
    """The files of a study, pictures among the rest; `dcmtk`: only what its storescu knows how to send."""
    study_uid, objects = generate_uid(), []
    same = {"StudyInstanceUID": study_uid, "PatientID": f"T-{number}"}
    for place, sop_class in enumerate((None, *OTHERS, None)):
        if dcmtk and sop_class in (UNKNOWN, PRIVATE):
            continue
        if sop_class is None:
            image = peers.ophthalmic(served.picture(1, width=260), JPEGBaseline8Bit, **same)
            image.InstanceNumber = place
        else:
            image = _document(sop_class, **same)
        file = peers.write(image, folder / f"{place}.dcm")
        objects.append(Sent(file, image.SOPInstanceUID, None if sop_class is None else OTHERS[sop_class]))
    returned = [Sent(file, str(dcmread(file, stop_before_pixels=True).SOPInstanceUID), OWN) for file in own]
    return [objects[0], *returned, *objects[1:]]


def _document(sop_class: UID, **attributes: object) -> Dataset:
    image = peers.ophthalmic(np.zeros((8, 8, 3), np.uint8), SOPClassUID=sop_class, PixelData=None, **attributes)
    image.EncapsulatedDocument = b"%PDF-1.4" + random.randbytes(100_000)
    image.MIMETypeOfEncapsulatedDocument = "application/pdf"
    if sop_class == PRIVATE:
        image.file_meta.TransferSyntaxUID = HTJ2KLossless  # no transfer syntax of the box's
    return image


@dataclass
class Sender(threading.Thread):
    """Sends so many studies, then more until told that it is enough; each again until all of it is acknowledged.

    acknowledged: {kind: how often}, of every attempt. pictures: {SOP Instance UID} of what was acknowledged.
    """

    box: served.Box
    folder: Path
    title: str
    dcmtk: bool
    own: list[Path]
    studies: int
    enough: threading.Event
    again: int = 0
    acknowledged: Counter[str] = field(default_factory=Counter)
    pictures: set[str] = field(default_factory=set)
    failed: list[BaseException] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__(daemon=True)

    __hash__ = threading.Thread.__hash__

    def run(self) -> None:
        try:
            for number in itertools.count():
                if number >= self.studies and self.enough.is_set():
                    return
                objects = study(self.folder / f"{number}", number, self.own, self.dcmtk)
                while not self._send(objects):
                    self.again += 1
                    time.sleep(0.2)
        except BaseException as error:
            self.failed.append(error)
            raise

    def _send(self, objects: list[Sent]) -> bool:
        """One attempt, which ends at the first object that is not acknowledged."""
        taken = self._by_storescu(objects) if self.dcmtk else self._by_pynetdicom(objects)
        for sent in objects[:taken]:
            if sent.kind is None:
                self.pictures.add(sent.uid)
            else:
                self.acknowledged[sent.kind] += 1
        return taken == len(objects)

    def _by_storescu(self, objects: list[Sent]) -> int:
        options = ("-v", "-R", "-xy", "-to", 10, "-ta", 30, "-td", 30, "-aet", self.title, "-aec", "REALMNET")
        said = peers.run("storescu", *options, "127.0.0.1", self.box.dicom_port, *(sent.file for sent in objects))
        return len(re.findall(r"Received Store Response \(Success\)", said.stdout))

    def _by_pynetdicom(self, objects: list[Sent]) -> int:
        entity = AE(self.title)
        entity.acse_timeout = entity.dimse_timeout = entity.network_timeout = 30
        datasets = [dcmread(sent.file) for sent in objects]
        for context in {(image.SOPClassUID, image.file_meta.TransferSyntaxUID) for image in datasets}:
            entity.add_requested_context(*context)
        association = entity.associate("127.0.0.1", self.box.dicom_port, ae_title="REALMNET")
        reserve_answers(association)
        taken = 0
        with suppress(RuntimeError):  # the connection broke
            while association.is_established and taken < len(datasets):
                if association.send_c_store(datasets[taken]).get("Status") != 0x0000:
                    break
                taken += 1
        association.release() if association.is_established else association.abort()
        return taken


def run(folder: Path, bundle: Path, studies: int, kills: int, seed: int = 0) -> dict:
    """Returns what was done, or raises AssertionError for what went wrong."""
    results = folder / "results"
    results.mkdir(parents=True)
    destination = {"name": "files", "kind": "folder", "path": results, "results": ["sr", "sc"]}
    box = served.Box(folder / "box", bundle, destination=[destination])
    found: dict = {}
    box.start()
    try:
        box.wait_until_ready()
        first = peers.ophthalmic(served.picture(1), JPEGBaseline8Bit)
        assert served.send(box.dicom_port, first) == 0x0000
        box.wait_until_idle()
        own = sorted(results.glob("*.dcm"))
        assert sorted(dcmread(file).SOPClassUID for file in own) == [
            SecondaryCaptureImageStorage,
            Comprehensive3DSRStorage,
        ]
        quiet = _senders(box, folder / "quiet", own, studies, "QUIET")
        for sender in quiet:
            sender.enough.set()
        for sender in quiet:
            sender.start()
        for sender in quiet:
            sender.join()
        assert all(sender.again == 0 and not sender.failed for sender in quiet), "a study was not taken at once"
        with box.store() as store:
            assert _noted(store) == _acknowledged(quiet), "not one line for each object"
        found["forwarded by Orthanc"] = _forwarded(box, folder, own)
        busy = _senders(box, folder / "busy", own, studies, "BUSY")
        _kill_while_they_send(box, busy, kills, seed)
        box.wait_until_idle(600)
        with box.store() as store:
            for item in store.items("quarantined", limit=100_000):  # killed again and again by chance
                store.retry(item.id, "proof")
        box.wait_until_idle(600)
        assert box.stop() == 0
    finally:
        if box.alive:
            box.kill()
    _check(box, {str(first.SOPInstanceUID), *(uid for sender in (*quiet, *busy) for uid in sender.pictures)}, busy)
    return {
        "pictures, each with one result": sum(len(sender.pictures) for sender in (*quiet, *busy)) + 1,
        "other objects, one line each": _acknowledged(quiet).total(),
        **found,
        "kills": kills,
        "other objects acknowledged between kills, each with its line": _acknowledged(busy).total(),
        "studies begun anew": sum(sender.again for sender in busy),
    }


def _senders(box: served.Box, folder: Path, own: list[Path], studies: int, title: str) -> list[Sender]:
    with_dcmtk = (False,) if peers.missing("storescu") else (True, False)
    names = {True: "STORESCU", False: "PYNETDICOM"}
    return [
        Sender(box, folder / names[dcmtk], f"{title}-{names[dcmtk]}", dcmtk, own, studies, threading.Event())
        for dcmtk in with_dcmtk
    ]


def _kill_while_they_send(box: served.Box, senders: list[Sender], kills: int, seed: int) -> None:
    """Kills the box, all of its processes at once, so often while every sender has more to send; it runs at the end."""
    rng = random.Random(seed)
    for sender in senders:
        sender.start()
    for _ in range(kills):
        box.wait_until_listening()
        time.sleep(rng.uniform(0, 1.5))
        assert all(sender.is_alive() for sender in senders), [sender.failed for sender in senders]
        box.kill()
        box.start()
    for sender in senders:
        sender.enough.set()
    for sender in senders:
        sender.join()
    assert not any(sender.failed for sender in senders), "a sender failed"
    box.wait_until_ready()


def _forwarded(box: served.Box, folder: Path, own: list[Path]) -> int | None:
    """How many of the box's results an Orthanc sent to the box, which took none of them for a picture."""
    if peers.missing("Orthanc", "storescu"):
        return None
    port = peers.free_port()
    with peers.orthanc(folder / "orthanc", port, box=("REALMNET", box.dicom_port)) as archive, box.store() as store:
        sent = peers.run("storescu", "-R", "-aec", "ORTHANC", "127.0.0.1", port, *own)
        assert sent.returncode == 0, sent.stdout
        before = store.counts().items
        archive.send("box")
        assert _noted(store, "ORTHANC") == Counter({OWN: len(own)})
        assert store.counts().items == before
    return len(own)


def _acknowledged(senders: list[Sender]) -> Counter[tuple[str, str]]:
    return Counter({(kind, sender.title): n for sender in senders for kind, n in sender.acknowledged.items()})


def _noted(store: Store, origin: str | None = None) -> Counter:
    """Objects by kind and sender, or of one sender by kind, as the store tells them."""
    if origin is not None:
        return Counter({each.kind: each.number for each in store.dropped() if each.origin == origin})
    return Counter({(each.kind, each.origin): each.number for each in store.dropped()})


def _check(box: served.Box, pictures: set[str], busy: list[Sender]) -> None:
    """Every picture has its result, every other object its line, and nothing else is on the disk."""
    with box.store() as store:
        store.check()
        items = store.items(limit=1_000_000)
        assert Counter(item.sop_instance_uid for item in items) == Counter(pictures), "not one item for each picture"
        for item in items:
            assert item.state == "done", f"item {item.id} is {item.state}: {item.reason}"
            result = store.record(item.id)
            assert result is not None, f"item {item.id} has no result"
            assert result.record.analysed, f"item {item.id}: {result.record.reasons}"
        noted = _noted(store)
        for key, number in _acknowledged(busy).items():
            assert noted[key] >= number, f"{key}: {number} acknowledged, {noted[key]} noted"
        kept = {path.stem for path in (store.data_dir / "objects").rglob("*") if path.is_file()}
        assert kept == {item.sha256 for item in items}, "something else is kept"
        assert list(_temporary(store)) == []


def _temporary(store: Store) -> Iterator[Path]:
    yield from store.incoming.iterdir()
    yield from store.data_dir.rglob("*.part")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--count", type=int, default=200, help="studies of each sender, twice")
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    with served.scratch() as (folder, bundle):
        print(json.dumps(run(folder, bundle, arguments.count, arguments.kills, arguments.seed), indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
