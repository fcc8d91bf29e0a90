"""`python -m training`: make synthetic images, train a network, score it."""

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from keras_realmnet.command_line import run
from keras_realmnet.errors import RealMNetError

app = typer.Typer(
    help="Make synthetic images, train networks and score them. Research software: not for clinical use.",
    no_args_is_help=True,
    rich_markup_mode="rich",
)

BACKENDS = ("tensorflow", "jax", "torch")
Backend = Annotated[str | None, typer.Option(help="Keras backend: tensorflow (default), jax or torch.")]
Cache = Annotated[Path, typer.Option(help="Folder for prepared images; made once and used again.")]
Workers = Annotated[int | None, typer.Option(min=1, help="Processes. Default: one per core.")]
Data = Annotated[str | None, typer.Option(help="Folder of the data set, for recipes that do not make their own.")]


def _use_backend(backend: str | None) -> None:
    """Before Keras is imported: it cannot change its backend afterwards."""
    if backend is not None:
        if backend not in BACKENDS:
            raise typer.BadParameter(f"backend must be one of {', '.join(BACKENDS)}. Received: {backend!r}")
        os.environ["KERAS_BACKEND"] = backend
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # TensorFlow's start-up notices


@app.command()
def fit(
    recipe: Annotated[
        str, typer.Option(help="Name of a file in training/recipes: smoke, phantom_5m_224, palm_5m_224.")
    ],
    out: Annotated[Path | None, typer.Option(help="Run folder. Default: runs/RECIPE.")] = None,
    data: Data = None,
    epochs: Annotated[int | None, typer.Option(help="Epochs in all, shared among the recipe's phases.")] = None,
    batch_size: Annotated[int | None, typer.Option(help="Images per step.")] = None,
    seed: Annotated[int | None, typer.Option(help="Of weights, order and augmentation.")] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Any other field of the recipe; repeatable.")
    ] = None,
    resume: Annotated[bool, typer.Option(help="Continue the unfinished run in the run folder.")] = True,
    cache: Cache = Path("data/cache"),
    backend: Backend = None,
) -> None:
    """Train a recipe and score it on held-out images.

    The run folder gets recipe.json, run.json, history.csv, tensorboard/, weights.weights.h5 and scores.json.
    Interrupt with Ctrl-C whenever you like: the same command goes on after the last complete epoch.

    [bold]Examples[/bold]

    python -m training fit --recipe smoke

    python -m training fit --recipe palm_5m_224 --data PALM --out runs/palm

    python -m training fit --recipe phantom_5m_224 --set learning_rate=5e-4 --set augmentation.mixup=0.2
    """
    _use_backend(backend)
    from dataclasses import replace

    from training.recipe import load_recipe, override

    try:
        chosen = load_recipe(recipe)
        if epochs is not None:
            chosen = chosen.with_epochs(epochs)
        if batch_size is not None:
            chosen = replace(chosen, batch_size=batch_size)
        if seed is not None:
            chosen = replace(chosen, seed=seed)
        for assignment in settings or ():
            chosen = override(chosen, assignment)
    except ValueError as error:
        raise RealMNetError(str(error)) from error
    from training.fit import fit as fit_recipe
    from training.fit import with_data

    if data is not None:
        chosen = with_data(chosen, data)
    folder = out or Path("runs") / recipe
    fit_recipe(chosen, folder, cache=cache, resume=resume)
    print(f"written: {folder}")


@app.command()
def evaluate(
    run_folder: Annotated[Path, typer.Argument(metavar="RUN", help="Folder that fit wrote.")],
    data: Data = None,
    cache: Cache = Path("data/cache"),
    bootstrap: Annotated[int, typer.Option(help="Resamples for the intervals.")] = 1000,
    backend: Backend = None,
) -> None:
    """Score a finished run on its test images, again.

    Writes scores.json and test_scores.csv into the run folder and prints a table.

    [bold]Example[/bold]: python -m training evaluate runs/phantom_5m_224
    """
    _use_backend(backend)
    from training.evaluate import evaluate as evaluate_run

    evaluate_run(run_folder, data=data, cache=cache, replicates=bootstrap)


@app.command()
def check(
    folder: Annotated[Path, typer.Argument(metavar="PSMM", help="Folder laid out as PSMM is.")],
    train: Annotated[
        str, typer.Option(help="Training list, below ImageSets/Main, in the folder or anywhere.")
    ] = "MYOPIA/MYOPIA.csv",
    fast: Annotated[bool, typer.Option("--fast", help="Look only at the images' headers.")] = False,
    resampled: Annotated[
        bool, typer.Option("--resampled", help="The training list was resampled: files may repeat in it.")
    ] = False,
    workers: Workers = None,
) -> None:
    """Look for everything that is wrong with a data set: lists, patients, images.

    Each problem is printed with file and line, and the exit status is 2. Images are decoded whole; what passed is not
    decoded again the next time.

    [bold]Example[/bold]: python -m training check data/PSMM
    """
    from training.psmm import check as problems_of
    from training.psmm import print_summary, read_tables, unlisted

    tables = read_tables(folder, train)
    problems = problems_of(folder, tables, fast=fast, resampled=resampled, workers=workers)
    if problems:
        print("\n".join(problems))
        raise RealMNetError(f"{folder}: problems found: {len(problems)}, listed above")
    print_summary(tables)
    if extra := unlisted(folder, tables):
        print(f"note: {extra} files in {folder / 'JPEGImages'} are in no list")


@app.command()
def phantom(
    out: Annotated[Path, typer.Option(help="Folder for the images and label lists.")],
    patients: Annotated[int, typer.Option(min=1, help="Patients; five images each on average.")] = 20,
    width: Annotated[int, typer.Option(min=96, max=4000, help="Width of the images in pixels.")] = 768,
    imbalance: Annotated[str, typer.Option(help="psmm (as in the real data) or balanced.")] = "psmm",
    seed: Annotated[int, typer.Option(help="Another seed, other eyes.")] = 0,
    workers: Annotated[int | None, typer.Option(min=1, help="Processes. Default: one per core.")] = None,
) -> None:
    """Draw synthetic ultra-widefield images with labels, laid out as PSMM is.

    OUT/JPEGImages holds the images, OUT/ImageSets/Main/MYOPIA/MYOPIA.csv the labels.

    [bold]Example[/bold]: python -m training phantom --out data/phantoms --patients 50
    """
    from training.phantom import cohort, write_psmm_tree

    try:
        cases = cohort(patients, seed=seed, imbalance=imbalance)
    except ValueError as error:
        raise RealMNetError(str(error)) from error
    table = write_psmm_tree(cases, out, width, workers=workers)
    print(f"written: {len(cases)} images, {table}")


@app.command()
def phantom_study(
    out: Annotated[Path, typer.Option(help="Folder for the images and label lists.")] = Path("data/study"),
    images: Annotated[int, typer.Option(min=100, help="Images in all.")] = 3600,
    width: Annotated[int, typer.Option(min=96, max=4000, help="Width of the images in pixels.")] = 192,
    seed: Annotated[int, typer.Option(min=0, help="Another seed, other patients.")] = 2026,
    workers: Annotated[int | None, typer.Option(min=1, help="Processes. Default: one per core.")] = None,
) -> None:
    """Draw a synthetic study of five sources that look different, split and laid out as PSMM is.

    OUT/JPEGImages holds the images, OUT/ImageSets/Main the lists of training, validation and test. Interrupt with
    Ctrl-C whenever you like: the same command draws what is missing.

    [bold]Example[/bold]: python -m training phantom-study --out data/study
    """
    from training.phantom_study import write_study

    write_study(out, images, width=width, seed=seed, workers=workers)
    print(f"written: {images} images, {out}")


@app.command()
def samples(
    out: Annotated[Path, typer.Option(help="Folder for the sample files.")] = Path("samples"),
) -> None:
    """Write the sample images that are shipped with the project, in the formats that clinics send.

    [bold]Example[/bold]: python -m training samples --out samples
    """
    from training.sample_files import write_samples

    write_samples(out)
    print(f"written: {out}")


def main(args: list[str] | None = None) -> int:
    return run(app, "python -m training", args)


if __name__ == "__main__":
    sys.exit(main())
