"""What became of pictures, counted by week, sender and bundle: numbers alone, nothing about a patient."""

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta

from edge_app.store.database import Database, timestamp
from edge_app.store.items import DROPPED, FROM
from keras_realmnet.screening.causes import UNDECIDED, UNGRADABLE, cause

__all__ = ["OTHER_FATES", "Tallies", "Tally", "monday"]

# What a picture may be beside an outcome or a missing result, in words; the order is that of the page.
OTHER_FATES = {
    "waiting": "waiting to be screened",
    "quarantined": "in quarantine without a result",
    "expired": "removed by age",
    "dropped": "received and dropped, no picture",
}
FATE = (
    "CASE WHEN record IS NULL AND state IN ('pending', 'screening') THEN 'waiting' WHEN record IS NULL THEN state"
    " WHEN missing THEN 'missing' ELSE outcome END"
)
WEEK = "date({}, 'localtime', 'weekday 0', '-6 days')"  # its Monday
ITEMS = f"SELECT {WEEK.format('received_at')} AS week, source, origin, bundle, {FATE} AS fate"
BETWEEN = "{0} >= ?1 AND {0} < ?2"


@dataclass
class Tally:
    """What became of the pictures that one sender sent in one week, as one bundle saw them.

    week: its Monday, ISO 8601, in local time. source, origin: as of `Item`. bundle: "" where it is not known (yet).
    fates: {outcome, "missing" or one of OTHER_FATES: pictures}. causes: {`causes.cause`: pictures} of those that have
    no decision; a picture with several reasons counts once for each of them.
    """

    week: str
    source: str
    origin: str
    bundle: str
    fates: Counter[str] = field(default_factory=Counter)
    causes: Counter[str] = field(default_factory=Counter)

    @property
    def finished(self) -> int:
        """Pictures that are at their end: with a result, without one though it was due, or in quarantine."""
        return sum(number for fate, number in self.fates.items() if fate not in ("waiting", "expired", "dropped"))

    @property
    def decided(self) -> int:
        """Those with an answer that decides: all finished ones but the uncertain, the ungradable, the missing, and
        those in quarantine."""
        return self.finished - sum(self.fates[fate] for fate in (*UNDECIDED, "missing", "quarantined"))

    @property
    def retakes(self) -> int:
        """Those that are to be taken again, since they show too little."""
        return self.fates[UNGRADABLE[0]]


class Tallies(Database):
    """Counts over items, records and the audit trail."""

    def tallies(self, first: date, end: date) -> list[Tally]:
        """Of what was received from the Monday `first` on and before the Monday `end`, the latest week first."""
        found: dict[tuple[str, str, str, str], Tally] = {}
        values = _begin(first), _begin(end)

        def tally(week: str, source: str, origin: str, bundle: str) -> Tally:
            key = week, source, origin, bundle
            return found.setdefault(key, Tally(*key))

        joined = f"FROM items LEFT JOIN records ON item_id = items.id WHERE {BETWEEN.format('received_at')}"
        for *key, fate, number in self.db.execute(f"{ITEMS}, count(*) {joined} GROUP BY 1, 2, 3, 4, 5", values):
            tally(*key).fates[fate] += number
        undecided = (
            f"{ITEMS}, json_extract(record, '$.reasons'), items.reason {joined}"
            " AND (fate = 'quarantined' OR fate IN (SELECT value FROM json_each(?3)))"
        )
        for *key, _, reasons, of_item in self.db.execute(undecided, (*values, json.dumps(UNDECIDED))):
            told = [of_item or ""] if reasons is None else json.loads(reasons)
            tally(*key).causes.update(set(map(cause, told)))
        for week, detail, number in self._dropped(values):
            kind, _, origin = detail.partition(FROM)
            dropped = tally(week, "dicom", origin, "")
            dropped.fates["dropped"] += number
            dropped.causes[kind] += number
        return sorted(found.values(), key=lambda each: (-date.fromisoformat(each.week).toordinal(), *_sender(each)))

    def first_received(self) -> date | None:
        """The Monday of the week in which the first item that is known came; None where nothing has come."""
        [first] = self.db.execute(f"SELECT {WEEK.format('min(received_at)')} FROM items").fetchone()
        return None if first is None else date.fromisoformat(first)

    def _dropped(self, values: tuple[str, str]) -> Iterator[tuple[str, str, int]]:
        query = (
            f"SELECT {WEEK.format('at')}, detail, count(*) FROM audit"
            f" WHERE action = '{DROPPED}' AND {BETWEEN.format('at')} GROUP BY 1, 2"
        )
        yield from self.db.execute(query, values)


def monday(day: date) -> date:
    """Of its week."""
    return day - timedelta(days=day.weekday())


def _begin(day: date) -> str:
    """When a day begins here, as the store writes it."""
    return timestamp(datetime(day.year, day.month, day.day).astimezone())


def _sender(tally: Tally) -> tuple[str, str, str]:
    return tally.source, tally.origin, tally.bundle
