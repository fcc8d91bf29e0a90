import os
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keras_realmnet.errors import DataSetError
from training.data.files.file_index import FileIndex

NAMES = ("a.jpg", "one/b.jpg", "two/b.jpg", "one/c.d.png", "one/e.jpg", ".hidden.jpg", ".git/f.jpg", "note.txt")


def index_of(folder, names=NAMES, **options):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return FileIndex(folder, (".jpg", ".png"), "the pictures", **options)


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("a.jpg", "a.jpg"),
        ("a", "a.jpg"),
        ("A.JPG", "a.jpg"),
        ("./a.jpg", "a.jpg"),
        ("one/b.jpg", "one/b.jpg"),
        ("two\\b.jpg", "two/b.jpg"),
        (r"C:\study\pictures\two\b.jpg", "two/b.jpg"),
        ("/home/other/one/e.jpg", "one/e.jpg"),
        ("e.jpg", "one/e.jpg"),
        ("c.d", "one/c.d.png"),
        ("two/e.jpg", None),  # not the one in another folder
        ("a.png", None),
        (".hidden.jpg", None),
        ("f.jpg", None),
        ("note.txt", None),
        ("", None),
        ("../a.jpg", "a.jpg"),  # nothing outside of the folder is ever found
    ],
)
def test_names_of_tables(tmp_path, name, found):
    path = index_of(tmp_path).find(name)
    assert (path and path.relative_to(tmp_path).as_posix()) == found


def test_a_name_that_may_be_several_files_is_refused(tmp_path):
    with pytest.raises(DataSetError, match=r"'b\.jpg' may be any of one/b\.jpg, two/b\.jpg; expected one of the pict"):
        index_of(tmp_path).find("b.jpg")
    with pytest.raises(DataSetError, match=r"'A\.JPG' may be any of A\.jpg, a\.jpg"):
        index_of(tmp_path, ["A.jpg"]).find("A.JPG")
    assert FileIndex(tmp_path, (".jpg",), "").find("A.jpg") == tmp_path / "A.jpg"


def test_base_names_have_no_ending(tmp_path):
    index = index_of(tmp_path)
    assert index.find_base_name("x/a.tif") == tmp_path / "a.jpg"
    assert index.find_base_name("two/b.png") == tmp_path / "two/b.jpg"
    assert index.find_base_name("c.d.jpg") == tmp_path / "one/c.d.png"
    assert index.find_base_name("c.jpg") is None


def test_order_and_folders_that_are_not_looked_into(tmp_path):
    assert [index_of(tmp_path).name(path) for path in index_of(tmp_path).paths] == [
        "a.jpg",
        "one/b.jpg",
        "one/c.d.png",
        "one/e.jpg",
        "two/b.jpg",
    ]
    assert len(index_of(tmp_path, without=[tmp_path / "one", tmp_path / "none"])) == 2
    with pytest.raises(DataSetError, match=r"none: no such folder; expected the pictures"):
        FileIndex(tmp_path / "none", (".jpg",), "the pictures")


def test_names_in_latin_1_and_in_the_other_form_of_accents(tmp_path):
    file = os.fsencode(tmp_path) + b"/m\xfcller.jpg"
    with open(file, "w"):
        pass
    (tmp_path / unicodedata.normalize("NFD", "élan.jpg")).touch()
    index = FileIndex(tmp_path, (".jpg",), "the pictures")
    assert os.fsencode(index.find("müller.jpg")) == file
    assert index.find("élan.jpg") == tmp_path / unicodedata.normalize("NFD", "élan.jpg")
    assert "müller.jpg" in map(index.name, index.paths)


PART = st.text("abAB.é_", min_size=1, max_size=3).filter(lambda text: text.strip(".") and not text.startswith("."))
FILES = st.sets(st.lists(PART, min_size=1, max_size=3).map(lambda parts: "x/".join(parts) + ".jpg"), min_size=1)


@given(FILES)
def test_every_file_is_found_by_its_own_path(tmp_path_factory, names):
    folder = tmp_path_factory.mktemp("index")
    index = index_of(folder, sorted(names))
    assert {index.name(path) for path in index.paths} == names
    for name in names:
        assert index.find(name) == folder / name
        assert index.find(name.replace("/", "\\")) == folder / name
        assert index.find_base_name(name) == folder / name
