"""The overlay picture: layout, and a contour where the class map is high and nowhere else."""

import io

import numpy as np
import pytest
from PIL import Image

from keras_realmnet.errors import RealMNetError
from keras_realmnet.screening.overlay import GAP, MARGIN, TITLE, Evidence, draw, panels
from keras_realmnet.screening.preprocessing import FieldGeometry

SIZE = (600, 800)  # (h, w)


def opened(jpeg: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(jpeg)).convert("RGB")).astype(int)


def drawn(tmp_path, class_map) -> tuple[np.ndarray, np.ndarray]:
    geometry = FieldGeometry(source=SIZE, box=(0, 0, SIZE[1], SIZE[0]), size=64)
    path = tmp_path / "overlay.jpg"
    draw(path, np.full((*SIZE, 3), 90, np.uint8), Evidence(np.asarray(class_map, np.float32), geometry, "A3: title"))
    with Image.open(path) as picture:
        assert picture.size == (2 * SIZE[1] + GAP, SIZE[0] + TITLE)
    original, outlined = (opened(jpeg) for jpeg in panels(path, 2, 2000))
    return original, outlined


def test_the_peak_is_outlined_and_the_rest_dimmed(tmp_path):
    class_map = np.full((8, 8), -1.0)
    class_map[2, 5] = 3.0
    original, outlined = drawn(tmp_path, class_map)
    assert original.shape == outlined.shape == (*SIZE, 3)
    assert np.abs(original - 90).max() < 6
    y, x = 2.5 / 8 * 800 - 100, 5.5 / 8 * 800  # the square is 800 px high, 100 px of it padding above the image
    assert np.abs(outlined[int(y), int(x)] - 90).max() < 12  # as bright as before inside
    assert np.abs(outlined[500, 100] - 54).max() < 12  # dimmed far away
    white = np.argwhere((outlined > 230).all(axis=-1))
    assert len(white) > 50
    assert np.linalg.norm(white - (y, x), axis=1).max() < 150
    assert np.abs(white.mean(axis=0) - (y, x)).max() < 10


@pytest.mark.parametrize("value", [0.0, -2.0, np.nan, np.inf])
def test_without_evidence_nothing_is_outlined(tmp_path, value):
    original, outlined = drawn(tmp_path, np.full((8, 8), value))
    assert np.abs(original - outlined).max() < 6


def test_a_weak_single_cell_is_not_lost_among_negative_ones(tmp_path):
    class_map = np.full((12, 12), -5.0)
    class_map[6, 6] = 0.01
    _, outlined = drawn(tmp_path, class_map)
    assert (outlined > 230).all(axis=-1).any()


@pytest.mark.parametrize("width", [150, 224, 253, 288, 588, 700])
def test_the_title_fits_whatever_the_width(tmp_path, width):
    draw(tmp_path / "one.jpg", np.zeros((200, width, 3), np.uint8), None)
    with Image.open(tmp_path / "one.jpg") as picture:
        title = np.asarray(picture.convert("L"))[:TITLE].astype(int)
    written = np.flatnonzero((title > 120).any(axis=0))
    assert len(written) > width / 3
    assert written.max() < width - MARGIN // 2  # JPEG rings around the letters


def test_large_images_shrink_and_single_panels_stay_single(tmp_path):
    draw(tmp_path / "one.jpg", np.zeros((3072, 3900, 3), np.uint8), None)
    with Image.open(tmp_path / "one.jpg") as picture:
        assert picture.size == (1000, 788 + TITLE)
    [panel] = panels(tmp_path / "one.jpg", 1, 640)
    assert max(opened(panel).shape) <= 640


def test_tiny_images_are_drawn_too(tmp_path):
    draw(tmp_path / "tiny.jpg", np.zeros((1, 3, 3), np.uint8), None)
    assert panels(tmp_path / "tiny.jpg", 1, 640)


def test_a_missing_overlay_is_our_own_error(tmp_path):
    with pytest.raises(RealMNetError, match="absent"):
        panels(tmp_path / "absent.jpg", 1, 640)
