"""Logs without patient data: what happened to which item, by its number. Messages of exceptions stay out of them.

The message of an exception may quote a file name, a DICOM value or a path; its kind and the line it came from may not.
"""

import logging
import sys
import traceback
import warnings

__all__ = ["set_up", "where"]


def set_up(level: str) -> None:
    """Log lines go to stderr, for journald or Docker to stamp and keep; libraries speak up only when they fail."""
    logging.basicConfig(
        stream=sys.stderr, format="%(levelname)s %(name)s: %(message)s", level=logging.ERROR, force=True
    )
    logging.getLogger("edge_app").setLevel(level.upper())
    for handler in logging.getLogger().handlers:
        handler.addFilter(_without_values)
    logging.raiseExceptions = False  # else a faulty log call prints its arguments
    warnings.simplefilter("ignore")  # pydicom's quote values


def _without_values(record: logging.LogRecord) -> bool:
    """Of libraries, some with levels of their own, only that and where they failed; of exceptions, see `where`."""
    if not record.name.startswith("edge_app"):
        if record.levelno < logging.ERROR:
            return False
        record.msg, record.args = f"an error at {record.filename}:{record.lineno}", None
    if record.exc_info and record.exc_info[1] is not None:
        record.msg, record.args = f"{record.getMessage()}: {where(record.exc_info[1])}", None
    record.exc_info = record.exc_text = record.stack_info = None
    return True


def where(error: BaseException) -> str:
    """`ZeroDivisionError at store.py:123`: what may be told of an exception."""
    frames = traceback.extract_tb(error.__traceback__)
    place = f" at {frames[-1].filename.rpartition('/')[2]}:{frames[-1].lineno}" if frames else ""
    return f"{type(error).__name__}{place}"
