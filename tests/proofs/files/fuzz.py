"""Proof: damaged files give a picture or one clear error; no crash, no hang, memory under a cap.

    python -m tests.proofs.files.fuzz --count 10000

Each file is one of the sample formats (and DICOM's other codings), mutated: bytes changed, cut, doubled, spliced with
another file, length fields set to extremes. Children decode them under memory and time limits; a child that dies names
the file that killed it, which is kept.
"""

import argparse
import io
import json
import multiprocessing
import os
import resource
import sys
import tempfile
import warnings
import zlib
from collections import Counter
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pydicom
from PIL import Image
from pydicom.encaps import encapsulate
from pydicom.uid import DeflatedExplicitVRLittleEndian, JPEG2000Lossless, RLELossless

from keras_realmnet.errors import RealMNetError
from keras_realmnet.screening.image_io import DecompressionBomb, read_image
from keras_realmnet.screening.quality import assess
from tests.proofs.files import frames
from training.phantoms.sample_files import SAMPLES

MEMORY = 2 * 1024**3  # bytes of data a child may hold
SECONDS = 20  # for one file
START = 300  # seconds for a child to begin
EXTREMES = (0, 1, 0x7F, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF)


@cache
def originals() -> tuple[bytes, ...]:
    """One small file per sample format and per further DICOM coding."""
    small = [replace(sample, size=(320, 251)) for sample in SAMPLES]
    files = {sample.file_name.rpartition(".")[2] + str(k % 3): sample for k, sample in enumerate(small)}
    made = [sample.write(sample, sample.render()) for sample in files.values()]
    uncompressed = next(data for data in made if data[128:132] == b"DICM" and b"1.2.840.10008.1.2.1\0" in data[:400])
    return (*made, *_further_codings(uncompressed), *_several_pictures())


def _further_codings(uncompressed: bytes) -> list[bytes]:
    made = []
    for syntax in (DeflatedExplicitVRLittleEndian, RLELossless, JPEG2000Lossless):
        dataset = pydicom.dcmread(io.BytesIO(uncompressed))
        if syntax == RLELossless:
            dataset.compress(RLELossless)
        elif syntax == JPEG2000Lossless:
            picture = io.BytesIO()
            Image.fromarray(dataset.pixel_array).save(picture, "JPEG2000", no_jp2=True)
            dataset.PixelData = encapsulate([picture.getvalue()])
        dataset.file_meta.TransferSyntaxUID = syntax
        file = io.BytesIO()
        dataset.save_as(file)
        made.append(file.getvalue())
    return made


def _several_pictures() -> list[bytes]:
    """One file of each shape that holds several, as `frames.py` makes them."""
    files = (frames.make(number) for number in range(200))
    shapes = {file.shape: file.data for file in files if 1 < len(file.pictures) < 6 and not file.refused}
    return list(shapes.values())


def mutated(number: int) -> bytes:
    """File `number`: always the same."""
    rng = np.random.default_rng(number)
    files = originals()
    data = bytearray(files[number % len(files)])
    for _ in range(rng.integers(1, 5)):
        # Headers decide what the decoder does: half of the damage goes there.
        at = int(rng.integers(0, min(len(data), 1500) if rng.random() < 0.5 else len(data)))
        length = int(rng.integers(1, 200))
        match rng.integers(0, 6):
            case 0:
                data[at] ^= 1 << int(rng.integers(0, 8))
            case 1:
                data[at : at + 4] = int(rng.choice(EXTREMES)).to_bytes(4, str(rng.choice(["little", "big"])))
            case 2:
                del data[at : at + length]
            case 3:
                data[at:at] = data[at : at + length]
            case 4:
                data[at : at + length] = rng.bytes(length)
            case 5:
                other = files[int(rng.integers(0, len(files)))]
                start = int(rng.integers(0, len(other)))
                data[at : at + length] = other[start : start + length]
        if not data:
            data = bytearray(b"\0")
    if rng.random() < 0.15:
        del data[int(rng.integers(0, len(data))) :]
    return bytes(data)


def bombs() -> dict[str, bytes]:
    """Small files whose headers announce 60000 x 60000 pixels."""
    png = bytearray(next(data for data in originals() if data.startswith(b"\x89PNG")))
    png[16:24] = (60000).to_bytes(4, "big") * 2
    png[29:33] = zlib.crc32(png[12:29]).to_bytes(4, "big")
    jpeg = bytearray(next(data for data in originals() if data.startswith(b"\xff\xd8")))
    frame = next(k for k in range(len(jpeg)) if jpeg[k] == 0xFF and jpeg[k + 1] in (0xC0, 0xC1, 0xC2))
    jpeg[frame + 5 : frame + 9] = (60000).to_bytes(2, "big") * 2
    dicom = pydicom.dcmread(io.BytesIO(next(data for data in originals() if data[128:132] == b"DICM")))
    dicom.Rows = dicom.Columns = 60000
    file = io.BytesIO()
    dicom.save_as(file)
    return {"PNG": bytes(png), "JPEG": bytes(jpeg), "DICOM": file.getvalue()}


def _decode(first: int, last: int, memory: int, progress: Path) -> None:
    """A child: decodes files first … last − 1; the number in hand and the counts are in `progress` at any time."""
    limit = _status("VmData") + memory
    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    warnings.simplefilter("ignore")
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stderr.fileno())  # the decoders' own complaints
    counts: Counter[str] = Counter()
    for number in range(first, last):
        _tell(progress, number=number, counts=counts)
        data = mutated(number)
        outcome, pictures = _read(data, 1)
        counts[outcome] += 1
        for further in range(2, pictures + 1):
            _read(data, further)
    peak = _status("VmHWM")  # ru_maxrss would count what the parent held before exec
    _tell(progress, number=None, counts=counts, peak=peak)


def _read(data: bytes, frame: int) -> tuple[str, int]:
    """What comes of one picture, and how many the file holds."""
    try:
        image = read_image(data, "fuzz", frame=frame)
    except RealMNetError as error:
        if "\n" in str(error) or not str(error).startswith("fuzz"):
            raise AssertionError("not one line that begins with the file's name") from error
        source = getattr(error, "source", None)
        return "refused: " + type(error).__name__, source.pictures if source else 0
    assert image.pixels.dtype == np.uint8
    assert image.pixels.shape == (image.source.height, image.source.width, 3)
    return "picture: " + assess(image.pixels, image.source, "uwf_red_green").verdict, image.source.pictures


def _tell(progress: Path, **state: object) -> None:
    """Whole or not at all: the child may be killed at any moment."""
    fresh = progress.with_suffix(".fresh")
    fresh.write_text(json.dumps(state))
    fresh.replace(progress)


def _status(field: str) -> int:
    """Bytes of a field of this process's /proc/self/status."""
    status = Path("/proc/self/status").read_text()
    return 1024 * int(status.partition(f"{field}:")[2].split()[0])


def run(count: int, batch: int = 500, memory: int = MEMORY) -> dict:
    """Decodes `count` files; returns counts per outcome, the largest peak of a child in MiB and what went wrong."""
    counts: Counter[str] = Counter()
    faults, peak, first = [], 0, 0
    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as folder:
        progress = Path(folder) / "progress.json"
        while first < count:
            last = min(first + batch, count)
            _tell(progress, number=-1, counts={})
            child = context.Process(target=_decode, args=(first, last, memory, progress))
            child.start()
            at = -1
            while True:  # as long as it moves on
                child.join(START if at < 0 else SECONDS)
                now = json.loads(progress.read_text())["number"]
                if not child.is_alive() or now == at:
                    break
                at = now
            hung = child.is_alive()
            if hung:
                child.kill()
                child.join()
            state = json.loads(progress.read_text())
            number = state["number"] if state["number"] != -1 else first
            counts.update(state["counts"])
            peak = max(peak, state.get("peak", 0))
            if number is None:
                first = last
                continue
            why = f"more than {SECONDS} s" if hung else f"exit status {child.exitcode}"
            kept = Path(tempfile.gettempdir()) / f"fuzz-{number}"
            kept.write_bytes(mutated(number))
            faults.append(f"file {number} ({kept}): {why}")
            first = number + 1
            print(faults[-1], file=sys.stderr)
    return {"files": count, "counts": dict(sorted(counts.items())), "peak_mib": peak >> 20, "faults": faults}


def bombs_are_refused_unopened() -> None:
    for kind, data in bombs().items():
        try:
            read_image(data, "bomb")
        except DecompressionBomb:
            continue
        raise AssertionError(f"a {kind} of 60000 x 60000 pixels was not refused on its header")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--count", type=int, default=10_000)
    found = run(parser.parse_args().count)
    bombs_are_refused_unopened()
    print(json.dumps(found, indent=2))
    return bool(found["faults"])


if __name__ == "__main__":
    sys.exit(main())
