"""The table of the kinds that can be trained."""

from collections.abc import Mapping
from typing import Any

from keras_realmnet.tasks.guidance import is_marked
from keras_realmnet.tasks.outputs import Grades, Labels, Masks, Output, Points
from training.tasks.grades import GradesKind
from training.tasks.kind import TrainedKind
from training.tasks.labels import LabelsKind
from training.tasks.masks import MasksKind
from training.tasks.points import PointsKind
from training.tasks.regions import RegionsKind

__all__ = ["KINDS", "kind_of"]

KINDS: Mapping[type[Output], TrainedKind[Any]] = {
    Labels: LabelsKind(),
    Grades: GradesKind(),
    Masks: MasksKind(),
    Points: PointsKind(),
}
MARKED = RegionsKind()


def kind_of(output: Output) -> TrainedKind[Any]:
    """What training knows of an output. Raises ValueError for one that has no truth."""
    if type(output) not in KINDS:
        known = ", ".join(kind.kind for kind in KINDS)
        raise ValueError(f"an output that is trained must be one of {known}. Received: {output.kind}")
    return MARKED if is_marked(output) else KINDS[type(output)]
