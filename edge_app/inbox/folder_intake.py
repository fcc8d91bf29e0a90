"""Watched folders: exported images become items, by their contents. Files are read, never changed, moved or removed.

A rescan every few seconds is the source of truth: shares (SMB, NFS) send no events. A file is taken once its size and
time have not changed for a while and it does not look unfinished; one that goes on looking unfinished is taken, too,
and the worker says what is wrong with it, so that no image vanishes. Pictures of kinds that the box does not read leave
a trace: how many of which kind, never their names.
"""

import logging
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from stat import S_ISREG
from time import monotonic
from typing import BinaryIO

from edge_app import contradictions, logs
from edge_app.analysis.screen import printable
from edge_app.config import Config, Folder
from edge_app.dicom.header import read_attributes
from edge_app.dicom.own_results import is_own_result
from edge_app.inbox.file_kinds import HEAD, READ, kind_of
from edge_app.store.database import timestamp
from edge_app.store.durable import has_room
from edge_app.store.folders import SkippedFiles
from edge_app.store.store import Store
from keras_realmnet.screening.image_io import MAX_BYTES, may_be_image, named_as_image

__all__ = ["FolderIntake", "looks_whole", "start"]

log = logging.getLogger(__name__)

PATIENCE = 12  # times `stable_seconds`: so long a file may look unfinished before it is taken as it is
BLOCK = 1 << 20
SILENT = ("thumbs.db", "desktop.ini")  # Windows leaves them everywhere
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
        for name in {each.folder for each in store.skipped_files()} - {folder.name for folder in config.folder}:
            store.set_skipped_files(name, [])
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
        self._passed_over: dict[str, tuple[str, _Version]] = {}  # what is not taken: its kind, as `_unwanted` has it
        self._failed: dict[str, int] = {}  # could not be read at the last attempt, since when (ns)
        self._told: list[SkippedFiles] | None = None
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
                log.error("folder %s: %s", self.folder.name, logs.error_place(error))
            self._stopping.wait(self.folder.rescan_seconds)

    def _scan(self) -> None:
        """Looks at every file once. Raises OSError where the folder itself cannot be read."""
        present, unreadable = set(), set()
        for path, version in _files(self.folder.path):
            if self._stopping.is_set():
                return
            self._reached = monotonic()
            name = printable(path.relative_to(self.folder.path).as_posix())
            present.add(name)
            try:
                if isinstance(version, OSError):
                    raise version
                self._look_at(path, name, version)
                self._failed.pop(name, None)
            except (_Changed, FileNotFoundError):
                self._versions.pop(name, None)
            except OSError as error:  # a writer holds it, the share failed, our own disk is full: later
                unreadable.add(name)
                if name not in self._failed:
                    log.warning("folder %s: a file cannot be taken (%s)", self.folder.name, error.strerror)
                    self._failed[name] = time.time_ns()
        self._reached = monotonic()
        for known in (self._versions, self._passed_over, self._failed):
            for name in known.keys() - present:
                known.pop(name)
        self._tell(unreadable)

    def _look_at(self, path: Path, name: str, version: _Version) -> None:
        """Takes a file, passes it over, or waits for it. Raises OSError where it cannot be read."""
        if self._passed_over.get(name, ("", None))[1] == version:
            return
        if self._store.has_seen(self.folder.name, name, version.size, version.modified_ns):
            return
        before, since = self._versions.get(name, (None, 0.0))
        if before != version:
            self._versions[name] = version, monotonic()
            return
        waited = monotonic() - since
        if waited >= self.folder.stable_seconds:
            with _opened(path, version) as file:
                self._consider(path, name, version, file, waited >= PATIENCE * self.folder.stable_seconds)

    def _consider(self, path: Path, name: str, version: _Version, file: BinaryIO, out_of_patience: bool) -> None:
        kind = self._unwanted(path, version, file)
        if kind is not None:
            self._passed_over[name] = kind, version
        elif (out_of_patience or looks_whole(file)) and has_room(self._store.data_dir, self._free_mb, version.size):
            self._take(path, name, version, file)
            del self._versions[name]

    def _unwanted(self, path: Path, version: _Version, file: BinaryIO) -> str | None:
        """What a file is that is not to be taken, "" where nobody needs to know; None for one that is.

        Taken is what has the name or the first bytes of an image: a damaged one must not vanish.
        """
        kind = kind_of(file.read(HEAD))
        if path.name.lower() in SILENT or (named_as_image(path) and not may_be_image(path)):
            return ""
        if not named_as_image(path) and kind not in READ:
            return "" if kind == "text" else kind or "of unknown kind"
        if version.size > MAX_BYTES:
            return f"larger than {MAX_BYTES >> 20} MB"
        return "" if kind == "DICOM" and self._is_own(path) else None

    def _is_own(self, path: Path) -> bool:
        """Whether a file is a DICOM result of this software: the box never screens what it made itself."""
        try:
            attributes = read_attributes(path)
        except Exception:  # whatever is wrong with it, the worker tells
            return False
        return is_own_result(attributes) or self._store.is_own_result(str(attributes.get("SOPInstanceUID")))

    def _tell(self, unreadable: set[str]) -> None:
        """Leaves a trace, in the log and the store, of what is there and not taken, where that has changed."""
        newest: dict[str, list[int]] = {}
        for kind, version in self._passed_over.values():
            if kind:
                newest.setdefault(kind, []).append(version.modified_ns)
        for name in unreadable:
            newest.setdefault("unreadable", []).append(self._failed[name])
        found = [
            SkippedFiles(self.folder.name, kind, len(times), _timestamp(max(times)))
            for kind, times in sorted(newest.items())
        ]
        if found != self._told:
            self._store.set_skipped_files(self.folder.name, found)
            for each in found:
                if each not in (self._told or ()):
                    log.warning("folder %s: not taken: %d %s", self.folder.name, each.number, each.kind)
            self._told = found

    def _take(self, path: Path, name: str, version: _Version, file: BinaryIO) -> None:
        file.seek(0)
        sha256, size = self._store.keep_object(_blocks(file, version), "bin")
        item, new = self._store.add_item(
            source="folder",
            origin=self.folder.name,
            sha256=sha256,
            extension="bin",
            file_name=printable(path.name),
            bytes=size,
        )
        self._store.mark_seen(self.folder.name, name, version.size, version.modified_ns, item.object_id)
        if new:
            log.info("folder %s: item %d", self.folder.name, item.id)
        else:
            names = (*self._store.names(item.id), item.file_name)
            warnings = contradictions.among_file_names(names, self.folder.file_name_pattern)
            for result in self._store.object_records(item.object_id):
                self._store.warn(result.item.id, warnings)


def looks_whole(file: BinaryIO) -> bool:
    """Whether the end of a file is what the end of such an image looks like; nothing is decoded.

    True for kinds whose end tells nothing: those are judged by the worker alone.
    """
    file.seek(0)
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


def _files(folder: Path) -> Iterator[tuple[Path, _Version | OSError]]:
    """Plain files, also of subfolders; no links, nothing hidden. Raises OSError where the folder cannot be read.

    What has vanished since it was listed is left out; what cannot be read, file or subfolder, comes with its error.
    """
    with os.scandir(folder) as entries:
        found = sorted(entries, key=lambda entry: entry.name)
    for entry in found:
        if entry.name.startswith("."):
            continue
        try:
            if entry.is_dir(follow_symlinks=False):
                yield from _files(Path(entry.path))
            elif entry.is_file(follow_symlinks=False):
                about = entry.stat(follow_symlinks=False)
                yield Path(entry.path), _Version(about.st_size, about.st_mtime_ns)
        except (FileNotFoundError, NotADirectoryError):
            pass
        except OSError as error:
            yield Path(entry.path), error


@contextmanager
def _opened(path: Path, version: _Version) -> Iterator[BinaryIO]:
    """A file as it was listed. Raises _Changed where something else is there by now: a link, a pipe, other contents."""
    with open(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
        _unchanged(file, version)
        yield file


def _unchanged(file: BinaryIO, version: _Version) -> None:
    about = os.fstat(file.fileno())
    if not S_ISREG(about.st_mode) or _Version(about.st_size, about.st_mtime_ns) != version:
        raise _Changed


def _blocks(file: BinaryIO, version: _Version) -> Iterator[bytes]:
    """The contents, if they still are of that version when they have been read; else raises _Changed."""
    while block := file.read(BLOCK):
        yield block
    _unchanged(file, version)


def _timestamp(nanoseconds: int) -> str:
    """A file's time as the store writes moments; one that no calendar has is its beginning."""
    try:
        return timestamp(datetime.fromtimestamp(nanoseconds / 1e9, timezone.utc))
    except (OverflowError, ValueError, OSError):
        return timestamp(datetime.fromtimestamp(0, timezone.utc))
