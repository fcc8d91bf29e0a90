"""Memory in pages of 2 MB for processes that run a model (Linux, glibc 2.35): they must ask for it before they start.

Weights, tables and activations take up tens of megabytes: with fewer pages an inference is a few percent shorter
(docs/performance.md). Imports nothing large, so that starting a process again costs little.
"""

import os
import sys

__all__ = ["engine_environment", "start_again"]

SETTING = "GLIBC_TUNABLES"


def engine_environment() -> dict[str, str]:
    """The environment for a new process that runs a model: this one's, and such pages. A setting of one's own stays."""
    return {SETTING: "glibc.malloc.hugetlb=1", **os.environ}


def start_again() -> None:
    """Puts the same command with `engine_environment` in this process's place, unless it has a setting already."""
    if sys.platform == "linux" and SETTING not in os.environ:
        sys.stdout.flush()
        os.execve(sys.executable, sys.orig_argv, engine_environment())
