"""Images per second of each part of training: decoding, augmentation by threads and processes, the network's step.

    python -m training.benchmarks.pipeline --recipe realmnet_21m_384 [--batch-size 8] [--backend jax] [--processes 2]

Images are phantoms at the recipe's size. Decoding (JPEG to model-size pixels) is paid once, into the cache;
augmentation in every epoch, and it must be faster than the step, or the step waits. "Overlapped" trains with `fit`
while threads augment ahead, as a run does.
"""

import os
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Annotated, Any

import cv2
import numpy as np
import typer

from keras_realmnet.command_line import run
from keras_realmnet.screening.image_io import read_image
from keras_realmnet.screening.preprocessing import PreprocessSpec, preprocess
from keras_realmnet.tasks.task import PROBABILITIES
from training.datasets.image_set import ImageSet
from training.input.augment_workers import AugmentedImages, WorkerPool
from training.phantoms.cohorts import cohort
from training.phantoms.files import encode_jpeg
from training.recipe import load_recipe

__all__ = ["benchmark"]

JPEG_QUALITY = 92


def _images(count: int, size: int) -> tuple[ImageSet, list[bytes]]:
    """Phantoms at `size` pixels, and as JPEG files of PSMM's kind."""
    cases = cohort(count, seed=1)[:count]
    files = [encode_jpeg(case.render(max(96, size)).image, JPEG_QUALITY) for case in cases]
    pixels = np.stack([_decoded(file, size) for file in files])
    names = tuple(case.file_name for case in cases)
    truth = {PROBABILITIES: np.array([case.labels for case in cases], np.float32)}
    return ImageSet(pixels, truth, names, names, load_recipe("study_realmnet").data.task, "0" * 64), files


def _decoded(file: bytes, size: int) -> np.ndarray:
    return preprocess(read_image(file).pixels, PreprocessSpec(size))[0]


def _rate(work: Callable[[], Any], images: int, seconds: float) -> float:
    """Images per second of `work` on `images` of them, repeated for about `seconds`; the first time does not count."""
    work()
    began, rounds = time.perf_counter(), 0
    while time.perf_counter() - began < seconds or rounds < 2:
        work()
        rounds += 1
    return images * rounds / (time.perf_counter() - began)


def benchmark(recipe_name: str, batch_size: int, processes: int, seconds: float) -> dict[str, float]:
    """{part: images per second}."""
    from training.fitting.start import compile_model
    from training.input.input_pipeline import TrainingBatches
    from training.runs import build_model

    recipe = replace(load_recipe(recipe_name), teacher=None)  # whose targets are there before the first step
    size = recipe.image_size
    data, files = _images(16 * batch_size, size)
    source = AugmentedImages.of(data, size, recipe.augmentation, recipe.seed)
    chosen = np.arange(batch_size)
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    rates = {
        "decode and preprocess, one thread": _rate(lambda: _decoded(files[0], size), 1, seconds),
        "augment, one thread": _rate(lambda: source.batch(0, chosen), batch_size, seconds),
    }
    cv2.setNumThreads(threads)
    if processes:
        pool = WorkerPool(source, processes)
        with ThreadPoolExecutor(2 * processes) as waiting:  # as Keras' threads do
            epochs = range(4 * processes)
            rates[f"augment, {processes} processes"] = _rate(
                lambda: list(waiting.map(lambda epoch: pool.batch(epoch, chosen), epochs)),
                len(epochs) * batch_size,
                seconds,
            )
        pool.close()
    model = compile_model(build_model(recipe, size), recipe, 100)
    x, y = source.batch(0, chosen)[0].astype(np.float32), data.labels[:batch_size]
    rates["step of the network"] = _rate(lambda: model.train_on_batch(x, y), batch_size, seconds)
    batches = TrainingBatches(data, size, batch_size, recipe.augmentation, recipe.seed)
    rates["overlapped, as in a run"] = _rate(
        lambda: model.fit(batches, epochs=1, shuffle=False, verbose=0), len(batches) * batch_size, seconds
    )
    return rates


app = typer.Typer(add_completion=False)


@app.command()
def main_command(
    recipe: Annotated[str, typer.Option(help="Whose network, size and augmentation.")] = "realmnet_21m_384",
    batch_size: Annotated[int, typer.Option(min=1)] = 8,
    processes: Annotated[int, typer.Option(min=0, help="Worker processes, where they are measured too.")] = 2,
    seconds: Annotated[float, typer.Option(help="For each part, about.")] = 10.0,
    backend: Annotated[str | None, typer.Option(help="tensorflow, jax or torch.")] = None,
) -> None:
    """Print images per second of each part of training."""
    if backend is not None:
        os.environ["KERAS_BACKEND"] = backend
    import keras
    from rich.console import Console
    from rich.table import Table

    rates = benchmark(recipe, batch_size, processes, seconds)
    table = Table(title=f"{recipe}, batch {batch_size}, {keras.backend.backend()}, {os.cpu_count()} cores")
    table.add_column("part")
    table.add_column("images / s", justify="right")
    for part, rate in rates.items():
        table.add_row(part, f"{rate:.1f}")
    Console().print(table)


if __name__ == "__main__":
    sys.exit(run(app, "python -m training.benchmarks.pipeline"))
