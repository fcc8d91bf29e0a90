import numpy as np
import pytest

from keras_realmnet.tasks.vocabulary import PALM
from training.datasets.image_set import ImageSet
from training.input.augment_workers import AugmentedImages, WorkerPool
from training.input.augmentation import Augmentation
from training.input.input_pipeline import TrainingBatches

SIZE = 24


@pytest.fixture(scope="module", params=["memory", "mapped file"])
def data(request, tmp_path_factory) -> ImageSet:
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (20, 32, 32, 3)).astype(np.uint8)
    if request.param == "mapped file":
        path = tmp_path_factory.mktemp("cache") / "images.npy"
        np.save(path, pixels)
        pixels = np.load(path, mmap_mode="r")
    names = tuple(map(str, range(18)))
    labels = np.eye(3, dtype=np.float32)[np.arange(18) % 3]
    return ImageSet(pixels, labels, names, names, PALM, "0" * 64, rows=rng.permutation(20)[:18])


def test_worker_processes_change_nothing(data):
    source = AugmentedImages.of(data, SIZE, Augmentation(), seed=3)
    pool = WorkerPool(source, processes=2)
    try:
        for epoch, chosen in ((0, np.array([4, 0, 17])), (2, np.array([5]))):
            images = pool.batch(epoch, chosen)
            np.testing.assert_array_equal(images, source.batch(epoch, chosen))
            assert images.shape == (len(chosen), SIZE, SIZE, 3)
    finally:
        pool.close()
    plain = AugmentedImages.of(data, 32, Augmentation.none(), seed=3)
    np.testing.assert_array_equal(plain.batch(0, range(18)), data.images)


def test_batches_from_processes_are_those_from_threads(data):
    arguments = {"size": SIZE, "batch_size": 6, "augmentation": Augmentation(), "seed": 1}
    threads, processes = TrainingBatches(data, **arguments), TrainingBatches(data, **arguments, processes=2)
    try:
        assert len(processes) == 3
        for mine, theirs in zip(threads[1], processes[1], strict=True):
            np.testing.assert_array_equal(mine, theirs)
    finally:
        processes.close()
    assert len(TrainingBatches(data, **arguments, batches=2)) == 2
