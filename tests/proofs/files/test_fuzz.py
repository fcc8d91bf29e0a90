"""Bounded version of `python -m tests.proofs.files.fuzz`."""

from tests.proofs.files import fuzz


def test_damaged_files_never_crash_the_decoders():
    found = fuzz.run(150)
    assert not found["faults"]
    assert sum(found["counts"].values()) == 150
    assert any(outcome.startswith("picture") for outcome in found["counts"])
    assert any(outcome.startswith("refused") for outcome in found["counts"])
    assert found["peak_mib"] < 1024


def test_bombs_are_refused_unopened():
    fuzz.bombs_are_refused_unopened()


def test_a_child_that_fails_is_noticed():
    found = fuzz.run(2, memory=0)  # it cannot allocate anything
    assert len(found["faults"]) == 2
