"""The photographs of the PALM challenge as a data set, with one of its questions."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from keras_realmnet.arguments import check as check_arguments
from keras_realmnet.arguments import one_of
from keras_realmnet.errors import DataSetError
from keras_realmnet.screening.preprocessing import PreprocessSpec
from keras_realmnet.tasks.outputs import Grades
from keras_realmnet.tasks.rules import GradeFrom, NoReferral
from keras_realmnet.tasks.task import PROBABILITIES, Task
from keras_realmnet.tasks.vocabulary import PALM, Label, LabelSet
from training.data.files.mask_files import MaskTruth
from training.data.files.notices import noticed, tell
from training.data.palm.reading import EXPECTED, read_palm
from training.data.palm.table import CODING, PalmTable
from training.datasets.cache import cached_images, file_identity, mask_identity
from training.datasets.data_set import check_split, task_of_labels
from training.datasets.image_set import ImageSet
from training.datasets.landmarks import DISC_MASK, FOVEA_POINT
from training.datasets.prepared import read_row

__all__ = ["PATHOLOGIC_MYOPIA", "PalmDataSet"]

PATHOLOGIC_MYOPIA = LabelSet(
    name="palm_pm",
    labels=(
        Label("NO", "Not pathologic", "no pathologic myopia: normal, or high myopia alone"),
        Label("P", "Pathologic myopia", "pathologic myopia"),
    ),
    pathologic=("P",),
    condition="pathologic myopia",
)
MYOPIA, LANDMARKS, DISC = "myopia", "landmarks", "disc"  # outputs
_MODALITY = "colour_fundus"
_TASKS = {
    "classes": task_of_labels(PALM, _MODALITY),
    "pathologic": Task(
        "palm",
        _MODALITY,
        {MYOPIA: Grades(PATHOLOGIC_MYOPIA)},
        GradeFrom(MYOPIA, "P", "the more probable of the two classes"),
    ),
    "fovea": Task("palm", _MODALITY, {LANDMARKS: FOVEA_POINT}, NoReferral()),
    "disc": Task("palm", _MODALITY, {DISC: DISC_MASK}, NoReferral()),
}
_FIELDS = {"question": one_of(*_TASKS)}


@dataclass(frozen=True)
class PalmDataSet:
    """PALM / iChallenge-PM colour fundus photographs (Fang et al., Scientific Data 2024; CC BY 4.0).

    Both layouts of `training.data.palm.reading`. The validation list says only whether myopia is pathologic: there N
    and H are not known (NaN) where Label is 0. It is the only held-out split: "validation" and "test" are the same
    images.

    `question`:

    - "classes": labels normal, high myopia, pathologic myopia.
    - "pathologic": pathologic myopia or not, one of the two, as the challenge asks.
    - "fovea": where it lies; unknown where the native size is, in which it is given. The small copies have foveas for
      validation alone.
    - "disc": the mask of the optic disc; it is not in the small copies.

    Pictures of which the answer is not known are left out and told.
    """

    kind: ClassVar[str] = "palm"

    folder: str | None = None
    question: str = "classes"

    def __post_init__(self) -> None:
        check_arguments("PALM data", _FIELDS, {"question": self.question})

    @property
    def task(self) -> Task:
        return _TASKS[self.question]

    def describe(self) -> str:
        what = {"classes": "", "pathologic": "", "fovea": " with foveas", "disc": " with masks of the optic disc"}
        source = "(Fang et al., Scientific Data 2024; CC BY 4.0)"
        return f"the training photographs of PALM / iChallenge-PM{what[self.question]} {source}"

    def load(self, split: str, spec: PreprocessSpec, cache: Path) -> ImageSet:
        check_split(split)
        part = "train" if split == "train" else "validation"
        if self.folder is None:
            raise DataSetError(f"the PALM folder is not given: pass it with --data PATH; expected {EXPECTED}")
        table = read_palm(self.folder, part)
        truth, masks, known = self._truth(table)
        rows = np.flatnonzero(known)
        if not len(rows):
            raise DataSetError(f"{self.folder}: the {self.question} is known of none of PALM's {part} pictures")
        left_out = [table.names[k] for k in np.flatnonzero(~known).tolist()]
        tell(noticed((f"PALM: {part} pictures of which the {self.question} is not known, left out", left_out)))
        files = [table.paths[k] for k in rows]
        identity: dict[str, Any] = {"files": file_identity(files)}
        if masks:
            identity["masks"] = {name: mask_identity(each) for name, each in masks.items()}
        return cached_images(
            f"palm-{part}",
            partial(read_row, spec=spec, masks=masks),
            list(zip(files, rows.tolist(), strict=True)),
            identity=identity,
            task=self.task,
            truth={name: values[rows] for name, values in truth.items()},
            names=tuple(path.name for path in files),
            patients=tuple(path.stem for path in files),  # PALM names no patients
            spec=spec,
            cache=cache,
        )

    def _truth(
        self, table: PalmTable
    ) -> tuple[Mapping[str, NDArray[np.float32]], Mapping[str, MaskTruth], NDArray[np.bool_]]:
        """Of all pictures of a table: the truth, the masks, and of which something is known."""
        pathologic = table.labels[:, PALM.codes.index("P")]  # known where anything is
        if self.question == "classes":
            return {PROBABILITIES: table.labels}, {}, ~np.isnan(pathologic)
        if self.question == "pathologic":
            return {MYOPIA: np.stack([1 - pathologic, pathologic], axis=1)}, {}, ~np.isnan(pathologic)
        if self.question == "fovea":
            points = table.fovea_in_files()
            return {LANDMARKS: points}, {}, ~np.isnan(points[:, 0, 2])
        if "disc" not in table.masks:
            return {}, {}, np.zeros(len(table), bool)
        files = table.masks["disc"]
        return {}, {DISC: MaskTruth((files,), CODING, exclusive=True)}, files.known
