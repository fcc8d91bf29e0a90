"""PSMM, and folders laid out like it, as a data set: under the published evaluation protocols."""

from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from keras_realmnet.errors import DataSetError
from keras_realmnet.screening.image_io import read_image
from keras_realmnet.screening.preprocessing import PreprocessSpec
from keras_realmnet.tasks.task import PROBABILITIES, Task
from keras_realmnet.tasks.vocabulary import LABEL_SETS
from training.data.label_table import LabelTable, concatenate, problems_error
from training.data.psmm import ORIGINAL_TRAIN, check, image_paths, is_synthetic, read_tables
from training.data.stamp import read_stamp
from training.datasets.cache import IMAGES, cached_arrays, file_identity
from training.datasets.data_set import check_split, task_of_labels
from training.datasets.image_set import ImageSet, content_hash, resize_square
from training.datasets.prepared import Prepared, read_and_prepare

__all__ = ["MAIN_SOURCE", "PROTOCOLS", "PsmmDataSet", "protocol_tables"]

PROTOCOLS = ("cip", "mrp", "cgp")
MAIN_SOURCE = "ShenzhenEye"


@dataclass(frozen=True)
class PsmmDataSet:
    """The public PSMM data set, or any folder of label lists and images laid out like it (see `training.data.psmm`).

    `protocol` says which images train and which test (RealMNet, section "Evaluation protocols"):

    - "cip", common image protocol: the published lists. All hospitals in each of train, validation and test.
    - "mrp", main-to-rest: every image of the main hospital trains, all images of the others test, each a set by itself.
    - "cgp", cross-group: every image of all hospitals but `external` trains, all images of `external` test.

    The last two use the validation images for training, as published: they have no validation split, and a network of
    theirs has no operating point. `train_list` is the list under ImageSets/Main that trains, `labels` names the
    vocabulary ("psmm", or "peripheral" for peripheral lesions).
    """

    kind: ClassVar[str] = "psmm"
    folder: str | None = None
    protocol: str = "cip"
    external: str | None = None
    train_list: str = ORIGINAL_TRAIN
    labels: str = "psmm"

    def __post_init__(self) -> None:
        if self.protocol not in PROTOCOLS:
            raise ValueError(f"protocol must be one of {', '.join(PROTOCOLS)}. Received: {self.protocol!r}")
        if (self.external is not None) != (self.protocol == "cgp"):
            raise ValueError(f"protocol cgp, and no other, names an external hospital. Received: {self}")
        if self.labels not in LABEL_SETS:
            raise ValueError(f"labels must be one of {', '.join(LABEL_SETS)}. Received: {self.labels!r}")

    @property
    def task(self) -> Task:
        return task_of_labels(LABEL_SETS[self.labels], "uwf_red_green")

    def describe(self) -> str:
        which = {"cip": "the training list", "mrp": f"all images of {MAIN_SOURCE}"}
        chosen = which.get(self.protocol, f"all images but those of {self.external}")
        text = f"{chosen} of the label lists in {Path(self._folder()).name} ({self.protocol}, {self.train_list})"
        return f"{text}; synthetic images, no real one" if is_synthetic(self._folder()) else text

    def tables(self) -> dict[str, LabelTable]:
        """The label lists of the protocol, without images: "train", "test" and, under "cip", "validation".

        Raises DataSetError.
        """
        return protocol_tables(self._lists(), self.protocol, self.external)

    def load(self, split: str, spec: PreprocessSpec, cache: Path) -> ImageSet | None:
        check_split(split)
        folder = self._folder()
        lists = self._lists()
        tables = protocol_tables(lists, self.protocol, self.external)
        if split not in tables:
            return None
        if split == "train":  # all that is wrong, at once, before hours are spent
            problems = check(folder, lists, resampled=self.train_list != ORIGINAL_TRAIN)
            if problems:
                raise problems_error(problems)
        names, pixels, digest = self._every_image(lists, spec, cache)
        table = tables[split]
        truth, listed = {PROBABILITIES: table.labels.astype(np.float32)}, tuple(table.names.tolist())
        return ImageSet(
            pixels=pixels,
            truth=truth,
            names=listed,
            patients=tuple(table.patients.tolist()),
            task=self.task,
            sha256=content_hash(digest, truth.values(), listed),
            rows=np.searchsorted(names, table.names),
        )

    def _every_image(
        self, lists: dict[str, LabelTable], spec: PreprocessSpec, cache: Path
    ) -> tuple[NDArray[np.str_], NDArray[np.uint8], str]:
        """Names (n), sorted, pixels (n, size, size, 3) and their hash, of every image that any list names: one cache
        for all protocols and lists."""
        folder, everything = self._folder(), concatenate(lists.values())
        names, first = np.unique(everything.names, return_index=True)
        paths = image_paths(folder, everything.take(first))
        stamp = read_stamp(folder)
        if stamp is not None and stamp != spec and not _shrinks(stamp, spec):
            raise DataSetError(
                f"{folder} was prepared with {stamp.to_dict()}; this run needs {spec.to_dict()}: prepare the raw images"
                " again with that size"
            )
        missing = [path for path in paths if not path.is_file()]
        if missing:
            raise DataSetError(
                f"{missing[0]}" + (f" and {len(missing) - 1} more" if missing[1:] else "") + ": no such file;"
                f" python -m training check {folder} lists all that is wrong"
            )
        kept, digest = cached_arrays(
            self.kind,
            partial(read_and_prepare, spec=spec) if stamp is None else partial(_read_prepared, size=spec.size),
            paths,
            task=self.task,
            identity={
                "files": file_identity(paths),
                "stamp": stamp.to_dict() if stamp else None,
            },
            spec=spec,
            cache=cache,
        )
        return names, kept[IMAGES], digest

    def _lists(self) -> dict[str, LabelTable]:
        return read_tables(self._folder(), train=self.train_list, label_set=LABEL_SETS[self.labels])

    def _folder(self) -> Path:
        if self.folder is None:
            raise DataSetError(
                "the PSMM folder is not given: pass it with --data PATH (python -m training download psmm)"
            )
        return Path(self.folder).expanduser().resolve()


def protocol_tables(lists: dict[str, LabelTable], protocol: str, external: str | None = None) -> dict[str, LabelTable]:
    """The label lists that train and test under a protocol of `PsmmDataSet`, from the published three.

    Raises:
        DataSetError: a hospital that no image is from.
    """
    if protocol == "cip":
        return lists
    everything = concatenate(lists.values())
    wanted = MAIN_SOURCE if protocol == "mrp" else external
    chosen = everything.sources == wanted
    if not chosen.any():
        raise DataSetError(f"no image is from {wanted}. Hospitals found: {', '.join(np.unique(everything.sources))}")
    train = chosen if protocol == "mrp" else ~chosen
    return {"train": everything.take(train), "test": everything.take(~train)}


def _read_prepared(path: Path, size: int) -> Prepared:
    return Prepared(resize_square(read_image(path).pixels, size))


def _shrinks(stamp: PreprocessSpec, spec: PreprocessSpec) -> bool:
    """Whether images prepared by `stamp` only have to be made smaller for `spec`."""
    return replace(stamp, size=spec.size) == spec and stamp.size >= spec.size
