"""The way of an item through screening: claimed, finished, given back, put aside, taken up again.

One life of an item: `add_item` (pending) → `claim` (screening) → `route` (to a bundle) → `finish` (done);
`await_bundle` keeps it for a bundle that is out of order, `quarantine` puts aside what cannot be screened, `retry`
takes it up again, `rescreen` brings it to a bundle that was added, `expire` keeps only its identity. Every step is one
transaction, synced to the disk before the call returns, and each demands the state before it: that is what "exactly
once" rests on.
"""

import json
import sqlite3
from collections.abc import Collection, Sequence

from edge_app.store.database import Database, note, timestamp
from edge_app.store.durable import remove_temporary_files
from edge_app.store.items import Item, ItemState, copy_item, find_items, get_item, withdraw_item
from edge_app.store.outbox import put_deliveries
from edge_app.store.records import put_record
from keras_realmnet.errors import RealMNetError
from keras_realmnet.screening.record import ScreeningRecord

__all__ = ["MAX_ATTEMPTS", "MAX_CRASHES", "Queue", "Stale", "quarantine_item"]

MAX_CRASHES = 3  # an item that failed so often on this machine, or killed its worker, is put aside
MAX_ATTEMPTS = 10  # as is one that was being screened each of so many times the whole box died


class Stale(RealMNetError):
    """A step that came too late: the item has left the state that the step starts from."""


class Queue(Database):
    """What is to be screened, is being screened, and could not be."""

    def claim(self, resting: Collection[str] = ()) -> Item | None:
        """The next item to screen, now in the state "screening".

        The oldest object comes first, its pictures one after the other, those that failed on this machine last.
        `resting`: bundles that are out of order; their items that have a record, which says so, wait.
        """
        waits = " AND NOT (bundle IN (SELECT value FROM json_each(?)) AND id IN (SELECT item_id FROM records))"
        with self.write() as db:
            row = db.execute(
                f"SELECT id FROM items WHERE state = 'pending'{waits if resting else ''}"
                " ORDER BY crashes, object_id, frame, id LIMIT 1",
                (json.dumps(list(resting)),) if resting else (),
            ).fetchone()
            if row is None:
                return None
            db.execute(
                "UPDATE items SET state = 'screening', attempts = attempts + 1, started_at = ? WHERE id = ?",
                (timestamp(), row[0]),
            )
            return get_item(db, row[0])

    def route(self, item_id: int, bundles: Sequence[str], attempt: int | None = None) -> Item | None:
        """A claimed item's picture goes to these bundles, at least one: it has an item for each from now on.

        The claimed one stays with its bundle, or goes to the first that has none yet; new ones are pending. It ends,
        and None is returned, where others have them all. Raises Stale where it is not being screened in this `attempt`.
        """
        with self.write() as db:
            item = _demand(db, item_id, ("screening",), attempt)
            others = db.execute(
                "SELECT bundle FROM items WHERE sha256 = ? AND sop_instance_uid IS ? AND frame = ? AND id <> ?",
                (item.sha256, item.sop_instance_uid, item.frame, item_id),
            )
            taken = {row[0] for row in others}
            free = [name for name in bundles if name not in taken]
            if not free:
                withdraw_item(db, item, f"its picture is for {', '.join(bundles)}, where it is already")
                return None
            mine = item.bundle if item.bundle in free else free[0]
            if mine != item.bundle:
                db.execute("UPDATE items SET bundle = ? WHERE id = ?", (mine, item_id))
            for name in free:
                if name != mine:
                    copy_item(db, item, item.frame, name)
            return get_item(db, item_id)

    def await_bundle(self, item_id: int, reason: str, record: ScreeningRecord, attempt: int | None = None) -> None:
        """A claimed item is pending until its bundle works again; until then `record` (not analysed) says why there is
        no result, unless there is an earlier one. Raises Stale where it is not being screened in this `attempt`."""
        with self.write() as db:
            _demand(db, item_id, ("screening",), attempt)
            db.execute(
                "UPDATE items SET state = 'pending', reason = ?, started_at = NULL WHERE id = ?", (reason, item_id)
            )
            if not db.execute("SELECT 1 FROM records WHERE item_id = ?", (item_id,)).fetchone():
                put_record(db, item_id, record)
            note(db, "worker", "waits", item_id, reason)

    def rescreen(self, bundle: str, since: str = "", actor: str = "box") -> int:
        """Brings what was screened before a bundle was added to it; returns how many pictures wait for that now.

        A picture that no other bundle takes for one of its kind is screened again, and may find its bundle; any other
        has an item for this one, which ends if it is not of its kind (see `route`).

        Args:
            since: ISO 8601; only what was received at or after.
        """
        with self.write() as db:
            found = find_items(
                db,
                "SELECT * FROM items WHERE state = 'done' AND received_at >= ? AND NOT EXISTS (SELECT 1 FROM items AS"
                " other WHERE other.object_id = items.object_id AND other.frame = items.frame AND"
                " (other.bundle = ? OR other.state IN ('pending', 'screening'))) ORDER BY id",
                since,
                bundle,
            )
            pictures = {(item.object_id, item.frame): item for item in found}
            for item in pictures.values():
                if db.execute(
                    "SELECT 1 FROM records WHERE item_id = ? AND outcome = 'not_analysed'", (item.id,)
                ).fetchone():
                    db.execute(
                        "UPDATE items SET state = 'pending', attempts = 0, crashes = 0, finished_at = NULL"
                        " WHERE id = ?",
                        (item.id,),
                    )
                else:
                    copy_item(db, item, item.frame, bundle)
            note(db, actor, "rescreened", None, f"{len(pictures)} pictures, for {bundle}")
            return len(pictures)

    def finish(
        self,
        item_id: int,
        record: ScreeningRecord,
        deliveries: Sequence[tuple[str, str]] = (),
        attempt: int | None = None,
    ) -> int:
        """Result, state and outbox in one transaction; returns the revision.

        Args:
            deliveries: (destination, kind) of every result that is to leave.
            attempt: `Item.attempts` as claimed: a worker that was given up but lives on cannot finish.

        Raises:
            Stale: the item is not being screened (in this attempt).
        """
        with self.write() as db:
            _move(db, item_id, ("screening",), "done", attempt)
            revision = put_record(db, item_id, record)
            put_deliveries(db, item_id, revision, deliveries)
            note(db, "worker", "screened", item_id, f"{record.outcome}, revision {revision}")
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
        remove_temporary_files(self.data_dir / "results" / str(item_id))
        with self.write() as db:
            item = _move(db, item_id, ("screening",), "pending", attempt)
            db.execute(
                "UPDATE items SET crashes = crashes + ?, reason = ?, started_at = NULL WHERE id = ?",
                (int(crashed), reason, item_id),
            )
            if item.crashes + crashed >= MAX_CRASHES:
                quarantine_item(db, item_id, reason, record)
            else:
                note(db, "worker", "released", item_id, reason)
            return get_item(db, item_id)

    def quarantine(
        self, item_id: int, reason: str, record: ScreeningRecord | None = None, attempt: int | None = None
    ) -> None:
        """Puts a pending or claimed item aside; `record` (not analysed) shows it beside the patient's other images.

        Raises Stale where the item is done, or not in this `attempt`.
        """
        with self.write() as db:
            _move(db, item_id, ("pending", "screening"), "quarantined", attempt)
            quarantine_item(db, item_id, reason, record)

    def retry(self, item_id: int, actor: str) -> None:
        """Takes an item out of quarantine, with a clean slate. Raises Stale where it is not there."""
        with self.write() as db:
            _move(db, item_id, ("quarantined",), "pending")
            db.execute(
                "UPDATE items SET attempts = 0, crashes = 0, reason = NULL, started_at = NULL, finished_at = NULL,"
                " closed_at = NULL WHERE id = ?",
                (item_id,),
            )
            note(db, actor, "retried", item_id)

    def close_item(self, item_id: int, actor: str) -> None:
        """A person has done what an item in quarantine asked for: it no longer counts. Raises Stale where it is not
        there; its record, if it has one, goes on showing that there is no result."""
        with self.write() as db:
            _move(db, item_id, ("quarantined",), "quarantined")
            db.execute("UPDATE items SET closed_at = ? WHERE id = ?", (timestamp(), item_id))
            note(db, actor, "closed", item_id)

    def closed_by(self, item_id: int) -> str | None:
        """Who closed an item last."""
        row = self.db.execute(
            "SELECT actor FROM audit WHERE action = 'closed' AND item_id = ? ORDER BY id DESC LIMIT 1", (item_id,)
        ).fetchone()
        return None if row is None else str(row[0])

    def killed_items(self) -> list[Item]:
        """Items put aside because their worker died, so without a record. Each is returned once, ever."""
        with self.write() as db:
            items = find_items(
                db,
                "SELECT * FROM items WHERE state = 'quarantined' AND attempts > 0 AND crashes <= ? AND NOT EXISTS"
                " (SELECT 1 FROM records WHERE item_id = items.id)",
                MAX_CRASHES,
            )
            for item in items:
                db.execute("UPDATE items SET crashes = ? WHERE id = ?", (MAX_CRASHES + 1, item.id))
            return items

    def record_failure(self, item_id: int, record: ScreeningRecord) -> None:
        """Gives a quarantined item the record (not analysed) that shows it beside the patient's other images."""
        with self.write() as db:
            if get_item(db, item_id).state == "quarantined":
                put_record(db, item_id, record)

    def uncounted(self, limit: int) -> list[Item]:
        """Screened objects of which nobody has looked how many pictures they hold: earlier releases saw one alone."""
        query = "SELECT * FROM items WHERE pictures IS NULL AND state = 'done' ORDER BY id LIMIT ?"
        return find_items(self.db, query, limit)

    def count_pictures(self, item_id: int, pictures: int) -> None:
        """Keeps how many pictures a screened object holds; unless it is one, the object is screened again."""
        with self.write() as db:
            item = get_item(db, item_id)
            if item.state != "done" or item.pictures is not None:
                return
            if pictures == 1:
                db.execute("UPDATE items SET pictures = 1 WHERE id = ?", (item_id,))
                return
            db.execute(
                "UPDATE items SET state = 'pending', attempts = 0, crashes = 0, finished_at = NULL WHERE id = ?",
                (item_id,),
            )
            note(db, "box", "screened again", item_id, f"{pictures} pictures, an earlier release saw the first")


def _demand(db: sqlite3.Connection, item_id: int, states: tuple[ItemState, ...], attempt: int | None = None) -> Item:
    """The item. Raises Stale where it is in none of the states, in this `attempt`, if one is named."""
    item = get_item(db, item_id)
    if item.state not in states or attempt not in (None, item.attempts):
        asked = f"{' or '.join(states)}{'' if attempt is None else f' in attempt {attempt}'}"
        raise Stale(f"item {item_id} must be {asked}. Received: {item.state} in attempt {item.attempts}")
    return item


def _move(
    db: sqlite3.Connection, item_id: int, before: tuple[ItemState, ...], after: ItemState, attempt: int | None = None
) -> Item:
    """Changes an item's state; returns the item as it was. Raises Stale where it was not in the state `before`."""
    item = _demand(db, item_id, before, attempt)
    finished = timestamp() if after in ("done", "quarantined") else None
    db.execute("UPDATE items SET state = ?, finished_at = ? WHERE id = ?", (after, finished, item_id))
    if after == "done":
        db.execute("UPDATE items SET reason = NULL WHERE id = ?", (item_id,))
    return item


def quarantine_item(db: sqlite3.Connection, item_id: int, reason: str, record: ScreeningRecord | None) -> None:
    """An item goes into quarantine, with its reason and, where there is one, the record that shows it."""
    db.execute(
        "UPDATE items SET state = 'quarantined', reason = ?, finished_at = ? WHERE id = ?",
        (reason, timestamp(), item_id),
    )
    if record is not None:
        put_record(db, item_id, record)
    note(db, "box", "quarantined", item_id)
