"""What DICOM results have in common: which object it is, whose, made when and by what.

All are made from the record and the source image's attributes alone, so that the same result is always the same
object: a resend replaces, it never duplicates. All land in the study of the source image. docs/dicom.md lists what
they contain.
"""

import io
from datetime import datetime
from typing import Any
from uuid import uuid5

from highdicom.enum import ContentQualificationValues
from highdicom.sr import CodedConcept
from pydicom import Dataset, dcmwrite
from pydicom.dataelem import DataElement
from pydicom.sr.codedict import codes

from edge_app.dicom.identifiers import IMPLEMENTATION_UID, IMPLEMENTATION_VERSION, NAMESPACE
from edge_app.dicom.own_results import MANUFACTURER, SOFTWARE
from keras_realmnet import __version__
from keras_realmnet.errors import RealMNetError
from keras_realmnet.screening.record import ScreeningRecord
from keras_realmnet.tasks.findings import Finding

__all__ = [
    "EYE_CODES",
    "MAX_MEANING",
    "SCHEME",
    "coded",
    "concept_of",
    "derived_uid",
    "encode",
    "evidence_of",
    "finished",
    "identity",
    "result_uid",
    "source_image",
    "tracking",
]

SCHEME = "99REALMNET"  # PS3.16 8: private designators begin with 99
MAX_MEANING = 64  # characters of a Code Meaning and of a Series Description (VR LO)
EYE_CODES = {"OD": ("R", codes.SCT.Right), "OS": ("L", codes.SCT.Left)}

# Copied from the source as they are, right or wrong: a PACS files by them. Type 2 attributes come first.
PATIENT = ("PatientName", "PatientID", "PatientBirthDate", "PatientSex")
STUDY = ("StudyDate", "StudyTime", "ReferringPhysicianName", "StudyID", "AccessionNumber")
OPTIONAL = ("IssuerOfPatientID", "PatientBirthTime", "PatientAge", "EthnicGroup", "StudyDescription")

TEXT_VRS = ("LO", "LT", "PN", "SH", "ST", "UC", "UT")  # what Specific Character Set governs (PS3.5 6.1.2.3)


def encode(document: Dataset) -> bytes:
    """The object as a DICOM file (PS3.10)."""
    buffer = io.BytesIO()
    dcmwrite(buffer, document, enforce_file_format=True)
    return buffer.getvalue()


def coded(value: str, meaning: str) -> CodedConcept:
    """A code of our own; highdicom makes a Long Code Value of more than 16 characters. Raises RealMNetError."""
    if len(meaning) > MAX_MEANING:
        raise RealMNetError(
            f"The meaning of a DICOM code has at most {MAX_MEANING} characters. Received: {meaning!r} of code {value!r}"
        )
    return CodedConcept(value, SCHEME, meaning)


def concept_of(finding: Finding) -> CodedConcept:
    """What was found: a concept of a public terminology, else our own code. Raises RealMNetError as `coded`."""
    if finding.concept is not None:
        return CodedConcept(finding.concept.value, finding.concept.scheme, finding.concept.meaning)
    return coded(finding.qualified, finding.name)


def tracking(record: ScreeningRecord, source: Dataset, identifier: str) -> str:
    """The UID by which a finding of this picture is known in report and segmentation, of any model of the task."""
    frame = (record.frame,) if record.pictures > 1 else ()
    return derived_uid(source.SOPInstanceUID, *frame, *filter(None, (record.task,)), identifier)


def evidence_of(source: Dataset) -> Dataset:
    """What highdicom needs to know of the source. Patient and study follow in `_finished`, as they are."""
    evidence = Dataset()
    for keyword in ("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID"):
        if not source.get(keyword):
            raise RealMNetError(f"A DICOM result needs the {keyword} of its source image; it has none")
        setattr(evidence, keyword, source[keyword].value)
    for keyword in (*PATIENT, *STUDY):
        setattr(evidence, keyword, None)
    return evidence


def identity(record: ScreeningRecord, source: Dataset, kind: str, revision: int) -> dict[str, Any]:
    """What highdicom is told alike of both: which object it is, made when and by what."""
    made = _made_at(record)
    return {
        "series_instance_uid": result_uid(record, source, f"{kind} series"),
        "sop_instance_uid": result_uid(record, source, kind, revision),
        "instance_number": revision,
        "manufacturer": MANUFACTURER,
        "manufacturer_model_name": record.bundle_name,
        "software_versions": (
            f"{SOFTWARE} {__version__}",
            f"{record.bundle_name} {record.bundle_version}",
        ),
        "device_serial_number": record.bundle_digest,
        "content_qualification": ContentQualificationValues.RESEARCH,
        "content_date": made.date(),
        "content_time": made.time(),
    }


def finished(document: Dataset, record: ScreeningRecord, source: Dataset) -> Dataset:
    """Adds patient and study of the source; replaces what highdicom took from the clock."""
    for keyword in (*PATIENT, *STUDY, *OPTIONAL):
        if keyword in source:
            element = source[keyword]
            document[keyword] = DataElement(element.tag, element.VR, _readable(element))
    document.InstanceCreationDate, document.InstanceCreationTime = document.ContentDate, document.ContentTime
    document.ContributingEquipmentSequence[0].ContributionDateTime = _made_at(record).strftime("%Y%m%d%H%M%S")
    if character_set := _character_set(document):
        document.SpecificCharacterSet = character_set
    document.file_meta.ImplementationClassUID = IMPLEMENTATION_UID
    document.file_meta.ImplementationVersionName = IMPLEMENTATION_VERSION
    return document


def _readable(element: DataElement) -> Any:
    """An element's text. Bytes that fit no character set become question marks; the record warns of them."""
    if element.value is None:
        return None
    values = element.value if element.VM > 1 else [element.value]
    texts = [str(value).replace("\ufffd", "?") for value in values]
    return texts if element.VM > 1 else texts[0]


def _character_set(document: Dataset) -> str | None:
    """The smallest that holds all text, for old readers' sake: none (ASCII), Latin-1 or UTF-8 (PS3.3 C.12.1.1.2)."""
    text = "".join(str(element.value) for element in document.iterall() if element.VR in TEXT_VRS)
    if text.isascii():
        return None
    return "ISO_IR 100" if max(text) <= "\xff" else "ISO_IR 192"


def source_image(record: ScreeningRecord, source: Dataset) -> Dataset:
    item = Dataset()
    item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = source.SOPClassUID, source.SOPInstanceUID
    if record.pictures > 1:
        item.ReferencedFrameNumber = record.frame
    purpose = codes.DCM.SourceImageForImageProcessingOperation
    item.PurposeOfReferenceCodeSequence = [CodedConcept.from_code(purpose)]
    item.SpatialLocationsPreserved = "NO"  # reduced, with lines of text above
    return item


def _made_at(record: ScreeningRecord) -> datetime:
    """When the image was screened, in the box's local time, as DICOM has it where no time zone is given."""
    return datetime.fromisoformat(record.screened_at).astimezone().replace(tzinfo=None, microsecond=0)


def result_uid(record: ScreeningRecord, source: Dataset, kind: str, revision: int | None = None) -> str:
    """The same for the same picture, model and revision, on any box and after any restart."""
    frame = (f"frame {record.frame}",) if record.pictures > 1 else ()
    identity = (source.SOPInstanceUID, record.sha256, *frame, record.bundle_digest, record.artifact, kind, revision)
    return derived_uid(*identity)


def derived_uid(*parts: object) -> str:
    return f"2.25.{uuid5(NAMESPACE, '/'.join(map(str, parts))).int}"
