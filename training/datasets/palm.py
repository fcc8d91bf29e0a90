"""The photographs of the PALM challenge as a data set."""

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from keras_realmnet.errors import DataSetError
from keras_realmnet.screening.preprocessing import PreprocessSpec
from keras_realmnet.tasks.task import PROBABILITIES, Task
from keras_realmnet.tasks.vocabulary import PALM
from training.data.label_table import read_csv
from training.datasets.cache import cached_images, file_identity
from training.datasets.data_set import check_split, task_of_labels
from training.datasets.image_set import ImageSet
from training.datasets.prepared import read_and_prepare

__all__ = ["PalmDataSet"]

HOW_TO_GET_IT = (
    "PALM is public (Fang et al., Scientific Data 2024, https://doi.org/10.6084/m9.figshare.c.6224148); expected are "
    "train/ and val/ with labels.csv, or PALM/Training/Images and PALM/Validation/Images"
)


@dataclass(frozen=True)
class PalmDataSet:
    """PALM / iChallenge-PM colour fundus photographs (Fang et al., Scientific Data 2024; CC BY 4.0).

    Two layouts: `train/` (class = first letter of the file name: N, H, P), `val/` and `labels.csv` (imgName, Label)
    in the folder or in `val/`; or the challenge's own `PALM/Training/Images` and `PALM/Validation/Images`.
    The validation list says only whether myopia is pathologic: there N and H are not known (NaN) where Label is 0.
    It is the only held-out split: "validation" and "test" are the same images.
    """

    kind: ClassVar[str] = "palm"
    task: ClassVar[Task] = task_of_labels(PALM, "colour_fundus")

    folder: str | None = None

    def describe(self) -> str:
        return "the 400 training photographs of PALM / iChallenge-PM (Fang et al., Scientific Data 2024; CC BY 4.0)"

    def load(self, split: str, spec: PreprocessSpec, cache: Path) -> ImageSet:
        check_split(split)
        files, labels = self._training() if split == "train" else self._held_out()
        return cached_images(
            "palm-train" if split == "train" else "palm-validation",
            partial(read_and_prepare, spec=spec),
            files,
            identity={"files": file_identity(files)},
            task=self.task,
            truth={PROBABILITIES: labels},
            names=tuple(path.name for path in files),
            patients=tuple(path.stem for path in files),  # PALM names no patients
            spec=spec,
            cache=cache,
        )

    def _root(self) -> Path:
        if self.folder is None:
            raise DataSetError(f"the PALM folder is not given: pass it with --data PATH. {HOW_TO_GET_IT}")
        root = Path(self.folder).expanduser().resolve()
        if not root.is_dir():
            raise DataSetError(f"{root}: no such folder. {HOW_TO_GET_IT}")
        return root / "PALM" if (root / "PALM").is_dir() else root

    def _images(self, *folders: str) -> list[Path]:
        root = self._root()
        for folder in folders:
            found = sorted(p for p in (root / folder).glob("*") if p.suffix.lower() in (".jpg", ".jpeg", ".png"))
            if found:
                return found
        raise DataSetError(f"{root}: no images in {' or '.join(folders)}. {HOW_TO_GET_IT}")

    def _training(self) -> tuple[list[Path], NDArray[np.float32]]:
        files = self._images("train", "Training/Images")
        for path in files:
            if path.name[0].upper() not in PALM.codes:
                raise DataSetError(f"{path}: a training image's name starts with N, H or P, its class")
        return files, np.array([[path.name[0].upper() == code for code in PALM.codes] for path in files], np.float32)

    def _held_out(self) -> tuple[list[Path], NDArray[np.float32]]:
        files, root = self._images("val", "Validation/Images"), self._root()
        if all(path.name[0].upper() in PALM.codes for path in files):  # named by class, like the training images
            return files, np.array([[p.name[0].upper() == code for code in PALM.codes] for p in files], np.float32)
        tables = [root / name for name in ("val/labels.csv", "labels.csv", "Validation/labels.csv")]
        table = next((path for path in tables if path.is_file()), None)
        if table is None:
            raise DataSetError(f"{tables[0]}: no such file; it lists the validation images (columns imgName, Label)")
        header, rows = read_csv(table, ("imgName", "Label"), "the labels of the validation images")
        truth = {}
        for line, row in rows:
            name, label = row[header.index("imgName")], row[header.index("Label")]
            if label not in ("0", "1"):
                raise DataSetError(f"{table}:{line}: Label must be 0 or 1. Found: {label!r}")
            truth[name] = label == "1"
        missing = [path.name for path in files if path.name not in truth]
        if missing:
            raise DataSetError(
                f"{table}: no label for {missing[0]}" + (f" and {len(missing) - 1} more" if missing[1:] else "")
            )
        pathologic = [0.0, 0.0, 1.0]
        unknown = [np.nan, np.nan, 0.0]
        return files, np.array([pathologic if truth[path.name] else unknown for path in files], np.float32)
