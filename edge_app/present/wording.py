"""Findings in words, for the table of the report and the pages: a line for each, also for what was not found."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import singledispatch

from edge_app.present.terms import FOUND_CODES, explained, label_name
from keras_realmnet.screening.overlay import Style, styled
from keras_realmnet.screening.record import ScreeningRecord
from keras_realmnet.tasks.findings import (
    Finding,
    GradeFinding,
    LabelFinding,
    MaskFinding,
    Measure,
    PointFinding,
    percent,
)

__all__ = [
    "Line",
    "evidence_words",
    "grades",
    "has_parts",
    "lines",
    "not_outlined_words",
    "outlined_words",
    "signs",
    "told",
]


@dataclass(frozen=True)
class Line:
    """name: of the finding. result, certainty: in words. found: False where there is nothing.

    style: of the lines by which it is marked in the picture; None where it is not. form: of what those lines run around
    ("cross": of a point's mark; "covered": with its colour); None for an outline. where: how many of its parts lie in
    which part of the field. share: of the field, in words.
    """

    name: str
    result: str
    certainty: str = ""
    found: bool = True
    style: Style | None = None
    form: str | None = None
    where: str = ""
    share: str = ""


def lines(record: ScreeningRecord) -> list[Line]:
    """The table of a record; labels are shown as bars, measures of one mask with that."""
    findings = record.findings or ()
    styles = {(finding.kind, finding.code): style for finding, style in styled(findings) if finding.found}
    table = []
    for each in findings:
        if isinstance(each, LabelFinding) or (isinstance(each, Measure) and each.of is not None):
            continue
        line = Line(each.name, *told(each), styles.get((each.kind, each.code)))
        if isinstance(each, PointFinding):
            line = replace(line, form="cross")
        elif isinstance(each, MaskFinding) and line.style is not None:
            form = "covered" if each.holes is not None else line.style.form if each.in_parts else None
            line = replace(line, form=form, where=_where(each, findings), share=_share(each))
        table.append(line)
    return table


def _where(mask: MaskFinding, findings: Iterable[Finding]) -> str:
    """In which part of the field how many of a mask's parts lie; empty where that was not counted."""
    counted = [each for each in findings if isinstance(each, Measure) and each.of == mask.code and each.part]
    return ", ".join(f"{each.part} {each.text}" for each in counted)


def grades(record: ScreeningRecord) -> Iterator[GradeFinding]:
    """The grades of a record: one for each output that grades."""
    return (each for each in record.findings or () if isinstance(each, GradeFinding))


def signs(record: ScreeningRecord, grade: GradeFinding) -> str:
    """Which of the lesions that speak for a grade were found, how many, and which were not, as sentences.

    Empty where the network looks for none. That nothing was found never says that there is nothing.
    """
    masks = [
        each for each in record.findings or () if isinstance(each, MaskFinding) and each.code in (grade.signs or ())
    ]
    if not masks:
        return ""
    found = ", ".join(f"{each.name} ({len(each.outlines)})" for each in masks if each.found)
    missing = ", ".join(each.name for each in masks if not each.found)
    nevertheless = "What was not found may be there nevertheless."
    if not found:
        return f"None of the lesions that speak for a grade above the first was found: {missing}. {nevertheless}"
    said = f"Lesions that speak for it: {found}."
    if grade.grade == 0:
        said = f"Lesions were found that speak for a grade above this one: {found}. Look at the picture."
    return f"{said} Not found: {missing}. {nevertheless}" if missing else said


def _share(mask: MaskFinding) -> str:
    return "" if mask.share is None else f"{percent(100 * mask.share)} of the field"


def has_parts(record: ScreeningRecord) -> bool:
    """Whether lesions are marked that are seen on a large picture only: masks of several parts."""
    return any(isinstance(each, MaskFinding) and each.in_parts for each in record.located)


@singledispatch
def told(finding: Finding) -> tuple[str, str, bool]:
    """What was found, how certain that is, and whether there is anything; not of labels, which are bars."""
    raise NotImplementedError(f"a page has no words for a {finding.kind}")


@told.register
def _grade(grade: GradeFinding) -> tuple[str, str, bool]:
    last = len(grade.names) - 1
    return f"Grade {grade.grade} of 0 to {last}", f"probability {grade.probability:.2f}", True


@told.register
def _mask(mask: MaskFinding) -> tuple[str, str, bool]:
    if not mask.found:
        return FOUND_CODES[False][1], "", False
    parts = f"Found, {len(mask.outlines)} parts" if mask.in_parts else FOUND_CODES[True][1]
    certainty = "" if mask.probability is None else f"mean probability {mask.probability:.2f}"
    return ", ".join(filter(None, (parts, _share(mask)))), certainty, True


@told.register
def _point(point: PointFinding) -> tuple[str, str, bool]:
    certainty = "" if point.confidence is None else f"confidence {point.confidence:.2f}"
    if point.x is None or point.y is None:
        return FOUND_CODES[False][1], certainty, False
    return f"Found, at {point.x:.0f}, {point.y:.0f} px", certainty, True


@told.register
def _measure(measure: Measure) -> tuple[str, str, bool]:
    if measure.value is None:
        return "Not measured: what it is computed of was not found", "", False
    return measure.text, "", True


def outlined_words(record: ScreeningRecord) -> str:
    """What the picture with lines shows, as sentences; empty where there is no such picture."""
    marked = f"Marked: {', '.join(finding.name for finding in record.located)}." if record.located else ""
    return " ".join(filter(None, (evidence_words(record), marked)))


def evidence_words(record: ScreeningRecord) -> str:
    """Around what the evidence for what refers is outlined, as a sentence; empty where it is not."""
    if record.evidence is None or record.evidence not in record.triggered:
        return ""
    return (
        f"Evidence for {record.evidence} {label_name(record, record.evidence)}: lines at half and three quarters "
        "of its maximum, none where no place speaks for it."
    )


def not_outlined_words(record: ScreeningRecord) -> str:
    """Why there is no picture with lines though there is a class map, as a sentence."""
    if record.outcome == "uncertain":
        return "The model is not certain: nothing is outlined, and that excludes nothing."
    if isinstance(explained(record, record.evidence or ""), GradeFinding):
        return "The grade is none that is referred: nothing is outlined."
    return "No label reaches its threshold: nothing is outlined."
