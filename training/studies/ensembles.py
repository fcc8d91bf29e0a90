"""Runs of the same question as one run: its network says the mean of what theirs say."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import keras

from keras_realmnet.errors import DataSetError, RealMNetError
from keras_realmnet.screening.bundle.folder_change import sha256_of
from keras_realmnet.tasks.task import Task
from training.datasets.data_set import DataSet
from training.datasets.registry import data_to_dict, in_folds
from training.fitting.checkpoints import save_whole
from training.fitting.fit import training_images
from training.fitting.folders import check_folder
from training.fitting.run_folder import known_recipe, learned_from, run_facts
from training.recipe import Recipe
from training.runs import (
    ENSEMBLE_FILE,
    TASK_FILE,
    WEIGHTS_FILE,
    load_ensemble,
    members_of,
    read_task,
    recipe_json,
    recipe_of_run,
)
from training.scoring.evaluate import evaluate, write_json
from training.scoring.folds import but_for_the_fold

__all__ = ["member_facts", "score_run", "write_ensemble", "write_run"]


def write_ensemble(
    runs: Sequence[Path], out: Path, cache: Path = Path("data/cache"), replicates: int = 1000
) -> dict[str, Any]:
    """Makes the folder of a run of which the network says the mean of what those of `runs` say, and scores it.

    Probabilities are averaged, and the places of points. The folder has all that another run's has but a history, and
    `ensemble.json`: of each member its folder then, its recipe and the SHA-256 of its weights. The members' folders are
    not needed any more. Its data is that of the members; of runs of several folds it holds out what none of them has
    learned from, often nothing.

    Returns:
        What `evaluate` found; nothing where no picture is held out for a test, which it says.

    Raises:
        RealMNetError: fewer than two runs, or one twice; a folder that is not that of a finished run, or is that of an
            ensemble; runs that answer other questions, see other sizes or learn from other data than the first but for
            the fold; or there is a run in `out`.
        DataSetError: the data is not there.
    """
    check_folder(out)
    if known_recipe(out) is not None:
        raise RealMNetError(f"{out} holds a run: choose another --out")
    recipes = _members(runs)
    data = _data(recipes)
    task = data.task
    recipe = replace(recipes[0], name=f"{recipes[0].name}_ensemble", data=data, teacher=None)  # members have theirs
    train, validation = (data.load(split, recipe.spec(), cache) for split in ("train", "validation"))
    if train is None:
        raise DataSetError(f"{data.kind} data has nothing to train on")
    facts = run_facts(recipe, training_images(recipe, train), validation, recipe.spec())
    learned = dict.fromkeys(learned_from(replace(each, data=data)) for each in recipes)
    facts["training_data"] = "; ".join([*learned, f"the mean of {len(runs)} networks"])
    members = [member_facts(run, each) for run, each in zip(runs, recipes, strict=True)]
    model = load_ensemble(recipes, task, [run / WEIGHTS_FILE for run in runs])
    write_run(out, model, recipe, task, facts, {ENSEMBLE_FILE: {"members": members}})
    return score_run(out, recipe, cache, replicates)


def write_run(
    out: Path,
    model: keras.Model,
    recipe: Recipe,
    task: Task,
    facts: Mapping[str, Any],
    more: Mapping[str, Mapping[str, Any]] | None = None,
) -> None:
    """Makes the folder of a run of a network that was made of others; `more`: {file: JSON} beside what a run has."""
    out.mkdir(parents=True, exist_ok=True)
    for name, content in {"run.json": facts, TASK_FILE: task.to_dict(), **(more or {})}.items():
        write_json(out / name, dict(content))
    save_whole(model, out / WEIGHTS_FILE)
    write_json(out / "recipe.json", recipe_json(recipe))  # the last: with it the folder is a run


def score_run(out: Path, recipe: Recipe, cache: Path, replicates: int) -> dict[str, Any]:
    """What `evaluate` finds of such a run; nothing where no picture is held out for a test, which is told."""
    if recipe.data.load("test", recipe.spec(), cache) is None:
        print("no picture is held out for a test: the run has no scores")
        return {}
    return evaluate(out, cache=cache, replicates=replicates)


def member_facts(run: Path, recipe: Recipe) -> dict[str, Any]:
    """What tells later which network became a part of another one."""
    return {"run": str(run), "recipe": recipe_json(recipe), "weights_sha256": sha256_of(run / WEIGHTS_FILE)}


def _members(runs: Sequence[Path]) -> list[Recipe]:
    """The recipes, once they are known to go together."""
    if len(runs) < 2 or len({run.resolve() for run in runs}) < len(runs):
        raise RealMNetError(f"expected two runs or more, each once. Received: {', '.join(map(str, runs))}")
    recipes = [recipe_of_run(run) for run in runs]
    first, task = recipes[0], recipes[0].data.task
    for run, recipe in zip(runs, recipes, strict=True):
        theirs = read_task(run)
        if members_of(run):
            raise RealMNetError(f"{run}: an ensemble is no member of one; name its members, {ENSEMBLE_FILE} has them")
        if (theirs.modality, theirs.questions, theirs.measures) != (task.modality, task.questions, task.measures):
            raise RealMNetError(
                f"{run}: answers {', '.join(theirs.trained)} of {theirs.modality}, or by other vocabularies; expected "
                f"what the data of {runs[0]} asks: {', '.join(task.trained)} of {task.modality}"
            )
        if recipe.spec() != first.spec():
            raise RealMNetError(
                f"{run}: sees pictures as {recipe.spec().to_dict()}; expected {first.spec().to_dict()}, as {runs[0]}"
            )
        if but_for_the_fold(data_to_dict(recipe.data)) != but_for_the_fold(data_to_dict(first.data)):
            raise RealMNetError(f"{run}: learned from other data than {runs[0]}; only their folds may differ")
    return recipes


def _data(recipes: Sequence[Recipe]) -> DataSet:
    """That of all members; with what each of several folds holds out, the others have learned: nothing is left."""
    datas = [recipe.data for recipe in recipes]
    return datas[0] if all(data == datas[0] for data in datas) else in_folds(datas[0], None)
