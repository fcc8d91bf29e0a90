"""What a run folder holds beside the weights: the recipe, and what a reader needs to repeat the run."""

import json
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_realmnet.errors import RealMNetError
from keras_realmnet.screening.bundle.folder_change import sha256_of
from keras_realmnet.screening.preprocessing import PreprocessSpec
from keras_realmnet.tasks.outputs import Grades, Labels, Output
from keras_realmnet.tasks.task import Task
from training.datasets.image_set import ImageSet
from training.fitting.packages import versions
from training.recipe import Recipe
from training.runs import (
    BESIDE_FILE,
    ENSEMBLE_FILE,
    TASK_FILE,
    WEIGHTS_FILE,
    read_recipe,
    read_task,
    recipe_json,
    recipes_of_run,
)

__all__ = ["OWN_FILES", "BeginRun", "check_same_data", "check_same_task", "known_recipe", "learned_from", "run_facts"]

TEACHER = "teacher"  # beside the splits of the data in run.json: what the run learns from, too
# What a run folder holds of ours, and what --no-resume deletes there.
OWN_FILES = (
    *("recipe.json", "task.json", "run.json", "history.csv", "scores.json", "validation_scores.csv", "test_scores.csv"),
    *(BESIDE_FILE, ENSEMBLE_FILE),
    *("scores_on_*.json", "scores_on_*.csv", "ratio_on_*.json", "ratio_on_*.csv"),
    *("recipe.tmp", "task.tmp", "run.tmp", "history.tmp", "scores.tmp", "unfinished.weights.h5"),
    *(
        "weights.weights.h5",
        "checkpoint-[0-9][0-9][0-9][0-9].weights.h5",
        "best-[0-9][0-9][0-9][0-9].weights.h5",
        "tensorboard/*/events.out.tfevents.*",
    ),
)


class BeginRun(keras.callbacks.Callback):
    """Makes `out` the folder of this run as its training begins, once all that may be wrong with its start is past."""

    def __init__(self, recipe: Recipe, facts: dict[str, Any], out: Path, resume: bool):
        super().__init__()
        self.recipe, self.facts, self.out, self.resume = recipe, facts, out, resume
        self.begun = False

    def on_train_begin(self, logs=None):
        if self.begun:  # another phase
            return
        if not self.resume:
            for path in sorted(_own_files(self.out), key=lambda path: path.name == "recipe.json"):  # that one last
                path.unlink()
        contents = {
            TASK_FILE: self.recipe.data.task.to_dict(),
            "recipe.json": recipe_json(self.recipe),
            "run.json": self.facts,
        }
        for name, content in contents.items():
            temporary = self.out / f"{name.removesuffix('.json')}.tmp"
            temporary.write_text(json.dumps(content, indent=1) + "\n")
            temporary.replace(self.out / name)
        self.begun = True


def _own_files(out: Path) -> list[Path]:
    """What `fit` and `evaluate` have written into the run folder `out`."""
    return [path for pattern in OWN_FILES for path in out.glob(pattern) if path.is_file()]


def known_recipe(out: Path) -> Recipe | None:
    """The recipe of the run in `out`, if there is one.

    Raises:
        RealMNetError: files are in the place of a run's, but none of ours.
    """
    if (out / "recipe.json").is_file():
        return read_recipe(out / "recipe.json")
    found = sorted(_own_files(out))
    if found:
        raise RealMNetError(
            f"{found[0]}: not the file of a run, for there is no recipe.json beside it; choose another --out"
        )
    return None


def check_same_data(recorded: Path, facts: dict[str, Any]) -> None:
    """Raises RealMNetError where a run began with other data than it would go on with."""
    if not recorded.is_file():
        return
    try:
        before = json.loads(recorded.read_text(encoding="utf-8"))["data_sha256"]
    except (ValueError, KeyError, TypeError) as error:
        raise RealMNetError(f"{recorded}: damaged ({error}); start over with --no-resume") from error
    for split in {**before, **facts["data_sha256"]}:
        if before.get(split) != facts["data_sha256"].get(split):
            what = "weights of its teacher" if split == TEACHER else f"{split} images or labels"
            raise RealMNetError(
                f"{recorded}: the run began with other {what} than there are now; put them back, "
                "choose another --out, or start over with --no-resume"
            )


def check_same_task(run: Path, task: Task) -> None:
    """Raises RealMNetError where a run began with other questions than its data asks now."""
    if (run / TASK_FILE).is_file():
        before = read_task(run)
        if (before.modality, before.questions) != (task.modality, task.questions):
            raise RealMNetError(
                f"{run / TASK_FILE}: the run began with {', '.join(before.trained)} of other vocabularies, or other "
                "images, than its data has now; put them back, choose another --out, or start over with --no-resume"
            )


def run_facts(recipe: Recipe, data: ImageSet, validation: ImageSet | None, spec: PreprocessSpec) -> dict[str, Any]:
    """What a reader needs to repeat the run, beside the recipe."""
    sets = {"train": data} if validation is None else {"train": data, "validation": validation}
    taught = {} if recipe.teacher is None else {TEACHER: sha256_of(Path(recipe.teacher).expanduser() / WEIGHTS_FILE)}
    git = subprocess.run(
        ["git", "rev-parse", "HEAD"], cwd=Path(__file__).parent, capture_output=True, text=True, check=False
    )
    return {
        "command": sys.argv,
        "python": platform.python_version(),
        "machine": platform.platform(),
        "backend": keras.backend.backend(),
        "versions": versions(),
        "git_commit": git.stdout.strip() or None,
        "seed": recipe.seed,
        "training_data": learned_from(recipe),
        "images": {split: len(images) for split, images in sets.items()},
        "patients": {split: len(set(images.patients)) for split, images in sets.items()},
        "label_counts": _label_counts(sets) if any(map(_classifies, recipe.data.task.trained.values())) else {},
        "data_sha256": {split: images.sha256 for split, images in sets.items()} | taught,
        "preprocess": spec.to_dict(),
        "preprocess_hash": spec.hash,
    }


def learned_from(recipe: Recipe) -> str:
    """The data of a run in words, and that of its frozen part and of its teacher, and of theirs."""
    described = [recipe.data.describe()]
    for run, part in recipe.other_runs:
        folder = Path(run).expanduser()
        if (folder / "recipe.json").is_file():
            theirs = dict.fromkeys(learned_from(each) for each in recipes_of_run(folder))
        else:
            theirs = {f"a run that is not there any more, {folder.name}": None}
        described.append(f"its {part}: {'; '.join(theirs)}")
    return "; ".join(described)


def _classifies(output: Output) -> bool:
    return isinstance(output, Labels | Grades)


def _label_counts(sets: dict[str, ImageSet]) -> dict[str, dict[str, int]]:
    return {
        split: dict(zip(images.label_set.codes, np.nansum(images.labels, axis=0).astype(int).tolist(), strict=True))
        for split, images in sets.items()
    }
