"""The kinds of outputs a network may have: which shape, which values, and by what the golden check divides.

A deployed model gives each output as float32 with a batch axis in front. Places lie in the model's square, x to the
right and y down, in fractions of its side: the centre of pixel i lies at (i + 0.5) / size.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from keras_realmnet.tasks.fields import by_kind, from_json
from keras_realmnet.tasks.vocabulary import LabelSet, label_set_from_dict

__all__ = ["KINDS", "Features", "Grades", "Labels", "Maps", "Masks", "Output", "Points", "output_from_dict"]

Activation = Literal["sigmoid", "softmax"]
Shape = tuple[int, ...]
Thresholds = float | tuple[float, ...]

MAX_SIDE = 4096  # positions along a side, channels


@dataclass(frozen=True)
class Output:
    """One output of a network.

    activation: what makes the deployed output of the network's logits; None: the network's output is final.
    probability: whether its values are probabilities.
    """

    kind: ClassVar[str]
    activation: ClassVar[Activation | None] = None
    probability: ClassVar[bool] = False

    def shape_of_one(self, outputs: Mapping[str, Output]) -> tuple[int | None, ...]:
        """The shape for one image, (1, ...); None for a side that the network chooses. `outputs`: all of the task."""
        raise NotImplementedError

    def check_shape(self, shape: Shape, outputs: Mapping[str, Output]) -> None:
        """Raises ValueError where the output for one image cannot have this shape."""
        expected = self.shape_of_one(outputs)
        fits = len(shape) == len(expected) and all(
            0 < got <= MAX_SIDE and side in (None, got) for got, side in zip(shape, expected, strict=True)
        )
        if not fits:
            readable = ", ".join("any" if side is None else str(side) for side in expected)
            raise ValueError(f"{self.kind} have the shape ({readable}). Received: {tuple(shape)}")

    def check(self, values: NDArray[Any]) -> None:
        """Raises ValueError for what no network gives that works: NaN, or a probability outside of [0, 1]."""
        if not np.isfinite(values).all():
            raise ValueError("not finite")
        if self.probability and not ((values >= 0) & (values <= 1)).all():
            raise ValueError("not in [0, 1]")

    def scale(self, values: NDArray[Any]) -> float:
        """By what a difference to the golden `values` is divided before it is held against the tolerance."""
        return 1.0 if self.probability else float(np.abs(values).max()) or 1.0

    def to_dict(self) -> dict[str, Any]:
        """JSON-safe; `output_from_dict` gives an equal output back."""
        return {"kind": self.kind, **asdict(self)}


@dataclass(frozen=True)
class Labels(Output):
    """Any number of labels may hold: their probabilities, (n, labels), each a sigmoid."""

    kind: ClassVar[str] = "labels"
    activation: ClassVar[Activation | None] = "sigmoid"
    probability: ClassVar[bool] = True

    labels: LabelSet

    def shape_of_one(self, outputs: Mapping[str, Output]) -> tuple[int | None, ...]:
        return 1, len(self.labels)


@dataclass(frozen=True)
class Grades(Output):
    """Exactly one of the ordered grades holds: their probabilities, (n, grades), a softmax."""

    kind: ClassVar[str] = "grades"
    activation: ClassVar[Activation | None] = "softmax"
    probability: ClassVar[bool] = True

    labels: LabelSet

    def shape_of_one(self, outputs: Mapping[str, Output]) -> tuple[int | None, ...]:
        return 1, len(self.labels)


@dataclass(frozen=True)
class Maps(Output):
    """Where the evidence for each label or grade of the output `of` lies, (n, h', w', labels); not negative."""

    kind: ClassVar[str] = "maps"

    of: str

    def shape_of_one(self, outputs: Mapping[str, Output]) -> tuple[int | None, ...]:
        explained = outputs.get(self.of)
        if not isinstance(explained, Labels | Grades):
            raise ValueError(f"maps explain an output of labels or grades. Received: {self.of!r}")
        return 1, None, None, len(explained.labels)


@dataclass(frozen=True)
class Masks(Output):
    """Which pixels belong to each structure or lesion: probabilities (n, h, w, channels) over the square.

    Not `exclusive`: a pixel may belong to several, each channel is a sigmoid. `exclusive`: to one at most, a softmax
    whose channel 0 is the background. `single`: each structure is there once, so that of what is found only the
    largest part counts, without holes. `threshold`: the probability from which a pixel belongs to it, one for all
    labels or one for each, in their order (`thresholds`). `within`: pairs of codes, (inner, outer): the inner structure
    lies inside of the outer one, as the cup in the disc, and a pixel of it belongs to both; so they are not exclusive.
    `masks.found_masks` does all of that. `branching`: structures that enclose what they are not, as vessels do: what is
    found has holes, and pictures show what it covers instead of a line around it.
    """

    kind: ClassVar[str] = "masks"
    probability: ClassVar[bool] = True

    labels: LabelSet
    exclusive: bool = False
    single: bool = False
    threshold: Thresholds = 0.5
    within: tuple[tuple[str, str], ...] = ()
    branching: bool = False

    def __post_init__(self) -> None:
        if isinstance(self.threshold, list):  # JSON's
            object.__setattr__(self, "threshold", tuple(self.threshold))
        each = self.threshold if isinstance(self.threshold, tuple) else (self.threshold,) * len(self.labels)
        if len(each) != len(self.labels) or not all(isinstance(value, int | float) and 0 < value < 1 for value in each):
            raise ValueError(
                f"`threshold` must lie in (0, 1), one number or one for each of {', '.join(self.labels.codes)}. "
                f"Received: {self.threshold!r}"
            )
        if self.branching and self.single:
            raise ValueError("masks are `single`, whose holes are filled, or `branching`, not both")
        object.__setattr__(self, "within", tuple(map(tuple, self.within)))  # JSON has lists
        inner, outer = ([pair[k] for pair in self.within if len(pair) == 2] for k in (0, 1))
        known = set(self.labels.codes)
        if self.within and (
            self.exclusive
            or not len(inner) == len(set(inner)) == len(self.within)
            or not {*inner, *outer} <= known
            or set(inner) & set(outer)
        ):
            raise ValueError(
                "`within` needs pairs (inner, outer) of codes of masks that are not exclusive: an inner one once, an "
                f"outer one in no other. Received: {self.within!r}"
            )

    @property
    def activation(self) -> Activation | None:  # type: ignore[override]
        return "softmax" if self.exclusive else "sigmoid"

    @property
    def thresholds(self) -> dict[str, float]:
        """{code: the probability from which a pixel belongs to it}."""
        each = self.threshold if isinstance(self.threshold, tuple) else (self.threshold,) * len(self.labels)
        return dict(zip(self.labels.codes, each, strict=True))

    @property
    def channels(self) -> int:
        """Of the array: the background counts where there is one."""
        return len(self.labels) + self.exclusive

    def shape_of_one(self, outputs: Mapping[str, Output]) -> tuple[int | None, ...]:
        return 1, None, None, self.channels

    def to_dict(self) -> dict[str, Any]:
        """As of any output; without `within` and `branching` where they say nothing: earlier releases read it."""
        silent = {name for name in ("within", "branching") if not getattr(self, name)}
        return {name: value for name, value in super().to_dict().items() if name not in silent}


@dataclass(frozen=True)
class Points(Output):
    """Where each landmark lies, (n, points, 2): x, y; with `confidence` (n, points, 3), the third from 0 to 1.

    `min_confidence`: below it a point counts as not found.
    """

    kind: ClassVar[str] = "points"

    labels: LabelSet
    confidence: bool = False
    min_confidence: float = 0.5

    def __post_init__(self) -> None:
        if not 0 <= self.min_confidence <= 1:
            raise ValueError(f"`min_confidence` must lie in [0, 1]. Received: {self.min_confidence!r}")

    def shape_of_one(self, outputs: Mapping[str, Output]) -> tuple[int | None, ...]:
        return 1, len(self.labels), 3 if self.confidence else 2

    def check(self, values: NDArray[Any]) -> None:
        super().check(values)
        if self.confidence and not ((values[..., 2] >= 0) & (values[..., 2] <= 1)).all():
            raise ValueError("a confidence not in [0, 1]")

    def scale(self, values: NDArray[Any]) -> float:
        return 1.0  # of the square's side


@dataclass(frozen=True)
class Features(Output):
    """A vector that describes the image, (n, dim); it becomes no finding."""

    kind: ClassVar[str] = "features"

    def shape_of_one(self, outputs: Mapping[str, Output]) -> tuple[int | None, ...]:
        return 1, None


KINDS: dict[str, type[Output]] = {kind.kind: kind for kind in (Labels, Grades, Maps, Masks, Points, Features)}


def output_from_dict(values: Any) -> Output:
    """The output that `Output.to_dict` describes. Raises ValueError for another kind or field."""
    kind, fields = by_kind(values, KINDS, "an output")
    if "labels" in fields:
        fields["labels"] = label_set_from_dict(fields["labels"])
    return from_json(kind, fields, f"an output of {kind.kind}")
