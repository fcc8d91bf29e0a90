"""Who is the patient? A patient number alone does not tell: archives use one again, and people mistype it.

Records of one number that contradict in name, birth date, sex or issuer of the number are of different people and are
never combined. A value that is missing contradicts nothing. Names are compared without case, blanks, separators and
accents; `MÜLLER^Eva` is written `Mueller, Eva` or `Muller Eva`. These two by themselves contradict, as Xue and Xu do.
"""

import re
import unicodedata
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import combinations
from typing import Protocol, TypeVar

__all__ = ["Named", "by_person_and_day", "differences", "persons", "plain_name"]

# Letters that are not made of a base letter and an accent, as people write them without; umlauts have two ways.
LETTERS = str.maketrans({"ø": "o", "ł": "l", "đ": "d", "ð": "d", "þ": "th", "æ": "ae", "œ": "oe", "ı": "i"})
UMLAUTS = str.maketrans({"ä": "ae", "ö": "oe", "ü": "ue", "å": "aa", "ø": "oe"})
UNDECODED = re.compile(r"\\x[0-9a-f]{2}|\ufffd")  # bytes that fit no character set: what they mean is not known
KNOWN_SEXES = ("M", "F")  # "O" (other) and what is not DICOM's contradicts nothing


class Named(Protocol):
    """What tells people apart, and `ScreeningRecord` has."""

    @property
    def patient_name(self) -> str | None: ...

    @property
    def birth_date(self) -> str | None: ...

    @property
    def sex(self) -> str | None: ...

    @property
    def patient_id_issuer(self) -> str | None: ...


class Numbered(Named, Protocol):
    """A record of a picture, with the patient number and the day that it was taken on."""

    @property
    def patient_id(self) -> str | None: ...

    @property
    def study_date(self) -> str | None: ...


R = TypeVar("R", bound=Named)
N = TypeVar("N", bound=Numbered)


@dataclass(frozen=True)
class _Identity:
    """Values that can be compared. `names`: per component group of the name (PS3.5 6.2.1.1) its possible spellings."""

    names: tuple[frozenset[str], ...]
    birth_date: str | None
    sex: str | None
    issuer: str | None

    def differences(self, other: "_Identity") -> tuple[str, ...]:
        pairs = (
            ("birth date", self.birth_date, other.birth_date),
            ("sex", self.sex, other.sex),
            ("issuer of the patient number", self.issuer, other.issuer),
        )
        names = zip(self.names, other.names, strict=False)
        other_name = any(mine and theirs and not mine & theirs for mine, theirs in names)
        return (*(("name",) if other_name else ()), *(what for what, a, b in pairs if a and b and a != b))


def differences(one: Named, other: Named) -> tuple[str, ...]:
    """In what two records contradict each other: "name", "birth date", "sex", "issuer of the patient number"."""
    return _identity(one).differences(_identity(other))


def persons(records: Sequence[R]) -> list[list[R]]:
    """Records of one patient number, person by person, each in the order in which it came.

    All records of a person agree with one another. One that agrees with two which contradict each other could be of
    either: it stays by itself, also beside others that say the same. The order of the records changes nothing of this.
    """
    groups: dict[_Identity, list[int]] = {}
    for number, record in enumerate(records):
        groups.setdefault(_identity(record), []).append(number)
    agreeing = {one: [other for other in groups if not one.differences(other)] for one in groups}
    clear = {one for one, others in agreeing.items() if not any(a.differences(b) for a, b in combinations(others, 2))}
    numbers = [[number] for one in groups if one not in clear for number in groups[one]]
    for one in groups:
        person = [other for other in agreeing[one] if other in clear]  # these all agree with the same ones
        if one in clear and person[0] is one:
            numbers.append(sorted(number for identity in person for number in groups[identity]))
    return [[records[number] for number in person] for person in sorted(numbers)]


def by_person_and_day(records: Iterable[N], unnumbered: Callable[[N], Hashable]) -> Iterator[tuple[list[N], bool]]:
    """The records of each person on each day, and whether somebody else has the same patient number.

    `unnumbered`: of records without a patient number, whose days then do not count, those stay together for which it
    gives the same.
    """
    numbers: dict[tuple[str | None, Hashable], list[N]] = {}
    for record in records:
        number = record.patient_id or None
        numbers.setdefault((number, unnumbered(record) if number is None else None), []).append(record)
    for (number, _), of_number in numbers.items():
        if number is None:
            yield of_number, False
            continue
        people = persons(of_number)
        for person in people:
            days: dict[str | None, list[N]] = {}
            for record in person:
                days.setdefault(record.study_date, []).append(record)
            yield from ((of_day, len(people) > 1) for of_day in days.values())


def plain_name(name: str) -> str:
    """A name as people search for it: lower case, without separators and accents."""
    return " ".join(_spelling(name.replace("=", " ")))


def _identity(record: Named) -> _Identity:
    return _compared(record.patient_name, record.birth_date, record.sex, record.patient_id_issuer)


@lru_cache(maxsize=65536)
def _compared(name: str | None, birth_date: str | None, sex: str | None, issuer: str | None) -> _Identity:
    return _Identity(
        tuple(_spellings(group) for group in (name or "").split("=")),
        birth_date or None,
        (sex or "").upper() if (sex or "").upper() in KNOWN_SEXES else None,
        " ".join((issuer or "").casefold().split()) or None,
    )


def _spellings(group: str) -> frozenset[str]:
    """How one component group may be written; none where it says nothing."""
    if UNDECODED.search(group):
        return frozenset()
    text = unicodedata.normalize("NFKC", group).casefold()
    spellings = (" ".join(_spelling(each)) for each in (text, text.translate(UMLAUTS)))
    return frozenset(spelling for spelling in spellings if spelling)


def _spelling(text: str) -> Iterator[str]:
    """The words of a name, without accents; apostrophes and hyphens are blanks or nothing, as people write them."""
    text = unicodedata.normalize("NFKD", text.casefold().translate(LETTERS))
    text = unicodedata.normalize("NFC", re.sub(r"[\u0300-\u036f'’`´]", "", text))
    yield from re.sub(r"[\^,.;_\-]", " ", text).split()
