"""The command that writes the report of finished runs."""

from pathlib import Path
from typing import Annotated

import typer

from training.commands.options import Backend, Cache, Data, Replicates, use_backend, writable

__all__ = ["report"]


def report(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN...", help="Folders that fit wrote; several are compared.")],
    out: Annotated[Path, typer.Option(callback=writable, help="Folder for report.html and figures/.")],
    labels: Annotated[
        list[Path] | None, typer.Option(help="Label list that describes the data (train, test, …); repeatable.")
    ] = None,
    data: Data = None,
    cache: Cache = Path("data/cache"),
    bootstrap: Replicates = 1000,
    backend: Backend = None,
) -> None:
    """Write one page with tables and figures of finished runs, and the figures for a publication.

    OUT/report.html holds everything it shows; OUT/figures has each figure as SVG and PNG, and its numbers as csv.

    [bold]Example[/bold]: python -m training report runs/a runs/b --labels train.csv --labels test.csv --out reports/ab
    """
    use_backend(backend)
    from training.report.page import write_report

    page = write_report(runs, out, labels or (), data=data, cache=cache, replicates=bootstrap)
    print(f"written: {page}")
