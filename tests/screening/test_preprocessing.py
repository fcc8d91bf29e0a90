"""The field crop, its geometry and the model input."""

import hashlib
import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_realmnet.errors import BundleMismatch
from keras_realmnet.screening.image_io import read_image
from keras_realmnet.screening.preprocessing import FieldGeometry, PreprocessSpec, field_mask, find_field, preprocess

THRESHOLD = PreprocessSpec(size=224).field_threshold


def field_image(height: int, width: int, fill: float = 0.9, seed: int = 0) -> np.ndarray:
    """A smooth coloured elliptic field on black, like a fundus picture without content."""
    rng = np.random.default_rng(seed)
    texture = cv2.resize(rng.uniform(60, 200, (7, 9, 3)), (width, height), interpolation=cv2.INTER_CUBIC)
    y, x = np.mgrid[:height, :width]
    inside = ((x + 0.5 - width / 2) / (fill * width / 2)) ** 2 + ((y + 0.5 - height / 2) / (fill * height / 2)) ** 2 < 1
    return np.where(inside[..., None], texture, 0).clip(0, 255).astype(np.uint8)


def with_border(image: np.ndarray, top: int, bottom: int, left: int, right: int) -> np.ndarray:
    return cv2.copyMakeBorder(image, top, bottom, left, right, cv2.BORDER_CONSTANT, value=(0, 0, 0))


def test_output_and_geometry_of_a_known_picture() -> None:
    image = np.zeros((300, 500, 3), np.uint8)
    image[50:250, 100:400] = (200, 120, 10)
    model_image, geometry = preprocess(image, PreprocessSpec(size=96))
    assert geometry == FieldGeometry(source=(300, 500), box=(100, 50, 400, 250), size=96)
    assert geometry.content == (96, 64)
    assert geometry.pad == (0, 16)
    assert geometry.scale == (0.32, 0.32)
    assert model_image.shape == (96, 96, 3)
    assert model_image.dtype == np.uint8
    assert (model_image[16:80] == (200, 120, 10)).all()
    assert not model_image[:16].any()
    assert not model_image[80:].any()
    # The crop's outer edges land on the content's outer edges (pixel centres at whole numbers).
    np.testing.assert_allclose(
        geometry.to_model(np.array([[99.5, 49.5], [399.5, 249.5]])), [[-0.5, 15.5], [95.5, 79.5]]
    )


sides = st.integers(24, 900)


@settings(max_examples=50)
@given(height=sides, width=sides, size=st.integers(8, 512), seed=st.integers(0, 99), fill=st.floats(0.5, 1.3))
def test_points_go_there_and_back(height: int, width: int, size: int, seed: int, fill: float) -> None:
    _, geometry = preprocess(field_image(height, width, fill), PreprocessSpec(size))
    points = np.random.default_rng(seed).uniform(-50, 950, (20, 2))
    np.testing.assert_allclose(geometry.to_source(geometry.to_model(points)), points, atol=1e-9)
    np.testing.assert_allclose(geometry.to_model(geometry.to_source(points)), points, atol=1e-9)
    x0, y0, x1, y1 = geometry.box
    exact = np.array([x1 - x0, y1 - y0]) * size / max(x1 - x0, y1 - y0)  # the aspect ratio is kept up to rounding
    np.testing.assert_allclose(geometry.content, exact.clip(1), atol=0.5)


def test_a_dot_is_found_where_the_geometry_says() -> None:
    image = field_image(900, 1200)
    image[:] = np.minimum(image, 120)
    image[400:421, 700:721] = 255
    model_image, geometry = preprocess(image, PreprocessSpec(size=224))
    y, x = np.nonzero(model_image.min(axis=2) > 190)
    np.testing.assert_allclose([x.mean(), y.mean()], geometry.to_model(np.array([[710.0, 410.0]]))[0], atol=0.3)


borders = st.integers(0, 400)


@settings(max_examples=50)
@given(
    height=st.integers(150, 800), width=st.integers(150, 800), top=borders, bottom=borders, left=borders, right=borders
)
def test_black_borders_do_not_move_the_crop(
    height: int, width: int, top: int, bottom: int, left: int, right: int
) -> None:
    image = field_image(height, width)
    x0, y0, x1, y1 = find_field(image, THRESHOLD)
    framed = find_field(with_border(image, top, bottom, left, right), THRESHOLD)
    np.testing.assert_allclose(framed, (x0 + left, y0 + top, x1 + left, y1 + top), atol=1)


def test_box_is_the_fields_own_at_full_resolution() -> None:
    image = np.zeros((3072, 3900, 3), np.uint8)
    image[321:2805, 457:3611, 1] = 90
    assert find_field(image, THRESHOLD) == (457, 321, 3611, 2805)


@pytest.mark.parametrize("size", [160, 384, 512])
def test_half_size_decoding_gives_nearly_the_same_input(samples: Path, size: int) -> None:
    file, spec = samples / "PHANTOM-0001_OD_2026-03-02_1.jpg", PreprocessSpec(size, reduction=2)
    assert PreprocessSpec(size).min_side is None
    whole, half = read_image(file), read_image(file, min_side=spec.min_side)
    assert whole.pixels.shape == (3072, 3900, 3)
    assert half.pixels.shape == (1536, 1950, 3)
    expected, geometry = preprocess(whole.pixels, spec)
    received, halved = preprocess(half.pixels, spec)
    assert tuple(np.multiply(halved.box, 2)) == geometry.box
    assert halved.on((3072, 3900)) == geometry
    assert geometry.on((3072, 3900)) == geometry
    assert np.abs(received.astype(int) - expected).mean() < 0.3
    assert max(halved.box[2] - halved.box[0], halved.box[3] - halved.box[1]) > 1.5 * size


@settings(max_examples=20)
@given(
    height=st.integers(2, 3000),
    width=st.integers(2048, 3000),
    seed=st.integers(0, 9),
    turned=st.booleans(),
)
def test_a_picture_halved_before_has_the_same_field(height: int, width: int, seed: int, turned: bool) -> None:
    """Edges in noise: a search at another size would find them one or two lines apart."""
    rng = np.random.default_rng(seed)
    y, x = np.ogrid[:height, :width]
    light = 45 - 40 * np.hypot((x - 0.5 * width) / width, (y - 0.4 * height) / height) / 0.55
    grey = np.clip(light + rng.normal(0, 4, (height, width)), 0, 255).astype(np.uint8)
    image = np.repeat((grey.T if turned else grey)[..., None], 3, axis=2)
    rows, columns = image.shape[0] // 2, image.shape[1] // 2
    smaller = cv2.resize(image[: 2 * rows, : 2 * columns], (columns, rows), interpolation=cv2.INTER_AREA)
    spec = PreprocessSpec(224, reduction=2)
    whole, half = (preprocess(picture, spec)[1] for picture in (image, smaller))
    assert whole.box == tuple(np.multiply(half.box, 2))
    assert (whole.content, whole.pad) == (half.content, half.pad)


@pytest.mark.parametrize("scale", [0.5, 2.0, 3.0])
def test_the_same_scene_at_two_scales_gives_nearly_the_same_input(scale: float) -> None:
    image = with_border(field_image(700, 900), 60, 10, 90, 20)
    shrunk = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC)
    one, _ = preprocess(image, PreprocessSpec(size=224))
    other, _ = preprocess(shrunk, PreprocessSpec(size=224))
    assert np.abs(one.astype(float) - other).mean() < 1.5


@settings(max_examples=30)
@given(seed=st.integers(0, 10_000))
def test_specks_text_and_noise_in_the_border_do_not_widen_the_crop(seed: int) -> None:
    rng = np.random.default_rng(seed)
    image = with_border(field_image(900, 1200), 250, 250, 250, 250)
    clean = find_field(image, THRESHOLD)
    x0, y0, x1, y1 = clean
    outside = np.ones(image.shape[:2], bool)
    outside[y0 - 8 : y1 + 8, x0 - 8 : x1 + 8] = False
    noise = rng.integers(0, 12, (*image.shape[:2], 1), np.uint8)
    image = np.where(outside[..., None], noise, image)
    specks = rng.integers((0, 0), image.shape[:2], (60, 2))
    specks = specks[outside[tuple(specks.T)]]
    image[tuple(specks.T)] = 255
    image = np.ascontiguousarray(image)
    cv2.putText(image, "OD 2023-06-25 12:31", (30, 60), cv2.FONT_HERSHEY_SIMPLEX, 1.5, (255, 255, 255), 3)
    cv2.putText(image, "OPTOS", (1400, 1380), cv2.FONT_HERSHEY_SIMPLEX, 1.5, (0, 255, 0), 2)
    np.testing.assert_allclose(find_field(image, THRESHOLD), clean, atol=1)


@pytest.mark.parametrize("shape", [(1, 1), (1, 2000), (2000, 1), (3, 3), (3072, 3900)])
@pytest.mark.parametrize("value", [0, 255])
def test_nothing_but_black_or_white_keeps_the_whole_frame(shape: tuple[int, int], value: int) -> None:
    image = np.full((*shape, 3), value, np.uint8)
    model_image, geometry = preprocess(image, PreprocessSpec(size=32))
    assert geometry.box == (0, 0, shape[1], shape[0])
    assert model_image.max() == value


def test_a_handful_of_bright_pixels_is_no_field() -> None:
    image = np.zeros((600, 800, 3), np.uint8)
    image[100:110, 100:110] = 255
    assert find_field(image, THRESHOLD) == (0, 0, 800, 600)


def test_class_map_is_laid_back_on_the_field() -> None:
    image = np.zeros((400, 600, 3), np.uint8)
    image[100:300, 150:550] = 128
    _, geometry = preprocess(image, PreprocessSpec(size=64))
    full = geometry.map_to_source(np.ones((4, 4)))
    assert full.dtype == np.float32
    inside = np.zeros((400, 600), np.float32)
    inside[100:300, 150:550] = 1
    np.testing.assert_allclose(full, inside, atol=1e-6)
    np.testing.assert_allclose(geometry.map_to_source(np.ones((4, 4)), (200, 300)), inside[::2, ::2], atol=1e-6)
    # A ramp over the model square is linear in model coordinates, hence in source coordinates.
    ramp = np.tile(np.arange(8.0), (8, 1))
    laid = geometry.map_to_source(ramp)
    for x in (200, 333, 500):
        expected = (geometry.to_model(np.array([[x, 200]]))[0, 0] + 0.5) / 8 - 0.5
        assert laid[200, x] == pytest.approx(expected, abs=1e-5)


def test_class_map_peak_lands_on_its_source_place() -> None:
    geometry = FieldGeometry(source=(1000, 1500), box=(200, 100, 1400, 900), size=384)
    peak = np.zeros((12, 12))
    peak[5, 8] = 1.0
    laid = geometry.map_to_source(peak, (500, 750))
    y, x = np.unravel_index(laid.argmax(), laid.shape)
    centre = geometry.to_source(np.array([[(8 + 0.5) * 32 - 0.5, (5 + 0.5) * 32 - 0.5]]))[0]
    np.testing.assert_allclose(np.array([x + 0.5, y + 0.5]) * 2 - 0.5, centre, atol=2)


def test_spec_hash_is_over_the_canonical_json() -> None:
    spec = PreprocessSpec(size=224)
    text = json.dumps({"field_threshold": 16, "size": 224, "version": 1}, sort_keys=True, separators=(",", ":"))
    assert spec.hash == hashlib.sha256(text.encode()).hexdigest()[:16]
    assert PreprocessSpec.from_dict(spec.to_dict()) == spec
    assert len({spec.hash, PreprocessSpec(size=384).hash, PreprocessSpec(size=224, field_threshold=17).hash}) == 3


SPEC = {"size": 224, "field_threshold": 16, "version": 1}


@pytest.mark.parametrize(
    "values", [{}, {"size": 224}, SPEC | {"version": 2}, SPEC | {"size": "224"}, SPEC | {"mean": 0}]
)
def test_a_foreign_spec_is_refused(values: dict[str, object]) -> None:
    with pytest.raises(BundleMismatch, match="preprocessing"):
        PreprocessSpec.from_dict(values)


def test_wrong_arguments_are_named() -> None:
    with pytest.raises(ValueError, match=r"float32 of shape \(4, 4, 3\)"):
        preprocess(np.zeros((4, 4, 3), np.float32), PreprocessSpec(size=8))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"shape \(4, 4\)"):
        preprocess(np.zeros((4, 4), np.uint8), PreprocessSpec(size=8))
    with pytest.raises(ValueError, match="Received: 0"):
        PreprocessSpec(size=0)
    with pytest.raises(ValueError, match="h', w'"):
        FieldGeometry((8, 8), (0, 0, 8, 8), 8).map_to_source(np.zeros((2, 2, 2)))


def test_round_fields_of_real_pictures(shared: Path) -> None:
    """PALM's native pictures fill their frame; IDRiD's have wide black sides and are cut off above and below."""
    for path in sorted((shared / "fundus" / "palm_native").glob("*.jpg")):
        image = cv2.imread(str(path))
        np.testing.assert_allclose(
            find_field(image, THRESHOLD), (0, 0, *image.shape[1::-1]), atol=12, err_msg=path.name
        )
    for path in sorted((shared / "fundus" / "idrid" / "images").glob("*.jpg"))[:4]:
        x0, y0, x1, y1 = find_field(cv2.imread(str(path)), THRESHOLD)
        assert (y0, y1) == (0, 2848), path.name
        assert 80 < x0 < 330, path.name
        assert 3600 < x1 < 3950, path.name


def test_the_field_holds_what_is_dark_inside_of_it_and_no_specks_beside() -> None:
    image = field_image(120, 160)
    field = (image.max(axis=2) > THRESHOLD).copy()
    image[40:80, 70:74] = 0  # a vessel
    image[2:5, 2:5] = 255  # a letter
    found = field_mask(image)
    assert found[field].all()
    assert found.sum() < 1.01 * field.sum()  # a hull runs around its corners
    assert not field_mask(np.zeros((9, 9, 3), np.uint8)).any()
