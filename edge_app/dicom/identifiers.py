"""What the box's objects and associations are named by: its UIDs, the classes and transfer syntaxes that it takes."""

import re
from uuid import UUID, uuid5

from pydicom.uid import (
    JPEG2000,
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLosslessSV1,
    MultiFrameGrayscaleByteSecondaryCaptureImageStorage,
    MultiFrameGrayscaleWordSecondaryCaptureImageStorage,
    MultiFrameTrueColorSecondaryCaptureImageStorage,
    OphthalmicPhotography8BitImageStorage,
    OphthalmicPhotography16BitImageStorage,
    RLELossless,
    SecondaryCaptureImageStorage,
    VLPhotographicImageStorage,
    WideFieldOphthalmicPhotography3DCoordinatesImageStorage,
    WideFieldOphthalmicPhotographyStereographicProjectionImageStorage,
)

__all__ = [
    "IMPLEMENTATION_UID",
    "IMPLEMENTATION_VERSION",
    "NAMESPACE",
    "SECONDARY_CAPTURES",
    "STORAGE_CLASSES",
    "TRANSFER_SYNTAXES",
    "UID_PATTERN",
]

NAMESPACE = UUID("6f0ad8cf-4f9b-5f3c-9d0e-2f8f1a6f7c11")  # of all UIDs made here (UUID-derived, PS3.5 B.2)
# Part of every stored file, and so of its hash: the same object must give the same file after an update of the box.
IMPLEMENTATION_UID = UID(f"2.25.{uuid5(NAMESPACE, 'implementation').int}")
IMPLEMENTATION_VERSION = "REALMNET_BOX_1"  # at most 16 characters
UID_PATTERN = re.compile(r"[0-9][0-9.]{0,63}")  # what devices send is not always conformant, but digits and dots it is

# Without the bilevel one (1.2.840.10008.5.1.4.1.1.7.1): no retina is black and white.
SECONDARY_CAPTURES = (
    SecondaryCaptureImageStorage,
    MultiFrameGrayscaleByteSecondaryCaptureImageStorage,
    MultiFrameGrayscaleWordSecondaryCaptureImageStorage,
    MultiFrameTrueColorSecondaryCaptureImageStorage,
)
STORAGE_CLASSES = (
    OphthalmicPhotography8BitImageStorage,
    OphthalmicPhotography16BitImageStorage,
    WideFieldOphthalmicPhotographyStereographicProjectionImageStorage,
    WideFieldOphthalmicPhotography3DCoordinatesImageStorage,
    *SECONDARY_CAPTURES,
    VLPhotographicImageStorage,
)
TRANSFER_SYNTAXES = (
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    JPEGBaseline8Bit,
    JPEGLosslessSV1,
    JPEG2000Lossless,
    JPEG2000,
    RLELossless,
)
