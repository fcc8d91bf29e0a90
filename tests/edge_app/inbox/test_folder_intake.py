"""Watched folders as clinics have them: slow writers, damage, wrong endings, odd names, a share that goes away."""

import contextlib
import errno
import io
import os
import shutil
import threading
import time
from pathlib import Path
from struct import pack

import numpy as np
import pytest
from PIL import Image
from pydicom.uid import Comprehensive3DSRStorage, SecondaryCaptureImageStorage
from rich.console import Console

from edge_app.config import Config
from edge_app.dicom.own_results import HEAT_MAP_TYPE, MANUFACTURER
from edge_app.health import status
from edge_app.inbox import folder_intake
from edge_app.inbox.file_kinds import HEAD, kind_of
from edge_app.store.store import Store
from keras_realmnet.screening.record import ScreeningRecord
from tests.proofs import peers

STABLE = 0.3
RESCAN = 0.05
SMALL = np.full((64, 80, 3), 90, np.uint8)


@pytest.fixture
def share(tmp_path):
    share = tmp_path / "share"
    share.mkdir()
    return share


@pytest.fixture
def watch(share, tmp_path):
    """watch(**disk settings) → a store that is filled from the folder `share`."""
    running = []

    def start(**disk):
        settings = {"name": "share", "path": share, "rescan_seconds": RESCAN, "stable_seconds": STABLE}
        config = Config(data_dir=tmp_path / "data", folder=[settings], disk={"free_mb": 0, **disk})
        store = Store(config.data_dir)
        running.append(folder_intake.start(config, store))
        store.intake = running[-1]
        return store

    yield start
    for intake in running:
        intake.stop()


def picture(kind: str = "PNG", seed: int = 0) -> bytes:
    file = io.BytesIO()
    pixels = np.random.default_rng(seed).integers(0, 255, (40, 50, 3), np.uint8)
    Image.fromarray(pixels).save(file, kind)
    return file.getvalue()


def until(condition, seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.02)


def taken(store: Store) -> dict[str, bytes]:
    return {item.file_name: store.object_path(item).read_bytes() for item in store.items()}


def test_files_become_items_and_stay_as_they_were(share, watch):
    names = ["P1_OD.png", "unter/Jürgen Müller_OS.png", "日本_OD.png", "no ending"]
    contents = {name: picture(seed=seed) for seed, name in enumerate(names)}
    for name, data in contents.items():
        (share / name).parent.mkdir(exist_ok=True)
        (share / name).write_bytes(data)
    (share / ".hidden.png").write_bytes(picture(seed=9))
    (share / "list.csv").write_text("a,b")
    secret = share.parent / "secret.png"
    secret.write_bytes(picture(seed=10))
    (share / "link.png").symlink_to(secret)
    before = {path: path.stat() for path in share.rglob("*") if path.is_file()}
    store = watch()
    until(lambda: len(store.items()) == len(names))
    time.sleep(3 * RESCAN + STABLE)
    assert taken(store) == {Path(name).name: data for name, data in contents.items()}
    for path, stat in before.items():
        after = path.stat()
        assert (after.st_mtime_ns, after.st_size, after.st_ino) == (stat.st_mtime_ns, stat.st_size, stat.st_ino)


def test_a_name_that_is_no_utf8_is_no_obstacle(share, watch):
    with open(os.fsencode(share) + b"/P1\xff_OD.png", "wb") as file:
        file.write(picture())
    store = watch()
    until(lambda: len(store.items()) == 1)
    assert store.items()[0].file_name == "P1\N{REPLACEMENT CHARACTER}_OD.png"


def test_a_slow_writer_is_waited_for(share, watch):
    store, data = watch(), picture("TIFF")
    with (share / "P1_OD.jpg").open("wb", buffering=0) as file:  # a TIFF by a wrong name
        for start in range(0, len(data), len(data) // 5):
            file.write(data[start : start + len(data) // 5])
            time.sleep(STABLE * 0.6)
            assert store.items() == []
    until(lambda: len(store.items()) == 1)
    time.sleep(STABLE + 3 * RESCAN)
    assert taken(store) == {"P1_OD.jpg": data}


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_a_writer_that_pauses_is_recognised_by_the_end_it_has_not_written(share, watch, kind):
    store, data = watch(), picture(kind)
    path = share / "P1_OD.img.jpg"
    path.write_bytes(data[: len(data) // 2])
    time.sleep(STABLE * 4)
    assert store.items() == []
    path.write_bytes(data)
    until(lambda: len(store.items()) == 1)
    assert taken(store) == {path.name: data}


def test_what_stays_truncated_or_empty_is_taken_in_the_end_so_that_it_does_not_vanish(share, watch, monkeypatch):
    monkeypatch.setattr(folder_intake, "PATIENCE", 3)
    data = picture("JPEG")
    (share / "half.jpg").write_bytes(data[: len(data) // 2])
    (share / "empty.jpg").write_bytes(b"")
    store = watch()
    until(lambda: len(store.items()) == 2)
    assert taken(store) == {"half.jpg": data[: len(data) // 2], "empty.jpg": b""}


def test_a_file_moved_in_is_taken(share, watch):
    store = watch()
    (share.parent / "ready.png").write_bytes(picture())
    (share.parent / "ready.png").rename(share / "P1_OD.png")
    until(lambda: len(store.items()) == 1)


def test_the_same_contents_are_one_item_and_other_contents_another(share, watch):
    store = watch()
    (share / "P1_OD.png").write_bytes(picture(seed=1))
    (share / "copy.png").write_bytes(picture(seed=1))
    until(lambda: len(store.items()) == 1 and len(store.names(store.items()[0].id)) == 2)
    (share / "P1_OD.png").write_bytes(picture(seed=2))
    until(lambda: len(store.items()) == 2)


def test_nothing_is_read_again_after_a_restart(share, watch):
    (share / "P1_OD.png").write_bytes(picture())
    store = watch()
    until(lambda: len(store.items()) == 1)
    store.intake.stop()
    os.utime(share / "P1_OD.png", ns=(1, (share / "P1_OD.png").stat().st_mtime_ns))  # access time: never read
    again = watch()
    time.sleep(STABLE + 4 * RESCAN)
    assert len(again.items()) == 1
    assert (share / "P1_OD.png").stat().st_atime_ns == 1


def test_a_share_that_goes_away_comes_back(share, watch):
    store = watch()
    (share / "1.png").write_bytes(picture(seed=1))
    until(lambda: len(store.items()) == 1)
    away = share.rename(share.parent / "away")
    until(lambda: store.intake.unreachable() == ["share"])
    (away / "2.png").write_bytes(picture(seed=2))
    away.rename(share)
    until(lambda: len(store.items()) == 2)
    assert store.intake.unreachable() == []


def test_a_folder_that_cannot_be_read_does_not_hide_the_others(share, watch):
    (share / "a").mkdir()
    (share / "a" / "1.png").write_bytes(picture(seed=1))
    (share / "b.png").write_bytes(picture(seed=2))
    stop = threading.Event()

    def flicker():  # a subfolder that comes and goes while it is being looked through
        while not stop.is_set():
            (share / "a").rename(share.parent / "a")
            (share.parent / "a").rename(share / "a")

    thread = threading.Thread(target=flicker)
    thread.start()
    try:
        store = watch()
        until(lambda: "b.png" in taken(store))
    finally:
        stop.set()
        thread.join()
    until(lambda: len(store.items()) == 2)


def test_below_the_watermark_nothing_is_taken_until_there_is_room(share, watch, tmp_path):
    (share / "P1_OD.png").write_bytes(picture())
    with (tmp_path / "ballast").open("wb") as ballast:
        os.posix_fallocate(ballast.fileno(), 0, 1 << 30)
    store = watch(free_mb=(shutil.disk_usage(tmp_path).free >> 20) + 512)
    time.sleep(STABLE + 6 * RESCAN)
    assert store.items() == []
    assert list((tmp_path / "data" / "objects").iterdir()) == []
    (tmp_path / "ballast").unlink()
    until(lambda: len(store.items()) == 1)


def test_the_same_picture_under_a_name_of_another_patient_is_told_later_too(share, watch):
    store = watch()
    (share / "P1_OD_1.png").write_bytes(picture())
    until(lambda: len(store.items()) == 1)
    item = store.claim()
    model = ("bundle_name", "bundle_version", "bundle_digest", "artifact", "model_sha256", "spec_hash", "screened_at")
    record = ScreeningRecord(item.file_name, "share", item.sha256, "negative", (), **dict.fromkeys(model, "x"))
    store.finish(item.id, record)
    (share / "P2_OD_1.png").write_bytes(picture())
    until(lambda: store.record(item.id).record.warnings)
    assert "different patients" in store.record(item.id).record.warnings[0]


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF"])
def test_the_end_of_a_file_tells_whether_it_is_whole(kind):
    data = picture(kind)
    assert folder_intake.looks_whole(io.BytesIO(data))
    reserved = data[: len(data) // 2] + bytes(len(data) - len(data) // 2)  # room that is not yet filled
    # The directory of a TIFF is where it should be: the worker judges.
    assert folder_intake.looks_whole(io.BytesIO(reserved)) == (kind == "TIFF")
    assert not folder_intake.looks_whole(io.BytesIO())


# ---- what vanishes or cannot be read -----------------------------------------------------------------------------


class Entries:
    """Stands for `os.scandir`: things happen to what was listed before it is looked at."""

    def __init__(self, monkeypatch, happens):
        self._scandir, self._happens = os.scandir, happens
        monkeypatch.setattr("os.scandir", self)

    def __call__(self, folder):
        with self._scandir(folder) as entries:
            listed = list(entries)
        for entry in listed:
            self._happens(Path(entry.path))
        return contextlib.nullcontext(iter(listed))


def test_a_file_that_vanishes_during_a_scan_hides_nothing(share, watch, monkeypatch, caplog):
    (share / "b.png").write_bytes(picture(seed=1))
    (share / "c").mkdir()
    (share / "c" / "c.png").write_bytes(picture(seed=2))

    def vanish(path):
        if path.name == "a.png":
            path.unlink()
        elif path.name == "d":
            shutil.rmtree(path)
        elif path.parent == share:
            (share / "a.png").write_bytes(b"x")
            (share / "d").mkdir(exist_ok=True)

    Entries(monkeypatch, vanish)
    store = watch()
    until(lambda: len(store.items()) == 2)
    assert store.intake.unreachable() == []
    assert store.skipped_files() == []
    assert "cannot be read" not in caplog.text


def test_one_file_that_cannot_be_read_is_told_and_hides_nothing(share, watch, monkeypatch, caplog):
    for name in ("a.png", "b.png", "c.bin"):
        (share / name).write_bytes(picture(seed=ord(name[0])))
    opened = os.open

    def fail(path, *arguments, **options):
        if str(path).endswith(("a.png", "c.bin")) and broken:
            raise OSError(errno.EIO, "Input/output error")
        return opened(path, *arguments, **options)

    broken = [True]
    monkeypatch.setattr("os.open", fail)
    store = watch()
    until(lambda: len(store.items()) == 1 and store.skipped_files())
    assert [(each.kind, each.number) for each in store.skipped_files()] == [("unreadable", 2)]
    assert caplog.text.count("a file cannot be taken (Input/output error)") == 2  # once for each, not at every scan
    broken.clear()
    until(lambda: len(store.items()) == 3 and not store.skipped_files())


def test_a_subfolder_that_cannot_be_read_is_told(share, watch, monkeypatch):
    (share / "a").mkdir()
    (share / "b.png").write_bytes(picture())

    def happens(path):
        if path.name == "a.png":
            raise OSError(errno.EACCES, "Permission denied")

    (share / "a" / "a.png").write_bytes(picture(seed=1))
    Entries(monkeypatch, happens)
    store = watch()
    until(lambda: len(store.items()) == 1 and store.skipped_files())
    assert [(each.kind, each.number) for each in store.skipped_files()] == [("unreadable", 1)]
    assert store.intake.unreachable() == []


@pytest.mark.parametrize("replacement", ["link", "pipe", "folder", "other contents"])
def test_a_file_that_is_replaced_before_it_is_opened_is_not_taken_as_it_was_listed(share, tmp_path, replacement):
    path, secret = share / "a.png", tmp_path / "secret.png"
    secret.write_bytes(picture(seed=1))
    path.write_bytes(picture())
    [(listed, version)] = folder_intake._files(share)
    path.unlink()
    {
        "link": lambda: path.symlink_to(secret),
        "pipe": lambda: os.mkfifo(path),
        "folder": path.mkdir,
        "other contents": lambda: path.write_bytes(picture(seed=2)),
    }[replacement]()
    with pytest.raises((folder_intake._Changed, OSError)), folder_intake._opened(listed, version):
        pass


# ---- what is not taken -------------------------------------------------------------------------------------------


def tiff_tags(*tags: int) -> bytes:
    """A TIFF of one directory with these tags, each a LONG of value 1."""
    entries = b"".join(pack("<HHLL", tag, 4, 1, 1) for tag in tags)
    return b"II*\0" + pack("<LH", 8, len(tags)) + entries + bytes(4)


FOREIGN = {
    "WebP": picture("WEBP"),
    "JPEG 2000": picture("JPEG2000"),
    "GIF": picture("GIF"),
    "AVIF": pack(">L", 28) + b"ftypmif1" + bytes(4) + b"mif1avif" + bytes(100),
    "HEIC": pack(">L", 24) + b"ftypheic" + bytes(4) + b"mif1" + bytes(100),
    "JPEG XL": b"\xff\x0a" + bytes(100),
    "PDF": b"%PDF-1.7\n" + bytes(100),
    "ZIP": b"PK\x03\x04" + bytes(100),
    "camera RAW": tiff_tags(254, 330),
    "video": pack(">L", 24) + b"ftypisom" + bytes(112),
    "of unknown kind": bytes(range(100)),
}


@pytest.mark.parametrize("kind", FOREIGN)
def test_kinds_are_told_by_contents(share, kind):
    head = FOREIGN[kind]
    assert (kind_of(head[:HEAD]) or "of unknown kind") == kind


@pytest.mark.parametrize(
    ("kind", "head"),
    [
        *((kind, picture(kind)) for kind in ("JPEG", "PNG", "TIFF", "BMP")),
        ("TIFF", tiff_tags(254)),
        ("camera RAW", tiff_tags(50706)),
        ("camera RAW", b"II*\0\x10\0\0\0CR\x02\0" + bytes(100)),
        ("DICOM", bytes(128) + b"DICM" + bytes(100)),
        ("DICOM", b"\x08\x00\x05\x00CS\x0a\x00ISO_IR 100" + bytes(10)),
        ("text", b"BMW;7\r\n"),
        ("text", "Größe".encode("utf-16")),
        ("text", b""),
        (None, b"BM" + bytes(100)),
        ("TIFF", b"II*\0\xff\xff\xff\xff"),
        ("TIFF", b"MM\0*"),
    ],
)
def test_what_is_read_is_told_from_what_looks_like_it(kind, head):
    assert kind_of(head[:HEAD]) == kind


def test_pictures_of_other_kinds_leave_a_trace_and_no_name(share, watch, tmp_path, caplog):
    for number, data in enumerate(FOREIGN.values()):
        (share / f"CANARY{number}.dat").write_bytes(data)
        os.utime(share / f"CANARY{number}.dat", (1_700_000_000 + number,) * 2)
    (share / "CANARY.webp").write_bytes(FOREIGN["WebP"])
    os.utime(share / "CANARY.webp", (1_800_000_000,) * 2)
    (share / "CANARY.csv").write_text("a,b")
    (share / "Thumbs.db").write_bytes(b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(100))
    (share / "P1_OD.dat").write_bytes(picture())  # a picture by its contents
    (share / "P2_OD.dat").write_bytes(picture("JPEG", 2)[:300] + b"\xff\xd9")  # a damaged one
    (share / "P3_OD.jpg").write_bytes(picture("WEBP", 3))  # one by its name
    store = watch()
    until(lambda: len(store.skipped_files()) == len(FOREIGN) and len(store.items()) == 3)
    assert {each.kind: each.number for each in store.skipped_files()} == dict.fromkeys(FOREIGN, 1) | {"WebP": 2}
    assert {each.folder for each in store.skipped_files()} == {"share"}
    assert next(each.latest for each in store.skipped_files() if each.kind == "WebP").startswith("2027-01-15T08:00:00")
    assert "folder share: not taken: 2 WebP" in caplog.text
    assert "CANARY" not in caplog.text
    [line] = status.skipped_files(store)
    assert line.startswith("not taken from folder share: 2 WebP, 1 ")
    assert line.endswith("export JPEG, PNG, TIFF, BMP or DICOM instead")
    told = caplog.text
    time.sleep(5 * RESCAN)
    assert caplog.text == told  # not at every scan
    (share / "CANARY.webp").unlink()
    until(lambda: {each.kind: each.number for each in store.skipped_files()}["WebP"] == 1)
    console = Console(file=io.StringIO(), width=500)
    config = Config(data_dir=store.data_dir, disk={"free_mb": 0})
    status.show(config, console, patients=False)
    assert "not taken from folder share: 1 AVIF, 1 GIF" in console.file.getvalue()
    store.intake.stop()
    folder_intake.start(config, store).stop()  # the folder is no longer watched
    assert store.skipped_files() == []


def test_a_file_too_large_leaves_a_trace(share, watch, monkeypatch):
    monkeypatch.setattr(folder_intake, "MAX_BYTES", 1 << 20)
    for name in ("P1_OD.jpg", "P1_OD.dat"):
        (share / name).write_bytes(picture("JPEG") + bytes(1 << 20))
    store = watch()
    until(store.skipped_files)
    assert [(each.kind, each.number) for each in store.skipped_files()] == [("larger than 1 MB", 2)]
    assert store.items() == []


def test_a_file_of_another_kind_is_not_read_whole(share, watch, monkeypatch):
    """A large archive would fill the memory of the serving process."""
    monkeypatch.setattr("pathlib.Path.read_bytes", lambda path: pytest.fail("read whole"))
    (share / "large.zip").write_bytes(FOREIGN["ZIP"])
    (share / "large.dat").write_bytes(FOREIGN["of unknown kind"])
    store = watch()
    until(lambda: len(store.skipped_files()) == 2)


def test_results_of_this_software_are_not_taken(share, watch):
    own = {"Manufacturer": MANUFACTURER, "ImageType": list(HEAT_MAP_TYPE)}
    peers.write(peers.ophthalmic(SMALL, SOPClassUID=SecondaryCaptureImageStorage, **own), share / "map.dcm")
    own |= {"Manufacturer": "", "SeriesDescription": "Heat map - NOT FOR DIAGNOSIS"}
    peers.write(peers.ophthalmic(SMALL, SOPClassUID=SecondaryCaptureImageStorage, **own), share / "rewritten.dcm")
    report = peers.ophthalmic(SMALL, SOPClassUID=Comprehensive3DSRStorage, Manufacturer=MANUFACTURER.upper())
    peers.write(report, share / "report.dcm")
    peers.write(peers.ophthalmic(SMALL), share / "picture.dcm")
    store = watch()
    until(lambda: len(store.items()) == 1)
    time.sleep(STABLE + 4 * RESCAN)
    assert [item.file_name for item in store.items()] == ["picture.dcm"]
