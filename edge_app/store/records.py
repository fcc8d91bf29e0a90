"""Results: the record of each item, in revisions, and the questions that are asked about them.

`put_record` keeps a record within the transaction of the step that made it, and beside it, in columns, what is looked
for.
"""

import json
import sqlite3
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from edge_app.store.database import Database, from_row, insert, note
from edge_app.store.items import Item, get_item, put_pictures
from edge_app.store.outbox import put_deliveries
from keras_realmnet.errors import RealMNetError
from keras_realmnet.screening.record import ScreeningRecord
from keras_realmnet.tasks.rules import OUTCOMES

__all__ = ["Measured", "Records", "Result", "put_record", "put_revision"]

SENDERS = 10  # `measured` looks back for as many busy ones


@dataclass(frozen=True)
class Result:
    """The record of an item; `revision` counts from 1; `score`: see `Store.finish`."""

    item: Item
    record: ScreeningRecord
    revision: int
    score: float | None


@dataclass(frozen=True)
class Measured:
    """What is measured of a picture, and what came of it; nothing of whose it is.

    quality, distance: see `ScreeningRecord`; the latter is None where it was not analysed.
    """

    outcome: str
    distance: float | None
    quality: Mapping[str, float | None]


class Records(Database):
    """The results of all items."""

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
        return [Result(from_row(Item, row), _record(row["record"]), row["revision"], row["score"]) for row in rows]

    def waiting_results(self, objects: Collection[int] | None = None) -> dict[int, tuple[str, ...]]:
        """What is still to come of objects that have a result: {item with a record: bundles}, a bundle for each missing
        record, "" where it is not known. Of these objects, or of all.

        The item is one of the same picture or else of the object's first one that has a record.
        """
        of_these = "" if objects is None else " AND object_id IN (SELECT value FROM json_each(?))"
        first = (
            "(SELECT min(other.id) FROM items AS other JOIN records ON item_id = other.id"
            " WHERE other.object_id = items.object_id{})"
        )
        of_picture, of_object = first.format(" AND other.frame = items.frame"), first.format("")
        rows = self.db.execute(
            f"SELECT coalesce({of_picture}, {of_object}), bundle FROM items"
            f" WHERE state IN ('pending', 'screening', 'quarantined'){of_these} AND NOT EXISTS"
            " (SELECT 1 FROM records WHERE item_id = items.id) ORDER BY id",
            () if objects is None else (json.dumps(list(objects)),),
        )
        waiting: dict[int, tuple[str, ...]] = {}
        for host, bundle in rows:
            if host is not None:
                waiting[host] = (*waiting.get(host, ()), bundle)
        return waiting

    def bundles_to_come(self, item: Item) -> list[str]:
        """The bundles whose results of an item's picture are still to come."""
        rows = self.db.execute(
            "SELECT bundle FROM items WHERE object_id = ? AND frame = ? AND id <> ? AND bundle <> ''"
            " AND state <> 'expired' AND NOT EXISTS (SELECT 1 FROM records WHERE item_id = items.id) ORDER BY id",
            (item.object_id, item.frame, item.id),
        )
        return [row[0] for row in rows]

    def out_of_order(self) -> dict[str, int]:
        """{bundle: results} that are missing since the bundle is out of order."""
        rows = self.db.execute(
            "SELECT bundle, count(*) FROM items JOIN records ON item_id = items.id WHERE state = 'pending' AND missing"
            " GROUP BY bundle ORDER BY bundle"
        )
        return {row[0]: row[1] for row in rows}

    def measured(self, bundle_digest: str, number: int) -> dict[str, list[Measured]]:
        """{sender: its last pictures} that a bundle has screened, at most so many of each, in the order of receipt."""
        rows = self.db.execute(
            "SELECT * FROM (SELECT *, row_number() OVER (PARTITION BY sender ORDER BY item_id DESC) AS back FROM"
            " (SELECT records.*, iif(source = 'upload', 'uploads', source || ' ' || origin) AS sender FROM records"
            " JOIN items ON items.id = item_id WHERE bundle_digest = ? ORDER BY item_id DESC LIMIT ?))"
            " WHERE back <= ? ORDER BY item_id",
            (bundle_digest, SENDERS * number, number),
        )
        found: dict[str, list[Measured]] = {}
        for row in rows:
            pictures = found.setdefault(row["sender"], [])
            pictures.append(Measured(row["outcome"], row["distance"], json.loads(row["quality"])))
        return found

    def revise(self, item_id: int, change: Callable[[ScreeningRecord], ScreeningRecord], actor: str) -> int:
        """Replaces a record by a changed one; returns its revision. Results that left before leave anew."""
        with self.write() as db:
            revision = put_revision(db, item_id, change)
            note(db, actor, "revised", item_id, f"revision {revision}")
            return revision

    def warn(self, item_id: int, warnings: Sequence[str]) -> None:
        """Adds warnings to a record, if there is one and they are new, as a new revision."""
        result = self.record(item_id)
        if result is not None and not set(warnings) <= set(result.record.warnings):
            self.revise(item_id, lambda record: record.warned(warnings), "box")

    def withdraw_warning(self, item_id: int, warning: str) -> None:
        """Takes a warning back that no longer holds, as a new revision, if the record has it."""
        result = self.record(item_id)
        if result is not None and warning in result.record.warnings:
            kept = tuple(each for each in result.record.warnings if each != warning)
            self.revise(item_id, lambda record: replace(record, warnings=kept), "box")


def _record(text: str) -> ScreeningRecord:
    return ScreeningRecord.from_dict(json.loads(text))


def put_record(db: sqlite3.Connection, item_id: int, record: ScreeningRecord) -> int:
    """Makes a record the item's current one; returns its revision."""
    db.execute("UPDATE items SET revisions = revisions + 1 WHERE id = ?", (item_id,))
    db.execute("UPDATE OR IGNORE items SET bundle = ? WHERE id = ? AND bundle = ''", (record.bundle_name, item_id))
    [revision] = db.execute("SELECT revisions FROM items WHERE id = ?", (item_id,)).fetchone()
    db.execute("DELETE FROM records WHERE item_id = ?", (item_id,))
    item = get_item(db, item_id)
    put_pictures(db, item, record.pictures)
    document = record.to_dict()
    insert(
        db,
        "records",
        item_id=item_id,
        revision=revision,
        record=json.dumps(document, allow_nan=False),
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
        missing=record.missing,
        study_uid=item.study_uid or record.source.get("study_instance_uid"),
        screened_at=record.screened_at,
        score=record.score,
        bundle_digest=record.bundle_digest,
        distance=record.distance,
        quality=json.dumps(document["quality"]),
    )
    return int(revision)


def put_revision(db: sqlite3.Connection, item_id: int, change: Callable[[ScreeningRecord], ScreeningRecord]) -> int:
    """See `Records.revise`; who revised it, and why, is the caller's to note. Raises RealMNetError without a record."""
    row = db.execute("SELECT record FROM records WHERE item_id = ?", (item_id,)).fetchone()
    if row is None:
        raise RealMNetError(f"item {item_id} has no record")
    revision = put_record(db, item_id, change(_record(row["record"])))
    sent = db.execute("SELECT DISTINCT destination, kind FROM deliveries WHERE item_id = ?", (item_id,))
    put_deliveries(db, item_id, revision, [tuple(pair) for pair in sent.fetchall()])
    return revision
