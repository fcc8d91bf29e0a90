"""Proof: every artifact for a processor gives its golden output on arm64, the boards' kind of processor.

    python -m tests.proofs.measured.arm64                         # all artifacts there are, of the shipped network
    python -m tests.proofs.measured.arm64 bundles/mine --as-it-is # those that a bundle has

qemu's user-mode emulation runs an arm64 Python with the wheels that `pip install -r requirements-edge.txt` takes on a
board: the engines choose their kernels for arm64 (NEON, dot product, half precision), and each artifact runs in a
process of its own. It says nothing about speed. Debian's arm64 Python and PyPI's wheels are fetched once into --folder
(180 MB); nothing is installed on the machine itself. Needs qemu-user-static, apt-get and dpkg-deb of Debian or Ubuntu.
"""

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path

from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[3]
EMULATORS = ("qemu-aarch64-static", "qemu-aarch64")
PACKAGES = ("ai-edge-litert", "numpy", "onnxruntime", "opencv-python-headless", "pillow", "pydicom", "python-gdcm")
GLIBC = range(17, 37)  # the wheels for glibc 2.17 … 2.36, Debian 12's
# Kind of processor → its part number and what it can do, as Linux tells in /proc/cpuinfo. Engines read that, too.
BASE = "fp asimd evtstrm aes pmull sha1 sha2 crc32"
CPUS = {
    "cortex-a72": ("0xd08", f"{BASE} cpuid"),  # Raspberry Pi 4
    "cortex-a76": ("0xd0b", f"{BASE} atomics fphp asimdhp cpuid asimdrdm lrcpc dcpop asimddp ssbs"),  # as Orin's A78AE
}
CPU_INFO = """processor\t: {number}
BogoMIPS\t: 100.00
Features\t: {features}
CPU implementer\t: 0x41
CPU architecture: 8
CPU variant\t: 0x4
CPU part\t: {part}
CPU revision\t: 1

"""
CHECK = """
import sys
from keras_realmnet.screening.bundle.bundle import Bundle
from keras_realmnet.screening.runtimes import open_runtime, self_check
directory, artifact = sys.argv[1:]
bundle = Bundle.load(directory)
self_check(bundle, open_runtime(bundle, artifact, threads=1), artifact)
"""


def reason_to_skip() -> str | None:
    for programs in (EMULATORS, ("apt-get",), ("dpkg-deb",)):
        if not any(map(shutil.which, programs)):
            return f"{programs[0]} is not installed (Debian: apt-get install qemu-user-static)"
    return None


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", nargs="?", type=Path, default=ROOT / "bundles/realmnet-demo")
    parser.add_argument("--as-it-is", action="store_true", help="only its own artifacts: make no others of its model")
    parser.add_argument("--cpu", choices=CPUS, default="cortex-a76")
    parser.add_argument("--folder", type=Path, default=ROOT / "data/arm64", help="where what is fetched is kept")
    parser.add_argument("--timeout", type=float, default=900, help="seconds for one artifact")
    options = parser.parse_args(arguments)
    if reason := reason_to_skip():
        print(f"arm64.py: it cannot be tried here: {reason}", file=sys.stderr)
        return 2
    try:
        board = Board(options.folder.resolve(), options.cpu)
    except (OSError, subprocess.CalledProcessError) as error:
        print(f"arm64.py: it cannot be tried here: {error}: {getattr(error, 'stderr', '')}", file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory() as folder:
        directory = options.bundle if options.as_it_is else with_every_artifact(options.bundle, Path(folder) / "bundle")
        results = {
            artifact: board.check(directory, artifact, options.timeout) for artifact in for_processors(directory)
        }
    failed = [artifact for artifact, (why, _) in results.items() if why]
    print(json.dumps({"cpu": options.cpu, "artifacts": len(results), "failed": failed}))
    return 1 if failed or not results else 0


class Board:
    """An emulated machine with Debian's arm64 Python and the box's wheels, fetched into `folder` where they are not."""

    def __init__(self, folder: Path, cpu: str):
        self._root, self._site = folder / "root", folder / "site"
        self._emulator = [next(filter(None, map(shutil.which, EMULATORS))), "-L", str(self._root), "-cpu", cpu]
        if not (folder / "ready").is_file():
            shutil.rmtree(folder, ignore_errors=True)
            self._fetch_python(folder)
            self._fetch_wheels(folder)
            (folder / "ready").touch()
        # qemu opens what lies under -L first. From an x86 machine's file the engines learn nothing and crash.
        part, features = CPUS[cpu]
        (self._root / "proc").mkdir(exist_ok=True)
        blocks = [CPU_INFO.format(number=k, features=features, part=part) for k in range(os.cpu_count() or 1)]
        (self._root / "proc/cpuinfo").write_text("".join(blocks))

    @property
    def _python(self) -> Path:
        return max((self._root / "usr/bin").glob("python3.[0-9]*[0-9]"))

    def _fetch_python(self, folder: Path) -> None:
        """By apt-get's own resolver, from this machine's sources, as if nothing were installed."""
        state, cache = folder / "state", folder / "cache"
        for place in (state / "lists/partial", cache / "archives/partial", self._root, self._site):
            place.mkdir(parents=True)
        (state / "status").touch()
        settings = {
            "APT::Architecture": "arm64",
            "APT::Architectures": "arm64",
            "APT::Sandbox::User": "",
            "Dir::State": state,
            "Dir::State::status": state / "status",
            "Dir::Cache": cache,
        }
        apt = ["apt-get", "-q", "-y", *(word for name, value in settings.items() for word in ("-o", f"{name}={value}"))]
        run([*apt, "update"])
        run([*apt, "install", "--download-only", "--no-install-recommends", "python3", "libstdc++6"])
        for package in (cache / "archives").glob("*.deb"):
            run(["dpkg-deb", "-x", str(package), str(self._root)])

    def _fetch_wheels(self, folder: Path) -> None:
        version = self._python.name.removeprefix("python")
        platforms = [word for minor in GLIBC for word in ("--platform", f"manylinux_2_{minor}_aarch64")]
        wanted = [*platforms, "--platform", "manylinux2014_aarch64", "--only-binary=:all:", "--python-version", version]
        wheels = folder / "wheels"
        run([sys.executable, "-m", "pip", "download", "-q", *wanted, "-d", str(wheels), *pins(version)])
        for wheel in wheels.glob("*.whl"):
            with zipfile.ZipFile(wheel) as archive:
                archive.extractall(self._site)

    def check(self, directory: Path, artifact: str, timeout: float) -> tuple[str, float]:
        """Why the artifact does not give its golden output, "" where it does, and seconds."""
        environment = {**os.environ, "PYTHONPATH": f"{self._site}:{ROOT}", "PYTHONDONTWRITEBYTECODE": "1"}
        command = [*self._emulator, str(self._python), "-c", CHECK, str(directory), artifact]
        began = time.monotonic()
        try:
            done = subprocess.run(
                command, capture_output=True, text=True, env=environment, timeout=timeout, check=False
            )
            lines = done.stderr.strip().splitlines()
            why = "" if done.returncode == 0 else f"status {done.returncode}: {lines[-1] if lines else ''}"
        except subprocess.TimeoutExpired:
            why = f"not done in {timeout:.0f} s"
        seconds = time.monotonic() - began
        print(f"{artifact}: {why or 'golden output'} ({seconds:.0f} s)", flush=True)
        return why, seconds


def pins(python: str) -> Iterator[str]:
    """What requirements.txt and requirements-edge.txt pin of `PACKAGES` for this version of Python on arm64."""
    environment = {"python_version": python, "platform_machine": "aarch64"}
    for file in ("requirements-edge.txt", "requirements.txt"):
        for line in (ROOT / file).read_text().splitlines():
            if re.match(r"[A-Za-z]", line):
                pin = Requirement(line.partition("#")[0])
                if pin.name in PACKAGES and (pin.marker is None or pin.marker.evaluate(environment)):
                    yield f"{pin.name}{pin.specifier}"


def for_processors(directory: Path) -> list[str]:
    from keras_realmnet.screening.bundle.bundle import Bundle

    bundle = Bundle.load(directory)
    there = {name: found for name, found in bundle.artifacts.items() if name not in bundle.absent}
    return [name for name, found in there.items() if found.engine in ("litert", "onnxruntime")]


def with_every_artifact(directory: Path, copy: Path) -> Path:
    """A copy of the bundle with every artifact that `export bundle` makes, those it lacks made of its Keras model.

    Calibrated on `samples/`: it matters here that an artifact computes the same everywhere, not what.
    """
    from export.bundling.adding import make_again
    from export.contract.images import images_of_files
    from export.contract.keras_source import load_source
    from export.conversion.artifacts import ARTIFACTS, ArtifactMaker
    from export.speed.images import SAMPLES
    from keras_realmnet.screening.bundle.bundle import Bundle
    from keras_realmnet.screening.bundle.writing import add_artifacts

    shutil.copytree(directory, copy)
    bundle = Bundle.load(copy)
    make_again(bundle, bundle.absent)
    with tempfile.TemporaryDirectory() as folder:
        maker = ArtifactMaker(load_source(bundle), Path(folder), images_of_files([SAMPLES], bundle).pixels)
        lacking = [name for name in ARTIFACTS if name not in bundle.artifacts]
        add_artifacts(bundle, {name: maker.make(name) for name in lacking})
    return copy


def run(command: list[str]) -> None:
    subprocess.run(command, check=True, capture_output=True, text=True)


if __name__ == "__main__":
    sys.exit(main())
