"""What leaves: one delivery for each result, destination and kind, from its revision until it has arrived.

`put_deliveries` fills the outbox in the transaction that makes the revision, so no result is without its deliveries.
"""

import sqlite3
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import Literal

from edge_app.store.database import Database, from_row, insert, note, seconds_since, timestamp

__all__ = ["DELIVERY_STATES", "Delivery", "Outbox", "Waiting", "put_deliveries"]

DELIVERY_STATES = ("pending", "delivered", "dead", "superseded")
GONE = "the destination is no longer in the configuration"


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


class Outbox(Database):
    """The deliveries of all results."""

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
                return from_row(Delivery, row)
        return None

    def delivered(self, delivery_id: int) -> None:
        """It has arrived, also where it was superseded while it was on its way."""
        with self.write() as db:
            db.execute(
                "UPDATE deliveries SET state = 'delivered', attempts = attempts + 1, delivered_at = ?,"
                " last_error = NULL, urgent = 0 WHERE id = ? AND state IN ('pending', 'superseded')",
                (timestamp(), delivery_id),
            )

    def delivery_failed(self, delivery_id: int, error: str, retry_at: datetime | None) -> None:
        """It has not arrived: another attempt at `retry_at`, or none (None: a dead letter, for a person to see)."""
        with self.write() as db:
            db.execute(
                "UPDATE deliveries SET attempts = attempts + 1, last_error = ?, state = ?, urgent = 0,"
                " next_attempt_at = coalesce(?, next_attempt_at) WHERE id = ? AND state = 'pending'",
                (error, "dead" if retry_at is None else "pending", retry_at and timestamp(retry_at), delivery_id),
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
                note(db, actor, "redelivered", None, detail)
            return number

    def is_urgent(self, destination: str) -> bool:
        """Whether a person asked to send something there now."""
        query = "SELECT 1 FROM deliveries WHERE state = 'pending' AND destination = ? AND urgent LIMIT 1"
        return self.db.execute(query, (destination,)).fetchone() is not None

    def clear_urgent(self, destination: str) -> None:
        """The destination is away: what a person asked to send now waits its time again."""
        with self.write() as db:
            db.execute(
                "UPDATE deliveries SET urgent = 0 WHERE state = 'pending' AND destination = ? AND urgent",
                (destination,),
            )

    def delivery(self, delivery_id: int) -> Delivery | None:
        row = self.db.execute("SELECT * FROM deliveries WHERE id = ?", (delivery_id,)).fetchone()
        return None if row is None else from_row(Delivery, row)

    def deliveries(
        self, item_id: int | None = None, state: str | None = None, limit: int = 100, offset: int = 0
    ) -> list[Delivery]:
        """The outbox, the latest first; of one item and in one state, or in any."""
        rows = self.db.execute(
            "SELECT * FROM deliveries WHERE coalesce(?, item_id) = item_id AND coalesce(?, state) = state"
            " ORDER BY id DESC LIMIT ? OFFSET ?",
            (item_id, state, limit, offset),
        )
        return [from_row(Delivery, row) for row in rows]

    def delivered_revision(self, item_id: int, kind: str, before: int) -> int | None:
        """The last revision before this one that arrived anywhere as this kind of result, if any did."""
        row = self.db.execute(
            "SELECT max(revision) FROM deliveries WHERE item_id = ? AND kind = ? AND revision < ?"
            " AND state = 'delivered'",
            (item_id, kind, before),
        ).fetchone()
        revision: int | None = row[0]
        return revision

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

    def made_result(self, sop_instance_uid: str) -> None:
        """Notes the identity of a DICOM result before it leaves, so that it is known when it comes back."""
        with self.write() as db:
            db.execute("INSERT OR IGNORE INTO own_results VALUES (?)", (sop_instance_uid,))

    def is_own_result(self, sop_instance_uid: str) -> bool:
        """Whether a DICOM result of this box has that identity."""
        query = "SELECT 1 FROM own_results WHERE sop_instance_uid = ?"
        return self.db.execute(query, (sop_instance_uid,)).fetchone() is not None


def put_deliveries(db: sqlite3.Connection, item_id: int, revision: int, deliveries: Sequence[tuple[str, str]]) -> None:
    """Fills the outbox; what has not left of an earlier revision never will."""
    now = timestamp()
    db.execute(
        "UPDATE deliveries SET state = 'superseded' WHERE item_id = ? AND state IN ('pending', 'dead')", (item_id,)
    )
    for destination, kind in deliveries:
        insert(
            db,
            "deliveries",
            item_id=item_id,
            destination=destination,
            kind=kind,
            revision=revision,
            next_attempt_at=now,
            created_at=now,
        )
