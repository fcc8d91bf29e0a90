"""What one kind of output is to training; the kinds themselves are beside this module, see `kinds`."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, ClassVar, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from keras_realmnet.tasks.outputs import Grades, Labels, Masks, Points
from training.scoring.statistics.bootstrap import MakeScorer, Scorer, values_of
from training.tasks.motion import Motion

__all__ = ["Cases", "TrainedKind"]

Array = NDArray[Any]
Cases = Mapping[str, Array]  # numbers of each image, (n, ...) each
Of = TypeVar("Of", bound=Labels | Grades | Masks | Points)


class TrainedKind(Generic[Of]):
    """A kind of output whose truth is known.

    losses: the classes of `keras_realmnet.losses` for it, the default one first. They take the truth as it is, unknown
    values included, and the network's output before its activation.
    mixes: whether the truth of two images can be mixed as MixUp and CutMix mix the images.
    spatial: whether the truth lies somewhere in the image, so that it moves with it. beside_pixels: whether it is kept
    as the pixels are, one array for each prepared image.
    figures: {name: whether more is better} of the scores, those that are shown of the validation images after an epoch.
    """

    losses: ClassVar[tuple[str, ...]]
    mixes: ClassVar[bool] = False
    spatial: ClassVar[bool] = False
    beside_pixels: ClassVar[bool] = False
    figures: ClassVar[Mapping[str, bool]]

    def losses_of(self, output: Of) -> Mapping[str, Mapping[str, Any]]:
        """The losses that fit, the default one first, each with the options that follow from the output."""
        return {name: {} for name in self.losses}

    def check(self, output: Of, truth: Array, side: int) -> None:
        """Raises ValueError for a truth of another form; `side`: of the square, in pixels."""
        raise NotImplementedError

    def unknown(self, output: Of, count: int, side: int) -> Array:
        """The truth of `count` images of which nothing is known, in squares of `side` pixels."""
        return np.full((count, len(output.labels)), np.nan, np.float32)

    def presence(self, output: Of, truth: Array) -> tuple[Array, Array]:
        """Of n images and each label, bool (n, labels) each: whether it is there, and whether that is known."""
        return truth > 0, ~np.isnan(truth)

    def resized(self, truth: Array, size: int) -> Array:
        """The truth of one image for a square of another size."""
        return truth

    def moved(self, truth: Array, motion: Motion) -> Array:
        """The truth of one image after a motion of the image; the same array where it does not move."""
        return truth

    def cases(self, output: Of, truth: Array, predicted: Array) -> dict[str, Array]:
        """What scores need of n images, (n, ...) each, so that larger arrays need not be kept.

        Args:
            truth: (n, ...). predicted: (n, ...) as a deployed network gives it, after the activation.
        """
        raise NotImplementedError

    def scorer(self, output: Of, cases: Cases, units: Array) -> Scorer:
        """All scores of these cases; `units`: int (n,), the unit that each belongs to, its patient, say."""
        raise NotImplementedError

    def make_scorer(self, output: Of, cases: Cases) -> MakeScorer:
        """`scorer`, waiting for the units."""
        return partial(self.scorer, output, cases)

    def scores(self, output: Of, cases: Cases) -> dict[str, float | None]:
        """The figures of all images; None where one does not exist, as the AUROC of a label that no image has."""
        found = values_of(self.make_scorer(output, cases), len(next(iter(cases.values()))))
        return {name: None if np.isnan(found[name]) else found[name] for name in self.figures}

    def counts(self, output: Of, cases: Cases) -> dict[str, Any]:
        """What was there to be scored, JSON-safe."""
        raise NotImplementedError

    def curves(self, output: Of, cases: Cases) -> dict[str, Any]:
        """What a report draws beside the scores, JSON-safe; empty where there is nothing."""
        return {}

    def columns(self, name: str, output: Of, cases: Cases) -> dict[str, Sequence[str]]:
        """The output called `name`, image by image, as columns of a table: what is true, what the network says."""
        raise NotImplementedError
