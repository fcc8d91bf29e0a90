import hashlib
import json
import multiprocessing
import os
import signal
import time

import numpy as np
import pytest

from keras_realmnet.tasks.task import PROBABILITIES
from tests.training.datasets.drawn import SPEC
from training.datasets.cache import CHUNK, cached_images
from training.datasets.combined import CombinedDataSet
from training.datasets.found.palm import PalmDataSet
from training.datasets.made.photograph import PhotographDataSet
from training.datasets.prepared import Prepared

SPAWN = multiprocessing.get_context("spawn")


def prepare_number(source: int) -> Prepared:
    if source < 0:
        raise RuntimeError("interrupted")
    return Prepared(np.full((32, 32, 3), source % 251, np.uint8))


def prepare_slowly(source: int) -> Prepared:
    time.sleep(0.05)
    return prepare_number(source)


def prepared(sources, cache, identity="x", prepare=prepare_number):
    names = tuple(map(str, range(len(sources))))
    return cached_images(
        "numbers",
        prepare,
        sources,
        identity={"what": identity},
        task=PalmDataSet().task,
        truth={PROBABILITIES: np.zeros((len(sources), 3), np.float32)},
        names=names,
        patients=names,
        spec=SPEC,
        cache=cache,
    )


def test_the_cache_is_made_once_and_resumes_by_chunk(tmp_path, monkeypatch):
    monkeypatch.setattr("os.cpu_count", lambda: 1)  # in this process
    sources = list(range(2 * CHUNK + 3))
    broken = [*sources]
    broken[CHUNK] = -1
    with pytest.raises(RuntimeError, match="interrupted"):
        prepared(broken, tmp_path)
    folder = next(tmp_path.iterdir())
    np.testing.assert_array_equal(np.load(folder / "done.npy"), [1, 0, 0])
    assert not (folder / "complete.json").exists()

    only_the_rest = [*([-1] * CHUNK), *sources[CHUNK:]]  # the first chunk must not be asked for again
    resumed = prepared(only_the_rest, tmp_path)
    np.testing.assert_array_equal(resumed.images[:, 0, 0, 0], sources)
    facts = json.loads((folder / "complete.json").read_text())
    assert facts["spec_hash"] == SPEC.hash
    assert prepared([-1] * len(sources), tmp_path).sha256 == resumed.sha256  # complete: nothing is prepared
    assert len(list(tmp_path.iterdir())) == 1
    prepared(sources[:1], tmp_path, identity="y")
    assert len(list(tmp_path.iterdir())) == 2  # other data, other folder


def load_drawn(cache, together, results):
    """Pixels, masks and points of two data sets and of both as one, into the cache when all are ready."""
    parts = [PhotographDataSet(train_eyes=8, validation_eyes=0, test_eyes=0, width=64, seed=seed) for seed in (1, 2)]
    drawn = CombinedDataSet("drawn", parts)
    together.wait()
    images = drawn.load("train", SPEC, cache)
    results.put(hashlib.sha256(images.pixels.tobytes() + images.masks["disc"].tobytes()).hexdigest() + images.sha256)


def test_processes_that_need_the_same_at_once(tmp_path, capfd):
    def loaded(processes, cache):
        together, results = SPAWN.Barrier(processes), SPAWN.SimpleQueue()
        started = [SPAWN.Process(target=load_drawn, args=(cache, together, results)) for _ in range(processes)]
        for process in started:
            process.start()
        for process in started:
            process.join()
        assert [process.exitcode for process in started] == [0] * processes, capfd.readouterr().err
        return {results.get() for _ in started}, capfd.readouterr().err

    alone, said = loaded(1, tmp_path / "alone")
    assert "waiting" not in said
    both, said = loaded(2, tmp_path / "both")
    assert both == alone
    assert f"waiting: another process is writing to {tmp_path / 'both' / 'photograph-train-32'}" in said

    def files(cache):
        return {path.relative_to(cache): path.read_bytes() for path in cache.rglob("*") if path.is_file()}

    assert files(tmp_path / "both") == files(tmp_path / "alone")


def test_a_process_goes_on_where_a_killed_one_ended(tmp_path, capfd):
    sources = list(range(3 * CHUNK))
    killed = SPAWN.Process(target=prepared, args=(sources, tmp_path, "x", prepare_slowly))
    only_the_rest = [*([-1] * CHUNK), *sources[CHUNK:]]
    waiting = SPAWN.Process(target=prepared, args=(only_the_rest, tmp_path))
    killed.start()
    try:
        while not any(np.load(done).any() for done in tmp_path.glob("*/done.npy") if done.stat().st_size > 128):
            assert killed.is_alive()
            time.sleep(0.02)
        os.kill(killed.pid, signal.SIGSTOP)  # it is in the middle, and stays there
        waiting.start()
        while "waiting: another process" not in capfd.readouterr().err:
            assert waiting.is_alive()
            time.sleep(0.02)
    finally:
        killed.kill()
    waiting.join()
    assert waiting.exitcode == 0
    found = prepared([-1] * len(sources), tmp_path)  # complete
    np.testing.assert_array_equal(found.images[:, 0, 0, 0], sources)
    assert found.sha256 == prepared(sources, tmp_path / "alone").sha256
