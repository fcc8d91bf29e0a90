import json

import numpy as np
import pytest

from keras_realmnet.tasks.task import PROBABILITIES
from tests.training.datasets.drawn import SPEC
from training.datasets.cache import CHUNK, cached_images
from training.datasets.palm import PalmDataSet
from training.datasets.prepared import Prepared


def prepare_number(source: int) -> Prepared:
    if source < 0:
        raise RuntimeError("interrupted")
    return Prepared(np.full((32, 32, 3), source % 251, np.uint8))


def prepared(sources, cache, identity="x"):
    names = tuple(map(str, range(len(sources))))
    return cached_images(
        "numbers",
        prepare_number,
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
