"""Images drawn here, with exact truth, as a data set."""

from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import ClassVar

import numpy as np

from keras_realmnet.arguments import check as check_arguments
from keras_realmnet.arguments import count, one_of
from keras_realmnet.screening.preprocessing import PreprocessSpec, preprocess
from keras_realmnet.tasks.outputs import Labels, Output
from keras_realmnet.tasks.rules import NoReferral
from keras_realmnet.tasks.task import PROBABILITIES, Task
from keras_realmnet.tasks.vocabulary import PSMM
from training.data.files.once import code_hash
from training.datasets.boundary import BOUNDARY, BOUNDARY_MASKS
from training.datasets.cache import cached_images
from training.datasets.data_set import SPLITS, check_split
from training.datasets.image_set import ImageSet
from training.datasets.prepared import Prepared, mask_in_square
from training.phantoms.cohorts import PhantomCase, cohort
from training.phantoms.phantom import Phantom

__all__ = ["PhantomDataSet", "drawing_code_hash"]

PHANTOMS = Path(__file__).parents[2] / "phantoms"

_FIELDS = {
    "train_patients": count(1),
    "validation_patients": count(0),
    "test_patients": count(0),
    "width": count(32),
    "seed": count(0),
    "boundary": one_of("kept", "masked"),
}
_KNOWN: dict[str, Output] = {PROBABILITIES: Labels(PSMM), BOUNDARY: BOUNDARY_MASKS}


@dataclass(frozen=True)
class PhantomDataSet:
    """Synthetic red/green ultra-widefield images; train, validation and test have their own patients and seeds.

    Half of the patients of each split follow PSMM's imbalance, half carry every grade equally often, so that the rare
    grades are learned and measured on more than a handful of images. A patient has five images on average.

    `outputs`: what is known of them, some of

    - "probabilities": the labels of PSMM.
    - "boundary": masks of the device border, and of lids and lashes where they take a third of the light or more.

    `boundary`: "masked" makes these pixels black, as a network that has found all of them would; "kept" leaves them.
    """

    kind: ClassVar[str] = "phantom"

    train_patients: int = 1200
    validation_patients: int = 80
    test_patients: int = 140
    width: int = 320  # px, of the drawn image, before preprocessing
    seed: int = 2025
    outputs: tuple[str, ...] = (PROBABILITIES,)
    boundary: str = "kept"

    def __post_init__(self) -> None:
        check_arguments("phantom data", _FIELDS, {name: getattr(self, name) for name in _FIELDS})
        outputs = tuple(self.outputs)  # JSON has lists
        object.__setattr__(self, "outputs", outputs)
        if not outputs or not set(outputs) <= set(_KNOWN) or len(set(outputs)) < len(outputs):
            raise ValueError(f"outputs must be some of {', '.join(_KNOWN)}, each once. Received: {outputs!r}")
        if BOUNDARY in outputs and self.boundary == "masked":
            raise ValueError("boundary='masked' leaves no boundary to find. Received: the output boundary, too")

    @property
    def task(self) -> Task:
        name = PSMM.name if PROBABILITIES in self.outputs else BOUNDARY
        return Task(name, "uwf_red_green", {each: _KNOWN[each] for each in self.outputs}, NoReferral())

    def describe(self) -> str:
        return (
            f"{self.train_patients} synthetic patients (about {5 * self.train_patients} drawn red/green ultra-widefield"
            f" images, {self.width} px wide, seed {self.seed}"
            f"{', without device border, lids and lashes' if self.boundary == 'masked' else ''}); no real image"
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
        labels = np.array([case.labels for case in cases], np.float32)
        return cached_images(
            f"phantom-{split}",
            partial(_render, data=self, spec=spec),
            cases,
            identity={**asdict(self), "split": split, "code": drawing_code_hash()},
            task=self.task,
            truth={PROBABILITIES: labels} if PROBABILITIES in self.outputs else {},
            names=tuple(
                f"{owner}_{case.eye}_{case.date}_{case.index}" for owner, case in zip(owners, cases, strict=True)
            ),
            patients=tuple(owners),
            spec=spec,
            cache=cache,
        )


def _render(case: PhantomCase, data: PhantomDataSet, spec: PreprocessSpec) -> Prepared:
    phantom = case.render(data.width)
    pixels, geometry = preprocess(phantom.image, spec)
    mask = mask_in_square(_boundary(phantom), geometry)
    if data.boundary == "masked":
        pixels[mask != 0] = 0
    return Prepared(pixels, geometry, masks={BOUNDARY: mask} if BOUNDARY in data.outputs else {})


def _boundary(phantom: Phantom) -> np.ndarray:
    """uint8 (h, w): 0 retina, k + 1 the label k of `BOUNDARY_MASKS`."""
    codes = BOUNDARY_MASKS.labels.codes
    border, lashes = (np.uint8(1 + codes.index(code)) for code in ("BORDER", "LASHES"))
    return np.where(phantom.field_mask, np.where(phantom.lid_mask, lashes, 0), border).astype(np.uint8)


def drawing_code_hash(folder: Path = PHANTOMS) -> str:
    """Hash of all source code in the folder that draws: a changed generator draws other images."""
    return code_hash(folder)
