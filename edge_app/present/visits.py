"""Records grouped as people look at them: by person, day and eye."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby

from edge_app.identity import by_person_and_day
from keras_realmnet.screening.decision import Graded, GradedImage, Summary, eye_summary, patient_summary
from keras_realmnet.screening.record import ScreeningRecord
from keras_realmnet.tasks.rules import OUTCOMES

__all__ = ["EyeGroup", "Visit", "visits", "worst_first"]

EYE_ORDER = ("OD", "OS", None)


@dataclass(frozen=True)
class EyeGroup:
    """The records of one eye, the worst picture first. `summary` is None where they may belong to different people."""

    eye: str | None
    summary: Summary | None
    records: tuple[ScreeningRecord, ...]

    @property
    def pictures(self) -> list[list[ScreeningRecord]]:
        """The records picture by picture: of each bundle that it went to, worst first."""
        return [list(records) for _, records in groupby(self.records, _picture)]


@dataclass(frozen=True)
class Visit:
    """One person on one day. Without a patient id there is no summary: the images may be of different people.

    `shared_number`: images of somebody else have the same patient number; they are a visit of their own.
    """

    patient_id: str | None
    study_date: str | None
    summary: Summary | None
    eyes: tuple[EyeGroup, ...]
    shared_number: bool = False

    @property
    def records(self) -> tuple[ScreeningRecord, ...]:
        return tuple(record for group in self.eyes for record in group.records)

    @property
    def eyes_shown(self) -> tuple[str, ...]:
        return tuple(eye or "unknown" for eye in EYE_ORDER if any(record.eye == eye for record in self.records))

    def values(self, field: str) -> tuple[str, ...]:
        """What the images have in a field ("patient_name", "birth_date", "accession_number", ...), each value once."""
        return tuple(dict.fromkeys(value for record in self.records if (value := getattr(record, field))))


def visits(
    records: Sequence[ScreeningRecord], waiting: Callable[[ScreeningRecord], Sequence[str]] = lambda record: ()
) -> list[Visit]:
    """Groups records by person, day and eye, worst first. Results of different days are never combined.

    `waiting`: bundles of results that are still to come of the file with this record's picture, a name for each ("" is
    the record's own): its eye is incomplete.
    """
    grouped = [
        _visit(images, shared_number, waiting)
        for images, shared_number in by_person_and_day(records, lambda record: None)
    ]
    grouped.sort(key=_urgency)
    return grouped


def _visit(
    records: list[ScreeningRecord], shared_number: bool, waiting: Callable[[ScreeningRecord], Sequence[str]]
) -> Visit:
    patient = records[0].patient_id or None
    day = records[0].study_date if patient else None  # without a patient number not even the day is common
    to_come = [
        Graded("not_analysed", record.eye, True, name or record.bundle_name)
        for record in records
        for name in waiting(record)
    ]
    eyes = []
    for eye in EYE_ORDER if patient else (None,):
        mine = [record for record in records if record.eye == eye or patient is None]
        if mine:
            mine = worst_first(mine)
            graded: list[GradedImage] = [*mine, *(image for image in to_come if image.eye == eye)]
            eyes.append(EyeGroup(eye, eye_summary(graded) if patient else None, tuple(mine)))
    summary = patient_summary([*records, *to_come]) if patient else None
    return Visit(patient, day, summary, tuple(eyes), shared_number)


def worst_first(records: Iterable[ScreeningRecord]) -> list[ScreeningRecord]:
    """Records in the order in which people look at them: the worst picture first, all results of a picture together."""
    worst = sorted(records, key=lambda record: (OUTCOMES.index(record.outcome), record.bundle_name))
    places: dict[tuple[str, str, int], tuple[int, str, int, int]] = {}  # of pictures, by their worst result
    for n, record in enumerate(worst):
        place = (OUTCOMES.index(record.outcome), record.file, record.frame, n)
        places.setdefault(_picture(record), place)
    return sorted(worst, key=lambda record: places[_picture(record)])


def _picture(record: ScreeningRecord) -> tuple[str, str, int]:
    return record.folder, record.file, record.frame


def _urgency(visit: Visit) -> tuple[int, str, str]:
    worst = min(OUTCOMES.index(record.outcome) for record in visit.records)
    rank = worst if visit.summary is None else OUTCOMES.index(visit.summary.outcome)
    return rank, visit.patient_id or "\uffff", visit.study_date or ""
