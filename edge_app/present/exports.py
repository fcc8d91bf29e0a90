"""A screening result as JSON and as CSV, for whoever files or counts results without DICOM or FHIR."""

import csv
import io
from collections.abc import Iterable
from functools import singledispatch
from typing import Any

from edge_app.store.records import Result
from keras_realmnet.tasks.findings import Finding, GradeFinding, LabelFinding, MaskFinding, Measure, PointFinding

__all__ = ["STATEMENT", "as_csv", "as_dict", "cell", "uids"]

STATEMENT = (
    "Research software: not a medical device, not for clinical use. Not for diagnosis. "
    "A missing result is never a negative one."
)
COLUMNS = (
    *("item", "revision", "outcome", "patient_id", "eye", "eye_source", "study_date", "reasons", "warnings"),
    *("screened_at", "received_at", "received_from", "study_instance_uid", "sop_instance_uid", "file", "sha256"),
    *("bundle_name", "bundle_version", "bundle_digest", "artifact", "model_sha256"),
    *("frame", "pictures", "patient_name", "birth_date", "sex", "patient_id_issuer", "accession_number"),
    *("condition", "modality", "task", "distance", "distance_limit"),
)
FORMULA = ("=", "+", "-", "@", "\t", "\r")  # what a spreadsheet would calculate instead of show


def as_dict(result: Result) -> dict[str, Any]:
    """Everything that is known: the record, the object it is about, and which revision of the result it is."""
    record, item = result.record.to_dict(), result.item
    del record["folder"]  # where the box keeps it is nobody else's business
    study, instance = uids(result)
    return {
        "statement": STATEMENT,
        "item": item.id,
        "revision": result.revision,
        "received_at": item.received_at,
        "received_from": item.origin,
        "study_instance_uid": study,
        "sop_instance_uid": instance,
        **record,
    }


def uids(result: Result) -> tuple[str | None, str | None]:
    """Study and SOP Instance UID of the image; None where it is not DICOM."""
    item, source = result.item, result.record.source
    return (
        item.study_uid or source.get("study_instance_uid"),
        item.sop_instance_uid or source.get("sop_instance_uid"),
    )


def as_csv(results: Iterable[Result]) -> str:
    """One line per result under a line of names; what is not known is empty, a list is joined by "; "."""
    rows = [_row(result) for result in results]
    labels = dict.fromkeys(name for row in rows for name in row)
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, list(labels), restval="")
    writer.writeheader()
    writer.writerows({name: cell(value) for name, value in row.items()} for row in rows)
    return buffer.getvalue()


def _row(result: Result) -> dict[str, Any]:
    document = as_dict(result)
    row = {name: document[name] for name in COLUMNS}
    columns: dict[str, dict[str, Any]] = {}  # all of one sort side by side: first the probabilities, then thresholds
    for finding in result.record.findings or ():
        for sort, values in _columns(finding).items():
            columns.setdefault(sort, {}).update({f"{sort}_{code}": value for code, value in values.items()})
    for of_sort in columns.values():
        row.update(of_sort)
    return row | {"statement": STATEMENT}


@singledispatch
def _columns(finding: Finding) -> dict[str, dict[str, Any]]:
    """{sort of column: {code: value}} of a finding."""
    raise NotImplementedError(f"a table has no columns for a {finding.kind}")


@_columns.register
def _label(label: LabelFinding) -> dict[str, dict[str, Any]]:
    columns: dict[str, dict[str, Any]] = {"probability": {label.code: label.probability}}
    return columns if label.threshold is None else {**columns, "threshold": {label.code: label.threshold}}


@_columns.register
def _grade(grade: GradeFinding) -> dict[str, dict[str, Any]]:
    return {"grade": {grade.output: grade.code}, "probability": grade.probabilities}


@_columns.register
def _mask(mask: MaskFinding) -> dict[str, dict[str, Any]]:
    """How many parts were found, 0 where none was; the outlines are in the JSON and the DICOM results."""
    code = mask.code
    return {
        "parts": {code: len(mask.outlines)},
        "share": {code: mask.share},
        "mean_probability": {code: mask.probability},
    }


@_columns.register
def _point(point: PointFinding) -> dict[str, dict[str, Any]]:
    return {"x": {point.code: point.x}, "y": {point.code: point.y}, "confidence": {point.code: point.confidence}}


@_columns.register
def _measure(measure: Measure) -> dict[str, dict[str, Any]]:
    """A column with its unit of UCUM beside it where it has one: "%" of the field, "{count}"."""
    columns: dict[str, dict[str, Any]] = {"measure": {measure.code: measure.value}}
    return columns if measure.unit == "1" else {**columns, "unit": {measure.code: measure.unit}}


def cell(value: Any) -> Any:
    """A value for a CSV file: a list joined by "; "; a quote before text that a spreadsheet would calculate."""
    if isinstance(value, list):
        value = "; ".join(value)
    return f"'{value}" if isinstance(value, str) and value.startswith(FORMULA) else value
