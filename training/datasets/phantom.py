"""Images drawn here, with exact truth, as a data set."""

import hashlib
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import ClassVar

import numpy as np

from keras_realmnet.arguments import check as check_arguments
from keras_realmnet.arguments import count
from keras_realmnet.screening.preprocessing import PreprocessSpec, preprocess
from keras_realmnet.tasks.task import PROBABILITIES, Task
from keras_realmnet.tasks.vocabulary import PSMM
from training.datasets.cache import cached_images
from training.datasets.data_set import SPLITS, check_split, task_of_labels
from training.datasets.image_set import ImageSet
from training.datasets.prepared import Prepared
from training.phantoms.cohorts import PhantomCase, cohort

__all__ = ["PhantomDataSet", "drawing_code_hash"]

PHANTOMS = Path(__file__).parents[1] / "phantoms"

_FIELDS = {
    "train_patients": count(1),
    "validation_patients": count(0),
    "test_patients": count(0),
    "width": count(32),
    "seed": count(0),
}


@dataclass(frozen=True)
class PhantomDataSet:
    """Synthetic red/green ultra-widefield images; train, validation and test have their own patients and seeds.

    Half of the patients of each split follow PSMM's imbalance, half carry every grade equally often, so that the rare
    grades are learned and measured on more than a handful of images. A patient has five images on average.
    """

    kind: ClassVar[str] = "phantom"
    task: ClassVar[Task] = task_of_labels(PSMM, "uwf_red_green")

    train_patients: int = 1200
    validation_patients: int = 80
    test_patients: int = 140
    width: int = 320  # px, of the drawn image, before preprocessing
    seed: int = 2025

    def __post_init__(self) -> None:
        check_arguments("phantom data", _FIELDS, vars(self))

    def describe(self) -> str:
        return (
            f"{self.train_patients} synthetic patients (about {5 * self.train_patients} drawn red/green ultra-widefield"
            f" images, {self.width} px wide, seed {self.seed}); no real image"
        )

    def cases(self, split: str) -> tuple[list[PhantomCase], list[str]]:
        """The images of a split, not yet drawn, and the patient of each; raises ValueError for another split."""
        check_split(split)
        patients = getattr(self, f"{split}_patients")
        cases, owners = [], []
        for k, imbalance in enumerate(("psmm", "balanced")):
            share = (patients + 1) // 2 if k == 0 else patients // 2
            if share:
                members = cohort(share, seed=self.seed + 10 * SPLITS.index(split) + k, imbalance=imbalance)
                cases += members
                owners += [f"{split}-{imbalance}-{case.patient_id}" for case in members]
        return cases, owners

    def load(self, split: str, spec: PreprocessSpec, cache: Path) -> ImageSet:
        cases, owners = self.cases(split)
        return cached_images(
            f"phantom-{split}",
            partial(_render, width=self.width, spec=spec),
            cases,
            identity={**asdict(self), "split": split, "code": drawing_code_hash()},
            task=self.task,
            truth={PROBABILITIES: np.array([case.labels for case in cases], np.float32)},
            names=tuple(
                f"{owner}_{case.eye}_{case.date}_{case.index}" for owner, case in zip(owners, cases, strict=True)
            ),
            patients=tuple(owners),
            spec=spec,
            cache=cache,
        )


def _render(case: PhantomCase, width: int, spec: PreprocessSpec) -> Prepared:
    return Prepared(preprocess(case.render(width).image, spec)[0])


def drawing_code_hash(folder: Path = PHANTOMS) -> str:
    """Hash of all source code in the folder that draws: a changed generator draws other images, so that its cache must
    not be taken for the old one's."""
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*.py")):
        content = path.read_bytes()
        digest.update(f"{path.relative_to(folder).as_posix()} {len(content)}\n".encode())
        digest.update(content)
    return digest.hexdigest()[:16]
