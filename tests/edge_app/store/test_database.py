"""The data base: as durable as it can be, brought up to date with a copy, refused where it is damaged or newer."""

import errno
import os
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from store_steps import receive, screened

from edge_app.store import schema
from edge_app.store.database import lock_data_dir
from edge_app.store.store import Store
from keras_realmnet.errors import RealMNetError
from tests.proofs.peers import make_record


def test_the_data_base_is_as_durable_as_sqlite_can_be(store):
    assert store.db.execute("PRAGMA journal_mode").fetchone()[0] == "wal"
    assert store.db.execute("PRAGMA synchronous").fetchone()[0] == 2  # FULL


def test_the_audit_trail_can_only_grow(store):
    screened(store)
    store.audit("anna", "viewed", 1)
    with pytest.raises(sqlite3.IntegrityError, match="append-only"):
        store.db.execute("UPDATE audit SET actor = 'nobody'")
    with pytest.raises(sqlite3.IntegrityError, match="append-only"):
        store.db.execute("DELETE FROM audit")
    actions = [row[0] for row in store.db.execute("SELECT action FROM audit ORDER BY id")]
    assert actions == ["received", "screened", "viewed"]


def test_a_first_data_base_counts_its_revisions_on(tmp_path):
    with closing(sqlite3.connect(tmp_path / "box.sqlite")) as old:
        old.executescript(schema.MIGRATIONS[0])
        old.execute(
            "INSERT INTO items (received_at, source, origin, sha256, extension, file_name, bytes, state)"
            " VALUES ('2025-01-31T00:00:00.000+00:00', 'folder', 'share', 'abc', 'bin', '', 3, 'pending')"
        )
        old.execute(
            "INSERT INTO records (item_id, revision, record, outcome, rank, screened_at)"
            " VALUES (1, 3, ?, 'refer', 0, '')",
            (make_record().to_json(),),
        )
        old.execute("PRAGMA user_version = 1")
        old.commit()
    new = Store(tmp_path)
    new.claim()
    assert new.finish(1, make_record(score=0.1), []) == 4
    new.close()


def test_an_older_data_base_is_brought_up_to_date(tmp_path, monkeypatch):
    old = Store(tmp_path)
    screened(old)
    old.close()
    added = (*schema.MIGRATIONS, "ALTER TABLE items ADD COLUMN colour TEXT;\nCREATE INDEX c ON items (colour);\n")
    monkeypatch.setattr(schema, "MIGRATIONS", added)
    new = Store(tmp_path)
    assert new.db.execute("SELECT colour FROM items").fetchone()[0] is None
    assert new.db.execute("PRAGMA user_version").fetchone()[0] == len(added)
    assert len(new.worklist()) == 1
    new.close()


def test_a_migration_that_fails_changes_nothing(tmp_path, monkeypatch):
    Store(tmp_path).close()
    broken = (*schema.MIGRATIONS, "CREATE TABLE half (x);\nCREATE TABLE half (x);\n")
    monkeypatch.setattr(schema, "MIGRATIONS", broken)
    with pytest.raises(RealMNetError, match="half"):
        Store(tmp_path)
    monkeypatch.undo()
    store = Store(tmp_path)
    assert store.db.execute("SELECT count(*) FROM sqlite_master WHERE name = 'half'").fetchone()[0] == 0


@pytest.fixture
def old_box(tmp_path, goldens) -> Path:
    """The folder of a box that the version before left: data base of schema 2, records of schema 1."""
    with closing(sqlite3.connect(tmp_path / "box.sqlite")) as db:
        db.executescript((goldens / "box_schema2.sql").read_text())
    return tmp_path


def contents_of(path: Path) -> list[str]:
    with closing(sqlite3.connect(path)) as db:
        return list(db.iterdump())


def test_a_data_base_of_the_version_before_is_copied_and_brought_up_to_date(old_box):
    before = contents_of(old_box / "box.sqlite")
    store = Store(old_box, ["realmnet-demo"])
    store.check()
    assert contents_of(old_box / "box.schema2.sqlite") == before
    assert schema.version_of(old_box / "box.schema2.sqlite") == 2
    assert [result.record.outcome for result in store.worklist()] == [*["refer"] * 3, "not_analysed"]
    items = store.items()
    assert [(item.object_id, item.frame, item.closed_at) for item in items] == [(i.id, 1, None) for i in items]
    assert [item.bundle for item in reversed(items)] == [*["realmnet-demo"] * 4, ""]
    assert store.counts().deliveries == {"pending": 7, "delivered": 1, "dead": 0, "superseded": 0}
    assert store.reviews(1)[0].value == "agree"
    store.recover()
    assert store.claim().bundle == "realmnet-demo"  # what was not screened is screened by the bundle of today
    again = store.add_item(
        source="folder", origin="camera", sha256=items[-1].sha256, extension="bin", file_name="x", bytes=1
    )
    assert again == (store.item(1), False)  # what was known stays known
    store.close()


def test_objects_of_an_earlier_release_are_opened_again(old_box):
    """It saw the first picture of each alone."""
    store = Store(old_box, ["realmnet-demo"])
    first, second, *others = store.uncounted(10)
    assert len(others) == 2
    store.count_pictures(first.id, 1)
    store.count_pictures(second.id, 3)
    assert [item.id for item in store.uncounted(10)] == [item.id for item in others]
    assert (store.item(first.id).state, store.item(first.id).pictures) == ("done", 1)
    again = store.claim()
    assert again.id == second.id
    store.finish(again.id, make_record(pictures=3, score=0.1))
    assert store.waiting_results() == {second.id: ("realmnet-demo",) * 2}
    store.close()


def test_a_data_base_is_not_migrated_under_a_running_box(old_box):
    before = contents_of(old_box / "box.sqlite")
    with lock_data_dir(old_box), pytest.raises(RealMNetError, match="another box is running"):
        Store(old_box)
    assert contents_of(old_box / "box.sqlite") == before


def test_where_no_copy_can_be_made_nothing_is_migrated(old_box, monkeypatch):
    def full(path, copy):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    before = contents_of(old_box / "box.sqlite")
    monkeypatch.setattr(schema, "copy_database", full)
    with pytest.raises(RealMNetError, match="No space left"):
        Store(old_box)
    assert contents_of(old_box / "box.sqlite") == before


def test_a_newer_or_damaged_data_base_is_refused_and_left_alone(tmp_path):
    store = Store(tmp_path)
    for number in range(200):
        receive(store, str(number).encode(), f"1.{number}")
    store.check()
    store.db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    store.db.execute("PRAGMA user_version = 99")
    with pytest.raises(RealMNetError, match="schema version 99"):
        Store(tmp_path)
    store.db.execute(f"PRAGMA user_version = {len(schema.MIGRATIONS)}")
    store.db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    store.close()
    file = tmp_path / "box.sqlite"
    contents = bytearray(file.read_bytes())
    contents[len(contents) // 2 : len(contents) // 2 + 4096] = os.urandom(4096)
    file.write_bytes(contents)
    with pytest.raises(RealMNetError, match="is damaged"):
        Store(tmp_path).check()
    assert file.read_bytes() == bytes(contents)
