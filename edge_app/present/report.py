"""The report: one HTML file that needs nothing else, for a clinician to read on a screen or on paper."""

import base64
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from edge_app.present.terms import (
    ACTIONS,
    EYES,
    SEX_NAMES,
    SHOWN_NAMES,
    label_name,
    next_step,
    person_name,
    sentence,
)
from edge_app.present.visits import visits
from edge_app.present.wording import evidence_words, grades, has_parts, lines, not_outlined_words, outlined_words, signs
from keras_realmnet.errors import RealMNetError
from keras_realmnet.screening import overlay
from keras_realmnet.screening.bundle.artifact import Artifact
from keras_realmnet.screening.bundle.bundle import Bundle
from keras_realmnet.screening.quality import MODALITY_NAMES
from keras_realmnet.screening.record import ScreeningRecord
from keras_realmnet.tasks.rule import probability_text
from keras_realmnet.tasks.task import Task
from keras_realmnet.tasks.words import costs_of, fitted_words, rule_words

__all__ = ["page_environment", "write_report"]


def write_report(
    path: Path,
    records: Sequence[ScreeningRecord],
    models: Sequence[tuple[Bundle, Artifact]],
    overlays: Path,
    *,
    skipped: Sequence[Path] = (),
    others: int = 0,
    out_of_order: Mapping[str, str] | None = None,
) -> None:
    """Writes the report of all `records`.

    Args:
        models: the bundles that the records are of, each with the artifact that screened.
        overlays: the folder with the records' pictures, which are copied into the report.
        skipped: files in the screened folders that were no images.
        others: number of records of other bundles that are left out.
        out_of_order: {bundle: reason} of those that could not screen, so that their results are missing.
    """
    context = {
        "models": models,
        "made_at": datetime.now().astimezone().strftime("%Y-%m-%d %H:%M %Z"),
        "visits": visits(records),
        "counts": Counter(record.shown for record in records),
        "possible": set().union(*(_possible(bundle.task) for bundle, _ in models)),
        "outcome_names": SHOWN_NAMES,
        "modality_names": MODALITY_NAMES,
        "actions": ACTIONS,
        "eyes": EYES,
        "pictures": lambda record: _pictures(record, overlays),
        "skipped": [file.name.encode("utf-8", "replace").decode() for file in sorted(skipped)],
        "others": others,
        "out_of_order": out_of_order or {},
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
    environment.filters.update(person=person_name, sentence=sentence, next_step=next_step)
    environment.globals.update(
        sex_names=SEX_NAMES,
        label_name=label_name,
        costs_of=costs_of,
        probability_text=probability_text,
        rule_words=rule_words,
        fitted_words=fitted_words,
        lines_of=lines,
        grades_of=grades,
        signs_of=signs,
        has_parts=has_parts,
        outlined_words=outlined_words,
        evidence_words=evidence_words,
        not_outlined_words=not_outlined_words,
    )
    return environment


def _possible(task: Task) -> set[str]:
    """The outcomes that are counted also where there is none."""
    outcomes = {"insufficient", "not_analysed", *(("refer", "negative") if task.refers else ("described",))}
    return {*outcomes, "uncertain"} if task.abstains else outcomes


def _pictures(record: ScreeningRecord, overlays: Path) -> list[str]:
    """The image and, where there is something to outline, that with its marks and evidence, as data URIs.

    None if the overlay is missing. Where the model looked for a label below its threshold is in the overlay's file, not
    in a report that is printed: there it would look like a finding.
    """
    if record.overlay is None or Path(record.overlay).name != record.overlay:
        return []
    try:
        pictures = overlay.panels(overlays / record.overlay, record.panels, overlay.SHOWN)
    except RealMNetError:
        return []
    shown = pictures if record.evidence in record.triggered or record.located else pictures[:1]
    return [f"data:image/jpeg;base64,{base64.b64encode(picture).decode()}" for picture in shown]
