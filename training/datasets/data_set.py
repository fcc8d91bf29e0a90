"""What every data set offers: a small frozen description whose `load` gives one of its splits."""

from pathlib import Path
from typing import ClassVar, Protocol

from keras_realmnet.screening.preprocessing import PreprocessSpec
from keras_realmnet.tasks.vocabulary import LabelSet
from training.datasets.image_set import ImageSet

__all__ = ["SPLITS", "DataSet", "check_split"]

SPLITS = ("train", "validation", "test")


class DataSet(Protocol):
    """What a recipe needs of its data."""

    kind: ClassVar[str]
    modality: ClassVar[str]

    @property
    def label_set(self) -> LabelSet: ...

    def describe(self) -> str:
        """One sentence for the bundle: what the model learned from."""

    def load(self, split: str, spec: PreprocessSpec, cache: Path) -> ImageSet | None:
        """A split of `SPLITS`, prepared under `cache` unless it already is; None where there is no such split.

        Raises DataSetError.
        """


def check_split(split: str) -> None:
    """Raises ValueError for a split that is none of `SPLITS`."""
    if split not in SPLITS:
        raise ValueError(f"split must be one of {', '.join(SPLITS)}. Received: {split!r}")
