"""The worklist: one line per patient and day, worst first, of all that was screened."""

import threading
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache

from edge_app.store import Store, timestamp
from keras_realmnet.screening.decision import OUTCOMES, Outcome, eye_summary, patient_summary

__all__ = ["EYE_UNKNOWN", "Filter", "Row", "Worklist"]

EYE_UNKNOWN = "eye_unknown"  # among the outcomes of a filter: an operator is asked for an eye

# One row per patient and day; images without a patient number may be of different people and stay single. The images
# of a row are "item id,eye,outcome" with blanks between them.
VISITS = """
SELECT patient_id, study_date, max(score) AS score, max(screened_at) AS screened_at,
       group_concat(item_id || ',' || coalesce(eye, '') || ',' || outcome, ' ') AS images,
       lower(coalesce(patient_id, '') || ' ' || coalesce(study_date, '') || ' ' || group_concat(file_name, ' ')) AS text
FROM records JOIN items ON items.id = item_id
GROUP BY patient_id, study_date, CASE WHEN patient_id IS NULL THEN item_id END
"""


@dataclass(frozen=True)
class Filter:
    """query: part of the patient number, study date or a file name. outcome: of the patient, or EYE_UNKNOWN, or "".

    since: ISO 8601 day in local time, or "".
    """

    query: str = ""
    outcome: str = ""
    since: str = ""

    def __bool__(self) -> bool:
        return bool(self.query or self.outcome or self.since)


@dataclass(frozen=True)
class Image:
    outcome: Outcome
    eye: str | None


@dataclass(frozen=True)
class Row:
    """One patient on one day. `item_id`: of the worst image. `eyes`: the outcome of each eye that has an image."""

    item_id: int
    patient_id: str | None
    study_date: str | None
    outcome: Outcome
    eyes: dict[str | None, Outcome]
    images: int
    screened_at: str
    score: float
    text: str

    def matches(self, filter: Filter, since: str) -> bool:
        return (
            filter.query in self.text
            and (
                not filter.outcome
                or self.outcome == filter.outcome
                or (filter.outcome == EYE_UNKNOWN and None in self.eyes)
            )
            and self.screened_at >= since
        )


class Worklist:
    """Rows are kept in memory and made anew when the store has changed: 10,000 images are grouped in a blink."""

    def __init__(self, store: Store):
        self._store = store
        self._lock = threading.Lock()
        self._rows: tuple[int, list[Row]] = (-1, [])

    def rows(self, filter: Filter) -> list[Row]:
        """The rows that match, worst first: by outcome, then by how far a probability exceeds its threshold."""
        query = Filter(filter.query.strip().lower(), filter.outcome, filter.since)
        since = timestamp(datetime.fromisoformat(filter.since).astimezone()) if filter.since else ""
        return [row for row in self._current() if row.matches(query, since)]

    def _current(self) -> list[Row]:
        with self._lock:
            changes = self._store.changes()  # read first: what changes in between is seen the next time
            if changes != self._rows[0]:
                rows = [_row(*values) for values in self._store.db.execute(VISITS)]
                rows.sort(key=lambda row: row.screened_at, reverse=True)
                rows.sort(key=lambda row: (OUTCOMES.index(row.outcome), -row.score))
                self._rows = (changes, rows)
            return self._rows[1]


def _row(patient: str | None, day: str | None, score: float | None, screened_at: str, images: str, text: str) -> Row:
    parts = [image.split(",") for image in images.split(" ")]
    worst = min(parts, key=lambda part: (OUTCOMES.index(part[2]), int(part[0])))
    outcome, eyes = _summary(tuple(sorted((eye, outcome) for _, eye, outcome in parts)), patient is not None)
    return Row(
        int(worst[0]), patient, day, outcome, eyes, len(parts), screened_at, -1.0 if score is None else score, text
    )


@lru_cache(maxsize=4096)
def _summary(images: tuple[tuple[str, Outcome], ...], patient_known: bool) -> tuple[Outcome, dict[str | None, Outcome]]:
    """The outcome of the patient and of each eye; few combinations occur, so few are computed."""
    graded = [Image(outcome, eye or None) for eye, outcome in images]
    if not patient_known:  # a single image, whose patient's other eye nobody can look for
        return graded[0].outcome, {graded[0].eye: graded[0].outcome}
    by_eye = {eye: eye_summary([image for image in graded if image.eye == eye]) for eye in {i.eye for i in graded}}
    return patient_summary(graded).outcome, {eye: summary.outcome for eye, summary in by_eye.items()}
