"""Proof: a full disk is refused with A700 and survived; what was acknowledged before is kept and screened after.

    python -m tests.proofs.box.disk_full --count 20

The box's folder is a small file system of its own. Each cycle fills it: below the watermark first; then, with another
box that has no watermark, to the last byte in the middle of writes. Then space returns. Needs the right to mount.
"""

import argparse
import ctypes
import errno
import hashlib
import json
import os
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pydicom import Dataset, dcmread

from tests.proofs import peers, served

SIZE_MB = 256
WATERMARK_MB = 16
RECOVERY_SECONDS = 30
OUT_OF_RESOURCES = 0xA700

libc = ctypes.CDLL(None, use_errno=True)


def reason_to_skip() -> str | None:
    if os.geteuid() != 0:
        return "mounting a small file system needs root"
    return None


@contextmanager
def small_disk(folder: Path) -> Iterator[Path]:
    """A file system of SIZE_MB in memory. Raises PermissionError where mounting is not permitted, even to root."""
    folder.mkdir(parents=True)
    if libc.mount(b"tmpfs", os.fsencode(folder), b"tmpfs", 0, f"size={SIZE_MB}m".encode()):
        raise PermissionError(ctypes.get_errno(), "mounting is not permitted here")
    try:
        yield folder
    finally:
        libc.umount2(os.fsencode(folder), 2)  # MNT_DETACH


def fill(disk: Path, leave: int) -> Path:
    """A file that leaves so many bytes free."""
    filler = disk / "filler"
    with filler.open("wb") as file:
        for _ in range(100):
            free = os.statvfs(disk)
            try:
                os.posix_fallocate(file.fileno(), 0, max(1, free.f_bavail * free.f_frsize - leave))
                return filler
            except OSError as error:  # the box wrote in between
                if error.errno != errno.ENOSPC:
                    raise
    raise TimeoutError("the box always wrote before the rest of the disk was taken")


def image(number: int) -> Dataset:
    """About 180 kB, each with other contents."""
    pixels = served.picture(1, width=260).copy()
    return peers.ophthalmic(pixels, PatientID=f"T-{number}")


def below_the_watermark(box: served.Box, disk: Path, statuses: Counter, kept: dict[str, str]) -> float:
    """`kept` gains what was acknowledged. Returns the seconds from the return of space to the first success."""
    filler = fill(disk, leave=(WATERMARK_MB << 20) - 4096)
    for number in range(3):
        status = served.send(box.dicom_port, image(number))
        assert status == OUT_OF_RESOURCES, f"answered {status} below the watermark"
        statuses["A700 below the watermark"] += 1
    return _space_returns(box, filler, kept)


def to_the_last_byte(box: served.Box, disk: Path, statuses: Counter, kept: dict[str, str]) -> float:
    """As `below_the_watermark`, which this box has none of."""
    filler = fill(disk, leave=700_000)
    refused = []
    for number in range(12):
        one = image(number)
        status = served.send(box.dicom_port, one)
        assert status in (0x0000, OUT_OF_RESOURCES), f"answered {status} on a full disk"
        if status == 0x0000:
            kept[one.SOPInstanceUID] = digest(one)
            statuses["stored before the disk was full"] += 1
        else:
            refused.append(one)
            statuses["A700 on a full disk"] += 1
    assert refused, "the disk was never full"
    assert box.alive
    assert list((box.data / "incoming").iterdir()) == [], "half a file is left"
    for path in ("/", "/items/1", "/items/1/report", "/quarantine", "/deliveries", "/decisions", "/health", "/about"):
        assert "Research use only" in box.get(path), f"{path} cannot be read on a full disk"
    seconds = _space_returns(box, filler, kept)
    for one in refused:  # the scanner tries again
        assert served.send(box.dicom_port, one) == 0x0000
        kept[one.SOPInstanceUID] = digest(one)
    return seconds


def _space_returns(box: served.Box, filler: Path, kept: dict[str, str]) -> float:
    assert box.alive
    filler.unlink()
    started = time.monotonic()
    one = image(99)
    while served.send(box.dicom_port, one) != 0x0000:
        assert time.monotonic() - started < RECOVERY_SECONDS, "still refuses although space has returned"
        time.sleep(0.1)
    kept[one.SOPInstanceUID] = digest(one)
    return time.monotonic() - started


def digest(one: Dataset) -> str:
    return hashlib.sha256(one.pixel_array.tobytes()).hexdigest()


def run(folder: Path, bundle: Path, cycles: int) -> dict:
    statuses: Counter[str] = Counter()
    slowest = 0.0
    for name, free_mb, step in (("watermark", WATERMARK_MB, below_the_watermark), ("none", 0, to_the_last_byte)):
        with small_disk(folder / name / "data") as disk:
            box = served.Box(folder / name, bundle, disk={"free_mb": free_mb})
            kept: dict[str, str] = {}
            with box.running():
                slowest = max(slowest, *(step(box, disk, statuses, kept) for _ in range(cycles)))
                box.wait_until_idle(180)
                _check(box, kept)
                assert box.stop() == 0
    return {**statuses, "cycles": cycles, "slowest to accept again, s": round(slowest, 2)}


def _check(box: served.Box, kept: dict[str, str]) -> None:
    """Everything acknowledged is there, whole and screened; nothing else is."""
    with box.store() as store:
        store.check()
        items = {item.sop_instance_uid: item for item in store.items(limit=100_000)}
        for uid, pixels in kept.items():
            assert items[uid].state == "done", f"{items[uid].state}: {items[uid].reason}"
            assert digest(dcmread(store.object_path(items[uid]))) == pixels
        assert store.orphans() == []
        assert list(store.data_dir.rglob("*.part")) == []


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--count", type=int, default=20, help="times that the disk fills, with and without a watermark")
    arguments = parser.parse_args()
    if reason := reason_to_skip():
        print(f"not proved: {reason}", file=sys.stderr)
        return 2
    with served.scratch() as (folder, bundle):
        print(json.dumps(run(folder, bundle, arguments.count), indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
