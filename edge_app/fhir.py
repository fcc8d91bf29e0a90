"""A screening result as FHIR R4: a Bundle of one DiagnosticReport, its Observations and the Device that made them.

Where there is no result there is no value but a `dataAbsentReason`. Identifiers are derived from the image and the
model: the same result is always the same resource, a later revision a later version of it. docs/dicom.md maps the
record's fields; https://hl7.org/fhir/R4/diagnosticreport.html and observation.html define the resources.
"""

from typing import Any
from uuid import uuid5

from edge_app.dicom import NAMESPACE
from edge_app.exports import STATEMENT, uids
from edge_app.store import Result

__all__ = ["CODE_SYSTEM", "bundle"]

CODE_SYSTEM = f"urn:oid:2.25.{uuid5(NAMESPACE, 'coding scheme').int}"  # of labels and outcomes; the SR's 99REALMNET
SNOMED = "http://snomed.info/sct"
EYES = {"OD": ("18944008", "Right eye structure"), "OS": ("8966001", "Left eye structure")}
OUTCOMES = {"refer": "Refer", "negative": "Negative: rescreen"}
ABSENT = {
    "insufficient": ("unknown", "Insufficient quality: retake or refer. This is not a negative result."),
    "not_analysed": ("not-performed", "Not analysed: no result. This is not a negative result."),
}


def bundle(result: Result) -> dict[str, Any]:
    """The Bundle, of type "collection", ready for `json.dumps`."""
    record = result.record
    device = _device(result)
    observations = [_outcome(result, device["id"])]
    observations += [_label(result, device["id"], code) for code in record.probabilities or {}]
    report = _diagnostic_report(result, observations)
    return {
        "resourceType": "Bundle",
        "type": "collection",
        "identifier": {"system": "urn:ietf:rfc:3986", "value": f"urn:uuid:{_uuid(result, 'bundle', result.revision)}"},
        "timestamp": record.screened_at,
        "entry": [
            {"fullUrl": f"urn:uuid:{resource['id']}", "resource": resource}
            for resource in (report, *observations, device)
        ],
    }


def _diagnostic_report(result: Result, observations: list[dict[str, Any]]) -> dict[str, Any]:
    record = result.record
    outcome = OUTCOMES.get(record.outcome) or ABSENT[record.outcome][1]
    return _without_nothing(
        {
            "resourceType": "DiagnosticReport",
            "id": _uuid(result, "report"),
            "meta": _meta(result),
            "identifier": [{"system": "urn:ietf:rfc:3986", "value": f"urn:uuid:{_uuid(result, 'report')}"}],
            "status": "preliminary",  # no person has looked at it
            "category": [{"coding": [{"system": "http://terminology.hl7.org/CodeSystem/v2-0074", "code": "IMG"}]}],
            "code": {
                "coding": [{"system": "http://loinc.org", "code": "18748-4"}],
                "text": "Screening for pathologic myopia, ultra-widefield image",
            },
            "subject": _subject(result),
            "effectiveDateTime": record.study_date,
            "issued": record.screened_at,
            "result": [_reference("Observation", each["id"]) for each in observations],
            "imagingStudy": _study(result),
            "conclusion": " ".join((f"{outcome}.".replace("..", "."), *_sentences(result), STATEMENT)),
        }
    )


def _outcome(result: Result, device: str) -> dict[str, Any]:
    record = result.record
    if record.outcome in OUTCOMES:
        coding = {"system": CODE_SYSTEM, "code": record.outcome, "display": OUTCOMES[record.outcome]}
        value = {"valueCodeableConcept": {"coding": [coding], "text": OUTCOMES[record.outcome]}}
    else:
        code, text = ABSENT[record.outcome]
        system = "http://terminology.hl7.org/CodeSystem/data-absent-reason"
        codings = [{"system": system, "code": code}, {"system": CODE_SYSTEM, "code": record.outcome}]
        value = {"dataAbsentReason": {"coding": codings, "text": text}}
    notes = [*_sentences(result), STATEMENT]
    if instance := uids(result)[1]:
        notes.append(f"Source image: SOP Instance UID {instance}")
    return _observation(result, device, "outcome", "Screening outcome") | value | {"note": [{"text": n} for n in notes]}


def _label(result: Result, device: str, code: str) -> dict[str, Any]:
    record = result.record
    probability = (record.probabilities or {})[code]
    threshold = (record.thresholds or {}).get(code)
    name = (record.label_names or {}).get(code, code)
    observation = _observation(result, device, code, f"Probability: {name}")
    observation["valueQuantity"] = _fraction(probability)
    if threshold is not None:
        relation = "at or above" if probability >= threshold else "below"
        observation["interpretation"] = [{"text": f"{relation} the decision threshold"}]
        observation["referenceRange"] = [{"high": _fraction(threshold), "text": "below the decision threshold"}]
    return observation


def _observation(result: Result, device: str, code: str, name: str) -> dict[str, Any]:
    record = result.record
    site = EYES.get(record.eye or "")
    category = {"system": "http://terminology.hl7.org/CodeSystem/observation-category", "code": "imaging"}
    return _without_nothing(
        {
            "resourceType": "Observation",
            "id": _uuid(result, code),
            "meta": _meta(result),
            "status": "preliminary",
            "category": [{"coding": [category]}],
            "code": {"coding": [{"system": CODE_SYSTEM, "code": code, "display": name}], "text": name},
            "subject": _subject(result),
            "effectiveDateTime": record.study_date,
            "issued": record.screened_at,
            "bodySite": site
            and {"coding": [{"system": SNOMED, "code": site[0], "display": site[1]}], "text": record.eye},
            "device": _reference("Device", device),
            "derivedFrom": _study(result),
        }
    )


def _device(result: Result) -> dict[str, Any]:
    record = result.record
    versions = {
        "bundle": record.bundle_version,
        "bundle digest": record.bundle_digest,
        "model SHA-256": record.model_sha256,
        "artifact": record.artifact,
        "preprocessing": record.spec_hash,
    }
    return {
        "resourceType": "Device",
        "id": str(uuid5(NAMESPACE, f"{record.bundle_digest}/{record.artifact}")),
        "manufacturer": "keras-realmnet (research software)",
        "deviceName": [{"name": record.bundle_name, "type": "model-name"}],
        "version": [{"type": {"text": kind}, "value": value} for kind, value in versions.items()],
        "note": [{"text": STATEMENT}],
    }


def _meta(result: Result) -> dict[str, Any]:
    tag = {"system": "http://terminology.hl7.org/CodeSystem/v3-ActReason", "code": "HRESCH"}  # healthcare research
    return {"versionId": str(result.revision), "tag": [tag]}


def _subject(result: Result) -> dict[str, Any] | None:
    patient = result.record.patient_id
    return {"type": "Patient", "identifier": {"value": patient}} if patient else None


def _study(result: Result) -> list[dict[str, Any]]:
    """The study by its UID, as https://hl7.org/fhir/R4/imagingstudy.html asks."""
    uid, _ = uids(result)
    identifier = {"system": "urn:dicom:uid", "value": f"urn:oid:{uid}"}
    return [{"type": "ImagingStudy", "identifier": identifier}] if uid else []


def _sentences(result: Result) -> list[str]:
    """Reasons and warnings, as sentences."""
    texts = (*result.record.reasons, *result.record.warnings)
    return [text if text.endswith((".", "!", "?")) else f"{text}." for text in texts]


def _fraction(value: float) -> dict[str, Any]:
    return {"value": value, "unit": "1", "system": "http://unitsofmeasure.org", "code": "1"}


def _reference(kind: str, identifier: str) -> dict[str, str]:
    return {"reference": f"urn:uuid:{identifier}", "type": kind}


def _uuid(result: Result, *parts: object) -> str:
    record = result.record
    identity = (uids(result)[1], record.sha256, record.bundle_digest, record.artifact, *parts)
    return str(uuid5(NAMESPACE, "/".join(map(str, ("fhir", *identity)))))


def _without_nothing(resource: dict[str, Any]) -> dict[str, Any]:
    """FHIR knows no null and no empty list: what is not known is left out."""
    return {name: value for name, value in resource.items() if value not in (None, [], "")}
