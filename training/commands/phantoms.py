"""Commands that draw synthetic images: a cohort, a study, the samples of the project."""

from pathlib import Path
from typing import Annotated

import typer

from keras_realmnet.errors import RealMNetError
from training.commands.options import writable

__all__ = ["phantom", "phantom_study", "samples"]


def phantom(
    out: Annotated[Path, typer.Option(callback=writable, help="Folder for the images and label lists.")],
    patients: Annotated[int, typer.Option(min=1, help="Patients; five images each on average.")] = 20,
    width: Annotated[int, typer.Option(min=96, max=4000, help="Width of the images in pixels.")] = 768,
    imbalance: Annotated[str, typer.Option(help="psmm (as in the real data) or balanced.")] = "psmm",
    seed: Annotated[int, typer.Option(min=0, help="Another seed, other eyes.")] = 0,
    workers: Annotated[int | None, typer.Option(min=1, help="Processes. Default: one per core.")] = None,
) -> None:
    """Draw synthetic ultra-widefield images with labels, laid out as PSMM is.

    OUT/JPEGImages holds the images, OUT/ImageSets/Main/MYOPIA/MYOPIA.csv the labels.

    [bold]Example[/bold]: python -m training phantom --out data/phantoms --patients 50
    """
    from training.phantoms.cohorts import cohort, write_psmm_tree

    try:
        cases = cohort(patients, seed=seed, imbalance=imbalance)
    except ValueError as error:
        raise RealMNetError(str(error)) from error
    table = write_psmm_tree(cases, out, width, workers=workers)
    print(f"written: {len(cases)} images, {table}")


def phantom_study(
    out: Annotated[Path, typer.Option(callback=writable, help="Folder for the images and label lists.")] = Path(
        "data/study"
    ),
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
    from training.phantoms.phantom_study import write_study

    write_study(out, images, width=width, seed=seed, workers=workers)
    print(f"written: {images} images, {out}")


def samples(
    out: Annotated[Path, typer.Option(callback=writable, help="Folder for the sample files.")] = Path("samples"),
) -> None:
    """Write the sample images that are shipped with the project, in the formats that clinics send.

    [bold]Example[/bold]: python -m training samples --out samples
    """
    from training.phantoms.sample_files import write_samples

    write_samples(out)
    print(f"written: {out}")
