"""Logs without patient data: what happened to which item, by its number. Messages of exceptions stay out of them.

The message of an exception may quote a file name, a DICOM value or a path; its kind and the lines it came through may
not. That holds for libraries, too, and for exceptions that nobody caught.
"""

import logging
import sys
import threading
import traceback
import warnings
from typing import Any

__all__ = ["error_place", "set_up"]

FRAMES = 5  # the innermost ones are told


def set_up(level: str) -> None:
    """Log lines go to stderr, for journald or Docker to stamp and keep; libraries speak up only when they fail."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Formatter("%(levelname)s %(name)s: %(message)s"))
    # On the handler: a library that is imported later (pydicom) sets the level of its logger itself.
    handler.addFilter(lambda record: record.name.startswith("edge_app") or record.levelno >= logging.ERROR)
    logging.basicConfig(handlers=[handler], level=logging.ERROR, force=True)
    logging.getLogger("edge_app").setLevel(level.upper())
    logging.raiseExceptions = False  # else a faulty log call prints its arguments
    warnings.simplefilter("ignore")  # pydicom's quote values
    sys.excepthook = lambda kind, error, tb: _uncaught(error)
    threading.excepthook = lambda args: _uncaught(args.exc_value)


def error_place(error: BaseException) -> str:
    """`ZeroDivisionError at worker.py:80 > store.py:123`: what may be told of an exception."""
    frames = traceback.extract_tb(error.__traceback__)[-FRAMES:]
    places = " > ".join(f"{frame.filename.rpartition('/')[2]}:{frame.lineno}" for frame in frames)
    return f"{type(error).__name__}{' at ' if places else ''}{places}"


class _Formatter(logging.Formatter):
    def formatException(self, ei: Any) -> str:  # noqa: N802 (logging's name)
        return error_place(ei[1])


def _uncaught(error: BaseException | None) -> None:
    if error is not None and not isinstance(error, SystemExit):
        logging.getLogger("edge_app").critical("stopped by %s", error_place(error))
