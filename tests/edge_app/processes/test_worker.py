"""The screening process from the inside: what it keeps, what it puts aside, how it dies."""

import io
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image
from pydicom import Dataset, dcmwrite
from pydicom.encaps import encapsulate
from pydicom.uid import JPEGBaseline8Bit

from edge_app.analysis.models import Models
from edge_app.analysis.screen import Screener
from edge_app.config import Config, Destination
from edge_app.processes.worker import Worker, routes
from edge_app.store.store import Store
from edge_app.web.worklist import Filter, Worklist
from keras_realmnet.errors import EngineFailed
from keras_realmnet.screening.image_io import read_image
from keras_realmnet.screening.preprocessing import preprocess
from tests.proofs import peers


@pytest.fixture(scope="module")
def screener(tiny_bundle):
    return Screener.open(tiny_bundle, threads=1)


class Box:
    """A store and a worker in this process, which works until the queue is empty."""

    def __init__(self, home: Path, bundle: Path, screener: Screener, **settings):
        self.config = Config(data_dir=home / "data", bundle=bundle, **settings)
        self.store = Store(self.config.data_dir)
        self.said: list[str] = []
        self.worker = Worker(self.config, self.store, Models([screener]), self.said.append)

    def work(self):
        self.worker.stopping.clear()
        empty = self.store.claim

        def claim(resting=()):
            item = empty(resting)
            if item is None and not self.store.counts().items["screening"]:  # nor being written down
                self.worker.stopping.set()
            return item

        self.store.claim = claim
        try:
            self.worker.run()
        finally:
            del self.store.claim

    def receive(self, contents: bytes, name: str = "P1_OD_2025-01-31_1.png"):
        item = peers.take_in_file(self.store, contents, name, "share")
        self.store.mark_seen("share", name, len(contents), 0, item.id)
        return item

    def receive_dicom(self, picture: np.ndarray, **attributes: object):
        return peers.take_in(self.store, dicom(picture, **attributes))


@pytest.fixture
def box(tmp_path, tiny_bundle, screener):
    return Box(tmp_path, tiny_bundle, screener)


def png(picture: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "PNG")
    return file.getvalue()


def dicom(picture: np.ndarray, **attributes: object) -> bytes:
    """The picture as a scanner sends it, of patient P1."""
    same = {"PatientID": "P1", "StudyInstanceUID": "1.2.3", "StudyDate": "20250131"}
    return encoded(peers.ophthalmic(picture, **{**same, **attributes}))


def encoded(image: Dataset) -> bytes:
    file = io.BytesIO()
    dcmwrite(file, image, enforce_file_format=True)
    return file.getvalue()


def test_a_result_and_its_pictures(box, pictures, screener):
    item = box.receive(png(pictures["refer"]))
    box.work()
    assert box.said == ["ready", f"screening {item.id}", f"done {item.id}"]
    result = box.store.record(item.id)
    record = result.record
    assert (record.outcome, record.patient_id, record.eye, record.file) == (
        "refer",
        "P1",
        "OD",
        "P1_OD_2025-01-31_1.png",
    )
    assert record.folder == "share"
    assert result.score == max(record.probabilities[code] - t for code, t in record.thresholds.items()) > 0
    folder = box.store.result_dir(item.id)
    assert sorted(path.name for path in folder.iterdir()) == ["maps.npz", "preview.jpg"]
    preview = read_image(folder / "preview.jpg").pixels
    assert np.abs(preview.astype(int) - pictures["refer"]).mean() < 4
    square, geometry = preprocess(pictures["refer"], screener.bundle.spec)
    with np.load(folder / "maps.npz") as arrays:
        assert arrays["class_maps"].dtype == np.float16
        expected = screener.runtime.predict(square[None])["class_maps"][0]
        assert np.allclose(arrays["class_maps"], expected, rtol=1e-3, atol=1e-3)
        assert tuple(arrays["box"]) == geometry.box  # the preview is as large as the picture


def test_the_box_and_the_command_give_the_same_record(box, pictures, screener, tmp_path):
    path = tmp_path / "P1_OD_2025-01-31_1.png"
    path.write_bytes(png(pictures["refer"]))
    item = box.receive(path.read_bytes())
    box.work()
    by_box, by_command = box.store.record(item.id).record, screener.screen(path, item.sha256, tmp_path)
    same = {"folder": "", "overlay": None, "screened_at": "", "timings_ms": {}}
    assert replace(by_box, **same) == replace(by_command, **same)


def test_a_large_picture_has_a_small_preview(box, pictures, screener):
    large = cv2.resize(pictures["negative"], None, fx=4, fy=4)
    item = box.receive(png(large))
    box.work()
    folder = box.store.result_dir(item.id)
    height, width = read_image(folder / "preview.jpg").pixels.shape[:2]
    assert width == large.shape[1] // 2 == 1560  # at most 2048, and a whole fraction
    geometry = preprocess(large, screener.bundle.spec)[1]
    scale = np.array([width / large.shape[1], height / large.shape[0]] * 2)
    with np.load(folder / "maps.npz") as arrays:
        assert np.abs(arrays["box"] - np.array(geometry.box) * scale).max() <= 0.5


KILLED = """
import os, signal, sys
from pathlib import Path
import numpy as np
from edge_app.present.pictures import keep_pictures
from keras_realmnet.screening.bundle.bundle import Bundle
from keras_realmnet.screening.decision import Analysis
from keras_realmnet.screening.preprocessing import FieldGeometry
calls = iter(range(int(sys.argv[2]), -1, -1))
really = os.fsync
os.fsync = lambda handle: really(handle) if next(calls) else os.kill(os.getpid(), signal.SIGKILL)
predicted = {"probabilities": np.zeros(7, np.float32), "class_maps": np.zeros((2, 2, 7), np.float32)}
image = np.zeros((8, 8, 3), np.uint8)
analysis = Analysis(predicted, image, FieldGeometry((8, 8), (0, 0, 8, 8), 8))
keep_pictures(Path(sys.argv[1]), image, analysis, Bundle.load(sys.argv[3]).task)
"""


@pytest.mark.parametrize("survived", [0, 2])  # calls of fsync: of the preview, its name, the maps
def test_what_a_killed_process_left_is_removed(box, pictures, survived):
    item = box.receive(png(pictures["refer"]))
    box.store.claim()
    folder = box.store.result_dir(item.id)
    assert (
        subprocess.run([sys.executable, "-c", KILLED, folder, str(survived), box.config.bundle]).returncode
        == -signal.SIGKILL
    )
    assert len(list(folder.glob("*.part"))) == 1
    box.store.release(item.id, "was killed", crashed=True)
    assert list(folder.glob("*.part")) == []


@pytest.mark.parametrize("outcome", ["insufficient", "not_analysed"])
def test_what_is_not_gradable_has_a_preview_and_no_class_maps(box, pictures, outcome):
    item = box.receive(png(pictures[outcome]))
    box.work()
    assert box.store.item(item.id).state == "done"
    assert box.store.record(item.id).score is None
    names = {path.name for path in box.store.result_dir(item.id).iterdir()}
    assert names == {"preview.jpg"}


def test_no_name_of_a_patient_is_the_name_of_a_file(box, pictures):
    box.receive(png(pictures["refer"]), "CANARY-77_OD_2025-01-31_1.png")
    box.work()
    assert [path for path in box.config.data_dir.rglob("*") if "CANARY" in str(path)] == []


def test_angiograms_and_other_makers_never_reach_the_model(box, pictures, screener):
    class Unused:
        def predict(self, images):
            raise AssertionError("the model was asked")

    box.worker._models = Models([replace(screener, runtime=Unused())])
    for elements in (
        {"ImageType": ["ORIGINAL", "PRIMARY", "", "FA"]},
        {"ImageType": ["ORIGINAL", "PRIMARY", "", "AF"]},
        {"SeriesDescription": "Optomap ICG"},
        {"Manufacturer": "Carl Zeiss Meditec"},
    ):
        item = box.receive_dicom(pictures["refer"], **elements)
        box.work()
        assert box.store.record(item.id).record.outcome == "not_analysed", elements
        assert box.store.item(item.id).state == "done"


def test_a_damaged_file_goes_to_quarantine_with_its_reason_and_the_rest_is_screened(box, pictures):
    whole = png(pictures["refer"])
    bad = box.receive(whole[: len(whole) // 2], "P1_OS_2025-01-31_1.png")
    good = box.receive(whole)
    box.work()
    after = box.store.item(bad.id)
    assert after.state == "quarantined"
    assert "truncated" in after.reason
    record = box.store.record(bad.id).record
    assert (record.outcome, record.patient_id, record.eye) == ("not_analysed", "P1", "OS")
    assert box.store.item(good.id).state == "done"
    assert box.store.deliveries() == []


def test_a_damaged_dicom_object_still_shows_beside_its_patient(box, pictures):
    item = peers.take_in(box.store, dicom(pictures["refer"])[:-100_000])
    box.work()
    assert box.store.item(item.id).state == "quarantined"
    record = box.store.record(item.id).record
    assert (record.outcome, record.patient_id, record.eye) == ("not_analysed", "P1", "OD")


def test_bytes_that_changed_on_the_disk_are_not_screened(box, pictures):
    item = box.receive(png(pictures["refer"]))
    box.store.object_path(item).write_bytes(png(pictures["negative"]))
    box.work()
    assert box.store.item(item.id).reason == "the stored contents are no longer those received"
    assert box.store.record(item.id) is None


class Failing:
    """A runtime on a machine that is short of memory, but not for the golden image."""

    def __init__(self, times: int, screener):
        self.left, self.runtime, self.golden = times, screener.runtime, screener.bundle.golden()[0]

    def predict(self, images):
        if self.left and not (images == self.golden).all():
            self.left -= 1
            raise MemoryError
        return self.runtime.predict(images)


@pytest.mark.parametrize(("times", "state"), [(2, "done"), (3, "quarantined")])
def test_a_failure_that_is_not_the_files_fault_is_tried_again_twice(box, pictures, screener, times, state):
    box.worker._models = Models([replace(screener, runtime=Failing(times, screener))])
    item = box.receive(png(pictures["refer"]))
    box.work()
    after = box.store.item(item.id)
    assert (after.state, after.attempts) == (state, 3)
    assert box.store.record(item.id).record.outcome == ("refer" if state == "done" else "not_analysed")


def test_every_picture_of_an_object_is_screened_once_and_delivered(tmp_path, tiny_bundle, screener, pictures):
    out = Destination(name="files", kind="folder", path=tmp_path / "out", results=("json",))
    box = Box(tmp_path, tiny_bundle, screener, destination=(out,))
    frames = np.stack([pictures["negative"], pictures["refer"], pictures["negative"]])
    stack = peers.ophthalmic(frames[0], PatientID="P1", NumberOfFrames=3)
    stack.PixelData = frames.tobytes()
    first = peers.take_in(box.store, encoded(stack))
    file = io.BytesIO()
    one, two = (Image.fromarray(pictures[outcome]) for outcome in ("negative", "refer"))
    one.save(file, "TIFF", save_all=True, append_images=[two])
    scan = box.receive(file.getvalue(), "P2_OS_2025-01-31.tif")
    box.work()
    found = {(i.object_id, i.frame): box.store.record(i.id) for i in box.store.items(limit=100)}
    assert {key: result.record.outcome for key, result in found.items()} == {
        (first.id, 1): "negative",
        (first.id, 2): "refer",
        (first.id, 3): "negative",
        (scan.id, 1): "negative",
        (scan.id, 2): "refer",
    }
    assert {key: result.record.frame for key, result in found.items()} == {key: key[1] for key in found}
    assert len(box.store.deliveries()) == 5
    for (_, frame), result in found.items():
        preview = read_image(box.store.result_dir(result.item.id) / "preview.jpg").pixels
        assert np.abs(preview.astype(int) - pictures["refer" if frame == 2 else "negative"]).mean() < 4
    assert {row.outcome for row in Worklist(box.store).rows(Filter())} == {"refer"}  # never lost behind "negative"
    assert box.store.add_item(  # the same again
        source="dicom",
        origin="SCANNER",
        sha256=first.sha256,
        extension="dcm",
        file_name="",
        bytes=1,
        sop_instance_uid=first.sop_instance_uid,
    ) == (box.store.item(first.id), False)


def test_pictures_of_an_object_whose_first_is_damaged_or_kills_the_worker(box, pictures):
    jpeg = io.BytesIO()
    Image.fromarray(pictures["refer"]).save(jpeg, "JPEG", quality=95)
    whole = jpeg.getvalue()
    image = peers.ophthalmic(pictures["refer"], JPEGBaseline8Bit, NumberOfFrames=2)
    image.PixelData = encapsulate([whole[: len(whole) // 2] + bytes(100) + b"\xff\xd9", whole])
    item = peers.take_in(box.store, encoded(image))
    box.work()
    damaged, good = sorted(box.store.items(), key=lambda item: item.frame)
    assert (damaged.id, damaged.state, good.frame, good.state) == (item.id, "quarantined", 2, "done")
    [told] = box.store.record(good.id).record.warnings
    assert told == "picture 1 of 2 of the same file has no result"
    assert box.store.record(good.id).record.outcome == "refer"

    image.SOPInstanceUID, image.PixelData = "1.2.3.4", encapsulate([whole, whole])
    item = peers.take_in(box.store, encoded(image))
    for _ in range(3):
        box.store.claim()
        box.store.release(item.id, "the screening process was killed by signal 9", crashed=True)
    box.work()
    killed, good = sorted((i for i in box.store.items() if i.object_id == item.id), key=lambda item: item.frame)
    assert (killed.state, good.state) == ("quarantined", "done")
    assert box.store.record(killed.id).record.patient_id == "T-1"
    assert box.store.record(good.id).record.warnings == (told,)
    box.store.retry(killed.id, "anna")
    box.work()
    assert box.store.item(killed.id).state == "done"
    assert box.store.record(good.id).record.warnings == ()  # it holds no longer


def test_a_picture_whose_object_cannot_be_opened_again_is_still_missed(box, pictures):
    stack = peers.ophthalmic(pictures["negative"], NumberOfFrames=2)
    stack.PixelData = 2 * pictures["negative"].tobytes()
    peers.take_in(box.store, encoded(stack))
    first = box.store.claim()
    box.worker._write_down(first, *box.worker._screen(first))
    box.store.object_path(first).unlink()
    box.work()
    [second] = box.store.items("quarantined")
    record = box.store.record(second.id).record
    assert (record.missing, record.title) == (True, f"{record.file}, picture 2 of 2")
    assert box.store.record(first.id).record.warnings == ("picture 2 of 2 of the same file has no result",)


def test_an_idle_worker_looks_into_objects_that_an_earlier_release_saw_one_picture_of(box, pictures):
    frames = np.stack([pictures["negative"], pictures["refer"]])
    stack = peers.ophthalmic(frames[0], NumberOfFrames=2)
    stack.PixelData = frames.tobytes()
    items = [peers.take_in(box.store, encoded(stack)), box.receive_dicom(pictures["refer"])]
    for item, outcome in zip(items, ("negative", "refer"), strict=True):
        box.store.claim()
        box.store.finish(item.id, peers.make_record(outcome=outcome))
    with box.store.write() as db:  # as the migration leaves them
        db.execute("UPDATE items SET pictures = NULL")
    box.worker._count_pictures()
    assert [box.store.item(item.id).state for item in items] == ["pending", "done"]
    box.work()
    found = {(item.object_id, item.frame): item.state for item in box.store.items()}
    assert found == {(items[0].id, 1): "done", (items[0].id, 2): "done", (items[1].id, 1): "done"}
    assert [result.record.outcome for result in box.store.object_records(items[0].id)] == ["negative", "refer"]
    assert box.store.record(items[1].id).revision == 1


def test_after_an_engines_error_its_golden_output_is_asked_for_again(box, pictures, screener):
    """An engine that fails for good, or computes something else, ends the process; the item is given back."""

    class Dying:
        def __init__(self, broken: str):
            self.broken, self.calls = broken, 0

        def predict(self, images):
            self.calls += 1
            if self.calls == 1 or self.broken == "for good":
                raise RuntimeError("CUDA failure 719: unspecified launch failure")
            prediction = screener.runtime.predict(images)
            return prediction | {"probabilities": prediction["probabilities"] * (0.5 if self.broken else 1.0)}

    for broken in ("for good", "silently"):
        item = box.receive(png(pictures["refer"]) + broken.encode())  # other contents each time
        box.worker._models = Models([replace(screener, runtime=Dying(broken))])
        with pytest.raises(EngineFailed, match="start again"):
            box.work()
        assert box.store.item(item.id).state == "screening"  # the supervisor gives it back
        box.store.release(item.id, "the screening process ended with status 1", crashed=True)
        box.worker._models = Models([screener])
        box.work()
        assert box.store.item(item.id).state == "done"
    item = box.receive(png(pictures["refer"]) + b"once")
    box.worker._models = Models([replace(screener, runtime=Dying(""))])
    box.work()  # a passing check: the process goes on
    assert (box.store.item(item.id).state, box.store.item(item.id).attempts) == ("done", 2)


def test_what_this_box_cannot_read_is_put_aside_behind_other_work(box, pictures, screener):
    bad, good = box.receive(png(pictures["refer"])), box.receive(png(pictures["negative"]), "P2_OD.png")

    class Exhausted:
        def predict(self, images):
            if images.shape == golden.shape and (images == golden).all():
                return screener.runtime.predict(images)
            if store.item(bad.id).state == "screening":
                raise MemoryError
            return screener.runtime.predict(images)

    store, golden = box.store, screener.bundle.golden()[0]
    box.worker._models = Models([replace(screener, runtime=Exhausted())])
    box.work()
    after = store.item(bad.id)
    assert (after.state, after.attempts) == ("quarantined", 3)
    assert after.reason == "this box could not read it: the memory of this machine did not suffice"
    assert store.record(bad.id).record.reasons == (after.reason,)
    assert store.item(good.id).state == "done"
    tries = [number for number, said in enumerate(box.said) if said == f"screening {bad.id}"]
    assert box.said.index(f"screening {good.id}") < tries[1]


def test_no_room_for_a_result_is_waited_out(box, pictures, monkeypatch):
    item = box.receive(png(pictures["refer"]))
    monkeypatch.setattr("edge_app.processes.worker.FULL_DISK_SECONDS", 0.0)
    full, really = [OSError(28, "No space left on device")] * 3, os.fsync

    def fsync(handle):
        if full:
            raise full.pop()
        really(handle)

    monkeypatch.setattr(os, "fsync", fsync)
    box.work()
    after = box.store.item(item.id)
    assert (after.state, after.attempts, after.crashes) == ("done", 1, 0)
    assert box.said.count("waiting") == 3


def test_routes_follow_outcomes_and_what_a_result_can_be(tmp_path, tiny_bundle, screener, pictures):
    destinations = (
        Destination(name="pacs", kind="dicom", host="pacs", port=104, ae_title="PACS", results=("sr", "sc")),
        Destination(name="urgent", kind="folder", path=tmp_path, results=("json", "fhir"), outcomes=("refer",)),
    )
    box = Box(tmp_path, tiny_bundle, screener, destination=destinations)
    file = box.receive(png(pictures["refer"]))
    network = box.receive_dicom(pictures["refer"])
    poor = box.receive_dicom(pictures["insufficient"])
    box.work()

    def sent(item):
        return sorted((d.destination, d.kind) for d in box.store.deliveries(item.id))

    assert sent(file) == [("urgent", "fhir"), ("urgent", "json")]  # there is no DICOM image to refer to
    assert sent(network) == [("pacs", "sc"), ("pacs", "sr"), ("urgent", "fhir"), ("urgent", "json")]
    assert sent(poor) == [("pacs", "sr")]  # no evidence to show
    record = box.store.record(file.id).record
    assert routes(record, box.config) == [("urgent", "json"), ("urgent", "fhir")]
    uncertain = replace(record, outcome="uncertain", triggered=())
    assert routes(uncertain, box.config) == routes(record, box.config)  # where referrals go a person looks
    assert routes(replace(record, outcome="negative"), box.config) == []


def test_a_study_that_names_two_patients_is_told_on_every_image(box, pictures):
    first = box.receive_dicom(pictures["refer"])
    other = box.receive_dicom(pictures["negative"], PatientID="P2", ImageLaterality="L")
    third = box.receive_dicom(pictures["insufficient"], StudyInstanceUID="9.9")
    box.work()
    for item in (first, other):
        [warning] = box.store.record(item.id).record.warnings
        assert "different patients (P1, P2)" in warning
    assert box.store.record(first.id).revision == 2
    assert box.store.record(third.id).record.warnings == ()


def test_one_picture_under_two_names_is_told(box, pictures):
    item = box.receive(png(pictures["refer"]), "P1_OD_2025-01-31_1.png")
    assert box.receive(png(pictures["refer"]), "P1_OS_2025-01-31_1.png").id == item.id
    box.work()
    [warning] = box.store.record(item.id).record.warnings
    assert "different patients or eyes" in warning


def test_names_are_read_by_the_folders_own_pattern(tmp_path, tiny_bundle, screener, pictures):
    folder = {
        "name": "share",
        "path": str(tmp_path / "share"),
        "file_name_pattern": r"(?P<eye>OD|OS)-(?P<patient_id>\d+)",
    }
    box = Box(tmp_path, tiny_bundle, screener, folder=[folder])
    item = box.receive(png(pictures["refer"]), "OS-0815.png")
    box.work()
    record = box.store.record(item.id).record
    assert (record.patient_id, record.eye) == ("0815", "OS")


MEMORY = """
import sys
import numpy as np
from edge_app.processes.worker import _limit_memory
from edge_app.analysis.models import Models
from edge_app.analysis.screen import Screener
from pathlib import Path
screener = Screener.open(Path(sys.argv[1]), threads=1)  # the model file is mapped
_limit_memory(int(sys.argv[2]))
kept = np.ones((150, 1 << 20), np.uint8)
screener.runtime.predict(np.zeros((1, 64, 64, 3), np.uint8))
try:
    np.ones((int(sys.argv[2]), 1 << 20), np.uint8)
except MemoryError:
    print("refused")
"""


def test_memory_is_capped_where_it_is_written_to(tiny_bundle):
    done = subprocess.run(
        [sys.executable, "-c", MEMORY, tiny_bundle, "600"], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "refused"
