"""Two people are never combined, one person is not torn apart for a way of writing."""

from dataclasses import dataclass, replace
from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_app.identity import by_person_and_day, differences, persons, plain_name


@dataclass(frozen=True)
class Someone:
    patient_name: str | None = None
    birth_date: str | None = None
    sex: str | None = None
    patient_id_issuer: str | None = None
    number: int = 0
    patient_id: str | None = None
    study_date: str | None = None


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("DOE^JANE", "Doe^Jane"),
        ("DOE^JANE", "doe, jane"),
        ("DOE^JANE", " Doe  Jane "),
        ("Doe^Jane^^^", "DOE^JANE"),
        ("Doe_Jane", "DOE^JANE"),
        ("MÜLLER^Eva", "Mueller^Eva"),
        ("MÜLLER^Eva", "Muller^Eva"),
        ("Mu\u0308ller^Eva", "MÜLLER^EVA"),  # decomposed
        ("Groß^Uwe", "GROSS^UWE"),
        ("Åse^Nyström", "Aase^Nystroem"),
        ("Łódź^Æsa", "Lodz^Aesa"),
        ("O'Neill^Pat", "ONeill^Pat"),
        ("Smith-Jones^Ann", "Smith Jones^Ann"),
        ("Yamada^Tarou=山田^太郎=やまだ^たろう", "YAMADA^TAROU"),  # what is missing contradicts nothing
        ("Yamada^Tarou=山田^太郎", "=山田^太郎"),
        ("Ｙａｍａｄａ^Ｔａｒｏｕ", "Yamada^Tarou"),  # full width
        ("M\\xfcller^Eva", "Müller^Eva"),  # a byte that fits no character set: what it means is not known
        ("", "Doe^Jane"),
        (None, "Doe^Jane"),
    ],
)
def test_one_name_written_in_two_ways(one, other):
    assert differences(Someone(one), Someone(other)) == ()


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Doe^Jane", "Doe^John"),
        ("Doe^Jane", "Roe^Jane"),
        ("Doe^Jane", "Jane^Doe"),  # perhaps the same: a person must look
        ("Doe", "Doe^Jane"),
        ("Mueller^Eva", "Muller^Eva"),  # each may be Müller; but Xue and Xu are two names
        ("Yamada^Tarou=山田^太郎", "Yamada^Tarou=山田^次郎"),
        ("か", "が"),
    ],
)
def test_other_names(one, other):
    assert differences(Someone(one), Someone(other)) == ("name",)


def test_what_else_tells_people_apart():
    one = Someone("Doe^Jane", "1960-02-29", "F", "Hospital A")
    assert differences(one, Someone("DOE^JANE", "1960-02-29", "f", "hospital  a")) == ()
    other = Someone("Roe^Jo", "1961-02-28", "M", "Hospital B")
    assert differences(one, other) == ("name", "birth date", "sex", "issuer of the patient number")
    assert differences(one, Someone(sex="O")) == differences(one, Someone()) == ()


def numbers(groups) -> list[list[int]]:
    return [[someone.number for someone in group] for group in groups]


def test_those_who_know_too_little_stay_by_themselves_where_several_people_share_a_number():
    jane, john = Someone("Doe^Jane", "1960-01-01", number=0), Someone("Doe^John", number=1)
    nobody = Someone(number=2)
    assert numbers(persons([jane, nobody])) == [[0, 2]]
    assert numbers(persons([jane, john, nobody])) == [[0], [1], [2]]
    born_later = Someone(birth_date="1970-01-01", number=3)  # not Jane, so John
    assert numbers(persons([jane, john, born_later])) == [[0], [1, 3]]
    nobody_else = Someone(number=4)  # says as little as the other: they may be of two people
    assert numbers(persons([jane, nobody, john, nobody_else])) == [[0], [2], [1], [4]]
    assert numbers(persons([jane, nobody, nobody_else])) == [[0, 2, 4]]


def test_who_is_compatible_with_two_people_joins_neither_whatever_comes_first():
    name, born, other_name, other_born = (
        Someone("Doe^Jane", number=0),
        Someone(birth_date="1960-01-01", number=1),
        Someone("Doe^John", number=2),
        Someone(birth_date="1970-01-01", number=3),
    )
    for order in permutations((name, born, other_name, other_born)):
        assert all(len(person) == 1 for person in persons(order))
    for order in permutations((name, born, other_name)):  # born may be either's
        assert all(len(person) == 1 for person in persons(order))


values = st.builds(
    Someone,
    patient_name=st.sampled_from([None, "A^B", "a b", "C^D", "A^B=甲", "=甲", "=乙"]),
    birth_date=st.sampled_from([None, "1960-01-01", "1970-01-01"]),
    sex=st.sampled_from([None, "F", "M", "O"]),
    patient_id_issuer=st.sampled_from([None, "X", "Y"]),
)


@given(st.lists(values, max_size=8), st.randoms(use_true_random=False))
def test_no_group_holds_a_contradiction_and_the_order_of_arrival_does_not_matter(people, random):
    people = [Someone(p.patient_name, p.birth_date, p.sex, p.patient_id_issuer, n) for n, p in enumerate(people)]
    groups = persons(people)
    assert sorted(someone.number for group in groups for someone in group) == list(range(len(people)))
    for group in groups:
        assert not any(differences(a, b) for a in group for b in group)
    if not any(differences(a, b) for a in people for b in people):
        assert len(groups) <= 1
    shuffled = random.sample(people, len(people))
    as_before = {frozenset(someone.number for someone in group) for group in groups}
    assert {frozenset(someone.number for someone in group) for group in persons(shuffled)} == as_before


@given(
    st.lists(st.tuples(st.integers(0, 1), st.booleans(), st.booleans(), st.booleans()), max_size=8),
    st.sampled_from(["1960-01-01", "1970-01-01"]),
)
def test_no_group_is_of_two_people_where_each_is_known_from_one_image(hidden, born):
    """Whatever the headers of the other images leave out."""
    two = (Someone("A^B", "1960-01-01", "F"), Someone("C^D", born, "F"))
    people = [*two, *(_without(two[who], *missing) for who, *missing in hidden)]
    truth = [0, 1, *(who for who, *_ in hidden)]
    for group in persons([replace(someone, number=n) for n, someone in enumerate(people)]):
        assert len({truth[someone.number] for someone in group}) == 1


def _without(someone: Someone, name: bool, birth_date: bool, sex: bool) -> Someone:
    values = {"patient_name": name, "birth_date": birth_date, "sex": sex}
    return replace(someone, **{key: None for key, missing in values.items() if missing})


def test_records_are_grouped_by_person_and_day():
    eva, uwe = Someone("Muster^Eva", patient_id="7"), Someone("Muster^Uwe", patient_id="7")
    records = [
        replace(eva, study_date="2025-01-31", number=0),
        replace(uwe, study_date="2025-01-31", number=1),
        replace(eva, study_date="2024-06-01", number=2),
        replace(eva, study_date="2025-01-31", number=3),
        Someone("Doe^Jane", patient_id="8", number=4),
        Someone("Doe^Jane", study_date="2025-01-31", number=5),
        Someone("Doe^John", patient_id="", study_date="2024-06-01", number=6),
    ]

    def grouped(unnumbered):
        return [([each.number for each in group], shared) for group, shared in by_person_and_day(records, unnumbered)]

    numbered = [([0, 3], True), ([2], True), ([1], True), ([4], False)]
    assert grouped(lambda record: None) == [*numbered, ([5, 6], False)]
    assert grouped(lambda record: record.study_date) == [*numbered, ([5], False), ([6], False)]


def test_names_are_searched_for_as_people_type_them():
    assert plain_name("MÜLLER^Eva Maria^^Dr.") == "muller eva maria dr"
    assert plain_name("Yamada^Tarou=山田^太郎") == "yamada tarou 山田 太郎"
