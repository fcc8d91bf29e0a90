"""FHIR resources: valid R4, the same numbers as the record, no value where there is no result."""

import csv
import io
import json
import re
from dataclasses import replace

import peers
import pytest

from edge_app import exports, fhir
from edge_app.store import Store

OUTCOMES = ("refer", "negative", "insufficient", "not_analysed")
REFERENCE = re.compile(r"urn:uuid:[0-9a-f-]{36}")

# What R4 demands of these resources (hl7.org/fhir/R4/<name>.html): mandatory elements, and all that there are.
BASE = {"resourceType", "id", "meta", "identifier", "status", "category", "code", "subject", "encounter", "issued"}
REQUIRED = {
    "Bundle": {"resourceType", "type"},
    "DiagnosticReport": {"resourceType", "status", "code"},
    "Observation": {"resourceType", "status", "code"},
    "Device": {"resourceType"},
}
ALLOWED = {
    "Bundle": {"resourceType", "id", "meta", "identifier", "type", "timestamp", "total", "link", "entry", "signature"},
    "DiagnosticReport": BASE
    | {"basedOn", "effectiveDateTime", "performer", "resultsInterpreter", "specimen", "result", "imagingStudy"}
    | {"media", "conclusion", "conclusionCode", "presentedForm"},
    "Observation": BASE
    | {"basedOn", "partOf", "focus", "effectiveDateTime", "performer", "valueQuantity", "valueCodeableConcept"}
    | {"dataAbsentReason", "interpretation", "note", "bodySite", "method", "specimen", "device", "referenceRange"}
    | {"hasMember", "derivedFrom", "component"},
    "Device": {"resourceType", "id", "meta", "identifier", "status", "manufacturer", "deviceName", "version", "note"},
}


@pytest.fixture(scope="module")
def results(tmp_path_factory, tiny_bundle, pictures):
    """{outcome: result} of a box that has screened one DICOM image of each."""
    folder = tmp_path_factory.mktemp("fhir")
    store = Store(folder / "box")
    for outcome in OUTCOMES:
        image = peers.ophthalmic(pictures[outcome], ImageLaterality="L", PatientID=f"P-{outcome}")
        peers.take_in(store, peers.write(image, folder / "image.dcm"))
    peers.screen(store, peers.settings(folder / "box"), tiny_bundle)
    found = {result.record.outcome: result for result in store.worklist()}
    store.close()
    assert set(found) == set(OUTCOMES)
    return found


def resources(bundle, kind):
    return [entry["resource"] for entry in bundle["entry"] if entry["resource"]["resourceType"] == kind]


def nothing_empty(value):
    """FHIR JSON has no null, no empty string, list or object (R4 json.html)."""
    if isinstance(value, dict):
        return bool(value) and all(map(nothing_empty, value.values()))
    if isinstance(value, list):
        return bool(value) and all(map(nothing_empty, value))
    return value is not None and value != ""


@pytest.mark.parametrize("outcome", OUTCOMES)
def test_the_structure_is_that_of_r4(results, outcome):
    bundle = json.loads(json.dumps(fhir.bundle(results[outcome]), allow_nan=False))
    assert nothing_empty(bundle)
    known = {entry["fullUrl"] for entry in bundle["entry"]}
    assert len(known) == len(bundle["entry"])
    for resource in (bundle, *(entry["resource"] for entry in bundle["entry"])):
        kind = resource["resourceType"]
        assert REQUIRED[kind] <= set(resource) <= ALLOWED[kind]
    assert set(REFERENCE.findall(json.dumps(bundle["entry"]))) - known <= {
        identifier["value"] for report in resources(bundle, "DiagnosticReport") for identifier in report["identifier"]
    }
    for entry in bundle["entry"]:
        assert entry["fullUrl"] == f"urn:uuid:{entry['resource']['id']}"
        assert re.fullmatch(r"[A-Za-z0-9.-]{1,64}", entry["resource"]["id"])
    for observation in resources(bundle, "Observation"):
        values = {"valueQuantity", "valueCodeableConcept", "dataAbsentReason"} & set(observation)
        assert len(values) == 1  # obs-6: a reason for absence only without a value
        assert observation["status"] == "preliminary"


@pytest.mark.parametrize("outcome", OUTCOMES)
def test_a_validator_of_the_specification_agrees(results, outcome):
    """fhir.resources' R4B models: in R4B these resources are as in R4 (hl7.org/fhir/R4B/diff.html)."""
    models = pytest.importorskip("fhir.resources.R4B.bundle", reason="fhir.resources is not installed")
    models.Bundle.model_validate(fhir.bundle(results[outcome]))
    broken = fhir.bundle(results[outcome])
    del broken["entry"][0]["resource"]["code"]
    with pytest.raises(ValueError, match="code"):
        models.Bundle.model_validate(broken)


@pytest.mark.parametrize("outcome", OUTCOMES)
def test_it_says_what_the_record_says(results, outcome):
    result = results[outcome]
    record, bundle = result.record, fhir.bundle(result)
    [report] = resources(bundle, "DiagnosticReport")
    summary, *labels = resources(bundle, "Observation")
    assert [each["reference"] for each in report["result"]] == [f"urn:uuid:{each['id']}" for each in (summary, *labels)]
    assert report["subject"]["identifier"]["value"] == f"P-{outcome}"
    assert report["effectiveDateTime"] == "2026-03-02"
    assert report["imagingStudy"][0]["identifier"]["value"] == f"urn:oid:{result.item.study_uid}"
    assert all(reason in report["conclusion"] for reason in record.reasons)
    assert "Research software" in report["conclusion"]
    assert summary["bodySite"]["coding"][0]["code"] == "8966001"  # left
    assert len(labels) == len(record.probabilities or {})
    for observation, (code, probability) in zip(labels, (record.probabilities or {}).items(), strict=True):
        assert observation["code"]["coding"][0]["code"] == code
        assert observation["valueQuantity"]["value"] == probability
        threshold = record.thresholds.get(code)
        if threshold is None:
            assert "referenceRange" not in observation
        else:
            assert observation["referenceRange"][0]["high"]["value"] == threshold
            relation = "at or above" if probability >= threshold else "below"
            assert observation["interpretation"] == [{"text": f"{relation} the decision threshold"}]
    [device] = resources(bundle, "Device")
    assert record.model_sha256 in [version["value"] for version in device["version"]]


def test_values_only_where_there_is_a_result(results):
    for outcome, expected in (("refer", "refer"), ("negative", "negative"), ("insufficient", None)):
        summary = resources(fhir.bundle(results[outcome]), "Observation")[0]
        value = summary.get("valueCodeableConcept")
        assert (value and value["coding"][0]["code"]) == expected
    for outcome in ("insufficient", "not_analysed"):
        bundle = fhir.bundle(results[outcome])
        [summary] = resources(bundle, "Observation")
        assert "not a negative result" in summary["dataAbsentReason"]["text"]
        text = json.dumps(bundle).replace("This is not a negative result", "").replace(exports.STATEMENT, "")
        assert "egative" not in text


def test_the_same_result_is_the_same_resource_and_a_revision_its_next_version(results):
    first, again = fhir.bundle(results["refer"]), fhir.bundle(results["refer"])
    assert first == again
    second = fhir.bundle(replace(results["refer"], revision=2))
    assert [e["fullUrl"] for e in first["entry"]] == [e["fullUrl"] for e in second["entry"]]
    assert second["entry"][0]["resource"]["meta"]["versionId"] == "2"
    assert first["identifier"] != second["identifier"]


def test_csv_is_read_back_and_calculates_nothing(results):
    evil = replace(results["negative"], record=replace(results["negative"].record, patient_id='=HYPERLINK("x")'))
    rows = list(csv.DictReader(io.StringIO(exports.as_csv([results["refer"], results["insufficient"], evil]))))
    assert [row["outcome"] for row in rows] == ["refer", "insufficient", "negative"]
    record = results["refer"].record
    for code, probability in record.probabilities.items():
        assert float(rows[0][f"probability_{code}"]) == probability
        assert rows[1][f"probability_{code}"] == ""
    assert float(rows[0]["threshold_A3"]) == record.thresholds["A3"]
    assert rows[2]["patient_id"] == '\'=HYPERLINK("x")'
    assert all("Research software" in row["statement"] for row in rows)


def test_json_is_the_record_without_where_it_lies(results):
    document = exports.as_dict(results["refer"])
    record = results["refer"].record.to_dict()
    assert {name: document[name] for name in record if name != "folder"} == {
        name: value for name, value in record.items() if name != "folder"
    }
    assert "folder" not in document
    assert document["revision"] == 1
