"""Two people are never combined, one person is not torn apart for a way of writing."""

from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_app.identity import differences, persons, plain_name


@dataclass(frozen=True)
class Someone:
    patient_name: str | None = None
    birth_date: str | None = None
    sex: str | None = None
    patient_id_issuer: str | None = None
    number: int = 0


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
    again = persons(shuffled)
    for group in again:
        assert not any(differences(a, b) for a in group for b in group)


def test_names_are_searched_for_as_people_type_them():
    assert plain_name("MÜLLER^Eva Maria^^Dr.") == "muller eva maria dr"
    assert plain_name("Yamada^Tarou=山田^太郎") == "yamada tarou 山田 太郎"
