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
    from training.datasets.data_set import DataSet
    from training.recipe import Recipe

__all__ = [
    "Augmenters",
    "Backend",
    "ByCost",
    "Cache",
    "Columns",
    "Confidence",
    "Coverage",
    "Data",
    "Devices",
    "Epochs",
    "FalseCost",
    "Fold",
    "Labels",
    "MissCost",
    "OwnVocabulary",
    "Replicates",
    "Risk",
    "Sensitivity",
    "Settings",
    "Splits",
    "Table",
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
Table = Annotated[
    Path | None, typer.Option(help="Table of your own pictures, csv or xlsx; they lie in the folder --data.")
]
Columns = Annotated[
    str | None, typer.Option(help="Its columns: path=…,patient=…,eye=…,split=…,same_picture=…; all but path optional.")
]
OwnVocabulary = Annotated[
    Path | None, typer.Option("--labels", help="Vocabulary of your own pictures (toml): what is asked of them.")
]
Fold = Annotated[
    str | None,
    typer.Option(metavar="K/N", help="Cross-validation: fold K of N is tested, the others train. all: none is."),
]
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

# Of what stands between a network and a decision; a run and a bundle are calibrated by the same.
Sensitivity = Annotated[float, typer.Option(help="Of patients, of each threshold of a label: at least this.")]
Confidence = Annotated[float, typer.Option(help="Of its lower bound (Clopper and Pearson), and of --risk.")]
Coverage = Annotated[float, typer.Option(help="Of the sets of labels that may hold.")]
Risk = Annotated[float, typer.Option(help="Of the patients with something to refer, so many may be negative.")]
MissCost = Annotated[float, typer.Option(help="Of not referring what is to be referred, beyond the grades.")]
FalseCost = Annotated[float, typer.Option(help="Of referring what is not, beyond the distance of grades.")]
ByCost = Annotated[bool, typer.Option("--by-cost/--by-thresholds", help="Decide on ordered labels by expected cost.")]
Splits = Annotated[int, typer.Option(min=0, help="Random splits on which the coverage is counted.")]


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
    table: Path | None = None,
    columns: str | None = None,
    vocabulary: Path | None = None,
    fold: str | None = None,
) -> "Recipe":
    """The recipe of that name with what the command line changes."""
    from training.datasets.registry import in_folds, with_folder
    from training.recipe import load_recipe, override

    try:
        chosen = load_recipe(name)
        source = chosen.data
        if vocabulary is not None:
            source = _own_data(data, table, columns, vocabulary)
        elif table is not None or columns is not None:
            raise typer.BadParameter("--table and --columns go with --labels, the vocabulary of your own pictures")
        elif data is not None:
            source = with_folder(source, data)
        if fold is not None:
            source = in_folds(source, _fold(fold))
        if epochs is not None:
            chosen = chosen.with_epochs(epochs)
        if batch_size is not None:
            chosen = replace(chosen, batch_size=batch_size)
        if seed is not None:
            chosen = replace(chosen, seed=seed)
        return override(chosen, *(settings or ()), data=source)
    except ValueError as error:
        raise RealMNetError(str(error)) from error


def _own_data(data: str | None, table: Path | None, columns: str | None, vocabulary: Path) -> "DataSet":
    from training.data.own_data.vocabulary import parse_vocabulary, read_toml
    from training.datasets.found.own import OwnDataSet

    if data is None:
        raise typer.BadParameter(f"--labels {vocabulary} needs --data, the folder of the pictures")
    values = read_toml(vocabulary)
    parse_vocabulary(values, vocabulary)
    listed = None if table is None else str(table.expanduser().resolve())
    return OwnDataSet(data, listed, columns or "path=path", values)


def _fold(text: str) -> tuple[int, int] | None:
    parts = text.split("/")
    if text == "all":
        return None
    if len(parts) != 2 or not all(part.isdecimal() for part in parts):
        raise ValueError(f"--fold must be K/N, such as 1/5, or all. Received: {text!r}")
    return int(parts[0]), int(parts[1])


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
