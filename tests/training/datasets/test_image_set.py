from dataclasses import replace

import numpy as np
import pytest

from keras_realmnet.errors import DataSetError
from keras_realmnet.tasks.vocabulary import PSMM
from training.data.label_table import concatenate
from training.datasets.image_set import ImageSet


def test_a_set_follows_its_resampled_table():
    data = ImageSet(
        pixels=np.arange(5 * 4 * 4 * 3, dtype=np.uint8).reshape(5, 4, 4, 3),
        labels=np.array([[1, 0, 0, 1, 0, 0, 0], [1, 0, 0, 0, 1, 0, 0], [0, 1, 0, 0, 0, 1, 0]], np.float32),
        names=("a_1.jpg", "a_2.jpg", "b_1.jpg"),
        patients=("a", "a", "b"),
        label_set=PSMM,
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
    unknown = replace(data, labels=np.full_like(data.labels, np.nan))
    with pytest.raises(DataSetError, match="cannot be resampled"):
        unknown.table()
