"""Freed memory is kept: filling a large array again costs no page faults."""

import os
import subprocess
import sys

import pytest

FILL = """
import resource, sys
import numpy as np
from training.memory import keep_freed_memory
if sys.argv[1] == "keep" and not keep_freed_memory():
    sys.exit(3)
def fill():
    for _ in range(3):  # as in a step, several live at once
        [np.full(3_000_000 + 500_000 * k, 1.0, np.float32) for k in range(4)]
fill()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
fill()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(mode: str, **variables: str) -> int:
    # NumPy asks for large pages by itself, which hide most faults.
    environment = {**os.environ, "NUMPY_MADVISE_HUGEPAGE": "0", **variables}
    done = subprocess.run(
        [sys.executable, "-c", FILL, mode], env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode == 3:
        pytest.skip("the C library is not glibc, or the environment sets its allocator")
    assert done.returncode == 0, done.stderr
    return int(done.stdout)


def test_what_was_freed_is_filled_again_without_page_faults():
    assert faults("keep") < 0.1 * faults("plain")


def test_somebody_s_own_setting_stays(monkeypatch):
    from training.memory import keep_freed_memory

    for name in ("MALLOC_ARENA_MAX", "GLIBC_TUNABLES"):
        monkeypatch.setenv(name, "glibc.malloc.hugetlb=0" if name == "GLIBC_TUNABLES" else "2")
        assert not keep_freed_memory()
        monkeypatch.delenv(name)
