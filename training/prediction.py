"""What a run's network says of any pictures, as a table: the way of the box, without its rule.

A picture that cannot be read keeps its row, which then says why. Places are in pixels of the picture, the centre of
the upper left one at (0, 0).
"""

import csv
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from keras_realmnet.errors import RealMNetError
from keras_realmnet.screening.image_io import UnreadableImage, may_be_image, read_header, read_image
from keras_realmnet.screening.preprocessing import FieldGeometry, PreprocessSpec, preprocess
from keras_realmnet.screening.quality import assess
from keras_realmnet.tasks.findings import Finding, GradeFinding, LabelFinding, MaskFinding, Measure, PointFinding
from keras_realmnet.tasks.guidance import deployed
from keras_realmnet.tasks.outputs import Grades, Labels, Masks, Points
from keras_realmnet.tasks.task import Task
from training.runs import answers_of, fitted_task, in_batches, load_run

__all__ = ["predict_pictures", "task_columns"]

ABOUT = ("file", "picture", "quality", "remarks")  # the first columns: which picture, and whether it can be judged


@dataclass(frozen=True)
class _Picture:
    """One of the pictures in a file; `square` and `geometry` only where the network is asked."""

    name: str
    frame: int
    quality: str
    remarks: str
    square: NDArray[np.uint8] | None = None
    geometry: FieldGeometry | None = None


def predict_pictures(
    run: Path, sources: Sequence[Path], out: Path, features: bool = False, only_gradable: bool = False
) -> tuple[int, int]:
    """Writes a table with one row for each picture of `sources`, files or folders of them.

    Its columns: file, picture (its number in the file), quality (gradable, insufficient or not_analysed, "unreadable"
    where it could not be read), remarks (why); then those of `task_columns`; then, with `features`, feature_0 …: the
    mean over the network's last feature map.

    Args:
        only_gradable: do not ask the network about pictures that cannot be judged; their rows say why.

    Returns:
        How many pictures there were, and how many of them could not be read.

    Raises:
        RealMNetError: `run` is not the folder of a finished run, there is no picture, `out` cannot be written, or the
            network has no feature map.
    """
    model, recipe = load_run(run)
    task = deployed(fitted_task(run))
    spec = recipe.spec()
    asked = _with_features(model) if features else model
    pictures = unreadable = 0
    temporary = out.with_name(f"{out.name}.tmp")
    try:
        with temporary.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            for batch in in_batches(_pictures(sources, spec, task, only_gradable), recipe.batch_size):
                rows, names = _rows(asked, task, batch, features)
                if not pictures:
                    writer.writerow([*ABOUT, *task_columns(task), *names])
                writer.writerows(rows)
                pictures += len(batch)
                unreadable += sum(each.quality == "unreadable" for each in batch)
        if not pictures:
            raise RealMNetError(f"no picture in {', '.join(map(str, sources))}")
        temporary.replace(out)
    except OSError as error:
        raise RealMNetError(f"{out}: cannot be written ({error.strerror})") from error
    finally:
        temporary.unlink(missing_ok=True)
    return pictures, unreadable


def task_columns(task: Task) -> list[str]:
    """The columns of a task's findings, output by output, then its measures.

    labels: each code, its probability. grades: the output's name, the most probable grade, and each code, its
    probability. masks: CODE_parts (how many were found), CODE_share (of the field, nothing where areas are stretched),
    CODE_probability (the mean inside). points: CODE_x, CODE_y, nothing where it was not found, and where there is one
    CODE_confidence. A name that was taken before has the output's in front.
    """
    columns: list[str] = []
    for name, output in task.trained.items():
        codes = output.labels.codes
        if isinstance(output, Labels):
            wanted = list(codes)
        elif isinstance(output, Grades):
            wanted = [name, *codes]
        elif isinstance(output, Masks):
            wanted = [f"{code}_{what}" for code in codes for what in ("parts", "share", "probability")]
        else:
            what = ("x", "y", "confidence") if output.confidence else ("x", "y")
            wanted = [f"{code}_{each}" for code in codes for each in what]
        columns += [f"{name}_{each}" if each in (*ABOUT, *columns) else each for each in wanted]
    return columns + [f"measure_{m.code}" if m.code in (*ABOUT, *columns) else m.code for m in task.measures]


def _values(task: Task, findings: Iterable[Finding]) -> Iterator[Any]:
    """What stands in `task_columns`; None where there is nothing."""
    for each in findings:
        if isinstance(each, LabelFinding):
            yield each.probability
        elif isinstance(each, GradeFinding):
            yield each.code
            yield from each.probabilities.values()
        elif isinstance(each, MaskFinding):
            yield from (len(each.outlines), each.share, each.probability)
        elif isinstance(each, PointFinding):
            yield from (each.x, each.y)
            output = task.trained[each.output]
            if isinstance(output, Points) and output.confidence:
                yield each.confidence
        elif isinstance(each, Measure):
            yield each.value


def _rows(asked: keras.Model, task: Task, batch: Sequence[_Picture], features: bool) -> tuple[list[Any], list[str]]:
    """The rows of some pictures, and the names of the features' columns."""
    squares = [each.square for each in batch if each.square is not None]
    said: dict[str, NDArray[Any]] = {}
    vectors: NDArray[Any] = np.empty((len(squares), 0))
    width = asked.output["features"].shape[-1] if features else 0
    if squares:
        answer = asked.predict(np.stack(squares).astype(np.float32), batch_size=len(squares), verbose=0)
        if features:
            vectors, answer = answer["features"], answer["said"]
        said = answers_of(task, answer)
    rows, k = [], 0
    for each in batch:
        row: list[Any] = [each.name, each.frame, each.quality, each.remarks]
        if each.square is None or each.geometry is None:
            row += [None] * (len(task_columns(task)) + width)
        else:
            findings = task.findings({name: values[k] for name, values in said.items()}, each.geometry, each.square)
            row += [*_values(task, findings), *vectors[k].tolist()]
            k += 1
        rows.append(["" if value is None else value for value in row])
    return rows, [f"feature_{k}" for k in range(width)]


def _with_features(model: keras.Model) -> keras.Model:
    """Its outputs, and the mean over its last feature map."""
    feature_map = getattr(model, "feature_map", None)
    if feature_map is None:
        raise RealMNetError(f"{model.name} has no feature map that could be described: leave out --features")
    vector = keras.layers.GlobalAveragePooling2D(dtype="float32", name="features")(feature_map)
    return keras.Model(model.input, {"said": model.output, "features": vector})


def _pictures(sources: Sequence[Path], spec: PreprocessSpec, task: Task, only_gradable: bool) -> Iterator[_Picture]:
    for source in sources:
        files = sorted(path for path in source.rglob("*") if path.is_file()) if source.is_dir() else [source]
        for file in files:
            if source.is_dir() and not may_be_image(file):
                continue
            name = file.relative_to(source).as_posix() if source.is_dir() else str(file)
            yield from _pictures_of(file, name, spec, task, only_gradable)


def _pictures_of(file: Path, name: str, spec: PreprocessSpec, task: Task, only_gradable: bool) -> Iterator[_Picture]:
    try:
        count = max(1, read_header(file).pictures)
    except UnreadableImage:  # which reading the picture tells
        count = 1
    for frame in range(1, count + 1):
        try:
            image = read_image(file, name, frame=frame, min_side=spec.min_side)
        except UnreadableImage as error:
            yield _Picture(name, frame, "unreadable", error.problem)
            continue
        quality = assess(image.pixels, image.source, task.modality, task.looked_for)
        told = name, frame, quality.verdict, " ".join(quality.reasons)
        if only_gradable and quality.verdict != "gradable":
            yield _Picture(*told)
            continue
        square, decoded = preprocess(image.pixels, spec)
        width, height = image.source.size
        factor = height // decoded.source[0]  # 2 where a large picture was decoded at half its size
        x0, y0, x1, y1 = (side * factor for side in decoded.box)
        yield _Picture(*told, square, FieldGeometry((height, width), (x0, y0, x1, y1), spec.size))
