"""Colour photographs drawn here, with exact landmarks, as a data set."""

from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import ClassVar

import numpy as np

from keras_realmnet.arguments import check as check_arguments
from keras_realmnet.arguments import count
from keras_realmnet.screening.preprocessing import PreprocessSpec, preprocess
from keras_realmnet.tasks.rules import NoReferral
from keras_realmnet.tasks.task import Task
from training.data.files.points import INVISIBLE
from training.datasets.cache import cached_images
from training.datasets.data_set import SPLITS, check_split
from training.datasets.image_set import ImageSet
from training.datasets.landmarks import DISC_MASK, LANDMARK_POINTS
from training.datasets.phantom import drawing_code_hash
from training.datasets.prepared import Prepared, mask_in_square, points_in_square
from training.phantoms.photograph import render_photograph

__all__ = ["PhotographDataSet"]

LANDMARKS, DISC = "landmarks", "disc"  # outputs
_FIELDS = {
    **dict.fromkeys(("train_eyes", "validation_eyes", "test_eyes", "seed"), count(0)),
    "width": count(64),
}


@dataclass(frozen=True)
class PhotographDataSet:
    """Synthetic colour photographs, one of each eye: where fovea and disc lie, and the mask of the disc.

    The three splits have eyes of their own; one may be empty. A point that the field does not show is not visible.
    """

    kind: ClassVar[str] = "drawn_photograph"
    task: ClassVar[Task] = Task("fundus", "colour_fundus", {LANDMARKS: LANDMARK_POINTS, DISC: DISC_MASK}, NoReferral())

    train_eyes: int = 600
    validation_eyes: int = 60
    test_eyes: int = 60
    width: int = 384  # px, of the drawn picture, before preprocessing
    seed: int = 2027

    def __post_init__(self) -> None:
        check_arguments("drawn photographs", _FIELDS, vars(self))

    def describe(self) -> str:
        return f"{self.train_eyes} colour photographs drawn by the program, {self.width} px wide, seed {self.seed}"

    def load(self, split: str, spec: PreprocessSpec, cache: Path) -> ImageSet | None:
        check_split(split)
        eyes = getattr(self, f"{split}_eyes")
        if not eyes:
            return None
        seeds = [(self.seed, SPLITS.index(split), k) for k in range(eyes)]
        names = tuple(f"{split}-drawn-{self.seed}-{k}" for k in range(eyes))
        return cached_images(
            f"photograph-{split}",
            partial(_render, width=self.width, spec=spec),
            seeds,
            identity={**asdict(self), "split": split, "code": drawing_code_hash()},
            task=self.task,
            truth={},
            names=names,
            patients=names,
            spec=spec,
            cache=cache,
        )


def _render(seed: tuple[int, ...], width: int, spec: PreprocessSpec) -> Prepared:
    drawn = render_photograph(seed, width=width)
    pixels, geometry = preprocess(drawn.image, spec)
    points = [(*point, 1.0) if drawn.shows(point) else INVISIBLE for point in (drawn.fovea, drawn.disc_centre)]
    prepared = Prepared(pixels, geometry, masks={DISC: mask_in_square(drawn.disc_mask, geometry)})
    (places,) = points_in_square(np.array([points]), prepared.place[None], spec.size)
    return Prepared(pixels, geometry, masks=prepared.masks, points={LANDMARKS: places})
