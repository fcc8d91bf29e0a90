import pytest

from keras_realmnet.errors import DataSetError
from training.datasets.palm import PalmDataSet
from training.datasets.phantom import PhantomDataSet
from training.datasets.registry import DATA_SETS, with_folder


def test_each_kind_names_its_class():
    assert sorted(DATA_SETS) == ["palm", "phantom", "psmm"]
    assert all(DATA_SETS[kind].kind == kind for kind in DATA_SETS)


def test_data_in_another_place():
    assert with_folder(PalmDataSet("/here"), "/there") == PalmDataSet("/there")
    with pytest.raises(DataSetError, match="phantom data is made, not found: it takes no --data /x"):
        with_folder(PhantomDataSet(), "/x")
