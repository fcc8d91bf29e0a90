"""Label lists: csv files with one row per image, one column per label, `filename` and the patient's `ID`.

The format of the public PSMM data set. Both of its dialects are read (labels as floats or as integers); further columns
(age, sex, …) are kept as text.
"""

import csv
import io
import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from keras_realmnet.errors import DataSetError
from keras_realmnet.tasks.vocabulary import PSMM, LabelSet

__all__ = [
    "LabelTable",
    "concatenate",
    "problems_error",
    "read_csv",
    "read_label_table",
    "spellings",
    "write_label_table",
]

SHOWN = 20  # problems printed before the rest is only counted
WORDS = {"true", "false", "yes", "no", "t", "f", "y", "n"}  # how other programs write labels
KNOWN_EXTRA = ("age", "sex", "eye", "date", "source", "axial_length", "refraction")  # columns that may come along


@dataclass(frozen=True)
class LabelTable:
    """Rows of one or several label lists, in their order; n rows.

    `labels`: uint8 (n, classes), 1 present, 0 absent. `names`: file names of the images, `patients`: ids; both (n,)
    str. `origins`: "file:line" of each row, (n,) str, for messages. `extra`: further columns, each (n,) str.
    """

    labels: NDArray[np.uint8]
    names: NDArray[np.str_]
    patients: NDArray[np.str_]
    origins: NDArray[np.str_]
    label_set: LabelSet = PSMM
    extra: Mapping[str, NDArray[np.str_]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.names)

    @property
    def sources(self) -> NDArray[np.str_]:
        """The hospital of each row: what stands before the first "-" of the patient id; (n,) str."""
        return np.char.partition(self.patients, "-")[:, 0] if len(self) else self.patients

    def take(self, rows: NDArray[np.intp] | NDArray[np.bool_] | Sequence[int]) -> "LabelTable":
        """The rows at these indices (or where a mask is true); a row may be taken more than once."""
        rows = np.asarray(rows)
        return replace(
            self,
            labels=self.labels[rows],
            names=self.names[rows],
            patients=self.patients[rows],
            origins=self.origins[rows],
            extra={name: values[rows] for name, values in self.extra.items()},
        )


def problems_error(problems: Sequence[str]) -> DataSetError:
    """One error that lists the problems found in a data set, the first `SHOWN` of them in full."""
    more = f" and {len(problems) - SHOWN} more" if len(problems) > SHOWN else ""
    noun = "problem" if len(problems) == 1 else "problems"
    return DataSetError(f"{len(problems)} {noun}: " + "; ".join(problems[:SHOWN]) + more)


def read_csv(path: str | Path, wanted: Sequence[str], what: str) -> tuple[list[str], list[tuple[int, list[str]]]]:
    """A table of text: its header, and (line, fields) of each row that is not empty, every field stripped.

    Args:
        wanted: columns that must be there once each.
        what: the table, for messages.

    Raises:
        DataSetError: there is no such file, it is not UTF-8 or has no commas, columns are missing, repeated or written
            in another case, or rows are longer or shorter than the header.
    """
    path = Path(path)
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DataSetError(f"{path}: cannot be read ({error.strerror}); expected {what} (csv)") from error
    try:
        text = data.decode("utf-8-sig")
        if "\0" in text:
            raise ValueError("it holds zero bytes, as UTF-16 does")
        reader = csv.reader(io.StringIO(text, newline=""))
        lines = [(reader.line_num, [field.strip() for field in row]) for row in reader]
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise DataSetError(f"{path}:{line}: not a csv file in UTF-8 ({error}); save it as “CSV UTF-8”") from error
    except (csv.Error, ValueError) as error:
        raise DataSetError(f"{path}: not a csv file in UTF-8 ({error}); save it as “CSV UTF-8”") from error
    header = lines[0][1] if lines else []
    rows = [(line, row) for line, row in lines[1:] if any(row)]
    expected = f"expected {', '.join(wanted)}"
    for separator in (";", "\t"):
        if not set(wanted) & set(header) and any(separator in field for field in header):
            raise DataSetError(f"{path}:1: the columns are separated by {separator!r}; {expected}, with commas")
    cases = {name.casefold(): name for name in wanted}
    others = [name for name in header if name not in wanted and cases.get(name.casefold(), name) not in (name, *header)]
    if others:
        right = ", ".join(repr(cases[name.casefold()]) for name in others)
        raise DataSetError(f"{path}:1: column {', '.join(map(repr, others))} must be written {right}")
    problems = []
    missing = [name for name in wanted if name not in header]
    repeated = sorted({name for name in header if header.count(name) > 1})
    for kind, names in (("missing", missing), ("repeated", repeated)):
        if names:
            problems.append(f"{path}:1: {kind} column {', '.join(map(repr, names))}; {expected}")
    if not problems:
        problems = [
            f"{path}:{line}: {len(row)} fields; expected {len(header)}" for line, row in rows if len(row) != len(header)
        ]
    if problems:
        raise problems_error(problems)
    return header, rows


def read_label_table(path: str | Path, label_set: LabelSet = PSMM) -> LabelTable:
    """Reads a label list.

    Raises:
        DataSetError: there is no such file, or it lists, with file and line, every missing or unknown column, label
            other than 0 and 1, and empty file name or id.
    """
    path = Path(path)
    wanted = (*label_set.codes, "filename", "ID")
    header, numbered = read_csv(path, wanted, "a label list")
    lines, rows = [line for line, _ in numbered], [row for _, row in numbered]
    problems: list[str] = []
    unknown = [name for name in header if name not in wanted and name.lower() not in KNOWN_EXTRA]
    if unknown:
        raise DataSetError(
            f"{path}:1: unknown column {', '.join(map(repr, unknown))}; expected {', '.join(wanted)}, and of others "
            f"only {', '.join(KNOWN_EXTRA)}"
        )
    columns = {name: [row[k] for row in rows] for k, name in enumerate(header)}
    words = [(line, text) for code in label_set.codes for line, text in zip(lines, columns[code], strict=True)]
    words = [(line, text) for line, text in words if text.casefold() in WORDS]
    if words:
        line, text = min(words)
        more = f", and {len(words) - 1} more such labels" if words[1:] else ""
        raise DataSetError(f"{path}:{line}: labels must be 0 or 1, not words. Found: {text!r}{more}")
    labels = np.zeros((len(rows), len(label_set)), np.uint8)
    for k, code in enumerate(label_set.codes):
        for n, text in enumerate(columns[code]):
            value = _number(text)
            if value not in (0.0, 1.0):
                problems.append(f"{path}:{lines[n]}: {code} must be 0 or 1. Found: {text!r}")
            else:
                labels[n, k] = value == 1.0
    for name in ("filename", "ID"):
        problems += [
            f"{path}:{line}: empty {name}" for text, line in zip(columns[name], lines, strict=True) if not text
        ]
    if problems:
        raise problems_error(problems)
    return LabelTable(
        labels=labels,
        names=np.array(columns["filename"], np.str_),
        patients=np.array(columns["ID"], np.str_),
        origins=np.array([f"{path}:{line}" for line in lines], np.str_),
        label_set=label_set,
        extra={name: np.array(columns[name], np.str_) for name in header if name not in wanted},
    )


def concatenate(tables: Iterable[LabelTable]) -> LabelTable:
    """The rows of several tables, one after the other; extra columns that not all of them have are left out."""
    tables = list(tables)
    shared = [name for name in tables[0].extra if all(name in table.extra for table in tables)]
    return replace(
        tables[0],
        labels=np.concatenate([table.labels for table in tables]),
        names=np.concatenate([table.names for table in tables]),
        patients=np.concatenate([table.patients for table in tables]),
        origins=np.concatenate([table.origins for table in tables]),
        extra={name: np.concatenate([table.extra[name] for table in tables]) for name in shared},
    )


def spellings(tables: Iterable[LabelTable]) -> Iterator[str]:
    """Patients whose ids differ only in case, form of the letters, separators or leading zeros, one sentence each."""
    first: dict[str, tuple[str, str]] = {}
    reported: set[str] = set()
    for table in tables:
        for patient, origin in zip(table.patients.tolist(), table.origins.tolist(), strict=True):
            known, where = first.setdefault(_spelling(patient), (patient, origin))
            if known != patient and patient not in reported:
                reported.add(patient)
                yield f"{origin}: patient {patient!r} is written {known!r} at {where}"


def _spelling(patient: str) -> str:
    """What is left of an id when spreadsheets and typists have had their way: `Eye_007 ` and `eye-7` are one."""
    plain = unicodedata.normalize("NFKC", patient).casefold()
    separated = re.sub(r"[\W_]+", "-", plain).strip("-")
    return re.sub(r"(?<![0-9])0+(?=[0-9])", "", separated)


def write_label_table(path: str | Path, table: LabelTable) -> None:
    """Writes a label list that `read_label_table` reads; it appears under its name only when it is complete."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.part")
    with temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow([*table.label_set.codes, "filename", "ID", *table.extra])
        extra = [list(values) for values in table.extra.values()]
        columns = (*table.labels.T.tolist(), table.names.tolist(), table.patients.tolist(), *extra)
        writer.writerows(zip(*columns, strict=True))
    temporary.replace(path)


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None
