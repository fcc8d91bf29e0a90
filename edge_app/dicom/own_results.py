"""What the box's own results say of themselves, and how they are known by it when they come back."""

from pydicom import Dataset
from pydicom.uid import Comprehensive3DSRStorage, SegmentationStorage

from edge_app.dicom.identifiers import SECONDARY_CAPTURES

__all__ = [
    "HEAT_MAP_COMMENTS",
    "HEAT_MAP_DERIVATION",
    "HEAT_MAP_SERIES",
    "HEAT_MAP_TYPE",
    "MANUFACTURER",
    "SOFTWARE",
    "is_own_result",
]

MANUFACTURER = "keras-realmnet (research software)"
SOFTWARE = "keras-realmnet"  # Software Versions begin with it
HEAT_MAP_TYPE = ("DERIVED", "SECONDARY", "HEATMAP")
HEAT_MAP_SERIES = "Heat map - NOT FOR DIAGNOSIS"
HEAT_MAP_COMMENTS = "NOT FOR DIAGNOSIS."  # Image Comments and
HEAT_MAP_DERIVATION = "Class map of label"  # Derivation Description begin with them


def is_own_result(attributes: Dataset) -> bool:
    """Whether an object calls itself a heat map, report or segmentation of this software, of this box or another.

    Archives and gateways remove or rewrite attributes, so a Secondary Capture that calls itself a heat map needs only
    one more of our marks. No camera's picture has both; one mark alone is not enough.
    """
    equipment = [attributes, *(attributes.get("ContributingEquipmentSequence") or ())]
    made, *contributed = [_text(each, "Manufacturer") == MANUFACTURER.casefold() for each in equipment]
    sop_class = attributes.get("SOPClassUID")
    if sop_class in (Comprehensive3DSRStorage, SegmentationStorage):
        return made or any(contributed)
    if _texts(attributes, "ImageType")[:3] != [part.casefold() for part in HEAT_MAP_TYPE]:
        return False
    return made or (
        sop_class in SECONDARY_CAPTURES
        and (
            any(contributed)
            or any(text.startswith(f"{SOFTWARE} ") for each in equipment for text in _texts(each, "SoftwareVersions"))
            or _text(attributes, "SeriesDescription") == HEAT_MAP_SERIES.casefold()
            or _text(attributes, "ImageComments").startswith(HEAT_MAP_COMMENTS.casefold())
            or _text(attributes, "DerivationDescription").startswith(HEAT_MAP_DERIVATION.casefold())
        )
    )


def _texts(attributes: Dataset, keyword: str) -> list[str]:
    """The values of an attribute, without spaces around them and whatever their case; none where it is missing."""
    value = attributes.get(keyword) or ""
    return [str(part).strip().casefold() for part in ([value] if isinstance(value, str) else value)]


def _text(attributes: Dataset, keyword: str) -> str:
    return str(attributes.get(keyword) or "").strip().casefold()
