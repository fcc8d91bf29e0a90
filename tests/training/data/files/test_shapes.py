"""Shapes cover what geometry says, at every resolution."""

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from keras_realmnet.errors import DataSetError
from training.data.files.mask_codings import IGNORE
from training.data.files.mask_files import MaskTruth, find_all_masks
from training.data.files.shapes import ShapeCoding
from training.data.own_data.own_table import read_own_table
from training.data.own_data.vocabulary import parse_vocabulary

WIDTH, HEIGHT = 60, 40
ONE = ShapeCoding((("A",),))


def written(path, *shapes, size=(WIDTH, HEIGHT)):
    path.write_text(json.dumps({"imageWidth": size[0], "imageHeight": size[1], "imageData": None, "shapes": shapes}))
    return path


def shape(kind, *points, label="A", **values):
    return {"label": label, "shape_type": kind, "points": points, "group_id": None, "flags": {}, **values}


def mask(path, *shapes, coding=ONE, enlarged=1):
    return coding.read(written(path, *shapes), (WIDTH * enlarged, HEIGHT * enlarged))[..., 0]


@st.composite
def drawings(draw):
    x, y = st.floats(-10, WIDTH + 10), st.floats(-10, HEIGHT + 10)
    kind = draw(st.sampled_from(["polygon", "rectangle", "circle", "ellipse"]))
    count = {"polygon": draw(st.integers(3, 8)), "ellipse": 1}.get(kind, 2)
    points = draw(st.lists(st.tuples(x, y), min_size=count, max_size=count, unique=True))
    radius = st.floats(0.5, 30)
    more = {"radii": [draw(radius), draw(radius)], "angle": draw(st.floats(-360, 360))} if kind == "ellipse" else {}
    return shape(kind, *points, **more)


@given(drawings())
def test_a_larger_picture_has_the_same_shapes(tmp_path_factory, drawn):
    """Of nine pixels for one the middle one has its centre."""
    path = tmp_path_factory.mktemp("m") / "m.json"
    np.testing.assert_array_equal(mask(path, drawn, enlarged=3)[1::3, 1::3], mask(path, drawn))


@given(st.floats(2, 9), st.floats(2, 9), st.floats(0, 180), st.floats(12, 48), st.floats(12, 28))
def test_an_ellipse_has_its_area_centre_and_direction(tmp_path_factory, a, b, angle, x, y):
    path, scale = tmp_path_factory.mktemp("m") / "m.json", 8
    drawn = mask(path, shape("ellipse", [x, y], radii=[a, b], angle=angle), enlarged=scale)
    rows, columns = np.nonzero(drawn)
    at = np.stack([columns + 0.5, rows + 0.5]) / scale
    # Both errors shrink with the outline's length in pixels.
    assert len(rows) / scale**2 == pytest.approx(math.pi * a * b, rel=0.02)
    assert at.mean(axis=1) == pytest.approx([x, y], abs=0.05)
    c, s = math.cos(math.radians(angle)), math.sin(math.radians(angle))
    along = np.array([c, s]) @ (at - [[x], [y]])
    assert along.var() == pytest.approx(a * a / 4, rel=0.03)


def test_a_polygon_equals_its_formula(tmp_path):
    corners = [[5.3, 4.1], [50.2, 8.7], [31.9, 35.4], [28.0, 15.0]]
    drawn = mask(tmp_path / "m.json", shape("polygon", *corners), enlarged=10)
    x, y = np.array(corners).T
    area = abs((x * np.roll(y, -1) - y * np.roll(x, -1)).sum()) / 2
    assert drawn.sum() / 100 == pytest.approx(area, rel=0.002)
    points = [(30, 14), (32, 30), (12, 6), (29, 20), (20, 20), (45, 20)]
    assert [int(drawn[10 * v, 10 * u]) for u, v in points] == [1, 1, 1, 1, 0, 0]


def test_a_rectangle_and_a_circle(tmp_path):
    drawn = mask(tmp_path / "m.json", shape("rectangle", [8, 6], [2, 3]), shape("circle", [30, 20], [33, 24]))
    expected = np.zeros((HEIGHT, WIDTH))
    expected[3:6, 2:8] = 1  # from edge to edge of the pixels
    v, u = np.mgrid[:HEIGHT, :WIDTH] + 0.5
    expected[np.hypot(u - 30, v - 20) <= 5] = 1
    np.testing.assert_array_equal(drawn, expected)


def test_a_shape_without_a_pixel_centre_and_one_outside(tmp_path):
    small, beside = shape("circle", [10, 10], [10.4, 10]), shape("rectangle", [-20, -20], [-5, 300])
    assert not mask(tmp_path / "m.json", small, beside).any()
    assert mask(tmp_path / "m.json", small, enlarged=10).sum() == pytest.approx(100 * math.pi * 0.16, rel=0.1)


def test_names_say_labels_others_and_what_is_not_known(tmp_path):
    coding = ShapeCoding((("A", "B"), ("C",)), ignore=("unsure",), others=("scar",))
    path = written(
        tmp_path / "m.json",
        shape("rectangle", [0, 0], [4, 4], label="B"),
        shape("rectangle", [2, 0], [8, 8], label="unsure"),
        {"label": "scar", "points": [[0, 30], [20, 30], [20, 40]]},  # a polygon
    )
    masks = coding.read(path, (WIDTH, HEIGHT))
    assert masks[1, [0, 3, 6, 9]].tolist() == [[1, 0], [1, IGNORE], [IGNORE, IGNORE], [0, 0]]
    assert not masks[10:].any()
    with pytest.raises(DataSetError, match=r"m\.json: has shapes that the vocabulary does not name: B, scar, unsure"):
        ONE.read(path, (WIDTH, HEIGHT))


@pytest.mark.parametrize(
    ("drawn", "message"),
    [
        (shape("point", [1, 1]), r"shapes\[0\]: shape_type must be one of polygon, .* Found: 'point'"),
        (shape("circle", [1, 1]), r"a circle has 2 points, each with x and y\. Found: \[\[1, 1\]\]"),
        (shape("circle", [1, 1], [1, 1]), r"a circle has its centre and another point"),
        (shape("polygon", [1, 1], [2, 2]), r"a polygon has three or more points"),
        (shape("polygon", [1, 1], [2, 2], [3, float("nan")]), r"each with x and y"),
        (shape("ellipse", [1, 1], radii=[3, 0], angle=0), r"two radii above 0\. Found: \[3, 0\]"),
        (shape("ellipse", [1, 1], radii=[3, 2]), r"KeyError 'angle'"),
        ({"shape_type": "circle", "points": [[1, 1], [2, 2]]}, r"KeyError 'label'"),
    ],
)
def test_each_error_names_the_shape(tmp_path, drawn, message):
    with pytest.raises(DataSetError, match=r"m\.json: .*" + message):
        mask(tmp_path / "m.json", drawn)


def test_a_file_that_is_none_or_of_another_picture(tmp_path):
    path = written(tmp_path / "m.json")
    assert not ONE.read(path, (2 * WIDTH, 2 * HEIGHT + 1)).any()  # as rounding makes it
    with pytest.raises(DataSetError, match=r"was drawn on 60 x 40 pixels; expected the form of its picture, 40 x 60"):
        ONE.read(path, (HEIGHT, WIDTH))
    for text in ("", "[]", '{"imageWidth": 3, "shapes": []}', '{"imageWidth": 0, "imageHeight": 3, "shapes": []}'):
        path.write_text(text)
        with pytest.raises(DataSetError, match=r"cannot be read as shapes .* imageWidth, imageHeight and shapes"):
            ONE.read(path, (WIDTH, HEIGHT))


def test_a_vocabulary_takes_them(tmp_path):
    for name in ("a", "b"):
        Image.fromarray(np.full((HEIGHT, WIDTH, 3), 120, np.uint8)).save(tmp_path / f"{name}.jpg")
    (tmp_path / "shapes").mkdir()
    written(tmp_path / "shapes" / "a.json", shape("rectangle", [0, 0], [4, 4], label="blot"))
    entries = [
        {"code": "HE", "name": "Haemorrhage", "meaning": "haemorrhage", "shapes": ["blot", "flame"]},
        {"code": "SE", "name": "Soft exudate", "meaning": "soft exudate", "shapes": ["cotton wool"]},
    ]
    output = {"name": "lesions", "kind": "masks", "exclusive": False, "folder": "shapes", "entries": entries}
    vocabulary = parse_vocabulary({"name": "clinic", "modality": "colour_fundus", "outputs": [output]})
    truth = read_own_table(tmp_path, None, vocabulary).truth["lesions"]
    assert isinstance(truth, MaskTruth)
    assert truth.known.tolist() == [[True, True], [False, False]]
    assert truth.read(0, (WIDTH, HEIGHT)).sum(axis=(0, 1)).tolist() == [16, 0]
    with pytest.raises(DataSetError, match=r"no mask of any picture; expected the pictures' names with _x and \.json"):
        find_all_masks(tmp_path, ["a.jpg"], [("shapes", "_x")], "unknown", "lesions", endings=ShapeCoding.endings)
