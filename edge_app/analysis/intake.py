"""Which files a command line means: files, folders and globs in, a list of image files out."""

import glob
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from keras_realmnet.errors import RealMNetError
from keras_realmnet.screening.image_io import may_be_image

__all__ = ["Intake", "find_images"]


@dataclass(frozen=True)
class Intake:
    """`files` to screen, each once, in a stable order; `skipped`: files inside of folders that are no images."""

    files: tuple[Path, ...]
    skipped: tuple[Path, ...]


def find_images(paths: Iterable[str], results: Path) -> Intake:
    """Expands files, folders (with their subfolders) and glob patterns.

    A file named directly, or by a pattern, is always taken. In a folder, hidden files and files that are no images
    are skipped, and so are `results` and every other folder that holds a `records.jsonl`.

    Raises:
        RealMNetError: a path that does not exist or a pattern that matches nothing.
    """
    files: dict[Path, Path] = {}  # by absolute path, so that each is taken once
    skipped: dict[Path, Path] = {}
    for path in (match for name in paths for match in _expand(name)):
        if path.is_dir():
            for file in _walk(path, results):
                (files if may_be_image(file) else skipped).setdefault(file.absolute(), file)
        else:
            files.setdefault(path.absolute(), path)
    return Intake(tuple(files.values()), tuple(skipped[file] for file in skipped.keys() - files.keys()))


def _expand(name: str) -> list[Path]:
    if os.path.lexists(name):  # a file may be called "eye[1].jpg"
        return [Path(name)]
    if not glob.has_magic(name):
        raise RealMNetError(f"no such file or folder: {name}")
    matches = sorted(glob.glob(name, recursive=True))
    if not matches:
        raise RealMNetError(f"no file matches the pattern: {name}")
    return [Path(match) for match in matches]


def _walk(folder: Path, results: Path) -> Iterator[Path]:
    for root, folders, files in os.walk(folder):
        here = Path(root)
        if "records.jsonl" in files or (results.exists() and here.samefile(results)):
            folders.clear()
            continue
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield from (here / name for name in sorted(files))
