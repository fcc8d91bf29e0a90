"""The report: one HTML file that needs nothing else, for a clinician to read on a screen or on paper."""

import base64
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from edge_app.identity import persons
from edge_app.present.terms import person_name, sentence
from keras_realmnet.errors import RealMNetError
from keras_realmnet.screening import overlay
from keras_realmnet.screening.bundle.bundle import Bundle
from keras_realmnet.screening.decision import OUTCOMES, Graded, GradedImage, Summary, eye_summary, patient_summary
from keras_realmnet.screening.quality import MODALITY_NAMES
from keras_realmnet.screening.record import ScreeningRecord

__all__ = [
    "ACTIONS",
    "EYES",
    "OUTCOME_NAMES",
    "OUTCOME_STYLES",
    "EyeGroup",
    "Visit",
    "local_time",
    "page_environment",
    "task",
    "visits",
    "write_report",
]

PICTURE = 640  # px, longest side of a picture inside of the report

OUTCOME_NAMES = {
    "refer": "Refer",
    "insufficient": "Insufficient quality",
    "not_analysed": "Not analysed",
    "negative": "Negative",
}
OUTCOME_STYLES = {"refer": "bold red", "insufficient": "yellow", "not_analysed": "magenta", "negative": "green"}
# What follows from an outcome, as cleared screening systems put it; no result counts as a referral.
ACTIONS = {
    "refer": "Refer to an ophthalmologist.",
    "insufficient": "Take the picture again, or refer. This is not a negative result.",
    "not_analysed": "No result. This is not a negative result: take a suitable picture, or refer.",
    "negative": "Rescreen at the usual interval.",
}
EYES = {"OD": "Right eye (OD)", "OS": "Left eye (OS)", None: "Eye unknown: ask the operator"}
EYE_ORDER = ("OD", "OS", None)
SEX_NAMES = {"M": "male", "F": "female", "O": "other"}


def local_time(moment: str) -> str:
    """A stored moment (ISO 8601, UTC) as a clock on the wall here shows it: 2026-03-02 10:15."""
    try:
        return datetime.fromisoformat(moment).astimezone().strftime("%Y-%m-%d %H:%M")
    except OverflowError:  # at the very edges of the calendar
        return moment


@dataclass(frozen=True)
class EyeGroup:
    """The images of one eye, worst first. `summary` is None where they may belong to different people."""

    eye: str | None
    summary: Summary | None
    records: tuple[ScreeningRecord, ...]


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

    def said(self, field: str) -> tuple[str, ...]:
        """What the images say in a field ("patient_name", "birth_date", "accession_number", ...), each value once."""
        return tuple(dict.fromkeys(value for record in self.records if (value := getattr(record, field))))


def visits(
    records: Sequence[ScreeningRecord], waiting: Callable[[ScreeningRecord], int] = lambda record: 0
) -> list[Visit]:
    """Groups records by person, day and eye, worst first. Results of different days are never combined.

    `waiting`: how many pictures wait of the file that begins with this record's picture: its eye is incomplete.
    """
    numbers: dict[str, list[ScreeningRecord]] = {}
    for record in records:
        numbers.setdefault(record.patient_id or "", []).append(record)
    grouped = []
    for number, of_number in numbers.items():
        people = persons(of_number) if number else [of_number]
        for person in people:
            days: dict[str | None, list[ScreeningRecord]] = {}
            for record in person:  # without a patient number not even the day is common to the images
                days.setdefault(record.study_date if number else None, []).append(record)
            grouped += [_visit(number or None, day, images, len(people) > 1, waiting) for day, images in days.items()]
    grouped.sort(key=_urgency)
    return grouped


def _visit(
    patient: str | None,
    day: str | None,
    records: list[ScreeningRecord],
    shared_number: bool,
    waiting: Callable[[ScreeningRecord], int],
) -> Visit:
    to_come = [Graded("not_analysed", record.eye, missing=True) for record in records for _ in range(waiting(record))]
    eyes = []
    for eye in EYE_ORDER if patient else (None,):
        mine = [record for record in records if record.eye == eye or patient is None]
        if mine:
            mine.sort(key=lambda record: (OUTCOMES.index(record.outcome), record.file, record.frame))
            graded: list[GradedImage] = [*mine, *(image for image in to_come if image.eye == eye)]
            eyes.append(EyeGroup(eye, eye_summary(graded) if patient else None, tuple(mine)))
    summary = patient_summary([*records, *to_come]) if patient else None
    return Visit(patient, day, summary, tuple(eyes), shared_number)


def _urgency(visit: Visit) -> tuple[int, str, str]:
    worst = min(OUTCOMES.index(record.outcome) for record in visit.records)
    rank = worst if visit.summary is None else OUTCOMES.index(visit.summary.outcome)
    return rank, visit.patient_id or "￿", visit.study_date or ""


def task(record: ScreeningRecord) -> str | None:
    """What a person does where there is no result, with whose eye it is and when; None where there is one."""
    if record.analysed:
        return None
    if record.outcome == "insufficient" or record.error in ("UnreadableImage", "DecompressionBomb"):
        step = "Take the picture again"
    elif record.error is not None:
        step = "Let the box try again; if that fails too, take the picture again"
    else:
        step = f"Take a {MODALITY_NAMES.get(record.modality or '', 'suitable picture')}"
    return f"{step}: {', '.join(whose(record))}."


def whose(record: ScreeningRecord) -> list[str]:
    """Patient, eye and day of a picture, as far as they are known, in words."""
    who = [person_name(record.patient_name)] if record.patient_name else []
    who += [f"patient number {record.patient_id}"] if record.patient_id else []
    eye = {"OD": "right eye (OD)", "OS": "left eye (OS)"}.get(record.eye or "", "eye unknown")
    return [*(who or ["patient unknown"]), eye, f"picture of {record.study_date or 'an unknown day'}"]


def write_report(
    path: Path,
    records: Sequence[ScreeningRecord],
    bundle: Bundle,
    overlays: Path,
    skipped: Sequence[Path] = (),
    others: int = 0,
) -> None:
    """Writes the report of all `records`, which must be of one bundle and artifact.

    Args:
        overlays: the folder with the records' pictures, which are copied into the report.
        skipped: files in the screened folders that were no images.
        others: number of records of other bundles that are left out.
    """
    artifact = bundle.artifact(records[0].artifact if records else None)
    context = {
        "bundle": bundle,
        "artifact": artifact,
        "made_at": datetime.now().astimezone().strftime("%Y-%m-%d %H:%M %Z"),
        "visits": visits(records),
        "total": len(records),
        "counts": Counter(record.outcome for record in records),
        "outcomes": OUTCOMES,
        "outcome_names": OUTCOME_NAMES,
        "actions": ACTIONS,
        "eyes": EYES,
        "pathologic": bundle.label_set.pathologic,
        "thresholds": bundle.operating_point.thresholds,
        "pictures": lambda record: _pictures(record, overlays),
        "skipped": [file.name.encode("utf-8", "replace").decode() for file in sorted(skipped)],
        "others": others,
    }
    temporary = path.with_suffix(".part")
    try:
        # Streamed: the pictures of a large run never lie in memory together.
        page_environment().get_template("report.html.j2").stream(context).dump(str(temporary), "utf-8", "replace")
        temporary.replace(path)
    except OSError as error:
        raise RealMNetError(f"{path}: cannot write the report ({error.strerror})") from error


def page_environment() -> Environment:
    """The templates of the report and of the web page: everything is escaped, a missing value is an error."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent.parent / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(person=person_name, sentence=sentence, task=task)
    environment.globals.update(sex_names=SEX_NAMES)
    return environment


def _pictures(record: ScreeningRecord, overlays: Path) -> list[str]:
    """The image and, where a label reaches its threshold, that with its evidence outlined, as data URIs.

    None if the overlay is missing. Where the model looked for a label below its threshold is in the overlay's file, not
    in a report that is printed: there it would look like a finding.
    """
    if record.overlay is None or Path(record.overlay).name != record.overlay:
        return []
    try:
        pictures = overlay.panels(overlays / record.overlay, 1 if record.evidence is None else 2, PICTURE)
    except RealMNetError:
        return []
    shown = pictures if record.evidence in record.triggered else pictures[:1]
    return [f"data:image/jpeg;base64,{base64.b64encode(picture).decode()}" for picture in shown]
