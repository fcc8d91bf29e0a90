from dataclasses import replace

import numpy as np
import pytest

from keras_realmnet.tasks.task import PROBABILITIES
from tests.training.tasks.vocabularies import DISC, LANDMARKS, task
from training.datasets.found.palm import PalmDataSet
from training.datasets.image_set import ImageSet
from training.input.augment_workers import AugmentedImages, WorkerPool
from training.input.augmentation import Augmentation
from training.input.input_pipeline import TrainingBatches
from training.tasks.motion import IGNORE

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
    return ImageSet(
        pixels, {PROBABILITIES: labels}, names, names, PalmDataSet().task, "0" * 64, rows=rng.permutation(20)[:18]
    )


def test_worker_processes_change_nothing(data):
    source = AugmentedImages.of(data, SIZE, Augmentation(), seed=3)
    pool = WorkerPool(source, processes=2)
    try:
        for epoch, chosen in ((0, np.array([4, 0, 17])), (2, np.array([5]))):
            images, moved = pool.batch(epoch, chosen)
            np.testing.assert_array_equal(images, source.batch(epoch, chosen)[0])
            assert moved == {}
            assert images.shape == (len(chosen), SIZE, SIZE, 3)
    finally:
        pool.close()
    plain = AugmentedImages.of(data, 32, Augmentation.none(), seed=3)
    np.testing.assert_array_equal(plain.batch(0, range(18))[0], data.images)


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


def test_masks_and_points_move_with_their_image(tmp_path):
    """Whoever computes it, at whatever size."""
    rng = np.random.default_rng(1)
    rows, columns = np.mgrid[:32, :32]
    places = rng.uniform(10, 22, (6, 2))
    inside = np.stack([np.hypot(columns - x, rows - y) <= 5 for x, y in places])
    pixels = np.repeat((40 + 200 * inside)[..., None], 3, axis=-1).astype(np.uint8)
    np.save(tmp_path / "masks.npy", inside.astype(np.uint8))
    masks = {"disc": np.load(tmp_path / "masks.npy", mmap_mode="r")}
    order = np.array([3, 1, 5, 0])
    points = np.concatenate([(places[order] + 0.5) / 32, np.ones((4, 1))], axis=1).astype(np.float32)
    truth = {"marks": np.stack([points, np.full_like(points, np.nan)], axis=1)}
    names = tuple("abcd")
    data = ImageSet(pixels, truth, names, names, task(disc=DISC, marks=LANDMARKS), "", rows=order, masks=masks)
    settings = replace(Augmentation.none(), affine=0.8, horizontal_flip=0.5, vertical_flip=0.5, blur=0.5)
    source = AugmentedImages.of(data, SIZE, settings, seed=3)
    pool = WorkerPool(source, processes=1)
    try:
        for epoch in range(4):
            images, moved = source.batch(epoch, range(4))
            theirs = pool.batch(epoch, np.arange(4))
            np.testing.assert_array_equal(images, theirs[0])
            for name in ("disc", "marks"):
                np.testing.assert_array_equal(moved[name], theirs[1][name])
            for image, mask, (point, unknown) in zip(images, moved["disc"], moved["marks"], strict=True):
                known = mask != IGNORE
                assert ((image[..., 0] > 140) == (mask == 1))[known].mean() > 0.95
                y, x = (at.mean() for at in np.nonzero(mask == 1))
                np.testing.assert_allclose(point[:2] * SIZE - 0.5, [x, y], atol=0.75)
                assert np.isnan(unknown).all()
    finally:
        pool.close()
    with pytest.raises(ValueError, match=r"masks \(disc\) cannot be mixed"):
        TrainingBatches(data, SIZE, 2, replace(settings, cutmix=0.3), seed=1, named=True)
    with pytest.raises(ValueError, match="without named outputs has one"):
        TrainingBatches(data, SIZE, 2, settings, seed=1)
    _, y = TrainingBatches(data, SIZE, 2, settings, seed=1, named=True)[0]
    assert {name: values.shape for name, values in y.items()} == {"disc": (2, SIZE, SIZE), "marks": (2, 2, 3)}
