"""Logs tell what happened and where, never what a message quotes."""

import re
import subprocess
import sys

import pytest

from edge_app.logs import where

SCRIPT = """
import logging
from edge_app import logs
logs.set_up("debug")
library = logging.getLogger("library")
library.setLevel("DEBUG")  # as pydicom does
library.warning("value CANARY")
library.error("value %s", "CANARY")
ours = logging.getLogger("edge_app.part")
ours.debug("item %d", 7)
try:
    int("CANARY")
except ValueError:
    ours.warning("failed", exc_info=True)
    library.exception("CANARY")
ours.info("one argument too few %s %s", "CANARY")
"""


def test_messages_of_libraries_and_exceptions_stay_out():
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True)
    lines = done.stderr.splitlines()
    assert "CANARY" not in done.stdout + done.stderr
    assert lines[0] == "ERROR library: an error at <string>:8"
    assert lines[1] == "DEBUG edge_app.part: item 7"
    assert lines[2] == "WARNING edge_app.part: failed: ValueError at <string>:12"
    assert lines[3] == "ERROR library: an error at <string>:15: ValueError at <string>:12"


def test_an_exception_is_told_by_kind_and_place():
    with pytest.raises(ValueError, match="CANARY") as caught:
        int("CANARY")
    assert re.fullmatch(r"ValueError at test_logs\.py:\d+", where(caught.value))
    assert where(KeyError("CANARY")) == "KeyError"
