"""The way of an item through screening: each step demands the state before it."""

import sqlite3

import pytest
from store_steps import receive, rows, screened

from edge_app.store.queue import MAX_CRASHES, Stale
from tests.proofs.peers import make_record


def test_a_result_comes_whole(store):
    item = screened(store, deliveries=[("pacs", "sr"), ("pacs", "sc")], score=0.3)
    assert item.state == "done"
    result = store.record(item.id)
    assert (result.item, result.revision, result.score) == (item, 1, 0.3)
    assert result.record == make_record(screened_at=result.record.screened_at, score=0.3)
    assert [(d.destination, d.kind, d.revision, d.state) for d in store.deliveries(item.id)] == [
        ("pacs", "sc", 1, "pending"),
        ("pacs", "sr", 1, "pending"),
    ]


def test_a_result_that_cannot_be_kept_whole_is_not_kept_at_all(store):
    receive(store, b"abc")
    item = store.claim()
    with pytest.raises(sqlite3.IntegrityError):
        store.finish(item.id, make_record(score=0.1), [("pacs", "sr"), ("pacs", "sr")])
    assert store.item(item.id).state == "screening"
    assert (rows(store, "records"), rows(store, "deliveries")) == (0, 0)


def test_only_the_latest_claim_can_finish(store):
    receive(store, b"abc")
    lost = store.claim()
    store.recover()  # the box was started again while an old worker lives on
    current = store.claim()
    assert current.id == lost.id
    with pytest.raises(Stale, match="attempt 1"):
        store.finish(lost.id, make_record(score=0.1), [("pacs", "sr")], lost.attempts)
    store.finish(current.id, make_record(score=0.1), [("pacs", "sr")], current.attempts)
    with pytest.raises(Stale, match="done"):
        store.finish(current.id, make_record(score=0.1), [("pacs", "sr")], current.attempts)
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
    [killed] = store.killed_items()
    store.record_failure(killed.id, make_record(outcome="not_analysed"))
    assert store.record(bad.id).record.outcome == "not_analysed"
    assert store.killed_items() == []
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
