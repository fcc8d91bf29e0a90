"""Backup and restore of all that a box keeps: a folder with the data base, received objects, results, and a manifest.

A backup is made while the box runs: a consistent copy of the data base first, then the files that it speaks of, which
never change once they have their names. What is removed by age meanwhile is removed from the backup, too. The folder
has its name only when everything in it is on the disk. Sessions and failed logins stay behind.
"""

import fcntl
import hashlib
import json
import os
import shutil
import sqlite3
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path, PurePosixPath

from edge_app.store import schema
from edge_app.store.database import RESTORING, lock_data_dir, timestamp
from edge_app.store.durable import TEMPORARY, free_bytes, make_folder, sync, write_durably
from edge_app.store.store import Store
from edge_app.store.upkeep import expire_rows
from keras_realmnet import __version__
from keras_realmnet.errors import RealMNetError

__all__ = ["Manifest", "back_up", "restore", "verify"]

DATABASE = "box.sqlite"
MANIFEST = "manifest.json"
FORMAT = 1
CHUNK = 1 << 20
Progress = Callable[[int, int], None]  # bytes done, bytes in all


@dataclass(frozen=True)
class Manifest:
    """What a backup holds.

    schema: version of the data base. counts: rows by kind, "items pending" for instance. files: {path: (SHA-256,
    bytes)}. missing: what the box itself had lost or damaged when the backup was made.
    """

    made_at: str
    software: str
    schema: int
    counts: dict[str, int]
    files: dict[str, tuple[str, int]]
    missing: tuple[str, ...]

    @property
    def bytes(self) -> int:
        return sum(size for _, size in self.files.values())


def _silent(done: int, total: int) -> None:
    pass


# ---- backup ---------------------------------------------------------------------------------------------------------


def back_up(data_dir: Path, out: Path, progress: Progress = _silent) -> Manifest:
    """Makes the folder `out`, a backup of the box in `data_dir`, which may be running and its disk full.

    Raises:
        RealMNetError: there is no box, `out` exists already or is a part of the box, there is no room; nothing is left.
    """
    if not (data_dir / DATABASE).is_file():
        raise RealMNetError(f"{data_dir}: no box has run here yet")
    if os.path.lexists(out):
        raise RealMNetError(f"{out}: is there already; a backup overwrites nothing")
    if out.resolve().is_relative_to(data_dir.resolve()):
        raise RealMNetError(f"{out}: lies in the box's own folder; a backup belongs on another disk")
    if not out.parent.is_dir():
        raise RealMNetError(f"{out.parent}: there is no such folder")
    part = out.with_name(out.name + TEMPORARY)
    try:
        with _own_folder(part):
            manifest = _copy_box(data_dir, part, progress)
            write_durably(part / MANIFEST, json.dumps({"format": FORMAT, **asdict(manifest)}, indent=1).encode())
            _sync_folders(part)
            part.rename(out)
            sync(out.parent)
    except (OSError, sqlite3.Error) as error:
        raise RealMNetError(f"{out}: the backup cannot be made ({_reason(error)})") from error
    return manifest


@contextmanager
def _own_folder(part: Path) -> Iterator[None]:
    """An empty folder for one writer; what a killed one left is removed, as is this one unless it was renamed."""
    part.mkdir(mode=0o700, exist_ok=True)
    handle = os.open(part, os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise RealMNetError(f"{part}: another backup is being written there") from None
        for path in part.iterdir():
            _remove(path)
        try:
            yield
        finally:
            shutil.rmtree(part, ignore_errors=True)
    finally:
        os.close(handle)


def _copy_box(data_dir: Path, part: Path, progress: Progress) -> Manifest:
    with _database(data_dir) as (copy, removed_after):
        copy(part / DATABASE)
        with closing(sqlite3.connect(part / DATABASE)) as db:
            _seal(db)
            [newest] = db.execute("SELECT coalesce(max(id), 0) FROM audit").fetchone()
            files, missing = _copy_files(data_dir, part, _wanted(db, data_dir), progress)
            _expire(db, removed_after(newest))
            wanted = _wanted(db, part)
            for path in files.keys() - wanted.keys():
                (part / path).unlink()
                del files[path]
            missing = [path for path in missing if path in wanted] + _without_preview(db, files)
            counts = _counts(db)
            [user_version] = db.execute("PRAGMA user_version").fetchone()
    files[DATABASE] = _hash(part / DATABASE)
    return Manifest(timestamp(), __version__, user_version, counts, files, tuple(sorted(missing)))


def _expire(db: sqlite3.Connection, items: Iterable[int]) -> None:
    """What was removed by age while the files were copied is removed here, too: some of its files may be missing."""
    with db:
        for item in items:
            expire_rows(db, item)


@contextmanager
def _database(data_dir: Path) -> Iterator[tuple[Callable[[Path], None], Callable[[int], list[int]]]]:
    """Ways to copy the data base, and to learn which items were removed by age after a line of the audit trail.

    Where the box is stopped and its disk so full that the data base cannot even be opened, its files are copied as they
    are, and the box is kept from starting meanwhile.
    """
    path = data_dir / DATABASE
    query = "SELECT DISTINCT item_id FROM audit WHERE action = 'expired' AND id > ?"
    with closing(sqlite3.connect(path, timeout=30)) as live:
        try:
            live.execute(query, (0,)).fetchone()
        except sqlite3.OperationalError:
            live.close()
            with lock_data_dir(data_dir):
                yield lambda copy: _copy_closed(path, copy), lambda newest: []
            return
        yield (
            lambda copy: schema.copy_database(path, copy),
            lambda newest: [item for [item] in live.execute(query, (newest,))],
        )


def _copy_closed(path: Path, copy: Path) -> None:
    for ending in ("", "-wal"):
        with suppress(FileNotFoundError):
            _copy(path.with_name(path.name + ending), copy.with_name(copy.name + ending))
    with closing(sqlite3.connect(copy)) as db:  # takes in what is in the log
        db.execute("PRAGMA journal_mode = DELETE")


def _seal(db: sqlite3.Connection) -> None:
    """One sound file, without what lets somebody in."""
    db.execute("PRAGMA journal_mode = DELETE")
    db.execute("PRAGMA secure_delete = ON")
    with db:
        db.execute("DELETE FROM sessions")
        db.execute("DELETE FROM login_attempts")
    faults = [row[0] for row in db.execute("PRAGMA integrity_check") if row[0] != "ok"]
    if faults:
        raise RealMNetError(f"the data base is damaged ({faults[0]}): keep the backups that there are")


def _wanted(db: sqlite3.Connection, data_dir: Path) -> dict[str, int]:
    """{path: bytes} of all files that the data base speaks of; of what is not there the bytes are 0."""
    wanted = _objects(db)
    for [item] in db.execute("SELECT id FROM items WHERE state <> 'expired'"):
        with suppress(FileNotFoundError), os.scandir(data_dir / "results" / str(item)) as files:
            for file in files:
                if not file.name.endswith(TEMPORARY):
                    with suppress(FileNotFoundError):
                        wanted[f"results/{item}/{file.name}"] = file.stat().st_size
    return wanted


def _objects(db: sqlite3.Connection) -> dict[str, int]:
    query = "SELECT sha256, extension, bytes FROM items WHERE state <> 'expired'"
    return {f"objects/{sha256[:2]}/{sha256}.{extension}": size for sha256, extension, size in db.execute(query)}


def _copy_files(
    data_dir: Path, part: Path, wanted: dict[str, int], progress: Progress
) -> tuple[dict[str, tuple[str, int]], list[str]]:
    """Copies the files; returns {path: (SHA-256, bytes)}, and which objects are missing or damaged."""
    total, done = sum(wanted.values()), 0
    free = free_bytes(part)
    if total > free:
        raise RealMNetError(f"{part.parent}: {total >> 20:,} MB are needed, {free >> 20:,} MB are free")
    files: dict[str, tuple[str, int]] = {}
    missing = []
    progress(0, total)
    for path, size in wanted.items():
        with suppress(FileNotFoundError):
            files[path] = _copy(data_dir / path, part / path)
        if path.startswith("objects/") and (path not in files or files[path][0] != PurePosixPath(path).stem):
            missing.append(path)
        done += size
        progress(done, total)
    return files, missing


def _without_preview(db: sqlite3.Connection, files: dict[str, tuple[str, int]]) -> list[str]:
    items = (row[0] for row in db.execute("SELECT id FROM items WHERE state = 'done'"))
    previews = (f"results/{item}/preview.jpg" for item in items)
    return [path for path in previews if path not in files]


def _counts(db: sqlite3.Connection) -> dict[str, int]:
    counts = {}
    for table in ("items", "deliveries"):
        for state, number in db.execute(f"SELECT state, count(*) FROM {table} GROUP BY state"):
            counts[f"{table} {state}"] = number
    for table in ("records", "reviews", "users", "audit"):
        [counts[table]] = db.execute(f"SELECT count(*) FROM {table}").fetchone()
    return counts


# ---- restore --------------------------------------------------------------------------------------------------------


def verify(folder: Path, progress: Progress = _silent) -> Manifest:
    """Reads every file of a backup and compares it with the manifest, and checks the data base.

    Raises RealMNetError for what is no whole backup, names the file.
    """
    manifest = _manifest(folder)
    done = 0
    for path, expected in manifest.files.items():
        _compare(folder / path, path, expected, _hash)
        done += expected[1]
        progress(done, manifest.bytes)
    with closing(sqlite3.connect(f"{(folder / DATABASE).absolute().as_uri()}?immutable=1", uri=True)) as db:
        _check(db, manifest, folder)
    return manifest


def restore(folder: Path, data_dir: Path, progress: Progress = _silent) -> Manifest:
    """Puts the backup in `folder` into the empty folder `data_dir`, checking every file.

    A box that is started there goes on from the state of the backup: what waited is screened and delivered, what was
    done is not done again. Where root restores, everything belongs to whom `data_dir` belongs to.

    Raises:
        RealMNetError: the backup is not whole or of a newer release, `data_dir` is not empty, or a box is running
            there; nothing is left of the attempt.
    """
    manifest = _manifest(folder)
    if data_dir.is_dir() and any(data_dir.iterdir()):
        if (data_dir / "serve.lock").exists():
            with lock_data_dir(data_dir):
                pass
        raise RealMNetError(f"{data_dir}: is not empty; a backup is restored into an empty folder only")
    part, moved, done = data_dir / RESTORING, list[Path](), 0
    try:
        make_folder(data_dir)
        part.mkdir(mode=0o700)
        try:
            for path, expected in manifest.files.items():
                _compare(folder / path, path, expected, partial(_copy, target=part / path))
                done += expected[1]
                progress(done, manifest.bytes)
            with closing(sqlite3.connect(part / DATABASE)) as db:
                _check(db, manifest, part)
            _sync_folders(part)
            if len(os.listdir(data_dir)) > 1:
                raise RealMNetError(
                    f"{data_dir}: something else was put there during the restore; empty it, restore again"
                )
            for name in sorted(os.listdir(part), key=lambda name: name == DATABASE):  # the data base last
                moved.append((part / name).rename(data_dir / name))
            sync(data_dir)
            part.rmdir()
            sync(data_dir)
        except BaseException:
            for made in (part, *moved):
                _remove(made)
            raise
        store = Store(data_dir)
        try:
            store.audit("command line", "restored", detail=f"the backup of {manifest.made_at}")
        finally:
            store.close()
        _give_to_owner(data_dir)
    except (OSError, sqlite3.Error) as error:
        raise RealMNetError(f"{data_dir}: the backup cannot be restored ({_reason(error)})") from error
    return manifest


def _manifest(folder: Path) -> Manifest:
    try:
        values = json.loads((folder / MANIFEST).read_bytes())
        if values.pop("format") != FORMAT:
            raise RealMNetError(f"{folder}: the backup was made by a newer release")
        values["files"] = {path: (str(sha256), int(size)) for path, (sha256, size) in values["files"].items()}
        values["missing"] = tuple(values["missing"])
        manifest = Manifest(**values)
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise RealMNetError(f"{folder}: is no backup, or not a whole one ({type(error).__name__})") from error
    if any(PurePosixPath(path).is_absolute() or ".." in PurePosixPath(path).parts for path in manifest.files):
        raise RealMNetError(f"{folder}: the manifest names files outside of the backup")
    if manifest.schema > len(schema.MIGRATIONS):
        raise RealMNetError(
            f"{folder}: has schema version {manifest.schema}, of a newer release; "
            f"this one knows {len(schema.MIGRATIONS)}"
        )
    return manifest


def _compare(file: Path, path: str, expected: tuple[str, int], read: Callable[[Path], tuple[str, int]]) -> None:
    try:
        found = read(file)
    except FileNotFoundError:
        raise RealMNetError(f"{path}: is missing from the backup") from None
    if found != expected:
        raise RealMNetError(f"{path}: is damaged; the backup cannot be used as a whole")


def _check(db: sqlite3.Connection, manifest: Manifest, folder: Path) -> None:
    """Raises RealMNetError where the data base is damaged, or speaks of a file that is neither there nor known lost."""
    faults = [row[0] for row in db.execute("PRAGMA integrity_check") if row[0] != "ok"]
    faults += [f"a row of {row[0]} refers to nothing" for row in db.execute("PRAGMA foreign_key_check")]
    if faults:
        raise RealMNetError(f"{folder / DATABASE}: the data base is damaged ({faults[0]})")
    for path in _objects(db):
        if path not in manifest.files and path not in manifest.missing:
            raise RealMNetError(f"{path}: is missing from the backup")


def _give_to_owner(data_dir: Path) -> None:
    if os.geteuid() == 0:
        owner = data_dir.stat()
        for path in data_dir.rglob("*"):
            os.chown(path, owner.st_uid, owner.st_gid)


# ---- files ----------------------------------------------------------------------------------------------------------


def _copy(source: Path, target: Path) -> tuple[str, int]:
    """Copies a file durably; its SHA-256 and bytes."""
    digest, size = hashlib.sha256(), 0
    with source.open("rb") as file:
        target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with target.open("wb") as copy:
            while chunk := file.read(CHUNK):
                digest.update(chunk)
                copy.write(chunk)
                size += len(chunk)
            copy.flush()
            os.fsync(copy.fileno())
    return digest.hexdigest(), size


def _hash(path: Path) -> tuple[str, int]:
    digest, size = hashlib.sha256(), 0
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            digest.update(chunk)
            size += len(chunk)
    return digest.hexdigest(), size


def _sync_folders(folder: Path) -> None:
    for path in (*(path for path in folder.rglob("*") if path.is_dir()), folder):
        sync(path)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _reason(error: OSError | sqlite3.Error) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or str(error)
