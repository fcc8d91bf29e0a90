"""Watched folders as clinics have them: slow writers, damage, wrong endings, odd names, a share that goes away."""

import io
import os
import shutil
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edge_app import folder_intake
from edge_app.config import Config
from edge_app.store import Store
from keras_realmnet.screening.record import ScreeningRecord

STABLE = 0.3
RESCAN = 0.05


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
    store.finish(item.id, record, -0.1)
    (share / "P2_OD_1.png").write_bytes(picture())
    until(lambda: store.record(item.id).record.warnings)
    assert "different patients" in store.record(item.id).record.warnings[0]


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF"])
def test_the_end_of_a_file_tells_whether_it_is_whole(tmp_path, kind):
    data = picture(kind)
    path = tmp_path / "x"
    path.write_bytes(data)
    assert folder_intake.looks_whole(path)
    path.write_bytes(data[: len(data) // 2] + bytes(len(data) - len(data) // 2))  # room reserved, not yet filled
    assert folder_intake.looks_whole(path) == (kind == "TIFF")  # its directory is where it should be: the worker judges
    path.write_bytes(b"")
    assert not folder_intake.looks_whole(path)
