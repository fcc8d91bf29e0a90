"""From a JPEG file to the model's input: half-size decoding against decoding every pixel.

    python -m export.benchmarks.decoding [IMAGES...] [--size 224] [--size 384] [--repetitions 9]

"full" is `cv2.imdecode`, field crop and area resize of all pixels; "half" is everything that `read_image` and
`preprocess` do with `reduction=2`, hashing, header and the checks for damage included. One thread, taking turns.
"""

import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import cv2
import numpy as np
import typer

from export.speed.images import SAMPLES, image_files
from keras_realmnet.command_line import run
from keras_realmnet.errors import RealMNetError
from keras_realmnet.screening.image_io import read_header, read_image
from keras_realmnet.screening.preprocessing import PreprocessSpec, preprocess

__all__ = ["measure"]


def measure(file: Path, size: int, repetitions: int) -> tuple[float, float]:
    """Median CPU milliseconds of the full and of the half way from the bytes of a JPEG to (size, size, 3)."""
    data = file.read_bytes()
    whole, half = PreprocessSpec(size), PreprocessSpec(size, reduction=2)

    def half_way() -> None:
        preprocess(read_image(data, file.name, min_side=half.min_side).pixels, half)

    def full_way() -> None:
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB)
        preprocess(np.asarray(pixels, np.uint8), whole)

    ways = (half_way, full_way)
    times: dict[Callable[[], None], list[float]] = {way: [] for way in ways}
    for _ in range(repetitions + 1):
        for way in ways:
            began = time.process_time()
            way()
            times[way].append(1000 * (time.process_time() - began))
    halved, full = (statistics.median(times[way][1:]) for way in ways)  # the first time warms up
    return full, halved


app = typer.Typer(add_completion=False)


@app.command()
def main_command(
    images: Annotated[list[Path] | None, typer.Argument(help="JPEG files or folders. Default: samples/.")] = None,
    size: Annotated[list[int] | None, typer.Option(min=1, help="Of the model's input; repeatable.")] = None,
    repetitions: Annotated[int, typer.Option(min=1)] = 9,
) -> None:
    """Print milliseconds of both ways and their ratio for each JPEG that is large enough."""
    from rich.console import Console
    from rich.table import Table

    cv2.setNumThreads(1)
    table = Table(title="JPEG to model input, CPU time on one thread")
    for heading in ("file", "pixels", "MB", "model", "full, ms", "half, ms", "ratio"):
        table.add_column(heading, justify="left" if heading == "file" else "right")
    for file in image_files(images or [SAMPLES], lambda line: print(line, file=sys.stderr)):
        header = read_header(file)
        if header.format != "JPEG":
            continue
        for side in size or [224, 384, 512]:
            if max(header.size) < 2 * (PreprocessSpec(side, reduction=2).min_side or 0):
                continue
            full, half = measure(file, side, repetitions)
            shape, megabytes = f"{header.width} × {header.height}", f"{file.stat().st_size / 1e6:.2f}"
            table.add_row(
                file.name,
                shape,
                megabytes,
                f"{side}",
                f"{full:.0f}",
                f"{half:.0f}",
                f"{half / full:.2f}",
            )
    if not table.row_count:
        raise RealMNetError("no JPEG among these images is large enough to be decoded at half its size")
    Console().print(table)


if __name__ == "__main__":
    sys.exit(run(app, "python -m export.benchmarks.decoding"))
