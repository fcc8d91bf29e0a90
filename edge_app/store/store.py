"""All that the box knows and keeps, as one object: a class per concept, put together.

A module per concept: what was taken in (`items`, `folders`), how it is screened (`queue`), results (`records`), how
many of which there are (`tallies`), what people say of them (`reviews`), what leaves (`outbox`), and what the box sets
right by itself (`upkeep`). Each has its data classes and a class of steps over `database.Database`; `Store` has the
steps of all. They are no parts of a store, as in `store.outbox.next()`, for there is one data base and one kind of
transaction, and a step may change several concepts in one: `finish` ends an item's screening, keeps its record and
fills the outbox. Such steps share functions that take the connection of the transaction under way (`put_record(db,
…)`). A module uses only those before it, in this order: database, items, folders, outbox, records, tallies, reviews,
queue, upkeep.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta, timezone

from edge_app.store.database import seconds_since, timestamp
from edge_app.store.folders import Folders
from edge_app.store.items import Items
from edge_app.store.outbox import DELIVERY_STATES, Outbox
from edge_app.store.queue import Queue
from edge_app.store.records import Records
from edge_app.store.reviews import Reviews
from edge_app.store.tallies import Tallies
from edge_app.store.upkeep import Upkeep

__all__ = ["Counts", "Store"]


@dataclass(frozen=True)
class Counts:
    """Numbers of items and deliveries by state (every state is there), in seconds and ISO 8601."""

    items: dict[str, int]
    deliveries: dict[str, int]
    oldest_pending_seconds: float | None
    last_success: str | None


class Store(Upkeep, Queue, Reviews, Tallies, Records, Outbox, Folders, Items):
    """What can be asked of a box's folder and data base, and done to them, by threads and processes: see `Database`."""

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
