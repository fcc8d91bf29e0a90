"""Arrays that several threads read at once."""

import gc
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from keras_realmnet.screening.arrays import ArrayArchive


@pytest.fixture
def restless():
    """Threads take turns as often as they can, also while Python's parser makes objects."""

    def other_thread_may_run(*_):
        sum(range(50))

    interval, thresholds = sys.getswitchinterval(), gc.get_threshold()
    gc.callbacks.append(other_thread_may_run)
    sys.setswitchinterval(1e-6)
    gc.set_threshold(50)
    yield
    gc.set_threshold(*thresholds)
    sys.setswitchinterval(interval)
    gc.callbacks.remove(other_thread_may_run)


def test_threads_read_at_once(tmp_path, restless):
    """CPython 3.11's parser, which NumPy reads headers by, fails where two threads are in it at different depths."""
    values = np.arange(245, dtype="float16").reshape(7, 7, 5)
    np.savez(tmp_path / "values.npz", values=values)
    start = threading.Barrier(4)

    def read(depth):
        if depth:
            return read(depth - 1)
        start.wait()
        for _ in range(100):
            with ArrayArchive(tmp_path / "values.npz") as archive:
                np.testing.assert_array_equal(archive.read("values", "float16", (7, 7, 5)), values)
        return True

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(read, (0, 60, 120, 180)))
