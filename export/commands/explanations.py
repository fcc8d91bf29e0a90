"""The command that measures how far class maps can be trusted."""

from pathlib import Path
from typing import Annotated

import typer

from export.commands.options import must_exist
from export.commands.tables import console

__all__ = ["explanations"]


def explanations(
    directory: Annotated[Path, typer.Argument(metavar="BUNDLE", help="Folder of a bundle with class maps of labels.")],
    out: Annotated[Path, typer.Option(help="Folder for explanations.json, curves.png and examples.png.")],
    artifact: Annotated[str | None, typer.Option(help="Model of the bundle. Default: its default one.")] = None,
    patients: Annotated[int, typer.Option(min=1, help="Synthetic patients, whose pictures are drawn.")] = 140,
    curves: Annotated[int, typer.Option(min=1, help="Maps with insertion and deletion curves.")] = 60,
    blur: Annotated[
        float, typer.Option(min=0.01, max=1, help="Standard deviation of the blur of curves, of the picture's side.")
    ] = 0.1,
    data: Annotated[
        Path | None, typer.Option(help="Labelled folder (PSMM's layout or PALM's): curves on its test split.")
    ] = None,
    run_folder: Annotated[
        Path | None, typer.Option("--run", help="Finished run of a bundle without a Keras model: for randomization.")
    ] = None,
    bootstrap: Annotated[int, typer.Option(min=0, help="Resamples for the intervals; 0 for none.")] = 1000,
    threads: Annotated[int | None, typer.Option(min=1, help="Default: all cores.")] = None,
) -> None:
    """Whether class maps lie on the lesion, say what the network used, and come from what it learned.

    On drawn pictures, where lesions are known: the pointing game, and the share of a map inside of the lesion, beside
    the centre of the field and chance. Insertion and deletion curves by the map's order, from the centre outwards, and
    in random order. Maps after the weights were put in disorder, where there is a Keras model. See
    docs/explanations.md.

    [bold]Examples[/bold]

    python -m export explanations bundles/realmnet-demo --out reports/explanations

    python -m export explanations bundles/palm-lite --data FUNDUS/palm224 --blur 0.4 --out reports/palm
    """
    for path in (data, run_folder):
        if path is not None:
            must_exist(path)
    from export.explanations.check import explanations, tables, write
    from keras_realmnet.screening.bundle.bundle import Bundle

    found = explanations(
        Bundle.load(directory),
        artifact=artifact,
        patients=patients,
        curve_maps=curves,
        blur=blur,
        data=data,
        run=run_folder,
        replicates=bootstrap,
        threads=threads,
    )
    write(found, out)
    for table in tables(found):
        console().print(table)
    if not found.randomization:
        print("weights were not put in disorder: the bundle has no Keras model, and --run names no run of it")
    print(f"written: {out}")
