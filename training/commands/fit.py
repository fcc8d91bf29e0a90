"""Commands that train, one recipe, the variants of a study, the paper's protocols; and runs as one."""

from pathlib import Path
from typing import Annotated

import typer

from keras_realmnet.errors import RealMNetError
from training.commands.options import (
    Augmenters,
    Backend,
    Cache,
    Columns,
    Data,
    Devices,
    Epochs,
    Fold,
    OwnVocabulary,
    Replicates,
    Settings,
    Table,
    Track,
    recipe_from_options,
    trainer,
    use_backend,
    writable,
)

__all__ = ["beside", "ensemble", "fit", "protocol", "sweep"]


def fit(
    recipe: Annotated[
        str, typer.Option(help="A recipe's name, such as realmnet_21m_384 or smoke, or a file: ./mine.py.")
    ],
    out: Annotated[Path | None, typer.Option(callback=writable, help="Run folder. Default: runs/RECIPE.")] = None,
    data: Data = None,
    table: Table = None,
    columns: Columns = None,
    vocabulary: OwnVocabulary = None,
    fold: Fold = None,
    epochs: Epochs = None,
    batch_size: Annotated[int | None, typer.Option(help="Images per step.")] = None,
    seed: Annotated[int | None, typer.Option(help="Of weights, order and augmentation.")] = None,
    settings: Settings = None,
    resume: Annotated[bool, typer.Option(help="Continue the unfinished run in the run folder.")] = True,
    cache: Cache = Path("data/cache"),
    backend: Backend = None,
    devices: Devices = None,
    workers: Augmenters = 0,
    track: Track = None,
) -> None:
    """Train a recipe and score it on held-out images.

    The run folder gets recipe.json, run.json, history.csv, tensorboard/, weights.weights.h5 and scores.json.
    Interrupt with Ctrl-C whenever you like: the same command goes on after the last complete epoch.

    [bold]Examples[/bold]

    python -m training fit --recipe smoke

    python -m training fit --recipe palm_5m_224 --data PALM --out runs/palm

    python -m training fit --recipe realmnet_21m_384 --data PSMM --set resampling=ml-rus --set augmentation.mixup=0.2

    python -m training fit --recipe own_lite_256 --data pictures --table list.csv --columns path=file,patient=id
    --labels vocabulary.toml --out runs/mine
    """
    train = trainer(backend, cache, devices, workers, track)
    chosen = recipe_from_options(recipe, data, epochs, batch_size, seed, settings, table, columns, vocabulary, fold)
    folder = out or Path("runs") / chosen.name
    train(chosen, folder, resume)
    print(f"written: {folder}")


def ensemble(
    run_folders: Annotated[list[Path], typer.Argument(metavar="RUN...", help="Folders of the members, finished runs.")],
    out: Annotated[Path, typer.Option(callback=writable, help="Run folder of the ensemble.")],
    cache: Cache = Path("data/cache"),
    bootstrap: Replicates = 1000,
    backend: Backend = None,
) -> None:
    """Make one run of several, whose network says the mean of theirs, and score it on held-out images.

    Probabilities are averaged, and the places of points. All members answer the same, at the same size, and have
    learned from the same data, if need be from other folds of it; then no picture is held out. The members' folders
    are not needed any more.

    [bold]Example[/bold]: python -m training ensemble runs/fovea_1 runs/fovea_2 runs/fovea_3 --out runs/fovea
    """
    use_backend(backend)
    from training.studies.ensembles import write_ensemble

    write_ensemble(run_folders, out, cache=cache, replicates=bootstrap)
    print(f"written: {out}")


def beside(
    main: Annotated[Path, typer.Argument(metavar="RUN", help="Folder of a finished run, which sees pictures reduced.")],
    part: Annotated[
        Path, typer.Argument(metavar="PART", help="That of a run of masks, which sees pictures as they are.")
    ],
    out: Annotated[Path, typer.Option(callback=writable, help="Run folder of both.")],
    reduction: Annotated[
        int, typer.Option(min=1, help="How many times larger than those of RUN the pictures are, a side.")
    ] = 2,
    cache: Cache = Path("data/cache"),
    bootstrap: Replicates = 1000,
    backend: Backend = None,
) -> None:
    """Make one run of two that answer different questions, without training, and score it on held-out images.

    One picture goes in: PART sees it as it is, RUN sees means of its pixels. The weights stay what they are; thresholds
    of masks are chosen anew on the pictures that validate. The two folders are not needed any more.

    [bold]Example[/bold]: python -m training beside runs/fundus_landmarks runs/vessels_photographs --reduction 4
    --out runs/fundus_structures
    """
    use_backend(backend)
    from training.studies.beside import write_beside

    write_beside(main, part, out, reduction=reduction, cache=cache, replicates=bootstrap)
    print(f"written: {out}")


def sweep(
    name: Annotated[str | None, typer.Argument(help="Which study; without it, those there are are listed.")] = None,
    recipe: Annotated[str, typer.Option(help="The recipe that the variants change.")] = "realmnet_21m_384",
    only: Annotated[list[str] | None, typer.Option(help="A variant; repeatable. Default: all.")] = None,
    out: Annotated[
        Path | None, typer.Option(callback=writable, help="Folder for the runs. Default: runs/sweeps/RECIPE/NAME.")
    ] = None,
    data: Data = None,
    epochs: Epochs = None,
    settings: Settings = None,
    cache: Cache = Path("data/cache"),
    backend: Backend = None,
    devices: Devices = None,
    workers: Augmenters = 0,
    track: Track = None,
) -> None:
    """Train the variants of one ablation or parameter study, skipping those that are done, and tabulate them.

    Interrupt whenever you like: the same command goes on where it stopped.

    [bold]Examples[/bold]

    python -m training sweep

    python -m training sweep lam --data PSMM

    python -m training sweep loss --recipe study_realmnet --only bce --only two_way
    """
    from training.studies.sweeps import SWEEPS, run_sweep

    if name is None:
        for sweep_name, description in SWEEPS.items():
            print(f"{sweep_name:<18} {description.question}\n{'':<18} {', '.join(description.variants)}")
        return
    train = trainer(backend, cache, devices, workers, track)
    base = recipe_from_options(recipe, data, epochs, settings=settings)
    folder = out or Path("runs/sweeps") / base.name / name
    try:
        rows = run_sweep(name, base, folder, train, only or ())
    except ValueError as error:
        raise RealMNetError(str(error)) from error
    from training.studies.score_rows import print_rows

    print_rows(rows, ["variant"])
    print(f"written: {folder / 'sweep.csv'}")


def protocol(
    name: Annotated[str, typer.Argument(help="cip, mrp or cgp.")],
    data: Annotated[str, typer.Option(help="Folder of the PSMM data set.")],
    recipe: Annotated[list[str] | None, typer.Option(help="A recipe; repeatable. Default: realmnet_21m_384.")] = None,
    out: Annotated[
        Path | None, typer.Option(callback=writable, help="Folder for the runs. Default: runs/protocols/NAME.")
    ] = None,
    counts: Annotated[bool, typer.Option("--counts", help="Only count the images and patients of each set.")] = False,
    epochs: Epochs = None,
    settings: Settings = None,
    bootstrap: Replicates = 1000,
    cache: Cache = Path("data/cache"),
    backend: Backend = None,
    devices: Devices = None,
    workers: Augmenters = 0,
    track: Track = None,
) -> None:
    """Train and test under one of the paper's protocols, skipping what is done, and tabulate by hospital.

    cip: all hospitals train and test, patients apart. mrp: the main hospital trains, each other one tests.
    cgp: one hospital after the other is left out of training and tests.

    [bold]Examples[/bold]

    python -m training protocol cgp --data PSMM --counts

    python -m training protocol cip --data PSMM --recipe realmnet_21m_384 --recipe swin_b_384
    """
    from training.studies.protocols import protocol_runs, run_protocol, training_counts

    recipes = [recipe_from_options(each, epochs=epochs, settings=settings) for each in recipe or ["realmnet_21m_384"]]
    try:
        if counts:
            from training.data.splits import print_counts

            for part, chosen in protocol_runs(name, recipes[0], data).items():
                print(f"{name} {part}")
                print_counts(training_counts(chosen))
            return
        train = trainer(backend, cache, devices, workers, track)
        folder = out or Path("runs/protocols") / name
        rows = run_protocol(name, recipes, data, folder, train, bootstrap)
    except ValueError as error:
        raise RealMNetError(str(error)) from error
    from training.studies.score_rows import print_rows

    print_rows(rows, ["recipe", "tested_on", "images"])
    print(f"written: {folder / 'protocol.csv'}")
