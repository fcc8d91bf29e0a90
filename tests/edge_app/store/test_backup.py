"""A backup is whole or not there, and a box that is started from one goes on where it was."""

import hashlib
import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from contextlib import closing, suppress
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

from edge_app.__main__ import main
from edge_app.processes.serve import _recover
from edge_app.store import schema
from edge_app.store.backup import back_up, restore, verify
from edge_app.store.database import lock_data_dir
from edge_app.store.store import Store
from edge_app.web import auth as web_auth
from keras_realmnet import __version__
from keras_realmnet.errors import RealMNetError
from tests.proofs import peers, served

TABLES = ("items", "records", "deliveries", "reviews", "users", "seen_files")


@pytest.fixture
def box(screened_box, samples):
    """A screened box with a user who is logged in, a review, results that left and that wait, and a pending image."""
    store = screened_box.store()
    web_auth.add_user(store, "anna", "admin", "a long password")
    assert web_auth.Login(store, 30).login("anna", "a long password", "127.0.0.1")
    store.review(screened_box.items["A_OD_2025-01-31_1.png"], "anna", {"note": "seen"})
    store.delivered(store.next_delivery().id)
    store.delivery_failed(store.next_delivery().id, "refused", None)
    picture = samples / "PHANTOM-0003_OD_2026-03-02_1.jpg"
    peers.take_in_file(store, picture.read_bytes(), picture.name)
    store.close()
    return screened_box


def contents(data_dir: Path) -> dict[str, list]:
    with closing(sqlite3.connect(data_dir / "box.sqlite")) as db:
        return {table: db.execute(f"SELECT * FROM {table} ORDER BY 1, 2").fetchall() for table in TABLES}


def files(data_dir: Path) -> dict[str, str]:
    return {
        path.relative_to(data_dir).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for folder in ("objects", "results")
        for path in (data_dir / folder).rglob("*")
        if path.is_file()
    }


def trail(store: Store) -> list[tuple]:
    return [tuple(row) for row in store.trail()]


def test_everything_is_there_after_a_restore_and_goes_on_from_there(box, tmp_path):
    store = box.store()
    before = trail(store)
    manifest = back_up(box.data_dir, tmp_path / "backup")
    assert manifest.missing == ()
    assert (manifest.software, manifest.schema) == (__version__, len(schema.MIGRATIONS))
    assert manifest.counts["items pending"] == 1
    assert verify(tmp_path / "backup") == manifest
    assert restore(tmp_path / "backup", tmp_path / "again") == manifest

    assert contents(tmp_path / "again") == contents(box.data_dir)
    assert files(tmp_path / "again") == files(box.data_dir)
    again = Store(tmp_path / "again")
    again.check()
    line, *others = trail(again)
    assert others == before
    assert (line[2], line[3]) == ("command line", "restored")
    assert again.orphans() == []
    with again.write() as db:
        assert db.execute("SELECT count(*) FROM sessions").fetchone()[0] == 0  # people log in again
        assert db.execute("SELECT count(*) FROM login_attempts").fetchone()[0] == 0
    assert web_auth.Login(again, 30).login("anna", "a long password", "127.0.0.1")
    assert not list((tmp_path / "again").glob("restore*"))

    states = again.counts()
    assert again.recover() == []
    peers.screen(again, box.config(), box.bundle.directory)
    after = again.counts()
    assert (after.items["pending"], after.items["done"]) == (0, states.items["done"] + 1)
    assert after.deliveries["delivered"] == states.deliveries["delivered"] == 1
    for kept in (store, again):
        kept.close()


def test_what_was_being_screened_is_screened_again(box, tmp_path):
    store = box.store()
    item = store.claim()
    back_up(box.data_dir, tmp_path / "backup")
    store.close()
    restore(tmp_path / "backup", tmp_path / "again")
    again = Store(tmp_path / "again")
    assert [each.id for each in again.recover()] == [item.id]
    assert again.item(item.id).state == "pending"
    again.close()


def test_a_backup_overwrites_nothing_and_lies_outside_of_the_box(box, tmp_path):
    (tmp_path / "there").mkdir()
    (tmp_path / "file").write_text("mine")
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    for out, expected in (
        (tmp_path / "there", "is there already"),
        (tmp_path / "file", "is there already"),
        (tmp_path / "link", "is there already"),
        (box.data_dir / "backup", "own folder"),
        (tmp_path / "none" / "backup", "no such folder"),
    ):
        with pytest.raises(RealMNetError, match=expected):
            back_up(box.data_dir, out)
    with pytest.raises(RealMNetError, match="no box has run here"):
        back_up(tmp_path / "nothing", tmp_path / "backup")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["box", "file", "link", "there"]


def test_a_restore_needs_an_empty_folder_where_no_box_runs(box, tmp_path):
    back_up(box.data_dir, tmp_path / "backup")
    before = contents(box.data_dir)
    with pytest.raises(RealMNetError, match="not empty"):
        restore(tmp_path / "backup", box.data_dir)
    with lock_data_dir(box.data_dir), pytest.raises(RealMNetError, match="another box is running"):
        restore(tmp_path / "backup", box.data_dir)
    assert contents(box.data_dir) == before
    with pytest.raises(RealMNetError, match="is no backup"):
        restore(box.data_dir, tmp_path / "again")
    assert not (tmp_path / "again").exists()


@pytest.mark.parametrize("damage", ["changed", "gone", "data base", "manifest", "not finished", "newer", "outside"])
def test_a_damaged_backup_is_refused_and_leaves_nothing(box, tmp_path, damage):
    folder = tmp_path / "backup"
    back_up(box.data_dir, folder)
    manifest = json.loads((folder / "manifest.json").read_text())
    file = next(path for path in folder.rglob("preview.jpg"))
    if damage == "changed":
        file.write_bytes(file.read_bytes()[:-1] + b"x")
    elif damage == "gone":
        file.unlink()
    elif damage == "data base":
        content = bytearray((folder / "box.sqlite").read_bytes())
        content[5000] ^= 255
        (folder / "box.sqlite").write_bytes(content)
    elif damage == "manifest":
        (folder / "manifest.json").write_bytes((folder / "manifest.json").read_bytes()[:-9])
    elif damage == "not finished":
        (folder / "manifest.json").unlink()
    elif damage == "newer":
        (folder / "manifest.json").write_text(json.dumps({**manifest, "schema": len(schema.MIGRATIONS) + 1}))
    else:
        manifest["files"]["../outside"] = manifest["files"][f"results/{file.parent.name}/preview.jpg"]
        (folder / "manifest.json").write_text(json.dumps(manifest))
    for step in (verify, lambda folder: restore(folder, tmp_path / "again")):
        with pytest.raises(RealMNetError, match=r"damaged|missing from|whole one|newer release|outside of the backup"):
            step(folder)
    assert not (tmp_path / "again").exists() or list((tmp_path / "again").iterdir()) == []
    assert not (tmp_path / "outside").exists()


class Interrupted(BaseException):
    pass


def test_an_interrupted_backup_or_restore_leaves_nothing_that_looks_like_one(box, tmp_path):
    def interrupt(done, total):
        if done:
            raise Interrupted

    with pytest.raises(Interrupted):
        back_up(box.data_dir, tmp_path / "backup", interrupt)
    assert [path.name for path in tmp_path.iterdir()] == ["box"]
    back_up(box.data_dir, tmp_path / "backup")
    (tmp_path / "again").mkdir()
    with pytest.raises(Interrupted):
        restore(tmp_path / "backup", tmp_path / "again", interrupt)
    assert list((tmp_path / "again").iterdir()) == []


def test_a_killed_backup_is_no_backup_and_the_next_one_replaces_it(box, tmp_path):
    part = tmp_path / "backup.part"
    (part / "objects").mkdir(parents=True)
    (part / "objects" / "half").write_bytes(b"x")  # as kill -9 leaves it
    with pytest.raises(RealMNetError, match="no backup, or not a whole one"):
        verify(part)
    back_up(box.data_dir, tmp_path / "backup")
    assert not part.exists()
    assert not (tmp_path / "backup" / "objects" / "half").exists()


def test_two_backups_do_not_write_to_one_folder(box, tmp_path):
    inside, go_on = threading.Event(), threading.Event()

    def wait(done, total):
        inside.set()
        assert go_on.wait(60)

    first = threading.Thread(target=back_up, args=(box.data_dir, tmp_path / "backup", wait))
    first.start()
    assert inside.wait(60)
    with pytest.raises(RealMNetError, match="another backup is being written"):
        back_up(box.data_dir, tmp_path / "backup")
    go_on.set()
    first.join(60)
    verify(tmp_path / "backup")


def test_no_box_starts_in_the_middle_of_a_restore(box, tmp_path):
    (tmp_path / "again" / "restore.part").mkdir(parents=True)
    with pytest.raises(RealMNetError, match="a restore goes on or was interrupted"):
        Store(tmp_path / "again")
    assert [path.name for path in (tmp_path / "again").iterdir()] == ["restore.part"]


def test_what_appears_in_the_folder_during_a_restore_is_neither_mixed_with_it_nor_removed(box, tmp_path):
    back_up(box.data_dir, tmp_path / "backup")
    with pytest.raises(RealMNetError, match="something else was put there"):
        restore(tmp_path / "backup", tmp_path / "again", lambda done, total: (tmp_path / "again" / "mine").touch())
    assert [path.name for path in (tmp_path / "again").iterdir()] == ["mine"]


def test_what_is_removed_by_age_during_a_backup_is_missing_from_all_of_it(box, tmp_path):
    """The files of half of the items go while they are copied: the backup shows the box after that."""
    store = box.store()
    for delivery in store.deliveries(state="pending"):
        store.delivered(delivery.id)
    removed = []

    def expire(done, total):
        if done and not removed:
            removed.append(store.expire(datetime.now(timezone.utc) + timedelta(days=1)))

    manifest = back_up(box.data_dir, tmp_path / "backup", expire)
    assert removed[0] > 5
    assert manifest.missing == ()
    assert manifest.counts["items expired"] == removed[0]
    restore(tmp_path / "backup", tmp_path / "again")
    again = Store(tmp_path / "again")
    for item in again.items(limit=1000):
        assert (item.state == "expired") != again.object_path(item).exists()
        assert (again.record(item.id) is None) or (item.state != "expired")
    assert files(tmp_path / "again") == files(box.data_dir)
    assert {path.name for path in (tmp_path / "again" / "results").iterdir()} == {
        str(item.id) for item in again.items(limit=1000) if item.state in ("done",)
    } | {path.name for path in (box.data_dir / "results").iterdir() if any(path.iterdir())}
    for kept in (store, again):
        kept.close()


def test_a_box_that_has_lost_a_file_is_backed_up_and_the_loss_is_named(box, tmp_path, capsys):
    store = box.store()
    items = [item for item in store.items(limit=1000) if item.state == "done"]
    store.object_path(items[0]).unlink()
    store.object_path(items[1]).write_bytes(b"damaged")
    (box.data_dir / "results" / str(items[2].id) / "preview.jpg").unlink()
    store.close()
    settings = tmp_path / "box.toml"
    settings.write_text(peers.toml({"data_dir": box.data_dir}))
    assert main(["backup", "--config", str(settings), "--out", str(tmp_path / "backup")]) == 1
    told = capsys.readouterr().err
    for number in (0, 1):
        assert items[number].sha256 in told
    assert f"results/{items[2].id}/preview.jpg" in told
    assert len(verify(tmp_path / "backup").missing) == 3
    restore(tmp_path / "backup", tmp_path / "again")  # the rest is worth having


def test_the_commands_say_what_they_did(box, tmp_path, capsys):
    settings, empty = tmp_path / "box.toml", tmp_path / "empty.toml"
    settings.write_text(peers.toml({"data_dir": box.data_dir}))
    empty.write_text(peers.toml({"data_dir": tmp_path / "again"}))
    assert main(["backup", "--config", str(settings), "--out", str(tmp_path / "backup")]) == 0
    assert "1 not screened yet" in capsys.readouterr().out
    assert main(["restore", str(tmp_path / "backup"), "--check", "--config", str(empty)]) == 0
    assert not (tmp_path / "again").exists()
    assert main(["restore", str(tmp_path / "backup"), "--config", str(empty)]) == 0
    assert main(["restore", str(tmp_path / "backup"), "--config", str(empty)]) == 2
    assert "not empty" in capsys.readouterr().err
    for path in (tmp_path / "backup", tmp_path / "again"):
        for each in (path, *path.rglob("*")):
            assert each.stat().st_mode & 0o077 == 0, each  # everything about patients is in it


def test_interrupted_by_hand_or_killed_the_command_leaves_no_backup(box, tmp_path, request):
    # A shell starts what it puts in the background with the signal ignored, and children inherit that.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    request.addfinalizer(lambda: signal.signal(signal.SIGINT, before))
    settings = tmp_path / "box.toml"
    settings.write_text(peers.toml({"data_dir": box.data_dir}))
    picture = next((box.data_dir / "results").rglob("preview.jpg"))
    for index in range(1000):  # enough to be caught in the middle
        os.link(picture, box.data_dir / "results" / "1" / f"{index}.jpg")
    command = [sys.executable, "-m", "edge_app", "backup", "--config", settings, "--out", tmp_path / "backup"]
    for number, status in ((signal.SIGINT, 130), (signal.SIGKILL, -9)):
        process = subprocess.Popen(command, env=served.ENVIRONMENT, stderr=subprocess.DEVNULL)
        while not list(tmp_path.glob("backup.part/results/1/*")) and process.poll() is None:
            time.sleep(0.001)
        process.send_signal(number)
        assert process.wait(60) == status
        assert not (tmp_path / "backup").exists()
        assert (tmp_path / "backup.part").exists() == (number == signal.SIGKILL)
    assert subprocess.run(command, env=served.ENVIRONMENT, stdout=subprocess.DEVNULL).returncode == 0
    verify(tmp_path / "backup")


@pytest.mark.parametrize("running", [True, False])
def test_a_full_disk_is_backed_up(box, tmp_path, running):
    disk = tmp_path / "disk"
    disk.mkdir()
    if os.geteuid() != 0 or peers.run("mount", "-t", "tmpfs", "-o", "size=40m", "tmpfs", disk).returncode != 0:
        pytest.skip("a small disk needs root and mount")
    try:
        shutil.copytree(box.data_dir, disk / "box")
        store = Store(disk / "box")
        counts = store.counts()
        if not running:
            store.close()
        for size in (65536, 512, 1):
            with suppress(OSError), (disk / f"rest{size}").open("wb", buffering=0) as rest:
                while True:
                    rest.write(bytes(size))
        manifest = back_up(disk / "box", tmp_path / "backup")
        assert manifest.counts["items done"] == counts.items["done"]
        verify(tmp_path / "backup")
        if running:
            store.close()
    finally:
        peers.run("umount", disk)


def test_a_target_without_room_is_refused_and_left_empty(box, tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    if os.geteuid() != 0 or peers.run("mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", disk).returncode != 0:
        pytest.skip("a small disk needs root and mount")
    try:
        with pytest.raises(RealMNetError, match=r"MB are needed|No space|full"):
            back_up(box.data_dir, disk / "backup")
        assert list(disk.iterdir()) == []
        back_up(box.data_dir, tmp_path / "backup")
        with pytest.raises(RealMNetError, match="No space"):
            restore(tmp_path / "backup", disk / "again")
        assert list((disk / "again").iterdir()) == []
    finally:
        peers.run("umount", disk)


def test_a_backup_of_the_version_before_is_restored_and_brought_up_to_date(tmp_path, goldens):
    old = tmp_path / "old"
    old.mkdir()
    with closing(sqlite3.connect(old / "box.sqlite")) as db:
        db.executescript((goldens / "box_schema2.sql").read_text())
    manifest = back_up(old, tmp_path / "backup")
    assert manifest.schema == 2
    with closing(sqlite3.connect(old / "box.sqlite")) as db:
        assert db.execute("PRAGMA user_version").fetchone()[0] == 2  # as it was
    restore(tmp_path / "backup", tmp_path / "again")
    assert schema.version_of(tmp_path / "again" / "box.sqlite") == len(schema.MIGRATIONS)


def test_the_way_back_to_the_version_before_is_as_the_guide_says(tmp_path, goldens, monkeypatch):
    """The update migrates the data base; the guide's line puts the copy back; what came meanwhile is not lost."""
    data = tmp_path / "data"
    data.mkdir()
    with closing(sqlite3.connect(data / "box.sqlite")) as db:
        db.executescript((goldens / "box_schema2.sql").read_text())
        before = list(db.iterdump())
    updated = Store(data)
    came = peers.take_in(updated, peers.write(peers.ophthalmic(peers.picture()), tmp_path / "new.dcm"))
    assert (data / "box.sqlite-wal").exists()  # not closed: as a killed box leaves it
    monkeypatch.setattr(schema, "MIGRATIONS", schema.MIGRATIONS[:2])  # the version before
    with pytest.raises(RealMNetError, match="newer release"):
        Store(data)

    guide = (served.ROOT / "docs" / "install.md").read_text(encoding="utf-8")
    [line] = [line for line in guide.splitlines() if "box.schema2.sqlite box.sqlite" in line]
    command = line.removeprefix("sudo -u realmnet ").replace("/var/lib/realmnet", str(data))
    subprocess.run(command, shell=True, check=True)
    updated.close()
    Store(data).close()  # the version before takes it
    with closing(sqlite3.connect(data / "box.sqlite")) as db:
        assert list(db.iterdump()) == before

    monkeypatch.undo()
    again = Store(data)  # updated once more
    assert [path.stem for path in again.orphans()] == [came.sha256]  # which any version takes in at its start
    _recover(again)
    assert came.sop_instance_uid in {item.sop_instance_uid for item in again.items("pending")}
    again.check()
    again.close()
    with closing(sqlite3.connect(data / "newer" / "box.sqlite")) as db:  # with what was in its log
        [rows] = db.execute("SELECT count(*) FROM items WHERE sha256 = ?", (came.sha256,)).fetchone()
        assert rows == 1


def test_made_in_the_middle_of_writing_it_is_a_state_that_was(box, tmp_path):
    """Somebody writes without pause: items and their audit lines come in one transaction, so they are both there."""
    store, stopping = box.store(), threading.Event()

    def write():
        mine = box.store()
        number = 0
        while not stopping.is_set():
            number += 1
            sha256, size = mine.keep_object([b"%d" % number], "bin")
            mine.add_item(source="folder", origin="share", sha256=sha256, extension="bin", file_name="x", bytes=size)
        mine.close()

    writer = threading.Thread(target=write)
    writer.start()
    peers.wait_until(lambda: store.counts().items["pending"] > 1, 30, "something is written")
    try:
        for number in range(5):
            back_up(box.data_dir, tmp_path / f"backup{number}")
            verify(tmp_path / f"backup{number}")
            with closing(sqlite3.connect(tmp_path / f"backup{number}" / "box.sqlite")) as db:
                [items] = db.execute("SELECT count(*) FROM items WHERE origin = 'share'").fetchone()
                [lines] = db.execute(
                    "SELECT count(*) FROM audit WHERE action = 'received' AND detail = 'share'"
                ).fetchone()
            assert items == lines > 0
    finally:
        stopping.set()
        writer.join(30)
    assert store.counts().items["pending"] > items
    store.close()
