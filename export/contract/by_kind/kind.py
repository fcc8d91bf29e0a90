"""What one kind of output is to the contract; the kinds themselves are beside this module, see `kinds`."""

from collections.abc import Mapping
from typing import Any, ClassVar, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from export.contract.by_kind.figures import Cells, Change, Decoding, Figure, Values
from keras_realmnet.screening.engines.base import Prediction
from keras_realmnet.tasks.outputs import Output
from keras_realmnet.tasks.task import Task
from training.tasks.kinds import kind_of

__all__ = ["KindContract"]

Array = NDArray[Any]
Of = TypeVar("Of", bound=Output)


class KindContract(Generic[Of]):
    """What an artifact has to keep of one kind of output.

    figures: {name: figure} of those that have a limit; `compare` may give more. limits: {precision: {name: limit}},
    `None` where nothing is promised. changes: {name: score that is compared where the truth is known}. cells: what a
    table shows. drawn_as: what `drawn` gives, and what is counted, as the axes of a picture say it; empty where nothing
    is drawn. decoding: what decoding JPEGs at half their size may change; `None` where another output tells.
    """

    figures: ClassVar[Mapping[str, Figure]] = {}
    limits: ClassVar[dict[str, dict[str, float | None]]]
    changes: ClassVar[Mapping[str, Change]] = {}
    cells: ClassVar[Cells]
    drawn_as: ClassVar[tuple[str, str]] = ("", "")
    decoding: ClassVar[Decoding | None] = None

    def limits_for(self, output: Of) -> dict[str, dict[str, float | None]]:
        """`limits`, where they differ among outputs of the kind: those of `output`."""
        return self.limits

    def compare(self, name: str, task: Task, size: int, expected: Prediction, received: Prediction) -> Values:
        """The figures of two predictions of the same n images.

        Args:
            name: of the output. size: side of the model's square, in pixels.
            expected, received: what Keras and the artifact give for the images.
        """
        raise NotImplementedError

    def drawn(self, name: str, task: Task, size: int, expected: Prediction, received: Prediction) -> Array:
        """Single differences, of any shape, NaN where there is none."""
        return np.empty(0)

    def tells(self, output: Of, values: Array) -> Array:
        """How much the network says of each of n images, (n,), of its answer: the golden image is where it is most."""
        return np.zeros(len(values))

    def truth_form(self, output: Of, images: int, size: int) -> tuple[str, tuple[int, ...]]:
        """The element type and the shape of the truth of so many images."""
        raise ValueError(f"{output.kind} have no truth")

    def check_truth(self, output: Of, truth: Array, size: int) -> None:
        """Raises ValueError for a truth that is none."""
        kind_of(output).check(output, truth, size)
