"""Watched folders: exported images become items, by their contents. Files are read, never changed, moved or removed.

A rescan every few seconds is the source of truth: shares (SMB, NFS) send no events. A file is taken once its size and
time have not changed for a while and it does not look unfinished; one that goes on looking unfinished is taken, too,
and the worker says what is wrong with it, so that no image vanishes.
"""

import logging
import os
import threading
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import BinaryIO

from edge_app import contradictions, logs
from edge_app.config import Config, Folder
from edge_app.durable import has_room
from edge_app.screen import printable
from edge_app.store import Store
from keras_realmnet.screening.image_io import MAX_BYTES, may_be_image

__all__ = ["FolderIntake", "looks_whole", "start"]

log = logging.getLogger(__name__)

PATIENCE = 12  # times `stable_seconds`: so long a file may look unfinished before it is taken as it is
BLOCK = 1 << 20
STOP_SECONDS = 5.0  # a dead share can hold a thread for ever: it is left behind


@dataclass(frozen=True)
class _Version:
    size: int
    modified_ns: int


class _Changed(Exception):
    """A file that was written to while it was being read."""


def start(config: Config, store: Store) -> "FolderIntake":
    """Watches all folders in the background until `stop`."""
    return FolderIntake(config, store)


class FolderIntake:
    """One running thread per folder."""

    def __init__(self, config: Config, store: Store):
        self._stopping = threading.Event()
        self._watchers = [_Watcher(folder, config, store, self._stopping) for folder in config.folder]
        for watcher in self._watchers:
            watcher.start()

    def unreachable(self) -> list[str]:
        """Names of the folders that could not be read at the last attempt, or that do not answer."""
        return [watcher.folder.name for watcher in self._watchers if not watcher.is_reachable()]

    def stop(self) -> None:
        self._stopping.set()
        for watcher in self._watchers:
            watcher.join(STOP_SECONDS)


class _Watcher(threading.Thread):
    def __init__(self, folder: Folder, config: Config, store: Store, stopping: threading.Event):
        super().__init__(name=f"folder {folder.name}", daemon=True)
        self.folder = folder
        self._free_mb, self._store, self._stopping = config.disk.free_mb, store, stopping
        self._versions: dict[str, tuple[_Version, float]] = {}  # files not taken yet: as they were seen, since when
        self._passed_over: dict[str, _Version] = {}  # no images
        self._failed: dict[str, _Version] = {}  # told of already
        self._reached = monotonic()
        self._lost = False

    def is_reachable(self) -> bool:
        return not self._lost and monotonic() - self._reached < 60 + 3 * self.folder.rescan_seconds

    def run(self) -> None:
        while not self._stopping.is_set():
            try:
                self._scan()
                if self._lost:
                    log.info("folder %s is back", self.folder.name)
                self._lost = False
            except OSError as error:
                if not self._lost:
                    log.warning("folder %s cannot be read (%s)", self.folder.name, error.strerror)
                self._lost = True
            except Exception as error:  # the watching must go on
                log.error("folder %s: %s", self.folder.name, logs.where(error))
            self._stopping.wait(self.folder.rescan_seconds)

    def _scan(self) -> None:
        """Looks at every file once. Raises OSError where the folder cannot be read."""
        present = set()
        for path, version in _files(self.folder.path):
            if self._stopping.is_set():
                return
            self._reached = monotonic()
            name = printable(path.relative_to(self.folder.path).as_posix())
            present.add(name)
            if self._passed_over.get(name) == version:
                continue
            if self._store.has_seen(self.folder.name, name, version.size, version.modified_ns):
                continue
            before, since = self._versions.get(name, (None, 0.0))
            if before != version:
                self._versions[name] = version, monotonic()
                continue
            waited = monotonic() - since
            if waited >= self.folder.stable_seconds:
                try:
                    self._consider(path, name, version, waited >= PATIENCE * self.folder.stable_seconds)
                except (_Changed, FileNotFoundError):
                    self._versions.pop(name, None)
                except OSError as error:  # a writer holds it, the share failed, our own disk is full: later
                    if self._failed.get(name) != version:
                        log.warning("folder %s: a file cannot be taken (%s)", self.folder.name, error.strerror)
                    self._failed[name] = version
        self._reached = monotonic()
        for known in (self._versions, self._passed_over, self._failed):
            for name in known.keys() - present:
                known.pop(name)

    def _consider(self, path: Path, name: str, version: _Version, out_of_patience: bool) -> None:
        if not may_be_image(path):
            self._passed_over[name] = version
        elif version.size > MAX_BYTES:
            log.error("folder %s: a file of %d bytes is too large to be an image", self.folder.name, version.size)
            self._passed_over[name] = version
        elif (out_of_patience or looks_whole(path)) and has_room(self._store.data_dir, self._free_mb, version.size):
            self._take(path, name, version)
            del self._versions[name]

    def _take(self, path: Path, name: str, version: _Version) -> None:
        with path.open("rb") as file:
            sha256, size = self._store.keep_object(_blocks(file, version), "bin")
        item, new = self._store.add_item(
            source="folder",
            origin=self.folder.name,
            sha256=sha256,
            extension="bin",
            file_name=printable(path.name),
            bytes=size,
        )
        self._store.saw_file(self.folder.name, name, version.size, version.modified_ns, item.id)
        if new:
            log.info("folder %s: item %d", self.folder.name, item.id)
        else:
            names = (*self._store.names(item.id), item.file_name)
            self._store.warn(item.id, contradictions.among_names(names, self.folder.file_name_pattern))


def looks_whole(path: Path) -> bool:
    """Whether the end of a file is what the end of such an image looks like; nothing is decoded.

    True for kinds whose end tells nothing: those are judged by the worker alone.
    """
    with path.open("rb") as file:
        head = file.read(8)
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - (1 << 16)))
        tail = file.read()
    if head.startswith(b"\xff\xd8"):
        return b"\xff\xd9" in tail
    if head.startswith(b"\x89PNG"):
        return b"IEND" in tail
    if head[:4] in (b"II*\0", b"MM\0*"):  # TIFF 6.0: the offset of the first directory, which most writers put last
        return int.from_bytes(head[4:], "little" if head[:2] == b"II" else "big") < size
    return size > 0


def _files(folder: Path) -> Iterator[tuple[Path, _Version]]:
    """Plain files, also of subfolders that can be read; no links, nothing hidden. Raises OSError for the folder."""
    with os.scandir(folder) as entries:
        found = sorted(entries, key=lambda entry: entry.name)
    for entry in found:
        if entry.name.startswith("."):
            continue
        if entry.is_dir(follow_symlinks=False):
            with suppress(OSError):
                yield from _files(Path(entry.path))
        elif entry.is_file(follow_symlinks=False):
            about = entry.stat(follow_symlinks=False)
            yield Path(entry.path), _Version(about.st_size, about.st_mtime_ns)


def _blocks(file: BinaryIO, version: _Version) -> Iterator[bytes]:
    """The contents, if they still are of that version when they have been read; else raises _Changed."""
    while block := file.read(BLOCK):
        yield block
    about = os.fstat(file.fileno())
    if _Version(about.st_size, about.st_mtime_ns) != version:
        raise _Changed
