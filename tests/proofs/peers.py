"""The box's peers: images as devices send them, the DICOM programs of Debian, and a box to talk to.

Everything listens on 127.0.0.1 and free ports, and ends with its `with` block.
"""

import json
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from urllib.request import Request, urlopen

import numpy as np
from PIL import Image
from pydicom import Dataset, dcmread, dcmwrite
from pydicom.dataset import FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import (
    UID,
    ExplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    OphthalmicPhotography8BitImageStorage,
    RLELossless,
    generate_uid,
)

from edge_app.analysis.models import Models
from edge_app.analysis.screen import Screener
from edge_app.config import Config
from edge_app.inbox import dicom_intake
from edge_app.inbox.dicom_intake import DicomIntake
from edge_app.processes.worker import Worker
from edge_app.store.database import timestamp
from edge_app.store.items import Item
from edge_app.store.store import Store
from keras_realmnet.screening.image_io import read_image
from keras_realmnet.screening.record import ScreeningRecord

DCMTK_DICTIONARY = Path("/etc/dcmtk/storescp.cfg")  # presentation contexts of dcmtk's storescp
START_SECONDS = 30
ROOT = Path(__file__).resolve().parents[2]
BUNDLE = ROOT / "bundles" / "realmnet-demo"
SAMPLES = ROOT / "samples"
SMALL_SAMPLE = SAMPLES / "PHANTOM-0004_OD_2026-03-02_1.dcm"


def missing(*programs: str) -> list[str]:
    """Which of these programs are not installed."""
    return [program for program in programs if shutil.which(program, path=SEARCH) is None]


SEARCH = "/usr/local/bin:/usr/bin:/bin:/usr/sbin"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for_port(port: int, process: subprocess.Popen[bytes], seconds: float = START_SECONDS) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise RuntimeError(f"{process.args} ended with {process.returncode}")
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    raise RuntimeError(f"{process.args} did not listen on port {port}")


# ---- images --------------------------------------------------------------------------------------------------------


def picture(file: Path = SMALL_SAMPLE) -> np.ndarray:
    """A shipped sample that passes as red/green ultra-widefield: uint8 RGB, by default of shape (307, 390, 3)."""
    return read_image(file).pixels


def ophthalmic(pixels: np.ndarray, syntax: UID = ExplicitVRLittleEndian, **attributes: object) -> Dataset:
    """An Ophthalmic Photography 8 Bit image as a scanner sends it; `attributes` by keyword, None removes one.

    Coded as RGB, YBR_FULL_422 (JPEG baseline) or YBR_RCT (JPEG 2000), as the transfer syntax has it.
    """
    image = Dataset()
    image.file_meta = FileMetaDataset()
    image.file_meta.TransferSyntaxUID = syntax
    image.SOPClassUID, image.SOPInstanceUID = OphthalmicPhotography8BitImageStorage, generate_uid()
    image.StudyInstanceUID, image.SeriesInstanceUID = generate_uid(), generate_uid()
    image.ImageType = ["ORIGINAL", "PRIMARY", "", "RG"]
    image.StudyDate = image.SeriesDate = image.ContentDate = "20260302"
    image.StudyTime = image.ContentTime = "101500"
    image.AcquisitionDateTime = "20260302101500"
    image.Modality, image.Manufacturer = "OP", "OPTOS"
    image.PatientName, image.PatientID, image.PatientBirthDate, image.PatientSex = "Test^Patient", "T-1", "", ""
    image.AccessionNumber = image.ReferringPhysicianName = image.StudyID = ""
    image.SeriesNumber = image.InstanceNumber = 1
    image.ImageLaterality, image.PatientOrientation = "R", ["L", "F"]
    image.BurnedInAnnotation, image.LossyImageCompression = "NO", "00"
    image.Rows, image.Columns, image.SamplesPerPixel = *pixels.shape[:2], 3
    image.BitsAllocated = image.BitsStored = 8
    image.HighBit, image.PixelRepresentation, image.PlanarConfiguration = 7, 0, 0
    image.PhotometricInterpretation = "RGB"
    data = pixels.tobytes()
    image.PixelData = data + b"\0" * (len(data) % 2)
    image["PixelData"].VR = "OB"
    if syntax == JPEGBaseline8Bit:
        image.PhotometricInterpretation, image.LossyImageCompression = "YBR_FULL_422", "01"
        image.PixelData = encapsulate([_coded(pixels, "JPEG", quality=97, subsampling="4:2:2")])
    elif syntax == JPEG2000Lossless:
        image.PhotometricInterpretation = "YBR_RCT"
        image.PixelData = encapsulate([_coded(pixels, "JPEG2000", no_jp2=True, mct=1, irreversible=False)])
    elif syntax == RLELossless:
        image.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        image.compress(RLELossless, generate_instance_uid=False)
    for keyword, value in attributes.items():
        if value is None:
            delattr(image, keyword)
        else:
            setattr(image, keyword, value)
    return image


def _coded(pixels: np.ndarray, kind: str, **options: object) -> bytes:
    buffer = BytesIO()
    Image.fromarray(pixels).save(buffer, kind, **options)
    return buffer.getvalue()


def write(image: Dataset, path: Path) -> Path:
    """The image as a DICOM file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    dcmwrite(path, image, enforce_file_format=True)
    return path


def encoded(path: Path) -> bytes:
    """The data set of a DICOM file, without preamble and file meta information."""
    return data_set(path.read_bytes())


def data_set(content: bytes) -> bytes:
    """The same of the file's bytes."""
    return content[144 + int.from_bytes(content[140:144], "little") :]


# ---- the box -------------------------------------------------------------------------------------------------------


def settings(data_dir: Path, **sections: object) -> Config:
    """A configuration with everything on free local ports and no minimum of free disk."""
    dicom = {"port": free_port(), **sections.pop("dicom", {})}
    return Config.model_validate({"data_dir": data_dir, "dicom": dicom, "disk": {"free_mb": 0}, **sections})


@contextmanager
def intake(data_dir: Path, **sections: object) -> Iterator[tuple[Store, DicomIntake]]:
    """A box that receives DICOM."""
    config = settings(data_dir, **sections)
    store = Store(config.data_dir)
    server = dicom_intake.start(config, store)
    try:
        yield store, server
    finally:
        server.stop(1.0)
        store.close()


def take_in(store: Store, file: Path | bytes, **identity: str) -> Item:
    """A DICOM file, or its contents, as if it had been received; `identity`: instead of what its header says."""
    contents = file if isinstance(file, bytes) else file.read_bytes()
    if not identity:
        header = dcmread(BytesIO(contents), stop_before_pixels=True)
        identity = {"sop_instance_uid": header.SOPInstanceUID, "sop_class_uid": header.SOPClassUID}
        identity["study_uid"] = header.StudyInstanceUID
    sha256, size = store.keep_object([contents], "dcm")
    item, _ = store.add_item(
        source="dicom", origin="SCANNER", sha256=sha256, extension="dcm", file_name="", bytes=size, **identity
    )
    return item


def take_in_file(store: Store, contents: bytes, name: str, folder: str = "camera") -> Item:
    """A file's contents as if the watcher of that folder had found it."""
    sha256, size = store.keep_object([contents], "bin")
    item, _ = store.add_item(source="folder", origin=folder, sha256=sha256, extension="bin", file_name=name, bytes=size)
    return item


def make_record(**changes: object) -> ScreeningRecord:
    """A record as a worker might make it, for tests that need no picture."""
    facts = {
        "file": "P1_OD.jpg",
        "folder": "in",
        "sha256": "0" * 64,
        "outcome": "refer",
        "reasons": ("Patchy atrophy",),
        "bundle_name": "tiny",
        "bundle_version": "1.0",
        "bundle_digest": "d",
        "artifact": "float32",
        "model_sha256": "m",
        "spec_hash": "s",
        "screened_at": timestamp(),
        "patient_id": "P1",
        "study_date": "2025-01-31",
    }
    return ScreeningRecord(**{**facts, **changes})


def screen(store: Store, config: Config, bundle: Path) -> None:
    """Screens all that is pending, in this process, as the worker does."""
    worker = Worker(config, store, Models([Screener.open(bundle)]), lambda line: None)
    while (item := store.claim()) is not None:
        worker._write_down(item, *worker._screen(item))


def certificate(folder: Path) -> tuple[Path, Path]:
    """A self-made certificate for this machine, valid for two days, and its key."""
    made = run(
        *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"),
        *("-days", "2", "-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1,DNS:localhost"),
        *("-keyout", folder / "key.pem", "-out", folder / "cert.pem"),
    )
    if made.returncode != 0:
        raise RuntimeError(made.stdout)
    return folder / "cert.pem", folder / "key.pem"


def toml(values: dict) -> str:
    """Plain values first, then sections, then lists of sections."""
    lines = [f"{key} = {_value(value)}" for key, value in values.items() if not _is_section(value)]
    for key, value in values.items():
        if isinstance(value, dict):
            lines += [f"[{key}]", toml(value)]
        elif _is_section(value):
            for entry in value:
                lines += [f"[[{key}]]", toml(entry)]
    return "\n".join(lines) + "\n"


def _is_section(value: object) -> bool:
    return isinstance(value, dict) or (isinstance(value, list) and bool(value) and isinstance(value[0], dict))


def _value(value: object) -> str:
    return json.dumps(str(value) if isinstance(value, Path) else value)


def wait_until(condition: Callable[[], bool], seconds: float, what: str) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise RuntimeError(f"after {seconds:g} s still not: {what}")
        time.sleep(0.05)


# ---- the peers -----------------------------------------------------------------------------------------------------


def run(*command: object) -> subprocess.CompletedProcess[str]:
    """Runs a program to its end; stdout and stderr together."""
    return subprocess.run(
        [str(part) for part in command],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        timeout=300,
    )


JUDGES = ("dciodvfy", "dcentvfy", "dsrdump")  # of dicom3tools and dcmtk
_EXPECTED = ("99REALMNET", "DICOMDIR", "actually unknown")  # private codes; what the source leaves empty


def faults(report: Path, *others: Path) -> list[str]:
    """What `JUDGES` find wrong with a report and other documents of the same study, a line each."""
    found = []
    for file in (report, *others):
        lines = run("dciodvfy", "-new", file).stdout.splitlines()
        found += [f"{file.name}: {line}" for line in lines if "Error" in line]
        found += [
            f"{file.name}: {line}"
            for line in lines
            if "Warning" in line and not any(words in line for words in _EXPECTED)
        ]
    found += [line for line in run("dcentvfy", report, *others).stdout.splitlines() if "Error" in line]
    dumped = run("dsrdump", report)
    found += [line for line in dumped.stdout.splitlines() if line.startswith(("E:", "F:", "W:"))]
    return found if dumped.returncode == 0 else [*found, f"{report.name}: dsrdump ended with {dumped.returncode}"]


@contextmanager
def process(port: int, *command: object) -> Iterator[subprocess.Popen[bytes]]:
    """A program that listens on `port` until the block ends."""
    with tempfile.TemporaryFile() as output:
        running = subprocess.Popen([str(part) for part in command], stdout=output, stderr=subprocess.STDOUT)
        try:
            wait_for_port(port, running)
            yield running
        finally:
            running.terminate()
            running.wait(10)


@contextmanager
def storescp(folder: Path, port: int, *options: str) -> Iterator[None]:
    """dcmtk's storescp, which keeps the received data sets bit for bit in `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    command = ("storescp", *options, "-xf", DCMTK_DICTIONARY, "AllDICOM", port, "+B", "-od", folder)
    with process(port, *command):
        yield


@dataclass(frozen=True)
class Orthanc:
    """A running Orthanc: its DICOM port and its REST address."""

    port: int
    url: str

    def instances(self) -> dict[str, bytes]:
        """{SOP Instance UID: the file as Orthanc keeps it}."""
        files = {}
        for key in json.loads(self._get("/instances")):
            content = self._get(f"/instances/{key}/file")
            files[str(dcmread(BytesIO(content), stop_before_pixels=True).SOPInstanceUID)] = content
        return files

    def studies(self) -> list[dict]:
        return [json.loads(self._get(f"/studies/{key}")) for key in json.loads(self._get("/studies"))]

    def send(self, modality: str) -> None:
        """Sends everything it has."""
        request = Request(f"{self.url}/modalities/{modality}/store", self._get("/instances"), method="POST")
        with urlopen(request, timeout=60) as response:
            response.read()

    def _get(self, path: str) -> bytes:
        with urlopen(self.url + path, timeout=60) as response:
            return response.read()


@contextmanager
def orthanc(folder: Path, dicom: int, **modalities: tuple[str, int]) -> Iterator[Orthanc]:
    """An Orthanc on port `dicom` with an empty storage in `folder`.

    `modalities`: {name: (AE title, port)} of those it may send to.
    """
    folder.mkdir(parents=True, exist_ok=True)
    http = free_port()
    options = {
        "Name": "peer",
        "StorageDirectory": str(folder / "storage"),
        "IndexDirectory": str(folder / "storage"),
        "DicomAet": "ORTHANC",
        "DicomPort": dicom,
        "HttpPort": http,
        "RemoteAccessAllowed": False,
        "AuthenticationEnabled": False,
        "UnknownSopClassAccepted": True,
        "DicomAlwaysAllowStore": True,
        "DicomModalities": {name: [title, "127.0.0.1", peer] for name, (title, peer) in modalities.items()},
        "Plugins": [],
    }
    (folder / "orthanc.json").write_text(json.dumps(options))
    with process(http, shutil.which("Orthanc", path=SEARCH), folder / "orthanc.json") as running:
        wait_for_port(dicom, running)
        yield Orthanc(dicom, f"http://127.0.0.1:{http}")
