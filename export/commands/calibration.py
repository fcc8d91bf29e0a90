"""The command that fits what stands between a bundle's model and its decision."""

import json
from pathlib import Path
from typing import Annotated

import typer

from export.commands.options import must_exist, tell, tell_outcomes_are_forgotten
from keras_realmnet.errors import RealMNetError
from training.commands.options import ByCost, Confidence, Coverage, FalseCost, MissCost, Risk, Sensitivity, Splits

__all__ = ["calibrate"]


def calibrate(
    directory: Annotated[Path, typer.Argument(metavar="BUNDLE", help="Folder of the bundle.")],
    recipe: Annotated[str | None, typer.Option(help="Whose data: validation images fit, test images measure.")] = None,
    run_folder: Annotated[Path | None, typer.Option("--run", help="Finished run, instead: its data.")] = None,
    data: Annotated[
        str | None, typer.Option(help="Folder of the recipe's data, where it does not make its own.")
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="A field of the recipe, as data.validation_patients=400."),
    ] = None,
    sensitivity: Sensitivity = 0.95,
    confidence: Confidence = 0.95,
    coverage: Coverage = 0.95,
    risk: Risk = 0.05,
    miss_cost: MissCost = 4.0,
    false_cost: FalseCost = 1.0,
    by_cost: ByCost = True,
    splits: Splits = 0,
    bootstrap: Annotated[int, typer.Option(min=0, help="Resamples for the intervals; 0 for none.")] = 1000,
    measure: Annotated[bool, typer.Option("--measure", help="Fit nothing: measure the bundle as it is.")] = False,
    out: Annotated[Path | None, typer.Option(help="File for all that was measured (json).")] = None,
    write: Annotated[
        str | None, typer.Option(metavar="VERSION", help="Put it into the bundle, as this version.")
    ] = None,
) -> None:
    """Fit calibration, thresholds and what makes a negative result uncertain, with the bundle's own engine.

    As training calibrate does for a run. Every model file of the bundle is then measured on the test images with the
    same numbers. Nothing changes in the bundle without [bold]--write[/bold]; with it bundle.json and its digest do, the
    models do not.

    [bold]Examples[/bold]

    python -m export calibrate bundles/realmnet-demo --recipe phantom_5m_224 --set data.validation_patients=400

    python -m export calibrate bundles/palm-lite --recipe palm_lite --data PALM/ --measure
    """
    if (recipe is None) == (run_folder is None):
        raise typer.BadParameter("--recipe or --run names the data: one of them")
    must_exist(directory)
    from export.bundling.calibrating import calibrate_bundle, measure_bundle, write_calibration
    from export.bundling.cards.keeping import write_cards
    from export.contract.images import CACHE, data_of_run
    from keras_realmnet.screening.bundle.bundle import Bundle
    from training.calibrating.fitting import Settings
    from training.calibrating.measuring import in_words, splits_in_words
    from training.commands.options import recipe_from_options

    if measure and (write or splits):
        raise typer.BadParameter("--measure fits nothing: without --write and --splits")
    bundle = Bundle.load(directory)
    source = data_of_run(run_folder) if run_folder else recipe_from_options(str(recipe), data, settings=settings).data
    if {n: o.labels for n, o in source.task.trained.items()} != {n: o.labels for n, o in bundle.task.trained.items()}:
        raise RealMNetError(f"{directory}: the data of {recipe or run_folder} has other labels than the bundle")
    if measure:
        as_it_is = measure_bundle(bundle, source, CACHE, bootstrap, tell)
        for artifact, found in as_it_is.items():
            print(f"{artifact}:", *in_words(found), sep="\n")
        _write(out, as_it_is)
        return
    asked = Settings(sensitivity, confidence, coverage, risk, miss_cost, false_cost, by_cost=by_cost)
    fitting, measured = calibrate_bundle(bundle, source, asked, CACHE, bootstrap, splits, tell)
    print(f"{bundle.default_artifact}, as the bundle is now:", *in_words(measured["before"]), sep="\n")
    for artifact, found in measured["test"].items():
        print(f"{artifact}, calibrated:", *in_words(found), sep="\n")
    for line in splits_in_words(measured.get("splits", {})):
        print(line)
    _write(out, {"rule": fitting.task.rule.to_dict(), "fitted": fitting.task.fitted.to_dict(), **measured})
    if write:
        made = write_calibration(bundle, fitting, measured, write)
        write_cards(made)
        print(f"written: {directory}, version {made.version}; its digest is now {made.digest[:16]}…")
        tell_outcomes_are_forgotten(made)


def _write(out: Path | None, document: dict[str, object]) -> None:
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(json.dumps(document, indent=1) + "\n")
        print(f"written: {out}")
