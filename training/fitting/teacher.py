"""What a trained network, the teacher, says of the training images, for the network that learns from it."""

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from keras_realmnet.errors import RealMNetError
from keras_realmnet.screening.bundle.folder_change import sha256_of
from keras_realmnet.tasks.task import Task
from training.data.files.once import make_once
from training.datasets.image_set import ImageSet
from training.recipe import Recipe
from training.runs import WEIGHTS_FILE, activated, answers, load_run, read_task, recipe_of_run

__all__ = ["check_teacher", "with_teacher"]


def check_teacher(run: Path, task: Task) -> None:
    """Raises RealMNetError: `run` is not the folder of a finished run, or its network answers other than `task`."""
    recipe_of_run(run)
    theirs = read_task(run)
    if (theirs.modality, theirs.questions) != (task.modality, task.questions):
        raise RealMNetError(
            f"{run}: the teacher answers {_in_words(theirs)}; expected what the data asks: {_in_words(task)}"
        )


def with_teacher(recipe: Recipe, data: ImageSet, cache: Path) -> ImageSet:
    """`data`, the training split of the recipe's data, with what the recipe's teacher says of each image.

    The teacher sees each image once, at its own input size and not augmented; its logits are kept in the cache, under
    the hash of its weights and of the images, so that other students, and a run that is resumed, find them there. What
    the student sees augmented keeps this target, as it keeps its labels. A teacher that saw each augmented image would
    have to run in every step: three networks of the student's size multiply as much as its step, forward and backward.

    Raises:
        RealMNetError: as `check_teacher`. DataSetError: the pictures are not there.
    """
    run = Path(recipe.teacher or "").expanduser()
    check_teacher(run, data.task)
    images = recipe.data.load("train", recipe_of_run(run).spec(), cache)
    assert images is not None  # `data` is the same split
    key = hashlib.sha256(f"{sha256_of(run / WEIGHTS_FILE)} {images.sha256}".encode()).hexdigest()[:16]
    path = cache / f"teacher-{key}" / "logits.npz"
    make_once(path, lambda: _write_logits(path, run, images))
    with np.load(path) as logits:
        taught = {
            name: activated(output, logits[name] / recipe.teacher_temperature)
            for name, output in data.task.trained.items()
        }
    return replace(data, taught=taught)


def _write_logits(path: Path, run: Path, images: ImageSet) -> None:
    print(f"{run} tells of {len(images)} images what it knows", flush=True)
    model, recipe = load_run(run)
    _, first, image = np.unique(images.rows, return_index=True, return_inverse=True)  # each picture once
    parts = [said for _, said in answers(model, images.select(first), recipe.batch_size)]
    logits: dict[str, Any] = {
        name: np.concatenate([said[name] for said in parts])[image] for name in images.task.trained
    }
    temporary = path.with_name("logits.tmp.npz")
    np.savez(temporary, **logits)
    temporary.replace(path)


def _in_words(task: Task) -> str:
    said = (f"{name} ({output.kind} {', '.join(output.labels.codes)})" for name, output in task.trained.items())
    return f"{'; '.join(said)} of {task.modality}"
