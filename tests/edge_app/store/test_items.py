"""What arrives is kept as it came and known again; its pictures become items."""

import threading

from store_steps import opened, receive, receive_file, rows

from edge_app.store.store import Store
from tests.proofs.peers import make_record


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


def test_an_object_is_screened_once_by_each_bundle(tmp_path):
    store = Store(tmp_path, ["one"])
    first = opened(store, receive(store, b"image")[0], 1)
    assert receive(store, b"image") == (first, False)
    store.close()
    store = Store(tmp_path, ["two"])
    other, new = receive(store, b"image")
    assert (new, other.state, other.bundle) == (True, "pending", "two")
    assert receive(store, b"image") == (other, False)
    assert store.same_instance(other) == []
    store.close()


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
    store.finish(third.id, make_record(frame=3, pictures=3, score=0.1))
    assert rows(store, "items") == 4


def test_a_broken_first_picture_does_not_hide_the_others(store):
    first, _ = receive(store, b"two")
    store.claim()
    store.quarantine(first.id, "damaged", make_record(outcome="not_analysed", pictures=2))
    assert store.claim().frame == 2


def test_dropped_objects_are_counted_in_the_audit_trail_by_kind_and_sender(store):
    for kind, origin in (("A Storage (1.2)", "X, from Y"), ("B", "PACS"), ("A Storage (1.2)", "X, from Y")):
        store.drop_object(kind, origin)
    found = {(each.kind, each.origin): each.number for each in store.dropped()}
    assert found == {("A Storage (1.2)", "X, from Y"): 2, ("B", "PACS"): 1}
