"""What people say about results: which eye it is, whether they agree, and notes."""

import sqlite3
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Literal

from edge_app.store.database import Database, from_row, insert, note, timestamp
from edge_app.store.records import put_revision
from keras_realmnet.errors import RealMNetError

__all__ = ["Review", "Reviews"]


@dataclass(frozen=True)
class Review:
    """What a person said about a result. `kind`: "eye" (OD, OS), "agreement" (agree, disagree) or "note"."""

    id: int
    item_id: int
    at: str
    user: str
    kind: Literal["eye", "agreement", "note"]
    value: str


class Reviews(Database):
    """What people said about all results."""

    def set_eye(self, item_id: int, eye: str, user: str) -> int:
        """An operator says which eye it is: a new revision of the record, which leaves again for every destination, and
        of those of other bundles for the same picture. Returns that of the item.

        Raises:
            RealMNetError: `eye` is not OD or OS, or there is no record.
        """
        if eye not in ("OD", "OS"):
            raise RealMNetError(f"The eye must be OD or OS. Received: {eye!r}")
        with self.write() as db:
            revision = _put_eye(db, item_id, eye, user)
            _review(db, item_id, user, "eye", eye)
            others = db.execute(
                "SELECT other.id FROM items JOIN items AS other USING (object_id, frame) JOIN records ON"
                " item_id = other.id WHERE items.id = ? AND other.id <> items.id",
                (item_id,),
            )
            for other in others.fetchall():
                _put_eye(db, other[0], eye, user)
            return revision

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
        return [from_row(Review, row) for row in rows]

    def all_reviews(self) -> Iterator[sqlite3.Row]:
        """Every review, the oldest first, with the item's `sop_instance_uid`, `sha256` and its result as it is now."""
        yield from self.db.execute(
            "SELECT reviews.*, sop_instance_uid, sha256, outcome, revision FROM reviews"
            " JOIN items ON items.id = reviews.item_id LEFT JOIN records USING (item_id) ORDER BY reviews.id"
        )


def _put_eye(db: sqlite3.Connection, item_id: int, eye: str, user: str) -> int:
    revision = put_revision(db, item_id, lambda record: replace(record, eye=eye, eye_source="operator"))
    note(db, user, "revised", item_id, f"revision {revision}")
    return revision


def _review(db: sqlite3.Connection, item_id: int, user: str, kind: str, value: str) -> None:
    insert(db, "reviews", item_id=item_id, at=timestamp(), user=user, kind=kind, value=value)
    note(db, user, "reviewed", item_id, kind)
