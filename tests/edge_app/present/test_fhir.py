"""FHIR resources: valid R4, the same numbers as the record, no value where there is no result."""

import csv
import io
import json
import re
from dataclasses import replace
from uuid import uuid5

import pytest

from edge_app.dicom.identifiers import NAMESPACE
from edge_app.present import exports, fhir, terms
from edge_app.present.terms import label_name
from edge_app.store.store import Store
from keras_realmnet.tasks import rules
from tests.proofs import peers

OUTCOMES = ("refer", "negative", "insufficient", "not_analysed")
REFERENCE = re.compile(r"urn:uuid:[0-9a-f-]{36}")

# What R4 demands of these resources (hl7.org/fhir/R4/<name>.html): mandatory elements, and all that there are.
BASE = {"resourceType", "id", "meta", "identifier", "status", "category", "code", "subject", "encounter", "issued"}
BASE |= {"contained"}
REQUIRED = {
    "Bundle": {"resourceType", "type"},
    "DiagnosticReport": {"resourceType", "status", "code"},
    "Observation": {"resourceType", "status", "code"},
    "Device": {"resourceType"},
    "Patient": {"resourceType"},
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
    "Patient": {"resourceType", "id", "identifier", "name", "gender", "birthDate"},
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
    assert set(found) == set(pictures)
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
    resources_ = [entry["resource"] for entry in bundle["entry"]]
    contained = [each for resource in resources_ for each in resource.get("contained", [])]
    assert {each["resourceType"] for each in contained} == {"Patient"}
    for resource in (bundle, *resources_, *contained):
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
    assert all(terms.sentence(reason) in report["conclusion"] for reason in record.reasons)
    assert "Research software" in report["conclusion"]
    assert summary["bodySite"]["coding"][0]["code"] == "8966001"  # left
    assert len(labels) == len(record.probabilities or {})
    for observation, (code, probability) in zip(labels, (record.probabilities or {}).items(), strict=True):
        assert observation["code"]["coding"][0]["code"] == f"psmm:{code}"
        assert observation["code"]["coding"][0]["display"] == label_name(record, code)
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
    for outcome, expected in (("refer", "out:refer"), ("negative", "out:negative"), ("insufficient", None)):
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


PERSON = {
    "patient_name": "Muster^Eva Maria^B^Dr.^jun.",
    "birth_date": "1970-01-02",
    "sex": "F",
    "patient_id_issuer": "CLINIC",
    "accession_number": "A77",
}


def about(result, **changes):
    return replace(result, record=replace(result.record, **changes))


def test_who_the_patient_is(results):
    bundle = fhir.bundle(about(results["refer"], **PERSON))
    for resource in [*resources(bundle, "DiagnosticReport"), *resources(bundle, "Observation")]:
        [patient] = resource["contained"]
        assert resource["subject"]["reference"] == f"#{patient['id']}"
        assert patient == {
            "resourceType": "Patient",
            "id": "patient",
            "identifier": [{"value": "P-refer", "assigner": {"display": "CLINIC"}}],
            "name": [
                {
                    "text": "Dr. Eva Maria B Muster jun.",
                    "family": "Muster",
                    "given": ["Eva", "Maria", "B"],
                    "prefix": ["Dr."],
                    "suffix": ["jun."],
                }
            ],
            "gender": "female",
            "birthDate": "1970-01-02",
        }
    [report] = resources(bundle, "DiagnosticReport")
    [order] = report["basedOn"]
    assert (order["type"], order["identifier"]["value"]) == ("ServiceRequest", "A77")
    assert order["identifier"]["type"]["coding"][0]["code"] == "ACSN"
    models = pytest.importorskip("fhir.resources.R4B.bundle", reason="fhir.resources is not installed")
    models.Bundle.model_validate(bundle)


@pytest.mark.parametrize(
    ("said", "names", "others"),
    [
        ({}, None, None),
        ({"patient_name": "", "sex": "unknown", "birth_date": "1.2.1970"}, None, None),
        ({"sex": "O"}, None, {"gender": "other"}),
        ({"patient_name": "Muster"}, [("Muster", "Muster", None)], None),
        (
            {"patient_name": "Yamada^Tarou=山田^太郎=やまだ^たろう"},
            [("Tarou Yamada", "Yamada", "ABC"), ("太郎 山田", "山田", "IDE"), ("たろう やまだ", "やまだ", "SYL")],
            None,
        ),
        ({"patient_name": "=山田^太郎"}, [("太郎 山田", "山田", "IDE")], None),
    ],
)
def test_what_is_not_known_of_a_patient_is_left_out(results, said, names, others):
    nobody = {**dict.fromkeys(PERSON), "patient_id": None}
    bundle = fhir.bundle(about(results["refer"], **nobody | said))
    assert nothing_empty(bundle)
    [report] = resources(bundle, "DiagnosticReport")
    if names is None and others is None:
        assert "subject" not in report
        assert "contained" not in report
    else:
        [patient] = report["contained"]
        found = [
            (name["text"], name["family"], name.get("extension", [{"valueCode": None}])[0]["valueCode"])
            for name in patient.get("name", [])
        ]
        assert found == (names or [])
        assert {key: patient[key] for key in others or {}} == (others or {})
        assert "identifier" not in patient
    assert "basedOn" not in report
    models = pytest.importorskip("fhir.resources.R4B.bundle", reason="fhir.resources is not installed")
    models.Bundle.model_validate(bundle)


def test_pictures_of_one_object_are_resources_of_their_own(results):
    first, second = (fhir.bundle(about(results["refer"], frame=n, pictures=2)) for n in (1, 2))
    single = fhir.bundle(about(results["refer"], frame=1, pictures=1))
    ids = [{e["fullUrl"] for e in b["entry"] if e["resource"]["resourceType"] != "Device"} for b in (first, second)]
    ids.append({e["fullUrl"] for e in single["entry"] if e["resource"]["resourceType"] != "Device"})
    assert all(not a & b for a, b in ((ids[0], ids[1]), (ids[0], ids[2]), (ids[1], ids[2])))
    for observation in resources(second, "Observation"):
        found = {each["code"]["coding"][0]["code"]: each["valueInteger"] for each in observation["component"]}
        assert found == {"FRAME": 2, "PICTURES": 2}
    assert any("picture 2 of 2" in note["text"] for note in resources(second, "Observation")[0]["note"])
    assert all("component" not in observation for observation in resources(single, "Observation"))
    models = pytest.importorskip("fhir.resources.R4B.bundle", reason="fhir.resources is not installed")
    models.Bundle.model_validate(second)


def test_resources_of_single_pictures_are_those_of_earlier_releases(results):
    """Ids that a release before pictures of one object has given, worked out by hand from what they are made of."""
    result = results["refer"]
    record = result.record
    made_of = (result.item.sop_instance_uid, record.sha256, record.bundle_digest, record.artifact, "report")
    expected = uuid5(NAMESPACE, "/".join(("fhir", *made_of)))
    assert resources(fhir.bundle(result), "DiagnosticReport")[0]["id"] == str(expected)


@pytest.mark.parametrize(
    ("record", "text", "code"),
    [
        (
            {"task": "peripheral", "condition": "peripheral retinal lesions", "modality": "colour_fundus"},
            "Screening for peripheral retinal lesions, colour fundus photograph",
            "peripheral:A3",
        ),
        ({"task": None, "condition": None, "modality": None}, "Screening of the retina", "A3"),
    ],
)
def test_what_this_bundle_screens_for(results, record, text, code):
    findings = tuple(replace(each, vocabulary=record["task"] or "") for each in results["refer"].record.findings)
    bundle = fhir.bundle(about(results["refer"], findings=findings, **record))
    assert resources(bundle, "DiagnosticReport")[0]["code"]["text"] == text
    summary, *labels = resources(bundle, "Observation")
    assert summary["code"]["text"] == text
    assert code in [each["code"]["coding"][0]["code"] for each in labels]
    assert "myopia" not in json.dumps(bundle)


def test_every_outcome_has_words():
    assert set(terms.OUTCOME_CODES) == set(terms.QUALITY_CODES) == set(rules.OUTCOMES)
    codes = [code for code, _ in terms.OUTCOME_CODES.values()]
    assert len(set(codes)) == len(codes)
    assert all(len(code) <= 16 for code, _ in (*terms.OUTCOME_CODES.values(), *terms.QUALITY_CODES.values()))


@pytest.mark.parametrize(
    ("said", "read"),
    [
        ("every label is below its threshold", "Every label is below its threshold."),
        ("Too dark.", "Too dark."),
        ("x_1.dcm: cannot be read", "x_1.dcm: cannot be read."),
        ("mRNA?", "mRNA?"),
        ("", "."),
    ],
)
def test_reasons_are_sentences(said, read):
    assert terms.sentence(said) == read


def test_csv_is_read_back_and_calculates_nothing(results):
    evil = about(results["negative"], **PERSON | {"patient_id": '=HYPERLINK("x")', "frame": 2, "pictures": 3})
    rows = list(csv.DictReader(io.StringIO(exports.as_csv([results["refer"], results["insufficient"], evil]))))
    assert [row["outcome"] for row in rows] == ["refer", "insufficient", "negative"]
    record = results["refer"].record
    for code, probability in record.probabilities.items():
        assert float(rows[0][f"probability_{code}"]) == probability
        assert rows[1][f"probability_{code}"] == ""
    assert float(rows[0]["threshold_A3"]) == record.thresholds["A3"]
    assert rows[2]["patient_id"] == '\'=HYPERLINK("x")'
    assert {name: rows[2][name] for name in PERSON} == PERSON
    assert (rows[2]["frame"], rows[2]["pictures"]) == ("2", "3")
    assert (rows[0]["condition"], rows[0]["task"]) == ("pathologic myopia", "psmm")
    assert all("Research software" in row["statement"] for row in rows)


def test_json_is_the_record_without_where_it_lies(results):
    document = exports.as_dict(results["refer"])
    record = results["refer"].record.to_dict()
    assert {name: document[name] for name in record if name != "folder"} == {
        name: value for name, value in record.items() if name != "folder"
    }
    assert "folder" not in document
    assert document["revision"] == 1
