"""A screening result as FHIR R4: a Bundle of one DiagnosticReport, its Observations and the Device that made them.

Where there is no result there is no value but a `dataAbsentReason`. Identifiers are derived from the image and the
model: the same result is always the same resource, a later revision a later version of it. docs/dicom.md maps the
record's fields; https://hl7.org/fhir/R4/diagnosticreport.html and observation.html define the resources.
"""

import re
from functools import singledispatch
from typing import Any
from uuid import uuid5

from edge_app.dicom.identifiers import NAMESPACE
from edge_app.present.exports import STATEMENT, uids
from edge_app.present.terms import FOUND_CODES, OUTCOME_CODES, name_parts, picture, purpose, sentence
from edge_app.present.wording import signs
from edge_app.store.records import Result
from keras_realmnet.tasks.findings import Finding, GradeFinding, LabelFinding, MaskFinding, Measure, PointFinding

__all__ = ["CODE_SYSTEM", "bundle"]

CODE_SYSTEM = f"urn:oid:2.25.{uuid5(NAMESPACE, 'coding scheme').int}"  # of labels and outcomes; the SR's 99REALMNET
SNOMED = "http://snomed.info/sct"
SYSTEMS = {"SCT": SNOMED, "DCM": "http://dicom.nema.org/resources/ontology/DCM"}  # of a finding's concept
ABSENT_REASONS = "http://terminology.hl7.org/CodeSystem/data-absent-reason"
EYE_CODES = {"OD": ("18944008", "Right eye structure"), "OS": ("8966001", "Left eye structure")}
GENDERS = {"M": "male", "F": "female", "O": "other"}
# Component groups of a DICOM person name (PS3.5 6.2.1.2), as FHIR's data type extension HumanName tells them apart.
NAME_GROUPS = ("ABC", "IDE", "SYL")
NAME_REPRESENTATION = "http://hl7.org/fhir/StructureDefinition/iso21090-EN-representation"
IDENTIFIER_TYPES = "http://terminology.hl7.org/CodeSystem/v2-0203"
UNIT_NAMES = {"{count}": "count"}  # where people call a unit of UCUM another way than its code
ABSENT = {
    "insufficient": ("unknown", "Insufficient quality: retake or refer. This is not a negative result."),
    "not_analysed": ("not-performed", "Not analysed: no result. This is not a negative result."),
}


def bundle(result: Result) -> dict[str, Any]:
    """The Bundle, of type "collection", ready for `json.dumps`."""
    record = result.record
    device = _device(result)
    observations = [_outcome(result, device["id"])]
    observations += [_of(finding, result, device["id"]) for finding in record.findings or ()]
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
    outcome = ABSENT[record.outcome][1] if record.outcome in ABSENT else OUTCOME_CODES[record.outcome][1]
    return _without_empty(
        {
            "resourceType": "DiagnosticReport",
            "id": _uuid(result, "report"),
            "meta": _meta(result),
            "basedOn": _order(result),
            "identifier": [{"system": "urn:ietf:rfc:3986", "value": f"urn:uuid:{_uuid(result, 'report')}"}],
            "status": "preliminary",  # no person has looked at it
            "category": [{"coding": [{"system": "http://terminology.hl7.org/CodeSystem/v2-0074", "code": "IMG"}]}],
            "code": {
                "coding": [{"system": "http://loinc.org", "code": "18748-4"}],
                "text": purpose(record),
            },
            **_subject(result),
            "effectiveDateTime": record.study_date,
            "issued": record.screened_at,
            "result": [_reference("Observation", each["id"]) for each in observations],
            "imagingStudy": _study(result),
            "conclusion": " ".join((sentence(outcome), *_sentences(result), STATEMENT)),
        }
    )


def _outcome(result: Result, device: str) -> dict[str, Any]:
    record = result.record
    code, meaning = OUTCOME_CODES[record.outcome]
    coding = {"system": CODE_SYSTEM, "code": code, "display": meaning}
    if record.outcome not in ABSENT:
        value = {"valueCodeableConcept": {"coding": [coding], "text": meaning}}
    else:
        absent, text = ABSENT[record.outcome]
        value = {"dataAbsentReason": {"coding": [{"system": ABSENT_REASONS, "code": absent}, coding], "text": text}}
    notes = [*_sentences(result), STATEMENT]
    if instance := uids(result)[1]:
        frame = f", {picture(record)}" if picture(record) else ""
        notes.append(f"Source image: SOP Instance UID {instance}{frame}")
    observation = _observation(result, device, "outcome", "OUTCOME", "Screening outcome", purpose(record))
    return observation | value | {"note": [{"text": note} for note in notes]}


@singledispatch
def _of(finding: Finding, result: Result, device: str) -> dict[str, Any]:
    """The Observation of a finding."""
    raise NotImplementedError(f"FHIR has no words for a {finding.kind}")


@_of.register
def _label(label: LabelFinding, result: Result, device: str) -> dict[str, Any]:
    observation = _observation(result, device, label.code, label.qualified, label.name, f"Probability: {label.name}")
    _with_concept(observation["code"], label)
    observation["valueQuantity"] = _fraction(label.probability)
    if label.threshold is not None:
        relation = "at or above" if label.reached else "below"
        observation["interpretation"] = [{"text": f"{relation} the decision threshold"}]
        observation["referenceRange"] = [{"high": _fraction(label.threshold), "text": "below the decision threshold"}]
    return observation


@_of.register
def _grade(grade: GradeFinding, result: Result, device: str) -> dict[str, Any]:
    """One coded grade, with the lesions that speak for it in words; the probability of each is a component."""
    observation = _observation(result, device, f"grade {grade.output}", "GRADE", "Grade", "Grade")
    observation["valueCodeableConcept"] = _with_concept(_own_code(grade.qualified, grade.name, grade.name), grade)
    if grade.from_grade is not None:
        relation = "at or above" if grade.reached else "below"
        text = f"{relation} {grade.names[grade.from_grade]}, from which on it is referred"
        observation["interpretation"] = [{"text": text}]
    if text := signs(result.record, grade):
        observation["note"] = [{"text": text}]
    components = []
    for code, probability in grade.probabilities.items():
        name = grade.names[code]
        named = _own_code(grade.qualify(code), name, f"Probability: {name}")
        components.append({"code": named, "valueQuantity": _fraction(probability)})
    return _with_components(observation, components)


@_of.register
def _mask(mask: MaskFinding, result: Result, device: str) -> dict[str, Any]:
    """Whether it was found; parts, mean probability inside and share of the field are components, outlines are not."""
    observation = _located(mask, result, device)
    observation["valueCodeableConcept"] = _own_code(*FOUND_CODES[mask.found], FOUND_CODES[mask.found][1])
    components = [_component("PARTS", "Number of parts", {"valueInteger": len(mask.outlines)})]
    if mask.probability is not None:
        quantity = {"valueQuantity": _fraction(mask.probability)}
        components.append(_component("PROBABILITY", "Mean probability inside", quantity))
    if mask.share is not None:
        components.append(_component("SHARE", "Share of the field of view", {"valueQuantity": _fraction(mask.share)}))
    return _with_components(observation, components)


@_of.register
def _point(point: PointFinding, result: Result, device: str) -> dict[str, Any]:
    """Its place in pixels of the picture, the centre of the upper left one at (0, 0)."""
    observation = _located(point, result, device)
    components = []
    if point.x is None or point.y is None:
        observation |= _not_found("not found in the picture")
    else:
        observation["valueCodeableConcept"] = _own_code(*FOUND_CODES[True], FOUND_CODES[True][1])
        components = [_component("X", "x, to the right", {"valueQuantity": _pixels(point.x)})]
        components.append(_component("Y", "y, down", {"valueQuantity": _pixels(point.y)}))
    if point.confidence is not None:
        components.append(_component("CONFIDENCE", "Confidence", {"valueQuantity": _fraction(point.confidence)}))
    return _with_components(observation, components)


@_of.register
def _measure(measure: Measure, result: Result, device: str) -> dict[str, Any]:
    observation = _located(measure, result, device)
    if measure.value is None:
        return observation | _not_found("could not be measured: what it is computed of was not found")
    quantity = {**_fraction(measure.value), "unit": UNIT_NAMES.get(measure.unit, measure.unit), "code": measure.unit}
    return observation | {"valueQuantity": quantity}


def _located(finding: Finding, result: Result, device: str) -> dict[str, Any]:
    key = f"{finding.kind} {finding.code}"
    observation = _observation(result, device, key, finding.qualified, finding.name, finding.name)
    _with_concept(observation["code"], finding)
    return observation


def _with_concept(code: dict[str, Any], finding: Finding) -> dict[str, Any]:
    """`code` with the concept of a public terminology in front, where the finding has one."""
    concept = finding.concept
    if concept is not None:
        code["coding"].insert(0, {"system": SYSTEMS[concept.scheme], "code": concept.value, "display": concept.meaning})
    return code


def _with_components(observation: dict[str, Any], components: list[dict[str, Any]]) -> dict[str, Any]:
    """Behind those that say which picture of the object it is, where there are."""
    together = [*observation.get("component", []), *components]
    return _without_empty({**observation, "component": together})


def _component(code: str, display: str, value: dict[str, Any]) -> dict[str, Any]:
    return {"code": _own_code(code, display, display), **value}


def _not_found(text: str) -> dict[str, Any]:
    code, meaning = FOUND_CODES[False]
    coding = {"system": CODE_SYSTEM, "code": code, "display": meaning}
    return {"dataAbsentReason": {"coding": [{"system": ABSENT_REASONS, "code": "unknown"}, coding], "text": text}}


def _observation(result: Result, device: str, key: str, code: str, display: str, text: str) -> dict[str, Any]:
    """What all observations say alike. `key`: tells the resource from the result's others."""
    record = result.record
    site = EYE_CODES.get(record.eye or "")
    category = {"system": "http://terminology.hl7.org/CodeSystem/observation-category", "code": "imaging"}
    return _without_empty(
        {
            "resourceType": "Observation",
            "id": _uuid(result, key),
            "meta": _meta(result),
            "status": "preliminary",
            "category": [{"coding": [category]}],
            "code": _own_code(code, display, text),
            **_subject(result),
            "effectiveDateTime": record.study_date,
            "issued": record.screened_at,
            "bodySite": site
            and {"coding": [{"system": SNOMED, "code": site[0], "display": site[1]}], "text": record.eye},
            "device": _reference("Device", device),
            "derivedFrom": _study(result),
            "component": _frame(result),
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
        "note": [{"text": f"{purpose(record)}. {STATEMENT}"}],
    }


def _meta(result: Result) -> dict[str, Any]:
    tag = {"system": "http://terminology.hl7.org/CodeSystem/v3-ActReason", "code": "HRESCH"}  # healthcare research
    return {"versionId": str(result.revision), "tag": [tag]}


def _subject(result: Result) -> dict[str, Any]:
    """The patient, contained in the resource that is about it: the box keeps no register of patients."""
    record = result.record
    assigner = {"display": record.patient_id_issuer} if record.patient_id_issuer else None
    identifier = _without_empty({"value": record.patient_id, "assigner": assigner})
    patient = _without_empty(
        {
            "identifier": [identifier] if record.patient_id else [],
            "name": _names(record.patient_name or ""),
            "gender": GENDERS.get((record.sex or "").upper()),
            "birthDate": record.birth_date if re.fullmatch(r"\d{4}-\d\d-\d\d", record.birth_date or "") else None,
        }
    )
    if not patient:
        return {}
    reference = {"reference": "#patient", "type": "Patient"}
    subject = reference | ({"identifier": identifier} if record.patient_id else {})
    return {"contained": [{"resourceType": "Patient", "id": "patient", **patient}], "subject": subject}


def _names(patient_name: str) -> list[dict[str, Any]]:
    """A DICOM person name: one HumanName per component group (alphabetic, ideographic, phonetic)."""
    groups = patient_name.split("=")
    names = []
    for group, representation in zip(groups, NAME_GROUPS, strict=False):
        family, given, middle, prefix, suffix = name_parts(group)
        name = _without_empty(
            {
                "text": " ".join(part for part in (prefix, given, middle, family, suffix) if part),
                "family": family,
                "given": [*given.split(), *middle.split()],
                "prefix": prefix.split(),
                "suffix": suffix.split(),
            }
        )
        if name and len(groups) > 1:
            name["extension"] = [{"url": NAME_REPRESENTATION, "valueCode": representation}]
        names.append(name)
    return [name for name in names if name]


def _order(result: Result) -> list[dict[str, Any]]:
    """The order by its accession number, as https://hl7.org/fhir/R4/imagingstudy.html has it."""
    number = result.record.accession_number
    kind = {"coding": [{"system": IDENTIFIER_TYPES, "code": "ACSN"}]}
    return [{"type": "ServiceRequest", "identifier": {"type": kind, "value": number}}] if number else []


def _frame(result: Result) -> list[dict[str, Any]]:
    """Which picture of the object it is, where that holds several."""
    record = result.record
    if record.pictures < 2:
        return []
    return [
        {"code": _own_code("FRAME", "Number of the picture", "Frame"), "valueInteger": record.frame},
        {
            "code": _own_code("PICTURES", "Number of pictures of the object", "Pictures"),
            "valueInteger": record.pictures,
        },
    ]


def _own_code(code: str, display: str, text: str) -> dict[str, Any]:
    return {"coding": [{"system": CODE_SYSTEM, "code": code, "display": display}], "text": text}


def _study(result: Result) -> list[dict[str, Any]]:
    """The study by its UID, as https://hl7.org/fhir/R4/imagingstudy.html asks."""
    uid, _ = uids(result)
    identifier = {"system": "urn:dicom:uid", "value": f"urn:oid:{uid}"}
    return [{"type": "ImagingStudy", "identifier": identifier}] if uid else []


def _sentences(result: Result) -> list[str]:
    """Reasons and warnings, as sentences."""
    return [sentence(text) for text in (*result.record.reasons, *result.record.warnings)]


def _fraction(value: float) -> dict[str, Any]:
    return {"value": value, "unit": "1", "system": "http://unitsofmeasure.org", "code": "1"}


def _pixels(value: float) -> dict[str, Any]:
    return {"value": value, "unit": "pixel", "system": "http://unitsofmeasure.org", "code": "{pixel}"}


def _reference(kind: str, identifier: str) -> dict[str, str]:
    return {"reference": f"urn:uuid:{identifier}", "type": kind}


def _uuid(result: Result, *parts: object) -> str:
    record = result.record
    frame = (f"frame {record.frame}",) if record.pictures > 1 else ()
    identity = (uids(result)[1], record.sha256, *frame, record.bundle_digest, record.artifact, *parts)
    return str(uuid5(NAMESPACE, "/".join(map(str, ("fhir", *identity)))))


def _without_empty(resource: dict[str, Any]) -> dict[str, Any]:
    """FHIR knows no null and no empty list: what is not known is left out."""
    return {name: value for name, value in resource.items() if value not in (None, [], "")}
