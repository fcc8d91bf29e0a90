"""Commands that measure how far artifacts are from Keras, and what int8 does."""

from pathlib import Path
from typing import Annotated

import typer

from export.commands.options import must_exist, tell
from export.commands.tables import console, print_artifacts, print_parity

__all__ = ["sensitivity", "verify"]


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

    Exit status 2 where a limit is broken; it names the artifact and the limit. Limits of labels and grades: float32,
    largest |Δ probability| 1e-4 and no decision or grade changed; float16, 99th percentile .005; int8, mean .005, 99th
    percentile .02, 0.5 % of decisions or grades, and on 500 labelled images or more AUROC and mAP, or κ, at most .005
    lower. Of masks, Dice to Keras: .9999, .999, .99, where of masks of many parts (lesions, vessels) a rim may move by
    a pixel, and .98 is enough for int8; on 500 labelled images or more Dice at most .005 lower. Of points, in model
    pixels: .05; 99th percentile .1; .5. Where a bundle decodes large JPEGs at half their size, those among --images are
    decoded whole, too: .01, Dice .99, .5 pixels.

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
        must_exist(source)
    from keras_realmnet.screening.bundle.bundle import Bundle

    loaded = Bundle.load(directory)
    from export.contract import images as chosen_from
    from export.contract import verify as contract
    from export.contract.reference import images_of_reference, write_reference

    if data:
        chosen = chosen_from.images_of_data(data, loaded)
    elif run_folder:
        chosen = chosen_from.images_of_run(run_folder, loaded)
    elif reference:
        chosen = images_of_reference(reference, loaded)
    else:
        chosen = chosen_from.images_of_files(sources, loaded)
    found = contract.verify(loaded, chosen, threads, tell=tell)
    print_parity(found.parity, chosen.left_out)
    print_artifacts(loaded)
    if out:
        contract.write_report(found, out)
        print(f"written: {out}")
    if save_reference:
        write_reference(found.images, loaded, save_reference)
        print(f"written: {save_reference}")
    count = len(chosen.whole)
    for name, (rule, value) in found.decoded().items():
        said = contract.told_of(loaded.task, name, f"{rule.short} {value:.2g}")
        print(f"decoding at half size: {said} on {count} image{'s' * (count != 1)}")
    for line in [*found.unjudged(), *(f"{name}: failed: {why}" for name, why in found.failed.items())]:
        print(line)
    found.refuse()
    print(f"verified: {directory}")


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
        must_exist(path)

    from export.contract import sensitivity as report

    model, pixels, calibration = report.model_and_images(place, images, number)
    found = report.sensitivities(model, pixels, calibration, tell=tell)
    report.write_report(found, len(pixels), out)
    console().print(report.table(found, len(pixels)))
    print(f"written: {out}")
