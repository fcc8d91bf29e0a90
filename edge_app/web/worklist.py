"""The worklist: one line per person and day, worst first, of all that was screened."""

import sqlite3
import threading
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, fields, replace
from datetime import datetime
from functools import lru_cache

from edge_app.identity import by_person_and_day, plain_name
from edge_app.store.database import timestamp
from edge_app.store.store import Store
from keras_realmnet.screening.decision import Graded, Summary, eye_summary, patient_summary
from keras_realmnet.tasks.rules import OUTCOMES, Outcome, acted_on_as

__all__ = ["EYE_UNKNOWN", "Filter", "Row", "Worklist"]

EYE_UNKNOWN = "eye_unknown"  # among the outcomes of a filter: an operator is asked for an eye

IMAGES = """
SELECT item_id, object_id, frame, outcome, eye, score, screened_at, study_date, file_name, accession_number,
       patient_id, patient_name, birth_date, sex, patient_id_issuer,
       missing, NULL AS waiting, bundle AS bundle_name
FROM records JOIN items ON items.id = item_id ORDER BY item_id
"""


@dataclass(frozen=True)
class Filter:
    """query: parts of patient number, name, birth date, accession number, study date, file name; all must be found.

    outcome: of the patient, or EYE_UNKNOWN, or ""; "refer" also finds who is uncertain: both are called back.

    since: ISO 8601 day in local time, or "".
    """

    query: str = ""
    outcome: str = ""
    since: str = ""

    def __bool__(self) -> bool:
        return bool(self.query or self.outcome or self.since)


@dataclass(frozen=True, kw_only=True)
class Image(Graded):
    """What the list needs to know of one record. `waiting`: bundles of results that are still to come of its file."""

    item_id: int
    object_id: int
    frame: int
    waiting: tuple[str, ...]
    score: float | None
    screened_at: str
    study_date: str | None
    file_name: str
    accession_number: str | None
    patient_id: str | None
    patient_name: str | None
    birth_date: str | None
    sex: str | None
    patient_id_issuer: str | None


@dataclass(frozen=True)
class Row:
    """One person on one day. `item_id`: of the worst image. `shown`: the outcome, or "missing"; `eyes`: the same of
    each eye that has an image.

    `shared_number`: images of somebody else have the same patient number.
    """

    item_id: int
    patient_id: str | None
    patient_name: str | None
    birth_date: str | None
    shared_number: bool
    study_date: str | None
    outcome: Outcome
    shown: str
    eyes: dict[str | None, str]
    images: int
    screened_at: str
    score: float
    search_text: str

    def matches(self, filter: Filter, since: str) -> bool:
        return (
            all(word in self.search_text for word in filter.query.split())
            and (
                not filter.outcome
                or filter.outcome in (self.outcome, acted_on_as(self.outcome))
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
        since = _midnight(filter.since) if filter.since else ""
        return [row for row in self._current() if row.matches(query, since)]

    def _current(self) -> list[Row]:
        with self._lock:
            changes = self._store.changes()  # read first: what changes in between is seen the next time
            if changes != self._rows[0]:
                waiting = self._store.waiting_results()
                images = _images(self._store.db.execute(IMAGES), waiting)
                rows = [_row(*of_day) for of_day in by_person_and_day(images, _object_and_day)]
                rows.sort(key=lambda row: row.screened_at, reverse=True)
                rows.sort(key=lambda row: (OUTCOMES.index(row.outcome), -row.score))
                self._rows = (changes, rows)
            return self._rows[1]


def _midnight(day: str) -> str:
    """When an ISO 8601 day begins here, as the store writes it. At the ends of the calendar there are no time zones."""
    return timestamp(datetime.fromisoformat(min(max(day, "1900-01-01"), "9998-12-31")).astimezone())


def _images(rows: Iterable[sqlite3.Row], waiting: Mapping[int, tuple[str, ...]]) -> Iterator[Image]:
    for row in rows:
        image = Image(**{field.name: row[field.name] for field in fields(Image)})
        image = replace(image, waiting=waiting.get(image.item_id, ()))
        # What another release of the box concluded, this one does not know: somebody must look, as without a result.
        yield image if image.outcome in OUTCOMES else replace(image, outcome="not_analysed")


def _object_and_day(image: Image) -> tuple[int, str | None]:
    """Images without a patient number may be of different people: only those of one object stay together."""
    return image.object_id, image.study_date


def _row(images: list[Image], shared_number: bool) -> Row:
    worst = min(images, key=lambda image: (OUTCOMES.index(image.outcome), image.item_id))
    graded = tuple(
        sorted(
            graded
            for image in images
            for graded in (
                (image.eye or "", image.outcome, bool(image.missing), image.bundle_name),
                *((image.eye or "", "not_analysed", True, name or image.bundle_name) for name in image.waiting),
            )
        )
    )
    of_further_pictures = sum(image.waiting.count(image.bundle_name) + image.waiting.count("") for image in images)
    summary, eyes = _summary(graded, worst.patient_id is not None)
    name = next((image.patient_name for image in images if image.patient_name), None)
    searchable = (
        *(worst.patient_id, name, name and plain_name(name), worst.study_date),
        *(value for image in images for value in (image.birth_date, image.accession_number, image.file_name)),
    )
    return Row(
        item_id=worst.item_id,
        patient_id=worst.patient_id,
        patient_name=name,
        birth_date=next((image.birth_date for image in images if image.birth_date), None),
        shared_number=shared_number,
        study_date=worst.study_date,
        outcome=summary.outcome,
        shown=summary.shown,
        eyes=eyes,
        images=len({(image.object_id, image.frame) for image in images}) + of_further_pictures,
        screened_at=max(image.screened_at for image in images),
        score=max((image.score for image in images if image.score is not None), default=-1.0),
        search_text=" ".join(dict.fromkeys(filter(None, searchable))).lower(),
    )


@lru_cache(maxsize=4096)
def _summary(
    images: tuple[tuple[str, Outcome, bool, str], ...], patient_known: bool
) -> tuple[Summary, dict[str | None, str]]:
    """What is shown of the patient and of each eye; few combinations occur, so few are computed."""
    graded = [Graded(outcome, eye or None, missing, bundle) for eye, outcome, missing, bundle in images]
    eyes = {i.eye for i in graded}
    by_eye = {eye: eye_summary([image for image in graded if image.eye == eye]) for eye in eyes}
    of_eyes = {eye: summary.shown for eye, summary in by_eye.items()}
    if not patient_known:  # the images of one object, whose patient's other eye nobody can look for
        return min(by_eye.values(), key=lambda summary: OUTCOMES.index(summary.outcome)), of_eyes
    return patient_summary(graded), of_eyes
