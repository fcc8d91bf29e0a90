"""A folder of files that belong together, changed as a whole or not at all."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import TracebackType

from keras_realmnet.errors import RealMNetError

__all__ = ["FolderChange", "sha256_of"]

STAGING = ".new"  # folder inside of the folder: what the manifest does not name yet
LIST = ".names"  # file in there: names, a line each, that are needed no longer unless the manifest names them


class FolderChange:
    """A change of the files in a folder that takes place when its manifest, which names the others, is replaced.

    What the manifest names stays as it is until then: where a name is in use, the new file gets the first 16 digits of
    its SHA-256 in its name. Files that are then no longer named are removed. An error, a full disk, a killed process or
    a power cut leave the old state or the new one; what a killed process left over is removed by the next change.

    Args:
        folder: made where it does not exist.
        manifest: its file name.
        names: the files that the contents of a manifest name. Raises ValueError where they tell none; every file in the
            folder is then kept.

    Raises:
        RealMNetError: another process, or thread, is changing the folder; or the disk is full, for one.
    """

    def __init__(self, folder: Path, manifest: str, names: Callable[[bytes], set[str]]):
        self._folder, self._manifest, self._names = folder, folder / manifest, names
        self._staging = folder / STAGING
        self._staged: dict[str, Path] = {}

    def __enter__(self) -> FolderChange:
        import fcntl  # here: reading a folder needs none, and Windows has none

        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            self._lock = os.open(self._folder, os.O_RDONLY)
        except OSError as error:
            raise self._failed(error) from error
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._tidy()
            self._staging.mkdir()
            try:
                self._before = self._named()
                self._taken = self._before
            except ValueError:
                self._before, self._taken = set(), {path.name for path in self._folder.iterdir()}
        except OSError as error:
            os.close(self._lock)
            if isinstance(error, BlockingIOError):
                raise RealMNetError(f"{self._folder}: somebody else is writing to this folder") from error
            raise self._failed(error) from error
        return self

    def add(self, name: str, source: Path | bytes) -> tuple[str, str]:
        """A copy of the file, or the contents, under `name` or, where that is in use, a longer one: (name, SHA-256)."""
        staged = self._staging / name
        if isinstance(source, bytes):
            staged.write_bytes(source)
        else:
            shutil.copyfile(source, staged)
        _sync(staged)
        sha256 = sha256_of(staged)
        if name in self._taken:
            if (self._folder / name).is_file() and sha256_of(self._folder / name) == sha256:
                staged.unlink()
                return name, sha256
            name = f"{Path(name).stem}-{sha256[:16]}{Path(name).suffix}"
        self._staged[name] = staged
        return name, sha256

    def put_back(self, name: str, source: Path) -> None:
        """Copies the file to `name`, which the manifest names and has no file; the manifest stays as it is."""
        staged = self._staging / name
        shutil.copyfile(source, staged)
        _sync(staged)
        os.replace(staged, self._folder / name)
        os.fsync(self._lock)

    def commit(self, content: bytes) -> None:
        """Replaces the manifest: from here on the folder is the new one."""
        manifest, names = self._staging / self._manifest.name, self._staging / LIST
        manifest.write_bytes(content)
        added = {name for name in self._staged if not (self._folder / name).exists()}
        names.write_text("".join(f"{name}\n" for name in self._before | added))
        _sync(manifest)
        _sync(names)
        for name, staged in self._staged.items():
            os.replace(staged, self._folder / name)
        os.fsync(self._lock)
        os.replace(manifest, self._manifest)
        os.fsync(self._lock)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._tidy()
        os.close(self._lock)
        if isinstance(error, OSError):
            raise self._failed(error) from error

    def _named(self) -> set[str]:
        """What the manifest that is there names. Raises ValueError where it does not tell."""
        try:
            return self._names(self._manifest.read_bytes())
        except FileNotFoundError:
            return set()

    def _tidy(self) -> None:
        """Removes what a change, this one or one that was killed, has left: of the new files or of the old ones."""
        with suppress(OSError, ValueError):
            listed = (self._staging / LIST).read_text().split("\n")[:-1]
            for name in set(listed) - self._named() - {self._manifest.name}:
                if Path(name).name == name:  # no folder: it may be a copy of somebody's bundle
                    (self._folder / name).unlink(missing_ok=True)
        shutil.rmtree(self._staging, ignore_errors=True)

    def _failed(self, error: OSError) -> RealMNetError:
        return RealMNetError(f"{self._folder}: not written: {error.strerror or error}")


def sha256_of(path: Path) -> str:
    """Of the file's bytes, 64 hexadecimal digits."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _sync(path: Path) -> None:
    """Makes the contents of a file durable."""
    with path.open("rb") as file:
        os.fsync(file.fileno())
