"""What the box took in: received objects, their bytes, and the items that their pictures become.

An item is one picture of a received object, screened by one bundle: an object that holds several pictures becomes as
many items once its first has been opened, and each of these as many as there are bundles for its kind of picture once
it has been decoded (`Queue.route`). The bytes are durable first (`keep_object`), then the item tells of them
(`add_item`); what comes again is known again. `queue` tells how an item goes on.
"""

import hashlib
import json
import sqlite3
from collections.abc import Iterable, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from edge_app.store.database import Database, from_row, insert, note, timestamp
from edge_app.store.durable import make_folder, move_durably, temporary_file
from keras_realmnet.errors import RealMNetError

__all__ = [
    "Dropped",
    "Incoming",
    "Item",
    "ItemState",
    "Items",
    "Source",
    "copy_item",
    "find_item",
    "find_items",
    "get_item",
    "put_pictures",
    "withdraw_item",
]

Source = Literal["dicom", "folder"]
ItemState = Literal["pending", "screening", "done", "quarantined", "expired"]

DROPPED = "received and dropped"  # in the audit trail; so is what follows, between kind and sender
FROM = ", from "


@dataclass(frozen=True)
class Item:
    """One picture of a received object.

    object_id: the item that stands for the object, one of its first picture. frame: which picture it is, from 1.
    pictures: how many there are; None until the object has been opened. bundle: name of the bundle that screens it; ""
    until that is known.
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
        path = object_path(self._data_dir, sha256, extension)
        make_folder(path.parent)
        move_durably(self.file, path)
        return sha256, self.size

    def close(self) -> None:
        self._stack.close()


class Items(Database):
    """Received objects and their items."""

    def object_path(self, item: Item) -> Path:
        """The received bytes, exactly as they came."""
        return object_path(self.data_dir, item.sha256, item.extension)

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
            known = self._known(db, source, sop_instance_uid, sha256)
            if known is not None:
                if known.state != "expired" or source == "folder":
                    return known, False
                return self._take_in_again(db, known, source, origin, file_name, now), True
            twin = source == "dicom" and _twin(db, sop_instance_uid, sha256)
            item_id = insert(
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
                reason=f"the same SOP Instance UID as item {twin}, with other contents" if twin else None,
                bundle=_only(self.bundles),
            )
            db.execute("UPDATE items SET object_id = id WHERE id = ?", (item_id,))
            note(db, source, "quarantined" if twin else "received", item_id, origin)
            return get_item(db, item_id), True

    def _known(self, db: sqlite3.Connection, source: Source, uid: str | None, sha256: str) -> Item | None:
        """The item that what arrives has already, for one of these bundles or before that is known."""
        names = json.dumps([*self.bundles, ""]) if self.bundles else None
        same = "frame = 1 AND (?2 IS NULL OR bundle IN (SELECT value FROM json_each(?2))) ORDER BY id LIMIT 1"
        if source == "dicom":
            query = "source = 'dicom' AND sha256 = ?1 AND sop_instance_uid = ?3"
            return find_item(db, f"SELECT * FROM items WHERE {query} AND {same}", sha256, names, uid)
        return find_item(db, f"SELECT * FROM items WHERE source <> 'dicom' AND sha256 = ?1 AND {same}", sha256, names)

    def _take_in_again(
        self, db: sqlite3.Connection, known: Item, source: Source, origin: str, file_name: str, now: str
    ) -> Item:
        """What was removed by age is pending again, all pictures of the object, for all bundles."""
        if not self.object_path(known).exists():  # removed by age between `keep_object` and now
            raise OSError(f"the contents of item {known.id} were just removed: send it again")
        db.execute(
            "UPDATE items SET state = 'pending', received_at = ?, file_name = ?, attempts = 0, crashes = 0,"
            " reason = NULL, started_at = NULL, finished_at = NULL WHERE object_id = ?",  # expired as a whole
            (now, file_name, known.object_id),
        )
        note(db, source, "received again", known.id, origin)
        return get_item(db, known.id)

    def drop_object(self, kind: str, origin: str) -> None:
        """Notes, durably, an object that is received and not kept. `kind`: what it is, without patient data."""
        with self.write() as db:
            note(db, "dicom", DROPPED, None, f"{kind}{FROM}{origin}")

    def dropped(self) -> list[Dropped]:
        """What was received and dropped, by kind and sender, the latest first."""
        rows = self.db.execute(
            "SELECT detail, count(*), max(at) FROM audit WHERE action = ? GROUP BY detail ORDER BY 3 DESC", (DROPPED,)
        )
        split = ((*detail.partition(FROM), number, latest) for detail, number, latest in rows)
        return [Dropped(kind, origin, number, latest) for kind, _, origin, number, latest in split]

    def item(self, item_id: int) -> Item | None:
        return find_item(self.db, "SELECT * FROM items WHERE id = ?", item_id)

    def items(
        self, state: ItemState | None = None, limit: int = 100, offset: int = 0, closed: bool = False
    ) -> list[Item]:
        """The latest first, in one state or in any; `closed`: those that a person closed instead of the others."""
        return find_items(
            self.db,
            "SELECT * FROM items WHERE ? IN ('', state) AND (closed_at IS NOT NULL) = ?"
            " ORDER BY id DESC LIMIT ? OFFSET ?",
            state or "",
            closed,
            limit,
            offset,
        )

    def pictures(self, item: Item) -> list[Item]:
        """The pictures of the item's object, in order: each for the item's bundle if that screens it."""
        query = "SELECT * FROM items WHERE object_id = ? ORDER BY bundle = ?, id DESC"
        of_frame = {each.frame: each for each in find_items(self.db, query, item.object_id, item.bundle)}
        return [of_frame[frame] for frame in sorted(of_frame)]

    def same_instance(self, item: Item) -> list[Item]:
        """Other items with the item's SOP Instance UID, and so with other contents."""
        where = "source = 'dicom' AND sop_instance_uid = ? AND sha256 <> ? AND id = object_id"
        query = f"SELECT * FROM items WHERE {where} ORDER BY id"
        return find_items(self.db, query, item.sop_instance_uid, item.sha256)

    def last_received(self) -> dict[tuple[str, str], str]:
        """{(source, origin): when something last came from there}."""
        rows = self.db.execute(
            "SELECT source, origin, max(received_at) FROM items WHERE received_at <= ? GROUP BY source, origin",
            (timestamp(),),
        )
        return {(source, origin): at for source, origin, at in rows}


def object_path(data_dir: Path, sha256: str, extension: str) -> Path:
    """Where bytes lie that are named by their contents."""
    return data_dir / "objects" / sha256[:2] / f"{sha256}.{extension}"


def _only(bundles: Sequence[str]) -> str:
    """The bundle that screens whatever comes, where there is one alone; "" where the picture decides."""
    return bundles[0] if len(bundles) == 1 else ""


def find_items(db: sqlite3.Connection, query: str, *values: Any) -> list[Item]:
    """The items that a query over all their columns finds."""
    return [from_row(Item, row) for row in db.execute(query, values)]


def find_item(db: sqlite3.Connection, query: str, *values: Any) -> Item | None:
    """The first of them, if there is one."""
    return next(iter(find_items(db, query, *values)), None)


def _twin(db: sqlite3.Connection, sop_instance_uid: str | None, sha256: str) -> int | None:
    """The item that has the same SOP Instance UID and other contents, if there is one."""
    row = db.execute(
        "SELECT id FROM items WHERE source = 'dicom' AND sop_instance_uid = ? AND sha256 <> ?",
        (sop_instance_uid, sha256),
    ).fetchone()
    return None if row is None else int(row[0])


def get_item(db: sqlite3.Connection, item_id: int) -> Item:
    """An item by its number. Raises RealMNetError where there is none."""
    item = find_item(db, "SELECT * FROM items WHERE id = ?", item_id)
    if item is None:
        raise RealMNetError(f"there is no item {item_id}")
    return item


def put_pictures(db: sqlite3.Connection, item: Item, pictures: int) -> None:
    """Makes items of an object's other pictures, once it has been opened. None is lost behind the first one's result:
    they are there as soon as that is."""
    if item.pictures == pictures or item.frame > 1:
        return
    known = {row[0] for row in db.execute("SELECT frame FROM items WHERE object_id = ?", (item.object_id,))}
    for frame in range(2, pictures + 1):
        if frame not in known:
            copy_item(db, item, frame, item.bundle)
    db.execute("UPDATE items SET pictures = ? WHERE object_id = ?", (pictures, item.object_id))
    if pictures > 1:
        note(db, "box", "opened", item.id, f"{pictures} pictures")


def copy_item(db: sqlite3.Connection, item: Item, frame: int, bundle: str) -> None:
    """Another item of an item's object, pending, unless the same contents have it: of this picture, for this bundle."""
    copied = "received_at, source, origin, sop_instance_uid, sop_class_uid, study_uid, sha256, extension, file_name"
    db.execute(
        f"INSERT OR IGNORE INTO items ({copied}, bytes, object_id, pictures, frame, bundle, state)"
        f" SELECT {copied}, bytes, object_id, pictures, ?, ?, 'pending' FROM items WHERE id = ?",
        (frame, bundle, item.id),
    )


def withdraw_item(db: sqlite3.Connection, item: Item, reason: str) -> None:
    """Ends an item that waits for a bundle and has no result: other items have its picture, or go on without it.

    One of its object's first picture that stands for the object hands that over.
    """
    heir = find_item(
        db,
        "SELECT * FROM items WHERE object_id = ? AND frame = ? AND id <> ? ORDER BY id LIMIT 1",
        item.object_id,
        item.frame,
        item.id,
    )
    note(db, "box", "closed", item.id, reason)
    if heir is None:  # the same contents came twice, for different bundles: they are known by the other item
        db.execute(
            "UPDATE items SET state = 'quarantined', reason = ?, closed_at = ? WHERE id = ?",
            (reason, timestamp(), item.id),
        )
        return
    if item.id == item.object_id:
        db.execute("UPDATE items SET object_id = ? WHERE object_id = ?", (heir.id, item.id))
        db.execute("UPDATE seen_files SET item_id = ? WHERE item_id = ?", (heir.id, item.id))
    for table in ("records", "deliveries", "reviews"):  # a record that says that there is no result
        db.execute(f"DELETE FROM {table} WHERE item_id = ?", (item.id,))
    db.execute("DELETE FROM items WHERE id = ?", (item.id,))
