"""What every data set offers: a small frozen description whose `load` gives one of its splits."""

from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

from keras_realmnet.screening.preprocessing import PreprocessSpec
from keras_realmnet.tasks.outputs import Labels
from keras_realmnet.tasks.rules import NoReferral
from keras_realmnet.tasks.task import PROBABILITIES, Task
from keras_realmnet.tasks.vocabulary import LabelSet
from training.data.splits import deal_patients
from training.datasets.image_set import ImageSet

__all__ = ["SPLITS", "DataSet", "check_split", "sets_of", "task_of_labels"]

SPLITS = ("train", "validation", "test")


class DataSet(Protocol):
    """What a recipe needs of its data."""

    kind: ClassVar[str]

    @property
    def task(self) -> Task:
        """What is known of the images: their modality, and the outputs that have a truth.

        The rule is the one that follows from the data alone, `NoReferral()` where none does: thresholds of labels are
        chosen when the trained network is evaluated. Raises DataSetError where a file is needed that is not there.
        """

    def describe(self) -> str:
        """One sentence for the bundle: what the model learned from."""

    def load(self, split: str, spec: PreprocessSpec, cache: Path) -> ImageSet | None:
        """A split of `SPLITS`, prepared under `cache` unless it already is; None where there is no such split.

        Raises DataSetError.
        """


def task_of_labels(label_set: LabelSet, modality: str) -> Task:
    """Images of which labels are known, and nothing else."""
    return Task(label_set.name, modality, {PROBABILITIES: Labels(label_set)}, NoReferral())


def check_split(split: str) -> None:
    """Raises ValueError for a split that is none of `SPLITS`."""
    if split not in SPLITS:
        raise ValueError(f"split must be one of {', '.join(SPLITS)}. Received: {split!r}")


def sets_of(images: ImageSet, given: Sequence[str | None] | None, held_out: float, seed: int) -> NDArray[np.str_]:
    """The set of each picture, (n,); an empty word where it is in none.

    Args:
        given: what the data itself says of each picture; None: it says nothing.
        held_out: the share of the patients that is then dealt to validation and test by `seed`, half each.
    """
    if given is not None:
        return np.array([part or "" for part in given], np.str_)
    if held_out == 0:
        return np.full(len(images), "train")
    return deal_patients(images.patients, images.spread_by, seed, held_out)
