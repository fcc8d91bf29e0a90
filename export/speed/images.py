"""The image files that are measured on."""

import math
from collections.abc import Callable, Iterable
from pathlib import Path

from keras_realmnet.errors import RealMNetError
from keras_realmnet.screening.image_io import may_be_image, read_header, read_image

__all__ = ["SAMPLES", "image_files"]

SAMPLES = Path(__file__).resolve().parents[2] / "samples"  # read where no image is named
FULL_SIZE = 10_000_000  # pixels: what a scanner sends has 12 to 16 million; smaller files are used only for want of any


def image_files(paths: Iterable[Path], tell: Callable[[str], None] = lambda line: None) -> list[Path]:
    """The readable image files among `paths` and in folders: those of scanner size where there are any, else all.

    Each is decoded once; `tell` is handed a line for each that cannot be.

    Raises:
        RealMNetError: there is none, or no such file or folder.
    """
    paths = list(paths)
    for path in paths:
        if not path.exists():
            raise RealMNetError(f"{path}: no such file or folder")
    files = [
        file
        for path in paths
        for file in (sorted(filter(may_be_image, filter(Path.is_file, path.rglob("*")))) if path.is_dir() else [path])
    ]
    pixels = {}
    for file in files:
        try:
            pixels[file] = math.prod(read_header(file).size)
        except RealMNetError as error:
            tell(f"left out: {error}")

    def decodes(file: Path) -> bool:
        try:
            read_image(file)
        except RealMNetError as error:
            tell(f"left out: {error}")
            return False
        return True

    large = [file for file, count in pixels.items() if count >= FULL_SIZE]
    found = list(filter(decodes, large)) or [file for file in pixels if file not in large and decodes(file)]
    if not found:
        raise RealMNetError(f"{', '.join(map(str, paths))}: no readable image")
    return found
