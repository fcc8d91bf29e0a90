"""A screening record as DICOM: a Comprehensive 3D SR (TID 1500) and the heat map as a Secondary Capture.

Both are made from the record and the source image's attributes alone, so that the same result is always the same
object: a resend replaces, it never duplicates. Both land in the study of the source image. docs/dicom.md lists what
they contain. No length and no area is ever stated: the projection stretches the periphery of the field.
"""

import io
from collections.abc import Iterator
from datetime import datetime
from typing import Any
from uuid import uuid5

import cv2
import numpy as np
from highdicom.coding_schemes import CodingSchemeIdentificationItem
from highdicom.enum import ContentQualificationValues, CoordinateSystemNames
from highdicom.sc import SCImage
from highdicom.sr import (
    AlgorithmIdentification,
    CodedConcept,
    Comprehensive3DSR,
    DeviceObserverIdentifyingAttributes,
    FindingSite,
    Measurement,
    MeasurementReport,
    MeasurementsAndQualitativeEvaluations,
    ObservationContext,
    ObserverContext,
    QualitativeEvaluation,
    SourceImageForMeasurementGroup,
    TextContentItem,
    TrackingIdentifier,
)
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from pydicom import Dataset, dcmwrite
from pydicom.dataelem import DataElement
from pydicom.sr.codedict import codes
from pydicom.uid import Comprehensive3DSRStorage

from edge_app.dicom.identifiers import IMPLEMENTATION_UID, IMPLEMENTATION_VERSION, NAMESPACE
from edge_app.dicom.own_results import (
    HEAT_MAP_COMMENTS,
    HEAT_MAP_DERIVATION,
    HEAT_MAP_SERIES,
    HEAT_MAP_TYPE,
    MANUFACTURER,
    SOFTWARE,
)
from edge_app.present.exports import STATEMENT
from edge_app.present.terms import OUTCOME_CODES, QUALITY_CODES, label_code, label_name, picture, purpose, sentence
from keras_realmnet import __version__
from keras_realmnet.errors import RealMNetError
from keras_realmnet.screening import overlay
from keras_realmnet.screening.preprocessing import FieldGeometry
from keras_realmnet.screening.record import ScreeningRecord

__all__ = ["encode", "heat_map", "structured_report"]

SCHEME = "99REALMNET"  # PS3.16 8: private designators begin with 99
MAX_MEANING = 64  # characters of a Code Meaning and of a Series Description (VR LO)
EYE_CODES = {"OD": ("R", codes.SCT.Right), "OS": ("L", codes.SCT.Left)}

# Copied from the source as they are, right or wrong: a PACS files by them. Type 2 attributes come first.
PATIENT = ("PatientName", "PatientID", "PatientBirthDate", "PatientSex")
STUDY = ("StudyDate", "StudyTime", "ReferringPhysicianName", "StudyID", "AccessionNumber")
OPTIONAL = ("IssuerOfPatientID", "PatientBirthTime", "PatientAge", "EthnicGroup", "StudyDescription")

TEXT_VRS = ("LO", "LT", "PN", "SH", "ST", "UC", "UT")  # what Specific Character Set governs (PS3.5 6.1.2.3)

SIDE = 1024  # px, longest side of the picture in the heat map
LINE = 32  # px, height of a line of text above the picture
FONT = 22.0  # px


def structured_report(
    record: ScreeningRecord, source: Dataset, revision: int = 1, predecessor: int | None = None
) -> Dataset:
    """The record as a Comprehensive 3D SR with a TID 1500 tree.

    Args:
        record: of any outcome; without probabilities there is no group per label.
        source: the attributes of the screened image; needs the UIDs of study, series, class and instance.
        revision: 1, 2, ...: a later one is another object (an eye set by the operator).
        predecessor: the revision whose report was sent before this one, which then names it (PS3.3 C.17.2); None
            where there is none: a record that never became a report is no document to refer to.

    Raises:
        RealMNetError: `source` lacks one of the UIDs, or the name of a label is longer than a Code Meaning may be.
    """
    evidence = _evidence(source)
    title = f"Screening for {record.condition} - research only"
    groups = [_outcome_group(record, evidence), *_label_groups(record, evidence)]
    device = DeviceObserverIdentifyingAttributes(
        uid=_uid(record.bundle_digest, record.artifact),
        name=record.bundle_name,
        manufacturer_name=MANUFACTURER,
        model_name=record.bundle_name,
        serial_number=record.bundle_digest,
    )
    report = MeasurementReport(
        observation_context=ObservationContext(observer_device_context=ObserverContext(codes.DCM.Device, device)),
        procedure_reported=codes.DCM.OphthalmicPhotography,
        imaging_measurements=groups,
    )
    document = Comprehensive3DSR(
        evidence=[evidence],
        content=report,
        series_number=9001,
        is_complete=True,
        is_final=False,  # no person has looked at it
        previous_versions=None if predecessor is None else [_reference(record, source, predecessor)],
        series_description=title if record.condition and len(title) <= MAX_MEANING else "Screening - research only",
        coding_schemes=[
            CodingSchemeIdentificationItem(
                SCHEME, name="Labels and outcomes of screening bundles", uid=_uid("coding scheme")
            )
        ],
        **_identity(record, source, "sr", revision),
    )
    return _finished(document, record, source)


def heat_map(
    record: ScreeningRecord,
    source: Dataset,
    preview: NDArray[np.uint8],
    class_map: NDArray[np.floating],
    geometry: FieldGeometry,
    revision: int = 1,
) -> Dataset:
    """The evidence for the record's most relevant label, drawn over the image: an RGB Secondary Capture.

    Args:
        record, source, revision: as for `structured_report`; `record.evidence` names the label.
        preview: the screened image or a reduced copy, uint8 RGB of shape (h, w, 3).
        class_map: of that label, shape (h', w').
        geometry: where the model's square lies on the image.

    Raises:
        RealMNetError: the record has no evidence to show, or `source` lacks a UID.
    """
    if record.evidence is None:
        raise RealMNetError("A heat map needs a class map; this image was not given to the model")
    document: Any = SCImage.from_ref_dataset(
        _evidence(source),
        pixel_array=draw_heat_map(record, preview, class_map, geometry),
        photometric_interpretation="RGB",
        bits_allocated=8,
        coordinate_system=CoordinateSystemNames.PATIENT,
        patient_orientation=("L", "F"),  # highdicom wants one; the source's follows below
        series_number=9002,
        series_description=HEAT_MAP_SERIES,
        transfer_syntax_uid="1.2.840.10008.1.2.1",
        **_identity(record, source, "sc", revision),
    )
    document.PatientOrientation = source.get("PatientOrientation") or ""
    document.BodyPartExamined = "EYE"
    if record.eye in EYE_CODES:
        document.ImageLaterality = EYE_CODES[record.eye][0]
    else:
        document.Laterality = ""
    document.ImageType = list(HEAT_MAP_TYPE)
    document.DateOfSecondaryCapture, document.TimeOfSecondaryCapture = document.ContentDate, document.ContentTime
    document.ImageComments = f"{HEAT_MAP_COMMENTS} {STATEMENT}"
    document.DerivationDescription = (
        f"{HEAT_MAP_DERIVATION} {label_code(record, record.evidence)} by {record.bundle_name} {record.bundle_version}, "
        f"drawn over a reduced "
        f"copy of {picture(record) or 'the picture'} of the source image. Not for diagnosis."
    )
    document.BurnedInAnnotation = "YES" if source.get("BurnedInAnnotation") == "YES" else "NO"  # none of ours
    document.LossyImageCompression = "01"  # the reduced copy is a JPEG
    document.SourceImageSequence = [_source_image(record, source)]
    return _finished(document, record, source)


def encode(document: Dataset) -> bytes:
    """The object as a DICOM file (PS3.10)."""
    buffer = io.BytesIO()
    dcmwrite(buffer, document, enforce_file_format=True)
    return buffer.getvalue()


def draw_heat_map(
    record: ScreeningRecord, preview: NDArray[np.uint8], class_map: NDArray[np.floating], geometry: FieldGeometry
) -> NDArray[np.uint8]:
    """The picture of `heat_map`, uint8 RGB: lines of text, below them the image, tinted where evidence lies.

    Only a label that reaches its threshold is outlined; of any other a line of text says that it is no finding.
    """
    height, width = preview.shape[:2]
    scale = SIDE / max(height, width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    image = cv2.resize(preview, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
    strength = overlay.strength(class_map, geometry, (size[1], size[0]))
    tinted = overlay.tinted(np.asarray(image, np.uint8), strength)
    if record.evidence in record.triggered:
        overlay.draw_levels(tinted, strength, (0, 0, 0), (255, 255, 255))
    lines = _captions(record)
    canvas = Image.fromarray(np.vstack([np.full((LINE * len(lines) + 8, size[0], 3), 24, np.uint8), tinted]))
    pen = ImageDraw.Draw(canvas)
    for number, line in enumerate(lines):
        font = ImageFont.load_default(size=FONT)
        fitting = FONT * (size[0] - 24) / max(1.0, pen.textlength(line, font))
        font = ImageFont.load_default(size=min(FONT, fitting))
        pen.text((12, 4 + LINE * (number + 0.5)), line, fill="white", font=font, anchor="lm")
    return np.asarray(canvas)


def _captions(record: ScreeningRecord) -> list[str]:
    """What is burned in: nothing that tells who the patient is."""
    code = record.evidence or ""
    p, threshold = (values.get(code) for values in (record.probabilities or {}, record.thresholds or {}))
    numbers = "" if p is None or threshold is None else f", probability {p:.2f} (threshold {threshold:.2f})"
    frame = f" - {picture(record)}" if picture(record) else ""
    meaning = f"Violet: evidence for {code}, relative to the greatest in this image; not the extent of a lesion"
    if code not in record.triggered:
        meaning = f"NO FINDING: below its threshold. Violet: where the model looked for {code}"
    return [
        "HEAT MAP - NOT FOR DIAGNOSIS - research software, not for clinical use",
        f"{record.eye or 'Eye unknown'}{frame} - {code} {label_name(record, code)}{numbers}",
        meaning,
    ]


def _outcome_group(record: ScreeningRecord, evidence: Dataset) -> MeasurementsAndQualitativeEvaluations:
    group = _group(
        record,
        evidence,
        "Screening outcome",
        qualitative_evaluations=[
            QualitativeEvaluation(_coded("OUTCOME", "Screening outcome"), _coded(*OUTCOME_CODES[record.outcome])),
            QualitativeEvaluation(codes.DCM.ImageQuality, _coded(*QUALITY_CODES[record.outcome])),
        ],
    )
    for text in (f"{purpose(record)}.", STATEMENT, *map(sentence, (*record.reasons, *record.warnings))):
        group[0].ContentSequence.append(TextContentItem(codes.DCM.Comment, text, "CONTAINS"))
    return group


def _label_groups(record: ScreeningRecord, evidence: Dataset) -> Iterator[MeasurementsAndQualitativeEvaluations]:
    """One group per label: its probability and, for a pathologic one, the threshold and how they compare."""
    for label in record.labels:
        measurements = [Measurement(codes.DCM.Probability, label.probability, codes.UCUM.NoUnits)]
        evaluations = []
        if label.threshold is not None:
            measurements.append(Measurement(codes.DCM.ThresholdValue, label.threshold, codes.UCUM.NoUnits))
            value = _coded("ABOVE", "At or above threshold") if label.reached else _coded("BELOW", "Below threshold")
            evaluations.append(QualitativeEvaluation(_coded("DECISION", "Probability against threshold"), value))
        yield _group(
            record,
            evidence,
            label.code,
            finding_type=_coded(label.qualified, label.name),
            measurements=measurements,
            qualitative_evaluations=evaluations,
        )


def _group(
    record: ScreeningRecord, evidence: Dataset, identifier: str, **content: Any
) -> MeasurementsAndQualitativeEvaluations:
    """A TID 1501 group about the source image: which eye, by which algorithm."""
    _, laterality = EYE_CODES.get(record.eye or "", (None, None))
    frames = [record.frame] if record.pictures > 1 else None
    tracked = (evidence.SOPInstanceUID, *(frames or ()), *filter(None, (record.task,)), identifier)
    return MeasurementsAndQualitativeEvaluations(
        tracking_identifier=TrackingIdentifier(_uid(*tracked), identifier),
        algorithm_id=AlgorithmIdentification(
            name=record.bundle_name,
            version=record.bundle_version,
            parameters=[
                f"model SHA-256 {record.model_sha256}",
                f"artifact {record.artifact}",
                f"bundle digest {record.bundle_digest}",
                f"preprocessing {record.spec_hash}",
            ],
            manufacturer=MANUFACTURER,
        ),
        finding_sites=[FindingSite(codes.SCT.Retina, laterality=laterality)],
        source_images=[SourceImageForMeasurementGroup(evidence.SOPClassUID, evidence.SOPInstanceUID, frames)],
        **content,
    )


def _coded(value: str, meaning: str) -> CodedConcept:
    """A code of our own; highdicom makes a Long Code Value of more than 16 characters. Raises RealMNetError."""
    if len(meaning) > MAX_MEANING:
        raise RealMNetError(
            f"The meaning of a DICOM code has at most {MAX_MEANING} characters. Received: {meaning!r} of code {value!r}"
        )
    return CodedConcept(value, SCHEME, meaning)


def _evidence(source: Dataset) -> Dataset:
    """What highdicom needs to know of the source. Patient and study follow in `_finished`, as they are."""
    evidence = Dataset()
    for keyword in ("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID"):
        if not source.get(keyword):
            raise RealMNetError(f"A DICOM result needs the {keyword} of its source image; it has none")
        setattr(evidence, keyword, source[keyword].value)
    for keyword in (*PATIENT, *STUDY):
        setattr(evidence, keyword, None)
    return evidence


def _identity(record: ScreeningRecord, source: Dataset, kind: str, revision: int) -> dict[str, Any]:
    """What highdicom is told alike of both: which object it is, made when and by what."""
    made = _made_at(record)
    return {
        "series_instance_uid": _result_uid(record, source, f"{kind} series"),
        "sop_instance_uid": _result_uid(record, source, kind, revision),
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


def _finished(document: Dataset, record: ScreeningRecord, source: Dataset) -> Dataset:
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


def _source_image(record: ScreeningRecord, source: Dataset) -> Dataset:
    item = Dataset()
    item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = source.SOPClassUID, source.SOPInstanceUID
    if record.pictures > 1:
        item.ReferencedFrameNumber = record.frame
    purpose = codes.DCM.SourceImageForImageProcessingOperation
    item.PurposeOfReferenceCodeSequence = [CodedConcept.from_code(purpose)]
    item.SpatialLocationsPreserved = "NO"  # reduced, with lines of text above
    return item


def _reference(record: ScreeningRecord, source: Dataset, revision: int) -> Dataset:
    """The report of that revision, as a later one names it."""
    previous = Dataset()
    previous.SOPClassUID = Comprehensive3DSRStorage
    previous.SOPInstanceUID = _result_uid(record, source, "sr", revision)
    previous.StudyInstanceUID = source.StudyInstanceUID
    previous.SeriesInstanceUID = _result_uid(record, source, "sr series")
    return previous


def _made_at(record: ScreeningRecord) -> datetime:
    """When the image was screened, in the box's local time, as DICOM has it where no time zone is given."""
    return datetime.fromisoformat(record.screened_at).astimezone().replace(tzinfo=None, microsecond=0)


def _result_uid(record: ScreeningRecord, source: Dataset, kind: str, revision: int | None = None) -> str:
    """The same for the same picture, model and revision, on any box and after any restart."""
    frame = (f"frame {record.frame}",) if record.pictures > 1 else ()
    identity = (source.SOPInstanceUID, record.sha256, *frame, record.bundle_digest, record.artifact, kind, revision)
    return _uid(*identity)


def _uid(*parts: object) -> str:
    return f"2.25.{uuid5(NAMESPACE, '/'.join(map(str, parts))).int}"
