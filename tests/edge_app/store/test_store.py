"""What the box may never do: lose what it acknowledged, or give one image two results."""

import errno
import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import threading
from collections import Counter
from contextlib import closing
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle as Values
from hypothesis.stateful import RuleBasedStateMachine, consumes, invariant, rule
from peers import make_record

from edge_app.store import schema
from edge_app.store.database import only_one, timestamp
from edge_app.store.folders import NotTaken
from edge_app.store.items import Item
from edge_app.store.queue import MAX_ATTEMPTS, MAX_CRASHES, Stale
from edge_app.store.store import Store
from keras_realmnet.errors import RealMNetError


def receive(store: Store, contents: bytes, uid: str = "1.2.3", **others: str) -> tuple[Item, bool]:
    """As the DICOM intake does it."""
    sha256, size = store.keep_object([contents], "dcm")
    identity = {"source": "dicom", "origin": "SCANNER", "sop_instance_uid": uid, "study_uid": "1.2", **others}
    return store.add_item(sha256=sha256, extension="dcm", file_name="", bytes=size, **identity)


def receive_file(store: Store, contents: bytes) -> tuple[Item, bool]:
    sha256, size = store.keep_object([contents], "bin")
    return store.add_item(
        source="folder", origin="share", sha256=sha256, extension="bin", file_name="P1_OD.jpg", bytes=size
    )


def screened(
    store: Store, contents: bytes = b"image", uid: str = "1.2.3", deliveries=(), score=0.1, study: str = "1.2", **facts
) -> Item:
    receive(store, contents, uid, study_uid=study)
    item = store.claim()
    store.finish(item.id, make_record(**facts), score, deliveries, item.attempts)
    return store.item(item.id)


def rows(store: Store, table: str) -> int:
    return store.db.execute(f"SELECT count(*) FROM {table}").fetchone()[0]


@pytest.fixture
def store(tmp_path):
    store = Store(tmp_path / "data")
    yield store
    store.close()


# ---- identity --------------------------------------------------------------------------------------------------------


def test_an_object_is_kept_as_it_came_under_the_name_of_its_contents(store):
    item, new = receive(store, b"abc")
    assert new
    assert item.sha256 == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"  # FIPS 180-2, B.1
    assert store.object_path(item).read_bytes() == b"abc"
    assert store.object_path(item).relative_to(store.data_dir).as_posix() == f"objects/ba/{item.sha256}.dcm"
    assert list(store.incoming.iterdir()) == []


def test_the_same_object_again_is_the_same_item(store):
    item, _ = receive(store, b"abc")
    assert receive(store, b"abc") == (item, False)
    other, new = receive(store, b"abc", uid="1.2.4")
    assert new
    assert other.id != item.id


def test_the_same_uid_with_other_bytes_is_kept_in_quarantine(store):
    first, _ = receive(store, b"abc")
    second, new = receive(store, b"abd")
    assert new
    assert second.state == "quarantined"
    assert f"item {first.id}" in second.reason
    assert store.object_path(second).read_bytes() == b"abd"
    assert store.claim().id == first.id
    assert store.claim() is None


def test_a_file_is_known_by_its_contents_whatever_its_way(store):
    item, _ = receive_file(store, b"abc")
    assert receive_file(store, b"abc") == (item, False)
    assert receive(store, b"abc")[1]  # a DICOM object has a UID of its own


def test_many_at_once_make_one_item(store):
    results = []

    def send():
        results.append(receive(store, b"abc"))

    threads = [threading.Thread(target=send) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({item.id for item, _ in results}) == 1
    assert sum(new for _, new in results) == 1


# ---- the life of an item ---------------------------------------------------------------------------------------------


def test_a_result_comes_whole(store):
    item = screened(store, deliveries=[("pacs", "sr"), ("pacs", "sc")], score=0.3)
    assert item.state == "done"
    result = store.record(item.id)
    assert (result.item, result.revision, result.score) == (item, 1, 0.3)
    assert result.record == make_record(screened_at=result.record.screened_at)
    assert [(d.destination, d.kind, d.revision, d.state) for d in store.deliveries(item.id)] == [
        ("pacs", "sc", 1, "pending"),
        ("pacs", "sr", 1, "pending"),
    ]


def test_a_result_that_cannot_be_kept_whole_is_not_kept_at_all(store):
    receive(store, b"abc")
    item = store.claim()
    with pytest.raises(sqlite3.IntegrityError):
        store.finish(item.id, make_record(), 0.1, [("pacs", "sr"), ("pacs", "sr")])
    assert store.item(item.id).state == "screening"
    assert (rows(store, "records"), rows(store, "deliveries")) == (0, 0)


def test_only_the_latest_claim_can_finish(store):
    receive(store, b"abc")
    lost = store.claim()
    store.recover()  # the box was started again while an old worker lives on
    current = store.claim()
    assert current.id == lost.id
    with pytest.raises(Stale, match="attempt 1"):
        store.finish(lost.id, make_record(), 0.1, [("pacs", "sr")], lost.attempts)
    store.finish(current.id, make_record(), 0.1, [("pacs", "sr")], current.attempts)
    with pytest.raises(Stale, match="done"):
        store.finish(current.id, make_record(), 0.1, [("pacs", "sr")], current.attempts)
    assert (rows(store, "records"), rows(store, "deliveries")) == (1, 1)


def test_an_item_that_failed_three_times_is_put_aside_and_does_not_block(store):
    bad, _ = receive(store, b"bad")
    good, _ = receive(store, b"good", uid="1.2.4")
    assert store.claim().id == bad.id
    assert store.release(bad.id, "killed by signal 11", crashed=True).state == "pending"
    assert store.claim().id == good.id  # those that killed a worker come last
    for _ in range(MAX_CRASHES - 2):
        assert store.claim().id == bad.id
        assert store.release(bad.id, "killed by signal 11", crashed=True).state == "pending"
    assert store.claim().id == bad.id
    after = store.release(bad.id, "killed by signal 11", crashed=True)
    assert (after.state, after.crashes, after.reason) == ("quarantined", MAX_CRASHES, "killed by signal 11")
    [unexplained] = store.unexplained()
    store.explain(unexplained.id, make_record(outcome="not_analysed"))
    assert store.record(bad.id).record.outcome == "not_analysed"
    assert store.unexplained() == []
    store.retry(bad.id, "anna")
    assert store.item(bad.id).crashes == 0
    assert store.claim().id == bad.id


def test_release_without_a_crash_costs_nothing(store):
    item, _ = receive(store, b"abc")
    for _ in range(2 * MAX_CRASHES):
        store.claim()
        assert store.release(item.id, "no room", crashed=False).state == "pending"


def test_release_removes_what_a_killed_process_left(store):
    item, _ = receive(store, b"abc")
    store.claim()
    half, whole = (store.result_dir(item.id) / name for name in ("y.part", "preview.jpg"))
    half.write_bytes(b"half")
    whole.write_bytes(b"whole")
    store.release(item.id, "was killed", crashed=True)
    assert list(store.result_dir(item.id).iterdir()) == [whole]


def test_recovery_gives_back_what_was_being_screened_but_not_for_ever(store):
    item, _ = receive(store, b"abc")
    (store.incoming / "x.part").write_bytes(b"half")
    (store.result_dir(item.id) / "y.part").write_bytes(b"half")
    for _ in range(MAX_ATTEMPTS - 1):
        store.claim()
        [recovered] = store.recover()
        assert recovered.state == "pending"
        assert recovered.crashes == 0
    store.claim()
    [recovered] = store.recover()
    assert recovered.state == "quarantined"
    assert list(store.data_dir.rglob("*.part")) == []
    assert store.recover() == []


def test_an_object_without_an_item_is_found(store):
    sha256, _ = store.keep_object([b"never acknowledged"], "dcm")
    receive(store, b"abc")
    assert [path.stem for path in store.orphans()] == [sha256]


def test_retention_removes_only_what_was_delivered_whole(store):
    done = screened(store, b"1", "1.1", [("pacs", "sr"), ("pacs", "sc")], study="1", patient_id="A")
    waiting = screened(store, b"2", "1.2", [("pacs", "sr"), ("other", "sr")], study="2", patient_id="B")
    dead = screened(store, b"3", "1.3", [("pacs", "sr")], study="3", patient_id="C")
    nowhere = screened(store, b"4", "1.4", study="4", patient_id="D")
    pending, _ = receive(store, b"5", "1.5")
    for delivery in store.deliveries():
        if delivery.item_id == dead.id:
            store.delivery_failed(delivery.id, "refused", None)
        elif delivery.destination == "pacs":
            store.delivered(delivery.id)
    assert store.expire(datetime.now(timezone.utc) - timedelta(days=1)) == 0
    store.result_dir(done.id).joinpath("preview.jpg").write_bytes(b"picture")
    assert store.expire(datetime.now(timezone.utc) + timedelta(days=1)) == 1
    assert store.item(done.id).state == "expired"
    assert not store.object_path(done).exists()
    assert not (store.data_dir / "results" / str(done.id)).exists()
    assert store.record(done.id) is None
    for kept in (waiting, dead, nowhere, pending):
        assert store.object_path(kept).exists()
        assert store.item(kept.id).state == kept.state


@pytest.mark.parametrize("take_in", [receive, receive_file])
def test_what_was_removed_by_age_comes_back_only_when_it_is_sent_again(store, take_in):
    item, _ = take_in(store, b"abc")
    store.claim()
    assert store.finish(item.id, make_record(), 0.1, [("pacs", "sr")]) == 1
    store.delivered(store.next_delivery().id)
    store.expire(datetime.now(timezone.utc) + timedelta(days=1))
    again, new = take_in(store, b"abc")
    if take_in is receive_file:  # it still lies there
        assert (again, new) == (store.item(item.id), False)
        return
    assert (again.id, again.state, new) == (item.id, "pending", True)
    assert store.object_path(again).read_bytes() == b"abc"
    store.claim()
    assert store.finish(item.id, make_record(), 0.1, []) == 2, "another document would have the first one's UID"


# ---- people, outbox, audit -------------------------------------------------------------------------------------------


def test_an_eye_set_by_an_operator_leaves_again(store):
    item = screened(store, deliveries=[("pacs", "sr"), ("files", "json")])
    store.delivered(store.next_delivery(destination="pacs").id)
    assert store.set_eye(item.id, "OS", "anna") == 2
    result = store.record(item.id)
    assert (result.record.eye, result.record.eye_source, result.revision) == ("OS", "operator", 2)
    assert Counter((d.destination, d.revision, d.state) for d in store.deliveries(item.id)) == {
        ("pacs", 1, "delivered"): 1,
        ("files", 1, "superseded"): 1,
        ("pacs", 2, "pending"): 1,
        ("files", 2, "pending"): 1,
    }
    assert store.delivered_revision(item.id, "sr", 2) == 1
    assert store.delivered_revision(item.id, "sr", 1) is None
    assert store.delivered_revision(item.id, "json", 2) is None
    [late] = store.deliveries(item.id, "superseded")
    store.delivered(late.id)  # it was on its way, and did arrive
    assert store.delivered_revision(item.id, "json", 2) == 1
    [review] = store.reviews(item.id)
    assert (review.user, review.kind, review.value) == ("anna", "eye", "OS")
    with pytest.raises(RealMNetError, match="'left'"):
        store.set_eye(item.id, "left", "anna")
    with pytest.raises(RealMNetError, match="no record"):
        store.set_eye(99, "OD", "anna")


def test_warnings_are_told_once(store):
    item = screened(store)
    store.warn(item.id, ["look"])
    store.warn(item.id, ["look"])
    assert store.record(item.id).record.warnings == ("look",)
    assert store.record(item.id).revision == 2


def test_deliveries_wait_for_their_time_and_end_delivered_or_dead(store):
    screened(store, deliveries=[("pacs", "sr"), ("pacs", "sc")])
    now = datetime.now(timezone.utc)
    first = store.next_delivery(now)
    store.delivery_failed(first.id, "refused", now + timedelta(minutes=1))
    second = store.next_delivery(now)
    assert second.id != first.id
    store.delivered(second.id)
    assert store.next_delivery(now) is None
    assert store.next_delivery(now + timedelta(minutes=2)).id == first.id
    store.delivery_failed(first.id, "refused", None)
    assert store.counts().deliveries == {"pending": 0, "delivered": 1, "dead": 1, "superseded": 0}
    store.redeliver(first.id, "anna")
    assert store.next_delivery().id == first.id


@pytest.mark.parametrize("step", ["received_at", "finished_at", "delivered_at"])
def test_what_was_received_while_the_clock_was_behind_is_not_removed_as_old(store, step):
    """A box without a battery starts in 1970: one right time is enough to keep what is young."""
    item = screened(store, deliveries=[("pacs", "sr")])
    store.delivered(store.next_delivery().id)
    right = timestamp()
    with store.write() as db:
        long_ago = "1970-01-01T00:00:00.000+00:00"
        db.execute("UPDATE items SET received_at = ?1, finished_at = ?1", (long_ago,))
        db.execute("UPDATE deliveries SET delivered_at = ?", (long_ago,))
        table = "deliveries" if step == "delivered_at" else "items"
        db.execute(f"UPDATE {table} SET {step} = ?", (right,))
    assert store.expire(datetime.now(timezone.utc) - timedelta(days=30)) == 0
    assert store.object_path(item).exists()
    assert store.expire(datetime.now(timezone.utc) + timedelta(days=30)) == 1


def test_a_clock_that_was_ahead_makes_no_age_negative_and_is_told(store):
    ahead = timestamp(datetime.now(timezone.utc) + timedelta(days=1000))
    screened(store, deliveries=[("pacs", "sr"), ("files", "json")])
    store.delivered(store.next_delivery(destination="files").id)
    receive(store, b"another", uid="1.2.4")
    before = store.counts(), store.last_deliveries(), store.last_received()
    assert before[0].oldest_pending_seconds > 0
    assert before[0].last_success is not None
    assert set(before[1]) == {"files"}
    assert before[2].keys() == {("dicom", "SCANNER")}
    assert store.from_the_future(60) == 0
    with store.write() as db:
        db.execute("UPDATE items SET received_at = ?, finished_at = ?", (ahead, ahead))
        db.execute(
            "UPDATE deliveries SET created_at = ?, delivered_at = iif(state = 'delivered', ?, NULL)", (ahead,) * 2
        )
    counts = store.counts()
    assert counts.oldest_pending_seconds == 0
    assert counts.last_success is None  # a time to come would hide that nothing is being screened
    assert [each.oldest_seconds for each in store.waiting_deliveries()] == [0]
    assert (store.last_deliveries(), store.last_received()) == ({}, {})
    assert store.from_the_future(60) == 2


def test_what_a_person_asks_for_leaves_first(store):
    for number in range(3):
        screened(store, b"%d" % number, f"1.2.{number}", deliveries=[("pacs", "sr")])
    last = store.deliveries()[0]
    store.delivery_failed(last.id, "away", datetime.now(timezone.utc) + timedelta(hours=1))
    assert store.next_delivery().id != last.id
    assert not store.is_urgent("pacs")
    assert store.redeliver(last.id, "anna")
    assert store.is_urgent("pacs")
    assert store.next_delivery().id == last.id
    assert store.delivery(last.id).attempts == 1  # what waits keeps its count, a dead letter starts anew
    store.delivered(last.id)
    assert not store.is_urgent("pacs")
    assert not store.redeliver(last.id, "anna")
    assert store.delivery(last.id).state == "delivered"


def test_the_worklist_is_worst_first_and_can_be_searched(store):
    for uid, outcome, score, patient in (
        ("1.1", "negative", -0.4, "A1"),
        ("1.2", "refer", 0.1, "B%2"),
        ("1.3", "not_analysed", None, "C3"),
        ("1.4", "refer", 0.4, "D4"),
        ("1.5", "insufficient", None, None),
    ):
        screened(store, uid.encode(), uid, score=score, outcome=outcome, patient_id=patient)
    found = [(result.record.outcome, result.score) for result in store.worklist()]
    assert found == [("refer", 0.4), ("refer", 0.1), ("insufficient", None), ("not_analysed", None), ("negative", -0.4)]
    assert [r.record.patient_id for r in store.worklist("b%")] == ["B%2"]
    assert store.worklist("%' OR 1=1 --") == []
    assert [r.record.patient_id for r in store.worklist(outcome="refer", limit=1, offset=1)] == ["B%2"]
    assert store.worklist(since=timestamp(datetime.now(timezone.utc) + timedelta(days=1))) == []


def test_images_of_a_study_and_of_a_patient_number(store):
    screened(store, b"1", "1.1", patient_id="A")
    screened(store, b"2", "1.2", patient_id="B")  # the same study, another patient
    assert len(store.study_images("1.2")) == 2
    item, _ = receive(store, b"3", "1.3", study_uid="9.9")
    store.claim()
    store.finish(item.id, make_record(patient_id="A"), 0.1)
    assert [r.item.id for r in store.study_images("9.9")] == [item.id]
    assert len(store.patient_records("A")) == 2


def test_the_audit_trail_can_only_grow(store):
    screened(store)
    store.audit("anna", "viewed", 1)
    with pytest.raises(sqlite3.IntegrityError, match="append-only"):
        store.db.execute("UPDATE audit SET actor = 'nobody'")
    with pytest.raises(sqlite3.IntegrityError, match="append-only"):
        store.db.execute("DELETE FROM audit")
    actions = [row[0] for row in store.db.execute("SELECT action FROM audit ORDER BY id")]
    assert actions == ["received", "screened", "viewed"]


def test_every_visible_change_is_counted(store):
    before = store.changes()
    screened(store)
    assert store.changes() > before
    before = store.changes()
    store.worklist()
    assert store.changes() == before


# ---- the data base ---------------------------------------------------------------------------------------------------


def test_the_data_base_is_as_durable_as_sqlite_can_be(store):
    assert store.db.execute("PRAGMA journal_mode").fetchone()[0] == "wal"
    assert store.db.execute("PRAGMA synchronous").fetchone()[0] == 2  # FULL


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
    assert new.finish(1, make_record(), 0.1, []) == 4
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
    store = Store(old_box, "realmnet-demo")
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


def test_a_data_base_is_not_migrated_under_a_running_box(old_box):
    before = contents_of(old_box / "box.sqlite")
    with only_one(old_box), pytest.raises(RealMNetError, match="another box is running"):
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


def opened(store: Store, item: Item, pictures: int, **facts) -> Item:
    """As the worker does it: the first picture is screened, and the record says how many there are."""
    assert store.claim().id == item.id
    store.finish(item.id, make_record(pictures=pictures, **facts), 0.1, [("pacs", "sr")])
    return store.item(item.id)


def test_every_picture_of_an_object_becomes_an_item_with_its_first_result(store):
    first, _ = receive(store, b"three")
    other, _ = receive(store, b"later", "1.2.4")
    first = opened(store, first, 3)
    assert store.counts().items["pending"] == 3
    second, third = store.claim(), store.claim()
    assert store.claim().id == other.id  # an object's pictures come one after the other
    assert [(i.object_id, i.frame, i.pictures, i.sha256) for i in (first, second, third)] == [
        (first.id, frame, 3, first.sha256) for frame in (1, 2, 3)
    ]
    assert (second.study_uid, second.received_at, second.origin) == (first.study_uid, first.received_at, first.origin)
    store.release(second.id, "killed", crashed=True)
    store.revise(first.id, lambda record: record.warned(["!"]), "box")
    assert store.counts().items["pending"] == 1  # opened once
    assert receive(store, b"three") == (store.item(first.id), False)
    store.finish(third.id, make_record(frame=3, pictures=3), 0.1)
    assert rows(store, "items") == 4


def test_a_broken_first_picture_does_not_hide_the_others(store):
    first, _ = receive(store, b"two")
    store.claim()
    store.quarantine(first.id, "damaged", make_record(outcome="not_analysed", pictures=2))
    assert store.claim().frame == 2


def test_an_object_is_removed_by_age_as_a_whole(store):
    first = opened(store, receive(store, b"two")[0], 2)
    for delivery in store.deliveries(first.id):
        store.delivered(delivery.id)
    tomorrow = datetime.now(timezone.utc) + timedelta(days=1)
    assert store.expire(tomorrow) == 0  # its second picture is not screened yet
    second = store.claim()
    store.finish(second.id, make_record(frame=2, pictures=2), 0.1, [("pacs", "sr")])
    assert store.expire(tomorrow) == 0  # nor delivered
    store.delivered(store.next_delivery().id)
    assert store.expire(tomorrow) == 2
    assert not store.object_path(first).exists()
    again, new = receive(store, b"two")  # sent again: both are screened again
    assert (again.id, new) == (first.id, True)
    assert (store.claim().id, store.claim().id) == (first.id, second.id)


def test_a_patients_day_is_removed_by_age_as_a_whole(store):
    """Else what stays could look better than all of it did: the eye that refers gone, the negative ones left."""
    refer = screened(store, b"1", "1.1", [("pacs", "sr")], eye="OD", outcome="refer")
    negative = screened(store, b"2", "1.2", eye="OS", outcome="negative")  # nowhere to go: kept
    other_day = screened(store, b"3", "1.3", [("pacs", "sr")], study="9", study_date="2024-01-01")
    for delivery in store.deliveries():
        store.delivered(delivery.id)
    tomorrow = datetime.now(timezone.utc) + timedelta(days=1)
    assert store.expire(tomorrow) == 1
    assert [store.item(item.id).state for item in (refer, negative, other_day)] == ["done", "done", "expired"]


def test_pictures_that_wait_are_counted(store):
    first = opened(store, receive(store, b"three")[0], 3)
    assert store.waiting_pictures() == store.waiting_pictures([99, first.id]) == {first.id: 2}
    assert store.waiting_pictures([99]) == store.waiting_pictures([]) == {}
    second = store.claim()
    store.finish(second.id, make_record(frame=2, pictures=3), 0.1)
    assert store.waiting_pictures() == {first.id: 1}
    assert [r.record.frame for r in store.object_records(first.id)] == [1, 2]
    store.claim()
    store.quarantine(store.item(second.id).id + 1, "damaged", make_record(outcome="not_analysed", frame=3, pictures=3))
    assert store.waiting_pictures() == {}


def test_objects_of_an_earlier_release_are_opened_again(old_box):
    """It saw the first picture of each alone."""
    store = Store(old_box, "realmnet-demo")
    first, second, *others = store.uncounted(10)
    assert len(others) == 2
    store.count_pictures(first.id, 1)
    store.count_pictures(second.id, 3)
    assert [item.id for item in store.uncounted(10)] == [item.id for item in others]
    assert (store.item(first.id).state, store.item(first.id).pictures) == ("done", 1)
    again = store.claim()
    assert again.id == second.id
    store.finish(again.id, make_record(pictures=3), 0.1)
    assert store.waiting_pictures() == {second.id: 2}
    store.close()


def test_an_object_is_screened_once_by_each_bundle(tmp_path):
    store = Store(tmp_path, "one")
    first = opened(store, receive(store, b"image")[0], 1)
    assert receive(store, b"image") == (first, False)
    store.close()
    store = Store(tmp_path, "two")
    other, new = receive(store, b"image")
    assert (new, other.state, other.bundle) == (True, "pending", "two")
    assert receive(store, b"image") == (other, False)
    assert store.same_instance(other) == []
    store.close()


def test_what_a_person_closed_in_quarantine_no_longer_counts(store):
    item, _ = receive(store, b"bad")
    with pytest.raises(Stale):
        store.close_item(item.id, "anna")
    store.quarantine(item.id, "damaged", make_record(outcome="not_analysed"))
    store.close_item(item.id, "anna")
    assert (store.counts().items["quarantined"], store.items("quarantined")) == (0, [])
    assert [closed.id for closed in store.items("quarantined", closed=True)] == [item.id]
    assert store.record(item.id).record.outcome == "not_analysed"  # still no result, and still shown
    store.retry(item.id, "anna")
    assert store.item(item.id).closed_at is None


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


KILLED = """
import sys
from pathlib import Path
from tests_store import receive
from edge_app.store.store import Store
store = Store(Path(sys.argv[1]))
n = 0
while True:
    receive(store, f"{sys.argv[2]} {n}".encode(), f"1.{sys.argv[2]}.{n}")
    print(n, flush=True)
    n += 1
"""


def test_what_was_acknowledged_survives_a_kill(tmp_path):
    """A process that receives is killed at full speed, again and again; what it printed must be there."""
    shutil.copy(__file__, tmp_path / "tests_store.py")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), os.getcwd(), *sys.path])}
    acknowledged = 0
    for life in range(2):
        process = subprocess.Popen(
            [sys.executable, "-c", KILLED, tmp_path / "data", str(life)], stdout=subprocess.PIPE, env=environment
        )
        for line in process.stdout:
            acknowledged += 1
            if int(line) >= 5 + 7 * life:
                break
        process.kill()
        acknowledged += len(process.stdout.read().splitlines())
        process.wait()
    assert acknowledged >= 6 + 13
    store = Store(tmp_path / "data")
    store.check()
    store.recover()
    items = store.items(limit=10_000)
    assert acknowledged <= len(items) <= acknowledged + 2  # each life may have had one more on its way
    assert all(store.object_path(item).stat().st_size == item.bytes for item in items)
    assert len(store.orphans()) <= 2


# ---- any order of events ---------------------------------------------------------------------------------------------


class Life(RuleBasedStateMachine):
    """Senders, workers, crashes, restarts, people and retention in any order, against a model of what must hold."""

    claims = Values("claims")

    def __init__(self):
        super().__init__()
        fast = Path("/dev/shm")
        self.folder = Path(tempfile.mkdtemp(dir=fast if fast.is_dir() else None))
        self.store = Store(self.folder)
        self.acknowledged: dict[tuple[str, bytes], int] = {}
        self.finished: Counter[int] = Counter()  # results per item
        self.allowed: Counter[int] = Counter()  # lives per item: it may be screened once in each

    def teardown(self):
        self.store.close()
        shutil.rmtree(self.folder)

    @rule(uid=st.sampled_from(["1.1", "1.2"]), contents=st.sampled_from([b"a", b"b", b"c"]))
    def receive(self, uid, contents):
        item, new = receive(self.store, contents, uid)
        known = self.acknowledged.get((uid, contents))
        assert known in (None, item.id)
        if known is None:
            assert new
            self.acknowledged[uid, contents] = item.id
        self.allowed[item.id] += new

    @rule(target=claims)
    def claim(self):
        return self.store.claim()

    @rule(item=claims, late=st.booleans())
    def finish(self, item, late):
        """In time, or (as its claim stays in the bundle) long after another attempt has begun."""
        if item is not None:
            try:
                self.store.finish(item.id, make_record(), 0.1, [("pacs", "sr")], item.attempts)
            except Stale:
                return
            self.finished[item.id] += 1

    @rule(item=consumes(claims), crashed=st.booleans())
    def release(self, item, crashed):
        if item is not None:
            try:
                self.store.release(item.id, "reason", crashed, attempt=item.attempts)
            except Stale:
                return

    @rule(item=consumes(claims))
    def quarantine(self, item):
        if item is not None:
            try:
                self.store.quarantine(item.id, "reason", attempt=item.attempts)
            except Stale:
                return

    @rule()
    def retry(self):
        for item in self.store.items("quarantined"):
            self.store.retry(item.id, "anna")

    @rule()
    def restart(self):
        self.store.close()
        self.store = Store(self.folder)
        self.store.recover()
        assert self.store.items("screening") == []

    @rule()
    def deliver(self):
        while (delivery := self.store.next_delivery()) is not None:
            self.store.delivered(delivery.id)

    @rule()
    def expire(self):
        self.store.expire(datetime.now(timezone.utc) + timedelta(days=1))

    @invariant()
    def nothing_is_lost(self):
        for (_, contents), number in self.acknowledged.items():
            item = self.store.item(number)
            assert item is not None
            if item.state != "expired":
                assert self.store.object_path(item).read_bytes() == contents
        assert rows(self.store, "items") == len(self.acknowledged)

    @invariant()
    def nothing_has_two_results(self):
        for number in self.acknowledged.values():
            assert self.finished[number] <= self.allowed[number]
            done = self.store.item(number).state in ("done", "expired")
            assert done == (self.finished[number] == self.allowed[number])
        states = self.store.counts().items
        assert rows(self.store, "records") == states["done"]
        assert rows(self.store, "deliveries") == states["done"]


TestLife = Life.TestCase
TestLife.settings = settings(max_examples=20, stateful_step_count=25, suppress_health_check=list(HealthCheck))


def test_what_folders_hold_and_is_not_taken_is_what_was_seen_last(store):
    webp, archive = NotTaken("a", "WebP", 3, "2026-01-02"), NotTaken("b", "ZIP", 1, "2026-01-03")
    store.saw_not_taken("a", [NotTaken("a", "GIF", 1, "2026-01-01")])
    store.saw_not_taken("b", [archive])
    store.saw_not_taken("a", [webp])
    assert store.not_taken() == [webp, archive]
    store.saw_not_taken("b", [])
    assert store.not_taken() == [webp]


def test_dropped_objects_are_counted_in_the_audit_trail_by_kind_and_sender(store):
    for kind, origin in (("A Storage (1.2)", "X, from Y"), ("B", "PACS"), ("A Storage (1.2)", "X, from Y")):
        store.drop_object(kind, origin)
    found = {(each.kind, each.origin): each.number for each in store.dropped()}
    assert found == {("A Storage (1.2)", "X, from Y"): 2, ("B", "PACS"): 1}
