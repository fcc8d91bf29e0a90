"""Proof: a watched folder gives every image once and whole, however its files come, and outlives its share.

    python -m tests.proofs.box.folder --gone 180

Into the folder of a running box come: a file that is written slowly, with pauses longer than a file must be still; one
renamed in; copies under second names; a truncated file, an empty one; a TIFF named .jpg; names beyond ASCII and beyond
UTF-8; files that are no images. Then the share vanishes, as a path that is gone and as an empty folder, and comes back
with more.
"""

import argparse
import hashlib
import json
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path

from PIL import Image

from tests.proofs import served

STABLE_SECONDS = 0.6
PAUSE_SECONDS = 1.5  # of the slow writer
SETTINGS = {"rescan_seconds": 0.2, "stable_seconds": STABLE_SECONDS}


def picture(seed: int, kind: str = "JPEG") -> bytes:
    file = BytesIO()
    Image.fromarray(served.picture(seed)).save(file, kind)
    return file.getvalue()


def write_slowly(path: Path, data: bytes) -> None:
    """In five parts; the file lies still, unfinished, in between."""
    part = len(data) // 5 + 1
    with path.open("wb") as file:
        for start in range(0, len(data), part):
            file.write(data[start : start + part])
            file.flush()
            time.sleep(PAUSE_SECONDS if start else 0.1)


class Share:
    """The files that were put there: {SHA-256: the state their item must end in}."""

    def __init__(self, path: Path):
        self.path, self.expected = path, {}
        path.mkdir(parents=True)

    def put(self, name: str | bytes, data: bytes, state: str = "done") -> None:
        Path(os.fsdecode(os.fsencode(self.path) + b"/" + os.fsencode(name))).write_bytes(data)
        self.expect(data, state)

    def expect(self, data: bytes, state: str) -> None:
        self.expected[hashlib.sha256(data).hexdigest()] = state

    @contextmanager
    def gone(self, box: served.Box, seconds: float, empty: bool) -> Iterator[Path]:
        """The share is elsewhere for the time of the block and `seconds` more; `empty`: an empty folder is left."""
        elsewhere = self.path.with_name("elsewhere")
        self.path.rename(elsewhere)
        if empty:
            self.path.mkdir()
        else:
            box.wait_for(lambda: box.get("/readyz") != "ok\n", 30)  # it is told
        yield elsewhere
        time.sleep(seconds)
        if empty:
            self.path.rmdir()
        elsewhere.rename(self.path)
        box.wait_for(lambda: box.get("/readyz") == "ok\n", 30)


def fill(share: Share, outside: Path) -> None:
    slow = picture(1)
    write_slowly(share.path / "slow_OD_2026-03-02_1.jpg", slow)
    share.expect(slow, "done")
    outside.mkdir()
    (outside / "moved.jpg").write_bytes(picture(2))
    (outside / "moved.jpg").rename(share.path / "moved_OS_2026-03-02_1.jpg")
    share.expect(picture(2), "done")
    share.put("second-name_OS_2026-03-02_1.jpg", picture(2))
    share.put("tiff_OD_2026-03-02_1.jpg", picture(3, "TIFF"))
    share.put("Größe-眼底-глаз_OD_2026-03-02_1.png", picture(4, "PNG"))
    share.put(b"caf\xe9_OS_2026-03-02_1.jpg", picture(5))
    share.put("truncated_OD_2026-03-02_1.jpg", picture(6)[:9000], "quarantined")
    share.put("empty_OD_2026-03-02_1.jpg", b"", "quarantined")
    (share.path / "deep" / "er").mkdir(parents=True)
    share.put("deep/er/inside_OD_2026-03-02_1.jpg", picture(7))
    share.path.joinpath("Thumbs.db").write_bytes(b"no image")
    share.path.joinpath("notes.txt").write_text("no image")
    share.path.joinpath(".hidden.jpg").write_bytes(picture(8))  # some programs write so before they rename
    share.path.joinpath("link.jpg").symlink_to("/etc/hostname")


def check(box: served.Box, share: Share) -> None:
    """One item for each contents, in the state that is right for them, and nothing else."""
    with box.store() as store:
        found = store.items(limit=1000)
        assert len({item.sha256 for item in found}) == len(found), "the same contents twice"
        assert {item.sha256: item.state for item in found} == share.expected
        for item in found:
            assert store.object_path(item).stat().st_size == item.bytes
            result = store.record(item.id)
            assert result is not None
            assert (result.record.outcome == "not_analysed") == (item.state == "quarantined")
            assert bool(item.reason) == (item.state == "quarantined")


def wait(box: served.Box, share: Share) -> None:
    """Until there are as many settled items as expected; `check` says whether they are the right ones."""
    with box.store() as store:

        def settled() -> bool:
            counts = store.counts().items
            return counts["done"] + counts["quarantined"] >= len(share.expected)

        box.wait_for(settled, 120)


def run(folder: Path, bundle: Path, gone: float) -> dict:
    share = Share(folder / "share")
    box = served.Box(folder / "box", bundle, folder=[{"name": "export", "path": share.path, **SETTINGS}])
    with box.running():
        fill(share, folder / "outside")
        wait(box, share)
        for number, empty in enumerate((False, True)):
            with share.gone(box, gone, empty) as elsewhere:
                data = picture(10 + number)
                (elsewhere / f"meanwhile_{number}.jpg").write_bytes(data)
                share.expect(data, "done")
            wait(box, share)
        time.sleep(5 * STABLE_SECONDS)  # would something come twice, now that the share is back?
        check(box, share)
        before = len(share.expected)
        assert box.stop() == 0
    with box.running():  # nor after a restart
        time.sleep(5 * STABLE_SECONDS)
        check(box, share)
        assert box.stop() == 0
    return {"contents, each one item": before, "share gone, s": [gone, gone]}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--gone", type=float, default=180, help="seconds that the share is away, twice")
    arguments = parser.parse_args()
    with served.scratch() as (folder, bundle):
        print(json.dumps(run(folder, bundle, arguments.gone), indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
