"""Which files a command line means."""

import os

import pytest

from edge_app.analysis.intake import find_images
from keras_realmnet.errors import RealMNetError


@pytest.fixture
def folder(tmp_path, save):
    root = tmp_path / "in"
    save(root / "b.jpg", "negative")
    save(root / "sub" / "a.png", "negative")
    save(root / "jpeg.txt.png", "negative").rename(root / "picture.dat")  # an image by content alone
    for name in ("Thumbs.db", "README.md", "labels.csv", "README", "DICOMDIR", ".hidden.jpg", "broken.jpg", "1.2.3"):
        (root / name).write_bytes(b"no image")
    (root / ".git").mkdir()
    (root / ".git" / "c.jpg").write_bytes(b"")
    return root


def names(paths):
    return [path.name for path in paths]


def test_a_folder_gives_its_images_and_what_claims_to_be_one(folder, tmp_path):
    intake = find_images([str(folder)], tmp_path / "results")
    assert names(intake.files) == ["1.2.3", "b.jpg", "broken.jpg", "picture.dat", "a.png"]
    assert set(names(intake.skipped)) == {"Thumbs.db", "README.md", "labels.csv", "README", "DICOMDIR", ".hidden.jpg"}


def test_named_files_are_taken_whatever_they_are_and_each_once(folder, tmp_path, monkeypatch):
    monkeypatch.chdir(folder)
    intake = find_images(["README.md", str(folder), "b.jpg", "./b.jpg", str(folder / "b.jpg")], tmp_path / "results")
    assert names(intake.files).count("b.jpg") == 1
    assert names(intake.files)[0] == "README.md"
    assert "README.md" not in names(intake.skipped)


def test_globs_and_file_names_that_look_like_globs(folder, tmp_path, save):
    assert names(find_images([str(folder / "**" / "*.png")], tmp_path).files) == ["a.png"]
    odd = save(folder / "eye[1].jpg", "negative")
    assert find_images([str(odd)], tmp_path).files == (odd,)


@pytest.mark.parametrize("name", ["absent.jpg", "absent", "*.xyz"])
def test_what_does_not_exist_is_named(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(RealMNetError) as error:
        find_images([name], tmp_path / "results")
    assert name in str(error.value)


def test_results_are_never_screened(folder, save):
    save(folder / "results" / "overlays" / "x.jpg", "negative")
    save(folder / "earlier" / "overlays" / "y.jpg", "negative")
    (folder / "earlier" / "records.jsonl").write_text("")
    found = names(find_images([str(folder)], folder / "results").files)
    assert "x.jpg" not in found
    assert "y.jpg" not in found


def test_loops_of_links_end(folder, tmp_path):
    os.symlink(folder, folder / "sub" / "loop")
    os.symlink(folder / "gone.jpg", folder / "dangling.jpg")
    assert "dangling.jpg" in names(find_images([str(folder)], tmp_path / "results").files)
