"""The evidence for a label or grade as DICOM: a Secondary Capture with the class map drawn over the picture."""

from typing import Any

import cv2
import numpy as np
from highdicom.enum import CoordinateSystemNames
from highdicom.sc import SCImage
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from pydicom import Dataset

from edge_app.dicom.own_results import HEAT_MAP_COMMENTS, HEAT_MAP_DERIVATION, HEAT_MAP_SERIES, HEAT_MAP_TYPE
from edge_app.present.dicom_object import EYE_CODES, evidence_of, finished, identity, source_image
from edge_app.present.exports import STATEMENT
from edge_app.present.terms import explained, label_code, label_name, picture
from keras_realmnet.errors import RealMNetError
from keras_realmnet.screening import overlay
from keras_realmnet.screening.preprocessing import FieldGeometry
from keras_realmnet.screening.record import ScreeningRecord
from keras_realmnet.tasks.findings import GradeFinding, LabelFinding
from keras_realmnet.tasks.rule import probability_text

__all__ = ["heat_map"]

SIDE = 1024  # px, longest side of the picture in the heat map
LINE = 32  # px, height of a line of text above the picture
FONT = 22.0  # px


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
        evidence_of(source),
        pixel_array=draw_heat_map(record, preview, class_map, geometry),
        photometric_interpretation="RGB",
        bits_allocated=8,
        coordinate_system=CoordinateSystemNames.PATIENT,
        patient_orientation=("L", "F"),  # highdicom wants one; the source's follows below
        series_number=9002,
        series_description=HEAT_MAP_SERIES,
        transfer_syntax_uid="1.2.840.10008.1.2.1",
        **identity(record, source, "sc", revision),
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
    document.SourceImageSequence = [source_image(record, source)]
    return finished(document, record, source)


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
    frame = f" - {picture(record)}" if picture(record) else ""
    return [
        "HEAT MAP - NOT FOR DIAGNOSIS - research software, not for clinical use",
        f"{record.eye or 'Eye unknown'}{frame} - {code} {label_name(record, code)}{_numbers(record, code)}",
        _meaning(record, code),
    ]


def _numbers(record: ScreeningRecord, code: str) -> str:
    """The probability of the label or grade, and the threshold of a label that has one."""
    finding = explained(record, code)
    if finding is None:
        return ""
    if isinstance(finding, LabelFinding) and finding.threshold is not None:
        return f", probability {finding.probability:.2f} (threshold {probability_text(finding.threshold)})"
    return f", probability {finding.probability:.2f}" if isinstance(finding, GradeFinding) else ""


def _meaning(record: ScreeningRecord, code: str) -> str:
    if code in record.triggered:
        return f"Violet: evidence for {code}, relative to the greatest in this image; not the extent of a lesion"
    if record.outcome == "uncertain":
        return f"UNCERTAIN: a person must look. Violet: where the model looked for {code}"
    finding = explained(record, code)
    thresholded = isinstance(finding, LabelFinding) and finding.threshold is not None
    why = "below its threshold" if thresholded else "not a grade that is referred"
    return f"NO FINDING: {why}. Violet: where the model looked for {code}"
