"""What the box sets right by itself: after a crash, and by age."""

from datetime import datetime, timedelta, timezone

import pytest
from store_steps import opened, receive, receive_file, screened

from edge_app.store.database import timestamp
from edge_app.store.queue import MAX_ATTEMPTS
from tests.proofs.peers import make_record


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
    assert store.finish(item.id, make_record(score=0.1), [("pacs", "sr")]) == 1
    store.delivered(store.next_delivery().id)
    store.expire(datetime.now(timezone.utc) + timedelta(days=1))
    again, new = take_in(store, b"abc")
    if take_in is receive_file:  # it still lies there
        assert (again, new) == (store.item(item.id), False)
        return
    assert (again.id, again.state, new) == (item.id, "pending", True)
    assert store.object_path(again).read_bytes() == b"abc"
    store.claim()
    assert store.finish(item.id, make_record(score=0.1), []) == 2, "another document would have the first one's UID"


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


def test_an_object_is_removed_by_age_as_a_whole(store):
    first = opened(store, receive(store, b"two")[0], 2)
    for delivery in store.deliveries(first.id):
        store.delivered(delivery.id)
    tomorrow = datetime.now(timezone.utc) + timedelta(days=1)
    assert store.expire(tomorrow) == 0  # its second picture is not screened yet
    second = store.claim()
    store.finish(second.id, make_record(frame=2, pictures=2, score=0.1), [("pacs", "sr")])
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
