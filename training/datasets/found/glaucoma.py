"""Public photographs with outlines of disc and cup as a data set: REFUGE, RIGA, Drishti-GS."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from keras_realmnet.arguments import Rule, count, number, one_of, optional
from keras_realmnet.arguments import check as check_arguments
from keras_realmnet.errors import DataSetError
from keras_realmnet.screening.preprocessing import PreprocessSpec
from keras_realmnet.tasks.measures import VerticalRatio
from keras_realmnet.tasks.outputs import Labels, Output
from keras_realmnet.tasks.rules import NoReferral
from keras_realmnet.tasks.task import Task
from keras_realmnet.tasks.vocabulary import Label, LabelSet
from training.data.files.notices import noticed, tell
from training.data.glaucoma.drishti_gs import read_drishti_gs
from training.data.glaucoma.hrf import read_hrf
from training.data.glaucoma.refuge import read_refuge
from training.data.glaucoma.riga import ANNOTATORS, read_riga
from training.data.glaucoma.table import GlaucomaTable
from training.datasets.cache import cached_files
from training.datasets.data_set import SPLITS, check_split, sets_of
from training.datasets.image_set import ImageSet
from training.datasets.landmarks import CUP, DISC, DISC_AND_CUP, FOVEA_POINT

__all__ = ["GLAUCOMA", "LAYOUTS", "GlaucomaDataSet"]

GLAUCOMA = LabelSet(
    name="glaucoma",
    labels=(Label("G", "Glaucoma", "glaucoma"),),
    pathologic=("G",),
    condition="glaucoma",
)
DIAGNOSIS, DISC_CUP, LANDMARKS = "glaucoma", "disc_cup", "landmarks"  # outputs
_OUTPUTS: dict[str, Output] = {DIAGNOSIS: Labels(GLAUCOMA), DISC_CUP: DISC_AND_CUP, LANDMARKS: FOVEA_POINT}
_RATIO = VerticalRatio("vCDR", "Vertical cup-to-disc ratio", CUP.code, DISC.code)


@dataclass(frozen=True)
class _Layout:
    """`source`: whose data. `knows`: of what it may tell the truth. `has_sets`: whether it says what trains."""

    source: str
    read: Callable[..., GlaucomaTable]
    knows: tuple[str, ...]
    has_sets: bool


_LAYOUTS = {
    "refuge": _Layout("REFUGE (Orlando et al., Medical Image Analysis 2020)", read_refuge, tuple(_OUTPUTS), True),
    "riga": _Layout("RIGA (Almazroa et al., SPIE Medical Imaging 2018)", read_riga, (DISC_CUP,), False),
    "drishti_gs": _Layout(
        "Drishti-GS (Sivaswamy et al., ISBI 2014; research use)", read_drishti_gs, (DIAGNOSIS, DISC_CUP), True
    ),
    "hrf": _Layout(
        "HRF (Budai et al., International Journal of Biomedical Imaging 2013)", read_hrf, (DIAGNOSIS,), False
    ),
}
LAYOUTS = tuple(_LAYOUTS)
_FIELDS = {
    "layout": one_of(*LAYOUTS),
    "annotator": optional(count(1, ANNOTATORS)),
    "held_out": number(0, 1, below=True),
    "seed": count(0),
    "prefix": Rule("a text", lambda value: isinstance(value, str)),
}


@dataclass(frozen=True)
class GlaucomaDataSet:
    """Photographs in one of the layouts "refuge", "riga", "drishti_gs" and "hrf" of `training.data.glaucoma`.

    `outputs`: what is asked, some of what the layout knows:

    - "glaucoma": whether there is any (REFUGE, HRF, and Drishti-GS where its folders say so).
    - "disc_cup": masks of the disc and of the cup, which is a part of it; the task has their vertical ratio, vCDR.
    - "landmarks": where the fovea lies (REFUGE).

    Pictures of which nothing of this is known are left out and told. `train_on`: those sets of the layout that train;
    the others are held out as the layout has them. REFUGE's 1,200 pictures as a part of REFUGE2's training are
    train_on=("train", "validation", "test"). RIGA and HRF have no sets: a share `held_out` of the pictures is dealt to
    validation and test by `seed`, half each; 0: all train. `annotator`: of RIGA the one whose outlines are the truth;
    None: what at least half of them say. `prefix`: in front of the pictures' names, by which combined data tells those
    of several folders apart: REFUGE2's V0001.jpg is another picture than REFUGE's.
    """

    kind: ClassVar[str] = "glaucoma"

    folder: str | None = None
    layout: str = "refuge"
    outputs: tuple[str, ...] = (DISC_CUP,)
    train_on: tuple[str, ...] = ("train",)
    annotator: int | None = None
    held_out: float = 0.0
    seed: int = 42
    prefix: str = ""

    def __post_init__(self) -> None:
        check_arguments("glaucoma data", _FIELDS, {name: getattr(self, name) for name in _FIELDS})
        known = {"outputs": _LAYOUTS[self.layout].knows, "train_on": SPLITS}
        for name, allowed in known.items():
            values = tuple(getattr(self, name))  # JSON has lists
            object.__setattr__(self, name, values)
            if not values or not set(values) <= set(allowed) or len(set(values)) < len(values):
                raise ValueError(f"{name} must be some of {', '.join(allowed)}, each once. Received: {values!r}")
        if self.annotator is not None and self.layout != "riga":
            raise ValueError(f"annotator is for the layout riga. Received: {self.annotator!r} for {self.layout}")
        if self.has_sets and self.held_out:
            raise ValueError(f"the layout {self.layout} has sets of its own. Received: held_out={self.held_out!r}")
        if not self.has_sets and self.train_on != ("train",):
            raise ValueError(f"the layout {self.layout} has no sets. Received: train_on={self.train_on!r}")

    @property
    def task(self) -> Task:
        outputs = {name: _OUTPUTS[name] for name in self.outputs}
        measures = (_RATIO,) if DISC_CUP in outputs else ()
        return Task("glaucoma", "colour_fundus", outputs, NoReferral(), measures)

    @property
    def has_sets(self) -> bool:
        """Whether the layout says which pictures train."""
        return _LAYOUTS[self.layout].has_sets

    def describe(self) -> str:
        which = "training" if self.train_on == ("train",) else ", ".join(self.train_on)
        return f"the {which} pictures of {_LAYOUTS[self.layout].source}"

    def load(self, split: str, spec: PreprocessSpec, cache: Path) -> ImageSet | None:
        check_split(split)
        if self.folder is None:
            raise DataSetError("the folder of the pictures is not given: pass it with --data PATH")
        table = self._table()
        truth: dict[str, Any] = {
            DIAGNOSIS: table.glaucoma[:, None],
            DISC_CUP: table.masks,
            LANDMARKS: table.fovea,
        }
        known = {
            DIAGNOSIS: ~np.isnan(table.glaucoma),
            DISC_CUP: table.masks.known.any(axis=1),
            LANDMARKS: ~np.isnan(table.fovea[:, 0, 2]),
        }
        of_use: NDArray[np.bool_] = np.any([known[name] for name in self.outputs], axis=0)
        nothing = [table.names[k] for k in np.flatnonzero(~of_use).tolist()]
        tell((*table.notices, *noticed(("pictures of which nothing is known that is asked, left out", nothing))))
        names = tuple(f"{self.prefix}{name}" for name in table.names)
        images = cached_files(
            f"glaucoma-{self.layout}",
            table.paths,
            {name: truth[name] for name in self.outputs},
            task=self.task,
            names=names,
            patients=names,  # none of them names patients
            spec=spec,
            cache=cache,
        )
        given = table.sets and ["train" if part in self.train_on else part for part in table.sets]
        rows = np.flatnonzero((sets_of(images, given, self.held_out, self.seed) == split) & of_use)
        return images.select(rows) if len(rows) else None

    def _table(self) -> GlaucomaTable:
        read = _LAYOUTS[self.layout].read
        return read(self.folder) if self.annotator is None else read(self.folder, self.annotator)
