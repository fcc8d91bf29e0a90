"""What a bundle's model says of many pictures, and the reference that follows: which pictures it knows.

Files need no Keras: only drawing does, as its recipes import it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from math import ceil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from sklearn.decomposition import PCA

from keras_realmnet.errors import RealMNetError
from keras_realmnet.screening.bundle.bundle import Bundle
from keras_realmnet.screening.decision import Analysis, decide
from keras_realmnet.screening.engines.registry import engine_class
from keras_realmnet.screening.image_io import ImageSource, UnreadableImage, may_be_image, read_image
from keras_realmnet.screening.preprocessing import preprocess
from keras_realmnet.screening.quality import assess
from keras_realmnet.screening.runtimes import Runtime
from keras_realmnet.tasks.outputs import Features
from keras_realmnet.tasks.reference import Distribution, Reference, directions
from keras_realmnet.tasks.task import FEATURES

if TYPE_CHECKING:
    from training.datasets.made.phantom import PhantomDataSet

__all__ = [
    *("MEASURES", "Described", "describe", "drawn_data", "drawn_pictures", "files_in", "fit_reference"),
    *("open_with_features", "read_pictures", "reference_of_drawings", "reference_of_files"),
]

COMPONENTS = (8, 16, 32, 64, 128, 256)
MOST_NUMBERS = 256 * 320  # of all components, in the bundle: 164 kB
MOST_DRAWN = 1000  # pictures of a split
MOST_DISTANCES = 200  # in the bundle: their quantiles
# Of `quality.assess`, what tells of camera and light whatever the size of the picture.
MEASURES = (
    *("brightness", "saturation", "green_ratio", "blue_ratio"),
    *("overexposed", "visible", "sharpness", "vessel_contrast"),
)

# Pixels, uint8 RGB (h, w, 3), and what the file says about itself.
Picture = tuple[NDArray[np.uint8], ImageSource | None]


@dataclass(frozen=True)
class Described:
    """features: (n, dim) of the gradable pictures. measures: {name: (n,)} of them, see `quality.assess`. outcomes: of
    these and of those that show too little. left_out: of other kinds, or not readable."""

    features: NDArray[np.float32]
    measures: dict[str, NDArray[np.float64]]
    outcomes: Counter[str]
    left_out: int = 0


def describe(pictures: Iterable[Picture], bundle: Bundle, runtime: Runtime, features: str) -> Described:
    """What the opened model of a bundle says of pictures, one by one as on the box; `features` is the output's name.

    Raises RealMNetError where no picture is gradable.
    """
    task = replace(bundle.task, reference=None)
    rows, measures, outcomes, left_out = [], [], Counter[str](), 0
    for pixels, source in pictures:
        quality = assess(pixels, source, task.modality)
        if quality.verdict == "gradable":
            square, geometry = preprocess(pixels, bundle.spec)
            predicted = {name: values[0] for name, values in runtime.predict(square[None]).items()}
            rows.append(predicted[features])
            measures.append([quality.measures[name] for name in MEASURES])
            outcomes[decide(Analysis(predicted, square, geometry), quality, task).outcome] += 1
        elif quality.verdict == "insufficient":
            outcomes[quality.verdict] += 1
        else:
            left_out += 1
    if not rows:
        raise RealMNetError(f"none of {left_out + outcomes.total()} pictures is gradable")
    columns = np.array(measures).T
    return Described(np.stack(rows), dict(zip(MEASURES, columns, strict=True)), outcomes, left_out)


def reference_of_files(
    bundle: Bundle, known: Sequence[Path], held_out: Sequence[Path], statement: str, **options: Any
) -> Reference:
    """The reference of image files, or of those in folders, of which every second one is held out.

    Where files are named that the network did not learn from, only these are, and every second one: the others are
    fitted with the `known` ones, whose features lie closer together than those of any new picture.
    """
    output, runtime = open_with_features(bundle)
    pictures, others = list(files_in(known)), list(files_in(held_out))
    fitted, held = (pictures + others[::2], others[1::2]) if others else (pictures[::2], pictures[1::2])
    fits, holds = (describe(read_pictures(files, bundle), bundle, runtime, output) for files in (fitted, held))
    return fit_reference(output, fits, holds, _counted(statement, fits, holds), **options)


def reference_of_drawings(bundle: Bundle, data: PhantomDataSet, **options: Any) -> Reference:
    """The reference of drawn pictures: some of the training split with every second one of the validation split."""
    output, runtime = open_with_features(bundle)
    validation = list(drawn_pictures(data, "validation", MOST_DRAWN))
    fitted = chain(drawn_pictures(data, "train", MOST_DRAWN), validation[::2])
    fits, holds = (describe(pictures, bundle, runtime, output) for pictures in (fitted, validation[1::2]))
    return fit_reference(output, fits, holds, _counted(data.describe(), fits, holds), **options)


def drawn_data(recipe: str) -> PhantomDataSet:
    """The data set of a recipe. Raises RealMNetError where it draws no ultra-widefield pictures."""
    from training.datasets.made.phantom import PhantomDataSet
    from training.recipe import load_recipe

    data = load_recipe(recipe).data
    if not isinstance(data, PhantomDataSet):
        raise RealMNetError(f"{recipe}: its pictures are not drawn ({data.kind}): name them by --images")
    return data


def _counted(statement: str, known: Described, held_out: Described) -> str:
    return f"{statement}: {len(known.features)}, and {len(held_out.features)} held out"


def open_with_features(bundle: Bundle) -> tuple[str, Runtime]:
    """The name of the model's features, and the model that gives them as well.

    Raises BundleMismatch where it gives none.
    """
    named = (name for name, output in bundle.task.outputs.items() if isinstance(output, Features))
    output = next(named, FEATURES)
    artifact = bundle.artifact()
    outputs = dict.fromkeys((*bundle.task.outputs, output))
    return output, engine_class(artifact.engine)(bundle.model_file(), outputs=tuple(outputs))


def files_in(sources: Iterable[Path]) -> Iterator[Path]:
    """The sources that are files, and the image files in those that are folders."""
    for source in sources:
        yield from (
            sorted(filter(may_be_image, filter(Path.is_file, source.rglob("*")))) if source.is_dir() else [source]
        )


def read_pictures(files: Iterable[Path], bundle: Bundle) -> Iterator[Picture]:
    """Image files as the box reads them; what cannot be read is left out."""
    for path in files:
        try:
            image = read_image(path, min_side=bundle.spec.min_side)
        except UnreadableImage:
            continue
        yield image.pixels, image.source


def drawn_pictures(data: PhantomDataSet, split: str, most: int) -> Iterator[Picture]:
    """At most so many pictures of a split, from all over it, drawn now."""
    cases, _ = data.cases(split)
    for case in cases[:: max(1, ceil(len(cases) / most))]:
        yield case.render(data.width).image, None


def fit_reference(
    output: str,
    known: Described,
    held_out: Described,
    pictures: str,
    false_alarm_rate: float = 0.05,
    refuse_above: float | None = None,
    components: int | None = None,
) -> Reference:
    """The reference of `known` pictures, which has its threshold from others.

    Args:
        output: the name of the features.
        held_out: pictures like them that neither the network nor the statistics have seen: a new one like them exceeds
            the threshold with a probability of `false_alarm_rate` at most (the rank of split conformal prediction).
        pictures: which they are, in words.
        components: directions with a variance of their own; None: of `COMPONENTS` as many as make the pictures held out
            most probable.

    Raises:
        RealMNetError: too few pictures for so many components, or to state that rate.
    """
    number, dim = known.features.shape
    asked = COMPONENTS if components is None else (components,)
    chosen_from = [k for k in asked if 2 * k <= number and k < dim and k * dim <= MOST_NUMBERS]
    if not chosen_from:
        raise RealMNetError(
            f"{asked[0]} components need {2 * asked[0]} pictures, more than {asked[0]} features, and {MOST_NUMBERS:,} "
            f"numbers at most. Received: {number} pictures and {dim} features"
        )
    features = directions(known.features)
    fitted = PCA(svd_solver="full").fit(features)

    def of(k: int) -> Reference:
        rest = features.var(axis=0, ddof=1).sum() - fitted.explained_variance_[:k].sum()
        return Reference(
            output=output,
            pictures=pictures,
            mean=fitted.mean_.astype(np.float32),
            components=fitted.components_[:k].astype(np.float16),
            variances=fitted.explained_variance_[:k].astype(np.float32),
            noise=float(rest / (dim - k)),
            threshold=1.0,
            false_alarm_rate=false_alarm_rate,
        )

    reference = max(map(of, chosen_from), key=lambda each: _likelihood(each, held_out.features))
    distances = np.sort(reference.distance(held_out.features))
    rank = ceil((len(distances) + 1) * (1 - false_alarm_rate))
    if rank > len(distances):
        raise RealMNetError(
            f"a false-alarm rate of {false_alarm_rate} needs {ceil(1 / false_alarm_rate) - 1} pictures held out. "
            f"Received: {len(distances)}"
        )
    threshold = float(distances[rank - 1])
    if refuse_above is not None and refuse_above < threshold:
        raise RealMNetError(f"nothing below the threshold of {threshold:.3f} is refused. Received: {refuse_above}")
    return replace(
        reference,
        threshold=threshold,
        refuse_above=refuse_above,
        distances=_thinned(distances.tolist()),
        measures={name: Distribution.of(values) for name, values in held_out.measures.items()},
        outcomes=dict(held_out.outcomes),
    )


def _likelihood(reference: Reference, features: NDArray[np.float32]) -> float:
    """The mean logarithm of the density at features (n, dim), but for a constant."""
    dim, k = reference.mean.size, len(reference.components)
    spread = np.log(reference.variances).sum() + (dim - k) * np.log(reference.noise)
    return float(-(dim * (reference.distance(features) ** 2).mean() + spread) / 2)


def _thinned(values: Sequence[float]) -> tuple[float, ...]:
    """At most `MOST_DISTANCES` of ascending values, their quantiles."""
    if len(values) <= MOST_DISTANCES:
        return tuple(values)
    return tuple(np.quantile(values, (np.arange(MOST_DISTANCES) + 0.5) / MOST_DISTANCES).tolist())
