"""Masks as a DICOM Segmentation on the source image's pixels: BINARY, one segment for each label of the task.

The segments are filled from the outlines that the record holds, so that a record suffices to make them: to a fraction
of a pixel of the network's mask, with the holes of what branches.
"""

from collections.abc import Sequence
from copy import deepcopy
from typing import Any

import numpy as np
from highdicom import AlgorithmIdentificationSequence
from highdicom.seg import SegmentAlgorithmTypeValues, SegmentationTypeValues, SegmentDescription
from highdicom.seg import Segmentation as SegmentationObject
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.sr.codedict import codes
from pydicom.uid import VLPhotographicImageStorage

from edge_app.dicom.own_results import MANUFACTURER
from edge_app.present.dicom_object import (
    EYE_CODES,
    concept_of,
    evidence_of,
    finished,
    identity,
    result_uid,
    tracking,
)
from edge_app.present.exports import STATEMENT
from keras_realmnet.errors import RealMNetError
from keras_realmnet.screening.record import ScreeningRecord
from keras_realmnet.tasks.findings import MaskFinding, Polygon

__all__ = ["filled", "segmentation"]


def segmentation(record: ScreeningRecord, source: Dataset, revision: int = 1) -> Dataset:
    """The masks of a record as a Segmentation, as large as the picture.

    Args:
        record: with masks of which at least one was found. What was looked for and not found is a segment without a
            frame, so that a label has the same number in every picture.
        source, revision: as for `structured_report`.

    Raises:
        RealMNetError: there is nothing to segment, or `source` lacks a UID.
    """
    masks = [finding for finding in record.findings or () if isinstance(finding, MaskFinding)]
    if not any(mask.found for mask in masks):
        raise RealMNetError("A segmentation needs a mask; none was found in this image")
    evidence = evidence_of(source)
    width, height = int(record.source["width"]), int(record.source["height"])
    segments = [filled(mask.borders, (height, width)) for mask in masks]
    document: Any = SegmentationObject(
        [_stand_in(evidence, source, (height, width))],
        np.stack(segments, axis=-1)[None],
        SegmentationTypeValues.BINARY,
        [_description(record, evidence, number, mask) for number, mask in enumerate(masks, start=1)],
        series_number=9003,
        content_label="MASKS",
        content_description="Masks of a research network",
        **identity(record, source, "seg", revision),
    )
    _refer_to(document, record, evidence)
    document.PatientOrientation = source.get("PatientOrientation") or ""
    document.SeriesDescription = "Masks - NOT FOR DIAGNOSIS"
    document.ImageComments = f"NOT FOR DIAGNOSIS. {STATEMENT}"
    document.BodyPartExamined = "EYE"
    if record.eye in EYE_CODES:
        document.ImageLaterality = EYE_CODES[record.eye][0]
    else:
        document.Laterality = ""
    for dimension in (*document.DimensionOrganizationSequence, *document.DimensionIndexSequence):
        dimension.DimensionOrganizationUID = result_uid(record, source, "seg dimensions")
    return finished(document, record, source)


def filled(borders: Sequence[Polygon], size_hw: tuple[int, int]) -> NDArray[np.uint8]:
    """1 for every pixel whose centre lies inside of an odd number of polygons, uint8 of shape (h, w).

    OpenCV's fillPoly also fills the pixels that the outline only touches: a disc of 5 pixels' radius grows by 29 %.
    """
    height, width = size_hw
    crossings = np.zeros((height, width + 1), np.uint8)
    for border in borders:
        corners = np.array(border, np.float64)
        for (x0, y0), (x1, y1) in zip(corners, np.roll(corners, -1, axis=0), strict=True):
            if y0 > y1:
                x0, y0, x1, y1 = x1, y1, x0, y0
            rows = np.arange(max(0, int(np.ceil(y0))), min(height, int(np.ceil(y1))))  # whose centres the edge passes
            if len(rows):
                columns = np.ceil(x0 + (rows - y0) * (x1 - x0) / (y1 - y0)).astype(int)
                crossings[rows, np.clip(columns, 0, width)] ^= 1  # an edge meets a row once
    return np.asarray(np.bitwise_xor.accumulate(crossings, axis=1)[:, :width])


def _stand_in(evidence: Dataset, source: Dataset, size_hw: tuple[int, int]) -> Dataset:
    """The picture as highdicom wants it: a single one, of a class that needs neither frames nor a frame of reference.

    Ophthalmic photographs have several frames and mostly no frame of reference, which the Segmentation IOD then does
    not ask for either: its frames name the picture that they were derived from (PS3.3 A.51.5).
    """
    image = deepcopy(evidence)
    image.SOPClassUID, image.Modality = VLPhotographicImageStorage, "OP"
    image.Rows, image.Columns = size_hw
    if source.get("FrameOfReferenceUID"):
        image.FrameOfReferenceUID = source.FrameOfReferenceUID
    return image


def _refer_to(document: Dataset, record: ScreeningRecord, evidence: Dataset) -> None:
    """Names the picture itself, and which of its frames, where highdicom named the stand-in."""
    derived = [frame.DerivationImageSequence[0] for frame in document.PerFrameFunctionalGroupsSequence]
    [instance] = document.ReferencedSeriesSequence[0].ReferencedInstanceSequence
    instance.ReferencedSOPClassUID = evidence.SOPClassUID
    for each in (document, *derived):
        each.SourceImageSequence = [deepcopy(each.SourceImageSequence[0])]  # highdicom uses one item in two places
        each.SourceImageSequence[0].ReferencedSOPClassUID = evidence.SOPClassUID
        if record.pictures > 1:
            each.SourceImageSequence[0].ReferencedFrameNumber = record.frame


def _description(record: ScreeningRecord, evidence: Dataset, number: int, mask: MaskFinding) -> SegmentDescription:
    """A segment. Whether it is anatomy or disease a record does not say: its category is that of a place."""
    identifier = f"{mask.kind} {mask.code}"
    return SegmentDescription(
        segment_number=number,
        segment_label=mask.name,
        segmented_property_category=codes.SCT.SpatialAndRelationalConcept,
        segmented_property_type=concept_of(mask),
        algorithm_type=SegmentAlgorithmTypeValues.AUTOMATIC,
        algorithm_identification=AlgorithmIdentificationSequence(
            name=record.bundle_name,
            family=codes.DCM.ArtificialIntelligence,
            version=record.bundle_version,
            source=MANUFACTURER,
            parameters={"model SHA-256": record.model_sha256, "bundle digest": record.bundle_digest},
        ),
        tracking_uid=tracking(record, evidence, identifier),
        tracking_id=identifier,
    )
