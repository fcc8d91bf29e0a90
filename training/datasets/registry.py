"""The kinds of data that a recipe may name."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from keras_realmnet.errors import DataSetError
from training.datasets.data_set import DataSet
from training.datasets.palm import PalmDataSet
from training.datasets.phantom import PhantomDataSet
from training.datasets.psmm import PsmmDataSet

__all__ = ["DATA_SETS", "with_folder"]

DATA_SETS: dict[str, Callable[..., Any]] = {
    data_set.kind: data_set for data_set in (PsmmDataSet, PhantomDataSet, PalmDataSet)
}


def with_folder(data: DataSet, folder: str) -> DataSet:
    """`data` in another place. Raises DataSetError for data that is made, not found."""
    if not isinstance(data, (PsmmDataSet, PalmDataSet)):
        raise DataSetError(f"{data.kind} data is made, not found: it takes no --data {folder}")
    return replace(data, folder=str(folder))
