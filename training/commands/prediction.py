"""The command that asks a run's network about any pictures."""

from pathlib import Path
from typing import Annotated

import typer

from training.commands.options import Backend, use_backend

__all__ = ["predict", "submit_refuge"]


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


def submit_refuge(
    run_folders: Annotated[list[Path], typer.Argument(metavar="RUN", help="Folders that fit wrote, one or several.")],
    data: Annotated[Path, typer.Option(help="Folder of the pictures that are asked about.", exists=True)],
    out: Annotated[Path, typer.Option(help="Folder of what is handed in.")] = Path("submission"),
    backend: Backend = None,
) -> None:
    """Write what is handed in to REFUGE: the risk of glaucoma, masks of disc and cup, the fovea.

    Of each question that one of the runs answers; where several do, the mean of their answers. score-refuge checks and
    scores the result.

    [bold]Example[/bold]: python -m training submit-refuge runs/disc_cup_1 runs/disc_cup_2 runs/fovea --data Test400
    """
    use_backend(backend)
    from training.submission import hand_in, network_of_run

    answered = hand_in([network_of_run(run) for run in run_folders], data, out)
    print(f"written: {out}: {', '.join(f'{question} ({count})' for question, count in answered.items())}")
