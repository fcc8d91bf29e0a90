"""The whole path of `edge_app screen`, from an image file to the stored record and its overlay, stage by stage.

    python -m export.benchmarks.whole_path [IMAGES...] [--against CHECKOUT] [--bundle FOLDER] [--rounds 30]

On one thread. With --against another checkout of this project, such as one that `git worktree add` made of an earlier
commit, takes turns with this one, each in a process of its own, on the same files and with this checkout's bundles.
Processor time is stated beside time: it says more where other programs run.
"""

import json
import statistics
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated

import typer

from export.speed.images import SAMPLES, image_files
from export.speed.summary import ratio_of_medians
from keras_realmnet.command_line import run
from keras_realmnet.errors import RealMNetError
from keras_realmnet.screening.bundle.bundle import Bundle

__all__ = ["measure"]

ROOT = Path(__file__).resolve().parents[2]
STAGES = ("decode", "quality", "preprocess", "inference", "overlay", "all", "processor")
WARM_UP = 2  # rounds
# The process of a checkout: for each file named on stdin, a line of milliseconds.
SCREEN = """
import json, sys, tempfile, time
try:
    from keras_realmnet.screening.process_memory import start_again
    start_again()  # as the command does
except ImportError:
    pass
from pathlib import Path
import cv2, numpy
from edge_app.analysis.models import Models
from edge_app.analysis.results import Results
from edge_app.analysis.run import run
from edge_app.config import InstalledBundle

cv2.setNumThreads(1)
models = Models.open([InstalledBundle(path=Path(folder)) for folder in sys.argv[1:]], threads=1)
with tempfile.TemporaryDirectory() as folder, Results(Path(folder), models.described) as results:
    other = Path(folder) / "other.png"
    cv2.imwrite(str(other), numpy.zeros((300, 300, 3), "uint8"))
    for line in sys.stdin:
        list(run(models, [other], results, overwrite=True))  # several bundles share what was found in the last picture
        began, processor = time.perf_counter(), time.process_time()
        [records] = run(models, [Path(line.rstrip("\\n"))], results, overwrite=True)
        times = {"all": time.perf_counter() - began, "processor": time.process_time() - processor}
        times = {name: 1000 * seconds for name, seconds in times.items()}
        for record in records:
            for stage, milliseconds in record.timings_ms.items():
                times[stage] = times.get(stage, 0.0) + milliseconds
        for picture in results.overlays.iterdir():  # to replace a file may wait for the disk
            picture.unlink()
        print(json.dumps(times), flush=True)
"""


def measure(checkouts: list[Path], files: list[Path], bundles: list[Path], rounds: int) -> list[list[dict[str, float]]]:
    """Milliseconds by stage, of each checkout by round: {stage: of all files together}.

    Raises:
        RealMNetError: the process of a checkout ended, with what it said last.
    """
    found: list[list[dict[str, float]]] = [[] for _ in checkouts]
    with ExitStack() as stack:
        processes = [stack.enter_context(_process(checkout, bundles)) for checkout in checkouts]
        for number in range(WARM_UP + rounds):
            order = range(len(processes))
            for k in order if number % 2 else reversed(order):
                times = [_ask(processes[k], file) for file in files]
                if number >= WARM_UP:
                    found[k].append({stage: sum(each.get(stage, 0.0) for each in times) for stage in STAGES})
    return found


def _process(checkout: Path, bundles: list[Path]) -> "subprocess.Popen[str]":
    command = [sys.executable, "-c", SCREEN, *(str(each.absolute()) for each in bundles)]
    pipe = subprocess.PIPE
    # Its modules: with `-c` Python looks in the folder it is started in first.
    return subprocess.Popen(command, cwd=checkout, text=True, stdin=pipe, stdout=pipe, stderr=pipe)


def _ask(process: "subprocess.Popen[str]", file: Path) -> dict[str, float]:
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        process.stdin.write(f"{file.absolute()}\n")
        process.stdin.flush()
    except BrokenPipeError:
        pass  # there will be no answer
    answer = process.stdout.readline()
    if not answer:
        said = (process.communicate()[1] or "").strip().splitlines()
        raise RealMNetError(f"the process ended: {said[-1] if said else process.returncode}")
    times: dict[str, float] = json.loads(answer)
    return times


app = typer.Typer(add_completion=False)


@app.command()
def main_command(
    images: Annotated[list[Path] | None, typer.Argument(help="Image files or folders. Default: samples/.")] = None,
    against: Annotated[
        Path | None, typer.Option(exists=True, file_okay=False, help="Another checkout, to take turns with.")
    ] = None,
    bundle: Annotated[list[Path] | None, typer.Option(help="Repeatable. Default: bundles/realmnet-demo.")] = None,
    rounds: Annotated[int, typer.Option(min=1, help="In each of which every file is screened once.")] = 30,
) -> None:
    """Print the medians of each stage, per image, and how this checkout's compare to another's."""
    from rich.console import Console
    from rich.table import Table

    bundles = bundle or [ROOT / "bundles" / "realmnet-demo"]
    for folder in bundles:
        Bundle.load(folder)  # refuses a damaged one in words
    files = image_files(images or [SAMPLES], lambda line: print(line, file=sys.stderr))
    checkouts = [ROOT, *([] if against is None else [against.resolve()])]
    found = measure(checkouts, files, bundles, rounds)
    table = Table(title=f"{len(files)} image{'s' * (len(files) > 1)}, one thread, medians of {rounds}: ms per image")
    for heading in ("stage", "this", *(["the other", "ratio", "95 % interval"] if against is not None else [])):
        table.add_column(heading, justify="left" if heading == "stage" else "right")
    for stage in STAGES:
        by_checkout = [[[times[stage] / len(files)] for times in each] for each in found]
        row = [f"{statistics.median(time for [time] in each):.1f}" for each in by_checkout]
        if against is not None and statistics.median(time for [time] in by_checkout[1]):
            this, other = by_checkout
            ratio, low, high = ratio_of_medians(this, other)
            row += [f"{ratio:.3f}", f"{low:.3f} to {high:.3f}"]
        table.add_row(stage, *row)
    Console().print(table)


if __name__ == "__main__":
    sys.exit(run(app, "python -m export.benchmarks.whole_path"))
