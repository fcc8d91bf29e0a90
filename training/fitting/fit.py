"""Training with Keras: from a recipe to a run folder that is enough to repeat the run, to resume it and to export it.

A run folder holds: `recipe.json`, `run.json` (command, versions, git commit, data hashes), `history.csv`,
`task.json` (what the network answers), `tensorboard/` (where TensorFlow is installed), `checkpoint-NNNN.weights.h5` and
`best-NNNN.weights.h5` while it is training, and in the end `weights.weights.h5` (the averaged weights where the recipe
averages; of the last epoch, as in the paper, unless the recipe keeps the best), `scores.json` and `*_scores.csv`.

A run is deterministic: on the same machine, backend and versions the same recipe gives the same weights, interrupted
(killed, power lost, disk full) or not; bitwise on TensorFlow's CPU backend; GPU kernels may add up in another order.
"""

import sys
from pathlib import Path
from typing import Any

import numpy as np

from keras_realmnet.errors import RealMNetError
from keras_realmnet.models.networks import check_answers
from training.data.splits import patient_share
from training.datasets.image_set import ImageSet
from training.fitting.checkpoints import save_whole
from training.fitting.folders import check_folder
from training.fitting.loop import Resources, train
from training.fitting.run_folder import BeginRun, check_same_data, check_same_task, known_recipe, run_facts
from training.fitting.start import check_part_run
from training.fitting.teacher import with_teacher
from training.recipe import Recipe
from training.runs import recipe_json
from training.scoring.evaluate import evaluate

__all__ = ["fit", "training_images"]


def training_images(recipe: Recipe, data: ImageSet) -> ImageSet:
    """What `recipe` trains on, of the images of its training split: a share of the patients, then resampled,
    each as often as windows are cut out of it.

    Raises:
        DataSetError: labels that are not known cannot be resampled.
    """
    if recipe.train_share < 1:
        data = data.like(patient_share(data.table(), recipe.train_share, recipe.seed))
    if recipe.resampling is not None:
        data = data.like(recipe.resampling.apply(data.table()))
    if recipe.windows is not None:
        data = data.select(np.repeat(np.arange(len(data)), recipe.windows.per_image))
    return data


def fit(
    recipe: Recipe,
    out: Path,
    cache: Path = Path("data/cache"),
    resume: bool = True,
    resources: Resources | None = None,
) -> dict[str, Any]:
    """Prepares the data, trains, evaluates; everything ends up in `out`.

    Returns what `evaluate` found; nothing, which it says, where no picture is held out for a test, as with --fold all.

    What is in `out` changes when training begins, not before: a start that fails leaves it as it was.

    Args:
        resume: False starts over: the files of the run in `out` are deleted, and no other file there.

    Raises:
        RealMNetError: `out` cannot be made or written into; or it holds a run of another recipe or of other data, a
            finished one, or files that are named as a run's and are none; or the recipe's network, losses or
            augmentation do not fit what its data asks; or a network that is a frozen part of it, or its teacher, has
            learned from what is held out; or its teacher answers other labels, or is not there.
    """
    check_folder(out)
    try:
        task = recipe.data.task
        recipe.check_task(task)
        check_answers(recipe.preset, task.trained)
    except ValueError as error:
        raise RealMNetError(f"recipe {recipe.name!r}: {error}") from error
    recipe = recipe.resolved(task)
    known = known_recipe(out)
    if known is not None and resume:
        check_same_task(out, task)
        changed = [key for key, value in recipe_json(known).items() if value != recipe_json(recipe)[key]]
        if changed:
            raise RealMNetError(
                f"{out} holds a run with another {', '.join(changed)}: choose another --out, or start over with "
                "--no-resume"
            )
        if (out / "weights.weights.h5").is_file():
            if not (out / "scores.json").is_file():  # interrupted while it was scored
                return _scored(recipe, out, cache)
            raise RealMNetError(f"{out} holds a finished run: choose another --out, or start over with --no-resume")
    spec = recipe.spec(max(phase.size for phase in recipe.phases))
    data, validation = (recipe.data.load(split, spec, cache) for split in ("train", "validation"))
    if data is None:
        raise RealMNetError(f"recipe {recipe.name!r}: its data has nothing to train on")
    for run, part in recipe.other_runs:  # else the test images are not needed, nor prepared, before the end
        check_part_run(run, part, (validation, recipe.data.load("test", spec, cache)), cache)
    if recipe.teacher is not None:
        data = with_teacher(recipe, data, cache)
    data = training_images(recipe, data)
    facts = run_facts(recipe, data, validation, spec)
    if resume:
        check_same_data(out / "run.json", facts)
    begin = BeginRun(recipe, facts, out, resume)

    verbose = "auto" if sys.stdout.isatty() else 2
    model = train(recipe, data, validation, out, verbose, resources, [begin], resume)
    save_whole(model, out / "weights.weights.h5")
    for path in (*out.glob("checkpoint-????.weights.h5"), *out.glob("best-????.weights.h5")):
        path.unlink()
    return _scored(recipe, out, cache)


def _scored(recipe: Recipe, out: Path, cache: Path) -> dict[str, Any]:
    if recipe.data.load("test", recipe.spec(), cache) is None:
        print("no picture is held out for a test: the run has no scores")
        return {}
    return evaluate(out, cache=cache)
