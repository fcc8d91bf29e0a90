"""`python -m export`: bundles and their verification."""

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from keras_realmnet.command_line import run
from keras_realmnet.errors import BundleMismatch, RealMNetError

app = typer.Typer(
    help="Turn trained weights into a deployable bundle, and prove that it computes what the Keras model does.",
    no_args_is_help=True,
    rich_markup_mode="rich",
    add_completion=False,
)


@app.command()
def bundle(
    weights: Annotated[Path, typer.Option(help="Folder of a finished run, or its weights.weights.h5.")],
    out: Annotated[Path, typer.Option(help="Folder to write; an existing bundle there is replaced.")],
    name: Annotated[str | None, typer.Option(help="Name of the bundle. Default: the recipe's.")] = None,
    version: Annotated[str, typer.Option(help="Version of the bundle.")] = "1",
) -> None:
    """Write a bundle: LiteRT in float32 and int8, bundle.json, golden input and output.

    Every artifact is measured against Keras on the run's test images; one that differs by more than the stated limits
    is refused and nothing is written.

    [bold]Example[/bold]

    python -m export bundle --weights runs/phantom_5m_160 --out bundles/mine
    """
    _must_exist(weights)
    from export.make_bundle import bundle_from_run

    made, parity = bundle_from_run(weights, out, name=name, version=version)
    _print(parity)
    print(f"written: {made.directory}")


@app.command()
def verify(
    directory: Annotated[Path, typer.Argument(metavar="BUNDLE", help="Folder of the bundle.")],
    images: Annotated[
        list[Path] | None, typer.Option(help="Image files or folders; repeatable. Default: samples/ of this project.")
    ] = None,
) -> None:
    """Check a bundle: hashes, golden output, and every artifact against Keras on real image files.

    The images go the way they go on the box: decoded, judged for quality, cropped and resized. Those that are not
    gradable are left out and counted. Exit status 2 where a limit is broken.

    [bold]Example[/bold]

    python -m export verify bundles/realmnet-demo --images my_images/
    """
    sources = images or [Path(__file__).resolve().parent.parent / "samples"]
    for source in sources:
        _must_exist(source)
    from keras_realmnet.screening.bundle import Bundle
    from keras_realmnet.screening.runtimes import open_runtime, self_check

    loaded = Bundle.load(directory)
    pixels, left_out = _preprocessed(sources, loaded)
    if not len(pixels):
        raise RealMNetError(f"none of the {left_out} files in {', '.join(map(str, sources))} is a gradable image")
    from export.make_bundle import load_source, refuse  # from here on with Keras
    from export.parity import keras_predictions, measure, runtime_predictions

    expected = keras_predictions(load_source(loaded), pixels)
    parity = {}
    for name in loaded.artifacts:
        runtime = open_runtime(loaded, name)
        self_check(loaded, runtime, name)
        received = runtime_predictions(runtime, pixels)
        parity[name] = measure(expected, received, loaded.label_set, loaded.operating_point)
    _print(parity, left_out)
    try:
        refuse(parity)
    except BundleMismatch as error:
        raise BundleMismatch(f"{directory}: {error}") from error
    print(f"verified: {directory}")


def _preprocessed(sources, bundle):
    """uint8 (n, size, size, 3) of the gradable images, and how many files were left out."""
    import numpy as np

    from keras_realmnet.errors import UnreadableImage
    from keras_realmnet.screening.image_io import read_image
    from keras_realmnet.screening.preprocessing import preprocess
    from keras_realmnet.screening.quality import assess

    files = [path for source in sources for path in (sorted(source.rglob("*")) if source.is_dir() else [source])]
    pixels, left_out = [], 0
    for path in files:
        if not path.is_file() or path.suffix == ".md":
            continue
        try:
            image = read_image(path)
        except UnreadableImage:
            left_out += 1
            continue
        if assess(image.pixels, image.source, bundle.modality).verdict != "gradable":
            left_out += 1
            continue
        pixels.append(preprocess(image.pixels, bundle.spec)[0])
    size = bundle.spec.size
    return np.array(pixels, np.uint8).reshape(-1, size, size, 3), left_out


def _print(parity, left_out: int = 0) -> None:
    from rich.console import Console
    from rich.table import Table

    images = next(iter(parity.values())).images
    note = f", {left_out} files not gradable and left out" if left_out else ""
    table = Table(title=f"difference to Keras on {images} images{note}")
    for heading in ("artifact", "max |Δp|", "99 % |Δp|", "mean |Δp|", "decisions changed", "class-map correlation"):
        table.add_column(heading, justify="left" if heading == "artifact" else "right")
    for name, found in parity.items():
        table.add_row(
            name,
            f"{found.max_probability:.2g}",
            f"{found.p99_probability:.2g}",
            f"{found.mean_probability:.2g}",
            f"{found.flips} of {found.images}",
            f"{found.map_correlation:.4f}",
        )
    Console().print(table)


def _must_exist(path: Path) -> None:
    if not path.exists():
        raise RealMNetError(f"{path}: no such file or folder")


def main(args: list[str] | None = None) -> int:
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # TensorFlow's start-up notices
    return run(app, "python -m export", args)


if __name__ == "__main__":
    sys.exit(main())
