"""`python -m export`: bundles and their verification."""

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from keras_realmnet.command_line import run
from keras_realmnet.errors import RealMNetError

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
    data: Annotated[
        Path | None, typer.Option(help="Labelled folder (PSMM's layout or PALM's): its test split.")
    ] = None,
    run_folder: Annotated[Path | None, typer.Option("--run", help="Finished run: the test split of its data.")] = None,
    out: Annotated[Path | None, typer.Option(help="Folder for verification.json and verification.png.")] = None,
    threads: Annotated[int | None, typer.Option(min=1, help="Default: all cores.")] = None,
) -> None:
    """Check a bundle: hashes, golden output, and every artifact against Keras on real images.

    Exit status 2 where a limit is broken; it names the artifact and the limit. Limits: float32, largest |Δ probability|
    1e-4 and no decision changed; float16, 99th percentile .005; int8, mean .005, 99th percentile .02, 0.5 % of
    decisions, and on 500 labelled images or more AUROC and mAP at most .005 lower.

    Image files go the way they go on the box: decoded, judged for quality, cropped and resized. Those that are not
    gradable are left out and counted.

    [bold]Examples[/bold]

    python -m export verify bundles/realmnet-demo --images my_images/

    python -m export verify bundles/mine --run runs/phantom_5m_160 --out reports/mine
    """
    if sum(map(bool, (images, data, run_folder))) > 1:
        raise typer.BadParameter("--images, --data and --run name what to verify on: one of them")
    sources = images or [Path(__file__).resolve().parent.parent / "samples"]
    for source in [data or run_folder] if data or run_folder else sources:
        _must_exist(source)
    from keras_realmnet.screening.bundle import Bundle

    loaded = Bundle.load(directory)
    from export import verify as contract  # from here on with Keras

    if data:
        chosen = contract.images_of_data(data, loaded)
    elif run_folder:
        chosen = contract.images_of_run(run_folder, loaded)
    else:
        chosen = contract.images_of_files(sources, loaded)
    found = contract.verify(loaded, chosen, threads, tell=lambda line: print(line, file=sys.stderr))
    _print(found.parity, chosen.left_out)
    if out:
        contract.write_report(found, out)
        print(f"written: {out}")
    for line in found.unjudged():
        print(line)
    found.refuse()
    print(f"verified: {directory}")


def _print(parity, left_out: int = 0) -> None:
    from rich.console import Console
    from rich.table import Table

    images = next(iter(parity.values())).images
    note = f", {left_out} files not gradable and left out" if left_out else ""
    labelled = any(found.macro_auroc is not None for found in parity.values())
    table = Table(title=f"difference to Keras on {images} images{note}")
    headings = ["artifact", "max |Δp|", "99 % |Δp|", "mean |Δp|", "decisions changed", "class maps: r, same peak"]
    for heading in headings + (["ΔAUROC (95 %)", "ΔmAP (95 %)"] if labelled else []):
        table.add_column(heading, justify="left" if heading == "artifact" else "right")
    for name, found in parity.items():
        table.add_row(
            name,
            f"{found.max_probability:.2g}",
            f"{found.p99_probability:.2g}",
            f"{found.mean_probability:.2g}",
            f"{found.flips} of {found.images}",
            f"{found.map_correlation:.4f}, {found.same_peak:.1%}",
            *([_change(found.macro_auroc), _change(found.mean_ap)] if labelled else []),
        )
    Console().print(table)


def _change(score) -> str:
    if score is None or score.difference is None:
        return "not defined"
    interval = "" if score.low is None else f" ({score.low:+.4f} to {score.high:+.4f})"
    return f"{score.difference:+.4f}{interval}"


def _must_exist(path: Path) -> None:
    if not path.exists():
        raise RealMNetError(f"{path}: no such file or folder")


def main(args: list[str] | None = None) -> int:
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # TensorFlow's start-up notices
    return run(app, "python -m export", args)


if __name__ == "__main__":
    sys.exit(main())
