"""A researcher's own pictures as a data set."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from keras_realmnet.arguments import check as check_arguments
from keras_realmnet.arguments import count, number
from keras_realmnet.errors import DataSetError
from keras_realmnet.screening.preprocessing import PreprocessSpec
from keras_realmnet.tasks.measures import VerticalRatio
from keras_realmnet.tasks.outputs import Grades, Labels, Masks, Output, Points
from keras_realmnet.tasks.rules import AnyOf, GradeFrom, NoReferral, Rule
from keras_realmnet.tasks.task import Task
from keras_realmnet.tasks.vocabulary import Label, LabelSet
from training.data.files.notices import noticed, tell
from training.data.own_data.own_table import OwnTable, parse_columns, read_own_table
from training.data.own_data.vocabulary import (
    GradesOutput,
    LabelsOutput,
    MasksOutput,
    PointsOutput,
    Vocabulary,
    parse_vocabulary,
)
from training.datasets.cache import cached_files
from training.datasets.data_set import check_split, sets_of
from training.datasets.image_set import ImageSet

__all__ = ["OwnDataSet", "task_of_vocabulary"]

_FIELDS = {"held_out": number(0, 1, below=True), "seed": count(0)}


@dataclass(frozen=True)
class OwnDataSet:
    """A folder of pictures, a table of what is true of them, and a vocabulary.

    `folder`: of the pictures. `table`: a path, or one below `folder`; None: all pictures, where only masks are asked
    for. `columns`: as `training.data.own_data.own_table.parse_columns` takes them. `vocabulary`: what
    `training.data.own_data.vocabulary` describes, as TOML gives it: the recipe, and so the run folder, holds it whole.

    The sets are those of the table's `split` column or, without one, a share `held_out` of the patients is dealt to
    validation and test by `seed`, half each; 0: all pictures train, which is what cross-validation cuts into folds.
    Pictures of which nothing is known are left out, and so are those of the patients `without`: a network whose part
    has learned from their pictures elsewhere can neither train nor be tested on them.
    """

    kind: ClassVar[str] = "own"

    folder: str | None = None
    table: str | None = None
    columns: str = "path=path"
    vocabulary: Mapping[str, Any] = field(default_factory=dict)
    held_out: float = 0.3
    seed: int = 42
    without: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "without", tuple(self.without))  # JSON has lists
        check_arguments("own data", _FIELDS, {name: getattr(self, name) for name in _FIELDS})
        parse_columns(self.columns)

    @property
    def task(self) -> Task:
        return task_of_vocabulary(self._vocabulary())

    @property
    def has_sets(self) -> bool:
        """Whether a column of the table says them."""
        return parse_columns(self.columns).split is not None

    def describe(self) -> str:
        listed = "" if self.table is None else f" that {Path(self.table).name} lists"
        vocabulary = self._vocabulary()
        where = vocabulary.source or f"{Path(self.folder or '').name} ({vocabulary.name})"
        return f"the training pictures{listed} of {where}"

    def load(self, split: str, spec: PreprocessSpec, cache: Path) -> ImageSet | None:
        check_split(split)
        if self.folder is None:
            raise DataSetError("the folder of the pictures is not given: pass it with --data PATH")
        folder = Path(self.folder).expanduser()
        where = None if self.table is None else folder / Path(self.table).expanduser()
        table = read_own_table(folder, where, self._vocabulary(), parse_columns(self.columns))
        nothing = [table.names[k] for k in np.flatnonzero(~table.known).tolist()]
        stays = self._stays(table)
        left_out = [table.names[k] for k in np.flatnonzero(~stays).tolist()]
        new = noticed(
            ("pictures of which nothing is known, left out", nothing),
            ("pictures of patients without whom the data is asked for, left out", left_out),
        )
        tell((*table.notices, *new))
        task = self.task
        images = cached_files(  # one cache for all sets and folds
            f"own-{task.name}",
            table.paths,
            table.truth,
            task=task,
            names=table.names,
            patients=table.patients,
            spec=spec,
            cache=cache,
        )
        sets = sets_of(images, table.sets, self.held_out, self.seed)
        rows = np.flatnonzero((sets == split) & table.known & stays)
        return images.select(rows) if len(rows) else None

    def _vocabulary(self) -> Vocabulary:
        if not self.vocabulary:
            raise DataSetError(
                "what is asked of the pictures is not given: pass a vocabulary with --labels FILE "
                "(training/data/own_data/vocabulary.py shows one)"
            )
        return parse_vocabulary(self.vocabulary)

    def _stays(self, table: OwnTable) -> NDArray[np.bool_]:
        """Of each picture, (n,), whether its patient is none of `without`."""
        strangers = sorted(set(self.without) - set(table.patients))
        if strangers:
            raise DataSetError(f"without must name patients of the table. Received: {', '.join(strangers)}")
        return np.array([patient not in self.without for patient in table.patients], bool)


def task_of_vocabulary(vocabulary: Vocabulary) -> Task:
    """What a vocabulary asks. It refers from the first pathologic grade on; thresholds of labels are chosen later.

    Of each structure that lies within another one the ratio of their heights is a measure, INNER_OUTER by their codes.

    Raises:
        DataSetError: what a task cannot be.
    """
    refers: list[Rule] = [
        GradeFrom(output.name, output.pathologic[0], f"the first pathologic one of {vocabulary.name}")
        for output in vocabulary.outputs
        if isinstance(output, GradesOutput) and output.ordered and output.pathologic
    ]
    measures = [
        VerticalRatio(
            f"{inner.code}_{outer.code}", f"Vertical ratio, {inner.name} : {outer.name}", inner.code, outer.code
        )
        for output in vocabulary.outputs
        if isinstance(output, MasksOutput)
        for inner, outer in output.within
    ]
    rule = NoReferral() if not refers else refers[0] if len(refers) == 1 else AnyOf(tuple(refers))
    try:
        outputs = {output.name: _output(output, vocabulary) for output in vocabulary.outputs}
        return Task(vocabulary.name, vocabulary.modality, outputs, rule, tuple(measures))
    except ValueError as error:
        raise DataSetError(f"the vocabulary {vocabulary.name!r}: {error}") from error


def _output(output: LabelsOutput | GradesOutput | MasksOutput | PointsOutput, vocabulary: Vocabulary) -> Output:
    labels = LabelSet(
        name=vocabulary.name,
        labels=tuple(Label(entry.code, entry.name, entry.meaning) for entry in output.entries),
        pathologic=output.pathologic,
        exclusive=output.exclusive if isinstance(output, LabelsOutput) else (),
        condition=vocabulary.condition,
    )
    if isinstance(output, LabelsOutput):
        return Labels(labels)
    if isinstance(output, GradesOutput):
        return Grades(labels)
    if isinstance(output, PointsOutput):
        return Points(labels, confidence=output.confidence)
    within = tuple((inner.code, outer.code) for inner, outer in output.within)
    return Masks(labels, exclusive=output.exclusive, single=output.single, within=within, branching=output.branching)
