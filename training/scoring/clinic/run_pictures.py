"""What a run's network says of its test pictures on the way of the box: judged, then decided by the run's rule."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np
from numpy.typing import NDArray

from keras_realmnet.errors import DataSetError
from keras_realmnet.screening.decision import Analysis, Decision, decide
from keras_realmnet.screening.image_io import UnreadableImage
from keras_realmnet.screening.preprocessing import FieldGeometry, PreprocessSpec, preprocess
from keras_realmnet.screening.quality import Quality, assess
from keras_realmnet.tasks.guidance import deployed
from keras_realmnet.tasks.outputs import Grades, Labels
from keras_realmnet.tasks.task import Task
from training.datasets.image_set import ImageSet
from training.datasets.originals import Original, originals_of_test
from training.recipe import with_data
from training.runs import answers_of, fitted_task, in_batches, load_run
from training.scoring.clinic.figures import Judged, margin_of
from training.scoring.statistics.arrays import Array
from training.scoring.statistics.levels import eyes

__all__ = ["judge_test_pictures", "referable"]


@dataclass(frozen=True)
class _Opened:
    """`square` and `geometry` only where the picture can be judged."""

    original: Original
    quality: Quality
    square: NDArray[np.uint8] | None = None
    geometry: FieldGeometry | None = None


def judge_test_pictures(run: Path, data: str | None = None, cache: Path = Path("data/cache")) -> list[Judged]:
    """What the network of an evaluated run says of each test picture, whose original goes through the box's gate.

    Args:
        data: another place of the same data set; `None` for the one the run was trained with.

    Raises:
        RealMNetError: `run` is not the folder of a finished run. DataSetError: there are no test pictures, or not their
            originals; or the run has no rule, which evaluate chooses, though its labels have one.
    """
    model, recipe = load_run(run)
    if data is not None:
        recipe = with_data(recipe, data)
    task, spec = deployed(fitted_task(run)), recipe.spec()
    _check_rule(run, task)
    images = recipe.data.load("test", spec, cache)
    if images is None:
        raise DataSetError(f"{run}: its {recipe.data.kind} data has no test split")
    truth, eye = referable(task, images), eyes(images.names)
    opened = (_open(each, spec, task) for each in originals_of_test(recipe.data, spec, cache))
    found: list[Judged] = []
    for batch in in_batches(opened, recipe.batch_size):
        for each, decision in zip(batch, _decided(model, task, batch), strict=True):
            k = len(found)
            found.append(
                Judged(
                    name=images.names[k],
                    patient=images.patients[k],
                    eye=str(eye[k]) or None,
                    outcome=decision.outcome,
                    reasons=decision.reasons,
                    referable=None if np.isnan(truth[k]) else bool(truth[k]),
                    source=each.original.source,
                    margin=margin_of(each.quality.measures, task.modality),
                )
            )
    return found


def referable(task: Task, images: ImageSet) -> Array:
    """Whether the task's rule refers each picture by its truth: 1, 0, or NaN where that is not known, (n,).

    One is to be referred where any label is present, or its grade is one, that the rule refers.
    """
    found = [np.zeros(len(images))]
    known = False
    for name, output in task.trained.items():
        codes = task.rule.referred(name, output.labels)
        if not codes or name not in images.truth or not isinstance(output, Labels | Grades):
            continue
        known = True
        own = images.task.trained[name].labels
        present = images.truth[name][:, [own.codes.index(code) for code in codes if code in own.codes]]
        absent = (present == 0).all(axis=1) & (present.shape[1] == len(codes))
        found.append(np.where((present == 1).any(axis=1), 1.0, np.where(absent, 0.0, np.nan)))
    present = np.any([values == 1 for values in found], axis=0)  # by any output
    return np.where(present, 1.0, np.sum(found, axis=0)) if known else np.full(len(images), np.nan)


def _check_rule(run: Path, task: Task) -> None:
    pathologic = any(isinstance(each, Labels) and each.labels.pathologic for each in task.trained.values())
    if pathologic and not task.refers:
        raise DataSetError(f"{run}: the run has no rule yet: evaluate chooses its thresholds on validation pictures")


def _open(original: Original, spec: PreprocessSpec, task: Task) -> _Opened:
    try:
        pixels, source = original.read()
    except UnreadableImage as error:
        return _Opened(original, Quality("not_analysed", (error.problem,)))
    quality = assess(pixels, source, task.modality, task.needs)
    if quality.verdict != "gradable":
        return _Opened(original, quality)
    square, geometry = preprocess(pixels, spec)
    width, height = pixels.shape[1::-1] if source is None else source.size
    return _Opened(original, quality, square, geometry.on((height, width)))


def _decided(model: keras.Model, task: Task, batch: Sequence[_Opened]) -> Iterator[Decision]:
    squares = [each.square for each in batch if each.square is not None]
    said: dict[str, NDArray[np.float32]] = {}
    if squares:
        answer = model.predict(np.stack(squares).astype(np.float32), batch_size=len(squares), verbose=0)
        said = answers_of(task, answer)
    k = 0
    for each in batch:
        analysis = None
        if each.square is not None and each.geometry is not None:
            analysis = Analysis({name: values[k] for name, values in said.items()}, each.square, each.geometry)
            k += 1
        yield decide(analysis, each.quality, task)
