"""Phantoms become image files: drawn in parallel, each under its name only when it is complete."""

import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np

from training.data.parallel import in_parallel

__all__ = ["Drawable", "encode_jpeg", "write_images"]


class Drawable(Protocol):
    """An image that is not yet drawn."""

    @property
    def file_name(self) -> str: ...

    def jpeg(self, width: int) -> bytes: ...


def write_images(cases: Sequence[Drawable], folder: Path, width: int, workers: int | None = None) -> None:
    """Draw cases into a folder, with a progress bar.

    Images that exist are left alone, so an interrupted run continues; each appears under its name only when it is
    complete. `width` is in pixels, `workers` the number of processes (None: one per core).

    Raises:
        ValueError: when two cases have the same file name.
    """
    names = {case.file_name for case in cases}
    if len(names) != len(cases):
        raise ValueError(f"{folder}: expected cases with distinct file names, {len(cases) - len(names)} repeat")
    folder.mkdir(parents=True, exist_ok=True)
    missing = [case for case in cases if not (folder / case.file_name).exists()]
    write = partial(_write_case, folder=folder, width=width)
    for _ in in_parallel(write, missing, "drawing phantoms", workers, done=len(cases) - len(missing)):
        pass


def _write_case(case: Drawable, folder: Path, width: int) -> None:
    partial_path = folder / f".{case.file_name}.part"
    partial_path.write_bytes(case.jpeg(width))
    os.replace(partial_path, folder / case.file_name)


def encode_jpeg(image: np.ndarray, quality: int) -> bytes:
    """A uint8 RGB image (h, w, 3) as the contents of a JPEG file."""
    ok, data = cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])
    if not ok:
        raise OSError(f"an image of shape {image.shape} could not be encoded as JPEG")
    return data.tobytes()
