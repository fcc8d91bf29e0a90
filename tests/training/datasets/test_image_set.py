from dataclasses import replace

import numpy as np
import pytest

from keras_realmnet.errors import DataSetError
from keras_realmnet.tasks.task import PROBABILITIES
from tests.training.tasks.vocabularies import DISC, SEVERITY, task
from training.data.label_table import concatenate
from training.datasets.image_set import ImageSet
from training.datasets.made.phantom import PhantomDataSet


def test_a_set_follows_its_resampled_table():
    data = ImageSet(
        pixels=np.arange(5 * 4 * 4 * 3, dtype=np.uint8).reshape(5, 4, 4, 3),
        truth={
            PROBABILITIES: np.array(
                [[1, 0, 0, 1, 0, 0, 0], [1, 0, 0, 0, 1, 0, 0], [0, 1, 0, 0, 0, 1, 0]],
                np.float32,
            )
        },
        names=("a_1.jpg", "a_2.jpg", "b_1.jpg"),
        patients=("a", "a", "b"),
        task=PhantomDataSet().task,
        sha256="of the pixels, labels and names",
        rows=np.array([4, 0, 2]),
    )
    table = data.table()
    twice = data.like(concatenate([table.take([2, 0]), table.take([2])]))
    assert twice.names == tuple(data.names[k] for k in (2, 0, 2))
    np.testing.assert_array_equal(twice.images, data.images[[2, 0, 2]])
    np.testing.assert_array_equal(twice.image(0), data.pixels[2])
    relabelled = data.like(replace(table, labels=1 - table.labels))
    np.testing.assert_array_equal(relabelled.labels, 1 - data.labels)
    assert len({data.sha256, twice.sha256, relabelled.sha256}) == 3
    unknown = replace(data, truth={PROBABILITIES: np.full_like(data.labels, np.nan)})
    with pytest.raises(DataSetError, match="cannot be resampled"):
        unknown.table()


def test_a_set_has_the_truth_of_its_task():
    pixels, names = np.zeros((2, 8, 8, 3), np.uint8), ("a", "b")
    truth = {"dr": np.eye(3, dtype=np.float32)[:2]}
    masks = {"disc": np.zeros((2, 8, 8), np.uint8)}
    data = ImageSet(pixels, truth, names, names, task(dr=SEVERITY, disc=DISC), "", masks=masks)
    assert (data.classified, data.label_set) == ("dr", SEVERITY.labels)
    np.testing.assert_array_equal(data.table().labels, truth["dr"])
    with pytest.raises(DataSetError, match="no labels or grades"):
        _ = ImageSet(pixels, {}, names, names, task(disc=DISC), "", masks=masks).labels
    for change, message in (
        ({"masks": {}}, "'disc' must have 2 rows. Received: none"),
        ({"truth": {"dr": truth["dr"][:1]}}, "'dr' must have 2 rows. Received: 1"),
        ({"truth": {**truth, "x": truth["dr"]}}, "has the truth dr, disc. Received: x"),
        ({"truth": {"dr": truth["dr"] + 1}}, "the truth of 'dr' must lie in 0 to 1"),
    ):
        with pytest.raises(ValueError, match=message):
            replace(data, **change)
