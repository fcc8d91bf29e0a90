"""Proof: people who share a patient number are never combined, whatever the order in which their images come.

    python -m tests.proofs.dicom.identity --count 200

Patient numbers with one to three people each, whose names are written in several ways and character sets, or missing,
are sent to a whole box over several associations at once. Every line of the worklist is of one person; who contradicts
another, or could be either of two, carries a warning, in the store and in the file that was delivered; who shares a
number with nobody is one line a day.
"""

import argparse
import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from random import Random

from pydicom import Dataset

from edge_app.identity import differences
from edge_app.present.visits import visits
from edge_app.store.records import Result
from edge_app.store.store import Store
from edge_app.web.worklist import Filter, Worklist
from tests.proofs import peers, served

FAMILIES = (
    ("Müller", "MUELLER"),
    ("Schröder", "Schroder"),
    ("O'Neill", "ONEILL"),
    ("Łukasz", "Lukasz"),
    ("Doe", "DOE", "doe"),
)
GIVEN = ("Eva", "Jane", "Pat", "Ann Mary")
DAYS = ("20260301", "20260302")


@dataclass(frozen=True)
class Person:
    number: str
    spellings: tuple[str, ...]
    birth_date: str


def people(count: int, random: Random) -> list[Person]:
    """One to three people for each of `count` patient numbers, with no name and no birth date in common."""
    found = []
    for number in range(count):
        families, years = random.sample(FAMILIES, 3), random.sample(range(1930, 2000), 3)
        for family, year in list(zip(families, years, strict=True))[: random.choice((1, 1, 2, 3))]:
            given = random.choice(GIVEN)
            names = (f"{each}^{given}" for each in family)
            spellings = tuple(spelling for name in names for spelling in (name, name.upper(), name.replace("^", ", ")))
            found.append(Person(f"N-{number}", spellings, f"{year}0229" if year % 4 == 0 else f"{year}0228"))
    return found


def images(person: Person, pixels, random: Random) -> list[Dataset]:
    """Both eyes on two days; what the header says of the person is written anew each time, or missing."""
    made = []
    for day in DAYS:
        for eye in "RL":
            name = random.choice((*person.spellings, ""))
            latin = name.encode("latin-1", "ignore").decode("latin-1") == name and random.random() < 0.5
            image = peers.ophthalmic(
                pixels,
                SpecificCharacterSet="ISO_IR 100" if latin else "ISO_IR 192",
                PatientID=person.number,
                PatientBirthDate=random.choice((person.birth_date, person.birth_date, "")),
                StudyDate=day,
                ImageLaterality=eye,
            )
            image.PatientName = name
            made.append(image)
    return made


def prove(folder: Path, count: int, bundle: Path, seed: int = 0) -> str:
    """Raises AssertionError where it does not hold; returns what was counted."""
    random = Random(seed)
    pixels = served.picture(1)
    sent = [(person, image) for person in people(count, random) for image in images(person, pixels, random)]
    random.shuffle(sent)
    of_object = {image.SOPInstanceUID: person for person, image in sent}
    out = folder / "out"
    out.mkdir(parents=True)
    box = served.Box(
        folder, bundle, destination=[{"name": "files", "kind": "folder", "path": str(out), "results": ["json"]}]
    )
    with box.running():
        with ThreadPoolExecutor(4) as pool:
            statuses = set(pool.map(lambda pair: served.send(box.dicom_port, pair[1]), sent))
        assert statuses == {0x0000}, statuses
        box.wait_until_idle(60 + 2 * len(sent))
        log = box.log.read_text()
        with box.store() as store:
            shared, warned = _check(store, of_object, out)
    names = {word for person, _ in sent for spelling in person.spellings for word in spelling.split("^")}
    assert not [name for name in names if name in log], "a name is in the log"
    return (
        f"{len(sent)} images of {len(set(of_object.values()))} people with {count} patient numbers, {shared} of which "
        f"are shared: no line with two people; {warned} images carry a warning"
    )


def _check(store: Store, of_object: dict[str, Person], out: Path) -> tuple[int, int]:
    """How many numbers are shared, and how many images carry a warning."""
    shared = warned = lines = 0
    for number in sorted({person.number for person in of_object.values()}):
        results = store.patient_records(number)
        truth = {id(result.record): of_object[result.item.sop_instance_uid] for result in results}
        assert len(results) == sum(person.number == number for person in of_object.values())
        found = visits([result.record for result in results])
        lines += len(found)
        for visit in found:
            assert len({truth[id(record)] for record in visit.records}) == 1, "two people on one line"
        contradicted = {
            result.item.id
            for pair in combinations(results, 2)
            if differences(pair[0].record, pair[1].record)
            for result in pair
        }
        for result in results:
            expected = bool(contradicted)  # also who could be either of them
            assert _is_warned(result.record.warnings) == expected
            assert _is_warned(_delivered(out, result)["warnings"]) == expected
        if len(set(truth.values())) == 1:
            assert not contradicted
            assert len(found) == len(DAYS), "one person is torn apart"
        shared += len(set(truth.values())) > 1
        warned += len(results) if contradicted else 0
    assert len(Worklist(store).rows(Filter())) == lines
    return shared, warned


def _is_warned(warnings: list[str] | tuple[str, ...]) -> bool:
    return any(warning.startswith("the patient number is ") for warning in warnings)


def _delivered(out: Path, result: Result) -> dict[str, object]:
    """The file of the result's last revision."""
    [file] = out.glob(f"{result.item.id:08d}-*-r{result.revision}.json")
    document: dict[str, object] = json.loads(file.read_text())
    return document


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=200, help="patient numbers")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    with served.scratch() as (directory, tiny):
        print(prove(directory / "box", options.count, tiny, options.seed))
