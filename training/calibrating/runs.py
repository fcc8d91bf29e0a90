"""A finished run calibrated: what is fitted on its validation images goes into its folder, and into its bundle."""

from pathlib import Path
from typing import Any

import numpy as np

from keras_realmnet.errors import DataSetError
from keras_realmnet.screening.bundle.folder_change import sha256_of
from keras_realmnet.screening.preprocessing import PreprocessSpec
from training.calibrating.fitting import Settings, Validation, classified, fit_task
from training.calibrating.measuring import coverage_of_splits, measure
from training.datasets.data_set import DataSet
from training.datasets.image_set import ImageSet
from training.recipe import with_data
from training.runs import CALIBRATION_FILE, WEIGHTS_FILE, load_run, predict, read_task
from training.scoring.evaluate import write_json

__all__ = ["calibrate_run", "held_apart", "with_answers"]


def calibrate_run(
    run: Path,
    settings: Settings,
    data: str | None = None,
    cache: Path = Path("data/cache"),
    replicates: int = 1000,
    splits: int = 0,
) -> dict[str, Any]:
    """Fits what stands between the run's network and its decision, and measures it on the test images.

    Everything is fitted on validation images. Writes `calibration.json` into the run folder, which a bundle of the run
    takes in; a run that is trained again is calibrated again.

    Args:
        data: another place of the run's data. splits: random ones of the validation patients on which the coverage is
            counted (`coverage_of_splits`).

    Returns:
        What was written: "weights_sha256", "rule", "fitted", "report" (how it was fitted), "test" (what `measure`
        gives) and, with `splits`, "splits".

    Raises:
        RealMNetError: `run` is not the folder of a finished run.
        DataSetError: no validation images that are not the test images; too few patients.
    """
    model, recipe = load_run(run)
    if data is not None:
        recipe = with_data(recipe, data)
    validation, test = held_apart(recipe.data, recipe.spec(), cache)
    task = read_task(run)
    sets = {}
    for split, images in (("validation", validation), ("test", test)):
        said = predict(model, images, recipe.batch_size)
        asked = {name: said[name] for name in classified(task)}
        sets[split] = with_answers(images, asked, f"{split} images of {recipe.data.kind}")
    fitting = fit_task(task, sets["validation"], settings)
    result: dict[str, Any] = {
        "weights_sha256": sha256_of(Path(run) / WEIGHTS_FILE),
        "rule": fitting.task.rule.to_dict(),
        "fitted": fitting.task.fitted.to_dict(),
        "report": fitting.report,
        "test": measure(fitting.task, sets["test"], replicates),
    }
    if splits:
        result["splits"] = coverage_of_splits(fitting.task, sets["validation"], splits, settings)
    write_json(Path(run) / CALIBRATION_FILE, result)
    return result


def held_apart(data: DataSet, spec: PreprocessSpec, cache: Path) -> tuple[ImageSet, ImageSet]:
    """The validation and the test images of a data set. Raises DataSetError unless there are both, of other patients:
    nothing is ever chosen on what is reported."""
    loaded = {split: data.load(split, spec, cache) for split in ("validation", "test")}
    for split, images in loaded.items():
        if images is None or not len(images):
            raise DataSetError(f"{data.kind} has no {split} images")
    validation, test = loaded["validation"], loaded["test"]
    assert validation is not None
    assert test is not None
    if both := set(validation.patients) & set(test.patients):
        raise DataSetError(
            f"{data.kind}: {len(both)} patients are in validation and test; what is chosen on one must not be measured "
            f"on the other"
        )
    return validation, test


def with_answers(images: ImageSet, predicted: dict[str, Any], what: str) -> Validation:
    """Images with what an engine said of them, {output: (n, labels)}; `what` they are, in words."""
    truth = {name: np.asarray(images.truth_of(name)) for name in predicted}
    return Validation(predicted, truth, np.asarray(images.patients, np.str_), what)
