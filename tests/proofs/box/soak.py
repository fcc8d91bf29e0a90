"""Proof: thousands of associations, and probes that connect and drop, leave memory and threads as they were.

    python -m tests.proofs.box.soak --count 5000

Clients at once verify, send new images, send known ones again, and come as port scanners do: connect and vanish, send
nonsense, reset, or stop in the middle of a request. The web page is asked, too. Stated: resident memory and threads of
the serving and the screening process over the associations, and their slopes by least squares after the first fifth.
"""

import argparse
import json
import random
import socket
import struct
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from pynetdicom import AE
from pynetdicom.sop_class import Verification

from tests.proofs import peers, served

CLIENTS = 4
WARM_UP = 0.2  # of the associations, before slopes are taken
MOST_MIB_PER_THOUSAND = 4.0  # a leak of one association's buffers (64 KiB) would be 64
SMALL = (np.random.default_rng(1).random((64, 80, 3)) * 255).astype(np.uint8)  # too small to screen: costs little


def verify(box: served.Box, rng: random.Random) -> None:
    entity = AE("SOAK")
    entity.acse_timeout = entity.dimse_timeout = entity.network_timeout = 30
    entity.add_requested_context(Verification)
    association = entity.associate("127.0.0.1", box.dicom_port, ae_title="REALMNET")
    assert association.is_established
    assert association.send_c_echo().Status == 0x0000
    association.abort() if rng.random() < 0.2 else association.release()


KNOWN = peers.ophthalmic(SMALL)


def send_known(box: served.Box, rng: random.Random) -> None:
    assert served.send(box.dicom_port, KNOWN) == 0x0000


def send_new(box: served.Box, rng: random.Random) -> None:
    assert served.send(box.dicom_port, peers.ophthalmic(SMALL, PatientID=f"S-{rng.random()}")) == 0x0000


def probe(box: served.Box, rng: random.Random) -> None:
    """Connects and drops, having said nothing, nonsense, or the beginning of a request; sometimes with a reset."""
    with socket.create_connection(("127.0.0.1", box.dicom_port), 10) as connection:
        connection.sendall(
            rng.choice([b"", b"GET / HTTP/1.0\r\n\r\n", b"\x01\x00\x00\x00\x00\xca\x00\x01", b"\x16\x03\x01"])
        )
        if rng.random() < 0.3:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def look(box: served.Box, rng: random.Random) -> None:
    assert box.get(rng.choice(["/", "/health", "/metrics", "/quarantine"]))


PAGE_THREADS = 16  # the web page keeps those it once needed, four for each page
STEPS = {verify: 0.35, probe: 0.35, send_known: 0.2, send_new: 0.05, look: 0.05}


def run(folder: Path, bundle: Path, associations: int, samples: int = 50) -> dict:
    """Returns what was done and measured; raises AssertionError where memory or threads grow."""
    box = served.Box(folder, bundle, dicom={"max_associations": 20})
    rng = random.Random(0)
    done: Counter[str] = Counter()
    seen = []  # per sample: associations, then resident MiB and threads of each process
    with box.running(), ThreadPoolExecutor(CLIENTS) as clients:
        processes = dict(zip(("serving", "screening"), box.processes(), strict=True))
        while done.total() < associations:
            steps = rng.choices(list(STEPS), list(STEPS.values()), k=max(1, associations // samples))
            for answer in [clients.submit(step, box, random.Random(rng.random())) for step in steps]:
                answer.result(120)
            done.update(step.__name__ for step in steps)
            figures = [(served.resident_mib(pid), served.threads(pid)) for pid in processes.values()]
            seen.append([done.total(), *(number for pair in figures for number in pair)])
        box.wait_until_idle(600)
        assert box.processes() == list(processes.values()), "a process was replaced"
        box.wait_for(lambda: served.threads(box.pid) <= seen[0][2] + PAGE_THREADS, 60)  # the last associations end
        assert box.get("/readyz") == "ok\n"
        assert box.stop() == 0
    table = np.array(seen)
    steady = table[table[:, 0] > WARM_UP * associations]
    found: dict = {"associations and probes": dict(done)}
    for index, name in enumerate(processes):
        memory, threads = table[:, 1 + 2 * index], table[:, 2 + 2 * index]
        slopes = np.polyfit(steady[:, 0] / 1000, steady[:, 1 + 2 * index : 3 + 2 * index], 1)[0]
        found[name] = {
            "resident MiB: first, last, most": [round(float(x), 1) for x in (memory[0], memory[-1], memory.max())],
            "threads: first, last, most": [int(x) for x in (threads[0], threads[-1], threads.max())],
            "MiB per 1,000": round(float(slopes[0]), 2),
            "threads per 1,000": round(float(slopes[1]), 3),
        }
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--count", type=int, default=5000, help="associations and probes")
    with served.scratch() as (folder, bundle):
        found = run(folder / "box", bundle, parser.parse_args().count)
    print(json.dumps(found, indent=2))
    grown = [name for name in ("serving", "screening") if found[name]["MiB per 1,000"] > MOST_MIB_PER_THOUSAND]
    return bool(grown)


if __name__ == "__main__":
    sys.exit(main())
