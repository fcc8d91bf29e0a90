"""A run folder read again: its recipe, its network, what that network says of images."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

import keras
import numpy as np
from numpy.typing import NDArray

from keras_realmnet.errors import RealMNetError
from keras_realmnet.models.ensemble import ensemble_network
from keras_realmnet.models.networks import build
from keras_realmnet.screening.bundle.folder_change import sha256_of
from keras_realmnet.tasks.fitted.fitted import Fitted
from keras_realmnet.tasks.outputs import Masks, Output
from keras_realmnet.tasks.rules import rule_from_dict
from keras_realmnet.tasks.task import Task
from training.data.files.notices import noticed, tell
from training.datasets.image_set import ImageSet
from training.input.input_pipeline import EvaluationBatches
from training.recipe import Recipe

__all__ = [
    "BESIDE_FILE",
    "CALIBRATION_FILE",
    "CROSS_VALIDATION",
    "ENSEMBLE_FILE",
    "TASK_FILE",
    "WEIGHTS_FILE",
    "activated",
    "answers",
    "answers_of",
    "build_model",
    "cross_validated",
    "fitted_task",
    "in_batches",
    "load_ensemble",
    "load_run",
    "members_of",
    "patients_learned",
    "predict",
    "predict_parts",
    "read_recipe",
    "read_task",
    "recipe_json",
    "recipe_of_run",
    "recipes_of_run",
    "with_thresholds",
]

TASK_FILE = "task.json"  # of a run folder: what the network answers
CROSS_VALIDATION = "cross_validation.json"  # of a run folder: see `training.scoring.folds`
CALIBRATION_FILE = "calibration.json"  # of a run folder: see `training.calibrating.runs`
ENSEMBLE_FILE = "ensemble.json"  # of that of an ensemble: what it is the mean of
BESIDE_FILE = "beside.json"  # of that of two networks beside each other: which they were
WEIGHTS_FILE = "weights.weights.h5"


def build_model(recipe: Recipe, size: int, load_weights: Any = False, task: Task | None = None) -> keras.Model:
    """The recipe's network for inputs of `size` pixels, with random weights unless `load_weights` names others.

    Args:
        load_weights: what `keras_realmnet.models.networks.build` takes.
        task: what it answers; `None`: what the recipe's data asks.
    """
    outputs = (recipe.data.task if task is None else task).trained
    return build(recipe.preset, outputs, size, load_weights, **recipe.network_options)


def answers(
    model: keras.Model, data: ImageSet, batch_size: int, at_a_time: int | None = None
) -> Iterator[tuple[slice, dict[str, NDArray[np.float32]]]]:
    """What the network says of images, part by part: which of them, and {output: (n, ...)}, before the activation.

    Args:
        at_a_time: batches of a part; `None`: all of them, or few where the network answers masks, which are large.
    """
    if at_a_time is None:
        large = any(isinstance(output, Masks) for output in data.task.trained.values())
        at_a_time = max(1, 64 // batch_size) if large else -(-len(data) // batch_size)
    for start in range(0, len(data), at_a_time * batch_size):
        part = slice(start, min(start + at_a_time * batch_size, len(data)))
        said = model.predict(EvaluationBatches(data, model.image_size[0], batch_size, part), verbose=0)
        named = said if isinstance(said, dict) else {next(iter(data.task.trained)): said}
        yield part, {name: np.asarray(values) for name, values in named.items()}


Item = TypeVar("Item")


def in_batches(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    """Lists of `size` items, as they come; the last one may be shorter."""
    items = iter(items)
    while batch := list(islice(items, size)):
        yield batch


def activated(output: Output, values: NDArray[Any]) -> NDArray[np.float32]:
    """What a deployed network gives for an output, of what the trained one gives, in float64 between."""
    if output.activation is None:
        return values.astype(np.float32)
    values = values.astype(np.float64)
    if output.activation == "sigmoid":
        return (1 / (1 + np.exp(-values))).astype(np.float32)
    values = np.exp(values - values.max(axis=-1, keepdims=True))
    return (values / values.sum(axis=-1, keepdims=True)).astype(np.float32)


def answers_of(task: Task, said: Any) -> dict[str, NDArray[np.float32]]:
    """What a model's `predict` returned as a deployed network gives it, {output: (n, ...)}: after the activation."""
    named = said if isinstance(said, dict) else {next(iter(task.trained)): said}
    return {name: activated(output, np.asarray(named[name])) for name, output in task.trained.items()}


def predict_parts(
    model: keras.Model, data: ImageSet, batch_size: int
) -> Iterator[tuple[slice, dict[str, NDArray[np.float32]]]]:
    """As `answers`, as a deployed network gives it: after the activation."""
    for part, said in answers(model, data, batch_size):
        yield part, {name: activated(output, said[name]) for name, output in data.task.trained.items()}


def predict(model: keras.Model, data: ImageSet, batch_size: int) -> dict[str, NDArray[np.float32]]:
    """{output: (n, ...)} of all images as a deployed network gives it; masks of many images are large."""
    parts = [said for _, said in predict_parts(model, data, batch_size)]
    return {name: np.concatenate([said[name] for said in parts]) for name in data.task.trained}


def load_run(run: Path) -> tuple[keras.Model, Recipe]:
    """The trained model of a run folder and its recipe.

    Raises:
        RealMNetError: `run` is not the folder of a finished run.
    """
    recipe, members, task = recipe_of_run(run), members_of(run), read_task(run)
    keras.config.set_dtype_policy("float32")
    model = load_ensemble(members, task) if members else build_model(recipe, recipe.image_size, task=task)
    model.load_weights(Path(run) / WEIGHTS_FILE)
    return model, recipe


def load_ensemble(recipes: Sequence[Recipe], task: Task, weights: Sequence[Path] = ()) -> keras.Model:
    """The mean of the networks of several recipes that answer `task`, each with its weights where they are given."""
    keras.config.set_dtype_policy("float32")
    members = [build_model(recipe, recipe.image_size, task=task) for recipe in recipes]
    for member, path in zip(members, weights, strict=False):
        member.load_weights(path)
    return ensemble_network(members, {name: output.activation for name, output in task.trained.items()})


def members_of(run: Path) -> list[Recipe]:
    """The recipes of the members of an ensemble, which `training.studies.ensembles` writes; of another run none.

    Raises:
        RealMNetError: its list of members is none.
    """
    path = Path(run) / ENSEMBLE_FILE
    if not path.is_file():
        return []
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        return [Recipe.from_dict(member["recipe"]) for member in values["members"]]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise RealMNetError(f"{path}: not a list of members as ensemble writes it ({error})") from error


def recipes_of_run(run: Path) -> list[Recipe]:
    """The recipes of the members of an ensemble, or that of another run. Raises as `members_of`, `recipe_of_run`."""
    return members_of(run) or [recipe_of_run(run)]


def patients_learned(run: Path, cache: Path) -> set[str]:
    """Whose pictures the network of a run has learned from, or its frozen part, its teacher, any member of an ensemble.

    Told where the run of such a part or teacher is not there any more, so that its patients are not known.

    Raises:
        RealMNetError: `run` is not the folder of a finished run. DataSetError: the pictures are not there.
    """
    learned: set[str] = set()
    for recipe in recipes_of_run(run):
        images = recipe.data.load("train", recipe.spec(), cache)
        learned |= set() if images is None else set(images.patients)
        for other, part in recipe.other_runs:
            folder = Path(other).expanduser()
            if (folder / "recipe.json").is_file():
                learned |= patients_learned(folder, cache)
            else:
                what = f"what the {part} of {run} learned from is not known"
                tell(noticed((f"{folder}: {what}", ["no such run"])))
    return learned


def recipe_of_run(run: Path) -> Recipe:
    """The recipe of a run folder. Raises RealMNetError: `run` is not the folder of a finished run."""
    for name in ("recipe.json", WEIGHTS_FILE):
        if not (Path(run) / name).is_file():
            raise RealMNetError(f"{Path(run) / name}: no such file; expected the folder of a finished run")
    return read_recipe(Path(run) / "recipe.json")


def read_task(run: Path) -> Task:
    """What the network of a run answers; runs of earlier releases have no task.json, and answer what their data asks.

    Masks have the thresholds that cross-validation has chosen, where there was one, whenever the network was trained.

    Raises:
        RealMNetError: task.json is none, or an earlier run's data is not there; cross_validation.json is none.
    """
    path = Path(run) / TASK_FILE
    if not path.is_file():
        task = read_recipe(Path(run) / "recipe.json").data.task
    else:
        try:
            task = Task.from_dict(json.loads(path.read_text(encoding="utf-8")))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise RealMNetError(f"{path}: not a task as fit writes it ({error})") from error
    chosen = {name: point["thresholds"] for name, point in cross_validated(run, "mask_thresholds").items()}
    return with_thresholds(task, chosen)


def fitted_task(run: Path) -> Task:
    """What the network of a run answers and decides by, as a bundle holds it: `read_task` with what was fitted for it.

    Raises:
        RealMNetError: as `read_task`; calibration.json is none, or was fitted for other weights.
    """
    task, path = read_task(run), Path(run) / CALIBRATION_FILE
    if not path.is_file():
        return task
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        weights, rule, fitted = document["weights_sha256"], document["rule"], document["fitted"]
        fitted_one = replace(task, rule=rule_from_dict(rule), fitted=Fitted.from_dict(fitted))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise RealMNetError(f"{path}: not what calibrate writes ({error})") from error
    if weights != sha256_of(Path(run) / WEIGHTS_FILE):
        raise RealMNetError(f"{path}: fitted for other weights than {WEIGHTS_FILE} has; calibrate again")
    return fitted_one


def cross_validated(run: Path, points: str) -> dict[str, Any]:
    """What cross-validation has chosen for a run, {output: JSON}: "operating_points" of labels or "mask_thresholds".

    Empty where there was none. Raises RealMNetError: cross_validation.json is not what it writes.
    """
    path = Path(run) / CROSS_VALIDATION
    if not path.is_file():
        return {}
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")).get(points, {}))
    except (ValueError, TypeError, AttributeError) as error:
        raise RealMNetError(f"{path}: not what cross-validation writes ({error})") from error


def with_thresholds(task: Task, chosen: Mapping[str, Mapping[str, float]]) -> Task:
    """`task` with {output: {code: threshold}} of its masks; labels and outputs that are not named stay as they are."""
    outputs = dict(task.outputs)
    for name, of_codes in chosen.items():
        output = outputs.get(name)
        if isinstance(output, Masks):
            each = tuple(of_codes.get(code, before) for code, before in output.thresholds.items())
            outputs[name] = replace(output, threshold=each[0] if len(set(each)) == 1 else each)
    return replace(task, outputs=outputs)


def read_recipe(path: Path) -> Recipe:
    try:
        return Recipe.from_dict(json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise RealMNetError(f"{path}: not a recipe as fit writes it ({error})") from error


def recipe_json(recipe: Recipe) -> dict[str, Any]:
    return json.loads(json.dumps(recipe.to_dict()))
