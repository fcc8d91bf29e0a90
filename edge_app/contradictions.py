"""Where images contradict one another about whose eye they show. The box decides nothing: it tells, and a person asks.

What contradicts is never combined either, see `identity.persons`.

What one file says against itself (DICOM and its file name, an image and its series) is told by
`keras_realmnet.screening.image_io`.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path

from edge_app.identity import differences, persons
from keras_realmnet.screening.image_io import parse_file_name
from keras_realmnet.screening.record import ScreeningRecord

__all__ = ["among_file_names", "no_result", "within_patient_number", "within_study"]


def within_study(records: Sequence[ScreeningRecord]) -> tuple[str, ...]:
    """Warnings about records of one Study Instance UID."""
    patients = sorted({record.patient_id for record in records if record.patient_id})
    if len(patients) < 2:
        return ()
    return (f"the images of this study name different patients ({', '.join(patients)}): find out which is right",)


def within_patient_number(record: ScreeningRecord, others: Sequence[ScreeningRecord]) -> tuple[str, ...]:
    """Warnings about a record and others with its patient number, of which some are of somebody else."""
    found = {difference: None for other in others for difference in differences(record, other)}
    if not found and len(persons([record, *others])) > 1:
        return (
            "the patient number is that of several people, and this image does not say whose it is: it is not combined "
            "with others; find out which is right",
        )
    if not found:
        return ()
    another = ", another ".join(found)
    return (
        f"the patient number is also that of images of somebody else (another {another}): they are not combined; find "
        "out which is right",
    )


def no_result(record: ScreeningRecord) -> str:
    """What the results of a file's other pictures say of one that has none."""
    return f"picture {record.frame} of {record.pictures} of the same file has no result"


def among_file_names(paths: Iterable[str], pattern: str) -> tuple[str, ...]:
    """Warnings about the names under which the same contents came."""
    found = {parsed[:2] for parsed in (parse_file_name(Path(path).name, pattern) for path in paths) if parsed}
    if len(found) < 2:
        return ()
    return ("the same picture came under names of different patients or eyes: find out which is right",)
