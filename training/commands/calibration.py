"""The command that fits what stands between a run's network and its decision."""

from pathlib import Path
from typing import Annotated

import typer

from training.commands.options import (
    Backend,
    ByCost,
    Cache,
    Confidence,
    Coverage,
    Data,
    FalseCost,
    MissCost,
    Replicates,
    Risk,
    Sensitivity,
    Splits,
    use_backend,
)

__all__ = ["calibrate"]


def calibrate(
    run_folder: Annotated[Path, typer.Argument(metavar="RUN", help="Folder that fit wrote, and evaluate scored.")],
    data: Data = None,
    sensitivity: Sensitivity = 0.95,
    confidence: Confidence = 0.95,
    coverage: Coverage = 0.95,
    risk: Risk = 0.05,
    miss_cost: MissCost = 4.0,
    false_cost: FalseCost = 1.0,
    by_cost: ByCost = True,
    splits: Splits = 0,
    cache: Cache = Path("data/cache"),
    bootstrap: Replicates = 1000,
    backend: Backend = None,
) -> None:
    """Fit calibration, thresholds and what makes a negative result uncertain, on validation images.

    Temperature, Platt or isotonic, whichever has the least log loss in folds by patient. Writes calibration.json
    into the run folder, which a bundle of the run takes in, and measures on the test images: calibration error and
    Brier score before and after, decisions of patients, coverage. A result that is not certain enough to be negative
    is uncertain: a person must look.

    [bold]Examples[/bold]

    python -m training calibrate runs/phantom_5m_224 --splits 200

    python -m training calibrate runs/mine --sensitivity 0.9 --by-thresholds
    """
    use_backend(backend)
    from training.calibrating.fitting import Settings
    from training.calibrating.measuring import in_words, splits_in_words
    from training.calibrating.runs import calibrate_run

    settings = Settings(sensitivity, confidence, coverage, risk, miss_cost, false_cost, by_cost=by_cost)
    result = calibrate_run(run_folder, settings, data, cache, bootstrap, splits)
    for line in (*in_words(result["test"]), *splits_in_words(result.get("splits", {}))):
        print(line)
    print(f"written: {run_folder / 'calibration.json'}")
