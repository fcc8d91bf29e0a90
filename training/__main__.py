"""`python -m training`: make synthetic images, train a network, score it."""

import sys

import typer

from keras_realmnet.command_line import ShowVersion, run
from training.commands.annotations import annotate
from training.commands.augmentations import augmentations
from training.commands.calibration import calibrate
from training.commands.clinic import clinic
from training.commands.data import check, download, imbalance, prepare, resample, split
from training.commands.datasets import datasets
from training.commands.fit import beside, ensemble, fit, protocol, sweep
from training.commands.phantoms import phantom, phantom_study, samples
from training.commands.prediction import predict, submit_refuge
from training.commands.report import report
from training.commands.scores import compare, cross_validation, evaluate, score, score_ratio, score_refuge
from training.memory import keep_freed_memory

app = typer.Typer(no_args_is_help=True, rich_markup_mode="rich")

# In the order of the help.
COMMANDS = (
    *(fit, sweep, protocol, ensemble, beside, augmentations),
    *(evaluate, cross_validation, calibrate, clinic, predict, score, submit_refuge, score_refuge, score_ratio, compare),
    *(datasets, check, split, imbalance, resample, prepare, annotate, download),
    *(phantom, phantom_study, samples),
    report,
)


@app.callback()
def about(version: ShowVersion = False) -> None:
    """Make synthetic images, train networks and score them. Research software: not for clinical use."""


for command in COMMANDS:
    app.command()(command)


def main(args: list[str] | None = None) -> int:
    return run(app, "python -m training", args)


if __name__ == "__main__":
    keep_freed_memory()
    sys.exit(main())
