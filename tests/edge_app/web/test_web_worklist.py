"""One line per person and day: two people under one patient number are two lines, and both are found by their names."""

import pytest

from edge_app.contradictions import within_patient_number
from edge_app.present.visits import visits
from edge_app.store.store import Store
from edge_app.web.worklist import Filter, Worklist
from tests.proofs.peers import make_record


@pytest.fixture
def store(tmp_path):
    store = Store(tmp_path)
    yield store
    store.close()


def screen(store, uid, state="done", **facts):
    sha256, size = store.keep_object([uid.encode()], "dcm")
    identity = {"source": "dicom", "origin": "SCANNER", "sop_instance_uid": uid}
    item, _ = store.add_item(sha256=sha256, extension="dcm", file_name="", bytes=size, **identity)
    assert store.claim().id == item.id
    if state == "done":
        store.finish(item.id, make_record(**facts))
    else:
        store.quarantine(item.id, "damaged", make_record(outcome="not_analysed", error="UnreadableImage", **facts))
    return item.id


def screen_next(store, **facts):
    """The next picture of the object that is being screened."""
    item = store.claim()
    assert item.frame == facts["frame"]
    if "error" in facts:
        store.quarantine(item.id, "damaged", make_record(outcome="not_analysed", **facts))
    else:
        store.finish(item.id, make_record(**facts))


def test_two_people_with_one_patient_number_are_two_lines(store):
    same = {"patient_id": "77", "study_date": "2025-01-31"}
    jane = {**same, "patient_name": "Doe^Jane", "birth_date": "1960-02-29", "accession_number": "ACC-1"}
    screen(store, "1.1", **jane, eye="OD", outcome="negative")
    screen(store, "1.2", **jane, eye="OS", outcome="negative")
    screen(store, "1.3", **same, patient_name="MÜLLER^Eva", birth_date="1971-01-01", eye="OS", outcome="refer")
    screen(store, "1.4", **same, eye="OD", outcome="negative")  # could be either's
    rows = Worklist(store).rows(Filter())
    assert [(row.outcome, row.patient_name, row.images, row.shared_number) for row in rows] == [
        ("refer", "MÜLLER^Eva", 1, True),
        ("not_analysed", None, 1, True),  # the other eye's image is missing
        ("negative", "Doe^Jane", 2, True),
    ]
    assert rows[2].birth_date == "1960-02-29"


@pytest.mark.parametrize("query", ["doe", "jane doe", "Doe^Jane", "1960-02", "acc-1", "77 jane", "muller", "müller"])
def test_people_are_found_by_what_is_known_of_them(store, query):
    screen(store, "1.1", patient_id="77", patient_name="Doe^Jane", birth_date="1960-02-29", accession_number="ACC-1")
    screen(store, "1.2", patient_id="78", patient_name="Müller^Eva", birth_date="1971-01-01")
    rows = Worklist(store).rows(Filter(query))
    assert [row.patient_id for row in rows] == ["78" if "ller" in query else "77"]


def test_without_a_contradiction_images_stay_together(store):
    screen(store, "1.1", patient_id="77", patient_name="Doe^Jane", eye="OD", outcome="negative")
    screen(store, "1.2", patient_id="77", eye="OS", outcome="negative")
    [row] = Worklist(store).rows(Filter())
    assert (row.outcome, row.patient_name, row.shared_number) == ("negative", "Doe^Jane", False)


def eyes(store):
    [row] = Worklist(store).rows(Filter())
    [visit] = visits(
        [result.record for result in store.latest(100)],
        lambda record: [""] * 2 * (record.frame == 1 and record.pictures == 3),
    )
    return row.outcome, row.eyes, row.images, visit.summary.outcome if visit.summary else None


def test_while_pictures_of_a_file_wait_its_eye_is_not_negative(store):
    screen(store, "1.1", eye="OS", outcome="negative")
    screen(store, "1.2", eye="OD", outcome="negative", pictures=3)
    assert eyes(store) == ("not_analysed", {"OS": "negative", "OD": "missing"}, 4, "not_analysed")
    screen_next(store, eye="OD", outcome="negative", frame=2, pictures=3)
    screen_next(store, eye="OD", outcome="negative", frame=3, pictures=3)
    [row] = Worklist(store).rows(Filter())
    assert (row.outcome, row.images) == ("negative", 4)


def test_a_damaged_picture_is_not_settled_by_another_of_its_file(store):
    """A good retake settles a poor image; a file's other picture is no retake."""
    screen(store, "1.1", eye="OS", outcome="negative")
    screen(store, "1.2", eye="OD", outcome="negative", pictures=2)
    damaged = {"eye": "OD", "frame": 2, "pictures": 2, "error": "UnreadableImage"}
    screen_next(store, **damaged)
    assert eyes(store) == ("not_analysed", {"OS": "negative", "OD": "missing"}, 3, "not_analysed")
    screen(store, "1.3", eye="OD", outcome="refer")
    assert eyes(store)[0] == "refer"


def test_a_damaged_file_is_still_settled_by_a_good_retake(store):
    screen(store, "1.1", eye="OS", outcome="negative")
    screen(store, "1.2", "quarantined", eye="OD")
    screen(store, "1.3", eye="OD", outcome="negative")
    assert eyes(store)[0] == "negative"


def test_pictures_of_one_file_without_a_patient_number_are_one_line(store):
    screen(store, "1.1", patient_id=None, eye="OD", outcome="negative", pictures=2)
    screen_next(store, patient_id=None, eye="OD", outcome="refer", frame=2, pictures=2)
    screen(store, "1.2", patient_id=None, eye="OD", outcome="negative")
    rows = Worklist(store).rows(Filter())
    assert [(row.outcome, row.eyes, row.images) for row in rows] == [
        ("refer", {"OD": "refer"}, 2),
        ("negative", {"OD": "negative"}, 1),
    ]


def test_the_report_keeps_people_apart_as_well():
    one = make_record(patient_name="Doe^Jane", eye="OD", outcome="negative")
    other = make_record(patient_name="Roe^Jim", eye="OS", outcome="negative")
    found = visits([one, other])
    assert [(visit.values("patient_name"), visit.shared_number, visit.summary.outcome) for visit in found] == [
        (("Doe^Jane",), True, "not_analysed"),
        (("Roe^Jim",), True, "not_analysed"),
    ]
    [warning] = within_patient_number(one, [other])
    assert "another name" in warning
    assert "Jane" not in warning
    assert within_patient_number(one, [one]) == ()
