"""One line per person and day: two people under one patient number are two lines, and both are found by their names."""

import pytest
from peers import make_record

from edge_app.contradictions import of_one_number
from edge_app.report import visits
from edge_app.store import Store
from edge_app.web_worklist import Filter, Worklist


@pytest.fixture
def store(tmp_path):
    store = Store(tmp_path)
    yield store
    store.close()


def screen(store, uid, **facts):
    sha256, size = store.keep_object([uid.encode()], "dcm")
    identity = {"source": "dicom", "origin": "SCANNER", "sop_instance_uid": uid}
    item, _ = store.add_item(sha256=sha256, extension="dcm", file_name="", bytes=size, **identity)
    assert store.claim().id == item.id
    store.finish(item.id, make_record(**facts), facts.pop("score", None))
    return item.id


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


def test_the_report_keeps_people_apart_as_well():
    one = make_record(patient_name="Doe^Jane", eye="OD", outcome="negative")
    other = make_record(patient_name="Roe^Jim", eye="OS", outcome="negative")
    found = visits([one, other])
    assert [(visit.said("patient_name"), visit.shared_number, visit.summary.outcome) for visit in found] == [
        (("Doe^Jane",), True, "not_analysed"),
        (("Roe^Jim",), True, "not_analysed"),
    ]
    [warning] = of_one_number(one, [other])
    assert "another name" in warning
    assert "Jane" not in warning
    assert of_one_number(one, [one]) == ()
