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
    logging.raiseExceptions = False  # else a faulty log call prints its arguments
    warnings.simplefilter("ignore")  # pydicom's quote values


def where(error: BaseException) -> str:
    """`ZeroDivisionError at store.py:123`: what may be told of an exception."""
    frames = traceback.extract_tb(error.__traceback__)
    place = f" at {frames[-1].filename.rpartition('/')[2]}:{frames[-1].lineno}" if frames else ""
    return f"{type(error).__name__}{place}"
