"""Proof: the box adds little to the network it runs; a burst of images costs time, not memory.

    python -m tests.proofs.measured.throughput --bundle bundles/realmnet-demo --count 1000

Alone: a process that decodes, prepares and infers, one image after the other, as `export benchmark` times it. The box:
the same DICOM files through C-STORE (dcmsend, one association) to the committed result, which besides holds quality,
preview, class maps, and three syncs to the disk. Both take turns on the same images with the same number of threads,
and only ratios within a round are compared. Then all images arrive in one burst, and some at half the rate that was
found. Stated: images/s of both, the box's from its first result to its last; their ratio; where the box's time goes;
latency from the success response to the record; the largest resident memory.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from datetime import datetime
from pathlib import Path
from statistics import median

import numpy as np
from pydicom.uid import JPEGBaseline8Bit, generate_uid

from edge_app.analysis.screen import Screener
from keras_realmnet.screening.image_io import read_image
from keras_realmnet.screening.preprocessing import preprocess
from tests.proofs import peers, served

PICTURES = 4  # different ones; every file has an identity of its own


class Files:
    """DICOM files as a scanner makes them, each with an identity of its own; made as they are asked for."""

    def __init__(self, folder: Path, width: int):
        self._folder, self._made = folder, 0
        self._images = [
            peers.ophthalmic(served.picture(seed, width), JPEGBaseline8Bit, StudyInstanceUID=generate_uid())
            for seed in range(PICTURES)
        ]

    def make(self, count: int) -> Path:
        """A folder with so many new files."""
        folder = self._folder / f"{self._made:06d}"
        for number in range(self._made, self._made + count):
            image = deepcopy(self._images[number % PICTURES])
            image.SOPInstanceUID, image.StudyInstanceUID = generate_uid(), generate_uid()
            image.PatientID = f"P-{number}"
            peers.write(image, folder / f"{number}.dcm")
        self._made += count
        return folder


def alone(bundle: Path, threads: int) -> None:
    """A process: for each folder named on stdin, the seconds that its images take."""
    screener = Screener.open(bundle, threads=threads)
    for line in sys.stdin:
        files = sorted(Path(line.strip()).iterdir())
        started = time.perf_counter()
        for file in files:
            loaded = read_image(file, min_side=screener.bundle.spec.min_side)
            square, _ = preprocess(loaded.pixels, screener.bundle.spec)
            screener.runtime.predict(square[None])
        print(time.perf_counter() - started, flush=True)


def send(box: served.Box, folder: Path) -> None:
    """All files of a folder over one association."""
    to = ("-aec", "REALMNET", "127.0.0.1", box.dicom_port)
    done = peers.run("dcmsend", "+sd", "--no-halt", "--decompress-never", *to, folder)
    assert done.returncode == 0, done.stdout


def screened(box: served.Box, since: int) -> list[tuple[datetime, datetime]]:
    """(received, finished) of the items after item `since`, once none is pending."""
    box.wait_until_idle(3600)
    with box.store() as store:
        items = [item for item in store.items(limit=1_000_000) if item.id > since]
        assert all(item.state == "done" for item in items)
    return [(datetime.fromisoformat(item.received_at), datetime.fromisoformat(item.finished_at)) for item in items]


def last_item(box: served.Box) -> int:
    with box.store() as store:
        return max((item.id for item in store.items(limit=1)), default=0)


def sustained(times: list[tuple[datetime, datetime]]) -> float:
    """Images/s from the first result to the last; the queue is never empty in between."""
    finished = sorted(finished for _, finished in times)
    return (len(finished) - 1) / (finished[-1] - finished[0]).total_seconds()


def latency(times: list[tuple[datetime, datetime]]) -> dict[str, float]:
    seconds = [(finished - received).total_seconds() for received, finished in times]
    return {name: round(float(np.percentile(seconds, q)), 2) for name, q in (("p50 s", 50), ("p95 s", 95))}


@contextmanager
def memory(box: served.Box) -> Iterator[dict[str, float]]:
    """The largest resident MiB of each process while the block runs."""
    most = {"serving": 0.0, "screening": 0.0}
    stop = threading.Event()
    processes = dict(zip(most, box.processes(), strict=True))

    def watch() -> None:
        while not stop.wait(0.2):
            for name, pid in processes.items():
                most[name] = max(most[name], round(served.resident_mib(pid), 1))

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield most
    finally:
        stop.set()
        watcher.join()


def stages(box: served.Box, since: int) -> dict[str, float]:
    """Median milliseconds of each stage as the records have them."""
    with box.store() as store:
        records = [store.record(item.id).record for item in store.items(limit=1_000_000) if item.id > since]
    return {
        key: round(median(record.timings_ms.get(key, 0.0) for record in records), 1) for key in records[0].timings_ms
    }


def run(
    folder: Path, bundle: Path, images: int, rounds: int = 5, per_round: int = 20, width: int = 3900, threads: int = 2
) -> dict:
    files = Files(folder / "files", width)
    box = served.Box(folder / "box", bundle, threads=threads, web={"enabled": False})
    command = [sys.executable, "-m", __spec__.name, "--alone", "--bundle", str(bundle), "--threads", str(threads)]
    box.start()
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=served.ENVIRONMENT
    ) as other:
        try:
            box.wait_until_listening()
            results = []
            for number in range(rounds + 1):  # the first one warms up
                batch = files.make(per_round)
                other.stdin.write(f"{batch}\n")
                other.stdin.flush()
                seconds_alone = float(other.stdout.readline())
                since = last_item(box)
                send(box, batch)
                times = screened(box, since)
                assert len(times) == per_round
                if number:
                    results.append((per_round / seconds_alone, sustained(times)))
            where = stages(box, since)
            other.stdin.close()
            burst = files.make(images)
            since = last_item(box)
            with memory(box) as most:
                started = datetime.now().astimezone()
                send(box, burst)
                received = (datetime.now().astimezone() - started).total_seconds()
                times = screened(box, since)
            rate = sustained(times)
            paced = _paced(box, files, rate / 2, min(images, 60))
            assert len(times) == images
            assert box.stop() == 0
        finally:
            if box.alive:
                box.kill()
    ratios = [in_box / by_itself for by_itself, in_box in results]
    return {
        "alone, images/s": round(median(rate for rate, _ in results), 2),
        "box, images/s": round(median(rate for _, rate in results), 2),
        "ratio: median, least, most": [round(float(x), 3) for x in (median(ratios), min(ratios), max(ratios))],
        "median ms of each stage in the box": where,
        "burst": {
            "images": images,
            "seconds until all were acknowledged": round(received, 1),
            "images/s": round(rate, 2),
            "latency": latency(times),
            "largest resident MiB": most,
        },
        "latency at half that rate": latency(paced),
    }


def _paced(box: served.Box, files: Files, rate: float, count: int) -> list[tuple[datetime, datetime]]:
    """One image after the other, `rate` a second."""
    since = last_item(box)
    due = time.monotonic()
    for _ in range(count):
        send(box, files.make(1))
        due += 1 / rate
        time.sleep(max(0.0, due - time.monotonic()))
    return screened(box, since)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--bundle", type=Path, default=served.ROOT / "bundles" / "realmnet-demo")
    parser.add_argument("--count", type=int, default=1000, help="images in the burst")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--per-round", type=int, default=20)
    parser.add_argument("--width", type=int, default=3900, help="of the pictures, px")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--alone", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.alone:
        alone(given.bundle, given.threads)
        return 0
    if missing := peers.missing("dcmsend"):
        print(f"not measured: {', '.join(missing)} is not installed", file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory(prefix="proof-") as folder:
        sizes = (given.rounds, given.per_round, given.width, given.threads)
        print(json.dumps(run(Path(folder), given.bundle, given.count, *sizes), indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
