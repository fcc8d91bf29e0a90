"""Bounded version of `python -m tests.proofs.files.frames`."""

from dataclasses import replace

from tests.proofs.files import frames


def test_each_picture_comes_back_by_its_number_or_the_file_is_refused_whole():
    found = frames.run(200)
    assert not found["faults"]
    assert found["pictures"] > 800
    assert 0 < found["refused whole"] < 100


def test_a_picture_that_is_missing_or_another_is_noticed():
    file = next(file for file in map(frames.make, range(50)) if len(file.pictures) > 2 and not file.refused)
    assert frames.check(file) is None
    more = [*file.pictures, file.pictures[0]]
    assert "pictures found" in frames.check(replace(file, pictures=more))
    exchanged = [file.pictures[1], file.pictures[0], *file.pictures[2:]]
    assert "picture 1 of" in frames.check(replace(file, pictures=exchanged))
    assert "pictures found" in frames.check(replace(file, refused=True))
