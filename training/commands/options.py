"""Options that several commands share, and what is made of them."""

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from keras_realmnet.errors import RealMNetError

if TYPE_CHECKING:
    from collections.abc import Callable

    from keras_realmnet.tasks.vocabulary import LabelSet
    from training.recipe import Recipe

__all__ = [
    "Augmenters",
    "Backend",
    "Cache",
    "Data",
    "Devices",
    "Epochs",
    "Labels",
    "Replicates",
    "Settings",
    "Track",
    "Vocabulary",
    "Workers",
    "label_set_named",
    "print_json",
    "recipe_from_options",
    "trainer",
    "use_backend",
    "writable",
]

BACKENDS = ("tensorflow", "jax", "torch")
Backend = Annotated[str | None, typer.Option(help="Keras backend: tensorflow (default), jax or torch.")]
Cache = Annotated[Path, typer.Option(help="Folder for prepared images; made once and used again.")]
Workers = Annotated[int | None, typer.Option(min=1, help="Processes. Default: one per core.")]
Data = Annotated[str | None, typer.Option(help="Folder of the data set, for recipes that do not make their own.")]
Epochs = Annotated[int | None, typer.Option(help="Epochs in all, shared among the recipe's phases.")]
Settings = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Any other field of the recipe; repeatable.")
]
Devices = Annotated[int | None, typer.Option(min=1, help="Devices that share each batch (tensorflow, jax).")]
Augmenters = Annotated[int, typer.Option("--workers", min=0, help="Processes that augment. 0: threads do it.")]
Track = Annotated[str | None, typer.Option(help="wandb: send the numbers to Weights & Biases too.")]
Replicates = Annotated[int, typer.Option(min=0, help="Resamples for the intervals; 0 for none.")]
Labels = Annotated[list[Path], typer.Option(help="Label list (csv); repeatable.")]
Vocabulary = Annotated[str, typer.Option("--label-set", help="Vocabulary of the labels: psmm, palm or peripheral.")]


def writable(folder: Path | None) -> Path | None:
    """An option's folder, refused before the command begins where nothing can be written into it."""
    from training.fitting.folders import check_folder

    return None if folder is None else check_folder(folder)


def use_backend(backend: str | None) -> None:
    """Choose Keras' backend. Before Keras is imported: it cannot change it afterwards."""
    if backend is not None:
        if backend not in BACKENDS:
            raise typer.BadParameter(f"backend must be one of {', '.join(BACKENDS)}. Received: {backend!r}")
        os.environ["KERAS_BACKEND"] = backend
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # TensorFlow's start-up notices


def label_set_named(name: str) -> "LabelSet":
    """The vocabulary that `--label-set` names."""
    from keras_realmnet.tasks.vocabulary import LABEL_SETS

    if name not in LABEL_SETS:
        raise typer.BadParameter(f"label set must be one of {', '.join(LABEL_SETS)}. Received: {name!r}")
    return LABEL_SETS[name]


def recipe_from_options(
    name: str,
    data: str | None = None,
    epochs: int | None = None,
    batch_size: int | None = None,
    seed: int | None = None,
    settings: list[str] | None = None,
) -> "Recipe":
    """The recipe of that name with what the command line changes."""
    from training.recipe import load_recipe, override, with_data

    try:
        chosen = load_recipe(name)
        if epochs is not None:
            chosen = chosen.with_epochs(epochs)
        if batch_size is not None:
            chosen = replace(chosen, batch_size=batch_size)
        if seed is not None:
            chosen = replace(chosen, seed=seed)
        chosen = override(chosen, *(settings or ()))
    except ValueError as error:
        raise RealMNetError(str(error)) from error
    return chosen if data is None else with_data(chosen, data)


def trainer(
    backend: str | None, cache: Path, devices: int | None, workers: int, track: str | None
) -> "Callable[..., object]":
    """`fit(recipe, folder, resume=True)` with the command's resources; chooses the backend, so it comes first."""
    use_backend(backend)
    if track not in (None, "wandb"):
        raise typer.BadParameter(f"track must be wandb. Received: {track!r}")

    def train(recipe: "Recipe", folder: Path, resume: bool = True) -> object:
        from training.fitting.fit import fit
        from training.fitting.loop import Resources

        return fit(recipe, folder, cache=cache, resume=resume, resources=Resources(devices, workers, track))

    return train


def print_json(value: object) -> None:
    print(json.dumps(value, indent=1))
