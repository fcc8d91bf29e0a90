"""The command that measures speed."""

import json
from pathlib import Path
from typing import Annotated

import typer

from export.commands.options import tell
from export.commands.tables import console
from keras_realmnet.errors import RealMNetError

__all__ = ["benchmark"]

MADE = Path("data/benchmark")  # models of presets and peers, made once and used again


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
    from export.speed.contestants import of_bundle_and_others, of_preset, peers_of
    from export.speed.images import SAMPLES, image_files
    from export.speed.report import tables, write_report
    from export.speed.summary import summary
    from keras_realmnet.screening.engines.base import available_threads

    timing.check_scenario(scenario)

    if preset is not None:
        contestants = of_preset(preset, MADE / preset, artifact or (), engine or ())
    elif place is not None:
        contestants = of_bundle_and_others(place, artifact or (), engine or (), compare or (), tell)
    if peers or peer:
        contestants += peers_of(contestants, MADE, peer or ())
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
            console().print(table)
    if out:
        write_report(found, out)
        tell(f"written: {out}")
    failed = [result for result in results if result.error is not None]
    if len(failed) == len(results):
        raise RealMNetError(failed[0].error)
