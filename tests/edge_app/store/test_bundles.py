"""Several bundles: a picture has one item for each that it goes to, whatever is added, removed, killed or repeated."""

import subprocess
import sys

import pytest
from store_steps import receive, receive_file, rows

from edge_app.store.queue import Stale
from edge_app.store.store import Store
from tests.proofs.peers import make_record

BOTH = ["eye", "disc"]


@pytest.fixture
def box(tmp_path):
    """box(*names) opens the same box for these bundles, as at a start."""
    opened = []

    def start(*names: str) -> Store:
        for store in opened:
            store.close()
        opened[:] = [Store(tmp_path / "data", names)]
        opened[0].recover()
        return opened[0]

    yield start
    opened[0].close()


def screen(store: Store, *bundles: str, kinds=None, **facts):
    """Claims, routes and finishes one item as the worker does; returns it, or None where there was none."""
    item = store.claim()
    if item is None:
        return None
    item = store.route(item.id, bundles, item.attempts)
    if item is not None:
        store.finish(item.id, make_record(bundle_name=item.bundle, score=0.1, **facts), [("pacs", "sr")], item.attempts)
    return item


def held(store: Store) -> list[tuple[int, int, str, str]]:
    """(object, frame, bundle, state) of all items."""
    return sorted((i.object_id, i.frame, i.bundle, i.state) for i in store.items(limit=1000))


def test_a_picture_has_an_item_for_each_bundle_it_goes_to(box):
    store = box(*BOTH)
    item, new = receive(store, b"abc")
    assert (new, item.bundle) == (True, "")
    first = screen(store, *BOTH)
    assert (first.id, first.bundle) == (item.id, "eye")
    assert held(store) == [(item.id, 1, "disc", "pending"), (item.id, 1, "eye", "done")]
    assert store.waiting_results() == {item.id: ("disc",)}
    assert store.bundles_to_come(store.item(item.id)) == ["disc"]
    assert screen(store, *BOTH).bundle == "disc"
    assert screen(store, *BOTH) is None
    assert receive(store, b"abc") == (store.item(item.id), False)
    assert (rows(store, "items"), rows(store, "records"), rows(store, "deliveries")) == (2, 2, 2)
    assert store.waiting_results() == {}


def test_a_picture_of_one_kind_has_no_item_of_the_others(box):
    store = box(*BOTH)
    item, _ = receive_file(store, b"abc")
    assert screen(store, "disc").bundle == "disc"
    assert held(store) == [(item.id, 1, "disc", "done")]
    assert receive_file(store, b"abc") == (store.item(item.id), False)


def test_each_picture_of_an_object_goes_its_own_way(box):
    store = box(*BOTH)
    item, _ = receive(store, b"three")
    assert screen(store, *BOTH, pictures=3).bundle == "eye"
    assert store.waiting_results() == {item.id: ("disc", "eye", "eye")}
    assert screen(store, *BOTH, pictures=3).bundle == "disc"  # of the first picture
    assert screen(store, "disc", pictures=3, frame=2).bundle == "disc"
    assert screen(store, *BOTH, pictures=3, frame=3).bundle == "eye"
    assert screen(store, *BOTH, pictures=3, frame=3).bundle == "disc"
    assert screen(store, *BOTH) is None
    assert [state for *_, state in held(store)] == ["done"] * 5
    assert [(frame, bundle) for _, frame, bundle, _ in held(store)] == [
        (1, "disc"),
        (1, "eye"),
        (2, "disc"),
        (3, "disc"),
        (3, "eye"),
    ]
    assert [each.bundle for each in store.pictures(store.item(item.id))] == ["eye", "disc", "eye"]


def test_only_a_claimed_item_is_routed(box):
    store = box(*BOTH)
    item, _ = receive(store, b"abc")
    with pytest.raises(Stale, match="pending"):
        store.route(item.id, BOTH)
    lost = store.claim()
    store.recover()
    store.claim()
    with pytest.raises(Stale, match="attempt 1"):
        store.route(lost.id, BOTH, lost.attempts)


KILLED = """
import os, signal, sys
from edge_app.store.store import Store
store = Store(__import__("pathlib").Path(sys.argv[1]), ["eye", "disc"])
item = store.claim()
if sys.argv[2] == "routed":
    store.route(item.id, ["eye", "disc"], item.attempts)
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize("moment", ["claimed", "routed"])
def test_a_process_killed_between_two_bundles_costs_no_result_and_makes_none_twice(box, moment):
    store = box(*BOTH)
    item, _ = receive(store, b"abc")
    assert subprocess.run([sys.executable, "-c", KILLED, store.data_dir, moment]).returncode == -9
    store = box(*BOTH)
    while screen(store, *BOTH) is not None:
        pass
    assert held(store) == [(item.id, 1, "disc", "done"), (item.id, 1, "eye", "done")]
    assert [store.record(each.id).revision for each in store.items()] == [1, 1]


def test_a_bundle_that_was_added_takes_what_is_unfinished(box):
    store = box("eye")
    done, _ = receive(store, b"done")
    assert (done.bundle, screen(store, "eye").id) == ("eye", done.id)
    waiting, _ = receive(store, b"waits", "1.2.4")
    store = box(*BOTH)
    assert screen(store, *BOTH).id == waiting.id
    assert screen(store, *BOTH).bundle == "disc"
    assert screen(store, *BOTH) is None
    assert held(store) == [(1, 1, "eye", "done"), (2, 1, "disc", "done"), (2, 1, "eye", "done")]
    assert receive(store, b"done") == (store.item(done.id), False)  # an older one, by command only


def test_older_items_go_to_an_added_bundle_by_command(box):
    store = box("eye")
    for number, facts in enumerate(({}, {"pictures": 2}, {"pictures": 2, "frame": 2}, {"outcome": "not_analysed"})):
        if number != 2:
            receive(store, bytes([number]), f"1.2.{number}")
        screen(store, "eye", **facts)
    store = box(*BOTH)
    later = "2999-01-01"
    assert store.rescreen("disc", later) == 0
    assert store.rescreen("disc", actor="anna") == 4
    assert store.rescreen("disc") == 0  # they wait for it already
    assert store.waiting_results() == {1: ("disc",), 2: ("disc",), 3: ("disc",)}
    assert screen(store, *BOTH).bundle == "disc"
    assert screen(store, "eye") is None  # not of its kind: others have it
    assert screen(store, *BOTH, pictures=2, frame=2).bundle == "disc"
    refused = screen(store, "disc")  # which no bundle took for its kind has found one
    assert (refused.frame, refused.bundle, store.record(refused.id).revision) == (1, "disc", 2)
    assert store.claim() is None
    assert [(frame, bundle) for _, frame, bundle, _ in held(store)] == [
        (1, "disc"),
        (1, "eye"),
        (1, "eye"),
        (2, "disc"),
        (2, "eye"),
        (1, "disc"),
    ]
    assert any(row["action"] == "rescreened" and row["actor"] == "anna" for row in store.trail())


def test_a_bundle_that_was_removed_closes_its_waiting_work_with_a_reason(box):
    store = box(*BOTH)
    item, _ = receive(store, b"abc")
    screen(store, *BOTH)
    store = box("eye")
    assert held(store) == [(item.id, 1, "eye", "done")]
    assert store.waiting_results() == {}
    closed = next(row for row in store.trail() if row["action"] == "closed")
    assert closed["detail"] == "its bundle disc was removed from the settings"
    store.check()


def test_the_item_that_stands_for_an_object_may_be_the_one_that_is_closed(box):
    store = box(*BOTH)
    item, _ = receive_file(store, b"abc")
    store.mark_seen("share", "a.jpg", 3, 0, item.id)
    claimed = store.claim()
    store.route(claimed.id, BOTH, claimed.attempts)
    store.release(claimed.id, "killed", crashed=True)
    assert screen(store, *BOTH).bundle == "disc"  # that of the first is a suspect and comes last
    store = box("disc")
    [left] = store.items()
    assert (left.object_id, left.bundle, left.state) == (left.id, "disc", "done")
    assert store.names(left.id) == ["a.jpg"]
    assert receive_file(store, b"abc") == (left, False)
    store.check()


def test_what_no_bundle_of_today_has_waits_for_them(box):
    store = box(*BOTH)
    item, _ = receive(store, b"abc")
    claimed = store.claim()
    store.route(claimed.id, BOTH, claimed.attempts)
    store = box("new", "newer")
    assert held(store) == [(item.id, 1, "", "pending")]
    assert screen(store, "newer").bundle == "newer"
    store = box("last")
    assert screen(store, "last") is None


def test_a_result_stays_when_its_bundle_goes_while_it_was_to_be_screened_again(box):
    store = box(*BOTH)
    receive(store, b"abc")
    screen(store, "disc", outcome="not_analysed")
    store.rescreen("eye")
    store = box("eye")
    [item] = store.items()
    assert (item.bundle, item.state) == ("eye", "pending")  # nobody else has it
    assert store.record(item.id).record.bundle_name == "disc"


def test_a_bundle_out_of_order_lets_its_items_wait_and_says_so_once(box):
    store = box(*BOTH)
    receive(store, b"abc")
    screen(store, *BOTH)
    missing = make_record(outcome="not_analysed", error="ModelOutOfOrder", bundle_name="disc")
    waits = store.claim(["disc"])
    store.await_bundle(waits.id, "the model is out of order", missing, waits.attempts)
    assert store.claim(["disc"]) is None
    assert (store.item(waits.id).state, store.record(waits.id).record) == ("pending", missing)
    assert store.out_of_order() == {"disc": 1}
    assert (store.waiting_results(), rows(store, "deliveries")) == ({}, 1)
    store = box(*BOTH)
    again = screen(store, *BOTH)
    assert (again.id, store.record(again.id).revision, store.out_of_order()) == (waits.id, 2, {})
    store = box("eye")
    assert [each[2] for each in held(store)] == ["disc", "eye"]  # what it said stays when it goes


def test_a_bundle_out_of_order_that_is_removed_takes_its_missing_results_along(box):
    store = box(*BOTH)
    item, _ = receive(store, b"abc")
    screen(store, *BOTH)
    waits = store.claim(["disc"])
    missing = make_record(outcome="not_analysed", error="ModelOutOfOrder", bundle_name="disc")
    store.await_bundle(waits.id, "the model is out of order", missing, waits.attempts)
    store = box("eye")
    assert [result.record.bundle_name for result in store.worklist()] == ["eye"]
    assert held(store) == [(item.id, 1, "eye", "done")]


def test_an_eye_that_is_set_holds_for_all_bundles(box):
    store = box(*BOTH)
    receive(store, b"abc")
    items = [screen(store, *BOTH, eye=None), screen(store, *BOTH, eye=None)]
    store.set_eye(items[1].id, "OS", "anna")
    assert [store.record(item.id).record.eye for item in items] == ["OS", "OS"]
    assert [store.record(item.id).revision for item in items] == [2, 2]
