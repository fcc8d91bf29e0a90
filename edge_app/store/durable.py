"""Files that are on the disk when the call returns, or not there at all: temporary file → fsync → rename → fsync of
the folder. A crash at any point leaves the old file, the new one, or a temporary file, which the store removes."""

import errno
import os
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO
from uuid import uuid4

__all__ = [
    "TEMPORARY",
    "free_bytes",
    "has_room",
    "is_full_disk",
    "make_folder",
    "move_durably",
    "remove_temporary_files",
    "sync",
    "temporary_file",
    "write_durably",
]

TEMPORARY = ".part"  # ending of files that are not complete yet


def write_durably(path: Path, data: bytes) -> None:
    """Writes `data` to `path`, replacing what was there. Raises OSError (a full disk, for one) and leaves nothing."""
    with temporary_file(path.parent) as file:
        file.write(data)
        move_durably(file, path)


@contextmanager
def temporary_file(folder: Path, name: str | None = None) -> Iterator[BinaryIO]:
    """A new file in `folder`, open for reading and writing; it is gone afterwards unless `move_durably` moved it.

    `name`: where one writer alone writes a file of this name, so that it replaces what its own crash left.
    """
    path = folder / f"{name or uuid4().hex}{TEMPORARY}"
    with path.open("w+b" if name else "x+b") as file:
        try:
            yield file
        finally:
            path.unlink(missing_ok=True)


def move_durably(file: BinaryIO, path: Path) -> None:
    """Gives a complete `temporary_file` its name, on the same file system, and makes contents and name durable."""
    file.flush()
    os.fsync(file.fileno())
    os.rename(file.name, path)
    sync(path.parent)


def remove_temporary_files(folder: Path) -> None:
    """Removes what a crash left, in a folder and those below it, where nobody writes any more."""
    for file in folder.rglob(f"*{TEMPORARY}"):
        file.unlink(missing_ok=True)


def make_folder(path: Path) -> None:
    """Makes a folder, and missing ones above it, whose names survive a crash."""
    if not path.is_dir():
        make_folder(path.parent)
        path.mkdir(exist_ok=True)
        sync(path.parent)


def free_bytes(folder: Path) -> int:
    """What is free on the folder's file system."""
    return shutil.disk_usage(folder).free


def has_room(folder: Path, free_mb: int, needed: int = 0) -> bool:
    """Whether `needed` bytes more leave at least `free_mb` MiB free on the folder's file system."""
    return free_bytes(folder) - needed >= free_mb << 20


def is_full_disk(error: BaseException) -> bool:
    """Whether a step failed for want of room: an OSError, or SQLite's SQLITE_FULL."""
    return getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT) or (
        isinstance(error, sqlite3.OperationalError) and "is full" in str(error)
    )


def sync(path: Path) -> None:
    """Makes the contents of a file, or the names inside of a folder, durable."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
