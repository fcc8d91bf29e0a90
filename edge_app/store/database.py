"""The box's folder and its data base: opening, one writer at a time, transactions, moments, and the audit trail.

What each step of the store rests on: a transaction is on the disk before the call returns, or it is undone. Times are
ISO 8601, UTC. Whatever the step, it notes itself in the audit trail within its own transaction.
"""

import fcntl
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import fields
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, TypeVar, cast

from edge_app.store import schema
from edge_app.store.durable import make_folder
from keras_realmnet.errors import RealMNetError

__all__ = ["RESTORING", "Database", "from_row", "insert", "lock_data_dir", "note", "seconds_since", "timestamp"]

RESTORING = "restore.part"  # is in the box's folder while a backup is being put there, see backup.py


class Database:
    """The box's folder and data base. Any number of threads and processes may use it; each has its own connection."""

    def __init__(self, data_dir: Path, bundles: Sequence[str] = ()):
        """Opens or makes the folder and its data base; one of an earlier release is copied, then brought up to date.

        Args:
            bundles: names of the bundles that screen what is taken in from now on.

        Raises:
            RealMNetError: the folder cannot be written, the data base is none or of a newer release, or it is of an
                earlier one and a box is running on it; or a backup was not restored to the end.
        """
        self.data_dir = data_dir
        if (data_dir / RESTORING).exists():
            raise RealMNetError(
                f"{data_dir}: a restore goes on or was interrupted here; empty the folder, restore again"
            )
        self.bundles = tuple(bundles)
        self.incoming = data_dir / "incoming"
        self._local = threading.local()
        try:
            for folder in (self.incoming, data_dir / "objects", data_dir / "results"):
                make_folder(folder)
            self._upgrade(data_dir / "box.sqlite")
        except (OSError, sqlite3.DatabaseError) as error:
            raise RealMNetError(f"{data_dir}: cannot keep the box's data here ({error})") from error

    def _upgrade(self, path: Path) -> None:
        """Applies the missing migrations; what was there before them stays beside it, for the way back."""
        version, newest = schema.version_of(path), len(schema.MIGRATIONS)
        if version > newest:
            raise RealMNetError(f"{path}: has schema version {version}, of a newer release; this one knows {newest}")
        if version == newest:
            return
        with lock_data_dir(self.data_dir) if version else nullcontext():
            if version:
                schema.copy_database(path, schema.backup_path(path, version))
            with self.write() as db:
                schema.migrate(db)

    @property
    def db(self) -> sqlite3.Connection:
        """This thread's connection, for reading."""
        if not hasattr(self._local, "db"):
            db = sqlite3.connect(self.data_dir / "box.sqlite", timeout=30, isolation_level=None)
            db.row_factory = sqlite3.Row
            for pragma in ("journal_mode = WAL", "synchronous = FULL", "foreign_keys = ON"):
                db.execute(f"PRAGMA {pragma}")
            self._local.db = db
        connection: sqlite3.Connection = self._local.db
        return connection

    @contextmanager
    def write(self) -> Iterator[sqlite3.Connection]:
        """One transaction; durable when the block ends, undone when it raises."""
        db = self.db
        db.execute("BEGIN IMMEDIATE")
        try:
            yield db
            db.execute("COMMIT")
        except BaseException:
            if db.in_transaction:
                db.execute("ROLLBACK")
            raise

    def close(self) -> None:
        """Closes this thread's connection."""
        self.db.close()
        del self._local.db

    def check(self) -> None:
        """Raises RealMNetError where the data base is damaged."""
        try:
            faults = [row[0] for row in self.db.execute("PRAGMA integrity_check") if row[0] != "ok"]
            faults += [f"a row of {row[0]} refers to nothing" for row in self.db.execute("PRAGMA foreign_key_check")]
        except sqlite3.DatabaseError as error:
            faults = [str(error)]
        if faults:
            raise RealMNetError(
                f"{self.data_dir / 'box.sqlite'}: the data base is damaged ({faults[0]}); nothing was changed. "
                "Keep a copy and restore the latest backup"
            )

    def trail(self, limit: int = -1, offset: int = 0) -> Iterator[sqlite3.Row]:
        """The audit trail, the latest first: at, actor, action, item_id, detail."""
        yield from self.db.execute("SELECT * FROM audit ORDER BY id DESC LIMIT ? OFFSET ?", (limit, offset))

    def audit(self, actor: str, action: str, item_id: int | None = None, detail: str = "") -> None:
        """Adds to the audit trail, as a step of its own; no patient data in `detail`."""
        with self.write() as db:
            note(db, actor, action, item_id, detail)


@contextmanager
def lock_data_dir(data_dir: Path) -> Iterator[None]:
    """Raises RealMNetError where a box works in this folder; a dead one does not count."""
    with (data_dir / "serve.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise RealMNetError(f"{data_dir}: another box is running in this folder") from None
        yield


def timestamp(at: datetime | None = None) -> str:
    """A moment (now, by default) as the store writes it: ISO 8601, UTC, milliseconds; sorts as text."""
    return (at or datetime.now(timezone.utc)).astimezone(timezone.utc).isoformat(timespec="milliseconds")


def seconds_since(moment: str, now: datetime | None = None) -> float:
    """How long a stored moment is ago; 0 where it is still to come, since the clock has been set back."""
    return max(0.0, ((now or datetime.now(timezone.utc)) - datetime.fromisoformat(moment)).total_seconds())


def insert(db: sqlite3.Connection, table: str, **values: Any) -> int:
    """Adds a row; returns its id."""
    marks = ", ".join("?" * len(values))
    cursor = db.execute(f"INSERT INTO {table} ({', '.join(values)}) VALUES ({marks})", tuple(values.values()))
    return cursor.lastrowid or 0


Row = TypeVar("Row")


def from_row(kind: type[Row], row: sqlite3.Row) -> Row:
    """A data class whose fields are columns of the row."""
    return kind(**{field.name: row[field.name] for field in fields(cast("Any", kind))})


def note(db: sqlite3.Connection, actor: str, action: str, item_id: int | None, detail: str = "") -> None:
    """Adds to the audit trail, with the transaction under way; no patient data in `detail`."""
    insert(db, "audit", at=timestamp(), actor=actor, action=action, item_id=item_id, detail=detail)
