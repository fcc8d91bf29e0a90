"""What the name of a file tells about its picture."""

import re
from datetime import date
from pathlib import Path
from typing import NamedTuple

__all__ = ["DEFAULT_FILE_NAME_PATTERN", "FileName", "iso_date", "parse_file_name"]

# `{ID}_{OD|OS}_{date}_{n}.ext` (date and n may be missing) and `{ID}_{n}.ext`; matched against the name without ending.
DEFAULT_FILE_NAME_PATTERN = (
    r"(?P<patient_id>.+?)_"
    r"(?:(?P<eye>OD|OS)(?:_(?P<date>[0-9]{4}-[0-9]{2}-[0-9]{2}|[0-9]{8}))?(?:_(?P<number>[0-9]{1,6}))?"
    r"|(?P<only_number>[0-9]{1,6}))"
)


class FileName(NamedTuple):
    """What a file name tells; `eye` is "OD", "OS" or None, `date` ISO 8601 or None, `number` the picture's."""

    patient_id: str | None
    eye: str | None
    date: str | None
    number: int | None


def parse_file_name(name: str, pattern: str | re.Pattern[str] = DEFAULT_FILE_NAME_PATTERN) -> FileName | None:
    """Reads `P12_OD_2023-06-25_2.jpg` or `P12_2.jpg`; None where the name does not follow the pattern.

    `pattern`: a regular expression with the groups patient_id, eye, date, number (each optional) that must match the
    whole name without its ending; it is case-insensitive when given as text.
    """
    compiled = re.compile(pattern, re.IGNORECASE) if isinstance(pattern, str) else pattern
    match = compiled.fullmatch(Path(name).stem)
    if match is None:
        return None
    groups = match.groupdict()
    eye = (groups.get("eye") or "").upper()
    number = groups.get("number") or groups.get("only_number")
    return FileName(
        patient_id=groups.get("patient_id") or None,
        eye=eye if eye in ("OD", "OS") else None,
        date=iso_date(groups.get("date")),
        number=int(number) if number else None,
    )


def iso_date(text: str | None) -> str | None:
    """`20230625`, `2023-06-25` or `2023.06.25` as `2023-06-25`; None where it is no date."""
    digits = (text or "").replace("-", "").replace(".", "")
    if not re.fullmatch("[0-9]{8}", digits):
        return None
    try:
        return date(int(digits[:4]), int(digits[4:6]), int(digits[6:])).isoformat()
    except ValueError:
        return None
