import numpy as np
import pytest

from keras_realmnet.errors import DataSetError
from tests.training.datasets.drawn import SPEC
from training.datasets.cross_validation import CrossValidation
from training.datasets.made.phantom import PhantomDataSet
from training.datasets.made.photograph import PhotographDataSet

PHANTOMS = PhantomDataSet(train_patients=6, validation_patients=3, test_patients=0, width=96)


def test_each_image_is_held_out_once(tmp_path):
    whole = PHANTOMS.load("train", SPEC, tmp_path)
    held_out = []
    for k in (1, 2, 3):
        data = CrossValidation(PHANTOMS, (k, 3))
        train, test = (data.load(split, SPEC, tmp_path) for split in ("train", "test"))
        assert data.load("validation", SPEC, tmp_path) is None
        assert not set(train.patients) & set(test.patients)
        assert len(set(test.patients)) == 2
        assert sorted((*train.names, *test.names)) == sorted(whole.names)
        row = whole.names.index(test.names[0])
        np.testing.assert_array_equal(test.image(0), whole.image(row))
        np.testing.assert_array_equal(test.labels[0], whole.labels[row])
        held_out += test.names
    assert sorted(held_out) == sorted(whole.names)
    assert CrossValidation(PHANTOMS, (1, 3), seed=1).load("test", SPEC, tmp_path).patients != test.patients


def test_a_fold_that_validates_too(tmp_path):
    data = CrossValidation(PHANTOMS, (1, 3), validates=True)
    train, validation, test = (data.load(split, SPEC, tmp_path) for split in ("train", "validation", "test"))
    assert (validation.sha256, validation.names) == (test.sha256, test.names)
    assert not set(train.patients) & set(test.patients)
    assert CrossValidation(PHANTOMS, None, validates=True).load("validation", SPEC, tmp_path) is None
    with pytest.raises(ValueError, match=r"validates must be True or False\. Received: 1"):
        CrossValidation(PHANTOMS, validates=1)


def test_a_share_of_the_other_patients_validates(tmp_path):
    whole = PHANTOMS.load("train", SPEC, tmp_path)
    for k in (1, 2, 3):
        data = CrossValidation(PHANTOMS, (k, 3), validation_share=0.25)
        train, validation, test = (data.load(split, SPEC, tmp_path) for split in ("train", "validation", "test"))
        assert [len(set(images.patients)) for images in (train, validation, test)] == [3, 1, 2]
        assert sorted((*train.names, *validation.names, *test.names)) == sorted(whole.names)
        assert test.sha256 == CrossValidation(PHANTOMS, (k, 3)).load("test", SPEC, tmp_path).sha256
    everything = CrossValidation(PHANTOMS, None, validation_share=0.25)
    assert everything.load("train", SPEC, tmp_path).sha256 == whole.sha256
    assert everything.load("validation", SPEC, tmp_path) is None
    with pytest.raises(ValueError, match="validation_share"):
        CrossValidation(PHANTOMS, (1, 3), validation_share=0.5)
    with pytest.raises(ValueError, match="either the fold validates or a share of the others, not both"):
        CrossValidation(PHANTOMS, (1, 3), validates=True, validation_share=0.25)


def test_another_part_and_data_without_labels(tmp_path):
    (three,) = {len(set(CrossValidation(PHANTOMS, (1, 3), "validation").load("train", SPEC, tmp_path).patients))} - {0}
    assert three == 2
    drawn = PhotographDataSet(4, 0, 0, width=96)
    sets = [CrossValidation(drawn, (2, 2)).load(split, SPEC, tmp_path) for split in ("train", "test")]
    assert [len(images) for images in sets] == [2, 2]
    assert sets[0].masks["disc"].shape == (4, 32, 32)
    with pytest.raises(DataSetError, match="photograph data has no test split that could be cut into folds"):
        CrossValidation(drawn, (1, 2), "test").load("train", SPEC, tmp_path)
    with pytest.raises(DataSetError, match="5 folds need at least 5 patients"):
        CrossValidation(drawn, (1, 5)).load("train", SPEC, tmp_path)


def test_it_says_what_it_holds_out():
    assert CrossValidation(PHANTOMS, (2, 5)).describe().startswith("all but fold 2 of 5 of the train split of: 6 synth")


@pytest.mark.parametrize("fold", [(0, 5), (6, 5), (1, 1), (1, 2, 3), (1.5, 2)])
def test_a_fold_that_there_is_not(fold):
    with pytest.raises(ValueError, match=r"fold must be \(k, n\), k from 1 to n, n at least 2. Received: "):
        CrossValidation(PHANTOMS, fold)
