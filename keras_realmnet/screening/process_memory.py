"""How a process that runs a model gets its memory (glibc; pages: Linux, glibc 2.35): it must ask before it starts.

In pages of 2 MB, since weights, tables and activations take up tens of megabytes; and what a picture took is kept for
the next one, since the kernel clears every page that it gives. An inference is a few percent shorter so, and decoding a
picture a fifth (docs/performance.md). Imports nothing large, so that starting a process again costs little.
"""

import os
import sys

__all__ = ["engine_environment", "start_again"]

VARIABLE = "GLIBC_TUNABLES"
SETTINGS = {
    "hugetlb": 1,  # pages of 2 MB where the kernel gives them on request
    "mmap_threshold": 32 << 20,  # bytes, the largest there may be: what is smaller can be kept
    "trim_threshold": 64 << 20,  # bytes that are kept
}


def engine_environment() -> dict[str, str]:
    """The environment for a new process that runs a model: this one's with SETTINGS, unless it has its own."""
    settings = ":".join(f"glibc.malloc.{name}={value}" for name, value in SETTINGS.items())
    return {VARIABLE: settings, **os.environ}


def start_again() -> None:
    """Puts the same command with `engine_environment` in this process's place, unless it has a setting already."""
    if sys.platform == "linux" and VARIABLE not in os.environ:
        sys.stdout.flush()
        os.execve(sys.executable, sys.orig_argv, engine_environment())
