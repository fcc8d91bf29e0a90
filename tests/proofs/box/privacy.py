"""Proof: no patient data in logs, metrics, addresses or paths. A canary is in every text field and every file name.

    python -m tests.proofs.box.privacy

The box runs at log level debug and meets the canary in objects that are screened, damaged, refused, doubled; in folder
files that are fine, damaged, unreadable, no images; on its way to destinations that work, refuse and do not answer; in
searches and notes on the web page, every page of which is visited. Then its log, metrics, audit trail, the addresses
of all pages, the command lines of its processes and every path it has made are searched.
"""

import argparse
import json
import re
import sys
import time
from contextlib import nullcontext
from functools import cache
from html import unescape
from pathlib import Path
from urllib.parse import urlencode, urljoin
from urllib.request import HTTPCookieProcessor, Request, build_opener

from pydicom import Dataset
from pydicom.datadict import DicomDictionary, dictionary_VR
from pydicom.uid import CTImageStorage
from pynetdicom import AE

from tests.proofs import peers, served

CANARY = "CANARY7431"  # short enough for every text value representation
TEXT = frozenset({"LO", "LT", "PN", "SH", "ST", "UC", "UT", "DA", "TM", "DT", "AS", "IS", "DS", "CS", "AE", "UR"})
# What decides whether and how an image is screened.
NEEDED = frozenset(
    {
        *("SpecificCharacterSet", "ImageType", "Modality", "Manufacturer", "PhotometricInterpretation"),
        *("ImageLaterality", "LossyImageCompression", "NumberOfFrames", "DataSetType", "DataSetSubtype"),
        *("NumberOfOpticalPaths", "PixelSpacing", "PixelAspectRatio", "Laterality"),
    }
)


@cache
def fields() -> list[str]:
    """Keywords of every text attribute of patient, study, series, device and image."""
    return [
        keyword
        for tag, (vr, _, _, retired, keyword) in DicomDictionary.items()
        if 0x0008 <= tag >> 16 <= 0x0028 and vr in TEXT and not retired and keyword not in NEEDED
    ]


def canary(**attributes: object) -> Dataset:
    """An image with the canary in every text field."""
    image = peers.ophthalmic(served.picture(1))
    for keyword in fields():
        _put(image, keyword, CANARY)
    image.add_new(0x00091010, "LO", CANARY)  # private, too
    for keyword, value in attributes.items():
        _put(image, keyword, value)
    return image


def _put(image: Dataset, keyword: str, value: object) -> None:
    """A number that is none goes in as text."""
    vr = dictionary_VR(keyword)
    image.add_new(keyword, "LO" if vr in ("IS", "DS") and value == CANARY else vr, value)


def arrive(box: served.Box) -> None:
    """Objects with the canary, in every way an object may go."""
    good = canary()
    assert served.send(box.dicom_port, good) == 0x0000
    good.PatientComments = "other bytes of the same instance"
    assert served.send(box.dicom_port, good) == 0x0000
    for attributes in (
        {"Manufacturer": CANARY},
        {"Modality": CANARY},
        {"ImageType": ["ORIGINAL", "PRIMARY", "", CANARY]},
        {"PhotometricInterpretation": CANARY},
        {"ImageLaterality": CANARY},
        {"SpecificCharacterSet": CANARY},
        {"NumberOfFrames": CANARY},
        {"Rows": 60000},
        {"PixelData": CANARY.encode()},
    ):
        served.send(box.dicom_port, canary(**attributes))
    for attributes in ({"StudyInstanceUID": CANARY}, {"SeriesInstanceUID": CANARY}, {"SOPInstanceUID": f"{CANARY}/.."}):
        assert served.send(box.dicom_port, canary(**attributes)) != 0x0000
    other_class = canary()
    other_class.SOPClassUID = CTImageStorage
    assert served.send(box.dicom_port, other_class) == 0x0000  # noted and dropped
    rejected = AE("SCANNER")
    rejected.add_requested_context(good.SOPClassUID)
    peers.wait_until(  # a busy box may end it before it has answered
        lambda: rejected.associate("127.0.0.1", box.dicom_port, ae_title=CANARY).is_rejected,
        60,
        "a foreign title rejected",
    )


def put_files(share: Path) -> None:
    from tests.proofs.box.folder import picture

    below = share / CANARY
    below.mkdir(parents=True)
    for name, data in {
        f"{CANARY}_OD_2026-03-02_1.jpg": picture(1),
        f"{CANARY}_OS_2026-03-02_1.jpg": picture(1),
        f"{CANARY}_OS_2026-03-02_2.jpg": picture(2)[:5000],
        f"{CANARY}_OS_2026-03-02_3.jpg": b"",
        f"{CANARY}.dcm": b"\0" * 128 + b"DICM" + CANARY.encode() * 20,
        f"{CANARY}.txt": b"no image",
        f"{CANARY}.webp": b"RIFF\0\0\0\0WEBP" + CANARY.encode(),
        f"{CANARY}/{CANARY}.png": picture(3, "PNG"),
    }.items():
        (share / name).write_bytes(data)
    (below / f"{CANARY}-2.jpg").symlink_to(below / CANARY)


class Visitor:
    """Follows every link of the web page, and uses its forms."""

    def __init__(self, box: served.Box):
        self._base, self._open = f"http://127.0.0.1:{box.web_port}", build_opener(HTTPCookieProcessor())
        self.addresses: set[str] = set()
        self.pages = 0
        self.shown = 0  # pages that showed the canary, as pages about a patient must

    def get(self, path: str, **form: str) -> str:
        data = urlencode(form).encode() if form else None
        try:
            with self._open.open(Request(self._base + path, data), timeout=30) as answer:
                self.addresses.add(answer.geturl())
                content = answer.read() if "text" in answer.headers["Content-Type"] else b""
        except OSError as error:  # a page that refuses is a page, too
            content = getattr(error, "read", lambda: b"")()
        self.pages += 1
        text = content.decode(errors="replace")
        self.shown += CANARY in text
        return text

    def crawl(self) -> None:
        waiting, seen = ["/"], set()
        while waiting:
            path = waiting.pop()
            if path in seen:
                continue
            seen.add(path)
            text = self.get(path)
            for address in re.findall(r'(?:href|src|action|hx-get|hx-post)="([^"]*)"', text):
                whole = urljoin(self._base + path, unescape(address))
                self.addresses.add(whole)
                if whole.startswith(self._base):
                    waiting.append(whole.removeprefix(self._base))

    def use(self, items: list[int]) -> None:
        [token] = set(re.findall(r'name="csrf" value="([0-9a-f]+)"', self.get("/")))
        self.get("/", csrf=token, query=CANARY)
        for item in items:
            self.get(f"/items/{item}/review", csrf=token, agreement="disagree", note=CANARY)
            self.get(f"/items/{item}/eye", csrf=token, eye=CANARY)
            self.get(f"/items/{item}/eye", csrf=token, eye="OD")
            self.get(f"/items/{item}/retry", csrf=token, actor=CANARY)
        self.get("/audit.csv", csrf=token)
        self.get("/login", csrf=token, name=CANARY, password=CANARY)


def run(folder: Path, bundle: Path) -> dict:
    share = folder / "share"
    put_files(share)
    watched = {"name": "export", "path": share, "rescan_seconds": 0.2, "stable_seconds": 0.3}
    everything = ["sr", "sc", "json", "csv", "fhir"]
    blocked = folder / "blocked"
    blocked.write_text("a file where a folder should be")
    silent, refusing = peers.free_port(), peers.free_port()
    dicom = {"kind": "dicom", "host": "127.0.0.1", "ae_title": "PEER", "results": ["sr", "sc"], "timeout_seconds": 3}
    box = served.Box(
        folder / "box",
        bundle,
        log_level="debug",
        folder=[watched],
        destination=[
            {"name": "files", "kind": "folder", "path": folder / "delivered", "results": everything},
            {"name": "blocked", "kind": "folder", "path": blocked, "results": everything},
            {"name": "silent", "port": silent, **dicom},
            {"name": "refusing", "port": refusing, **dicom},
        ],
        delivery={"first_retry_seconds": 0.2, "max_retry_seconds": 1, "attempts": 3},
    )
    visitor = Visitor(box)
    peer = nullcontext() if peers.missing("storescp") else peers.process(refusing, "storescp", "--refuse", refusing)
    with box.running():
        arrive(box)
        with peer:
            box.wait_until_idle(180)
        with box.store() as store:
            items = [item.id for item in store.items(limit=1000)]
            shown = [store.record(item) for item in items]
            assert any(result and result.record.patient_id == CANARY for result in shown), "the canary never flew"
            visitor.use(items)
            box.kill(*box.processes()[1:])  # the screening process
            box.wait_until_ready()
            box.wait_until_idle(180)
            visitor.crawl()
            metrics = "".join(box.get(path) for path in ("/metrics", "/healthz", "/readyz"))
            commands = "".join(Path(f"/proc/{pid}/cmdline").read_text() for pid in box.processes())
            trail = "\n".join(str(tuple(row)) for row in store.trail())
        assert box.stop() == 0
    time.sleep(0.2)
    paths = [str(path.relative_to(folder)) for path in (box.data, folder / "delivered") for path in path.rglob("*")]
    places = {
        "log": box.log.read_text(),
        "metrics": metrics,
        "audit trail": trail,
        "addresses": "\n".join(visitor.addresses),
        "command lines": commands,
        "paths": "\n".join(paths),
    }
    found = {place: [line for line in text.splitlines() if CANARY in line] for place, text in places.items()}
    assert not any(found.values()), json.dumps({place: lines[:5] for place, lines in found.items() if lines}, indent=2)
    assert visitor.shown > 3, "no page showed the patient"
    return {
        "text fields with the canary": len(fields()),
        "items": len(items),
        "pages visited": visitor.pages,
        "lines searched": {place: text.count("\n") + 1 for place, text in places.items()},
    }


def main() -> int:
    argparse.ArgumentParser(description=__doc__.partition("\n")[0]).parse_args()
    with served.scratch() as (folder, bundle):
        print(json.dumps(run(folder / "proof", bundle), indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
