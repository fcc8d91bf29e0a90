"""Commands that write bundles."""

from pathlib import Path
from typing import Annotated

import typer

from export.commands.options import must_exist, names_of, tell, tell_outcomes_are_forgotten
from export.commands.tables import print_artifacts, print_parity
from keras_realmnet.errors import RealMNetError

__all__ = ["add", "bundle", "needs", "reference"]


def bundle(
    weights: Annotated[Path, typer.Option(help="Folder of a finished run, or its weights.weights.h5.")],
    out: Annotated[Path, typer.Option(help="Folder to write; an existing bundle there is replaced.")],
    name: Annotated[str | None, typer.Option(help="Name of the bundle. Default: the recipe's.")] = None,
    version: Annotated[str, typer.Option(help="Version of the bundle.")] = "1",
    artifacts: Annotated[
        str, typer.Option(help="Model files, with commas; an unknown name lists all there are.")
    ] = "float32,float16,int8",
    keep_source: Annotated[
        bool, typer.Option("--source/--no-source", help="Keep the Keras model, from which add makes more model files.")
    ] = True,
    needs: Annotated[
        list[str] | None, typer.Option(help="What a picture must show, else it is of insufficient quality: macula.")
    ] = None,
) -> None:
    """Write a bundle: models for the box's engines, bundle.json, golden input and output.

    Every artifact is measured against Keras on the run's test images; one that differs by more than the stated limits
    is refused and nothing is written.

    [bold]Example[/bold]

    python -m export bundle --weights runs/phantom_5m_160 --out bundles/mine

    python -m export bundle --weights runs/phantom_5m_160 --out bundles/mine --artifacts int8,onnx-int8,onnx-float16-gpu
    """
    must_exist(weights)
    from export.bundling.cards.keeping import write_cards
    from export.bundling.from_run import bundle_from_run

    made, parity = bundle_from_run(weights, out, name, version, names_of(artifacts), keep_source, tuple(needs or ()))
    write_cards(made)
    print_parity(parity)
    print_artifacts(made)
    print(f"written: {made.directory}")


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
            must_exist(path)
    from export.bundling.adding import add_to_bundle, make_again
    from export.bundling.cards.keeping import write_cards
    from export.bundling.provenance import measured_on
    from keras_realmnet.screening.bundle.bundle import Bundle, against_keras

    names = names_of(artifacts)
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
    write_cards(made)
    print_parity(parity, used.left_out)
    print_artifacts(made)
    for name, found in parity.items():
        unjudged = found.unjudged(made.artifacts[name].precision)
        if unjudged:
            print(f"{name}: {unjudged}")
    for name in there:
        old, new = (measured_on(bundle.scores.get(against_keras(name))) for bundle in (before, made))
        print(f"{name}: replaced; measured before: {old}; now: {new}")
    print(f"added to {made.directory}: {', '.join(parity)}; its digest is now {made.digest[:16]}…")


def reference(
    directory: Annotated[Path, typer.Argument(metavar="BUNDLE", help="Folder of the bundle.")],
    images: Annotated[
        list[Path] | None, typer.Option(help="Image files or folders like those the network knows; repeatable.")
    ] = None,
    held_out: Annotated[
        list[Path] | None,
        typer.Option(
            help="Others like them, that the network did not learn from; repeatable. Every second one is held out."
        ),
    ] = None,
    statement: Annotated[str, typer.Option(help="Which pictures these are, in words.")] = "image files",
    recipe: Annotated[str | None, typer.Option(help="Recipe that draws its pictures, instead.")] = None,
    false_alarm_rate: Annotated[
        float, typer.Option(help="Share of pictures like them that exceed the threshold.")
    ] = 0.05,
    components: Annotated[
        int | None,
        typer.Option(
            min=1, help="Directions of features with a variance of their own. Default: as held out ones tell."
        ),
    ] = None,
    refuse_above: Annotated[
        float | None, typer.Option(help="Distance beyond which a picture has no result. Default: none is refused.")
    ] = None,
) -> None:
    """Tell a bundle which pictures its network knows, so that the box says where one is unlike them, or many are.

    The threshold comes from pictures that are held out: every second one of --held-out, or else of --images. All others
    are fitted. Kept are statistics of the features that the network computes from pictures, of their quality and of
    their outcomes (docs/distribution.md). What the bundle had of that is replaced. Features become an output of every
    model file that is there. Pictures are read and judged as on the box.

    With pictures of one's own clinic, drift is seen from these on; what the network learned from does not change.

    [bold]Examples[/bold]

    python -m export reference bundles/realmnet-demo --recipe phantom_5m_224

    python -m export reference bundles/palm-lite --images palm224/train --held-out palm224/val

    python -m export reference bundles/mine --images our_pictures/ --statement "our camera, spring 2026"
    """
    if (images is None) == (recipe is None) or (recipe is not None and held_out is not None):
        raise typer.BadParameter("--images, with or without --held-out, or --recipe: one of the two")
    for path in [*(images or []), *(held_out or [])]:
        must_exist(path)
    from export.bundling.cards.keeping import write_cards
    from export.bundling.reference_pictures import drawn_data, reference_of_drawings, reference_of_files
    from keras_realmnet.screening.bundle.bundle import Bundle
    from keras_realmnet.screening.bundle.writing import add_reference

    loaded = Bundle.load(directory)
    options = {"false_alarm_rate": false_alarm_rate, "components": components, "refuse_above": refuse_above}
    if recipe is not None:
        found = reference_of_drawings(loaded, drawn_data(recipe), **options)
    else:
        found = reference_of_files(loaded, images or [], held_out or [], statement, **options)
    made = add_reference(loaded, found)
    write_cards(made)
    print(
        f"{found.pictures}; {len(found.components)} components, threshold {found.threshold:.3f} "
        f"at a false-alarm rate of {false_alarm_rate:.0%}"
    )
    print(f"written: {made.directory}; its digest is now {made.digest[:16]}…")


def needs(
    directory: Annotated[Path, typer.Argument(metavar="BUNDLE", help="Folder of the bundle.")],
    version: Annotated[str, typer.Option(help="New version of the bundle: it decides otherwise.")],
    shown: Annotated[
        list[str] | None,
        typer.Argument(metavar="[NEED]...", help="What a picture must show: macula. Without: nothing."),
    ] = None,
) -> None:
    """Tell a bundle what a picture must show, else it is of insufficient quality for this bundle (docs/gradability.md).

    Only bundle.json and what follows from it are written anew; models and golden output stay, byte for byte.

    [bold]Example[/bold]

    python -m export needs bundles/mine macula --version 2
    """
    from dataclasses import replace

    from export.bundling.cards.keeping import write_cards
    from keras_realmnet.screening.bundle.bundle import Bundle
    from keras_realmnet.screening.bundle.writing import refit

    before = Bundle.load(directory)
    try:
        task = replace(before.task, needs=tuple(shown or ()))
    except ValueError as error:
        raise RealMNetError(f"{directory}: {error}") from error
    made = refit(before, task, {}, version)
    write_cards(made)
    print(f"written: {directory}, version {made.version}; its digest is now {made.digest[:16]}…")
    tell_outcomes_are_forgotten(made)
