"""Screening records survive JSON, and what is missing stays missing."""

import json
from dataclasses import replace

import numpy as np
import pytest

from keras_realmnet.errors import RealMNetError
from keras_realmnet.screening.quality import Shortfall
from keras_realmnet.screening.record import SCHEMA_VERSION, ScreeningRecord
from keras_realmnet.tasks.findings import LabelFinding

RECORD = ScreeningRecord(
    file="Überprüfung_右眼.jpg",
    folder="/data",
    sha256="ab",
    outcome="refer",
    reasons=("Patchy atrophy: 0.92 (threshold 0.50)",),
    bundle_name="tiny",
    bundle_version="1",
    bundle_digest="d",
    artifact="float32",
    model_sha256="m",
    spec_hash="s",
    screened_at="2025-01-01T00:00:00+00:00",
    triggered=("A3",),
    findings=(LabelFinding("probabilities", "psmm", "A3", "Patchy atrophy", 0.92, 0.5),),
    score=0.42,
    quality={"sharpness": 3.5},
    timings_ms={"total": 1.5},
    source={"format": "JPEG", "image_type": ["ORIGINAL", "RG"]},
)


def test_round_trip_through_json():
    line = RECORD.to_json()
    assert "\n" not in line
    assert line.isascii()
    assert ScreeningRecord.from_dict(json.loads(line)) == RECORD


def test_measures_beyond_their_limits_survive_and_their_absence_is_no_field():
    assert "shortfalls" not in RECORD.to_dict()
    poor = replace(RECORD, outcome="insufficient", shortfalls=(Shortfall("sharpness", 0.31, "at least", 0.42),))
    document = json.loads(poor.to_json())
    assert document["shortfalls"] == [{"measure": "sharpness", "value": 0.31, "bound": "at least", "limit": 0.42}]
    assert ScreeningRecord.from_dict(document) == poor
    for change in ({"bound": "near"}, {"value": "0.31"}, {"more": 1}):
        with pytest.raises(RealMNetError, match=r"limit.*Received|numbers\. Received"):
            ScreeningRecord.from_dict({**document, "shortfalls": [{**document["shortfalls"][0], **change}]})


def test_missing_values_are_null():
    document = RECORD.to_dict()
    for name in ("patient_id", "eye", "eye_source", "study_date", "overlay", "error", "duplicate_of", "evidence"):
        assert document[name] is None


def test_numpy_and_non_finite_values_become_plain_json():
    values = {**RECORD.to_dict(), "quality": {"a": np.float32(0.5), "b": np.nan, "c": float("inf"), "d": np.int64(3)}}
    document = json.loads(ScreeningRecord.from_dict(values).to_json())
    assert document["quality"] == {"a": 0.5, "b": None, "c": None, "d": 3}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"schema": 4}, "schema 4, written by a newer release; this one reads up to 3"),
        ({"schema": 0}, "schema 1 to 3 expected. Received: 0"),
        ({"schema": True}, "schema 1 to 3 expected. Received: True"),
        ({"schema": None}, "schema 1 to 3 expected. Received: None"),
        ({"outcome": "fine"}, "outcome must be one of"),
        ({"diagnosis": "x"}, "unknown field 'diagnosis'"),
    ],
)
def test_foreign_records_are_refused(change, message):
    with pytest.raises(RealMNetError, match=message):
        ScreeningRecord.from_dict({**RECORD.to_dict(), **change})


def test_records_of_schema_1_stay_readable(goldens):
    refer, broken = map(json.loads, (goldens / "records_schema1.jsonl").read_text().splitlines())
    record = ScreeningRecord.from_dict(refer)
    assert (record.schema, record.frame, record.pictures, record.patient_name) == (SCHEMA_VERSION, 1, 1, None)
    assert (record.task, record.condition) == ("psmm", "pathologic myopia")
    same_findings(record, refer)
    record = ScreeningRecord.from_dict(broken)
    assert (record.outcome, record.task, record.findings) == ("not_analysed", None, None)


def same_findings(record: ScreeningRecord, document: dict) -> None:
    """The record says what the document of an earlier schema says."""
    written = record.to_dict()
    kept = {name for name in document if name not in ("probabilities", "thresholds", "label_names", "label_set")}
    assert {name: written[name] for name in kept} == {name: document[name] for name in kept} | {
        "schema": SCHEMA_VERSION
    }
    assert record.probabilities == document["probabilities"]
    assert record.thresholds == document["thresholds"]
    assert {each.code: each.name for each in record.labels} == (document["label_names"] or {})
    assert {each.vocabulary for each in record.labels} <= {"psmm"}
    assert ScreeningRecord.from_dict(written) == record


def test_records_of_schema_2_stay_readable(goldens):
    """One of each outcome, as the release before wrote them."""
    lines = (goldens / "schema2" / "records.jsonl").read_text().splitlines()
    outcomes = set()
    for document in map(json.loads, lines):
        record = ScreeningRecord.from_dict(document)
        same_findings(record, document)
        assert record.task == document["label_set"] == "psmm"
        above = [record.probabilities[code] - t for code, t in (record.thresholds or {}).items()]
        assert record.score == max(above, default=None)
        outcomes.add(record.outcome)
    assert outcomes == {"refer", "insufficient", "not_analysed", "negative"}


def test_an_incomplete_record_is_refused():
    document = RECORD.to_dict()
    del document["file"]
    with pytest.raises(RealMNetError, match="file"):
        ScreeningRecord.from_dict(document)


def test_analysed_means_the_model_answered():
    assert RECORD.analysed
    assert not ScreeningRecord.from_dict({**RECORD.to_dict(), "outcome": "insufficient"}).analysed
