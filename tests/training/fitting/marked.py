"""Drawn pictures of which labels, a grade, masks and points are known, as a data set."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import ClassVar

import cv2
import numpy as np

from keras_realmnet.screening.preprocessing import PreprocessSpec, preprocess
from keras_realmnet.tasks.task import Task
from tests.training.tasks.vocabularies import DISC, LANDMARKS, LESIONS, SEVERITY, task
from training.datasets.cache import cached_images
from training.datasets.image_set import ImageSet
from training.datasets.prepared import Prepared, mask_in_square

SIDE = 72
COUNTS = {"train": 12, "validation": 6, "test": 6}


@dataclass(frozen=True)
class Drawn:
    """A disc with a cup, the fovea beside it, and spots: one for each grade; not all of it is known."""

    seed: int

    def scene(self):
        rng = np.random.default_rng(self.seed)
        image = np.full((SIDE, SIDE, 3), (120, 60, 20), np.uint8)
        mask = np.zeros((SIDE, SIDE), np.uint8)
        x, y = rng.integers(20, 30), rng.integers(25, 45)
        for value, radius, colour in ((1, 10, (230, 200, 120)), (2, 4, (250, 240, 220))):
            cv2.circle(image, (int(x), int(y)), radius, colour, -1)
            cv2.circle(mask, (int(x), int(y)), radius, value, -1)
        grade = int(rng.integers(0, 3))
        for _ in range(grade):
            cv2.circle(image, tuple(map(int, rng.integers(40, 65, 2))), 3, (60, 0, 0), -1)
        return image, mask, grade, np.array([[x + 25, y, 1], [x, y, 1]], np.float32)


@dataclass(frozen=True)
class MarkedDataSet:
    kind: ClassVar[str] = "marked"
    task: ClassVar[Task] = task(lesions=LESIONS, dr=SEVERITY, disc=DISC, marks=LANDMARKS)

    seed: int = 0

    def describe(self) -> str:
        return "drawn discs"

    def load(self, split: str, spec: PreprocessSpec, cache: Path) -> ImageSet:
        first = self.seed + 1000 * list(COUNTS).index(split)
        pictures = [Drawn(first + k) for k in range(COUNTS[split])]
        scenes = [picture.scene() for picture in pictures]
        grades = np.array([grade for _, _, grade, _ in scenes])
        truth = {
            "lesions": np.stack([grades > 0, grades > 1], axis=1).astype(np.float32),
            "dr": np.eye(3, dtype=np.float32)[grades],
            "marks": np.stack([points for *_, points in scenes]),
        }
        truth["lesions"][0, 1] = np.nan
        truth["dr"][1] = np.nan
        truth["marks"][2, 0] = np.nan
        names = tuple(f"{split}{k}.png" for k in range(len(pictures)))
        prepare: Callable[[Drawn], Prepared] = partial(_prepare, spec=spec)
        return cached_images(
            f"marked-{split}",
            prepare,
            pictures,
            identity={"first": first},
            task=self.task,
            truth=truth,
            names=names,
            patients=names,
            spec=spec,
            cache=cache,
        )


def _prepare(picture: Drawn, spec: PreprocessSpec) -> Prepared:
    image, mask, *_ = picture.scene()
    pixels, geometry = preprocess(image, spec)
    return Prepared(pixels, geometry, masks={"disc": mask_in_square(mask, geometry)})
