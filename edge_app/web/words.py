"""What the pages call things, and what they say when something was done or went wrong."""

import sqlite3

from edge_app.present.terms import EYES, local_time
from edge_app.store.database import seconds_since
from edge_app.store.items import Item
from edge_app.store.reviews import Review
from edge_app.web.auth import Permission

__all__ = [
    "AGREEMENTS",
    "DELIVERY_STATES",
    "DONE",
    "ERRORS",
    "KINDS",
    "NOT_RECORDED",
    "PERMISSION_NAMES",
    "SOURCES",
    "STATES",
    "UNCERTAIN",
    "UNREADABLE",
    "ago",
    "duration",
    "name_of",
    "review_text",
    "storage_words",
]

PERMISSION_NAMES: dict[Permission, str] = {
    "view": "see worklist, results, quarantine, deliveries, decisions, health",
    "review": "agree, disagree, note",
    "set_eye": "set an eye that is unknown",
    "retry": "screen again what is in quarantine, or close it as done",
    "retry_delivery": "send now what waits, send again what was given up",
    "audit": "read and export the audit trail and the reviews",
}
STATES = {
    "pending": "Waiting to be screened",
    "screening": "Being screened",
    "done": "Screened",
    "quarantined": "In quarantine",
    "expired": "Removed by age",
}
DELIVERY_STATES = {
    "dead": "given up",
    "pending": "waiting",
    "delivered": "delivered",
    "superseded": "replaced by a newer revision",
}
KINDS = {
    "sr": "structured report (DICOM)",
    "sc": "heat map (DICOM)",
    "seg": "segmentation (DICOM)",
    "json": "JSON",
    "csv": "CSV",
    "fhir": "FHIR",
}
SOURCES = {"dicom": "DICOM, from", "folder": "folder"}
AGREEMENTS = {"agree": "Agree", "disagree": "Disagree"}
DONE = {  # what a page says after something was done; its address holds the key alone
    "eye": "The eye is set, and the results are sent anew.",
    "review": "The review is saved.",
    "retry": "It will be screened again.",
    "close": "It is closed as done.",
    "delivery": "It is being sent now.",
    "deliveries": "They are being sent now.",
}
ERRORS = {  # heading and text of an error page, where nothing more is known
    400: ("Not understood", "The box could not read what was sent. Go back, load the page again and repeat it."),
    403: ("Not permitted", "You may not see or do this."),
    404: ("Not found", "There is no such page, or what it showed has been removed."),
    405: ("Not possible here", "What this address does is done with a button of a page."),
    413: ("Too much", "What was sent is larger than any form of the box."),
    429: ("Too many attempts", "Wait a quarter of an hour, or ask the administrator."),
    500: ("This did not work", "The box could not answer. Try it again; if it stays so, tell the administrator."),
    503: ("Not now", "The box is busy, and what you asked for was not done. Try it again in a minute."),
}
UNCERTAIN = "It may still be done: look before you repeat it."
UNREADABLE = (
    "A result cannot be read",
    "A result of this patient was written by another release of the box, or is damaged. It is not a negative result. "
    "Look at the image itself, and tell the administrator.",
)
NOT_RECORDED = "The disk is full, or the data base busy: that you look at this is not recorded in the audit trail."


def storage_words(error: sqlite3.Error) -> tuple[str, str]:
    """Heading and text of the page that tells of a failure of the data base."""
    if "full" in str(error):  # Python 3.10 knows no codes of SQLite's errors
        return "The disk is full", "What you asked for was not done: nothing was saved. Tell the administrator."
    if "locked" in str(error):
        return "Not now", "The data base is busy: nothing was saved. Try it again in a minute."
    return "The data base does not answer", "Nothing was done and nothing saved. Tell the administrator."


def ago(moment: str | None) -> str:
    return "never" if moment is None else f"{local_time(moment)} ({duration(seconds_since(moment))} ago)"


def duration(seconds: float) -> str:
    return (
        f"{seconds:.0f} s"
        if seconds < 120
        else f"{seconds / 60:.0f} min"
        if seconds < 7200
        else f"{seconds / 3600:.0f} h"
    )


def name_of(item: Item) -> str:
    name = item.file_name or f"DICOM object, item {item.object_id}"
    return name if (item.pictures or 0) < 2 else f"{name}, picture {item.frame} of {item.pictures}"


def review_text(review: Review) -> str:
    if review.kind == "eye":
        return f"set the eye: {EYES[review.value].lower()}"
    return AGREEMENTS[review.value].lower() + "s" if review.kind == "agreement" else review.value
