"""The command that asks a run's network about any pictures."""

from pathlib import Path
from typing import Annotated

import typer

from training.commands.options import Backend, use_backend

__all__ = ["predict"]


def predict(
    run_folder: Annotated[Path, typer.Argument(metavar="RUN", help="Folder that fit wrote.")],
    pictures: Annotated[list[Path], typer.Argument(help="Image files or folders of them, at any depth.", exists=True)],
    out: Annotated[Path, typer.Option(help="Table to write (csv).")] = Path("predictions.csv"),
    features: Annotated[bool, typer.Option("--features", help="Also the mean of the last feature map.")] = False,
    only_gradable: Annotated[
        bool, typer.Option("--only-gradable", help="No answers for pictures that cannot be judged.")
    ] = False,
    backend: Backend = None,
) -> None:
    """Ask a trained network about pictures and write a table, one row for each.

    They take the way of the box: reading, quality, preprocessing. The quality is told and refuses none, unless asked. A
    picture that cannot be read has a row without answers, which says why.

    [bold]Example[/bold]: python -m training predict runs/palm_5m_224 photographs --out scores.csv --features
    """
    use_backend(backend)
    from training.prediction import predict_pictures

    count, unreadable = predict_pictures(run_folder, pictures, out, features, only_gradable)
    said = f", {unreadable} of them could not be read (see remarks)" if unreadable else ""
    print(f"written: {out}: {count} pictures{said}")
