"""A screening record as a DICOM Comprehensive 3D SR (TID 1500): one measurement group for each finding.

Places are in the pixels of the source image (SCOORD, PS3.3 C.18.6). No length and no area in millimetres is ever
stated: the projection stretches the periphery of the field, and no camera says how large a pixel is on the retina.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import singledispatchmethod
from typing import Any

import cv2
import numpy as np
from highdicom.coding_schemes import CodingSchemeIdentificationItem
from highdicom.sr import (
    AlgorithmIdentification,
    CodeContentItem,
    CodedConcept,
    Comprehensive3DSR,
    CoordinatesForMeasurement,
    DeviceObserverIdentifyingAttributes,
    FindingSite,
    ImageRegion,
    Measurement,
    MeasurementReport,
    MeasurementsAndQualitativeEvaluations,
    ObservationContext,
    ObserverContext,
    PlanarROIMeasurementsAndQualitativeEvaluations,
    QualitativeEvaluation,
    SourceImageForMeasurementGroup,
    SourceImageForRegion,
    TextContentItem,
    TrackingIdentifier,
)
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.sr.codedict import codes
from pydicom.uid import Comprehensive3DSRStorage

from edge_app.dicom.own_results import MANUFACTURER
from edge_app.present.dicom_object import (
    EYE_CODES,
    MAX_MEANING,
    SCHEME,
    coded,
    concept_of,
    derived_uid,
    evidence_of,
    finished,
    identity,
    result_uid,
    tracking,
)
from edge_app.present.exports import STATEMENT
from edge_app.present.terms import FOUND_CODES, OUTCOME_CODES, QUALITY_CODES, purpose, sentence
from edge_app.present.wording import signs
from keras_realmnet.screening.record import ScreeningRecord
from keras_realmnet.tasks.findings import (
    Finding,
    GradeFinding,
    LabelFinding,
    MaskFinding,
    Measure,
    PointFinding,
    Polygon,
)

__all__ = ["structured_report"]

Group = MeasurementsAndQualitativeEvaluations | PlanarROIMeasurementsAndQualitativeEvaluations

UNITS = {"1": codes.UCUM.NoUnits, "%": codes.UCUM.Percent, "{count}": CodedConcept("{count}", "UCUM", "count")}
CORNERS = 8190  # of an outline at most: its Graphic Data, 8 bytes each, must fit into 64 KiB (PS3.5 7.1.2)


def structured_report(
    record: ScreeningRecord, source: Dataset, revision: int = 1, predecessor: int | None = None
) -> Dataset:
    """The record as a Comprehensive 3D SR with a TID 1500 tree.

    Args:
        record: of any outcome; where the image never reached the model there is the group of the outcome alone.
        source: the attributes of the screened image; needs the UIDs of study, series, class and instance.
        revision: 1, 2, ...: a later one is another object (an eye set by the operator).
        predecessor: the revision whose report was sent before this one, which then names it (PS3.3 C.17.2); None
            where there is none: a record that never became a report is no document to refer to.

    Raises:
        RealMNetError: `source` lacks one of the UIDs, or a name is longer than a Code Meaning may be.
    """
    evidence = evidence_of(source)
    groups = _Groups(record, evidence)
    device = DeviceObserverIdentifyingAttributes(
        uid=derived_uid(record.bundle_digest, record.artifact),
        name=record.bundle_name,
        manufacturer_name=MANUFACTURER,
        model_name=record.bundle_name,
        serial_number=record.bundle_digest,
    )
    report = MeasurementReport(
        observation_context=ObservationContext(observer_device_context=ObserverContext(codes.DCM.Device, device)),
        procedure_reported=codes.DCM.OphthalmicPhotography,
        imaging_measurements=[groups.outcome(), *map(groups.of, record.findings or ())],
    )
    document = Comprehensive3DSR(
        evidence=[evidence],
        content=report,
        series_number=9001,
        is_complete=True,
        is_final=False,  # no person has looked at it
        previous_versions=None if predecessor is None else [_reference(record, source, predecessor)],
        series_description=_series_description(record),
        coding_schemes=[
            CodingSchemeIdentificationItem(
                SCHEME, name="Labels and outcomes of screening bundles", uid=derived_uid("coding scheme")
            )
        ],
        **identity(record, source, "sr", revision),
    )
    return finished(document, record, source)


@dataclass(frozen=True)
class _Groups:
    """The measurement groups (TID 1501, for points TID 1410) of a record; `evidence`: the source image."""

    record: ScreeningRecord
    evidence: Dataset

    def outcome(self) -> MeasurementsAndQualitativeEvaluations:
        record = self.record
        group = self._group(
            "Screening outcome",
            qualitative_evaluations=[
                QualitativeEvaluation(coded("OUTCOME", "Screening outcome"), coded(*OUTCOME_CODES[record.outcome])),
                QualitativeEvaluation(codes.DCM.ImageQuality, coded(*QUALITY_CODES[record.outcome])),
            ],
        )
        for text in (f"{purpose(record)}.", STATEMENT, *map(sentence, (*record.reasons, *record.warnings))):
            group[0].ContentSequence.append(TextContentItem(codes.DCM.Comment, text, "CONTAINS"))
        return group

    @singledispatchmethod
    def of(self, finding: Finding) -> Group:
        """The group of a finding."""
        raise NotImplementedError(f"a report has no words for a {finding.kind}")

    @of.register
    def _label(self, finding: LabelFinding) -> MeasurementsAndQualitativeEvaluations:
        """Its probability and, where a rule looks at it, the threshold and how they compare."""
        measurements = [Measurement(codes.DCM.Probability, finding.probability, codes.UCUM.NoUnits)]
        evaluations = []
        if finding.threshold is not None:
            measurements.append(Measurement(codes.DCM.ThresholdValue, finding.threshold, codes.UCUM.NoUnits))
            value = coded("ABOVE", "At or above threshold") if finding.reached else coded("BELOW", "Below threshold")
            evaluations.append(QualitativeEvaluation(coded("DECISION", "Probability against threshold"), value))
        return self._group(
            finding.code,
            finding_type=concept_of(finding),
            measurements=measurements,
            qualitative_evaluations=evaluations,
        )

    @of.register
    def _grade(self, finding: GradeFinding) -> MeasurementsAndQualitativeEvaluations:
        """One coded grade, from which one is referred, the probability of each, which names its grade, and the lesions
        that speak for it, as a comment."""
        grades = {code: coded(finding.qualify(code), name) for code, name in finding.names.items()}
        evaluations = [QualitativeEvaluation(coded("GRADE", "Grade"), concept_of(finding))]
        if finding.from_grade is not None:
            evaluations.append(QualitativeEvaluation(coded("REFER_FROM", "Referred from"), grades[finding.from_grade]))
        measurements = []
        for code, probability in finding.probabilities.items():
            measurements.append(Measurement(codes.DCM.Probability, probability, codes.UCUM.NoUnits))
            grade = CodeContentItem(codes.DCM.Finding, grades[code], "HAS CONCEPT MOD")
            measurements[-1][0].ContentSequence = [grade]
        group = self._group(f"grade {finding.output}", measurements=measurements, qualitative_evaluations=evaluations)
        if text := signs(self.record, finding):
            group[0].ContentSequence.append(TextContentItem(codes.DCM.Comment, text, "CONTAINS"))
        return group

    @of.register
    def _mask(self, finding: MaskFinding) -> MeasurementsAndQualitativeEvaluations:
        """The mean probability inside, which is inferred from the outlines of all parts, and the share of the field."""
        measurements = []
        if finding.probability is not None:
            outlines = [
                CoordinatesForMeasurement("POLYLINE", _graphic_data(_closed(outline)), self._region_source())
                for outline in finding.outlines
            ]
            measurements.append(
                Measurement(
                    codes.DCM.Probability,
                    finding.probability,
                    codes.UCUM.NoUnits,
                    derivation=codes.SCT.Mean,
                    referenced_coordinates=outlines,
                )
            )
        if finding.share is not None:
            measurements.append(
                Measurement(coded("SHARE", "Share of the field of view"), 100 * finding.share, codes.UCUM.Percent)
            )
        return self._found_or_not(finding, finding.found, measurements=measurements)

    @of.register
    def _point(self, finding: PointFinding) -> Group:
        measurements = []
        if finding.confidence is not None:
            measurements.append(Measurement(codes.DCM.CertaintyOfFinding, 100 * finding.confidence, codes.UCUM.Percent))
        if finding.x is None or finding.y is None:
            return self._found_or_not(finding, False, measurements=measurements)
        return PlanarROIMeasurementsAndQualitativeEvaluations(
            **self._about(f"{finding.kind} {finding.code}"),
            referenced_region=ImageRegion("POINT", _graphic_data([(finding.x, finding.y)]), self._region_source()),
            finding_type=concept_of(finding),
            measurements=measurements,
            qualitative_evaluations=[_found(True)],
        )

    @of.register
    def _measure(self, finding: Measure) -> MeasurementsAndQualitativeEvaluations:
        if finding.value is None:
            return self._found_or_not(finding, False)
        unit = UNITS.get(finding.unit, CodedConcept(finding.unit, "UCUM", finding.unit))
        return self._group(
            f"{finding.kind} {finding.code}", measurements=[Measurement(concept_of(finding), finding.value, unit)]
        )

    def _found_or_not(self, finding: Finding, found: bool, **content: Any) -> MeasurementsAndQualitativeEvaluations:
        return self._group(
            f"{finding.kind} {finding.code}",
            finding_type=concept_of(finding),
            qualitative_evaluations=[_found(found)],
            **content,
        )

    def _group(self, identifier: str, **content: Any) -> MeasurementsAndQualitativeEvaluations:
        """A TID 1501 group about the source image."""
        image = SourceImageForMeasurementGroup(self.evidence.SOPClassUID, self.evidence.SOPInstanceUID, self._frames())
        return MeasurementsAndQualitativeEvaluations(**self._about(identifier), source_images=[image], **content)

    def _about(self, identifier: str) -> Mapping[str, Any]:
        """What all groups tell alike: which eye, by which algorithm."""
        record = self.record
        _, laterality = EYE_CODES.get(record.eye or "", (None, None))
        return {
            "tracking_identifier": TrackingIdentifier(tracking(record, self.evidence, identifier), identifier),
            "algorithm_id": AlgorithmIdentification(
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
            "finding_sites": [FindingSite(codes.SCT.Retina, laterality=laterality)],
        }

    def _region_source(self) -> SourceImageForRegion:
        return SourceImageForRegion(self.evidence.SOPClassUID, self.evidence.SOPInstanceUID, self._frames())

    def _frames(self) -> list[int] | None:
        return [self.record.frame] if self.record.pictures > 1 else None


def _found(found: bool) -> QualitativeEvaluation:
    return QualitativeEvaluation(coded("FOUND", "Found in the picture"), coded(*FOUND_CODES[found]))


def _graphic_data(places: Sequence[tuple[float, float]]) -> NDArray[np.float64]:
    """Places of a finding as DICOM counts: the upper left pixel's centre is at (0.5, 0.5) (PS3.3 C.18.6)."""
    return np.array(places, np.float64) + 0.5


def _closed(outline: Polygon) -> Polygon:
    """An outline whose last corner is its first; one with too many corners is drawn with fewer."""
    corners, tolerance = outline, 0.25
    while len(corners) >= CORNERS:
        fewer = cv2.approxPolyDP(np.array(outline, np.float32)[:, None], tolerance, closed=True)
        corners = tuple((float(x), float(y)) for x, y in fewer[:, 0])
        tolerance *= 2
    return (*corners, corners[0])


def _series_description(record: ScreeningRecord) -> str:
    verb = "Description" if record.outcome == "described" else "Screening"
    title = f"{purpose(record, modality=False)} - research only"
    return title if record.condition and len(title) <= MAX_MEANING else f"{verb} - research only"


def _reference(record: ScreeningRecord, source: Dataset, revision: int) -> Dataset:
    """The report of that revision, as a later one names it."""
    previous = Dataset()
    previous.SOPClassUID = Comprehensive3DSRStorage
    previous.SOPInstanceUID = result_uid(record, source, "sr", revision)
    previous.StudyInstanceUID = source.StudyInstanceUID
    previous.SeriesInstanceUID = result_uid(record, source, "sr series")
    return previous
