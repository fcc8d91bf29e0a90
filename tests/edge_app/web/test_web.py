"""The web page without a browser: what each page shows, and what each form does to the store."""

import csv
import io
import json
import re
import time
from datetime import datetime, timedelta, timezone
from html import unescape

import numpy as np
import pytest
from PIL import Image
from rich.console import Console
from starlette.testclient import TestClient

from edge_app.health import status
from edge_app.present.terms import OUTCOME_NAMES, label_name, local_time, sentence
from edge_app.store.database import timestamp
from edge_app.store.folders import SkippedFiles
from edge_app.web.server import make_app
from edge_app.web.worklist import Filter, Worklist
from keras_realmnet import __version__
from keras_realmnet.screening.decision import patient_summary
from keras_realmnet.tasks.rules import OUTCOMES
from tests.proofs import peers


@pytest.fixture
def site(screened_box, store):
    """A browser on the machine itself."""
    app = make_app(screened_box.config(), store, [screened_box.bundle])
    return TestClient(app, base_url="http://localhost", client=("127.0.0.1", 50000))


def token(site):
    return re.search(r'name="csrf" value="(\w+)"', site.get("/about").text)[1]


def post(site, path, **form):
    headers = form.pop("headers", {})
    return site.post(path, data={"csrf": token(site), **form}, headers=headers, follow_redirects=False)


def text(response):
    """What a reader sees, in one line."""
    assert response.status_code == 200
    return " ".join(unescape(re.sub(r"<[^>]+>", " ", response.text)).split())


def rows(response):
    """The worklist as a list of lists of cells."""
    found = re.findall(r"<tr>\s*<th scope=\"row\">.*?</tr>", response.text, re.S)
    return [
        [" ".join(unescape(re.sub(r"<[^>]+>", " ", cell)).split()) for cell in re.split(r"</t[hd]>", row)[:-1]]
        for row in found
    ]


# ---- worklist ----------------------------------------------------------------------------------------------------


def test_the_worklist_is_by_patient_and_day_and_worst_first(site, store):
    shown = rows(site.get("/"))
    assert len(shown) == 9
    names = [OUTCOME_NAMES[outcome] for outcome in OUTCOMES]
    ranks = [names.index("Not analysed" if row[2] == "Incomplete" else row[2]) for row in shown]
    assert ranks == sorted(ranks)
    for patient, day in (("A", "2025-01-31"), ("B", "2025-01-31"), ("C", "2025-01-31"), ("E", "2025-01-31")):
        [row] = [row for row in shown if row[:2] == [patient, day]]
        records = [r.record for r in store.patient_records(patient) if r.record.study_date == day]
        outcome = patient_summary(records).outcome
        assert row[2] == ("Incomplete" if outcome == "not_analysed" else OUTCOME_NAMES[outcome])
        assert int(row[6]) == len(records)


def test_a_missing_result_is_never_shown_as_negative(site):
    for patient, _, outcome, right, left, *_ in rows(site.get("/")):
        if outcome == "Negative" and patient != "Patient unknown":
            assert (right, left) == ("Negative", "Negative")
    [only_right] = [row for row in rows(site.get("/")) if row[0] == "E"]
    assert only_right[2:5] == ["Incomplete", "Negative", "no image"]


@pytest.mark.parametrize(
    ("form", "patients"),
    [
        ({"query": "b"}, ["B", "B"]),
        ({"query": "2024-06"}, ["B"]),
        ({"query": "B_OS_2025-01-31_2"}, ["B"]),
        ({"query": "' OR 1=1 --"}, []),
        ({"outcome": "negative"}, ["A"]),
        ({"outcome": "insufficient"}, ["C"]),
        ({"query": "B", "outcome": "refer"}, ["B"]),
        ({"since": "2999-01-01"}, []),
        ({"since": "no day", "query": "C_OD"}, ["C"]),
    ],
)
def test_search_and_filters(site, form, patients):
    assert [row[0] for row in rows(post(site, "/", **form))] == patients


def test_images_whose_eye_is_asked_for_can_be_listed(site):
    unknown = rows(post(site, "/", outcome="eye_unknown"))
    assert len(unknown) == 2
    assert all(row[5] != "–" for row in unknown)


def test_a_filter_never_changes_what_a_patient_is(site):
    """The row of B is found by the name of one insufficient image, but tells of all its images."""
    [row] = rows(post(site, "/", query="B_OS_2025-01-31_2"))
    assert row[2:5] == ["Refer", "Refer", "Negative"]


def test_the_search_is_remembered_until_it_is_cleared(site):
    post(site, "/", query="C_OD")
    assert [row[0] for row in rows(site.get("/"))] == ["C"]
    assert 'value="C_OD"' in site.get("/").text
    assert post(site, "/", clear="1").status_code == 303
    assert len(rows(site.get("/"))) == 9


def test_a_late_poll_does_not_bring_back_the_search_before(site):
    post(site, "/", query="C_OD")
    post(site, "/", query="", poll="1", changes="0")
    assert [row[0] for row in rows(site.get("/"))] == ["C"]


def test_a_poll_is_answered_only_when_something_changed(site, store, screened_box):
    changes = re.search(r'"changes": (\d+)', site.get("/").text)[1]
    poll = {"poll": "1", "changes": changes, "headers": {"HX-Request": "true"}}
    assert post(site, "/", **poll).status_code == 204
    store.set_eye(screened_box.items["dicom"], "OD", "somebody")
    answer = post(site, "/", **poll)
    assert answer.status_code == 200
    assert answer.text.lstrip().startswith('<section id="rows"')


def test_ten_thousand_images_are_paged_fast(site, store):
    record = store.record(1).record.to_json()
    items = "INSERT INTO items (received_at, source, origin, sha256, extension, file_name, bytes, state) VALUES"
    columns = "item_id, revision, record, outcome, rank, patient_id, eye, study_date, screened_at, score"
    with store.write() as db:
        for i in range(10_000):
            values = ("2025-02-01T00:00:00.000+00:00", "folder", "camera", f"{i:064d}", "png", f"p{i}.png", 1, "done")
            item = db.execute(f"{items} (?, ?, ?, ?, ?, ?, ?, ?)", values).lastrowid
            outcome, eye = OUTCOMES[i % 4], ("OD", "OS")[i % 2]
            values = (item, 1, record, outcome, i % 4, f"P{i // 2:05d}", eye, "2025-02-01", "2025-02-01T00:00:00", i)
            db.execute(f"INSERT INTO records ({columns}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", values)
    first, elapsed = None, []
    for offset in (0, 50, 2500, 5000):
        started = time.perf_counter()
        page = post(site, "/", offset=str(offset), headers={"HX-Request": "true"})
        elapsed.append(time.perf_counter() - started)
        first = first or page
    assert len(rows(first)) == 50
    assert "1–50 of 5,009 patients and days" in text(first)
    assert "5,001–5,009 of 5,009" in text(page)
    assert elapsed[0] < 5  # rows are made anew: 75 ms of processor time
    assert max(elapsed[1:]) < 2  # 12 ms


# ---- results -----------------------------------------------------------------------------------------------------


def test_a_result_shows_decision_probabilities_quality_provenance_and_history(site, store, screened_box):
    item = screened_box.items["B_OD_2025-01-31_1.png"]
    result, page = store.record(item), site.get(f"/items/{item}")
    shown = text(page)
    for reason in result.record.reasons:
        assert reason in shown
    for code, probability in result.record.probabilities.items():
        assert re.search(rf"{code} {re.escape(label_name(result.record, code))} {probability:.2f}", shown)
    assert shown.count("≥ 0.50") == len(result.record.triggered) == 1
    assert shown.count("< 0.50") == 3
    for fact in (result.record.model_sha256, result.record.spec_hash, result.record.bundle_digest, result.item.sha256):
        assert fact in shown
    for measure in result.record.quality:
        assert measure.replace("_", " ") in shown
    history = page.text[page.text.index('id="history"') :]
    assert f"/items/{screened_box.items['B_OD_2024-06-01_1.png']}" in history
    for other in ("B_OS_2025-01-31_1.png", "B_OS_2025-01-31_2.png"):  # all images of the other eye
        assert f'href="/items/{screened_box.items[other]}"' in page.text
        assert other in shown
    assert "1 of 2 images could not be analysed" in shown


def test_every_page_says_that_it_is_research(site, screened_box):
    item = screened_box.items["dicom"]
    others = ("/quarantine", "/deliveries", "/decisions", "/health", "/about")
    for path in ("/", f"/items/{item}", f"/items/{item}/report", *others):
        assert "Research use only – not for clinical use" in text(site.get(path))
    assert f"this software {__version__} " in text(site.get("/health"))


def test_an_image_that_was_not_analysed_says_so(site, screened_box):
    for name in ("D_OS_2025-01-31_1.png", "damaged"):
        shown = text(site.get(f"/items/{screened_box.items[name]}"))
        assert "This is not a negative result" in shown
        assert not re.search(r"\bNegative\b", shown)


def test_the_class_map_lies_over_the_lesion(site, screened_box):
    """The patch that the small model calls an atrophy is drawn at [200:320, 350:480]."""
    item = screened_box.items["B_OD_2025-01-31_1.png"]
    preview = Image.open(io.BytesIO(site.get(f"/items/{item}/preview.jpg").content))
    answer = site.get(f"/items/{item}/maps/A3.png")
    assert answer.headers["content-type"] == "image/png"
    overlay = Image.open(io.BytesIO(answer.content))
    assert overlay.mode == "RGBA"
    assert overlay.width / overlay.height == pytest.approx(preview.width / preview.height, rel=0.01)
    opacity = np.asarray(overlay.resize(preview.size).getchannel("A"), np.float64)
    rows_, columns = np.mgrid[: preview.height, : preview.width]
    assert (opacity * rows_).sum() / opacity.sum() == pytest.approx(260, abs=25)
    assert (opacity * columns).sum() / opacity.sum() == pytest.approx(415, abs=25)
    assert opacity[260, 415] > 100
    assert opacity[:120].max() == 0.0


def test_labels_below_their_threshold_are_not_outlined(site, screened_box):
    """On the page a map of them can be chosen, without lines; for paper there is none."""

    def has_lines(item, code):
        picture = np.asarray(Image.open(io.BytesIO(site.get(f"/items/{item}/maps/{code}.png").content)))
        return bool(((picture[..., 3] == 255) & (picture[..., :3] == 255).all(axis=-1)).any())

    refer, negative = (screened_box.items[name] for name in ("B_OD_2025-01-31_1.png", "A_OD_2025-01-31_1.png"))
    assert has_lines(refer, "A3")
    assert not any(has_lines(item, code) for item, code in ((refer, "S1"), (negative, "A3"), (negative, "A2")))
    assert site.get(f"/items/{negative}/evidence.jpg").status_code == 404
    page = site.get(f"/items/{negative}/report")
    assert "evidence.jpg" not in page.text
    assert "No label reaches its threshold" in text(page)
    assert "evidence.jpg" in site.get(f"/items/{refer}/report").text


def test_pictures_that_do_not_exist_are_not_found(site, screened_box):
    refer, damaged = screened_box.items["B_OD_2025-01-31_1.png"], screened_box.items["damaged"]
    assert site.get(f"/items/{refer}/thumbnail.jpg").content[:2] == b"\xff\xd8"
    assert site.get(f"/items/{refer}/evidence.jpg").content[:2] == b"\xff\xd8"
    for path in ("preview.jpg", "thumbnail.jpg", "evidence.jpg", "maps/A3.png"):
        assert site.get(f"/items/{damaged}/{path}").status_code == 404
    for path in ("/items/4711", f"/items/{10**30}", f"/items/{refer}/maps/X9.png", f"/items/{refer}/maps/..%2fA3.png"):
        assert site.get(path).status_code == 404


def test_images_of_one_study_that_name_two_patients_are_told(site, store, screened_box):
    item = screened_box.items["dicom"]
    study = store.item(item).study_uid
    with store.write() as db:  # as if another image of the study had come
        db.execute(
            "UPDATE records SET study_uid = ?, record = json_set(record, '$.source.study_instance_uid', ?)"
            " WHERE item_id = ?",
            (study, study, screened_box.items["C_OD_2025-01-31_1.png"]),
        )
    for number in (item, screened_box.items["C_OD_2025-01-31_1.png"]):
        assert "name different patients" in text(site.get(f"/items/{number}"))


def test_a_second_object_with_the_same_uid_is_told(site, store, screened_box):
    first = store.item(screened_box.items["dicom"])
    identity = {key: getattr(first, key) for key in ("sop_instance_uid", "sop_class_uid", "study_uid")}
    second = peers.take_in(store, b"other bytes", **identity)
    assert f"item {second.id} (in quarantine)" in text(site.get(f"/items/{first.id}"))
    assert f"item {first.id} (screened)" in text(site.get(f"/items/{second.id}"))


def test_an_image_that_waits_shows_its_result_by_itself(site, store):
    item = peers.take_in_file(store, b"an image", "x")
    assert "No result yet" in text(site.get(f"/items/{item.id}"))
    poll = {"X-Poll": "1", "HX-Request": "true"}
    waiting = site.get(f"/items/{item.id}?state=pending", headers=poll)
    assert (waiting.status_code, waiting.headers.get("HX-Refresh")) == (204, None)
    store.quarantine(item.id, "broken")
    assert site.get(f"/items/{item.id}?state=pending", headers=poll).headers["HX-Refresh"] == "true"


IDENTITY = {
    "PatientName": "Muster^Eva Maria",
    "PatientID": "T-1077",
    "PatientBirthDate": "19700102",
    "PatientSex": "F",
    "IssuerOfPatientID": "CLINIC",
    "AccessionNumber": "A77",
}


@pytest.fixture
def person(screened_box, pictures, tmp_path, receive_and_screen):
    """{eye: item} of a patient who is known by name, with a picture of each eye; "else": somebody with her number."""

    def received(outcome, laterality, **said):
        image = peers.ophthalmic(pictures[outcome], ImageLaterality=laterality, **IDENTITY | said)
        return receive_and_screen(peers.write(image, tmp_path / f"{outcome}{laterality}.dcm"))

    other = {"PatientName": "Nicht^Muster", "PatientBirthDate": "19510909", "PatientSex": "M"}
    return {
        "OS": received("refer", "L"),
        "OD": received("negative", "R"),
        "else": received("insufficient", "L", **other),
    }


def test_who_the_patient_is_stands_on_page_and_paper(site, person):
    for path in (f"/items/{person['OS']}", f"/items/{person['OS']}/report"):
        page = site.get(path)
        shown = text(page)
        facts = ("Patient Muster, Eva Maria", "Born 1970-01-02", "Eye OD, OS", "Picture of 2026-03-02", "Sex female")
        places = [shown.index(fact) for fact in (*facts, "Patient number T-1077 issued by CLINIC", "number A77")]
        assert places == sorted(places)  # patient, birth date, eye and day first
        assert "Muster" not in re.search("<title>.*</title>", page.text)[0]  # browsers remember it
        assert "Nicht" not in page.text
        assert "Images of somebody else have the same patient number" in shown
    shown = rows(post(site, "/", query="muster"))
    assert sorted(row[0] for row in shown) == [
        "T-1077 Muster, Eva Maria born 1970-01-02 another person has this number",
        "T-1077 Nicht, Muster born 1951-09-09 another person has this number",
    ]


def test_the_right_eye_is_on_the_left(site, person, screened_box):
    for path in ("", "/report"):
        page = site.get(f"/items/{person['OS']}{path}").text
        start = page.index('class="eyes"')
        right, left = (page.index(f"{eye}</h", start) for eye in ("Right eye (OD)", "Left eye (OS)"))
        pictures_ = [page.index(f"/items/{person[eye]}/", left if eye == "OS" else right) for eye in ("OD", "OS")]
        assert right < pictures_[0] < left < pictures_[1]
        alone = site.get(f"/items/{person['else']}{path}").text
        start = alone.index('class="eyes"')
        assert alone.index("Right eye (OD)</h", start) < alone.index("No image.", start)
        assert alone.index("No image.", start) < alone.index("Left eye (OS)</h", start)


def test_where_there_is_no_result_stands_what_to_do(site, person, screened_box):
    says = "Take the picture again: Nicht, Muster, patient number T-1077, left eye (OS), picture of 2026-03-02."
    for path in (f"/items/{person['else']}", f"/items/{person['else']}/report"):
        assert says in text(site.get(path))
    assert "Take a red/green ultra-widefield picture: patient number D" in text(
        site.get(f"/items/{screened_box.items['D_OS_2025-01-31_1.png']}")
    )


def test_reasons_are_sentences_on_page_and_paper(site, store, screened_box):
    for item in screened_box.items.values():
        for path in (f"/items/{item}", f"/items/{item}/report"):
            page = site.get(path).text
            lists = "".join(re.findall(r'<ul class="reasons">.*?</ul>', page, re.S))
            lines = re.findall(r"<li(?: class=\"warning\")?>(?:<b>Check:</b> )?(.*?)</li>", lists, re.S)
            assert all(re.fullmatch(r"[A-Z\d].*[.!?]", line.strip(), re.S) for line in lines), lines


def test_a_record_of_the_first_release_is_shown_too(site, store, screened_box):
    """It knew neither names of labels nor thresholds, and nothing of the patient but the number.

    The names are those of the vocabulary with these codes; thresholds of today say nothing about a result of then.
    """
    item = screened_box.items["B_OD_2025-01-31_1.png"]
    new = (
        "frame",
        "pictures",
        "findings",
        "score",
        "task",
        "condition",
        "modality",
        "patient_name",
        "birth_date",
        "sex",
    )
    paths = ", ".join(f"'$.{name}'" for name in (*new, "patient_id_issuer", "accession_number"))
    with store.write() as db:
        db.execute(
            f"UPDATE records SET record = json_set(json_remove(record, {paths}), '$.schema', 1, '$.label_names', NULL,"
            " '$.thresholds', NULL, '$.probabilities', json(?)) WHERE item_id = ?",
            (json.dumps(store.record(item).record.probabilities), item),
        )
    assert store.record(item).record.thresholds is None
    for path in (f"/items/{item}", f"/items/{item}/report"):
        assert "A3 Patchy atrophy" in text(site.get(path))
    assert "(below its threshold)" not in text(site.get(f"/items/{item}"))


def test_pictures_of_one_object_are_named_and_lead_to_one_another(site, store, pictures, tmp_path, receive_and_screen):
    image = peers.ophthalmic(pictures["negative"], PatientID="", PatientName="")  # nobody knows whose: not combined
    image.NumberOfFrames = 2
    image.PixelData = pictures["negative"].tobytes() + pictures["refer"].tobytes()
    item = receive_and_screen(peers.write(image, tmp_path / "frames.dcm"))
    first, second = store.pictures(store.item(item))
    assert [store.record(each.id).record.outcome for each in (first, second)] == ["negative", "refer"]
    page = site.get(f"/items/{first.id}")
    assert "The object holds 2 pictures: 1 2" in text(page)
    assert f'<a href="/items/{second.id}">2</a>' in page.text
    assert "frames.dcm, picture 2 of 2" in text(site.get(f"/items/{second.id}/report"))


def test_the_printable_report_holds_all_images_of_the_day(site, screened_box):
    page = site.get(f"/items/{screened_box.items['B_OS_2025-01-31_1.png']}/report")
    for name in ("B_OD_2025-01-31_1.png", "B_OS_2025-01-31_1.png", "B_OS_2025-01-31_2.png"):
        assert f"/items/{screened_box.items[name]}/preview.jpg" in page.text
    assert "B_OD_2024-06-01_1.png" not in page.text
    assert "A missing result is not a negative one" in text(page)


# ---- what people do ----------------------------------------------------------------------------------------------


def test_an_operator_sets_an_unknown_eye(site, store, screened_box):
    item = screened_box.items["dicom"]
    answer = post(site, f"/items/{item}/eye", eye="OS")
    assert answer.headers["location"] == f"/items/{item}?done=eye"
    result = store.record(item)
    assert (result.record.eye, result.record.eye_source, result.revision) == ("OS", "operator", 2)
    assert [(d.revision, d.state) for d in store.deliveries(item)] == [(2, "pending"), (1, "superseded")]
    assert [(r.user, r.kind, r.value) for r in store.reviews(item)] == [("local", "eye", "OS")]
    shown = text(site.get(f"/items/{item}?done=eye"))
    assert "Left eye (OS), from the operator" in shown
    assert "local: set the eye: left eye (os)" in shown
    assert post(site, f"/items/{item}/eye", eye="OD").status_code == 303  # the operator erred
    assert store.record(item).record.eye == "OD"


@pytest.mark.parametrize(("name", "eye"), [("B_OD_2025-01-31_1.png", "OS"), ("dicom", "both"), ("dicom", "")])
def test_an_eye_that_is_known_or_none_is_refused(site, store, screened_box, name, eye):
    item, before = screened_box.items[name], store.record(screened_box.items[name])
    assert post(site, f"/items/{item}/eye", eye=eye).status_code == 409
    assert store.record(item) == before


def test_agreement_and_note_are_kept_with_who_and_when_and_exported(site, store, screened_box):
    item = screened_box.items["C_OD_2025-01-31_1.png"]
    note = '=HYPERLINK("http://evil")\nsecond line <b>bold</b>'
    assert post(site, f"/items/{item}/review", agreement="disagree", note=note).status_code == 303
    assert [(r.kind, r.value) for r in store.reviews(item)] == [("agreement", "disagree"), ("note", note)]
    page = site.get(f"/items/{item}")
    assert "local: disagrees" in text(page)
    assert "<b>bold</b>" not in page.text
    answer = post(site, "/reviews.csv")
    assert "attachment" in answer.headers["content-disposition"]
    exported = list(csv.DictReader(io.StringIO(answer.text)))
    assert [(row["user"], row["kind"], row["item_id"]) for row in exported] == [
        ("local", "agreement", str(item)),
        ("local", "note", str(item)),
    ]
    assert exported[1]["value"] == "'" + note  # no spreadsheet runs it
    assert exported[0]["sha256"] == store.item(item).sha256
    assert exported[0]["at"].startswith("20")


@pytest.mark.parametrize("form", [{}, {"agreement": "perhaps"}, {"note": " "}, {"note": "x" * 2001}])
def test_an_empty_or_strange_review_is_refused(site, store, screened_box, form):
    item = screened_box.items["C_OD_2025-01-31_1.png"]
    assert post(site, f"/items/{item}/review", **form).status_code == 400
    assert store.reviews(item) == []


def test_quarantine_tells_why_and_retries(site, store, screened_box):
    item = screened_box.items["damaged"]
    page = site.get("/quarantine")
    assert sentence(store.item(item).reason) in text(page)
    assert post(site, f"/items/{item}/retry").status_code == 303
    assert store.item(item).state == "pending"
    assert "Nothing is in quarantine" in text(site.get("/quarantine"))
    assert post(site, f"/items/{item}/retry").status_code == 409  # not twice


def test_quarantine_tells_whose_picture_it_is_and_what_to_do(site, store, screened_box):
    shown = text(site.get("/quarantine"))
    assert "Take the picture again: patient number F, right eye (OD), picture of 2025-01-31." in shown
    assert local_time(store.item(screened_box.items["damaged"]).received_at) in shown


def test_of_an_object_that_was_never_opened_the_header_tells_whose_it_is(site, store, screened_box, pictures, tmp_path):
    first = store.item(screened_box.items["dicom"])
    image = peers.ophthalmic(pictures["negative"], PatientName="Zwilling^Zoe", PatientID="Z-9", ImageLaterality="L")
    identity = {key: getattr(first, key) for key in ("sop_instance_uid", "sop_class_uid", "study_uid")}
    second = peers.take_in(store, peers.write(image, tmp_path / "twin.dcm"), **identity)
    shown = text(site.get("/quarantine"))
    assert f"Zwilling, Zoe Z-9 DICOM object, item {second.id} OS" in shown
    assert f"this one or item {first.id}: whose eyes do they show?" in shown


def test_an_entry_of_the_quarantine_is_closed_with_who_and_when(site, store, screened_box):
    item = screened_box.items["damaged"]
    assert "1 to look at" in text(site.get("/quarantine"))
    answer = post(site, f"/items/{item}/close", next="/quarantine")
    assert (answer.status_code, answer.headers["location"]) == (303, "/quarantine?done=close")
    open_, closed = (text(site.get(path)) for path in ("/quarantine", "/quarantine?show=closed"))
    assert "Nothing is in quarantine" in open_
    assert "to look at" not in open_
    assert f"{local_time(store.item(item).closed_at)} by local" in closed
    page = text(site.get(f"/items/{item}"))
    assert f"Closed as done {local_time(store.item(item).closed_at)} by local." in page
    assert "This is not a negative result" in page  # closed or not
    assert ("local", "closed", item) in [(row["actor"], row["action"], row["item_id"]) for row in store.trail()]
    assert post(site, f"/items/{item}/retry").status_code == 303  # as it can be from there
    assert store.item(item).closed_at is None
    refer = screened_box.items["B_OD_2025-01-31_1.png"]
    assert post(site, f"/items/{refer}/close").status_code == 409  # not there


@pytest.mark.parametrize("foreign", ["//evil.example", "https://evil.example/quarantine", "/about"])
def test_a_form_leads_back_to_this_box_only(site, screened_box, foreign):
    item = screened_box.items["damaged"]
    assert post(site, f"/items/{item}/close", next=foreign).headers["location"] == f"/items/{item}?done=close"


def test_what_was_given_up_can_be_sent_again(site, store):
    delivery = store.next_delivery()
    store.delivery_failed(delivery.id, "refused", None)
    page = site.get("/deliveries")
    assert "given up" in text(page)
    assert "refused" in text(page)
    assert post(site, f"/deliveries/{delivery.id}/retry").status_code == 303
    [again] = [d for d in store.deliveries() if d.id == delivery.id]
    assert (again.state, again.attempts) == ("pending", 0)


def test_what_waits_can_be_sent_now_one_by_one_or_all_of_a_destination(site, store):
    delivery = store.next_delivery()
    page = text(site.get("/deliveries?state=pending"))
    assert "Send now" in page
    assert "Oldest for" in page
    assert post(site, f"/deliveries/{delivery.id}/retry").status_code == 303
    assert [d.id for d in store.deliveries() if d.urgent] == [delivery.id]
    waiting = store.counts().deliveries["pending"]
    assert post(site, "/deliveries/send", destination="files", state="pending").status_code == 303
    assert sum(d.urgent for d in store.deliveries()) == waiting
    assert post(site, "/deliveries/send", destination="files", state="delivered").status_code == 400


def test_nothing_is_sent_to_a_destination_that_is_gone_and_the_page_says_so(site, store):
    delivery = store.next_delivery()
    store.delivery_failed(delivery.id, "refused", None)
    with store.write() as db:
        db.execute("UPDATE deliveries SET destination = 'old' WHERE id = ?", (delivery.id,))
    page = text(site.get("/deliveries"))
    assert "no longer in the settings" in page
    assert "only when it is in the settings again" in page
    assert f"/deliveries/{delivery.id}/retry" not in site.get("/deliveries").text
    assert post(site, f"/deliveries/{delivery.id}/retry").status_code == 409
    assert post(site, "/deliveries/send", destination="old", state="dead").status_code == 409
    assert store.delivery(delivery.id).state == "dead"
    assert post(site, "/deliveries/999999/retry").status_code == 404


def test_the_page_and_status_show_times_of_this_machines_zone(site, screened_box, store, monkeypatch, capsys):
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    time.tzset()
    try:
        result = store.latest(1)[0]
        there = datetime.fromisoformat(result.record.screened_at) + timedelta(hours=9)
        expected = there.strftime("%Y-%m-%d %H:%M")
        status.show(screened_box.config(), Console(width=120), False)
        shown = capsys.readouterr().out
        assert f"{result.item.id} {expected}" in " ".join(shown.split())
        assert "JST" in shown
        assert result.record.screened_at not in shown
        assert expected in text(site.get(f"/items/{result.item.id}"))
    finally:
        monkeypatch.undo()
        time.tzset()


def test_what_waits_too_long_for_its_destination_is_told(site, screened_box, store):
    config = screened_box.config()
    assert not [problem for problem in status.problems(config, store) if "files" in problem]
    delivery = store.next_delivery()
    store.delivery_failed(delivery.id, "the folder is not there", datetime.now(timezone.utc) + timedelta(hours=1))
    with store.write() as db:
        hour = timestamp(datetime.now(timezone.utc) - timedelta(hours=1))
        db.execute("UPDATE deliveries SET created_at = ? WHERE id = ?", (hour, delivery.id))
    [problem] = [problem for problem in status.problems(config, store) if "files" in problem]
    assert "the oldest for 60 minutes (last error: the folder is not there)" in problem
    with store.write() as db:
        ahead = timestamp(datetime.now(timezone.utc) + timedelta(days=9))
        db.execute("UPDATE deliveries SET created_at = ? WHERE id = ?", (ahead, delivery.id))
    assert any("the clock has been set back: 1 waiting" in problem for problem in status.problems(config, store))


def test_who_looked_and_who_did_what_is_recorded(site, store, screened_box):
    item = screened_box.items["dicom"]
    site.get(f"/items/{item}")
    post(site, f"/items/{item}/eye", eye="OD")
    recorded = [(row["actor"], row["action"], row["item_id"]) for row in store.trail()]
    assert ("local", "viewed", item) in recorded
    assert ("local", "revised", item) in recorded
    exported = list(csv.DictReader(io.StringIO(post(site, "/audit.csv").text)))
    assert exported[0]["action"] == "audit trail exported"
    assert len(exported) == len(recorded) + 1


def test_the_theme_is_kept(site):
    assert 'data-theme="dark"' in site.get("/").text
    assert post(site, "/theme", theme="light", next="/health").headers["location"] == "/health"
    assert 'data-theme="light"' in site.get("/").text
    for foreign in ("//evil.example", "https://evil.example", "/items/1/../../x", "javascript:alert(1)"):
        assert post(site, "/theme", theme="light", next=foreign).headers["location"] == "/"


# ---- the box -----------------------------------------------------------------------------------------------------


def test_health_tells_what_was_dropped_and_not_taken(screened_box, store):
    app = make_app(screened_box.config(), store, [screened_box.bundle], lambda: b"", list)
    site = TestClient(app, base_url="http://localhost", client=("127.0.0.1", 50000))
    shown = text(site.get("/health"))
    assert "dropped" not in shown
    assert "not taken" not in shown
    for _ in range(2):
        store.drop_object("Encapsulated PDF Storage (1.2.3)", "<b>SCANNER")
    store.set_skipped_files("exports", [SkippedFiles("exports", "WebP", 3, "2026-03-02T10:15:00.000+00:00")])
    shown = text(site.get("/health"))
    assert "Encapsulated PDF Storage (1.2.3) <b>SCANNER 2 " in shown
    newest = local_time("2026-03-02T10:15:00.000+00:00")
    assert f"not taken from folder exports: 3 WebP (the newest of {newest})" in shown


def test_health_ready_and_metrics(screened_box, store):
    problems = []
    app = make_app(
        screened_box.config(), store, [screened_box.bundle], lambda: b"realmnet_box_items 12\n", lambda: problems
    )
    site = TestClient(app, base_url="http://localhost", client=("127.0.0.1", 50000))
    assert site.get("/healthz").text == "ok\n"
    assert site.get("/readyz").status_code == 200
    assert site.get("/metrics").text == "realmnet_box_items 12\n"
    shown = text(site.get("/health"))
    last = max(received for (source, _), received in store.last_received().items() if source == "dicom")
    assert f"DICOM, from SCANNER {local_time(last)} (" in shown
    assert "Last delivered files never" in shown
    assert "watched folders none destinations files" in shown
    store.delivered(store.next_delivery().id)
    assert f"Last delivered files {local_time(store.last_deliveries()['files'])} (" in text(site.get("/health"))
    problems.append("the disk is full")
    assert (site.get("/readyz").status_code, site.get("/readyz").text) == (503, "the disk is full\n")
    assert "the disk is full" in text(site.get("/health"))


def test_rows_follow_the_store(screened_box, store):
    worklist = Worklist(store)
    before = worklist.rows(Filter())
    assert worklist.rows(Filter()) == before
    store.set_eye(screened_box.items["dicom"], "OD", "somebody")
    assert worklist.rows(Filter()) != before


# ---- decisions ---------------------------------------------------------------------------------------------------


def test_decisions_are_counted_by_week_sender_and_model(site, store, screened_box):
    page = site.get("/decisions")
    shown = text(page)
    results = [result.record for result in store.latest(100)]
    for outcome in OUTCOMES:
        number = sum(record.shown == outcome for record in results)
        counted = sum(int(n) for n in re.findall(rf"(?<!\w){OUTCOME_NAMES[outcome]} (\d+)", shown))
        assert counted == number, outcome
    assert screened_box.bundle.name in shown
    assert re.search(r"Too dark: \d", shown)
    assert "The picture is incomplete: 1" in shown
    decided = sum(record.analysed for record in results)
    assert sum(int(n) for n in re.findall(r"(\d+) of \d+ \(\d+ %\) \d+ of", shown)) == decided


def test_decisions_tell_nothing_of_a_patient(site, store, screened_box):
    page = site.get("/decisions").text
    for result in store.latest(100):
        record = result.record
        for value in (record.file, record.patient_name, record.patient_id):
            assert not value or len(value) < 3 or value not in unescape(page)
    assert "alert(" not in page


def test_older_weeks_have_pages_of_their_own(site, store):
    assert "Next" not in text(site.get("/decisions"))
    with store.write() as db:
        db.execute("UPDATE items SET received_at = ?", (timestamp(datetime.now(timezone.utc) - timedelta(weeks=10)),))
    first, second = (site.get(f"/decisions?page={number}") for number in (1, 2))
    assert "Nothing came in these weeks." in text(first)
    assert "Next" in text(first)
    assert "Refer" in text(second)
    assert "Next" not in text(second)
    assert text(site.get("/decisions?page=999999999")) == text(second)  # no page is before the first picture
