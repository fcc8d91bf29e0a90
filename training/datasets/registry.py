"""The kinds of data that a recipe may name, and how a recipe's file holds them."""

from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from keras_realmnet.errors import DataSetError
from training.datasets.combined import CombinedDataSet
from training.datasets.cross_validation import CrossValidation
from training.datasets.data_set import DataSet
from training.datasets.found.annotated import AnnotatedDataSet
from training.datasets.found.glaucoma import GlaucomaDataSet
from training.datasets.found.lesions import LesionDataSet
from training.datasets.found.own import OwnDataSet
from training.datasets.found.palm import PalmDataSet
from training.datasets.found.psmm import PsmmDataSet
from training.datasets.found.vessels import VesselDataSet
from training.datasets.made.drawn_annotated import DrawnAnnotatedDataSet
from training.datasets.made.phantom import PhantomDataSet
from training.datasets.made.photograph import PhotographDataSet

__all__ = ["DATA_SETS", "data_from_dict", "data_to_dict", "in_folds", "with_folder"]

_DEALT = (OwnDataSet, LesionDataSet, VesselDataSet, GlaucomaDataSet, AnnotatedDataSet)  # where nothing says the sets
_FOUND = (PsmmDataSet, PalmDataSet, *_DEALT)  # on the disk
_MADE = (PhantomDataSet, PhotographDataSet, DrawnAnnotatedDataSet)
_CLASSES: tuple[type[Any], ...] = (*_FOUND, *_MADE, CombinedDataSet, CrossValidation)
DATA_SETS: dict[str, Callable[..., Any]] = {each.kind: each for each in _CLASSES}


def data_to_dict(data: Any) -> dict[str, Any]:
    """JSON-safe: the kind of a data set, and its fields; `data_from_dict` gives equal data back."""

    def plain(value: Any) -> Any:
        if isinstance(value, tuple):
            return tuple(map(plain, value))
        return data_to_dict(value) if isinstance(value, _CLASSES) else deepcopy(value)

    return {"kind": data.kind} | {each.name: plain(getattr(data, each.name)) for each in fields(data)}


def data_from_dict(values: Mapping[str, Any]) -> DataSet:
    def made(value: Any) -> Any:
        if isinstance(value, (list, tuple)):
            return tuple(map(made, value))
        return data_from_dict(value) if isinstance(value, Mapping) and value.get("kind") in DATA_SETS else value

    return DATA_SETS[values["kind"]](**{name: made(value) for name, value in values.items() if name != "kind"})


def with_folder(data: DataSet, folder: str) -> DataSet:
    """`data` in another place; the parts of combined data below it, each where its own folder says.

    Raises DataSetError for data that is made, not found.
    """
    if isinstance(data, CrossValidation):
        return replace(data, of=with_folder(data.of, folder))
    if isinstance(data, CombinedDataSet):
        return replace(data, parts=tuple(_below(part, folder) for part in data.parts))
    if not isinstance(data, _FOUND):
        raise DataSetError(f"{data.kind} data is made, not found: it takes no --data {folder}")
    return replace(data, folder=str(folder))


def _below(part: DataSet, folder: str) -> DataSet:
    if isinstance(part, CrossValidation):
        return replace(part, of=_below(part.of, folder))
    if isinstance(part, _FOUND):
        return replace(part, folder=str(Path(folder) / (part.folder or "")))
    return with_folder(part, folder) if isinstance(part, CombinedDataSet) else part


def in_folds(data: DataSet, fold: tuple[int, int] | None) -> DataSet:
    """`data` for cross-validation: fold (k, n) is tested, all others train; None: all train.

    Of one's own and of lesion, vessel, glaucoma and annotated data all pictures take part, where nothing says their
    sets; of any other data the training split. Of combined data that is so part by part: those that are cross-validated
    already, and those that hold pictures out; the others stay as they are.

    Raises ValueError: a fold that there is not, or combined data of which no part could be cut.
    """
    if isinstance(data, CrossValidation):
        return replace(data, fold=fold)
    if isinstance(data, _DEALT) and not data.has_sets:
        return CrossValidation(replace(data, held_out=0.0), fold)
    if not isinstance(data, CombinedDataSet):
        return CrossValidation(data, fold)
    cut = [isinstance(part, CrossValidation) or (isinstance(part, _DEALT) and part.held_out) for part in data.parts]
    if not any(cut):
        raise ValueError(f"no part of the data {data.name!r} holds pictures out, so none could be cut into folds")
    return replace(
        data,
        parts=tuple(in_folds(part, fold) if each else part for each, part in zip(cut, data.parts, strict=True)),
    )
