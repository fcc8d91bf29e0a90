"""Findings in words, for the table of the report and the pages: a line for each, also for what was not found."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import singledispatch

from edge_app.present.terms import FOUND_CODES, explained, label_name
from keras_realmnet.screening.overlay import Style, styled
from keras_realmnet.screening.record import ScreeningRecord
from keras_realmnet.tasks.findings import Finding, GradeFinding, LabelFinding, MaskFinding, Measure, PointFinding

__all__ = ["Line", "grades", "lines", "not_outlined_words", "outlined_words", "told"]


@dataclass(frozen=True)
class Line:
    """name: of the finding. result, certainty: in words. found: False where there is nothing.

    style: of the lines by which it is marked in the picture; None where it is not. cross: instead of an outline.
    """

    name: str
    result: str
    certainty: str = ""
    found: bool = True
    style: Style | None = None
    cross: bool = False


def lines(record: ScreeningRecord) -> list[Line]:
    """The table of a record; labels are shown as bars."""
    styles = {(finding.kind, finding.code): style for finding, style in styled(record.findings or ()) if finding.found}
    shown = [finding for finding in record.findings or () if not isinstance(finding, LabelFinding)]
    return [
        Line(each.name, *told(each), styles.get((each.kind, each.code)), isinstance(each, PointFinding))
        for each in shown
    ]


def grades(record: ScreeningRecord) -> Iterator[GradeFinding]:
    """The grades of a record: one for each output that grades."""
    return (each for each in record.findings or () if isinstance(each, GradeFinding))


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
    parts = f"Found, {len(mask.outlines)} parts" if len(mask.outlines) > 1 else FOUND_CODES[True][1]
    share = "" if mask.share is None else f", {100 * mask.share:.2g} % of the field"
    certainty = "" if mask.probability is None else f"mean probability {mask.probability:.2f}"
    return parts + share, certainty, True


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
    return f"{measure.value:.2f}" + ("" if measure.unit == "1" else f" {measure.unit}"), "", True


def outlined_words(record: ScreeningRecord) -> str:
    """What the picture with lines shows, as sentences; empty where there is no such picture."""
    said = []
    if record.evidence is not None and record.evidence in record.triggered:
        said.append(
            f"Evidence for {record.evidence} {label_name(record, record.evidence)}: lines at half and three quarters "
            "of its maximum, none where no place speaks for it."
        )
    if record.located:
        said.append(f"Marked: {', '.join(finding.name for finding in record.located)}.")
    return " ".join(said)


def not_outlined_words(record: ScreeningRecord) -> str:
    """Why there is no picture with lines though there is a class map, as a sentence."""
    if isinstance(explained(record, record.evidence or ""), GradeFinding):
        return "The grade is none that is referred: nothing is outlined."
    return "No label reaches its threshold: nothing is outlined."
