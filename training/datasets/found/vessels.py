"""Public pictures with masks of the retina's vessels as a data set."""

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import ClassVar

import numpy as np

from keras_realmnet.arguments import check as check_arguments
from keras_realmnet.arguments import count, number, one_of
from keras_realmnet.errors import DataSetError
from keras_realmnet.screening.image_io import read_image
from keras_realmnet.screening.preprocessing import PreprocessSpec, field_mask, preprocess
from keras_realmnet.tasks.rules import NoReferral
from keras_realmnet.tasks.task import Task
from training.data.files.mask_files import MaskTruth
from training.data.files.notices import noticed, tell
from training.data.vessels.layouts import LAYOUTS
from training.data.vessels.reading import read_vessels
from training.data.vessels.vocabulary import VESSELS, measures_of
from training.datasets.cache import cached_images, file_identity, mask_identity
from training.datasets.data_set import check_split, sets_of
from training.datasets.image_set import ImageSet
from training.datasets.prepared import Prepared, mask_in_square
from training.tasks.motion import IGNORE

__all__ = ["VesselDataSet"]

OUTPUT = "vessels"
_FIELDS = {
    "layout": one_of(*LAYOUTS),
    "observer": count(1),
    "held_out": number(0, 1, below=True),
    "seed": count(0),
    "outside": one_of("unknown", "background"),
}


@dataclass(frozen=True)
class VesselDataSet:
    """Pictures with a mask of their vessels, in one of the layouts of `training.data.vessels.layouts`.

    Outside of the field of view nothing is known: of its mask, or where there is none of the illuminated field as the
    box finds it. `observer`: whose masks, 1 or, where there is a second, 2.

    `outside`: "background" teaches that there are no vessels outside of the field of view. A network that never learns
    it calls the field's rim a vessel. Only the training split is so; what validates and tests knows nothing there.

    The sets are the layout's. Where it has none, a share `held_out` of the patients is dealt to validation and test by
    `seed`, half each; 0: all pictures train, which is what cross-validation cuts into folds. Both eyes of a patient
    are in one set.
    """

    kind: ClassVar[str] = "vessels"

    folder: str | None = None
    layout: str = "chase_db1"
    observer: int = 1
    held_out: float = 0.0
    seed: int = 42
    outside: str = "unknown"

    def __post_init__(self) -> None:
        check_arguments("vessel data", _FIELDS, {name: getattr(self, name) for name in _FIELDS})
        layout = LAYOUTS[self.layout]
        if self.observer > layout.observers:
            observers = "1 observer" if layout.observers == 1 else f"{layout.observers} observers"
            raise ValueError(f"the layout {self.layout} has masks of {observers}. Received: observer={self.observer}")
        if self.held_out and layout.has_sets:
            raise ValueError(f"the layout {self.layout} has sets of its own. Received: held_out={self.held_out!r}")

    @property
    def task(self) -> Task:
        modality = LAYOUTS[self.layout].modality
        return Task("vessels", modality, {OUTPUT: VESSELS}, NoReferral(), measures_of(modality))

    @property
    def has_sets(self) -> bool:
        """Whether the layout says which pictures train."""
        return LAYOUTS[self.layout].has_sets

    def describe(self) -> str:
        return f"the training pictures of {LAYOUTS[self.layout].source} with masks of vessels"

    def load(self, split: str, spec: PreprocessSpec, cache: Path) -> ImageSet | None:
        check_split(split)
        if self.folder is None:
            raise DataSetError("the folder of the pictures is not given: pass it with --data PATH")
        table = read_vessels(self.folder, LAYOUTS[self.layout], self.observer)
        known = table.vessels.known[:, 0]
        nothing = [table.names[k] for k in np.flatnonzero(~known).tolist()]
        tell((*table.notices, *noticed(("pictures of which nothing is known, left out", nothing))))
        masks = {"vessels": mask_identity(table.vessels), "fields": mask_identity(table.fields)}
        outside = 0 if split == "train" and self.outside == "background" else IGNORE
        images = cached_images(
            f"vessels-{self.layout}",
            partial(_prepared, spec=spec, vessels=table.vessels, fields=table.fields, outside=outside),
            list(zip(table.paths, range(len(table)), strict=True)),
            identity={"files": file_identity(table.paths), **masks, "outside": outside},
            task=self.task,
            truth={},
            names=table.names,
            patients=table.patients,
            spec=spec,
            cache=cache,
        )
        rows = np.flatnonzero((sets_of(images, table.sets, self.held_out, self.seed) == split) & known)
        return images.select(rows) if len(rows) else None


def _prepared(
    source: tuple[Path, int], spec: PreprocessSpec, vessels: MaskTruth, fields: MaskTruth, outside: int
) -> Prepared:
    """The picture of a file and its mask, of which `source` names the row; `outside` outside of the field of view.

    Raises UnreadableImage and DataSetError, as `read_image` and `MaskTruth.read`.
    """
    path, row = source
    image = read_image(path, min_side=spec.min_side)
    pixels, geometry = preprocess(image.pixels, spec)
    size = image.source.size
    mask = mask_in_square(vessels.read(row, size), geometry)
    if fields.known[row, 0]:
        inside = mask_in_square(fields.read(row, size), geometry) == 1
    else:
        inside = field_mask(pixels)[..., None]
    return Prepared(pixels, geometry, size[::-1], {OUTPUT: np.where(inside, mask, outside).astype(np.uint8)})
