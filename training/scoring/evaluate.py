"""From a network or a run to scores with intervals: of images, of eyes and of patients.

What is scored, and at which level, is in `cases` and `levels`; the scores themselves are in `scores`, the tests between
two networks in `significance`. Tables of scores do without Keras: `tables`.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_realmnet.errors import DataSetError
from keras_realmnet.tasks.guidance import guided_labels
from keras_realmnet.tasks.measures import VerticalRatio
from keras_realmnet.tasks.outputs import Labels, Masks, Points
from keras_realmnet.tasks.rules import AnyAbove, AnyOf, OperatingPoint
from keras_realmnet.tasks.task import Task
from training.datasets.combined import CombinedDataSet
from training.datasets.data_set import DataSet
from training.datasets.image_set import ImageSet
from training.datasets.landmarks import DISC
from training.recipe import Recipe, with_data
from training.runs import (
    CROSS_VALIDATION,
    TASK_FILE,
    cross_validated,
    load_run,
    members_of,
    patients_learned,
    read_task,
    with_thresholds,
)
from training.scoring.figures import cases_of, check_answered
from training.scoring.printing import print_outputs, print_scores
from training.scoring.statistics.arrays import Array, ratio
from training.scoring.statistics.bootstrap import Bootstrap, with_intervals
from training.scoring.statistics.cases import Cases
from training.scoring.statistics.levels import LEVELS, eyes, score_level
from training.scoring.statistics.scores import HEADLINE, as_json
from training.scoring.tables import write_table
from training.scoring.thresholds import (
    balanced_threshold,
    choose_mask_thresholds,
    choose_thresholds,
    chosen_by_pixels,
    ranked_pixels,
    rule_of,
)
from training.tasks.kinds import kind_of

__all__ = [
    "evaluate",
    "evaluate_on",
    "measured",
    "score_outputs",
    "score_predictions",
    "write_json",
]


def score_predictions(
    images: ImageSet,
    predicted: Array,
    point: OperatingPoint | None = None,
    replicates: int = 1000,
    output: str | None = None,
) -> dict[str, Any]:
    """Scores of predicted labels, (n, classes), at every level, with intervals by patient; JSON-safe.

    Args:
        output: the labels, by their name among the task's outputs; `None`: `ImageSet.classified`.

    Returns:
        "label_set", "images", "patients", "operating_point", "bootstrap"; "image", "eye", "patient": as from
        `score_level`; "scores": of images, the main ones and each label's AUROC and average precision, which is what a
        bundle states.
    """
    output = output or images.classified
    label_set = images.task.trained[output].labels
    bootstrap = Bootstrap("patient", replicates)
    cases = Cases.of_images(images.truth[output], predicted, label_set, point, images.patients)
    eye = eyes(images.names)
    levels = {level: score_level(cases, eye, level, bootstrap) for level in LEVELS}
    stated = (*HEADLINE, *(f"{metric}_{code}" for metric in ("auroc", "ap") for code in label_set.codes))
    scores = levels["image"]["scores"]
    return {
        "label_set": label_set.name,
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
    """Scores a finished run on its test split, writing `scores.json` and one table per split into its folder.

    Thresholds of labels are those of `cross_validation.json` in the run folder or, where there is none, are chosen on
    the validation split. Where the data has only one held-out split (PALM) they are chosen on the images they are then
    measured on, which `scores.json` says. Without a validation split, or with one
    that lacks a pathologic label, there is no operating point. What the network's task decides by, `rule_of`, goes into
    `task.json`, and so do the thresholds of masks, which are chosen in the same places (`choose_mask_thresholds`).

    Args:
        run: the folder that `fit` wrote.
        data: another place of the same data set; `None` for the one the run was trained with.

    Returns:
        What was written to `scores.json`: "data", "image_size", "data_sha256", where thresholds are chosen
        "thresholds_chosen_on_test"; of a network that answers one output of labels what `score_predictions` returns of
        the test split; of any other "images", "patients", "bootstrap", "rule", "mask_thresholds", {output: what
        `choose_mask_thresholds` returns}; "scores", which is what a bundle states; and "outputs", of each its "kind",
        "vocabulary", "scores" and "counts", of labels as above.

    Raises:
        RealMNetError: `run` is not the folder of a finished run.
        DataSetError: its data has no test split.
    """
    model, recipe = load_run(run)
    if data is not None:
        recipe = with_data(recipe, data)
    splits, same = _held_out(run, recipe, cache)
    choosing = "test" if same else "validation"
    task, mask_thresholds = _with_mask_thresholds(run, model, recipe, splits.get(choosing), same)
    cases = {split: cases_of(model, each, recipe.batch_size, answered=task.trained) for split, each in splits.items()}
    for split, images in splits.items():
        write_table(run / f"{split}_scores.csv", images.names, images.patients, _columns(task, cases[split]))
    points = _cross_validated(run)
    if points is None:
        points = _points(task, recipe, splits.get(choosing), cases.get(choosing, {}), same)
    facts: dict[str, Any] = {
        "data": _tested_kind(recipe, cache),
        "image_size": recipe.image_size,
        "data_sha256": {split: images.sha256 for split, images in splits.items()},
    }
    if any(isinstance(output, Labels) or chosen_by_pixels(output) for output in task.trained.values()):
        facts["thresholds_chosen_on_test"] = same and not (run / CROSS_VALIDATION).is_file()
    rule = rule_of(task, points)
    (name, output), *others = task.trained.items()
    if not others and isinstance(output, Labels):
        predicted = cases["test"][name]["predicted"]
        result = {**facts, **score_predictions(splits["test"], predicted, points.get(name), replicates, name)}
        print_scores(result, output.labels)
    else:
        scores = score_outputs(splits["test"], cases["test"], points, replicates)
        result = {**facts, **scores, "rule": rule.to_dict(), "mask_thresholds": mask_thresholds}
        print_outputs(result)
    write_json(run / "scores.json", result)
    write_json(run / TASK_FILE, replace(task, rule=rule).to_dict())
    return result


def evaluate_on(
    run: Path, data: DataSet, name: str, cache: Path = Path("data/cache"), replicates: int = 1000
) -> dict[str, Any]:
    """Scores a finished run on other pictures, all of the training split of `data`, which it did not learn from.

    They may know only some of what the network answers. Labels and masks are judged by the run's own thresholds, where
    it has some. Writes `scores_on_NAME.json` and `scores_on_NAME.csv` into the run folder, and returns what is in the
    former: "data", "image_size", "data_sha256", "thresholds" of masks, {output: {code: threshold}}, and what
    `score_outputs` gives.

    Raises:
        RealMNetError: `run` is not the folder of a finished run.
        DataSetError: the data asks for what the network does not answer, or is not there; or it has pictures of
            patients from whom a member of an ensemble has learned.
    """
    model, recipe = load_run(run)
    images = data.load("train", recipe.spec(), cache)
    if images is None:
        raise DataSetError(f"{name}: no pictures")
    task = read_task(run)
    check_answered(images.task.trained, task.trained)
    _check_not_learned(run, images, cache)
    cases = cases_of(model, images, recipe.batch_size, answered=task.trained)
    points = {
        rule.output: rule.point
        for rule in (task.rule.rules if isinstance(task.rule, AnyOf) else (task.rule,))
        if isinstance(rule, AnyAbove) and rule.output in images.task.trained
    }
    result = {
        "data": name,
        "image_size": recipe.image_size,
        "data_sha256": images.sha256,
        "thresholds": {
            name: output.thresholds
            for name, output in task.trained.items()
            if name in images.task.trained and isinstance(output, Masks)
        },
        **score_outputs(images, cases, points, replicates),
    }
    write_table(run / f"scores_on_{name}.csv", images.names, images.patients, _columns(images.task, cases))
    write_json(run / f"scores_on_{name}.json", result)
    print_outputs(result)
    return result


def score_outputs(
    images: ImageSet,
    cases: Mapping[str, Mapping[str, Array]],
    points: Mapping[str, OperatingPoint] | None = None,
    replicates: int = 1000,
) -> dict[str, Any]:
    """Scores of every output, with intervals by patient; JSON-safe.

    Args:
        cases: {output: what `cases_of` gives}. points: {output: operating point} of labels.

    Returns:
        "images", "patients", "bootstrap", "outputs" and "scores", see `evaluate`.
    """
    bootstrap, outputs = Bootstrap("patient", replicates), images.task.trained
    cases = measured(images, cases)
    found: dict[str, dict[str, Any]] = {}
    for name, output in outputs.items():
        about = {"kind": output.kind, "vocabulary": output.labels.name}
        kind, of_output = kind_of(output), cases[name]
        if isinstance(output, Labels):
            point = (points or {}).get(name)
            found[name] = {**about, **score_predictions(images, of_output["predicted"], point, replicates, name)}
            continue
        scores = with_intervals(kind.make_scorer(output, of_output), np.asarray(images.patients), bootstrap)
        found[name] = {**about, "scores": as_json(scores), "counts": kind.counts(output, of_output)}
        found[name] |= {"curves": curves} if (curves := kind.curves(output, of_output)) else {}
    return {
        "images": len(images),
        "patients": len(set(images.patients)),
        "bootstrap": bootstrap.describe(),
        "scores": {
            score if len(outputs) == 1 else f"{name}_{score}": value
            for name, each in found.items()
            for score, value in each["scores"].items()
        },
        "outputs": found,
    }


def measured(images: ImageSet, cases: Mapping[str, Mapping[str, Array]]) -> dict[str, dict[str, Array]]:
    """`cases`, with what follows from all of them and from the images.

    Those of points have what their distances are measured by, "diameter" of the disc, "side" of the square and
    "longer_side" of the picture, each only where it is known. Those of masks have "error_CODE" of a vertical ratio that
    the task measures on them: where the outer structure is not found the ratio counts as 0. Those of marked regions
    have "present", "said" and "threshold" of the labels that they belong to.
    """
    rulers = {"diameter": _disc_diameters(images.task, cases), "side": images.sides, "longer_side": images.longer_sides}
    known = {key: values for key, values in rulers.items() if values is not None}
    found = {}
    for name, output in images.task.trained.items():
        more = known if isinstance(output, Points) else {}
        if isinstance(output, Masks):
            codes = output.labels.codes
            ratios = [each for each in images.task.measures if isinstance(each, VerticalRatio)]
            own = [each for each in ratios if {each.inner, each.outer} <= set(codes)]
            more = {f"error_{each.code}": _error_of_ratio(cases[name], codes, each) for each in own}
        found[name] = {**cases[name], **more}
    for name, labels in guided_labels(images.task.outputs).items():
        found[name] |= _found_or_missed(cases[labels]["truth"], cases[labels]["predicted"])
    return found


def _found_or_missed(truth: Array, predicted: Array) -> dict[str, Array]:
    """ "present", "said" and "threshold" of labels, (n, labels) each, see `RegionScorer`."""
    threshold = [balanced_threshold(truth[:, k], predicted[:, k]) for k in range(truth.shape[1])]
    thresholds = np.broadcast_to(np.array(threshold), truth.shape)
    return {"present": truth, "said": predicted >= thresholds, "threshold": thresholds}


def _error_of_ratio(cases: Mapping[str, Array], codes: Sequence[str], measure: VerticalRatio) -> Array:
    """What is said minus what is true, (n,); NaN where either mask is not known, or there is no outer structure."""
    inner, outer = codes.index(measure.inner), codes.index(measure.outer)
    true, said = (ratio(cases[each][:, inner], cases[each][:, outer]) for each in ("true_height", "found_height"))
    known = cases["known"][:, inner] & cases["known"][:, outer]
    return np.where(known, np.nan_to_num(said) - true, np.nan)


def _tested_kind(recipe: Recipe, cache: Path) -> str:
    """The kind of the test images; of combined data that of the parts that have some."""
    if not isinstance(recipe.data, CombinedDataSet):
        return recipe.data.kind
    tested = (part.kind for part in recipe.data.parts if part.load("test", recipe.spec(), cache) is not None)
    return ", ".join(dict.fromkeys(tested))


def _points(
    task: Task, recipe: Recipe, images: ImageSet | None, cases: Mapping[str, Mapping[str, Array]], same: bool
) -> dict[str, OperatingPoint]:
    """{output: operating point} of the labels for which one can be chosen; says why of each other one."""
    points = {}
    for name, output in task.trained.items():
        if not isinstance(output, Labels):
            continue
        try:
            if images is None:
                raise DataSetError(f"{recipe.data.kind} data without a validation split")
            points[name] = choose_thresholds(
                images.truth[name],
                cases[name]["predicted"],
                output.labels,
                f"{len(images)} {'held-out' if same else 'validation'} images of {recipe.data.kind}",
            )
        except DataSetError as error:  # the other scores stand
            print(f"no operating point: {error}")
    return points


def _cross_validated(run: Path) -> dict[str, OperatingPoint] | None:
    """The operating points that cross-validation has chosen for a run's labels; None where there was none."""
    if not (run / CROSS_VALIDATION).is_file():
        return None
    points = cross_validated(run, "operating_points")
    return {name: OperatingPoint.from_dict(point) for name, point in points.items()}


def _with_mask_thresholds(
    run: Path, model: keras.Model, recipe: Recipe, images: ImageSet | None, same: bool
) -> tuple[Task, dict[str, Any]]:
    """The run's task with thresholds of masks, and of each output what `choose_mask_thresholds` found.

    They are those of cross-validation, or are chosen on `images`, the validation split or, where it is the `same`, the
    test split; without any they stay as they are.
    """
    task, chosen = read_task(run), cross_validated(run, "mask_thresholds")
    if images is None:
        return task, chosen
    waiting = {n: output for n, output in task.trained.items() if chosen_by_pixels(output) and n not in chosen}
    if not waiting:
        return task, chosen
    cases = cases_of(model, images, recipe.batch_size, answered=task.trained)
    on = f"{len(images)} {'held-out' if same else 'validation'} images of {len(set(images.patients))} patients"
    for name, output in waiting.items():
        try:
            chosen[name] = choose_mask_thresholds(ranked_pixels(output, cases[name]), on)
        except DataSetError as error:  # the other scores stand
            print(f"no threshold: {error}")
    return with_thresholds(task, {name: each["thresholds"] for name, each in chosen.items()}), chosen


def _columns(task: Task, cases: Mapping[str, Mapping[str, Array]]) -> dict[str, Sequence[str]]:
    """Of all outputs; a name that was taken before has the output's in front."""
    columns: dict[str, Sequence[str]] = {}
    for name, output in task.trained.items():
        of_output = kind_of(output).columns(name, output, cases[name])
        columns |= {f"{name}_{each}" if each in columns else each: values for each, values in of_output.items()}
    return columns


def _disc_diameters(task: Task, cases: Mapping[str, Mapping[str, Array]]) -> Array | None:
    """The vertical diameter of the optic disc in fractions of the square's side, (n,), NaN where no mask shows it; None
    where there are no masks of it."""
    for name, output in task.trained.items():
        code = next((code for code in output.labels.codes if code.upper() == DISC.code), None)
        if isinstance(output, Masks) and code is not None:
            height = cases[name]["true_height"][:, output.labels.codes.index(code)]
            return np.where(height > 0, height, np.nan)
    return None


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


def _check_not_learned(run: Path, images: ImageSet, cache: Path) -> None:
    """Of an ensemble: of folds each of its members has learned what another one was tested on."""
    seen = sorted(set(images.patients) & patients_learned(run, cache)) if members_of(run) else []
    if seen:
        raise DataSetError(
            f"{run}: members of this ensemble have learned from pictures of these patients; score their folds by "
            f"cross-validation. Found: {', '.join(seen)}"
        )


def write_json(path: Path, value: Any) -> None:
    """All of it or nothing."""
    temporary = path.with_suffix(".tmp")
    temporary.write_text(json.dumps(value, indent=1) + "\n")
    temporary.replace(path)
