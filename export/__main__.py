"""`python -m export`: bundles, their verification and their speed."""

import json
import os
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from keras_realmnet.command_line import ShowVersion, run
from keras_realmnet.errors import RealMNetError

app = typer.Typer(no_args_is_help=True, rich_markup_mode="rich", add_completion=False)


@app.callback()
def commands(version: ShowVersion = False) -> None:
    """Turn trained weights into a deployable bundle, and prove that it computes what the Keras model does."""


@app.command()
def bundle(
    weights: Annotated[Path, typer.Option(help="Folder of a finished run, or its weights.weights.h5.")],
    out: Annotated[Path, typer.Option(help="Folder to write; an existing bundle there is replaced.")],
    name: Annotated[str | None, typer.Option(help="Name of the bundle. Default: the recipe's.")] = None,
    version: Annotated[str, typer.Option(help="Version of the bundle.")] = "1",
    artifacts: Annotated[
        str, typer.Option(help="Model files, with commas; an unknown name lists all there are.")
    ] = "float32,float16,int8",
) -> None:
    """Write a bundle: models for the box's engines, bundle.json, golden input and output.

    Every artifact is measured against Keras on the run's test images; one that differs by more than the stated limits
    is refused and nothing is written.

    [bold]Example[/bold]

    python -m export bundle --weights runs/phantom_5m_160 --out bundles/mine

    python -m export bundle --weights runs/phantom_5m_160 --out bundles/mine --artifacts int8,onnx-int8,onnx-float16-gpu
    """
    _must_exist(weights)
    from export.bundling.make_bundle import bundle_from_run

    made, parity = bundle_from_run(weights, out, name, version, [part.strip() for part in artifacts.split(",")])
    _print(parity)
    _print_artifacts(made)
    print(f"written: {made.directory}")


@app.command()
def add(
    directory: Annotated[Path, typer.Argument(metavar="BUNDLE", help="Folder of the bundle.")],
    artifacts: Annotated[str, typer.Option(help="Model files, with commas; an unknown name lists all there are.")],
    images: Annotated[
        list[Path] | None,
        typer.Option(help="Image files or folders to measure on, and to calibrate static int8 on; repeatable."),
    ] = None,
    data: Annotated[Path | None, typer.Option(help="Labelled folder (PSMM's layout or PALM's), instead.")] = None,
    run_folder: Annotated[Path | None, typer.Option("--run", help="Finished run, instead: its data.")] = None,
    source: Annotated[
        Path | None, typer.Option(help="The bundle's Keras model, for a bundle that is without source.keras.")
    ] = None,
    replace: Annotated[
        bool, typer.Option("--replace", help="Replace artifacts that are there, and what was measured on them.")
    ] = False,
) -> None:
    """Add model files to a bundle, made from its Keras model, such as the ONNX models that TensorRT builds from.

    One that the bundle names and whose file is not there, as float32 of the shipped bundle, is made again; the
    bundle stays as it is. Each other one is measured against Keras, as those of [bold]export bundle[/bold] are, before
    it is in the bundle; one that differs by more than the stated limits is refused and the bundle stays as it was. What
    is in the bundle is not touched without [bold]--replace[/bold]; its digest changes, since bundle.json names more
    files.

    Images: without any, the project's samples. Static int8 needs some of the kind that is screened, a hundred or
    more: of --images every second one calibrates and the others are measured on; of --data and --run training images
    calibrate and test images are measured on.

    [bold]Examples[/bold]

    python -m export add bundles/realmnet-demo --artifacts float32

    python -m export add bundles/mine --artifacts onnx-float16-gpu

    python -m export add bundles/mine --artifacts onnx-int8,onnx-int8-gpu --images my_images/

    python -m export add bundles/mine --artifacts onnx-float32 --source backup/source.keras
    """
    if sum(map(bool, (images, data, run_folder))) > 1:
        raise typer.BadParameter("--images, --data and --run name the images to use: one of them")
    for path in [*(images or []), data, run_folder]:
        if path is not None:
            _must_exist(path)
    from export.bundling.make_bundle import add_to_bundle, evidence, make_again
    from export.contract.parity import limits_of
    from keras_realmnet.screening.bundle.bundle import Bundle, against_keras

    def tell(line: str) -> None:
        print(line, file=sys.stderr)

    names = [part.strip() for part in artifacts.split(",")]
    before = Bundle.load(directory)
    absent = [] if replace else [name for name in before.absent if name in names]
    there = [name for name in before.artifacts if name in names and name not in absent]
    if there and not replace:
        raise RealMNetError(
            f"{directory}: already there: {', '.join(there)}. What is there, and what was measured on it, is replaced "
            "with --replace only"
        )
    if absent:
        make_again(before, absent, source, tell)
        print(f"made again: {', '.join(absent)}; {directory} and its digest are what they were")
        names = [name for name in names if name not in absent]
        if not names:
            return
    made, parity, used = add_to_bundle(before, names, images or [], data, run_folder, source, tell)
    _print(parity, used.left_out)
    _print_artifacts(made)
    for name, found in parity.items():
        unjudged = found.unjudged(limits_of(made.artifacts[name].precision))
        if unjudged:
            print(f"{name}: {unjudged}")
    for name in there:
        old, new = (evidence(bundle.scores.get(against_keras(name))) for bundle in (before, made))
        print(f"{name}: replaced; measured before: {old}; now: {new}")
    print(f"added to {made.directory}: {', '.join(parity)}; its digest is now {made.digest[:16]}…")


@app.command()
def onnx(
    directory: Annotated[Path, typer.Argument(metavar="BUNDLE", help="Folder of a bundle with its Keras model.")],
    out: Annotated[Path, typer.Option(help="File to write.")],
    route: Annotated[str, typer.Option(help="own: layer by layer; tf2onnx: from TensorFlow's graph.")] = "own",
    batch: Annotated[int, typer.Option(min=0, help="Images per call; 0 leaves it open.")] = 1,
    opset: Annotated[
        int | None,
        typer.Option(
            help="Of the own route. Default: 23, for ONNX Runtime 1.23. 20: for ONNX Runtime 1.17, and for TensorRT "
            "below 10.14, which has no Attention."
        ),
    ] = None,
    precision: Annotated[str, typer.Option(help="Of the own route: float32, float16 or bfloat16.")] = "float32",
) -> None:
    """Write a bundle's Keras model as ONNX, for engines outside of bundles.

    [bold]Examples[/bold]

    python -m export onnx bundles/realmnet-demo --out model.onnx --batch 0

    python -m export onnx bundles/realmnet-demo --out model.onnx --route tf2onnx
    """
    if route not in ("own", "tf2onnx"):
        raise typer.BadParameter(f"--route must be own or tf2onnx. Received: {route}")
    if route == "tf2onnx" and (opset, precision) != (None, "float32"):
        raise typer.BadParameter(
            "--opset and --precision are for the own route; tf2onnx writes its newest opset, float32"
        )
    from export.contract.keras_source import load_source
    from export.conversion.to_onnx import OPSET, opens_in, to_onnx, to_onnx_by_tf2onnx
    from keras_realmnet.screening.bundle.bundle import Bundle

    model = load_source(Bundle.load(directory))
    try:
        if route == "tf2onnx":
            to_onnx_by_tf2onnx(model, out, batch or None)
        else:
            to_onnx(model, out, batch or None, OPSET if opset is None else opset, precision)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
    print(f"written: {out}: {opens_in(out)}")


@app.command()
def tensorrt(
    directory: Annotated[Path, typer.Argument(metavar="BUNDLE", help="Folder of the bundle; the engine is added.")],
    artifact: Annotated[str, typer.Option(help="ONNX artifact to build from; its precision is the engine's.")] = (
        "onnx-float16-gpu"
    ),
    tf32: Annotated[bool, typer.Option("--tf32/--no-tf32", help="Multiply float32 with a mantissa of 10 bits.")] = True,
    timing_cache: Annotated[Path, typer.Option(help="Folder of timings that make the next build faster.")] = Path(
        "data/cache/tensorrt"
    ),
) -> None:
    """Build a TensorRT engine on this machine, compare it with its ONNX model and add it to the bundle.

    The engine runs only on this GPU with this TensorRT, 10 or newer. The artifacts called onnx-…-gpu are of opset 20,
    which every such TensorRT reads; below 10.14 it has no Attention, which ONNX models of opset 23 have. Needs no
    Keras; see docs/jetson.md. Not yet run on hardware.

    [bold]Example[/bold]

    python -m export tensorrt bundles/mine --artifact onnx-int8-gpu
    """
    from export.conversion.to_tensorrt import add_engine
    from keras_realmnet.screening.bundle.bundle import Bundle

    made = add_engine(
        Bundle.load(directory), artifact, tf32, timing_cache, tell=lambda line: print(line, file=sys.stderr)
    )
    _print_artifacts(made)
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
    reference: Annotated[
        Path | None, typer.Option(help="File of --save-reference: its images, and what Keras gave; needs no Keras.")
    ] = None,
    save_reference: Annotated[
        Path | None, typer.Option(help="File to write: images and Keras' output, for a board without Keras.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Folder for verification.json and verification.png.")] = None,
    threads: Annotated[int | None, typer.Option(min=1, help="Default: all cores.")] = None,
) -> None:
    """Check a bundle: hashes, golden output, and every artifact against Keras on real images.

    Exit status 2 where a limit is broken; it names the artifact and the limit. Limits: float32, largest |Δ probability|
    1e-4 and no decision changed; float16, 99th percentile .005; int8, mean .005, 99th percentile .02, 0.5 % of
    decisions, and on 500 labelled images or more AUROC and mAP at most .005 lower. Where a bundle decodes large JPEGs
    at half their size, those among --images are decoded whole, too: .01.

    Image files go the way they go on the box: decoded, judged for quality, cropped and resized. Those that are not
    gradable are left out and counted.

    [bold]Examples[/bold]

    python -m export verify bundles/realmnet-demo --images my_images/

    python -m export verify bundles/mine --run runs/phantom_5m_160 --out reports/mine

    python -m export verify bundles/mine --run runs/phantom_5m_160 --save-reference reference.npz

    python -m export verify bundles/mine --reference reference.npz    [dim]on the board[/dim]
    """
    if sum(map(bool, (images, data, run_folder, reference))) > 1:
        raise typer.BadParameter("--images, --data, --run and --reference name what to verify on: one of them")
    from export.speed.images import SAMPLES

    sources = images or [SAMPLES]
    other = data or run_folder or reference
    for source in sources if other is None else [other]:
        _must_exist(source)
    from keras_realmnet.screening.bundle.bundle import Bundle

    loaded = Bundle.load(directory)
    from export.contract import verify as contract

    if data:
        chosen = contract.images_of_data(data, loaded)
    elif run_folder:
        chosen = contract.images_of_run(run_folder, loaded)
    elif reference:
        chosen = contract.images_of_reference(reference, loaded)
    else:
        chosen = contract.images_of_files(sources, loaded)
    found = contract.verify(loaded, chosen, threads, tell=lambda line: print(line, file=sys.stderr))
    _print(found.parity, chosen.left_out)
    _print_artifacts(loaded)
    if out:
        contract.write_report(found, out)
        print(f"written: {out}")
    if save_reference:
        contract.write_reference(found, save_reference)
        print(f"written: {save_reference}")
    if found.decoding is not None:
        count = len(found.decoding)
        print(f"decoding at half size: largest |Δp| {found.max_decoding:.2g} on {count} image{'s' * (count != 1)}")
    for line in [*found.unjudged(), *(f"{name}: failed: {why}" for name, why in found.failed.items())]:
        print(line)
    found.refuse()
    print(f"verified: {directory}")


@app.command()
def benchmark(
    place: Annotated[
        Path | None, typer.Argument(metavar="[BUNDLE_OR_FILE]", help="Folder of a bundle, or a .tflite or .onnx file.")
    ] = None,
    preset: Annotated[str | None, typer.Option(help="Instead of a bundle: random weights, for speed only.")] = None,
    artifact: Annotated[list[str] | None, typer.Option(help="Repeatable. Default: the bundle's default one.")] = None,
    engine: Annotated[list[str] | None, typer.Option(help="litert, onnxruntime, openvino, …; repeatable.")] = None,
    scenario: Annotated[str, typer.Option(help="singlestream, multistream (8 images) or offline.")] = "singlestream",
    threads: Annotated[list[int] | None, typer.Option(min=1, help="Repeatable. Default: all cores.")] = None,
    images: Annotated[list[Path] | None, typer.Option(help="Image files or folders. Default: samples/.")] = None,
    queries: Annotated[
        int | None, typer.Option(min=0, help="Of the scenario, through all stages. Default: 50; comparing, 12.")
    ] = None,
    rounds: Annotated[int, typer.Option(min=2, help="Turns that each engine has.")] = 12,
    compare: Annotated[
        list[str] | None,
        typer.Option(
            help="Interleave with these; repeatable: an artifact, 'all' there are, a bundle's folder, a model file."
        ),
    ] = None,
    peers: Annotated[
        bool, typer.Option("--peers", help="Interleave with timm's network, and ours with probabilities alone.")
    ] = False,
    peer: Annotated[list[str] | None, typer.Option(help="Only these peers; repeatable.")] = None,
    profile: Annotated[
        bool, typer.Option("--profile", help="Time by operator, too; of ONNX Runtime and OpenVINO.")
    ] = False,
    out: Annotated[Path | None, typer.Option(help="Folder for benchmark.json, .md and .png.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="JSON instead of tables.")] = False,
) -> None:
    """Measure how long the engines take on real image files: decode, quality, preprocess, inference, class map.

    Each engine runs in a process of its own, whose peak memory is measured. Several engines take short turns, the
    others waiting, and ratios of medians come with intervals; with --peers they are to timm in ONNX Runtime. On a
    Jetson power, clocks and temperature come from tegrastats.

    [bold]Examples[/bold]

    python -m export benchmark bundles/realmnet-demo --threads 1 --out reports/speed

    python -m export benchmark bundles/mine --compare all --compare bundles/realmnet-demo

    python -m export benchmark --preset realmnet_21m_384 --peers --threads 2 --threads 1 --out reports/speed_21m_384
    """
    if (place is None) == (preset is None):
        raise typer.BadParameter("name a bundle, a model file or a --preset: one of them")
    if preset is not None and compare:
        raise typer.BadParameter("--compare is for a bundle or a model file; of a --preset all artifacts take part")
    from export.speed import benchmark as timing
    from export.speed import contestants as taking_part
    from export.speed.images import SAMPLES, image_files

    timing.check_scenario(scenario)
    from export.speed.report import tables, write_report
    from export.speed.summary import summary
    from keras_realmnet.screening.engines.base import available_threads

    def tell(line: str) -> None:
        print(line, file=sys.stderr)

    work = Path("data/benchmark")
    if preset is not None:
        contestants = taking_part.of_preset(preset, work / preset, artifact or (), engine or ())
    elif place is not None:
        contestants = taking_part.of_bundle_and_others(place, artifact or (), engine or (), compare or (), tell)
    if peers or peer:
        contestants += taking_part.peers_of(contestants, work, peer or ())
    files = image_files(images or [SAMPLES], tell)
    results = timing.benchmark(
        contestants,
        files,
        scenario,
        threads or [available_threads()],
        queries if queries is not None else 50 if len(contestants) == 1 else 12,
        rounds,
        tell,
    )
    if profile:
        timing.profile(results, files, tell)
    found = summary(results, files, scenario)
    if as_json:
        print(json.dumps(found, indent=1))
    else:
        for table in tables(found):
            _console().print(table)
    if out:
        write_report(found, out)
        print(f"written: {out}", file=sys.stderr)
    failed = [result for result in results if result.error is not None]
    if len(failed) == len(results):
        raise RealMNetError(failed[0].error)


@app.command()
def sensitivity(
    place: Annotated[Path, typer.Argument(metavar="BUNDLE_OR_RUN", help="Folder of a bundle, or of a finished run.")],
    out: Annotated[Path, typer.Option(help="Folder for sensitivity.json and sensitivity.png.")],
    images: Annotated[
        list[Path] | None, typer.Option(help="For a bundle: image files or folders. A run has validation images.")
    ] = None,
    number: Annotated[int, typer.Option(min=1, help="Measure on at most so many images.")] = 200,
) -> None:
    """Quantize one group of layers at a time, and tell what it does to probabilities and time; compare calibrations.

    [bold]Example[/bold]

    python -m export sensitivity runs/phantom_5m_160 --out reports/sensitivity
    """
    for path in [place, *(images or [])]:
        _must_exist(path)

    from export.contract import sensitivity as report

    model, pixels, calibration = report.model_and_images(place, images, number)
    found = report.sensitivities(model, pixels, calibration, tell=lambda line: print(line, file=sys.stderr))
    report.write_report(found, len(pixels), out)
    _console().print(report.table(found, len(pixels)))
    print(f"written: {out}")


@app.command()
def localize(
    directory: Annotated[Path, typer.Argument(metavar="BUNDLE", help="Folder of a bundle with its Keras model.")],
    out: Annotated[Path, typer.Option(help="Folder for localization.json and localization.png.")],
    patients: Annotated[int, typer.Option(min=1, help="Synthetic patients, of about five images.")] = 140,
    bootstrap: Annotated[int, typer.Option(min=0, help="Resamples for the intervals; 0 for none.")] = 1000,
) -> None:
    """How often class maps point at the lesion, on held-out phantoms: where their lesions are is known.

    [bold]Example[/bold]

    python -m export localize bundles/realmnet-demo --out reports/localization
    """
    from export.contract.localization import localize, table, write
    from keras_realmnet.screening.bundle.bundle import Bundle
    from training.datasets.phantom import PhantomDataSet

    found = localize(Bundle.load(directory), PhantomDataSet(test_patients=patients), bootstrap)
    write(found, out)
    _console().print(table(found))
    print(f"written: {out}")


def _console():
    """Wide enough for the tables where the output is a file."""
    return Console(width=None if sys.stdout.isatty() else 160)


def _print(parity, left_out: int = 0) -> None:
    from rich.table import Table

    if not parity:  # no artifact ran; why is said elsewhere
        return
    images = next(iter(parity.values())).images
    note = f", {left_out} files not gradable and left out" if left_out else ""
    labelled = any(found.macro_auroc is not None for found in parity.values())
    table = Table(title=f"difference to Keras on {images} image{'' if images == 1 else 's'}{note}")
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
    _console().print(table)


def _print_artifacts(bundle) -> None:
    """The model files of a bundle, and what each asks of the machine as far as the bundle states it."""
    from rich.table import Table

    measured = {artifact.costs.peak_memory_of for artifact in bundle.artifacts.values() if artifact.costs} - {None}
    table = Table(title="artifacts", caption="peak memory: " + "; ".join(sorted(measured)) if measured else None)
    for heading in ("artifact", "file", "MB", "G MAC", "M parameters", "peak memory, MB"):
        table.add_column(heading, justify="left" if heading in ("artifact", "file") else "right")
    for name, artifact in bundle.artifacts.items():
        costs = artifact.costs
        shown = ["not stated"] * 3
        if costs is not None:
            memory = costs.peak_memory_mb
            shown = [
                f"{costs.macs / 1e9:.3f}",
                f"{costs.parameters / 1e6:.2f}",
                "not measured" if memory is None else f"{memory:.0f}",
            ]
        file = f"{artifact.file} (not there)" if name in bundle.absent else artifact.file
        table.add_row(name, file, f"{artifact.bytes / 1e6:.1f}", *shown)
    _console().print(table)


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
