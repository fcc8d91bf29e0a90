"""Proof: what a second and a third bundle cost: memory, and the time from an image to the last of its results.

    python -m tests.proofs.measured.bundles --count 10 --rounds 5

Boxes with one, two and three bundles run side by side and get the same images in turns; only ratios within a round are
compared. The further bundles are copies of the first under other names: they cost what another network of the same size
would. Every bundle is for the kind of picture that is sent, so each image has as many results as the box has bundles.
Stated: seconds from the success response to the last result of an image sent alone, images/s from the first result to
the last, resident memory of the screening process, and their ratios to the box with one bundle.
"""

import argparse
import json
import shutil
import sys
import tempfile
from datetime import datetime
from pathlib import Path
from statistics import median

from keras_realmnet.screening.bundle.document import BUNDLE_FILE, signed
from tests.proofs import peers, served
from tests.proofs.measured.throughput import Files, last_item


def copies(bundle: Path, folder: Path, number: int) -> list[Path]:
    """So many bundles: the first, and copies of it under other names."""
    found = [bundle]
    for n in range(2, number + 1):
        copy = folder / f"copy-{n}"
        shutil.copytree(bundle, copy)
        document = json.loads((copy / BUNDLE_FILE).read_bytes())
        (copy / BUNDLE_FILE).write_bytes(signed({**document, "name": f"{document['name']}-{n}"}))
        found.append(copy)
    return found


def measure(box: served.Box, images: list, bundles: int) -> tuple[float, float]:
    """(median seconds until the last result of an image sent alone, images/s of all at once)."""
    alone, rest = images[:3], images[3:]
    latencies = []
    for image in alone:
        latencies += _screened(box, [image], bundles)[0]
    times, finished = _screened(box, rest, bundles)
    assert len(times) == len(rest)
    finished = sorted(finished)
    return median(latencies), (len(finished) - 1) / (finished[-1] - finished[0]).total_seconds()


def _screened(box: served.Box, images: list, bundles: int) -> tuple[list[float], list[datetime]]:
    """(seconds until the last result, when that was) of each image, once nothing waits."""
    since = last_item(box)
    for image in images:
        assert served.send(box.dicom_port, image) == 0x0000
    box.wait_until_idle(600)
    with box.store() as store:
        items = [item for item in store.items(limit=100_000) if item.id > since]
    assert all(item.state == "done" for item in items)
    assert len(items) == bundles * len(images)
    seconds, last = [], []
    for number in {item.object_id for item in items}:
        mine = [item for item in items if item.object_id == number]
        finished = max(datetime.fromisoformat(item.finished_at) for item in mine)
        seconds.append((finished - datetime.fromisoformat(mine[0].received_at)).total_seconds())
        last.append(finished)
    return seconds, last


def run(folder: Path, bundle: Path, rounds: int = 5, count: int = 10, width: int = 3900, threads: int = 2) -> dict:
    files = Files(folder / "files", width)
    boxes = {}
    for number in (1, 2, 3):
        named = copies(bundle, folder / f"bundles-{number}", number)
        boxes[number] = served.Box(folder / f"box-{number}", named, threads=threads, web={"enabled": False})
    try:
        for box in boxes.values():
            box.start()
            box.wait_until_listening()
        found: dict[int, list[tuple[float, float]]] = {number: [] for number in boxes}
        for turn in range(rounds + 1):  # the first one warms up
            for number, box in boxes.items():
                images = [peers.dcmread(file) for file in sorted(files.make(count + 3).iterdir())]
                measured = measure(box, images, number)
                if turn:
                    found[number].append(measured)
        resident = {number: served.resident_mib(box.processes()[1]) for number, box in boxes.items()}
        for box in boxes.values():
            assert box.stop() == 0
    finally:
        for box in boxes.values():
            if box.alive:
                box.kill()
    return {f"{number} bundle{'s' * (number > 1)}": _stated(found, resident, number) for number in boxes}


def _stated(found: dict[int, list[tuple[float, float]]], resident: dict[int, float], number: int) -> dict:
    latency, rate = ([turn[each] for turn in found[number]] for each in (0, 1))
    of_one = list(zip(found[number], found[1], strict=True))

    def ratio(each: int) -> list[float]:
        ratios = [many[each] / one[each] for many, one in of_one]
        return [round(float(x), 2) for x in (median(ratios), min(ratios), max(ratios))]

    return {
        "s to the last result": round(median(latency), 3),
        "ratio to one: median, least, most": ratio(0),
        "images/s": round(median(rate), 2),
        "ratio of images/s: median, least, most": ratio(1),
        "resident MiB": round(resident[number], 1),
        "MiB more than one": round(resident[number] - resident[1], 1),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--bundle", type=Path, default=served.ROOT / "bundles" / "realmnet-demo")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--count", type=int, default=10, help="images at once in a round, after three alone")
    parser.add_argument("--width", type=int, default=3900, help="of the pictures, px")
    parser.add_argument("--threads", type=int, default=2)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="proof-") as folder:
        sizes = (given.rounds, given.count, given.width, given.threads)
        print(json.dumps(run(Path(folder), given.bundle, *sizes), indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
