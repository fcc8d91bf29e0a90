"""What the box said of pictures, from the records that `edge_app screen` writes, beside a table of what is true.

    truth.csv   file;refer;patient;eye;source
                V0001.jpg;0;17;OD;Zeiss Visucam

`file` is the picture's name, as far as it tells it apart from the others, with folders where it must. `refer`: 1 or 0,
nothing where it is not known. The other columns may be missing: patient and eye are then those of the record, source is
the camera that it names.
"""

import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from keras_realmnet.errors import DataSetError, RealMNetError
from keras_realmnet.screening.bundle.bundle import Bundle
from keras_realmnet.screening.record import ScreeningRecord
from training.data.files.spreadsheet import UNKNOWN, Spreadsheet, read_spreadsheet
from training.data.label_table import problems_error
from training.data.own_data.belonging import EYE_OF
from training.scoring.clinic.figures import Judged, margin_of

__all__ = ["RECORDS", "Screened", "read_records"]

RECORDS = "records.jsonl"  # of a folder of results


@dataclass(frozen=True)
class Screened:
    """`pictures`: what one bundle said. `left_out`: records of other bundles or of pictures that the table lacks."""

    pictures: list[Judged]
    bundle_name: str
    bundle_digest: str
    artifact: str
    model_sha256: str
    left_out: int


@dataclass(frozen=True)
class _Row:
    referable: bool | None
    patient: str | None
    eye: str | None
    source: str | None


def read_records(results: Path, truth: Path | None = None, bundle: Bundle | None = None) -> Screened:
    """The records of one bundle in a folder of results.

    Args:
        truth: the table; None: what is true of the pictures is not known.
        bundle: whose records; None: there must be those of one alone.

    Raises:
        RealMNetError: there are no records, not those of this bundle, or those of several.
        DataSetError: the table is none, names a picture that has no record or may be several, or says something else
            than expected; with file and line.
    """
    records = _read(results / RECORDS)
    found = {(each.bundle_name, each.bundle_digest, each.artifact) for each in records}
    chosen = {each for each in found if bundle is None or each[1] == bundle.digest}
    if len(chosen) != 1:
        there = ", ".join(sorted(f"{name} {digest[:12]} {artifact}" for name, digest, artifact in found)) or "none"
        wanted = (
            "one bundle, or --bundle, and of one artifact" if bundle is None else f"{bundle.name} {bundle.digest[:12]}"
        )
        raise RealMNetError(f"{results / RECORDS}: records of {wanted} expected. Found: {there}")
    ((name, digest, artifact),) = chosen
    own = [
        each for each in records if (each.bundle_name, each.bundle_digest, each.artifact) == (name, digest, artifact)
    ]
    rows = [_Row(None, None, None, None)] * len(own) if truth is None else _rows(own, truth)
    pictures = [_judged(record, row) for record, row in zip(own, rows, strict=True) if row is not None]
    return Screened(pictures, name, digest, artifact, own[0].model_sha256, len(records) - len(pictures))


def _read(path: Path) -> list[ScreeningRecord]:
    """The current record of each picture: a later one of the same picture, bundle and artifact replaces it."""
    if not path.is_file():
        raise RealMNetError(f"{path}: no such file; expected the folder of results that edge_app screen writes")
    found = {}
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        try:
            record = ScreeningRecord.from_dict(json.loads(line))
        except (ValueError, AttributeError, RealMNetError) as error:
            raise RealMNetError(f"{path}, line {number}: not a record of this program ({error})") from error
        found[record.folder, record.file, record.frame, record.bundle_digest, record.artifact] = record
    return list(found.values())


def _judged(record: ScreeningRecord, row: _Row) -> Judged:
    camera = (record.source.get("manufacturer"), record.source.get("model"))
    return Judged(
        name=record.title,
        patient=row.patient or record.patient_id or f"{record.folder}/{record.file}",
        eye=row.eye or record.eye,
        outcome=record.outcome,
        reasons=record.reasons,
        referable=row.referable,
        source=row.source or " ".join(filter(None, camera)) or None,
        margin=margin_of(record.quality, record.modality),
        missing=record.missing,
        bundle_name=record.bundle_name,
    )


def _rows(records: Sequence[ScreeningRecord], path: Path) -> list[_Row | None]:
    """The row of each record; None where the table has none."""
    sheet = read_spreadsheet(path, ("file", "refer"), "the columns file and refer")
    by_name: dict[str, list[int]] = defaultdict(list)
    for k, record in enumerate(records):
        by_name[record.file].append(k)
    rows: list[_Row | None] = [None] * len(records)
    problems = []
    files, columns = sheet.column("file"), _columns(sheet)
    for n, (origin, file) in enumerate(zip(sheet.origins, files, strict=True)):
        parts = _parts(file)
        named = by_name.get(parts[-1], []) if parts else []
        suiting = [k for k in named if _end_alike(_parts(f"{records[k].folder}/{records[k].file}"), parts)]
        if len({records[k].folder for k in suiting}) > 1:
            problems.append(f"{origin}: {file!r} may be pictures of several folders; write their names, too")
        elif not suiting:
            problems.append(f"{origin}: no record of {file!r}")
        elif any(rows[k] is not None for k in suiting):
            problems.append(f"{origin}: {file!r} is listed twice")
        else:
            try:
                row = _row({name: values[n] for name, values in columns.items()})
            except ValueError as error:
                problems.append(f"{origin}: {error}")
                continue
            for k in suiting:
                rows[k] = row
    if problems:
        raise problems_error(problems)
    if not any(rows):
        raise DataSetError(f"{path}: it has no picture")
    return rows


def _columns(sheet: Spreadsheet) -> dict[str, tuple[str, ...]]:
    return {name: sheet.column(name) for name in ("refer", "patient", "eye", "source") if name in sheet}


def _row(values: dict[str, str]) -> _Row:
    """Raises ValueError for another truth or eye."""
    known = {name: None if value.casefold() in UNKNOWN else value for name, value in values.items()}
    refer, eye = known["refer"], known.get("eye")
    if refer not in (None, "0", "1"):
        raise ValueError(f"refer must be 1, 0 or empty. Received: {refer!r}")
    if eye is not None and eye.casefold() not in EYE_OF:
        raise ValueError(f"eye must be OD, OS or empty. Received: {eye!r}")
    return _Row(
        referable=None if refer is None else refer == "1",
        patient=known.get("patient"),
        eye=None if eye is None else EYE_OF[eye.casefold()],
        source=known.get("source"),
    )


def _parts(path: str) -> list[str]:
    """The folders and the name in a path, with either kind of slash; without the root or a drive."""
    return [part for part in path.replace("\\", "/").split("/") if part and not part.endswith(":")]


def _end_alike(one: list[str], other: list[str]) -> bool:
    """Whether the shorter one is the end of the longer: a table may be of another machine."""
    shared = min(len(one), len(other))
    return one[-shared:] == other[-shared:]
