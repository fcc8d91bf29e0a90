"""Several bundles in one screening process: where a picture goes, and what one that fails does to the others."""

import io
import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from starlette.testclient import TestClient

from edge_app.__main__ import main
from edge_app.analysis import models
from edge_app.analysis.models import LastPicture, Models, described
from edge_app.analysis.screen import FileOrigin, Screener
from edge_app.config import Config, InstalledBundle
from edge_app.health.status import problems
from edge_app.processes.worker import Worker
from edge_app.store.store import Store
from edge_app.web.server import make_app
from edge_app.web.worklist import Filter, Worklist
from keras_realmnet.errors import BundleMismatch, RealMNetError
from keras_realmnet.screening.bundle.document import BUNDLE_FILE, signed
from keras_realmnet.screening.image_io import read_image
from keras_realmnet.screening.quality import measured
from tests.proofs import peers, served


def copy_of(bundle: Path, folder: Path, name: str) -> Path:
    """The same bundle under another name."""
    shutil.copytree(bundle, folder)
    document = json.loads((folder / BUNDLE_FILE).read_bytes())
    (folder / BUNDLE_FILE).write_bytes(signed({**document, "name": name}))
    return folder


@pytest.fixture(scope="module")
def folders(tiny_bundle, tiny_bundles, tmp_path_factory) -> list[Path]:
    """Two bundles for laser pictures ("tiny", "twin") and one for photographs ("describes")."""
    twin = copy_of(tiny_bundle, tmp_path_factory.mktemp("bundles") / "twin", "twin")
    return [tiny_bundle, twin, tiny_bundles / "describes"]


class Box:
    def __init__(self, home: Path, folders: list[Path]):
        self.config = Config(data_dir=home / "data", bundles=tuple(map(str, folders)), disk={"free_mb": 0})
        self.bundles = described(self.config.installed)
        self.store = Store(self.config.data_dir, [bundle.name for bundle in self.bundles])
        self.store.recover()
        self.said: list[str] = []
        self.models = Models.open(self.config.installed, threads=1)

    def receive(self, picture: np.ndarray, name: str):
        file = io.BytesIO()
        Image.fromarray(picture).save(file, "PNG")
        return peers.take_in_file(self.store, file.getvalue(), name)

    def work(self, limit: int = 100) -> None:
        """As the worker does it, so many items."""
        worker = Worker(self.config, self.store, self.models, self.said.append)
        for _ in range(limit):
            item = worker._claim()
            if item is None:
                return
            worker._write_down(item, *worker._screen(item))

    def outcomes(self) -> dict[str, str]:
        return {result.record.bundle_name: result.record.outcome for result in self.store.worklist()}

    def page(self, path: str) -> str:
        app = make_app(self.config, self.store, self.bundles)
        return TestClient(app, base_url="http://localhost", client=("127.0.0.1", 50000)).get(path).text


@pytest.fixture
def photograph(kinds_picture):
    return kinds_picture("disc", "cup", "fovea")


def test_a_picture_goes_to_every_bundle_of_its_kind_and_to_no_other(tmp_path, folders, pictures, photograph):
    box = Box(tmp_path, folders)
    laser = box.receive(pictures["refer"], "P1_OD_2025-01-31_1.png")
    camera = box.receive(photograph, "P1_OS_2025-01-31_1.png")
    other = box.receive(pictures["not_analysed"], "P2_OS_2025-01-31_1.png")
    box.work()
    found = {(r.item.object_id, r.record.bundle_name): r.record.outcome for r in box.store.worklist()}
    assert found == {
        (laser.id, "tiny"): "refer",
        (laser.id, "twin"): "refer",
        (camera.id, "describes"): "described",
        (other.id, "tiny"): "not_analysed",  # the first one keeps what is no bundle's
    }
    assert box.store.counts().items == {"pending": 0, "screening": 0, "done": 4, "quarantined": 0, "expired": 0}


def test_the_results_are_those_of_each_bundle_alone(tmp_path, folders, pictures, photograph):
    box = Box(tmp_path, folders)
    items = [
        box.receive(pictures["refer"], "P1_OD_2025-01-31_1.png"),
        box.receive(photograph, "P1_OS_2025-01-31_1.png"),
    ]
    box.work()
    same = {"folder": "", "overlay": None, "screened_at": "", "timings_ms": {}, "file": ""}
    for folder, item in ((folders[0], items[0]), (folders[1], items[0]), (folders[2], items[1])):
        screener = Screener.open(folder, threads=1)
        alone = screener.screen(box.store.object_path(item), item.sha256, None, FileOrigin("P1_x.png", ""))
        inside = next(
            r.record for r in box.store.object_records(item.id) if r.record.bundle_name == screener.bundle.name
        )
        facts = ("patient_id", "eye", "eye_source", "study_date")
        alone = replace(alone, **same, **{name: getattr(inside, name) for name in facts})
        assert replace(inside, **same) == replace(alone, source=inside.source)


def test_the_page_shows_what_is_still_missing_and_never_negative(tmp_path, folders, pictures):
    box = Box(tmp_path, folders)
    item = box.receive(pictures["negative"], "P1_OD_2025-01-31_1.png")
    box.receive(pictures["insufficient"], "P2_OD_2025-01-31_1.png")
    box.work(1)
    assert box.outcomes() == {"tiny": "negative"}
    [row] = Worklist(box.store).rows(Filter())
    assert (row.eyes, row.outcome, row.images) == ({"OD": "missing"}, "not_analysed", 1)
    page = box.page(f"/items/{item.id}")
    assert "Result missing" in page
    assert "twin: the result of 1 of 1 images is missing" in page.lower()
    assert "missing" in box.page(f"/items/{item.id}/report").lower()
    box.work()
    [row] = Worklist(box.store).rows(Filter("P1"))
    assert (row.eyes, row.images) == ({"OD": "negative"}, 1)
    page = box.page(f"/items/{item.id}")
    assert "Result missing" not in page
    assert "This image: tiny" in page
    assert ">twin</h2>" in page
    paper = box.page(f"/items/{item.id}/report")
    assert paper.count("<article") == 2
    assert "· twin</h3>" in paper
    for path in ("/about", "/health", "/"):
        assert "error" not in box.page(path).lower()[:200]
    assert all(f"<h2>{bundle.name}</h2>" in box.page("/about") for bundle in box.bundles)


def test_a_bundle_that_fails_its_self_check_does_not_stop_the_others(tmp_path, folders, pictures, photograph):
    broken = copy_of(folders[1], tmp_path / "broken", "broken")
    model = next(broken.glob("*.tflite"))
    whole = model.read_bytes()
    model.write_bytes(whole[:-1] + b"x")
    box = Box(tmp_path, [broken, folders[0], folders[2]])
    assert list(box.models.out_of_order) == ["broken"]
    item = box.receive(pictures["negative"], "P1_OD_2025-01-31_1.png")
    box.receive(photograph, "P1_OS_2025-01-31_1.png")
    box.receive(pictures["not_analysed"], "P3_OS_2025-01-31_1.png")
    box.work()
    found = {(r.record.patient_id, r.record.bundle_name): r for r in box.store.worklist()}
    assert {key: result.record.shown for key, result in found.items()} == {
        ("P1", "broken"): "missing",
        ("P1", "tiny"): "negative",
        ("P1", "describes"): "described",
        ("P3", "tiny"): "not_analysed",  # the first that works
    }
    missing = found["P1", "broken"].record
    assert (missing.eye, missing.missing, missing.outcome) == ("OD", True, "not_analysed")
    assert found["P1", "broken"].item.state == "pending"
    rows = {row.patient_id: row for row in Worklist(box.store).rows(Filter())}
    assert rows["P1"].eyes == {"OD": "missing", "OS": "described"}
    assert any("the model broken was out of order" in line for line in problems(box.config, box.store))
    page = box.page(f"/items/{item.id}")
    assert "The model broken is out of order" in page
    assert 'class="badge missing"' in page
    assert "not a negative result" in page
    model.write_bytes(whole)
    box = Box(tmp_path, [broken, folders[0], folders[2]])  # started again
    box.work()
    assert {r.record.bundle_name for r in box.store.worklist()} == {"broken", "tiny", "describes"}
    assert Worklist(box.store).rows(Filter("P1"))[0].eyes == {"OD": "negative", "OS": "described"}
    assert "out of order" not in box.page(f"/items/{item.id}")


def test_an_eye_whose_only_picture_waits_for_a_bundle_out_of_order_is_not_negative(tmp_path, folders, pictures):
    """Another picture of the same eye is negative for the bundle that works."""
    broken = copy_of(folders[2], tmp_path / "broken", "broken")
    next(broken.glob("*.tflite")).write_bytes(b"no model")
    box = Box(tmp_path, [folders[0], broken])
    box.receive(pictures["negative"], "P1_OD_2025-01-31_1.png")
    picture = pictures["negative"].copy()
    box.work()
    assert Worklist(box.store).rows(Filter())[0].eyes == {"OD": "negative"}
    picture[..., 2] = picture[..., 1] // 2  # with blue, a photograph
    picture[..., 1] //= 2
    box.receive(picture, "P1_OD_2025-01-31_2.png")
    box.work()
    assert Worklist(box.store).rows(Filter())[0].eyes == {"OD": "missing"}


def test_all_that_fail_or_share_a_name_are_refused(tmp_path, tiny_bundle):
    with pytest.raises(RealMNetError, match=r"a name of its own\. Received: tiny, tiny"):
        described(
            [InstalledBundle(path=tiny_bundle), InstalledBundle(path=copy_of(tiny_bundle, tmp_path / "a", "tiny"))]
        )
    with pytest.raises(BundleMismatch, match=r"bundle\.json"):
        described([InstalledBundle(path=tmp_path)])
    both = [copy_of(tiny_bundle, tmp_path / name, name) for name in ("b", "c")]
    for folder in both:
        next(folder.glob("*.tflite")).write_bytes(b"")
    with pytest.raises(RealMNetError, match=r"b/.*\.tflite: changed"):
        Models.open([InstalledBundle(path=folder) for folder in both])


def test_a_picture_is_decoded_and_measured_once_for_all(tmp_path, folders, pictures, monkeypatch):
    box = Box(tmp_path, folders[:2])
    box.receive(pictures["refer"], "P1_OD_2025-01-31_1.png")
    box.receive(pictures["negative"], "P2_OD_2025-01-31_1.png")
    asked = []
    box.models._last._read = lambda *args, **options: asked.append(args) or read_image(*args, **options)
    looked_at = []
    monkeypatch.setattr(models, "measured", lambda *args: looked_at.append(args) or measured(*args))
    box.work()
    assert len(asked) == len(looked_at) == 2
    assert len(box.store.worklist()) == 4


def test_what_could_not_be_read_is_read_anew_by_the_next_attempt():
    answers = iter([MemoryError(), "picture"])

    def read(path, name):
        answer = next(answers)
        if isinstance(answer, Exception):
            raise answer
        return answer

    last = LastPicture(read)
    for _ in range(3):  # all bundles get the same answer
        with pytest.raises(MemoryError):
            last(Path("a"), "a")
    last.forget_error()
    assert [last(Path("a"), "a") for _ in range(2)] == ["picture"] * 2


def test_an_unreadable_file_has_one_record_and_is_put_aside(tmp_path, folders):
    box = Box(tmp_path, folders)
    item = peers.take_in_file(box.store, b"\x89PNG\r\n\x1a\n no picture", "P1_OD_2025-01-31_1.png")
    box.work()
    assert [(i.id, i.state, i.bundle) for i in box.store.items()] == [(item.id, "quarantined", "tiny")]
    assert Worklist(box.store).rows(Filter())[0].eyes == {"OD": "not_analysed"}


def test_an_operators_eye_reaches_the_results_of_bundles_that_come_later(tmp_path, folders, pictures):
    box = Box(tmp_path, folders[:2])
    item = box.receive(pictures["refer"], "picture.png")
    box.receive(pictures["negative"], "P2_OD_2025-01-31_1.png")
    box.work(1)
    box.store.set_eye(item.id, "OS", "anna")
    box.work()
    records = [result.record for result in box.store.object_records(item.id)]
    assert [(r.bundle_name, r.eye, r.eye_source) for r in records] == [
        ("tiny", "OS", "operator"),
        ("twin", "OS", "operator"),
    ]


def test_the_command_brings_older_pictures_to_an_added_bundle(tmp_path, folders, pictures, photograph, capsys):
    box = Box(tmp_path, folders[:1])
    laser = box.receive(pictures["negative"], "P1_OD_2025-01-31_1.png")
    camera = box.receive(photograph, "P1_OS_2025-01-31_1.png")
    box.work()
    assert [r.record.outcome for r in box.store.worklist()] == ["not_analysed", "negative"]
    settings = tmp_path / "box.toml"
    settings.write_text(peers.toml({"data_dir": str(tmp_path / "data"), "bundles": [*map(str, folders)]}))
    for name in ("twin", "describes"):
        assert main(["rescreen", "--bundle", name, "--config", str(settings)]) == 0
    assert main(["rescreen", "--bundle", "twin", "--since", "2999-01-01", "--config", str(settings)]) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[0] == "2 pictures will be looked at by twin"
    assert said[-1] == "0 pictures will be looked at by twin"
    assert main(["rescreen", "--bundle", "none", "--config", str(settings)]) == 2
    assert "one of tiny, twin, describes" in capsys.readouterr().err
    box = Box(tmp_path, folders)
    box.work()
    found = {(r.item.object_id, r.record.bundle_name): (r.record.outcome, r.revision) for r in box.store.worklist()}
    assert found == {
        (laser.id, "tiny"): ("negative", 1),
        (laser.id, "twin"): ("negative", 1),
        (camera.id, "describes"): ("described", 2),
    }


@pytest.mark.slow
def test_a_running_box_tells_which_bundle_is_out_of_order_and_outlives_kills(tmp_path, folders):
    broken = copy_of(folders[0], tmp_path / "broken", "broken")
    next(broken.glob("*.tflite")).write_bytes(b"no model")
    box = served.Box(tmp_path / "box", [folders[0], folders[1], broken])
    box.start()  # it never is without a problem
    try:
        box.wait_for(lambda: 'realmnet_box_bundle_ready{bundle="broken"} 0.0' in box.get("/metrics"), 120)
        assert 'realmnet_box_bundle_ready{bundle="twin"} 1.0' in box.get("/metrics")
        assert "broken is out of order" in box.get("/health")
        image = peers.ophthalmic(served.picture(1))
        assert served.send(box.dicom_port, image) == 0x0000
        box.kill()  # whatever it is at
        box.start()
        with box.store() as store:
            box.wait_for(lambda: len(store.worklist()) == 3, 120)
            assert served.send(box.dicom_port, image) == 0x0000
            shown = {result.record.bundle_name: result.record.shown for result in store.worklist()}
            assert (shown["broken"], shown["tiny"] == shown["twin"]) == ("missing", True)
            assert [item.frame for item in store.items()] == [1, 1, 1]
            assert "3 results" not in box.get("/health")
            assert "1 result is missing: the model broken was out of order" in box.get("/health")
    finally:
        box.kill()
