"""To whom the pictures of a table belong: patient, eye, and the set, where a column says which."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

from keras_realmnet.errors import DataSetError
from training.data.files.file_index import FileIndex
from training.data.files.notices import Notice, noticed
from training.data.files.spreadsheet import UNKNOWN, Spreadsheet

__all__ = ["SETS", "Belonging", "Columns", "belonging", "is_unknown"]

EYES = {"OD": ("od", "r", "re", "right"), "OS": ("os", "l", "le", "left")}
EYE_OF = {word: eye for eye, words in EYES.items() for word in words}
SETS = {
    "train": ("train", "training"),
    "validation": ("validation", "val", "valid", "dev"),
    "test": ("test", "testing"),
}
SET_OF = {word: part for part, words in SETS.items() for word in words}


@dataclass(frozen=True)
class Columns:
    """What the columns of a table are called that say which picture a row is about; None: there is no such column.

    `split`: the set it belongs to. `same_picture`: each gives the name of another picture that shows the same.
    """

    path: str = "path"
    patient: str | None = None
    eye: str | None = None
    split: str | None = None
    same_picture: tuple[str, ...] = ()

    @property
    def named(self) -> tuple[str, ...]:
        """All columns that there are."""
        return tuple(filter(None, (self.path, self.patient, self.eye, self.split, *self.same_picture)))


@dataclass(frozen=True)
class Belonging:
    """Of n pictures: whose, which eye (OD, OS, None), which set ("train", "validation", "test", None: in none)."""

    patients: tuple[str, ...]
    eyes: tuple[str | None, ...]
    sets: tuple[str | None, ...] | None
    notices: tuple[Notice, ...]


def belonging(
    sheet: Spreadsheet, rows: Sequence[int], names: tuple[str, ...], columns: Columns, index: FileIndex
) -> tuple[Belonging, list[str]]:
    """What a table says of the pictures `names` in its `rows`, and what is wrong, with file and line.

    Two pictures of which one is said to be the same as the other count as one patient's, and so do all of the patients
    of both: they must not be on two sides, and for intervals they are one case. Where the other is not in the folder,
    its name is their id, by which data that does hold it knows them.
    """
    problems: list[str] = []
    patients, about_patients = _patients(sheet, rows, names, columns, problems)
    patients, about_pairs = _united(sheet, rows, names, patients, columns.same_picture, index, problems)
    eyes, about_eyes = _eyes(sheet, rows, names, columns.eye, problems)
    sets: tuple[str | None, ...] | None = None
    about_sets: tuple[Notice, ...] = ()
    if columns.split is not None:
        sets, about_sets = _sets(sheet, rows, names, columns.split, problems)
        problems += _on_two_sides(sheet, rows, patients, sets)
    return Belonging(patients, eyes, sets, about_patients + about_pairs + about_eyes + about_sets), problems


def is_unknown(text: str) -> bool:
    """Whether a field says that nothing is known: empty, NaN, -1."""
    return text.casefold() in UNKNOWN or text.replace("\N{MINUS SIGN}", "-") in ("-1", "-1.0", "-1,0")


def _patients(
    sheet: Spreadsheet, rows: Sequence[int], names: tuple[str, ...], columns: Columns, problems: list[str]
) -> tuple[tuple[str, ...], tuple[Notice, ...]]:
    if columns.patient is None:
        return names, noticed(("pictures that count as patients of their own, since no column names patients", names))
    column = sheet.column(columns.patient)
    problems += [
        f"{sheet.origins[row]}: {columns.patient} must be a patient's id, since the sets must not share patients. "
        f"Found: {column[row]!r}"
        for row in rows
        if column[row].casefold() in UNKNOWN
    ]
    return tuple(column[row] for row in rows), ()


def _united(
    sheet: Spreadsheet,
    rows: Sequence[int],
    names: tuple[str, ...],
    patients: tuple[str, ...],
    columns: Sequence[str],
    index: FileIndex,
    problems: list[str],
) -> tuple[tuple[str, ...], tuple[Notice, ...]]:
    """The patients; those who share a picture under the id of the first of them, or the name of what is not there."""
    at = {name: k for k, name in enumerate(names)}
    first = {patient: patient for patient in patients}

    def found(patient: str) -> str:
        while first[patient] != patient:
            patient = first[patient]
        return patient

    pairs, strangers = [], []
    for column, (k, row) in product(columns, enumerate(rows)):
        said = sheet.column(column)[row]
        if is_unknown(said):
            continue
        try:
            path = index.find(said)
        except DataSetError as error:
            problems.append(f"{sheet.origins[row]}: {column}: {error}")
            continue
        other = None if path is None else at.get(index.name(path))
        if other is None:
            strangers.append(said)
            first.setdefault(said, said)
            first[found(patients[k])] = found(said)
        elif other != k:
            first[found(patients[other])] = found(patients[k])
            pairs.append(f"{names[k]} = {names[other]}")
    ids = {}
    for patient in reversed(patients):  # each group's first one is left
        ids[found(patient)] = patient
    ids |= {found(said): said for said in reversed(strangers)}
    notices = noticed(
        ("pictures that are the same as another, which stay together and count as one patient's", pairs),
        ("pictures that others are the same as, and that are not in the folder", strangers),
    )
    return tuple(ids[found(patient)] for patient in patients), notices


def _eyes(
    sheet: Spreadsheet, rows: Sequence[int], names: tuple[str, ...], column: str | None, problems: list[str]
) -> tuple[tuple[str | None, ...], tuple[Notice, ...]]:
    if column is None:
        return (None,) * len(rows), ()
    texts = sheet.column(column)
    eyes = tuple(EYE_OF.get(texts[row].casefold()) for row in rows)
    problems += [
        f"{sheet.origins[row]}: {column} must be one of {', '.join(EYE_OF)}, or empty. Found: {texts[row]!r}"
        for row, eye in zip(rows, eyes, strict=True)
        if eye is None and not is_unknown(texts[row])
    ]
    unknown = [name for name, eye in zip(names, eyes, strict=True) if eye is None]
    return eyes, noticed((f"pictures whose {column} is not known", unknown))


def _sets(
    sheet: Spreadsheet, rows: Sequence[int], names: tuple[str, ...], column: str, problems: list[str]
) -> tuple[tuple[str | None, ...], tuple[Notice, ...]]:
    texts = sheet.column(column)
    sets = tuple(SET_OF.get(texts[row].casefold()) for row in rows)
    problems += [
        f"{sheet.origins[row]}: {column} must be one of {', '.join(SET_OF)}, or empty. Found: {texts[row]!r}"
        for row, part in zip(rows, sets, strict=True)
        if part is None and not is_unknown(texts[row])
    ]
    without = [name for name, part in zip(names, sets, strict=True) if part is None]
    return sets, noticed((f"pictures in no set, since their {column} is empty", without))


def _on_two_sides(
    sheet: Spreadsheet, rows: Sequence[int], patients: Sequence[str], sets: Sequence[str | None]
) -> list[str]:
    problems = []
    first: dict[str, tuple[str, int]] = {}
    for patient, part, row in zip(patients, sets, rows, strict=True):
        if part is not None:
            before, line = first.setdefault(patient, (part, sheet.lines[row]))
            if before != part:
                problems.append(
                    f"{sheet.origins[row]}: patient {patient} is in {part}, and in {before} in line {line}; expected "
                    "one set for all pictures of a patient"
                )
    return problems
