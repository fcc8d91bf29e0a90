import cv2
import keras
import numpy as np
import pytest

from keras_realmnet.tasks.task import PROBABILITIES
from training.datasets.found.palm import PalmDataSet
from training.datasets.image_set import ImageSet
from training.input.augmentation import Augmentation
from training.input.input_pipeline import EvaluationBatches, TrainingBatches, resize_square

SIZE = 16


@pytest.fixture(scope="module")
def data() -> ImageSet:
    rng = np.random.default_rng(0)
    names = tuple(f"{k}.png" for k in range(22))
    labels = np.eye(3, dtype=np.float32)[rng.integers(0, 3, 22)]
    return ImageSet(
        rng.integers(0, 256, (22, SIZE, SIZE, 3)).astype(np.uint8),
        {PROBABILITIES: labels},
        names,
        names,
        PalmDataSet().task,
        "0" * 64,
    )


def batches(data, **settings) -> TrainingBatches:
    arguments = {"size": SIZE, "batch_size": 4, "augmentation": Augmentation(), "seed": 7, **settings}
    return TrainingBatches(data, **arguments)


def test_a_batch_depends_on_seed_epoch_and_index_alone(data):
    first = batches(data)
    first[3], first[0]  # what was asked for before does not matter
    for settings in ({}, {"workers": 3}):
        for mine, other in zip(first[2], batches(data, **settings)[2], strict=True):
            np.testing.assert_array_equal(mine, other)
    for settings in ({"seed": 8}, {"epoch": 1}):
        assert (first[2][0] != batches(data, **settings)[2][0]).any()


def test_batches_are_those_of_the_code_before_there_were_masks_and_points(goldens):
    """Arrays saved when a batch was images and labels alone: the same order, draws and mixtures, byte by byte."""
    expected, rng = np.load(goldens / "augmentation.npz"), np.random.default_rng(0)
    names = tuple(f"{k}.png" for k in range(22))
    labels = np.eye(3, dtype=np.float32)[rng.integers(0, 3, 22)]
    pixels = rng.integers(0, 256, (22, 20, 20, 3)).astype(np.uint8)
    data = ImageSet(pixels, {PROBABILITIES: labels}, names, names, PalmDataSet().task, "0" * 64)
    for named in (False, True):
        sequence = batches(data, size=20, epoch=2, named=named)
        for k in range(5):
            images, truth = sequence[k]
            np.testing.assert_array_equal(images, expected["batch_images"][k])
            np.testing.assert_array_equal(truth[PROBABILITIES] if named else truth, expected["batch_labels"][k])


def test_keras_moves_on_to_the_next_epoch(data):
    sequence = batches(data)
    sequence.on_epoch_end()
    np.testing.assert_array_equal(sequence[1][0], batches(data, epoch=1)[1][0])


def test_an_epoch_shows_each_image_at_most_once(data):
    plain = batches(data, augmentation=Augmentation.none())
    assert len(plain) == 5  # 22 images, the incomplete batch left out
    shown = np.concatenate([plain[k][0] for k in range(len(plain))]).astype(np.uint8)
    matches = (shown[:, None] == data.images[None]).all(axis=(2, 3, 4))
    assert (matches.sum(axis=1) == 1).all()
    assert matches.sum(axis=0).max() == 1
    labels = np.concatenate([plain[k][1] for k in range(len(plain))])
    np.testing.assert_array_equal(labels, data.labels[matches.argmax(axis=1)])


def trained_weights(data, workers, epochs=(0, 2)):
    keras.utils.set_random_seed(1)
    model = keras.Sequential([keras.Input((SIZE, SIZE, 3)), keras.layers.Flatten(), keras.layers.Dense(3)])
    model.compile(keras.optimizers.SGD(1e-6), "mse")
    for start in range(*epochs):
        model.fit(batches(data, workers=workers, epoch=start), epochs=1, shuffle=False, verbose=0)
    return model.get_weights()


def test_keras_sees_the_same_order_whatever_the_number_of_workers(data):
    keras.utils.set_random_seed(1)
    model = keras.Sequential([keras.Input((SIZE, SIZE, 3)), keras.layers.Flatten(), keras.layers.Dense(3)])
    model.compile(keras.optimizers.SGD(1e-6), "mse")
    model.fit(batches(data, workers=3), epochs=2, shuffle=False, verbose=0)  # two epochs of one sequence
    one_by_one = trained_weights(data, workers=1)  # each epoch its own sequence
    for a, b in zip(model.get_weights(), one_by_one, strict=True):
        np.testing.assert_array_equal(a, b)


def test_evaluation_shows_everything_in_order(data):
    sequence = EvaluationBatches(data, SIZE, 4)
    assert len(sequence) == 6
    np.testing.assert_array_equal(np.concatenate([sequence[k][0] for k in range(6)]), data.images)


def test_a_batch_larger_than_the_data_is_refused(data):
    with pytest.raises(ValueError, match="at most the number of images, 22"):
        batches(data, batch_size=23)


def test_resizing_averages_when_it_shrinks(data):
    image = data.images[0]
    assert resize_square(image, SIZE) is image
    small = resize_square(image, SIZE // 2)
    mean = image.reshape(SIZE // 2, 2, SIZE // 2, 2, 3).mean(axis=(1, 3))
    assert abs(small - mean).max() <= 1
    np.testing.assert_array_equal(resize_square(image, 32), cv2.resize(image, (32, 32)))
