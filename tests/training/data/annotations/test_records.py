import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_realmnet.errors import DataSetError
from keras_realmnet.tasks.regions import REGIONS, region_map
from training.data.annotations.records import Annotations, Picture, read_annotations, write_annotations

NAMES = {"EX": "Hard exudate", "HE": "Haemorrhage"}
DISC, FOVEA = (40.0, 30.0), (20.0, 31.5)

regions = st.lists(st.sampled_from(REGIONS), unique=True, max_size=3).map(tuple)
marks = st.dictionaries(
    st.text(min_size=1, max_size=3), st.dictionaries(st.sampled_from([*NAMES]), regions), max_size=4
)
numbers = st.integers(-400, 4000).map(lambda eighths: eighths / 8)
points = st.tuples(numbers, numbers)


@st.composite
def pictures(draw, name):
    disc, fovea = draw(st.none() | points), draw(st.none() | points)
    if disc and fovea and disc[0] == fovea[0]:
        fovea = None
    return Picture(name, draw(marks), disc, fovea, draw(st.none() | st.text(max_size=4)))


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 3).flatmap(lambda n: st.tuples(*(pictures(f"images/{k}.jpg") for k in range(n)))))
def test_what_is_written_is_read_again(tmp_path_factory, written):
    path = tmp_path_factory.getbasetemp() / "annotations.json"
    annotations = Annotations(NAMES, written)
    write_annotations(path, annotations)
    assert read_annotations(path) == annotations


@pytest.mark.parametrize(
    ("said", "label"),
    [
        ([(), (), ()], 0),
        ([("macula",), (), ()], np.nan),
        ([("macula",), ("temporal",), ()], 1),
        ([("macula",), ("macula",), ("macula",)], 1),
        ([("macula",)], 1),
        ([()], 0),
        ([("macula",), ()], np.nan),
        ([("macula",), ("macula",), (), ()], np.nan),
        ([("macula",), ("macula",), ("temporal",), ()], 1),
        ([], np.nan),
    ],
)
def test_two_of_three_make_a_finding_and_one_leaves_it_open(said, label):
    picture = Picture("a", {str(k): {"EX": regions} for k, regions in enumerate(said)}, DISC, FOVEA)
    np.testing.assert_equal(picture.label("EX"), label)
    assert picture.votes("EX") == (sum(map(bool, said)), len(said))
    assert np.isnan(picture.label("HE"))  # nobody looked for it


def test_the_mask_is_the_union_of_what_anybody_marked():
    picture = Picture(
        "a",
        {
            "A": {"EX": ("temporal", "macula"), "HE": ()},
            "B": {"EX": ("superior disc",), "HE": ()},
            "C": {"EX": ()},
        },
        DISC,
        FOVEA,
    )
    assert picture.marked("EX") == ("superior disc", "macula", "temporal")
    mask = picture.mask("EX", (64, 48))
    assert (mask.shape, mask.dtype) == ((48, 64, 1), np.uint8)
    found = np.array(REGIONS)[region_map((48, 64), DISC, FOVEA)]
    np.testing.assert_array_equal(mask[..., 0] == 1, np.isin(found, ["superior disc", "macula", "temporal"]))
    assert set(np.unique(mask)) == {0, 1}
    assert not picture.mask("HE", (64, 48)).any()
    assert (Picture("a", {}, DISC, FOVEA).mask("EX", (4, 4)) == 255).all()  # nobody looked
    placeless = Picture("a", picture.marks, DISC)
    assert (placeless.mask("EX", (4, 4)) == 255).all()
    assert not placeless.mask("HE", (4, 4)).any()


GOOD = {"picture": "a.jpg", "marks": {"A": {"EX": ["macula"]}}, "disc": [4, 5], "fovea": [9.5, 5]}


def content(**picture):
    return {"schema": 1, "findings": NAMES, "pictures": [{**GOOD, **picture}]}


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (content(marks={"A": {"EX": ["nasal"]}}), r"picture 1 \(a.jpg\): A, EX: regions are some of superior disc"),
        (content(marks={"A": {"EX": ["macula", "macula"]}}), r"each once\. Received: macula, macula"),
        (content(marks={"A": {"XX": []}}), r"a\.jpg: findings are EX, HE\. Received: XX"),
        (content(marks={"A": ["EX"]}), r"picture 1 \(a.jpg\): marks are \{annotator: \{finding"),
        (content(marks={"A": {"EX": "macula"}}), r"marks are \{annotator"),
        (content(disc=[4]), r"picture 1 \(a.jpg\): disc must be \[x, y\] in pixels, or null\. Received: \[4\]"),
        (content(fovea=[float("nan"), 3]), r"fovea must be \[x, y\]"),
        (content(fovea=[4, 9]), r"picture 1 \(a.jpg\): the fovea must lie to the left or to the right"),
        (content(colour="red"), r"picture 1 \(a.jpg\) has no field 'colour'"),
        (content(picture=3), r"picture 1 \(3\): picture must be a text\. Received: 3"),
        ({**content(), "pictures": [GOOD, GOOD]}, r"must be there once\. Received twice: a\.jpg"),
        ({**content(), "pictures": ["a.jpg"]}, r"picture 1: an object expected"),
        ({**content(), "pictures": []}, r"pictures are a list, with at least one"),
        ({**content(), "schema": 2}, r"records of annotators have findings, pictures, schema, schema 1"),
        ({**content(), "findings": ["EX"]}, r"findings are \{code: name\}"),
        ([], r"records of annotators have"),
    ],
)
def test_what_no_record_is_is_named(tmp_path, values, message):
    path = tmp_path / "annotations.json"
    path.write_text(json.dumps(values))
    with pytest.raises(DataSetError, match=message) as told:
        read_annotations(path)
    assert str(told.value).startswith(f"{path}: ")
    assert str(told.value).count(str(path)) == 1


def test_no_file_and_no_json(tmp_path):
    with pytest.raises(DataSetError, match=r"cannot be read .*; expected records of annotators"):
        read_annotations(tmp_path / "none.json")
    (tmp_path / "half.json").write_text('{"schema": 1')
    with pytest.raises(DataSetError, match=r"half\.json: not JSON"):
        read_annotations(tmp_path / "half.json")
