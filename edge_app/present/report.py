"""The report: one HTML file that needs nothing else, for a clinician to read on a screen or on paper."""

import base64
from collections import Counter
from collections.abc import Sequence
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
    rule_words,
    sentence,
)
from edge_app.present.visits import visits
from edge_app.present.wording import grades, lines, not_outlined_words, outlined_words
from keras_realmnet.errors import RealMNetError
from keras_realmnet.screening import overlay
from keras_realmnet.screening.bundle.bundle import Bundle
from keras_realmnet.screening.record import ScreeningRecord
from keras_realmnet.tasks.rules import OUTCOMES

__all__ = ["page_environment", "write_report"]

PICTURE = 640  # px, longest side of a picture inside of the report


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
        "models": [(bundle, artifact)],
        "made_at": datetime.now().astimezone().strftime("%Y-%m-%d %H:%M %Z"),
        "visits": visits(records),
        "total": len(records),
        "counts": Counter(record.outcome for record in records),
        "outcomes": OUTCOMES,
        "possible": {*OUTCOMES} - ({"described"} if bundle.task.refers else {"refer", "negative"}),
        "outcome_names": SHOWN_NAMES,
        "actions": ACTIONS,
        "eyes": EYES,
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
    environment.filters.update(person=person_name, sentence=sentence, next_step=next_step)
    environment.globals.update(
        sex_names=SEX_NAMES,
        label_name=label_name,
        rule_words=rule_words,
        lines_of=lines,
        grades_of=grades,
        outlined_words=outlined_words,
        not_outlined_words=not_outlined_words,
    )
    return environment


def _pictures(record: ScreeningRecord, overlays: Path) -> list[str]:
    """The image and, where there is something to outline, that with its marks and evidence, as data URIs.

    None if the overlay is missing. Where the model looked for a label below its threshold is in the overlay's file, not
    in a report that is printed: there it would look like a finding.
    """
    if record.overlay is None or Path(record.overlay).name != record.overlay:
        return []
    try:
        pictures = overlay.panels(overlays / record.overlay, record.panels, PICTURE)
    except RealMNetError:
        return []
    shown = pictures if record.evidence in record.triggered or record.located else pictures[:1]
    return [f"data:image/jpeg;base64,{base64.b64encode(picture).decode()}" for picture in shown]
