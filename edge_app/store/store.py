"""What the box knows: received objects, their results, deliveries, reviews, users and the audit trail, in SQLite.

An item is one picture of a received object, screened by one bundle: an object that holds several pictures becomes as
many items once its first has been opened. One life of an item: `add_item` (pending) → `claim` (screening) → `finish`
(done); `quarantine` puts aside what cannot be screened, `retry` takes it up again, `expire` keeps only its identity.
Every step is one transaction, synced to the disk before the call returns, and each demands the state before it: that
is what "exactly once" rests on. Times are ISO 8601, UTC.
"""

import fcntl
import hashlib
import json
import shutil
import sqlite3
import threading
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager, nullcontext
from dataclasses import dataclass, fields, replace
from datetime import datetime, timedelta, timezone
from pathlib import Path, PurePath
from typing import Any, Literal, TypeVar, cast

from edge_app.store import schema
from edge_app.store.durable import TEMPORARY, make_folder, move_durably, temporary_file
from keras_realmnet.errors import RealMNetError
from keras_realmnet.screening.decision import OUTCOMES
from keras_realmnet.screening.record import ScreeningRecord

__all__ = [
    "MAX_CRASHES",
    "RESTORING",
    "Counts",
    "Delivery",
    "Dropped",
    "Incoming",
    "Item",
    "NotTaken",
    "Result",
    "Review",
    "Stale",
    "Store",
    "Waiting",
    "expire_rows",
    "only_one",
    "seconds_since",
    "timestamp",
]

Source = Literal["dicom", "folder"]
ItemState = Literal["pending", "screening", "done", "quarantined", "expired"]

MAX_CRASHES = 3  # an item that failed so often on this machine, or killed its worker, is put aside
DROPPED = "received and dropped"  # in the audit trail; so is what follows, between kind and sender
FROM = ", from "
MAX_ATTEMPTS = 10  # as is one that was being screened each of so many times the whole box died
DELIVERY_STATES = ("pending", "delivered", "dead", "superseded")
RESTORING = "restore.part"  # is in the box's folder while a backup is being put there, see backup.py
GONE = "the destination is no longer in the configuration"


class Stale(RealMNetError):
    """A step that came too late: the item has left the state that the step starts from."""


@dataclass(frozen=True)
class Item:
    """One picture of a received object.

    object_id: the item of the object's first picture. frame: which picture it is, from 1. pictures: how many there are;
    None until the object has been opened. bundle: name of the bundle that screens it; "" where nobody said.
    origin: calling AE title, or name of the folder. reason: why it is in quarantine. closed_at: when a person said that
    what it asked for in quarantine was done.
    """

    id: int
    received_at: str
    source: Source
    origin: str
    sop_instance_uid: str | None
    sop_class_uid: str | None
    study_uid: str | None
    sha256: str
    extension: str
    file_name: str
    bytes: int
    state: ItemState
    reason: str | None
    attempts: int
    crashes: int
    started_at: str | None
    finished_at: str | None
    object_id: int
    frame: int
    pictures: int | None
    bundle: str
    closed_at: str | None


@dataclass(frozen=True)
class Result:
    """The record of an item; `revision` counts from 1; `score`: see `Store.finish`."""

    item: Item
    record: ScreeningRecord
    revision: int
    score: float | None


@dataclass(frozen=True)
class Delivery:
    """One result on its way to one destination: a row of the outbox. `urgent`: a person asked to send it now."""

    id: int
    item_id: int
    destination: str
    kind: str
    revision: int
    state: Literal["pending", "delivered", "dead", "superseded"]
    attempts: int
    next_attempt_at: str
    last_error: str | None
    created_at: str
    delivered_at: str | None
    urgent: int


@dataclass(frozen=True)
class Waiting:
    """What waits for one destination: how many results, for how long the oldest of them, and the last error, if any."""

    destination: str
    number: int
    oldest_seconds: float
    last_error: str | None


@dataclass(frozen=True)
class Review:
    """What a person said about a result. `kind`: "eye" (OD, OS), "agreement" (agree, disagree) or "note"."""

    id: int
    item_id: int
    at: str
    user: str
    kind: Literal["eye", "agreement", "note"]
    value: str


@dataclass(frozen=True)
class Counts:
    """Numbers of items and deliveries by state (every state is there), in seconds and ISO 8601."""

    items: dict[str, int]
    deliveries: dict[str, int]
    oldest_pending_seconds: float | None
    last_success: str | None


@dataclass(frozen=True)
class NotTaken:
    """Files of one `kind` in a watched folder that are there and not taken; `latest`: when the newest was written."""

    folder: str
    kind: str
    number: int
    latest: str


@dataclass(frozen=True)
class Dropped:
    """Objects of the network that were received and dropped: of one `kind`, from one calling AE title (`origin`)."""

    kind: str
    origin: str
    number: int
    latest: str


class Incoming:
    """The bytes of an object while they come: a temporary file, hashed as it grows and gone when it is closed.

    `file`: open for reading and writing. Raises OSError (a full disk, for one) wherever it writes.
    """

    def __init__(self, data_dir: Path):
        self._data_dir = data_dir
        self._stack = ExitStack()
        self.file = self._stack.enter_context(temporary_file(data_dir / "incoming"))
        self._digest, self.size = hashlib.sha256(), 0

    def write(self, chunk: bytes) -> None:
        self.file.write(chunk)
        self._digest.update(chunk)
        self.size += len(chunk)

    def keep(self, extension: str) -> tuple[str, int]:
        """See `Store.keep_object`."""
        sha256 = self._digest.hexdigest()
        path = _object_path(self._data_dir, sha256, extension)
        make_folder(path.parent)
        move_durably(self.file, path)
        return sha256, self.size

    def close(self) -> None:
        self._stack.close()


class Store:
    """The box's folder and data base. Any number of threads and processes may use it; each has its own connection."""

    def __init__(self, data_dir: Path, bundle: str = ""):
        """Opens or makes the folder and its data base; one of an earlier release is copied, then brought up to date.

        Args:
            bundle: name of the bundle that screens what is taken in from now on.

        Raises:
            RealMNetError: the folder cannot be written, the data base is none or of a newer release, or it is of an
                earlier one and a box is running on it; or a backup was not restored to the end.
        """
        self.data_dir = data_dir
        if (data_dir / RESTORING).exists():
            raise RealMNetError(
                f"{data_dir}: a restore goes on or was interrupted here; empty the folder, restore again"
            )
        self.bundle = bundle
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
        with only_one(self.data_dir) if version else nullcontext():
            if version:
                schema.copy_database(path, schema.backup_path(path, version))
            with self.write() as db:
                schema.migrate(db)

    # ---- connections and files ---------------------------------------------------------------------------------

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

    def object_path(self, item: Item) -> Path:
        """The received bytes, exactly as they came."""
        return _object_path(self.data_dir, item.sha256, item.extension)

    def result_dir(self, item_id: int) -> Path:
        """The folder of an item's preview, class maps and documents; made when it is missing."""
        folder = self.data_dir / "results" / str(item_id)
        make_folder(folder)
        return folder

    def keep_object(self, chunks: Iterable[bytes], extension: str) -> tuple[str, int]:
        """Makes received bytes durable under the name of their contents, before `add_item` tells of them.

        Returns the SHA-256 and the number of bytes. Raises OSError (a full disk, for one) and then leaves nothing.
        """
        with closing(Incoming(self.data_dir)) as incoming:
            for chunk in chunks:
                incoming.write(chunk)
            return incoming.keep(extension)

    def drop_object(self, kind: str, origin: str) -> None:
        """Notes, durably, an object that is received and not kept. `kind`: what it is, without patient data."""
        with self.write() as db:
            _audit(db, "dicom", DROPPED, None, f"{kind}{FROM}{origin}")

    def dropped(self) -> list[Dropped]:
        """What was received and dropped, by kind and sender, the latest first."""
        rows = self.db.execute(
            "SELECT detail, count(*), max(at) FROM audit WHERE action = ? GROUP BY detail ORDER BY 3 DESC", (DROPPED,)
        )
        split = ((*detail.partition(FROM), number, latest) for detail, number, latest in rows)
        return [Dropped(kind, origin, number, latest) for kind, _, origin, number, latest in split]

    def made_result(self, sop_instance_uid: str) -> None:
        """Notes the identity of a DICOM result before it leaves, so that it is known when it comes back."""
        with self.write() as db:
            db.execute("INSERT OR IGNORE INTO own_results VALUES (?)", (sop_instance_uid,))

    def is_own_result(self, sop_instance_uid: str) -> bool:
        """Whether a DICOM result of this box has that identity."""
        query = "SELECT 1 FROM own_results WHERE sop_instance_uid = ?"
        return self.db.execute(query, (sop_instance_uid,)).fetchone() is not None

    # ---- the life of an item -----------------------------------------------------------------------------------

    def add_item(
        self,
        *,
        source: Source,
        origin: str,
        sha256: str,
        extension: str,
        file_name: str,
        bytes: int,
        sop_instance_uid: str | None = None,
        sop_class_uid: str | None = None,
        study_uid: str | None = None,
    ) -> tuple[Item, bool]:
        """Takes in an object whose bytes `keep_object` has stored; returns the item and whether it is new.

        What came before for this bundle is not taken in again: over the network the same SOP Instance UID with the
        same bytes, else the same bytes. The same UID with other bytes is kept, in quarantine. An object that was
        screened, delivered and removed by age is new again when it is sent again, but not while it merely lies in its
        folder. The item is that of the object's first picture; the others follow when it has been opened.
        """
        now = timestamp()
        with self.write() as db:
            if source == "dicom":
                known = _one(
                    db,
                    "SELECT * FROM items WHERE source = 'dicom' AND sop_instance_uid = ? AND sha256 = ?"
                    " AND frame = 1 AND bundle IN (?, '')",
                    sop_instance_uid,
                    sha256,
                    self.bundle,
                )
            else:
                known = _one(
                    db,
                    "SELECT * FROM items WHERE source <> 'dicom' AND sha256 = ? AND frame = 1 AND bundle IN (?, '')",
                    sha256,
                    self.bundle,
                )
            if known is not None:
                if known.state != "expired" or source == "folder":
                    return known, False
                if not self.object_path(known).exists():  # removed by age between `keep_object` and now
                    raise OSError(f"the contents of item {known.id} were just removed: send it again")
                db.execute(
                    "UPDATE items SET state = 'pending', received_at = ?, file_name = ?, attempts = 0, crashes = 0,"
                    " reason = NULL, started_at = NULL, finished_at = NULL WHERE object_id = ?",  # expired as a whole
                    (now, file_name, known.id),
                )
                _audit(db, source, "received again", known.id, origin)
                return _item(db, known.id), True
            twin = (
                source == "dicom"
                and db.execute(
                    "SELECT id FROM items WHERE source = 'dicom' AND sop_instance_uid = ? AND sha256 <> ?",
                    (sop_instance_uid, sha256),
                ).fetchone()
            )
            reason = f"the same SOP Instance UID as item {twin[0]}, with other contents" if twin else None
            item_id = _insert(
                db,
                "items",
                received_at=now,
                source=source,
                origin=origin,
                sop_instance_uid=sop_instance_uid,
                sop_class_uid=sop_class_uid,
                study_uid=study_uid,
                sha256=sha256,
                extension=extension,
                file_name=file_name,
                bytes=bytes,
                state="quarantined" if twin else "pending",
                reason=reason,
                bundle=self.bundle,
            )
            db.execute("UPDATE items SET object_id = id WHERE id = ?", (item_id,))
            item = _item(db, item_id)
            _audit(db, source, "quarantined" if twin else "received", item.id, origin)
            return item, True

    def claim(self) -> Item | None:
        """The next item to screen, now in the state "screening".

        The oldest object comes first, its pictures one after the other, those that failed on this machine last.
        """
        with self.write() as db:
            row = db.execute(
                "SELECT id FROM items WHERE state = 'pending' ORDER BY crashes, object_id, frame LIMIT 1"
            ).fetchone()
            if row is None:
                return None
            db.execute(
                "UPDATE items SET state = 'screening', attempts = attempts + 1, started_at = ? WHERE id = ?",
                (timestamp(), row[0]),
            )
            return _item(db, row[0])

    def finish(
        self,
        item_id: int,
        record: ScreeningRecord,
        score: float | None,
        deliveries: Sequence[tuple[str, str]] = (),
        attempt: int | None = None,
    ) -> int:
        """Result, state and outbox in one transaction; returns the revision.

        Args:
            score: largest probability minus threshold over the pathologic labels; None without probabilities.
            deliveries: (destination, kind) of every result that is to leave.
            attempt: `Item.attempts` as claimed: a worker that was given up but lives on cannot finish.

        Raises:
            Stale: the item is not being screened (in this attempt).
        """
        with self.write() as db:
            _move(db, item_id, ("screening",), "done", attempt)
            revision = _put_record(db, item_id, record, score)
            _put_deliveries(db, item_id, revision, deliveries)
            _audit(db, "worker", "screened", item_id, f"{record.outcome}, revision {revision}")
            return revision

    def release(
        self,
        item_id: int,
        reason: str,
        crashed: bool,
        record: ScreeningRecord | None = None,
        attempt: int | None = None,
    ) -> Item:
        """Gives a claimed item back: pending again or, after MAX_CRASHES crashes, in quarantine with its `record`.

        Temporary files go that a killed process left of its results.
        """
        _remove_temporary_files(self.data_dir / "results" / str(item_id))
        with self.write() as db:
            item = _move(db, item_id, ("screening",), "pending", attempt)
            db.execute(
                "UPDATE items SET crashes = crashes + ?, reason = ?, started_at = NULL WHERE id = ?",
                (int(crashed), reason, item_id),
            )
            if item.crashes + crashed >= MAX_CRASHES:
                _put_aside(db, item_id, reason, record)
            else:
                _audit(db, "worker", "released", item_id, reason)
            return _item(db, item_id)

    def quarantine(
        self, item_id: int, reason: str, record: ScreeningRecord | None = None, attempt: int | None = None
    ) -> None:
        """Puts a pending or claimed item aside; `record` (not analysed) shows it beside the patient's other images.

        Raises Stale where the item is done, or not in this `attempt`.
        """
        with self.write() as db:
            _move(db, item_id, ("pending", "screening"), "quarantined", attempt)
            _put_aside(db, item_id, reason, record)

    def retry(self, item_id: int, actor: str) -> None:
        """Takes an item out of quarantine, with a clean slate. Raises Stale where it is not there."""
        with self.write() as db:
            _move(db, item_id, ("quarantined",), "pending")
            db.execute(
                "UPDATE items SET attempts = 0, crashes = 0, reason = NULL, started_at = NULL, finished_at = NULL,"
                " closed_at = NULL WHERE id = ?",
                (item_id,),
            )
            _audit(db, actor, "retried", item_id)

    def close_item(self, item_id: int, actor: str) -> None:
        """A person has done what an item in quarantine asked for: it no longer counts. Raises Stale where it is not
        there; its record, if it has one, goes on showing that there is no result."""
        with self.write() as db:
            _move(db, item_id, ("quarantined",), "quarantined")
            db.execute("UPDATE items SET closed_at = ? WHERE id = ?", (timestamp(), item_id))
            _audit(db, actor, "closed", item_id)

    def unexplained(self) -> list[Item]:
        """Items put aside because their worker died, so without a record. Each is returned once, ever."""
        with self.write() as db:
            items = _all(
                db,
                "SELECT * FROM items WHERE state = 'quarantined' AND attempts > 0 AND crashes <= ? AND NOT EXISTS"
                " (SELECT 1 FROM records WHERE item_id = items.id)",
                MAX_CRASHES,
            )
            for item in items:
                db.execute("UPDATE items SET crashes = ? WHERE id = ?", (MAX_CRASHES + 1, item.id))
            return items

    def explain(self, item_id: int, record: ScreeningRecord) -> None:
        """Gives a quarantined item the record (not analysed) that shows it beside the patient's other images."""
        with self.write() as db:
            if _item(db, item_id).state == "quarantined":
                _put_record(db, item_id, record, None)

    def uncounted(self, limit: int) -> list[Item]:
        """Screened objects of which nobody has looked how many pictures they hold: earlier releases saw one alone."""
        query = "SELECT * FROM items WHERE pictures IS NULL AND state = 'done' ORDER BY id LIMIT ?"
        return _all(self.db, query, limit)

    def count_pictures(self, item_id: int, pictures: int) -> None:
        """Keeps how many pictures a screened object holds; unless it is one, the object is screened again."""
        with self.write() as db:
            item = _item(db, item_id)
            if item.state != "done" or item.pictures is not None:
                return
            if pictures == 1:
                db.execute("UPDATE items SET pictures = 1 WHERE id = ?", (item_id,))
                return
            db.execute(
                "UPDATE items SET state = 'pending', attempts = 0, crashes = 0, finished_at = NULL WHERE id = ?",
                (item_id,),
            )
            _audit(db, "box", "screened again", item_id, f"{pictures} pictures, an earlier release saw the first")

    def recover(self) -> list[Item]:
        """Before anything else runs: what a dead process left half done.

        Temporary files go. What was being screened is pending again, or put aside (see MAX_ATTEMPTS): the whole box
        died, which is seldom the image's doing, so this does not count as the item's crash.
        """
        _remove_temporary_files(self.incoming)
        _remove_temporary_files(self.data_dir / "results")
        self._remove_expired_files(_all(self.db, "SELECT * FROM items WHERE state = 'expired'"))
        with self.write() as db:
            if self.bundle:
                db.execute(
                    "UPDATE OR IGNORE items SET bundle = ? WHERE state IN ('pending', 'screening')", (self.bundle,)
                )
            left = _all(db, "SELECT * FROM items WHERE state = 'screening'")
            for item in left:
                reason = f"was being screened when the box stopped ({item.attempts} attempts)"
                db.execute(
                    "UPDATE items SET state = 'pending', reason = ?, started_at = NULL WHERE id = ?", (reason, item.id)
                )
                if item.attempts >= MAX_ATTEMPTS:
                    _put_aside(db, item.id, reason, None)
                else:
                    _audit(db, "box", "recovered", item.id, reason)
            return [_item(db, item.id) for item in left]

    def expire(self, before: datetime) -> int:
        """Removes contents and results received, screened and delivered before a moment; returns how many.

        All three count, since the clock may have been wrong at one of them.
        Delivered whole: at least one delivery, and none that is pending or dead, of every picture of the object. A
        patient's day goes as a whole, too: what stays of it must not look better than all of it did. The identity of
        the item stays, so that it is not taken in and screened anew; so does the audit trail.
        """
        with self.write() as db:
            due = _all(
                db,
                "SELECT * FROM items WHERE state = 'done' AND max(received_at, finished_at) < ?1 AND EXISTS"
                " (SELECT 1 FROM deliveries WHERE item_id = items.id AND state = 'delivered') AND NOT EXISTS"
                " (SELECT 1 FROM deliveries WHERE item_id = items.id AND (state IN ('pending', 'dead')"
                " OR delivered_at >= ?1))",
                timestamp(before),
            )
            ids = {item.id for item in due}
            whole = "SELECT id FROM items WHERE object_id = ?"
            due = [item for item in due if ids.issuperset(row[0] for row in db.execute(whole, (item.object_id,)))]
            due = _whole_days(db, due)
            for item in due:
                expire_rows(db, item.id)
        self._remove_expired_files(due)
        return len(due)

    def _remove_expired_files(self, items: Iterable[Item]) -> None:
        for item in items:
            with self.write() as db:  # so that nobody takes it in again meanwhile
                if _item(db, item.id).state == "expired":
                    if not db.execute(
                        "SELECT 1 FROM items WHERE sha256 = ? AND extension = ? AND state <> 'expired'",
                        (item.sha256, item.extension),
                    ).fetchone():
                        self.object_path(item).unlink(missing_ok=True)
                    shutil.rmtree(self.data_dir / "results" / str(item.id), ignore_errors=True)

    def orphans(self) -> list[Path]:
        """Object files without an item, as a crash between rename and commit leaves them. None was acknowledged."""
        return [
            path
            for path in sorted((self.data_dir / "objects").glob("??/*.*"))
            if _one(self.db, "SELECT * FROM items WHERE sha256 = ? AND extension = ?", path.stem, path.suffix[1:])
            is None
        ]

    # ---- reading -----------------------------------------------------------------------------------------------

    def item(self, item_id: int) -> Item | None:
        return _one(self.db, "SELECT * FROM items WHERE id = ?", item_id)

    def items(
        self, state: ItemState | None = None, limit: int = 100, offset: int = 0, closed: bool = False
    ) -> list[Item]:
        """The latest first, in one state or in any; `closed`: those that a person closed instead of the others."""
        return _all(
            self.db,
            "SELECT * FROM items WHERE ? IN ('', state) AND (closed_at IS NOT NULL) = ?"
            " ORDER BY id DESC LIMIT ? OFFSET ?",
            state or "",
            closed,
            limit,
            offset,
        )

    def pictures(self, item: Item) -> list[Item]:
        """The pictures of the item's object, in order, for the item's bundle."""
        return _all(self.db, "SELECT * FROM items WHERE object_id = ? ORDER BY frame", item.object_id)

    def closed_by(self, item_id: int) -> str | None:
        """Who closed an item last."""
        row = self.db.execute(
            "SELECT actor FROM audit WHERE action = 'closed' AND item_id = ? ORDER BY id DESC LIMIT 1", (item_id,)
        ).fetchone()
        return None if row is None else str(row[0])

    def same_instance(self, item: Item) -> list[Item]:
        """Other items with the item's SOP Instance UID, and so with other contents."""
        where = "source = 'dicom' AND sop_instance_uid = ? AND sha256 <> ? AND frame = 1"
        query = f"SELECT * FROM items WHERE {where} ORDER BY id"
        return _all(self.db, query, item.sop_instance_uid, item.sha256)

    def record(self, item_id: int) -> Result | None:
        """The current record of an item."""
        return next(iter(self._results("records.item_id = ?", item_id)), None)

    def worklist(
        self, query: str = "", outcome: str | None = None, since: str = "", limit: int = 100, offset: int = 0
    ) -> list[Result]:
        """Results, worst first: by outcome, then by score, then the latest.

        Args:
            query: a part of the patient id or of the study date, in any case.
            since: ISO 8601; only what was screened at or after.
        """
        return self._results(
            "instr(lower(coalesce(patient_id, '') || ' ' || coalesce(study_date, '')), lower(?))"
            " AND ? IN ('', outcome) AND screened_at >= ?",
            query,
            outcome or "",
            since,
            order="rank, score DESC, screened_at DESC, item_id DESC",
            limit=limit,
            offset=offset,
        )

    def patient_records(self, patient_id: str) -> list[Result]:
        """Everything of one patient number, the latest visit first; `identity.persons` tells whose it is."""
        return self._results("patient_id = ?", patient_id, order="study_date DESC, item_id")

    def latest(self, limit: int) -> list[Result]:
        """The last results, the latest first."""
        return self._results("1", order="screened_at DESC, item_id DESC", limit=limit)

    def object_records(self, object_id: int) -> list[Result]:
        """The results of all pictures of one object."""
        return self._results("item_id IN (SELECT id FROM items WHERE object_id = ?)", object_id)

    def waiting_pictures(self) -> dict[int, int]:
        """{object: pictures} of opened objects, by the item of their first picture, whose other pictures have no
        record yet."""
        rows = self.db.execute(
            "SELECT object_id, count(*) FROM items WHERE frame > 1 AND state <> 'expired' AND NOT EXISTS"
            " (SELECT 1 FROM records WHERE item_id = items.id) GROUP BY object_id"
        )
        return {row[0]: row[1] for row in rows}

    def study_images(self, study_uid: str) -> list[Result]:
        """The results of one Study Instance UID, whatever patient they name."""
        return self._results("study_uid = ?", study_uid)

    def _results(
        self, where: str, *values: Any, order: str = "item_id", limit: int = -1, offset: int = 0
    ) -> list[Result]:
        rows = self.db.execute(
            "SELECT items.*, record, revision, score FROM"
            f" (SELECT * FROM records WHERE {where} ORDER BY {order} LIMIT {limit:d} OFFSET {offset:d})"
            f" AS records JOIN items ON items.id = item_id ORDER BY {order}",
            values,
        )
        return [Result(_from_row(Item, row), _record(row["record"]), row["revision"], row["score"]) for row in rows]

    def counts(self) -> Counts:
        db = self.db
        items = dict(db.execute("SELECT state, count(*) FROM items WHERE closed_at IS NULL GROUP BY state").fetchall())
        deliveries = dict(db.execute("SELECT state, count(*) FROM deliveries GROUP BY state").fetchall())
        [oldest] = db.execute("SELECT min(received_at) FROM items WHERE state IN ('pending', 'screening')").fetchone()
        query = "SELECT max(finished_at) FROM items WHERE state = 'done' AND finished_at <= ?"  # the clock may go back
        [last] = db.execute(query, (timestamp(),)).fetchone()
        return Counts(
            {state: items.get(state, 0) for state in ("pending", "screening", "done", "quarantined", "expired")},
            {state: deliveries.get(state, 0) for state in DELIVERY_STATES},
            None if oldest is None else seconds_since(oldest),
            last,
        )

    def changes(self) -> int:
        """A number that grows with every change of items, records, deliveries and reviews."""
        return int(self.db.execute("SELECT n FROM changes").fetchone()[0])

    # ---- people ------------------------------------------------------------------------------------------------

    def set_eye(self, item_id: int, eye: str, user: str) -> int:
        """An operator says which eye it is: a new revision of the record, which leaves again for every destination.

        Raises:
            RealMNetError: `eye` is not OD or OS, or there is no record.
        """
        if eye not in ("OD", "OS"):
            raise RealMNetError(f"The eye must be OD or OS. Received: {eye!r}")
        return self.revise(item_id, lambda record: replace(record, eye=eye, eye_source="operator"), user, ("eye", eye))

    def revise(
        self,
        item_id: int,
        change: Callable[[ScreeningRecord], ScreeningRecord],
        actor: str,
        review: tuple[str, str] | None = None,
    ) -> int:
        """Replaces a record by a changed one; returns its revision. Results that left before leave anew."""
        with self.write() as db:
            row = db.execute("SELECT record, score FROM records WHERE item_id = ?", (item_id,)).fetchone()
            if row is None:
                raise RealMNetError(f"item {item_id} has no record")
            revision = _put_record(db, item_id, change(_record(row["record"])), row["score"])
            sent = db.execute("SELECT DISTINCT destination, kind FROM deliveries WHERE item_id = ?", (item_id,))
            _put_deliveries(db, item_id, revision, [tuple(pair) for pair in sent.fetchall()])
            if review is not None:
                _review(db, item_id, actor, *review)
            _audit(db, actor, "revised", item_id, f"revision {revision}")
            return revision

    def warn(self, item_id: int, warnings: Sequence[str]) -> None:
        """Adds warnings to a record, if there is one and they are new, as a new revision."""
        result = self.record(item_id)
        if result is not None and not set(warnings) <= set(result.record.warnings):
            self.revise(item_id, lambda record: record.warned(warnings), "box")

    def unwarn(self, item_id: int, warning: str) -> None:
        """Takes a warning back that no longer holds, as a new revision, if the record has it."""
        result = self.record(item_id)
        if result is not None and warning in result.record.warnings:
            kept = tuple(each for each in result.record.warnings if each != warning)
            self.revise(item_id, lambda record: replace(record, warnings=kept), "box")

    def review(self, item_id: int, user: str, said: Mapping[str, str]) -> None:
        """Keeps what a person says about a result: its "agreement" (agree, disagree), a "note"; all of it or nothing.

        What is empty is left out.
        """
        with self.write() as db:
            for kind, value in said.items():
                if value:
                    _review(db, item_id, user, kind, value)

    def reviews(self, item_id: int) -> list[Review]:
        rows = self.db.execute("SELECT * FROM reviews WHERE item_id = ? ORDER BY id", (item_id,))
        return [_from_row(Review, row) for row in rows]

    def all_reviews(self) -> Iterator[sqlite3.Row]:
        """Every review, the oldest first, with the item's `sop_instance_uid`, `sha256` and its result as it is now."""
        yield from self.db.execute(
            "SELECT reviews.*, sop_instance_uid, sha256, outcome, revision FROM reviews"
            " JOIN items ON items.id = reviews.item_id LEFT JOIN records USING (item_id) ORDER BY reviews.id"
        )

    def trail(self, limit: int = -1, offset: int = 0) -> Iterator[sqlite3.Row]:
        """The audit trail, the latest first: at, actor, action, item_id, detail."""
        yield from self.db.execute("SELECT * FROM audit ORDER BY id DESC LIMIT ? OFFSET ?", (limit, offset))

    def audit(self, actor: str, action: str, item_id: int | None = None, detail: str = "") -> None:
        """Adds to the audit trail; no patient data in `detail`."""
        with self.write() as db:
            _audit(db, actor, action, item_id, detail)

    # ---- outbox ------------------------------------------------------------------------------------------------

    def next_delivery(
        self, now: datetime | None = None, destination: str | None = None, longest_wait: timedelta | None = None
    ) -> Delivery | None:
        """The delivery that a person asked for, else the one that has been due the longest, of one destination or any.

        Args:
            longest_wait: what waits for longer than that got its time from a clock that was ahead: it is due.
        """
        now = now or datetime.now(timezone.utc)
        values = {
            "destination": destination,
            "now": timestamp(now),
            "too_late": "9999" if longest_wait is None else timestamp(now + longest_wait),
        }
        where = "state = 'pending'" + ("" if destination is None else " AND destination = :destination")
        for due in ("urgent", "next_attempt_at <= :now", "next_attempt_at > :too_late"):  # each by its index
            row = self.db.execute(
                f"SELECT * FROM deliveries WHERE {where} AND {due} ORDER BY next_attempt_at, id LIMIT 1", values
            ).fetchone()
            if row is not None:
                return _from_row(Delivery, row)
        return None

    def is_urgent(self, destination: str) -> bool:
        """Whether a person asked to send something there now."""
        query = "SELECT 1 FROM deliveries WHERE state = 'pending' AND destination = ? AND urgent LIMIT 1"
        return self.db.execute(query, (destination,)).fetchone() is not None

    def not_urgent(self, destination: str) -> None:
        """The destination is away: what a person asked to send now waits its time again."""
        with self.write() as db:
            db.execute(
                "UPDATE deliveries SET urgent = 0 WHERE state = 'pending' AND destination = ? AND urgent",
                (destination,),
            )

    def give_up(self, accepted: Collection[tuple[str, str]]) -> dict[str, int]:
        """What waits for anything but these (destination, kind) becomes dead letters; {destination: how many}."""
        given_up: dict[str, int] = {}
        query = "SELECT DISTINCT destination, kind FROM deliveries WHERE state = 'pending'"
        for destination, kind in {tuple(row) for row in self.db.execute(query)} - set(accepted):
            known = any(destination == name for name, _ in accepted)
            reason = "the destination no longer takes this kind of result" if known else GONE
            with self.write() as db:
                number = db.execute(
                    "UPDATE deliveries SET state = 'dead', urgent = 0, last_error = ?"
                    " WHERE state = 'pending' AND destination = ? AND kind = ?",
                    (reason, destination, kind),
                ).rowcount
            given_up[destination] = given_up.get(destination, 0) + number
        return given_up

    def delivered(self, delivery_id: int) -> None:
        """It has arrived, also where it was superseded while it was on its way."""
        with self.write() as db:
            db.execute(
                "UPDATE deliveries SET state = 'delivered', attempts = attempts + 1, delivered_at = ?,"
                " last_error = NULL, urgent = 0 WHERE id = ? AND state IN ('pending', 'superseded')",
                (timestamp(), delivery_id),
            )

    def delivered_revision(self, item_id: int, kind: str, before: int) -> int | None:
        """The last revision before this one that arrived anywhere as this kind of result, if any did."""
        row = self.db.execute(
            "SELECT max(revision) FROM deliveries WHERE item_id = ? AND kind = ? AND revision < ?"
            " AND state = 'delivered'",
            (item_id, kind, before),
        ).fetchone()
        revision: int | None = row[0]
        return revision

    def delivery_failed(self, delivery_id: int, error: str, retry_at: datetime | None) -> None:
        """It has not arrived: another attempt at `retry_at`, or none (None: a dead letter, for a person to see)."""
        with self.write() as db:
            db.execute(
                "UPDATE deliveries SET attempts = attempts + 1, last_error = ?, state = ?, urgent = 0,"
                " next_attempt_at = coalesce(?, next_attempt_at) WHERE id = ? AND state = 'pending'",
                (error, "dead" if retry_at is None else "pending", retry_at and timestamp(retry_at), delivery_id),
            )

    def delivery(self, delivery_id: int) -> Delivery | None:
        row = self.db.execute("SELECT * FROM deliveries WHERE id = ?", (delivery_id,)).fetchone()
        return None if row is None else _from_row(Delivery, row)

    def redeliver(self, delivery_id: int, actor: str) -> bool:
        """Tries what waits or was given up at once; whether there was anything to try."""
        return self._redeliver(actor, f"delivery {delivery_id}", ("pending", "dead"), "id = ?", delivery_id) > 0

    def redeliver_all(self, destination: str, kinds: Sequence[str], state: str, actor: str) -> int:
        """Tries all results of some kinds that wait for a destination, or were given up, at once; returns how many."""
        where = f"destination = ? AND kind IN ({', '.join('?' * len(kinds))})"
        return self._redeliver(actor, f"all {state} of {destination}", (state,), where, destination, *kinds)

    def _redeliver(self, actor: str, detail: str, states: tuple[str, ...], where: str, *values: int | str) -> int:
        with self.write() as db:
            number = db.execute(
                "UPDATE deliveries SET attempts = iif(state = 'dead', 0, attempts), state = 'pending', urgent = 1"
                f" WHERE state IN ({', '.join('?' * len(states))}) AND {where}",
                (*states, *values),
            ).rowcount
            if number:
                _audit(db, actor, "redelivered", None, detail)
            return number

    def waiting_deliveries(self) -> list[Waiting]:
        """What waits, by destination."""
        now = datetime.now(timezone.utc)
        rows = self.db.execute(
            "SELECT destination, count(*) AS number, min(created_at) AS oldest, max(last_error) AS error"
            " FROM deliveries WHERE state = 'pending' GROUP BY destination"
        )
        return [
            Waiting(row["destination"], row["number"], seconds_since(row["oldest"], now), row["error"]) for row in rows
        ]

    def from_the_future(self, seconds: float) -> int:
        """How many of the images and results that wait bear a time further ahead: the clock has been set back."""
        [images], [results] = (
            self.db.execute(query, (timestamp(datetime.now(timezone.utc) + timedelta(seconds=seconds)),)).fetchone()
            for query in (
                "SELECT count(*) FROM items WHERE state IN ('pending', 'screening') AND received_at > ?",
                "SELECT count(*) FROM deliveries WHERE state = 'pending' AND created_at > ?",
            )
        )
        return int(images + results)

    def destinations(self) -> dict[str, dict[str, int]]:
        """{destination: {state: number of results}} of every destination that results were meant for."""
        found: dict[str, dict[str, int]] = {}
        for name, state, number in self.db.execute(
            "SELECT destination, state, count(*) FROM deliveries GROUP BY state, destination"
        ):
            found.setdefault(name, dict.fromkeys(DELIVERY_STATES, 0))[state] = number
        return found

    def last_deliveries(self) -> dict[str, str]:
        """{destination: when a result last arrived there}."""
        return dict(
            self.db.execute(
                "SELECT destination, max(delivered_at) FROM deliveries WHERE state = 'delivered' AND delivered_at <= ?"
                " GROUP BY destination",
                (timestamp(),),
            ).fetchall()
        )

    def last_received(self) -> dict[tuple[str, str], str]:
        """{(source, origin): when something last came from there}."""
        rows = self.db.execute(
            "SELECT source, origin, max(received_at) FROM items WHERE received_at <= ? GROUP BY source, origin",
            (timestamp(),),
        )
        return {(source, origin): at for source, origin, at in rows}

    def deliveries(
        self, item_id: int | None = None, state: str | None = None, limit: int = 100, offset: int = 0
    ) -> list[Delivery]:
        """The outbox, the latest first; of one item and in one state, or in any."""
        rows = self.db.execute(
            "SELECT * FROM deliveries WHERE coalesce(?, item_id) = item_id AND coalesce(?, state) = state"
            " ORDER BY id DESC LIMIT ? OFFSET ?",
            (item_id, state, limit, offset),
        )
        return [_from_row(Delivery, row) for row in rows]

    # ---- files of watched folders ------------------------------------------------------------------------------

    def has_seen(self, folder: str, path: str, size: int, modified_ns: int) -> bool:
        """Whether this very version of a file has become an item."""
        return (
            self.db.execute(
                "SELECT 1 FROM seen_files WHERE folder = ? AND path_sha256 = ? AND size = ? AND modified_ns = ?",
                (folder, _path_sha256(path), size, modified_ns),
            ).fetchone()
            is not None
        )

    def saw_file(self, folder: str, path: str, size: int, modified_ns: int, item_id: int) -> None:
        """The file, as it is now, has become an item. Its name is kept as long as the item's results are."""
        with self.write() as db:
            db.execute(
                "INSERT OR REPLACE INTO seen_files VALUES (?, ?, ?, ?, ?, ?)",
                (folder, _path_sha256(path), PurePath(path).name, size, modified_ns, item_id),
            )

    def names(self, item_id: int) -> list[str]:
        """Names of the files in watched folders that held an item's contents."""
        query = "SELECT name FROM seen_files WHERE item_id = (SELECT object_id FROM items WHERE id = ?)"
        return [row[0] for row in self.db.execute(query, (item_id,))]

    def saw_not_taken(self, folder: str, found: Collection[NotTaken]) -> None:
        """What a folder holds that is not taken, as it is now."""
        with self.write() as db:
            db.execute("DELETE FROM not_taken WHERE folder = ?", (folder,))
            for each in found:
                _insert(db, "not_taken", folder=folder, kind=each.kind, number=each.number, latest=each.latest)

    def not_taken(self) -> list[NotTaken]:
        """The same of all folders."""
        rows = self.db.execute("SELECT * FROM not_taken ORDER BY folder, number DESC, kind")
        return [_from_row(NotTaken, row) for row in rows]


def _object_path(data_dir: Path, sha256: str, extension: str) -> Path:
    return data_dir / "objects" / sha256[:2] / f"{sha256}.{extension}"


@contextmanager
def only_one(data_dir: Path) -> Iterator[None]:
    """Raises RealMNetError where a box works in this folder; a dead one does not count."""
    with (data_dir / "serve.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise RealMNetError(f"{data_dir}: another box is running in this folder") from None
        yield


def _whole_days(db: sqlite3.Connection, due: list[Item]) -> list[Item]:
    """Those of whose object, study, and patient's day nothing would stay."""
    together = (
        "SELECT other.item_id FROM records AS mine JOIN records AS other ON other.item_id = mine.item_id"
        " OR other.study_uid = mine.study_uid"
        " OR (other.patient_id = mine.patient_id AND other.study_date IS mine.study_date) WHERE mine.item_id = ?"
        " UNION SELECT id FROM items WHERE object_id = ?"
    )
    needed = {item.id: {row[0] for row in db.execute(together, (item.id, item.object_id))} for item in due}
    while True:
        ids = {item.id for item in due}
        whole = [item for item in due if needed[item.id] <= ids]
        if len(whole) == len(due):
            return whole
        due = whole


def expire_rows(db: sqlite3.Connection, item_id: int) -> None:
    """Removes what a data base says about an item, but for its identity and the audit trail."""
    for table in ("records", "deliveries", "reviews"):
        db.execute(f"DELETE FROM {table} WHERE item_id = ?", (item_id,))
    db.execute("UPDATE items SET state = 'expired', file_name = '' WHERE id = ?", (item_id,))
    db.execute("UPDATE seen_files SET name = '' WHERE item_id = ?", (item_id,))
    _audit(db, "box", "expired", item_id)


def timestamp(at: datetime | None = None) -> str:
    """A moment (now, by default) as the store writes it: ISO 8601, UTC, milliseconds; sorts as text."""
    return (at or datetime.now(timezone.utc)).astimezone(timezone.utc).isoformat(timespec="milliseconds")


def seconds_since(moment: str, now: datetime | None = None) -> float:
    """How long a stored moment is ago; 0 where it is still to come, since the clock has been set back."""
    return max(0.0, ((now or datetime.now(timezone.utc)) - datetime.fromisoformat(moment)).total_seconds())


def _insert(db: sqlite3.Connection, table: str, **values: Any) -> int:
    """Adds a row; returns its id."""
    marks = ", ".join("?" * len(values))
    cursor = db.execute(f"INSERT INTO {table} ({', '.join(values)}) VALUES ({marks})", tuple(values.values()))
    return cursor.lastrowid or 0


def _path_sha256(path: str) -> str:
    return hashlib.sha256(path.encode()).hexdigest()


Row = TypeVar("Row")


def _from_row(kind: type[Row], row: sqlite3.Row) -> Row:
    return kind(**{field.name: row[field.name] for field in fields(cast("Any", kind))})


def _all(db: sqlite3.Connection, query: str, *values: Any) -> list[Item]:
    return [_from_row(Item, row) for row in db.execute(query, values)]


def _remove_temporary_files(folder: Path) -> None:
    for file in folder.rglob(f"*{TEMPORARY}"):
        file.unlink(missing_ok=True)


def _one(db: sqlite3.Connection, query: str, *values: Any) -> Item | None:
    return next(iter(_all(db, query, *values)), None)


def _item(db: sqlite3.Connection, item_id: int) -> Item:
    item = _one(db, "SELECT * FROM items WHERE id = ?", item_id)
    if item is None:
        raise RealMNetError(f"there is no item {item_id}")
    return item


def _record(text: str) -> ScreeningRecord:
    return ScreeningRecord.from_dict(json.loads(text))


def _move(
    db: sqlite3.Connection, item_id: int, before: tuple[ItemState, ...], after: ItemState, attempt: int | None = None
) -> Item:
    """Changes an item's state; returns the item as it was. Raises Stale where it was not in the state `before`."""
    item = _item(db, item_id)
    if item.state not in before or attempt not in (None, item.attempts):
        asked = f"{' or '.join(before)}{'' if attempt is None else f' in attempt {attempt}'}"
        raise Stale(f"item {item_id} must be {asked}. Received: {item.state} in attempt {item.attempts}")
    finished = timestamp() if after in ("done", "quarantined") else None
    db.execute("UPDATE items SET state = ?, finished_at = ? WHERE id = ?", (after, finished, item_id))
    if after == "done":
        db.execute("UPDATE items SET reason = NULL WHERE id = ?", (item_id,))
    return item


def _put_aside(db: sqlite3.Connection, item_id: int, reason: str, record: ScreeningRecord | None) -> None:
    db.execute(
        "UPDATE items SET state = 'quarantined', reason = ?, finished_at = ? WHERE id = ?",
        (reason, timestamp(), item_id),
    )
    if record is not None:
        _put_record(db, item_id, record, None)
    _audit(db, "box", "quarantined", item_id)


def _put_record(db: sqlite3.Connection, item_id: int, record: ScreeningRecord, score: float | None) -> int:
    db.execute("UPDATE items SET revisions = revisions + 1 WHERE id = ?", (item_id,))
    [revision] = db.execute("SELECT revisions FROM items WHERE id = ?", (item_id,)).fetchone()
    db.execute("DELETE FROM records WHERE item_id = ?", (item_id,))
    item = _item(db, item_id)
    _put_pictures(db, item, record.pictures)
    _insert(
        db,
        "records",
        item_id=item_id,
        revision=revision,
        record=record.to_json(),
        outcome=record.outcome,
        rank=OUTCOMES.index(record.outcome),
        patient_id=record.patient_id,
        eye=record.eye,
        study_date=record.study_date,
        patient_name=record.patient_name,
        birth_date=record.birth_date,
        sex=record.sex,
        patient_id_issuer=record.patient_id_issuer,
        accession_number=record.accession_number,
        study_uid=item.study_uid or record.source.get("study_instance_uid"),
        screened_at=record.screened_at,
        score=score,
    )
    return int(revision)


def _put_pictures(db: sqlite3.Connection, item: Item, pictures: int) -> None:
    """Makes items of an object's other pictures, once it has been opened. None is lost behind the first one's result:
    they are there as soon as that is."""
    if item.pictures == pictures or item.frame > 1:
        return
    copied = "received_at, source, origin, sop_instance_uid, sop_class_uid, study_uid, sha256, extension, file_name"
    for frame in range(2, pictures + 1):
        db.execute(
            f"INSERT OR IGNORE INTO items ({copied}, bytes, bundle, object_id, frame, state)"
            f" SELECT {copied}, bytes, bundle, object_id, ?, 'pending' FROM items WHERE id = ?",
            (frame, item.id),
        )
    db.execute("UPDATE items SET pictures = ? WHERE object_id = ?", (pictures, item.object_id))
    if pictures > 1:
        _audit(db, "box", "opened", item.id, f"{pictures} pictures")


def _put_deliveries(db: sqlite3.Connection, item_id: int, revision: int, deliveries: Sequence[tuple[str, str]]) -> None:
    """Fills the outbox; what has not left of an earlier revision never will."""
    now = timestamp()
    db.execute(
        "UPDATE deliveries SET state = 'superseded' WHERE item_id = ? AND state IN ('pending', 'dead')", (item_id,)
    )
    for destination, kind in deliveries:
        _insert(
            db,
            "deliveries",
            item_id=item_id,
            destination=destination,
            kind=kind,
            revision=revision,
            next_attempt_at=now,
            created_at=now,
        )


def _review(db: sqlite3.Connection, item_id: int, user: str, kind: str, value: str) -> None:
    _insert(db, "reviews", item_id=item_id, at=timestamp(), user=user, kind=kind, value=value)
    _audit(db, user, "reviewed", item_id, kind)


def _audit(db: sqlite3.Connection, actor: str, action: str, item_id: int | None, detail: str = "") -> None:
    _insert(db, "audit", at=timestamp(), actor=actor, action=action, item_id=item_id, detail=detail)
