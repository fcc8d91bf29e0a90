"""`python -m export`: bundles, their verification and their speed."""

import os
import sys

import typer

from export.commands.bundles import add, bundle, needs, reference
from export.commands.calibration import calibrate
from export.commands.cards import card
from export.commands.contract import sensitivity, verify
from export.commands.explanations import explanations
from export.commands.models import onnx, tensorrt
from export.commands.speed import benchmark
from keras_realmnet.command_line import ShowVersion, run

app = typer.Typer(no_args_is_help=True, rich_markup_mode="rich", add_completion=False)

# In the order of the help.
COMMANDS = (
    bundle,
    add,
    needs,
    reference,
    calibrate,
    card,
    onnx,
    tensorrt,
    verify,
    benchmark,
    sensitivity,
    explanations,
)


@app.callback()
def about(version: ShowVersion = False) -> None:
    """Turn trained weights into a deployable bundle, and prove that it computes what the Keras model does."""


for command in COMMANDS:
    app.command()(command)


def main(args: list[str] | None = None) -> int:
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # TensorFlow's start-up notices
    return run(app, "python -m export", args)


if __name__ == "__main__":
    sys.exit(main())
