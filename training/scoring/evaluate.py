"""From a network or a run to scores with intervals: of images, of eyes and of patients.

What is scored, and at which level, is in `cases` and `levels`; the scores themselves are in `scores`, the tests between
two networks in `significance`. Tables of scores do without Keras: `tables`.
"""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import keras

from keras_realmnet.errors import DataSetError
from keras_realmnet.tasks.outputs import Labels
from keras_realmnet.tasks.rules import AnyAbove, NoReferral, OperatingPoint
from training.datasets.image_set import ImageSet
from training.recipe import Recipe, with_data
from training.runs import TASK_FILE, load_run, predict, read_task
from training.scoring.arrays import Array
from training.scoring.bootstrap import Bootstrap
from training.scoring.cases import Cases
from training.scoring.figures import figures_of
from training.scoring.levels import LEVELS, eyes, score_level
from training.scoring.printing import print_scores
from training.scoring.scores import HEADLINE
from training.scoring.tables import write_score_table
from training.scoring.thresholds import choose_thresholds

__all__ = ["evaluate", "predict_images", "score_predictions"]


def predict_images(model: keras.Model, recipe: Recipe, images: ImageSet, folder: Path, name: str) -> Array:
    """Probabilities of `images`, (n, classes), also written to `NAME_scores.csv` in `folder`."""
    predicted = predict(model, images, recipe.batch_size)[images.classified]
    table = folder / f"{name}_scores.csv"
    write_score_table(table, images.names, images.patients, images.labels, predicted, images.label_set)
    return predicted


def score_predictions(
    images: ImageSet, predicted: Array, point: OperatingPoint | None = None, replicates: int = 1000
) -> dict[str, Any]:
    """Scores of predictions, (n, classes), at every level, with intervals by patient; JSON-safe.

    Returns:
        "label_set", "images", "patients", "operating_point", "bootstrap"; "image", "eye", "patient": as from
        `score_level`; "scores": of images, the main ones and each label's AUROC and average precision, which is what a
        bundle states.
    """
    bootstrap = Bootstrap("patient", replicates)
    cases = Cases.of_images(images.labels, predicted, images.label_set, point, images.patients)
    eye = eyes(images.names)
    levels = {level: score_level(cases, eye, level, bootstrap) for level in LEVELS}
    stated = (*HEADLINE, *(f"{metric}_{code}" for metric in ("auroc", "ap") for code in images.label_set.codes))
    scores = levels["image"]["scores"]
    return {
        "label_set": images.label_set.name,
        "images": len(images),
        "patients": len(set(images.patients)),
        "operating_point": point.to_dict() if point else None,
        "bootstrap": bootstrap.describe(),
        "scores": {name: scores[name] for name in stated if name in scores},
        **levels,
    }


def evaluate(
    run: Path, data: str | None = None, cache: Path = Path("data/cache"), replicates: int = 1000
) -> dict[str, Any]:
    """Scores a finished run on its test split, writing `scores.json` and one table of scores per split into its folder.

    Thresholds are chosen on the validation split. Where the data has only one held-out split (PALM) they are chosen
    on the images they are then measured on, which `scores.json` says. Without a validation split, or with one that
    lacks a pathologic label, there is no operating point. The rule with the thresholds goes into `task.json`. Networks
    that answer anything but labels get the few figures that history.csv has of the validation images.

    Args:
        run: the folder that `fit` wrote.
        data: another place of the same data set; `None` for the one the run was trained with.

    Returns:
        What was written to `scores.json`: "data", "image_size", "data_sha256", "thresholds_chosen_on_test" and what
        `score_predictions` returns of the test split.

    Raises:
        RealMNetError: `run` is not the folder of a finished run.
        DataSetError: its data has no test split.
    """
    model, recipe = load_run(run)
    if data is not None:
        recipe = with_data(recipe, data)
    splits, same = _held_out(run, recipe, cache)
    task = read_task(run)
    facts: dict[str, Any] = {
        "data": recipe.data.kind,
        "image_size": recipe.image_size,
        "data_sha256": {split: images.sha256 for split, images in splits.items()},
    }
    (name, output), *others = task.trained.items()
    if others or not isinstance(output, Labels):
        test = splits["test"]
        counts = {"images": len(test), "patients": len(set(test.patients))}
        result = {**facts, **counts, "figures": figures_of(model, test, recipe.batch_size)}
        _write_json(run / "scores.json", result)
        print("\n".join(f"{figure}: {value}" for figure, value in result["figures"].items()))
        return result
    predicted = {split: predict_images(model, recipe, images, run, split) for split, images in splits.items()}
    point = None
    try:
        choosing = "test" if same else "validation"
        if choosing not in splits:
            raise DataSetError(f"{recipe.data.kind} data without a validation split")
        point = choose_thresholds(
            splits[choosing].labels,
            predicted[choosing],
            splits[choosing].label_set,
            f"{len(splits[choosing])} {'held-out' if same else 'validation'} images of {recipe.data.kind}",
        )
    except DataSetError as error:  # the other scores stand
        print(f"no operating point: {error}")
    result = {
        **facts,
        "thresholds_chosen_on_test": same,
        **score_predictions(splits["test"], predicted["test"], point, replicates),
    }
    _write_json(run / "scores.json", result)
    rule = NoReferral() if point is None else AnyAbove(name, point)
    _write_json(run / TASK_FILE, replace(task, rule=rule).to_dict())
    print_scores(result, output.labels)
    return result


def _held_out(run: Path, recipe: Recipe, cache: Path) -> tuple[dict[str, ImageSet], bool]:
    """The splits that the run did not learn from, and whether validation is the test split (it is then left out)."""
    spec = recipe.spec()
    loaded = {split: recipe.data.load(split, spec, cache) for split in ("validation", "test")}
    splits = {split: images for split, images in loaded.items() if images is not None}
    if "test" not in splits:
        raise DataSetError(f"{run}: its {recipe.data.kind} data has no test split to score")
    same = "validation" in splits and splits["validation"].sha256 == splits["test"].sha256
    if same:
        splits.pop("validation")
    return splits, same


def _write_json(path: Path, value: Any) -> None:
    temporary = path.with_suffix(".tmp")
    temporary.write_text(json.dumps(value, indent=1) + "\n")
    temporary.replace(path)
