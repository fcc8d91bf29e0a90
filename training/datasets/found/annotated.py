"""Pictures of which annotators said in which regions of the eye they saw a finding, as a data set."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from keras_realmnet.arguments import check as check_arguments
from keras_realmnet.arguments import count, number
from keras_realmnet.errors import DataSetError
from keras_realmnet.screening.preprocessing import PreprocessSpec
from keras_realmnet.tasks.guidance import marked_regions
from keras_realmnet.tasks.outputs import Labels, Output
from keras_realmnet.tasks.rules import NoReferral
from keras_realmnet.tasks.task import CLASS_MAPS, PROBABILITIES, Task
from keras_realmnet.tasks.vocabulary import Label, LabelSet
from training.data.annotations.records import Annotations, Picture, read_annotations
from training.data.files.notices import noticed, tell
from training.data.lesions.vocabulary import LESIONS
from training.datasets.cache import cached_images, file_identity
from training.datasets.data_set import check_split, sets_of
from training.datasets.image_set import ImageSet
from training.datasets.prepared import Prepared, read_and_prepare

__all__ = ["AnnotatedDataSet", "labels_of", "task_of_finding"]

_FIELDS = {"held_out": number(0, 1, below=True), "seed": count(0)}


@dataclass(frozen=True)
class AnnotatedDataSet:
    """Photographs, and a file of records (`training.data.annotations.records`), asked for one finding.

    `folder`: of the pictures. `records`: a path, or one below `folder`. `finding`: its code there. `called`: its name;
    None: that of `training.data.lesions.vocabulary`. `regions`: whether the network answers a map, which the regions in
    which the finding was marked hold back (`keras_realmnet.tasks.guidance`); without, it answers the label alone.

    A share `held_out` of the patients is dealt to validation and test by `seed`, half each; 0: all pictures train,
    which is what cross-validation cuts into folds. Pictures of which nobody says anything are left out.
    """

    kind: ClassVar[str] = "annotated"
    has_sets: ClassVar[bool] = False

    folder: str | None = None
    records: str = "annotations.json"
    finding: str = "EX"
    called: str | None = None
    regions: bool = True
    held_out: float = 0.3
    seed: int = 42

    def __post_init__(self) -> None:
        check_arguments("annotated data", _FIELDS, {name: getattr(self, name) for name in _FIELDS})
        _label(self.finding, self.called)

    @property
    def task(self) -> Task:
        return task_of_finding(_label(self.finding, self.called), self.regions)

    def describe(self) -> str:
        name = _label(self.finding, self.called).name.lower()
        where = "a folder" if self.folder is None else Path(self.folder).name
        return f"the training pictures of {where} with regions in which annotators saw {name}"

    def load(self, split: str, spec: PreprocessSpec, cache: Path) -> ImageSet | None:
        check_split(split)
        if self.folder is None:
            raise DataSetError("the folder of the pictures is not given: pass it with --data PATH")
        folder = Path(self.folder).expanduser()
        pictures = self._pictures(folder)
        paths = [folder / each.picture for each in pictures]
        missing = [each.picture for each, path in zip(pictures, paths, strict=True) if not path.is_file()]
        if missing:
            raise DataSetError(f"{folder / missing[0]}: no such picture ({len(missing)} of {len(paths)} are missing)")
        said = [
            {"marked": each.marked(self.finding), "votes": each.votes(self.finding), "eye": (each.disc, each.fovea)}
            for each in pictures
        ]
        images = cached_images(
            "annotated",
            partial(_prepared, finding=self.finding, regions=self.regions, spec=spec),
            list(zip(paths, pictures, strict=True)),
            identity={"files": file_identity(paths), "said": said if self.regions else None},
            task=self.task,
            truth={PROBABILITIES: labels_of(pictures, self.finding)},
            names=tuple(each.picture for each in pictures),
            patients=tuple(each.patient or each.picture for each in pictures),
            spec=spec,
            cache=cache,
        )
        sets = sets_of(images, None, self.held_out, self.seed)
        rows = np.flatnonzero(sets == split)
        return images.select(rows) if len(rows) else None

    def _pictures(self, folder: Path) -> list[Picture]:
        """Those of which somebody says something."""
        path = folder / Path(self.records).expanduser()
        annotations: Annotations = read_annotations(path)
        if self.finding not in annotations.findings:
            raise DataSetError(
                f"{path}: annotators looked for {', '.join(annotations.findings)}. Asked for: {self.finding}"
            )
        looked = [each.votes(self.finding)[1] > 0 for each in annotations.pictures]
        pairs = list(zip(annotations.pictures, looked, strict=True))
        tell(
            noticed(("pictures in which nobody looked for it, left out", [p.picture for p, seen in pairs if not seen]))
        )
        unsure = [p.picture for p, seen in pairs if seen and np.isnan(p.label(self.finding))]
        tell(noticed(("pictures whose label too few annotators agree on: it is not known", unsure)))
        found = [picture for picture, seen in pairs if seen]
        if not found:
            raise DataSetError(f"{path}: nobody looked for {self.finding} in any picture")
        return found


def _label(code: str, called: str | None) -> Label:
    if called is not None:
        return Label(code, called, called)
    if code not in LESIONS.codes:
        raise ValueError(
            f"a finding that is none of {', '.join(LESIONS.codes)} needs a name, called. Received: {code!r}"
        )
    return LESIONS[code]


def task_of_finding(label: Label, regions: bool) -> Task:
    """Whether a colour fundus photograph shows a finding, and with `regions` where."""
    labels = LabelSet("finding", (label,), pathologic=(label.code,))
    outputs: dict[str, Output] = {PROBABILITIES: Labels(labels)}
    if regions:
        outputs[CLASS_MAPS] = marked_regions(labels)
    return Task("finding", "colour_fundus", outputs, NoReferral())


def labels_of(pictures: Sequence[Picture], finding: str) -> np.ndarray[Any, np.dtype[np.float32]]:
    """float32 (n, 1): whether each picture shows a finding, NaN where that is not known."""
    return np.array([[each.label(finding)] for each in pictures], np.float32)


def _prepared(source: tuple[Path, Picture], finding: str, regions: bool, spec: PreprocessSpec) -> Prepared:
    path, picture = source
    return read_and_prepare(path, spec, {CLASS_MAPS: partial(picture.mask, finding)} if regions else None)
