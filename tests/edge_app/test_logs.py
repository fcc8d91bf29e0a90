"""No way into the log for what an exception quotes."""

import subprocess
import sys

import pytest

SECRET = "MUELLER-1950"

SCRIPT = """
import logging, sys, threading, warnings
from edge_app import logs
logs.set_up("info")
def fail():
    raise ValueError("no such file: {secret}_OD.jpg")
{action}
"""
CAUGHT = "try:\n    fail()\nexcept ValueError as error:\n    "


@pytest.mark.parametrize(
    ("action", "said"),
    [
        ("fail()", "CRITICAL edge_app: stopped by ValueError at <string>:"),
        ("t = threading.Thread(target=fail); t.start(); t.join()", "stopped by ValueError at threading.py"),
        (CAUGHT + "logging.getLogger('pynetdicom').exception('failed')", "ValueError at <string>"),
        (CAUGHT + "logging.getLogger('edge_app.x').info(logs.error_place(error))", "INFO edge_app.x: ValueError at"),
        ("warnings.warn('{secret}')\nimport pydicom\nlogging.getLogger('pydicom').warning('{secret}')", ""),
        ("logging.getLogger('edge_app').info('%d', '{secret}')", ""),
    ],
)
def test_what_an_exception_quotes_is_not_logged(action, said):
    script = SCRIPT.format(secret=SECRET, action=action.format(secret=SECRET))
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert said in done.stderr
    assert SECRET not in done.stderr + done.stdout
