"""What pages, reports, DICOM and FHIR results call alike: codes of the box's own scheme, and words for people.

A code is qualified by the set it belongs to, so that two bundles' labels are never mixed up: a label by its label set
(`psmm:A3`), an outcome by `out`, a verdict on the picture by `quality`. Those of the box have at most 16 characters:
readers that know no Long Code Value (PS3.3 8.8) see them, too. Codes and meanings are never cut.
"""

from datetime import datetime

from keras_realmnet.errors import ModelOutOfOrder
from keras_realmnet.screening.quality import MODALITY_NAMES
from keras_realmnet.screening.record import ScreeningRecord
from keras_realmnet.tasks.findings import GradeFinding, LabelFinding
from keras_realmnet.tasks.rules import OUTCOMES, Outcome

__all__ = [
    "ACTIONS",
    "EYES",
    "FOUND_CODES",
    "OUTCOME_CODES",
    "OUTCOME_NAMES",
    "OUTCOME_STYLES",
    "QUALITY_CODES",
    "SEX_NAMES",
    "SHOWN_NAMES",
    "explained",
    "label_code",
    "label_name",
    "local_time",
    "name_parts",
    "next_step",
    "person_name",
    "picture",
    "purpose",
    "sentence",
]

OUTCOME_CODES: dict[Outcome, tuple[str, str]] = {  # {outcome: (code, meaning)}
    "refer": ("out:refer", "Refer"),
    "uncertain": ("out:uncertain", "Uncertain: a person must look"),
    "negative": ("out:negative", "Negative: rescreen"),
    "described": ("out:described", "Described: nothing was decided"),
    "insufficient": ("out:insufficient", "Insufficient quality: retake or refer"),
    "not_analysed": ("out:not_analysed", "Not analysed: no result"),
}
QUALITY_CODES: dict[Outcome, tuple[str, str]] = {
    "refer": ("quality:gradable", "Gradable"),
    "uncertain": ("quality:gradable", "Gradable"),
    "negative": ("quality:gradable", "Gradable"),
    "described": ("quality:gradable", "Gradable"),
    "insufficient": ("quality:poor", "Insufficient for screening"),
    "not_analysed": ("quality:unjudged", "Not judged"),
}
# Whether a structure, lesion or landmark was found; what was not found may be there nevertheless.
FOUND_CODES = {True: ("found:yes", "Found"), False: ("found:no", "Not found")}
# What an eye, a visit or a record shows: its outcome, or that a result is missing, see `decision.Summary.shown`.
SHOWN_NAMES = {
    "refer": "Refer",
    "uncertain": "Uncertain",
    "insufficient": "Insufficient quality",
    "not_analysed": "Not analysed",
    "missing": "Result missing",
    "negative": "Negative",
    "described": "Described",
}
OUTCOME_NAMES = {outcome: SHOWN_NAMES[outcome] for outcome in OUTCOMES}
OUTCOME_STYLES = {
    "refer": "bold red",
    "uncertain": "red",
    "insufficient": "yellow",
    "not_analysed": "magenta",
    "negative": "green",
    "described": "cyan",
}
# What follows from an outcome, as cleared screening systems put it; no result counts as a referral.
ACTIONS = {
    "refer": "Refer to an ophthalmologist.",
    "uncertain": "A person must look, as at a referral: the model is not certain. This is not a negative result.",
    "insufficient": "Take the picture again, or refer. This is not a negative result.",
    "not_analysed": "No result. This is not a negative result: take a suitable picture, or refer.",
    "negative": "Rescreen at the usual interval.",
    "described": "Findings without a decision: neither a referral nor a negative result.",
    "missing": "The result is missing. This is not a negative result: look at the picture, or refer.",
}
EYES = {"OD": "Right eye (OD)", "OS": "Left eye (OS)", None: "Eye unknown: ask the operator"}
SEX_NAMES = {"M": "male", "F": "female", "O": "other"}


def local_time(moment: str) -> str:
    """A stored moment (ISO 8601, UTC) as a clock on the wall here shows it: 2026-03-02 10:15."""
    try:
        return datetime.fromisoformat(moment).astimezone().strftime("%Y-%m-%d %H:%M")
    except OverflowError:  # at the very edges of the calendar
        return moment


def explained(record: ScreeningRecord, code: str) -> LabelFinding | GradeFinding | None:
    """The label with that code, or the grade that was found; class maps explain no others."""
    kinds = (LabelFinding, GradeFinding)
    return next((each for each in record.findings or () if isinstance(each, kinds) and each.code == code), None)


def label_code(record: ScreeningRecord, code: str) -> str:
    """The code of a label or grade, qualified; as it is in a record that does not know its vocabulary."""
    finding = explained(record, code)
    return code if finding is None else finding.qualified


def label_name(record: ScreeningRecord, code: str) -> str:
    """The name of a label or grade for people; the code where the record does not know it."""
    for finding in record.findings or ():
        if isinstance(finding, LabelFinding) and finding.code == code:
            return finding.name
        if isinstance(finding, GradeFinding) and code in finding.names:
            return finding.names[code]
    return code


def purpose(record: ScreeningRecord, modality: bool = True) -> str:
    """What the bundle screens for, and (`modality`) on which kind of picture."""
    described = record.outcome == "described"
    what = "Description of the retina" if described else "Screening of the retina"
    if record.condition:
        what = f"{'Description of' if described else 'Screening for'} {record.condition}"
    return f"{what}, {MODALITY_NAMES.get(record.modality, record.modality)}" if modality and record.modality else what


def picture(record: ScreeningRecord) -> str | None:
    """Which picture of its object it is; None where the object holds a single one."""
    return None if record.pictures < 2 else f"picture {record.frame} of {record.pictures}"


def sentence(text: str) -> str:
    """Words of a reason or a warning as a sentence; the first word stays as it is where it is no plain word."""
    first = text.split(" ", 1)[0]
    text = text[:1].upper() + text[1:] if first.isalpha() and first.islower() else text
    return text if text.endswith((".", "!", "?")) else f"{text}."


def name_parts(group: str) -> tuple[str, str, str, str, str]:
    """Family, given, middle names, prefix and suffix of one component group of a DICOM name (PS3.5 6.2.1.1)."""
    family, given, middle, prefix, suffix = ([part.strip() for part in group.split("^")] + [""] * 5)[:5]
    return family, given, middle, prefix, suffix


def person_name(name: str) -> str:
    """A DICOM name as people write it: `Muster, Eva`; names in other scripts follow in brackets."""
    written = []
    for group in name.split("="):
        family, given, middle, prefix, suffix = name_parts(group)
        written.append(", ".join(filter(None, (" ".join(filter(None, (prefix, family))), f"{given} {middle}".strip()))))
        written[-1] += f" {suffix}" if suffix and written[-1] else suffix
    first, *others = [each for each in written if each] or [name]
    return first if not others else f"{first} ({'; '.join(others)})"


def next_step(record: ScreeningRecord) -> str | None:
    """What a person does where there is no result, with whose eye it is and when; None where there is one."""
    if record.analysed:
        return None
    if record.outcome == "insufficient" or record.error in ("UnreadableImage", "DecompressionBomb"):
        step = "Take the picture again"
    elif record.error == ModelOutOfOrder.__name__:
        step = "Tell the administrator; the result follows once the model works again"
    elif record.error is not None:
        step = "Let the box try again; if that fails too, take the picture again"
    else:
        step = f"Take a {MODALITY_NAMES.get(record.modality or '', 'suitable picture')}"
    return f"{step}: {', '.join(_patient_eye_day(record))}."


def _patient_eye_day(record: ScreeningRecord) -> list[str]:
    """Patient, eye and day of a picture, as far as they are known, in words."""
    who = [person_name(record.patient_name)] if record.patient_name else []
    who += [f"patient number {record.patient_id}"] if record.patient_id else []
    eye = {"OD": "right eye (OD)", "OS": "left eye (OS)"}.get(record.eye or "", "eye unknown")
    return [*(who or ["patient unknown"]), eye, f"picture of {record.study_date or 'an unknown day'}"]
