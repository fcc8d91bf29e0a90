"""An uncertain result wherever outcomes are told: a person must look, and it is never read as negative."""

import csv
import io
import re
import sqlite3
from contextlib import closing
from dataclasses import replace
from datetime import date

import numpy as np
import pytest

from edge_app.config import Destination
from edge_app.present import exports, fhir, terms
from edge_app.present.heat_map import draw_heat_map
from edge_app.present.report import page_environment
from edge_app.present.visits import visits
from edge_app.present.wording import not_outlined_words, outlined_words
from edge_app.processes.worker import routes
from edge_app.store import schema
from edge_app.store.store import Store
from edge_app.web.worklist import Filter, Worklist
from keras_realmnet.screening.decision import Analysis, decide
from keras_realmnet.screening.overlay import evidence_of
from keras_realmnet.screening.preprocessing import FieldGeometry
from keras_realmnet.screening.quality import Quality
from keras_realmnet.screening.record import ScreeningRecord
from keras_realmnet.tasks.fitted.calibration import Calibration, Temperature
from keras_realmnet.tasks.fitted.doubts import LabelSets, MissedRisk
from keras_realmnet.tasks.fitted.fitted import Fitted
from keras_realmnet.tasks.rules import GradeByCost, OperatingPoint
from keras_realmnet.tasks.task import labels_task
from keras_realmnet.tasks.vocabulary import PSMM
from keras_realmnet.tasks.words import fitted_words, rule_words
from tests.proofs.peers import make_record

GROUPS = PSMM.exclusive
COSTS = tuple(tuple(float(abs(i - j) + 4 * (i >= 2 > j)) for j in range(5)) for i in range(5))
TASK = replace(
    labels_task(PSMM, "uwf_red_green", OperatingPoint(dict.fromkeys(PSMM.pathologic, 0.5), "by hand")),
    rule=GradeByCost("probabilities", GROUPS[1], COSTS, "A2", {"S1": 0.5}, GROUPS, 0.5, "by hand"),
    fitted=Fitted(
        {"probabilities": Calibration(dict.fromkeys(PSMM.codes, Temperature(1.0)), "by hand")},
        (
            LabelSets("probabilities", "by hand", (GROUPS[1],), (0.05,), 0.9),
            MissedRisk("probabilities", "by hand", 0.01, 0.05, 0.95),
        ),
    ),
)
SAID = {"S0": 0.9, "S1": 0.1, "A1": 0.9, "A2": 0.1}


@pytest.fixture(scope="module")
def analysis():
    predicted = {
        "probabilities": np.array([SAID.get(code, 0.0) for code in PSMM.codes], np.float32),
        "class_maps": np.ones((4, 4, 7), np.float32),
    }
    return Analysis(predicted, np.full((64, 64, 3), 90, np.uint8), FieldGeometry((64, 64), (0, 0, 64, 64), 64))


@pytest.fixture(scope="module")
def record(analysis):
    decision = decide(analysis, Quality("gradable", (), {}), TASK)
    facts = {name: getattr(decision, name) for name in ("outcome", "reasons", "triggered", "evidence", "score")}
    return make_record(**facts, findings=decision.findings, task="psmm", condition=PSMM.condition, eye="OD")


def test_it_is_a_result_with_its_reasons_and_survives_json(record):
    assert (record.outcome, record.triggered, record.evidence) == ("uncertain", (), "A2")
    assert record.reasons[0] == "What is referred cannot be excluded: Diffuse atrophy."
    assert record.analysed
    assert terms.next_step(record) is None
    assert ScreeningRecord.from_dict(record.to_dict()) == record


def test_every_table_of_words_knows_it(record):
    for table in (terms.OUTCOME_CODES, terms.SHOWN_NAMES, terms.OUTCOME_STYLES, terms.ACTIONS, terms.QUALITY_CODES):
        assert "uncertain" in table
    assert "not a negative result" in terms.ACTIONS["uncertain"]
    assert "negative" not in not_outlined_words(record).lower()
    assert outlined_words(record) == ""  # nothing is outlined as if it were found


def test_the_rule_is_told_in_words():
    words = rule_words(TASK)
    assert "is referred from A2 Diffuse atrophy on, or when the probability of S1 Posterior staphyloma" in words
    # Of COSTS: saying A1 where A2 holds costs 5, saying A2 where A1 holds 1.
    assert "when A2 has a probability of 0.17 or more: to miss A2 costs 5, to refer A1 costs 1." in words
    assert "contradict each other: of S0, S1 and A0, A1, A2, A3, A4 one holds" in words
    calibrated, sets, missed, where = fitted_words(TASK)
    assert calibrated == "Probabilities are calibrated."
    assert "in 90 % of the images of new patients the true one is among them" in sets
    assert "at most 5 % of the patients" in missed
    assert where.startswith("Both hold where patients and cameras are as those it was fitted on")
    page = page_environment().from_string('{% from "parts.html.j2" import combining with context %}{{ combining() }}')

    class Bundle:
        name, task = "demo", TASK

    text = page.render(models=[(Bundle, None)])
    assert "It is uncertain when none is and one of them is uncertain: a person must look" in text
    assert words.split(",")[0] in text
    rows = re.findall(r'<th scope="row">(A.)</th>((?:<td>.*?</td>)+)', text)
    assert [(code, re.findall(r"<td>(.*?)</td>", row)) for code, row in rows] == [
        (code, [f"{cost:g}" for cost in row]) for code, row in zip(GROUPS[1], COSTS, strict=True)
    ]
    plain = replace(TASK, rule=replace(TASK.rule, exactly_one=()), fitted=Fitted())
    Bundle.task = plain
    assert "uncertain" not in page.render(models=[(Bundle, None)])


def test_pictures_say_so_and_never_that_there_is_no_finding(analysis, record):
    decision = decide(analysis, Quality("gradable", (), {}), TASK)
    evidence = evidence_of(TASK, analysis, decision)
    assert evidence.title == "A2 Diffuse atrophy: probability 0.10, uncertain: a person must look"
    assert not evidence.finding
    preview = np.full((64, 64, 3), 90, np.uint8)
    drawn = draw_heat_map(record, preview, np.ones((4, 4)), analysis.geometry)
    negative = draw_heat_map(replace(record, outcome="negative"), preview, np.ones((4, 4)), analysis.geometry)
    assert (drawn != negative).any()  # another line of text


@pytest.fixture
def store(tmp_path):
    store = Store(tmp_path)
    yield store
    store.close()


def screen(store, uid, record):
    sha256, size = store.keep_object([uid.encode()], "dcm")
    identity = {"source": "dicom", "origin": "SCANNER", "sop_instance_uid": uid}
    item, _ = store.add_item(sha256=sha256, extension="dcm", file_name="", bytes=size, **identity)
    assert store.claim().id == item.id
    store.finish(item.id, record)
    return store.record(item.id)


def test_it_goes_where_referrals_go(tmp_path, record):
    class Config:
        destination = (
            Destination(name="urgent", kind="folder", path=tmp_path, results=("json",), outcomes=("refer",)),
            Destination(name="only", kind="folder", path=tmp_path, results=("json",), outcomes=("uncertain",)),
            Destination(name="healthy", kind="folder", path=tmp_path, results=("json",), outcomes=("negative",)),
            Destination(name="all", kind="folder", path=tmp_path, results=("json",)),
        )

    assert [name for name, _ in routes(record, Config)] == ["urgent", "only", "all"]
    assert [name for name, _ in routes(replace(record, outcome="refer"), Config)] == ["urgent", "all"]


def test_documents_carry_it(store, record):
    result = screen(store, "1.1", record)
    report, summary, *_ = (entry["resource"] for entry in fhir.bundle(result)["entry"])
    assert summary["valueCodeableConcept"]["coding"][0]["code"] == "out:uncertain"
    assert report["conclusion"].startswith("Uncertain: a person must look. What is referred cannot be excluded")
    assert "Negative" not in str(fhir.bundle(result)["entry"])
    [row] = csv.DictReader(io.StringIO(exports.as_csv([result])))
    assert (row["outcome"], row["probability_A2"]) == ("uncertain", str(record.probabilities["A2"]))


def test_the_worklist_shows_it_behind_referrals_and_finds_it_with_them(store, record):
    people = {name: {"patient_id": name, "eye": "OD"} for name in ("A", "B", "C", "D")}
    outcomes = dict(zip(people, ("negative", "uncertain", "refer", "insufficient"), strict=True))
    for number, (name, facts) in enumerate(people.items()):
        screen(store, f"1.{number}", replace(record, outcome=outcomes[name], **facts))
        screen(store, f"2.{number}", replace(record, outcome="negative", **{**facts, "eye": "OS"}))
    assert [row.patient_id for row in Worklist(store).rows(Filter())] == ["C", "B", "D", "A"]
    assert [row.patient_id for row in Worklist(store).rows(Filter(outcome="refer"))] == ["C", "B"]
    assert [row.patient_id for row in Worklist(store).rows(Filter(outcome="uncertain"))] == ["B"]
    assert [each.record.patient_id for each in store.worklist()[:3]] == ["C", "B", "D"]
    shown = visits([each.record for each in store.worklist()])
    assert [(visit.patient_id, visit.summary.outcome) for visit in shown[:2]] == [("C", "refer"), ("B", "uncertain")]


def test_it_counts_as_not_decided(store, record):
    screen(store, "1.1", record)
    screen(store, "1.2", replace(record, outcome="negative"))
    [tally] = store.tallies(date(2000, 1, 3), date(9000, 1, 6))
    assert (tally.finished, tally.decided, tally.retakes) == (2, 1, 0)
    assert tally.causes == {"What is referred cannot be excluded": 1, "Too probable for a negative result": 1}


def test_results_of_before_keep_their_order(tmp_path):
    """Their rank was stored when there was no such outcome."""
    version = len(schema.MIGRATIONS)
    ranks = {"refer": 0, "insufficient": 1, "not_analysed": 2, "negative": 3, "described": 4}
    with closing(sqlite3.connect(tmp_path / "box.sqlite")) as old:
        for migration in schema.MIGRATIONS[:3]:
            old.executescript(migration)
        for number, (outcome, rank) in enumerate(ranks.items(), start=1):
            old.execute(
                "INSERT INTO items (id, received_at, source, origin, sha256, extension, file_name, bytes, state)"
                " VALUES (?, '2025-01-31T00:00:00.000+00:00', 'folder', 'share', ?, 'bin', '', 3, 'done')",
                (number, str(number)),
            )
            old.execute(
                "INSERT INTO records (item_id, revision, record, outcome, rank, screened_at)"
                " VALUES (?, 1, ?, ?, ?, '')",
                (number, make_record(outcome=outcome).to_json(), outcome, rank),
            )
        old.execute("PRAGMA user_version = 3")
        old.commit()
    store = Store(tmp_path)
    assert store.db.execute("PRAGMA user_version").fetchone()[0] == version
    screen(store, "1.9", make_record(outcome="uncertain"))
    order = [each.record.outcome for each in store.worklist()]
    assert order == ["refer", "uncertain", "insufficient", "not_analysed", "negative", "described"]
    store.close()


def test_a_grade_that_refers_is_told_without_its_colour():
    """It has no threshold that it could reach."""
    said = {"S0": 1.0, "A2": 0.9, "A1": 0.1}
    predicted = {
        "probabilities": np.array([said.get(code, 0.0) for code in PSMM.codes], np.float32),
        "class_maps": np.ones((4, 4, 7), np.float32),
    }
    geometry = FieldGeometry((64, 64), (0, 0, 64, 64), 64)
    decision = decide(
        Analysis(predicted, np.full((64, 64, 3), 90, np.uint8), geometry), Quality("gradable", (), {}), TASK
    )
    assert decision.triggered == ("A2",)
    record = make_record(outcome="refer", triggered=decision.triggered, findings=decision.findings, task="psmm")
    page = page_environment().from_string('{% from "parts.html.j2" import bars with context %}{{ bars(record) }}')
    [row] = re.findall(r'<tr class="triggered">.*?</tr>', page.render(record=record), re.DOTALL)
    assert "Diffuse atrophy" in row
    assert '<td class="threshold">this grade</td>' in row
