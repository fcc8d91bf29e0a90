"""Results, their revisions, and what is asked about them."""

from collections import Counter
from datetime import datetime, timedelta, timezone

import pytest
from store_steps import opened, receive, screened

from edge_app.store.database import timestamp
from keras_realmnet.errors import RealMNetError
from tests.proofs.peers import make_record


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
    store.finish(item.id, make_record(patient_id="A", score=0.1))
    assert [r.item.id for r in store.study_images("9.9")] == [item.id]
    assert len(store.patient_records("A")) == 2


def test_pictures_that_wait_are_counted(store):
    first = opened(store, receive(store, b"three")[0], 3)
    assert store.waiting_results() == store.waiting_results([99, first.id]) == {first.id: ("tiny", "tiny")}
    assert store.waiting_results([99]) == store.waiting_results([]) == {}
    second = store.claim()
    store.finish(second.id, make_record(frame=2, pictures=3, score=0.1))
    assert store.waiting_results() == {first.id: ("tiny",)}
    assert [r.record.frame for r in store.object_records(first.id)] == [1, 2]
    store.claim()
    store.quarantine(store.item(second.id).id + 1, "damaged", make_record(outcome="not_analysed", frame=3, pictures=3))
    assert store.waiting_results() == {}


def test_warnings_are_told_once(store):
    item = screened(store)
    store.warn(item.id, ["look"])
    store.warn(item.id, ["look"])
    assert store.record(item.id).record.warnings == ("look",)
    assert store.record(item.id).revision == 2


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
