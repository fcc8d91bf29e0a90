"""The runs of a cross-validation, scored as one: every picture by the network that did not learn from it."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from keras_realmnet.errors import DataSetError, RealMNetError
from keras_realmnet.tasks.outputs import Labels
from keras_realmnet.tasks.rules import OperatingPoint
from training.datasets.combined import CombinedDataSet
from training.datasets.cross_validation import CrossValidation
from training.datasets.data_set import DataSet
from training.datasets.image_set import ImageSet
from training.recipe import Recipe, with_data
from training.runs import CROSS_VALIDATION, load_run, read_task, recipe_of_run
from training.scoring.evaluate import measured, score_outputs, write_json
from training.scoring.figures import cases_of, check_answered
from training.scoring.pooled import Pooled, write_pooled
from training.scoring.printing import print_outputs
from training.scoring.statistics.arrays import Array
from training.scoring.thresholds import choose_mask_thresholds, choose_thresholds, chosen_by_pixels, ranked_pixels

__all__ = ["but_for_the_fold", "score_folds"]


def score_folds(
    runs: Sequence[Path], out: Path, data: str | None = None, cache: Path = Path("data/cache"), replicates: int = 1000
) -> dict[str, Any]:
    """Scores the networks of one cross-validation on the folds that each did not learn from, all folds together.

    Of combined data each cross-validated part has scores of its own; the other parts, which all networks learned from
    or none, have none. Thresholds of labels are chosen on all of these predictions: they are those of networks that
    saw a part of the images. So are those of masks, for the network that learned from all folds; the scores are by the
    thresholds that each fold's own run has, which did not see what is scored.

    Args:
        runs: the folders of finished runs, one for each fold.
        out: `cross_validation.json` is written into this folder; that of the network that learned from all folds, say,
            which `evaluate` and a bundle then take the operating point and the scores from. Beside it
            `cross_validation.npz`, what the scores followed from, by which two cross-validations are compared
            (`training.scoring.pooled`).
        data: another place of the same data set.

    Returns:
        What was written: "runs", "folds"; "operating_points", {output: point}; "mask_thresholds", {output: what
        `choose_mask_thresholds` returns}; "parts", a list: of each its "data" in words and what `score_outputs` gives.

    Raises:
        RealMNetError: a folder that is not that of a finished run of one fold; folds that are missing or there twice;
            runs of different recipes.
    """
    recipes = [_read(run, data) for run in runs]
    answered = read_task(runs[0]).trained
    counts = _check_folds(runs, recipes)
    wholes = _cut_parts(recipes[0].data)
    sets = [_pictures(whole, recipes[0], cache) for whole in wholes]
    for images in sets:
        check_answered(images.task.trained, answered)
    said = _predictions(runs, recipes, sets, cache)
    parts: list[dict[str, Any]] = []
    points: dict[str, Any] = {}
    for whole, images, of_part in zip(wholes, sets, said, strict=True):
        on = f"{len(images)} pictures in {counts} folds of cross-validation"
        chosen = _operating_points(images, of_part, on)
        points |= {name: point.to_dict() for name, point in chosen.items()}
        about = {"data": f"cross-validation in {counts} folds: {whole.of.describe()}"}
        parts.append({**about, **score_outputs(images, of_part, chosen, replicates)})
        print_outputs(parts[-1])
    result = {
        "runs": [str(run) for run in runs],
        "folds": counts,
        "operating_points": points,
        "mask_thresholds": _mask_thresholds(sets, said, counts),
        "parts": parts,
    }
    out.mkdir(parents=True, exist_ok=True)
    pairs = zip(sets, said, strict=True)
    write_pooled(out, [Pooled.of(images, measured(images, of_part)) for images, of_part in pairs])
    write_json(out / CROSS_VALIDATION, result)
    return result


def _read(run: Path, data: str | None) -> Recipe:
    recipe = recipe_of_run(run)
    if not any(part.fold for part in _cut_parts(recipe.data)):
        raise RealMNetError(f"{run}: not a run of cross-validation; expected one that was trained with --fold K/N")
    return recipe if data is None else with_data(recipe, data)


def _pictures(whole: CrossValidation, recipe: Recipe, cache: Path) -> ImageSet:
    """Those of all folds."""
    images = replace(whole, fold=None).load("train", recipe.spec(), cache)
    if images is None:
        raise DataSetError(f"{whole.describe()}: no pictures")
    return images


def _cut_parts(data: DataSet) -> list[CrossValidation]:
    parts: Iterable[DataSet] = data.parts if isinstance(data, CombinedDataSet) else (data,)
    return [part for part in parts if isinstance(part, CrossValidation)]


def _check_folds(runs: Sequence[Path], recipes: Sequence[Recipe]) -> int:
    """Into how many folds the data was cut."""
    folds = [_cut_parts(recipe.data)[0].fold or (0, 0) for recipe in recipes]
    counts = folds[0][1]
    if sorted(folds) != [(k, counts) for k in range(1, counts + 1)]:
        there = ", ".join(f"{run} {k}/{n}" for run, (k, n) in zip(runs, folds, strict=True))
        raise RealMNetError(f"expected one run for each of {counts} folds. Received: {there}")
    for run, recipe in zip(runs, recipes, strict=True):
        if but_for_the_fold(recipe.to_dict()) != but_for_the_fold(recipes[0].to_dict()):
            raise RealMNetError(f"{run}: its recipe is not that of {runs[0]}")
    return counts


def but_for_the_fold(values: dict[str, Any]) -> dict[str, Any]:
    """A recipe, or its data, as a mapping that it may change: the same without its fold, wherever that stands."""
    found: list[Any] = [values]
    while found:
        each = found.pop()
        if isinstance(each, Mapping):
            if each.get("kind") == CrossValidation.kind:
                each.pop("fold", None)  # type: ignore[attr-defined]
            found += each.values()
        elif isinstance(each, list | tuple):
            found += each
    return values


def _predictions(
    runs: Sequence[Path], recipes: Sequence[Recipe], sets: Sequence[ImageSet], cache: Path
) -> list[dict[str, dict[str, Array]]]:
    """For each part's pictures, of every one what its scores need, by the network of the run that tested it."""
    found: list[dict[str, dict[str, Array]]] = [{name: {} for name in images.task.trained} for images in sets]
    tested = [np.zeros(len(images), bool) for images in sets]
    for run, recipe in zip(runs, recipes, strict=True):
        model, _ = load_run(run)
        for part, images, of_part, done in zip(_cut_parts(recipe.data), sets, found, tested, strict=True):
            test = part.load("test", recipe.spec(), cache)
            if test is None:
                continue
            at = {name: k for k, name in enumerate(images.names)}
            rows = np.array([at[name] for name in test.names])
            done[rows] = True
            for name, cases in cases_of(model, test, recipe.batch_size, answered=read_task(run).trained).items():
                for key, values in cases.items():
                    of_all = of_part[name].setdefault(key, np.zeros((len(images), *values.shape[1:]), values.dtype))
                    of_all[rows] = values
    for images, done in zip(sets, tested, strict=True):
        if not done.all():
            raise DataSetError(f"{images.names[int(np.argmin(done))]} and others were tested by none of the runs")
    return found


def _operating_points(images: ImageSet, said: Mapping[str, Mapping[str, Array]], on: str) -> dict[str, OperatingPoint]:
    """Of the labels that have enough known images for it."""
    points = {}
    for name, output in images.task.trained.items():
        if isinstance(output, Labels):
            try:
                points[name] = choose_thresholds(images.truth[name], said[name]["predicted"], output.labels, on)
            except DataSetError as error:  # the other scores stand
                print(f"no operating point: {error}")
    return points


def _mask_thresholds(
    sets: Sequence[ImageSet], said: Sequence[Mapping[str, Mapping[str, Array]]], folds: int
) -> dict[str, Any]:
    """Of the masks of which some picture of any part has a pixel, chosen on all parts together."""
    ranked: dict[str, dict[str, Array]] = {}
    pictures: dict[str, int] = {}
    for images, of_part in zip(sets, said, strict=True):
        for name, output in images.task.trained.items():
            if chosen_by_pixels(output):
                known = ranked.setdefault(name, {})
                for code, pixels in ranked_pixels(output, of_part[name]).items():
                    known[code] = known.get(code, 0) + pixels
                pictures[name] = pictures.get(name, 0) + len(images)
    chosen = {}
    for name, of_output in ranked.items():
        try:
            on = f"{pictures[name]} pictures in {folds} folds of cross-validation"
            chosen[name] = choose_mask_thresholds(of_output, on)
            print(f"{name}: thresholds {chosen[name]['thresholds']}: {chosen[name]['chosen']}")
        except DataSetError as error:  # the other scores stand
            print(f"no threshold: {error}")
    return chosen
