"""The table of the contracts of all kinds, and what precisions there are."""

from collections.abc import Mapping
from typing import Any

from export.contract.by_kind.features import FeaturesContract
from export.contract.by_kind.grades import GradesContract
from export.contract.by_kind.kind import KindContract
from export.contract.by_kind.labels import LabelsContract
from export.contract.by_kind.maps import MapsContract
from export.contract.by_kind.masks import MasksContract
from export.contract.by_kind.points import PointsContract
from keras_realmnet.errors import RealMNetError
from keras_realmnet.tasks.outputs import Features, Grades, Labels, Maps, Masks, Output, Points

__all__ = ["KINDS", "PRECISIONS", "contract_of", "limits_of", "precision_of"]

PRECISIONS = ("float32", "float16", "int8")

KINDS: Mapping[type[Output], KindContract[Any]] = {
    Labels: LabelsContract(),
    Grades: GradesContract(),
    Maps: MapsContract(),
    Masks: MasksContract(),
    Points: PointsContract(),
    Features: FeaturesContract(),
}


def contract_of(output: Output) -> KindContract[Any]:
    """What an artifact has to keep of an output."""
    return KINDS[type(output)]


def limits_of(output: Output, precision: str) -> Mapping[str, float | None]:
    """{name: limit} of an output in an artifact of that precision. Raises RealMNetError as `precision_of`."""
    limits = contract_of(output).limits_for(output)
    return limits.get(precision) or limits[precision_of(precision)]


def precision_of(precision: str) -> str:
    """The one whose limits hold: "int8_mixed" and other kinds of int8 have those of "int8", but for what has its own.

    Raises:
        RealMNetError: nothing is promised of that precision.
    """
    kind = next((kind for kind in PRECISIONS if precision == kind or precision.startswith(f"{kind}_")), None)
    if kind is None:
        raise RealMNetError(f"an artifact's precision must be one of {', '.join(PRECISIONS)}. Received: {precision!r}")
    return kind
