"""What keeping freed memory saves: training steps with and without `keep_freed_memory`, each in a process of its own.

    python -m training.benchmarks.memory --preset edge_lite0 --size 192 --batch-size 16

The network tells the labels of PSMM, and learns from random pictures. Both ways in turns; user and system time are of
the steps alone.
"""

import json
import os
import subprocess
import sys
from typing import Annotated

import typer

from keras_realmnet.command_line import run
from keras_realmnet.errors import RealMNetError

__all__ = ["steps"]

# Before anything has threads, as in `python -m training`.
PROGRAM = """
import sys
from training.memory import keep_freed_memory
keep, preset, size, batch, number = sys.argv[1:]
if keep == "keep" and not keep_freed_memory():
    sys.exit("the C library is not glibc, or the environment sets its allocator")
from training.benchmarks.memory import steps
steps(preset, int(size), int(batch), int(number))
"""


def steps(preset: str, size: int, batch_size: int, number: int) -> None:
    """Trains on random pictures, and prints the seconds of `number` steps after the first: user, system and in all."""
    import keras
    import numpy as np

    from keras_realmnet.models.networks import build
    from keras_realmnet.tasks.outputs import Labels
    from keras_realmnet.tasks.task import PROBABILITIES
    from keras_realmnet.tasks.vocabulary import PSMM

    keras.utils.set_random_seed(0)
    model = build(preset, {PROBABILITIES: Labels(PSMM)}, size)
    model.compile("adam", "mse")
    images = np.random.default_rng(0).uniform(0, 255, (batch_size, size, size, 3)).astype(np.float32)
    truth = keras.tree.map_structure(lambda answer: np.zeros(answer.shape, np.float32), model(images))
    model.train_on_batch(images, truth)
    before = os.times()
    for _ in range(number):
        model.train_on_batch(images, truth)
    after = os.times()
    print(json.dumps([after.user - before.user, after.system - before.system, after.elapsed - before.elapsed]))


app = typer.Typer(help="What keeping freed memory saves.", rich_markup_mode="rich")


@app.command()
def main(
    preset: Annotated[str, typer.Option(help="A network of labels.")] = "edge_lite0",
    size: Annotated[int, typer.Option(min=32, help="Of its pictures, in pixels.")] = 192,
    batch_size: Annotated[int, typer.Option(min=1, help="Pictures of a step.")] = 16,
    number: Annotated[int, typer.Option("--steps", min=1, help="Steps that count, of each process.")] = 8,
    turns: Annotated[int, typer.Option(min=1, help="Processes of either way.")] = 3,
) -> None:
    """Train with and without keeping freed memory, in turns; print seconds of processor and clock."""
    taken: dict[str, list[float]] = {"plain": [], "keep": []}
    print(f"{preset}, {number} steps of {batch_size} pictures of {size} px, in seconds\n")
    print("| freed memory | user | system | in all |\n|---|---|---|---|")
    for _ in range(turns):
        for way, seconds in taken.items():
            arguments = (way, preset, size, batch_size, number)
            command = [sys.executable, "-c", PROGRAM, *map(str, arguments)]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode:
                raise RealMNetError(done.stderr.strip().splitlines()[-1])
            user, system, elapsed = json.loads(done.stdout.splitlines()[-1])
            seconds.append(elapsed)
            name = "kept" if way == "keep" else "given back"
            print(f"| {name} | {user:.1f} | {system:.1f} | {elapsed:.1f} |", flush=True)
    ratio = sorted(kept / plain for kept, plain in zip(taken["keep"], taken["plain"], strict=True))[turns // 2]
    print(f"\nkept takes {ratio:.2f} of the time (median of the turns)")


if __name__ == "__main__":
    sys.exit(run(app, "python -m training.benchmarks.memory"))
