"""What the box sets right by itself: after a crash (`recover`, `orphans`), and by age (`expire`).

The files of what has expired go after the transaction that says so; what a crash in between leaves, `recover` removes.
"""

import json
import shutil
import sqlite3
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path

from edge_app.store.database import note, timestamp
from edge_app.store.durable import remove_temporary_files
from edge_app.store.items import Item, Items, find_item, find_items, get_item, withdraw_item
from edge_app.store.queue import MAX_ATTEMPTS, quarantine_item

__all__ = ["Upkeep", "expire_rows"]


class Upkeep(Items):
    """Recovery and removal by age, of items and their files."""

    def recover(self) -> list[Item]:
        """Before anything else runs: what a dead process left half done.

        Temporary files go. What was being screened is pending again, or put aside (see MAX_ATTEMPTS): the whole box
        died, which is seldom the image's doing, so this does not count as the item's crash.
        """
        remove_temporary_files(self.incoming)
        remove_temporary_files(self.data_dir / "results")
        self._remove_expired_files(find_items(self.db, "SELECT * FROM items WHERE state = 'expired'"))
        with self.write() as db:
            if self.bundles:
                self._close_removed(db)
            left = find_items(db, "SELECT * FROM items WHERE state = 'screening'")
            for item in left:
                reason = f"was being screened when the box stopped ({item.attempts} attempts)"
                db.execute(
                    "UPDATE items SET state = 'pending', reason = ?, started_at = NULL WHERE id = ?", (reason, item.id)
                )
                if item.attempts >= MAX_ATTEMPTS:
                    quarantine_item(db, item.id, reason, None)
                else:
                    note(db, "box", "recovered", item.id, reason)
            return [get_item(db, item.id) for item in left]

    def _close_removed(self, db: sqlite3.Connection) -> None:
        """What waits for a bundle that is gone: it ends where its picture has another item, else it waits for the
        bundles of today."""
        today = json.dumps(self.bundles)
        waiting = find_items(
            db,
            "SELECT * FROM items WHERE state IN ('pending', 'screening')"
            " AND bundle NOT IN (SELECT value FROM json_each(?)) ORDER BY bundle = '', id",
            today,
        )
        for item in waiting:
            twin = db.execute(
                "SELECT 1 FROM items WHERE object_id = ? AND frame = ? AND id <> ?"
                " AND (bundle = '' OR bundle IN (SELECT value FROM json_each(?)))",
                (item.object_id, item.frame, item.id, today),
            ).fetchone()
            name = self.bundles[0] if len(self.bundles) == 1 else ""
            moved = (
                twin is None
                and db.execute("UPDATE OR IGNORE items SET bundle = ? WHERE id = ?", (name, item.id)).rowcount
            )
            if not moved:
                self._close_removed_item(db, item)

    @staticmethod
    def _close_removed_item(db: sqlite3.Connection, item: Item) -> None:
        record = db.execute("SELECT missing FROM records WHERE item_id = ?", (item.id,)).fetchone()
        reason = f"its bundle {item.bundle} was removed from the settings"
        if record is None or record["missing"]:
            withdraw_item(db, item, reason)
        else:  # it was to be screened again: its result stands
            db.execute("UPDATE items SET state = 'done', finished_at = ? WHERE id = ?", (timestamp(), item.id))
            note(db, "box", "closed", item.id, reason)

    def orphans(self) -> list[Path]:
        """Object files without an item, as a crash between rename and commit leaves them. None was acknowledged."""
        return [
            path
            for path in sorted((self.data_dir / "objects").glob("??/*.*"))
            if find_item(self.db, "SELECT * FROM items WHERE sha256 = ? AND extension = ?", path.stem, path.suffix[1:])
            is None
        ]

    def expire(self, before: datetime) -> int:
        """Removes contents and results received, screened and delivered before a moment; returns how many.

        All three count, since the clock may have been wrong at one of them.
        Delivered whole: at least one delivery, and none that is pending or dead, of every picture of the object. A
        patient's day goes as a whole, too: what stays of it must not look better than all of it did. The identity of
        the item stays, so that it is not taken in and screened anew; so does the audit trail.
        """
        with self.write() as db:
            due = find_items(
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
                if get_item(db, item.id).state == "expired":
                    if not db.execute(
                        "SELECT 1 FROM items WHERE sha256 = ? AND extension = ? AND state <> 'expired'",
                        (item.sha256, item.extension),
                    ).fetchone():
                        self.object_path(item).unlink(missing_ok=True)
                    shutil.rmtree(self.data_dir / "results" / str(item.id), ignore_errors=True)


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
    note(db, "box", "expired", item_id)
