"""The vertical cup-to-disc ratio alone as a predictor of glaucoma, by which networks of glaucoma are measured."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_realmnet.errors import DataSetError, RealMNetError
from keras_realmnet.tasks.masks import found_masks
from keras_realmnet.tasks.measures import VerticalRatio
from keras_realmnet.tasks.outputs import Labels, Masks
from keras_realmnet.tasks.task import Task
from training.datasets.data_set import DataSet
from training.datasets.image_set import ImageSet
from training.runs import activated, answers, load_run, read_task
from training.scoring.by_kind.sums import unit_count
from training.scoring.evaluate import write_json
from training.scoring.statistics.arrays import Array
from training.scoring.statistics.bootstrap import Bootstrap, Scorer, with_intervals
from training.scoring.statistics.ranking import Ranking
from training.scoring.statistics.scores import as_json
from training.scoring.tables import write_table
from training.tasks.masks import enlarged, height

__all__ = ["measured_ratio", "ratios_of", "score_ratio"]


def score_ratio(
    run: Path, data: DataSet, name: str, cache: Path = Path("data/cache"), replicates: int = 1000
) -> dict[str, Any]:
    """How well the ratio that a finished run measures tells the eyes that a label says, on pictures new to it.

    The ratio is that of the heights of what is found (`VerticalRatio`), in the network's square; it counts as 0 where
    no outer structure is found. Writes `ratio_on_NAME.json` and `ratio_on_NAME.csv` into the run folder.

    Args:
        data: all of its training split is scored; it knows one label, that is not known of some pictures perhaps.

    Returns:
        What was written: "data", "measure", its code; "pictures"; "bootstrap"; "counts": of pictures whose label is
        known, and "not_found", without an outer structure; "scores", "auroc" and "ap": fields of `Interval`.

    Raises:
        RealMNetError: `run` is not the folder of a finished run, or its task measures no such ratio.
        DataSetError: the data is not there, or knows other than one label.
    """
    model, recipe = load_run(run)
    task = read_task(run)
    _, ratio = measured_ratio(task)
    images = data.load("train", recipe.spec(), cache)
    if images is None:
        raise DataSetError(f"{name}: no pictures")
    labels = [each for each in images.task.trained.values() if isinstance(each, Labels)]
    if len(labels) != 1 or len(labels[0].labels) != 1:
        raise DataSetError(f"{name}: expected data that knows one label. Received: {', '.join(images.task.trained)}")
    found = ratios_of(model, task, images, recipe.batch_size)
    values, truth = np.nan_to_num(found), images.labels[:, 0].astype(np.float64)

    def make(units: Array) -> Scorer:
        ranking = Ranking(truth, values, units, unit_count(units))

        def scorer(weights: Array) -> Mapping[str, Array]:
            return dict(zip(("auroc", "ap"), ranking(weights), strict=True))

        return scorer

    bootstrap, known = Bootstrap("patient", replicates), int((~np.isnan(truth)).sum())
    result = {
        "data": name,
        "measure": ratio.code,
        "pictures": len(images),
        "bootstrap": bootstrap.describe(),
        "counts": {"auroc": known, "ap": known, "not_found": int(np.isnan(found).sum())},
        "scores": as_json(with_intervals(make, np.array(images.patients), bootstrap)),
    }
    (code,) = labels[0].labels.codes
    columns = {f"true_{code}": ["" if np.isnan(each) else f"{each:g}" for each in truth.tolist()]}
    columns[ratio.code] = [f"{each:.4f}" for each in values.tolist()]
    write_table(run / f"ratio_on_{name}.csv", images.names, images.patients, columns)
    write_json(run / f"ratio_on_{name}.json", result)
    return result


def ratios_of(model: keras.Model, task: Task, images: ImageSet, batch_size: int) -> Array:
    """The ratio that `task` measures of what its network finds, of each image, (n,); NaN without an outer structure."""
    name, ratio = measured_ratio(task)
    output = task.trained[name]
    assert isinstance(output, Masks)
    found = []
    for _, said in answers(model, images, batch_size, at_a_time=1):
        for probability in activated(output, said[name])[..., int(output.exclusive) :]:
            structures = found_masks(output, enlarged(probability, model.image_size[0])).astype(bool)
            columns = (output.labels.codes.index(code) for code in (ratio.inner, ratio.outer))
            inner, outer = (height(structures[..., column]) for column in columns)
            found.append(inner / outer if outer else np.nan)
    return np.array(found)


def measured_ratio(task: Task) -> tuple[str, VerticalRatio]:
    """The output of masks of which the task measures a vertical ratio, and that.

    Raises RealMNetError where there is none.
    """
    masks = {name: output for name, output in task.trained.items() if isinstance(output, Masks)}
    for ratio in task.measures:
        for name, output in masks.items():
            if isinstance(ratio, VerticalRatio) and {ratio.inner, ratio.outer} <= set(output.labels.codes):
                return name, ratio
    measured = ", ".join(each.code for each in task.measures) or "nothing"
    raise RealMNetError(f"expected a run that measures a vertical ratio of masks. Received: {measured}")
