"""Pictures to screen with the small bundle of tests/tiny_bundle.py, which calls a bright patch an atrophy."""

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pydicom
import pytest
from PIL import Image

from edge_app.analysis.models import Models
from edge_app.analysis.screen import Screener
from edge_app.config import Config
from edge_app.processes.worker import Worker
from edge_app.store.store import Store
from keras_realmnet.screening.bundle.bundle import Bundle
from tests.proofs import peers
from training.phantoms.phantom import render
from training.phantoms.photograph import render_photograph


@pytest.fixture(scope="session")
def pictures() -> dict[str, np.ndarray]:
    """One picture per outcome, uint8 RGB of shape (h, w, 3)."""
    healthy = render(5, width=780, staphyloma=False, grade=0, eye="OD").image
    patch = healthy.copy()
    patch[200:320, 350:480] = (235, 225, 40)  # larger than a cell of the network's 8 x 8
    return {
        "negative": healthy,
        "refer": patch,
        "insufficient": (healthy * 0.06).astype(np.uint8),
        "not_analysed": np.repeat(healthy[..., 1:2], 3, axis=-1),  # grey, like an angiogram
    }


@pytest.fixture(scope="session")
def save(pictures: dict[str, np.ndarray]) -> Callable[[Path, str], Path]:
    """save(path, outcome) writes the picture of that outcome, losslessly unless it is a JPEG, and returns the path."""

    def write(path: Path, outcome: str) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pictures[outcome]).save(path, quality=95)
        return path

    return write


HOSTILE = '"><script>alert(1)</script>'  # in every field of a file that ends on a page
NAMES = {  # {file name: outcome}, as they lie in a watched folder
    "A_OD_2025-01-31_1.png": "negative",
    "A_OS_2025-01-31_1.png": "negative",
    "B_OD_2025-01-31_1.png": "refer",
    "B_OS_2025-01-31_1.png": "negative",
    "B_OS_2025-01-31_2.png": "insufficient",
    "B_OD_2024-06-01_1.png": "negative",
    "C_OD_2025-01-31_1.png": "insufficient",
    "D_OS_2025-01-31_1.png": "not_analysed",
    "E_OD_2025-01-31_1.png": "negative",
    "<img src=x onerror=alert(2)>.png": "refer",
}


@dataclass
class ScreenedBox:
    """The folder of a box that has screened NAMES, a damaged file and a DICOM object whose eye nobody knows."""

    data_dir: Path
    bundle: Bundle
    items: dict[str, int]  # {file name, or "dicom": item id}

    def config(self, **web: object) -> Config:
        destinations = [{"name": "files", "kind": "folder", "path": str(self.data_dir / "out"), "results": ["json"]}]
        values = {"data_dir": str(self.data_dir), "bundle": str(self.bundle.directory), "destination": destinations}
        return Config.model_validate({**values, "web": web})

    def store(self) -> Store:
        return Store(self.data_dir)


def screen_all(config: Config, store: Store, screener: Screener) -> None:
    """Runs the real worker, in this process, until nothing is pending."""

    def stop_when_done(line: str) -> None:
        if line.startswith(("done", "idle")) and not store.counts().items["pending"]:
            worker.stopping.set()

    worker = Worker(config, store, Models([screener]), stop_when_done)
    worker.run()


@pytest.fixture(scope="session")
def _screened(tiny_bundle, pictures, samples, tmp_path_factory) -> ScreenedBox:
    folder = tmp_path_factory.mktemp("screened")
    screener = Screener.open(tiny_bundle)
    box = ScreenedBox(folder / "data", screener.bundle, {})
    store = box.store()
    for number, (name, outcome) in enumerate(NAMES.items()):
        picture = pictures[outcome].copy()
        picture[0, 0] = number  # no two files with the same contents
        Image.fromarray(picture).save(folder / name)
        box.items[name] = peers.take_in_file(store, (folder / name).read_bytes(), name).id
    truncated = (samples / "PHANTOM-0003_OD_2026-03-02_1.jpg").read_bytes()[:9000]
    box.items["damaged"] = peers.take_in_file(store, truncated, "F_OD_2025-01-31_1.jpg").id
    dicom = pydicom.dcmread(samples / "PHANTOM-0004_OD_2026-03-02_1.dcm")
    del dicom.ImageLaterality
    dicom.PatientID = dicom.PatientName = dicom.SeriesDescription = HOSTILE
    dicom.save_as(folder / "object.dcm")
    box.items["dicom"] = peers.take_in(store, folder / "object.dcm").id
    screen_all(box.config(), store, screener)
    store.close()
    return box


@pytest.fixture
def screened_box(_screened, tmp_path) -> ScreenedBox:
    """A copy of a box that has screened NAMES, a damaged file ("damaged") and a DICOM object ("dicom")."""
    shutil.copytree(_screened.data_dir, tmp_path / "box")
    return ScreenedBox(tmp_path / "box", _screened.bundle, dict(_screened.items))


@pytest.fixture
def store(screened_box):
    """The store of `screened_box`."""
    store = screened_box.store()
    yield store
    store.close()


@pytest.fixture
def receive_and_screen(screened_box):
    """receive_and_screen(path) takes a file into `screened_box` and has the real worker screen it; gives the item."""

    def run(path: Path) -> int:
        store = screened_box.store()
        item = peers.take_in_file(store, path.read_bytes(), path.name).id
        screen_all(screened_box.config(), store, Screener.open(screened_box.bundle.directory))
        store.close()
        return item

    return run


@pytest.fixture(scope="session")
def kinds_picture() -> Callable[..., np.ndarray]:
    """kinds_picture("disc", "cup", "fovea"): a colour fundus photograph with what the network of tiny_bundles.py knows.

    uint8 (614, 780, 3); the centre of the disc is at (500, 260), that of the fovea at (260, 360).
    """
    patches = {
        "disc": (slice(180, 340), slice(420, 580), (200, 235, 60)),
        "cup": (slice(220, 300), slice(460, 540), (200, 235, 245)),
        "fovea": (slice(330, 390), slice(230, 290), (255, 60, 30)),
    }

    def make(*shown: str) -> np.ndarray:
        picture = render(5, width=780, staphyloma=False, grade=0, eye="OD").image.copy()
        picture[..., 2] = (picture[..., 1] * 0.45).astype(np.uint8)
        for rows, columns, colour in map(patches.get, shown):
            picture[rows, columns] = colour
        return picture

    return make


@pytest.fixture(scope="session")
def every_kind(tiny_bundles, kinds_picture, tmp_path_factory) -> dict[str, tuple[Path, dict]]:
    """{bundle: (data folder, {SOP Instance UID: (what it shows, image)})} of boxes that screened two DICOM images."""
    boxes = {}
    for name in ("decides", "describes"):
        folder, sources = tmp_path_factory.mktemp(name), {}
        store = Store(folder / "box")
        for shown in ("disc cup fovea", "disc"):
            image = peers.ophthalmic(
                kinds_picture(*shown.split()), Manufacturer="Maker", ImageType=["ORIGINAL", "PRIMARY", "", "COLOR"]
            )
            sources[str(image.SOPInstanceUID)] = shown, image
            peers.take_in(store, peers.write(image, folder / "image.dcm"))
        peers.screen(store, peers.settings(folder / "box"), tiny_bundles / name)
        store.close()
        boxes[name] = folder / "box", sources
    return boxes


@pytest.fixture(scope="session")
def lesions_picture() -> np.ndarray:
    """A colour fundus photograph with what the network of DIRECTORY/lesions knows: uint8 (780, 780, 3).

    Four microaneurysms of 6 pixels, two haemorrhages at the lower left, a cluster of exudates.
    """
    picture = render_photograph(3, width=780, label="N", poor=False).image.copy()
    for x, y in ((250, 200), (560, 230), (580, 250), (520, 440)):
        picture[y : y + 6, x : x + 6] = (10, 10, 250)
    for x, y, radius in ((260, 440, 16), (330, 460, 9)):
        cv2.circle(picture, (x, y), radius, (250, 0, 0), -1)
    for x, y in ((420, 200), (430, 207), (437, 196), (446, 210)):
        cv2.circle(picture, (x, y), 3, (255, 250, 40), -1)
    return picture


@pytest.fixture(scope="session")
def lesions_box(tiny_bundles, lesions_picture, tmp_path_factory) -> tuple[Path, pydicom.Dataset]:
    """The data folder of a box that screened `lesions_picture` for lesions, and the image."""
    folder = tmp_path_factory.mktemp("lesions")
    store = Store(folder / "box")
    colours = {"Manufacturer": "Maker", "ImageType": ["ORIGINAL", "PRIMARY", "", "COLOR"]}
    image = peers.ophthalmic(lesions_picture, **colours)
    peers.take_in(store, peers.write(image, folder / "image.dcm"))
    peers.screen(store, peers.settings(folder / "box"), tiny_bundles / "lesions")
    store.close()
    return folder / "box", image


@pytest.fixture(scope="session")
def certificate(tmp_path_factory) -> tuple[Path, Path]:
    """A self-made certificate for localhost, and its key."""
    if peers.missing("openssl"):
        pytest.skip("openssl is not installed")
    return peers.certificate(tmp_path_factory.mktemp("tls"))


@pytest.fixture
def tls(certificate) -> dict[str, str]:
    """`certificate` as settings of the web page."""
    return dict(zip(("tls_certificate", "tls_key"), map(str, certificate), strict=True))
