"""Masks and points take the way of their picture into the model's square."""

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from keras_realmnet.screening.preprocessing import FieldGeometry, PreprocessSpec
from tests.training.tasks.vocabularies import DISC, LANDMARKS, SPOTS, task
from training.datasets.cache import cached_images
from training.datasets.prepared import Prepared, mask_in_square, points_in_square, read_and_prepare
from training.tasks.motion import IGNORE

NAN = np.nan


@given(
    source=st.tuples(st.integers(40, 90), st.integers(40, 90)),
    margins=st.tuples(*[st.integers(0, 4)] * 4),
    size=st.integers(24, 64),
    factor=st.sampled_from([1, 2]),
    at=st.tuples(st.floats(0.3, 0.7), st.floats(0.3, 0.7)),
)
def test_a_point_lies_in_the_middle_of_its_mask(source, margins, size, factor, at):
    """Also where the mask and the point are in a picture twice the size of what was decoded."""
    height, width = source
    box = (margins[0], margins[1], width - margins[2], height - margins[3])
    geometry = FieldGeometry(source, box, size)
    x, y = at[0] * width * factor, at[1] * height * factor
    rows, columns = np.mgrid[: height * factor, : width * factor]
    mask = (np.hypot(columns - x, rows - y) <= 6 * factor).astype(np.uint8)
    square = mask_in_square(mask, geometry)
    place = Prepared(np.zeros((size, size, 3), np.uint8), geometry, (height * factor, width * factor)).place
    (point,) = points_in_square(np.array([[[x, y, 1]]]), place[None], size)
    inside = np.nonzero(square == 1)
    centre = np.array([inside[1].mean(), inside[0].mean()])
    np.testing.assert_allclose(point[0, :2] * size - 0.5, centre, atol=0.75)
    (left, top), (across, down) = geometry.pad, geometry.content
    assert (square != IGNORE).sum() == across * down
    assert (square[top : top + down, left : left + across] != IGNORE).all()


def test_a_mask_follows_the_pixels_where_nothing_is_scaled():
    geometry = FieldGeometry((6, 8), (1, 0, 7, 4), 6)
    mask = np.arange(48, dtype=np.uint8).reshape(6, 8)
    square = mask_in_square(mask, geometry)
    np.testing.assert_array_equal(square[1:5], mask[:4, 1:7])
    np.testing.assert_array_equal(square[[0, 5]], IGNORE)
    both = mask_in_square(np.stack([mask, mask + 1], axis=-1), geometry)
    np.testing.assert_array_equal(both[1:5, :, 1], mask[:4, 1:7] + 1)


def test_points_outside_of_the_square_are_not_visible_and_unknown_ones_stay_so():
    place = Prepared(np.zeros((10, 10, 3), np.uint8), FieldGeometry((20, 20), (5, 5, 15, 15), 10)).place
    points = np.array([[[7.0, 9.0, 1], [2.0, 9.0, 1], [NAN, NAN, 0], [NAN, NAN, NAN]]])
    moved = points_in_square(points, place[None], 10)
    expected = [[[0.25, 0.45, 1], [NAN, NAN, 0], [NAN, NAN, 0], [NAN, NAN, NAN]]]
    np.testing.assert_allclose(moved, np.array(expected, np.float32), rtol=1e-6)
    with pytest.raises(ValueError, match="need the geometry"):
        _ = Prepared(np.zeros((10, 10, 3), np.uint8)).place


SPEC = PreprocessSpec(size=32)


def read(path):
    """A picture whose disc is where it is brightest."""
    mask = (cv2.imread(str(path))[..., 0] > 200).astype(np.uint8)
    return read_and_prepare(path, SPEC, {"disc": lambda size: mask, "spots": lambda size: np.dstack([mask] * 3)})


def test_masks_and_points_are_cached_with_their_pictures(tmp_path, monkeypatch):
    monkeypatch.setattr("os.cpu_count", lambda: 1)  # in this process
    paths, points = [], []
    for k in range(3):
        image = np.full((60, 80, 3), 90, np.uint8)
        x, y = 20 + 15 * k, 30
        cv2.circle(image, (x, y), 8, (255, 255, 255), -1)
        paths.append(tmp_path / f"{k}.png")
        cv2.imwrite(str(paths[-1]), image)
        points.append([[x, y, 1], [NAN, NAN, NAN]])
    asked = task(disc=DISC, spots=SPOTS, marks=LANDMARKS)
    names = tuple(path.name for path in paths)

    def load(task=asked, **truth):
        return cached_images(
            "marked",
            read,
            paths,
            identity={},
            task=task,
            truth=truth,
            names=names,
            patients=names,
            spec=SPEC,
            cache=tmp_path / "cache",
        )

    data = load(marks=np.array(points, np.float32))
    assert isinstance(data.masks["disc"], np.memmap)
    for k in range(3):
        bright = data.image(k)[..., 0] > 170
        mask = data.truth_of("disc")[k]
        assert ((mask == 1) == bright)[mask != IGNORE].mean() > 0.97
        np.testing.assert_array_equal(data.truth_of("spots", np.array([k]))[0, ..., 2], mask)
        rows, columns = np.nonzero(mask == 1)
        place = data.truth["marks"][k, 0, :2] * 32 - 0.5
        np.testing.assert_allclose(place, [columns.mean(), rows.mean()], atol=0.6)
    assert np.isnan(data.truth["marks"][:, 1]).all()
    again = load(marks=np.array(points, np.float32))
    assert again.sha256 == data.sha256
    assert len(list((tmp_path / "cache").iterdir())) == 1
    moved = load(marks=np.array(points, np.float32)[:, ::-1])
    assert moved.sha256 != data.sha256  # other points, the same pixels and masks
    assert len(list((tmp_path / "cache").iterdir())) == 1
    load(task(disc=DISC))
    assert len(list((tmp_path / "cache").iterdir())) == 2
    few = data.select(np.array([2, 0]))
    np.testing.assert_array_equal(few.truth_of("disc"), data.truth_of("disc")[[2, 0]])
    np.testing.assert_array_equal(few.truth["marks"], data.truth["marks"][[2, 0]])
