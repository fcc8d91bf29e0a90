"""Why an object is not taken: the DICOM status that its sender gets, with a reason."""

from typing import Any

from pydicom import Dataset

from edge_app.dicom.header import parse_attributes
from edge_app.dicom.identifiers import UID_PATTERN

__all__ = [
    "CANNOT_UNDERSTAND",
    "CLASS_NOT_SUPPORTED",
    "INVALID_INSTANCE",
    "MISMATCH",
    "NOT_AUTHORISED",
    "OUT_OF_RESOURCES",
    "SUCCESS",
    "Refused",
    "answer",
    "identify",
    "refuse_contradiction",
]

SUCCESS = 0x0000
INVALID_INSTANCE = 0x0117
CLASS_NOT_SUPPORTED = 0x0122
NOT_AUTHORISED = 0x0124
OUT_OF_RESOURCES = 0xA700
MISMATCH = 0xA900
CANNOT_UNDERSTAND = 0xC000


class Refused(Exception):
    """Why an object is not taken: its DICOM status and a text without patient data (at most 64 characters)."""

    def __init__(self, status: int, reason: str):
        super().__init__(reason)
        self.status, self.reason = status, reason


def answer(status: int, reason: str = "") -> Dataset:
    """What the sender gets: a status, and as its Error Comment the first 64 characters of a reason."""
    told = Dataset()
    told.Status = status
    if reason:
        told.ErrorComment = reason[:64]
    return told


def refuse_contradiction(beginning: bytes, transfer_syntax: str, request: Any) -> None:
    """Refuses an object that is to be dropped but says that it is another: a picture must not get lost under the name
    of something else. One whose beginning cannot be read says nothing.
    """
    try:
        attributes = parse_attributes(beginning, transfer_syntax)
    except Exception:
        return
    if str(attributes.get("SOPClassUID") or request.AffectedSOPClassUID).strip() != request.AffectedSOPClassUID:
        raise Refused(MISMATCH, "the SOP Class UIDs of request and data set differ")
    if (
        str(attributes.get("SOPInstanceUID") or request.AffectedSOPInstanceUID).strip()
        != request.AffectedSOPInstanceUID
    ):
        raise Refused(INVALID_INSTANCE, "the SOP Instance UIDs of request and data set differ")


def identify(attributes: Dataset, request: Any) -> tuple[str, str]:
    """SOP Instance and Study Instance UID of the data set, which must agree with the request."""
    uids = {}
    for keyword in ("SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID", "SOPClassUID"):
        uids[keyword] = str(attributes.get(keyword) or "").strip()
        if not UID_PATTERN.fullmatch(uids[keyword]):
            raise Refused(INVALID_INSTANCE, f"{keyword} is missing or not a UID")
    if uids["SOPInstanceUID"] != request.AffectedSOPInstanceUID:
        raise Refused(INVALID_INSTANCE, "the SOP Instance UIDs of request and data set differ")
    if uids["SOPClassUID"] != request.AffectedSOPClassUID:
        raise Refused(MISMATCH, "the SOP Class UIDs of request and data set differ")
    return uids["SOPInstanceUID"], uids["StudyInstanceUID"]
