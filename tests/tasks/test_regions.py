import cv2
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from keras_realmnet.tasks.findings import PointFinding
from keras_realmnet.tasks.regions import (
    CHORD,
    REGIONS,
    eye_in,
    place_in_eye,
    region_lines,
    region_map,
    region_names_at,
    regions_at,
)

HEIGHT, WIDTH = 40, 56
side = st.integers(-8 * 20, 8 * 80).map(lambda eighths: eighths / 8)  # exact when it is mirrored
point = st.tuples(side, side)


@st.composite
def eyes(draw):
    """Disc and fovea of either eye, also outside of the picture, tilted by less than 60°."""
    disc, fovea = draw(point), draw(point)
    assume(abs(fovea[0] - disc[0]) > 2 and abs(fovea[1] - disc[1]) < 1.7 * abs(fovea[0] - disc[0]))
    return disc, fovea


def turned(disc, fovea):
    """u, v of every pixel, by turning the picture: OpenCV's similarity that brings disc and fovea to 0 and 1."""
    away = complex(fovea[0] - disc[0], -(fovea[1] - disc[1]))  # up is positive
    rows, columns = np.mgrid[:HEIGHT, :WIDTH]
    pixel = ((columns - disc[0]) - 1j * (rows - disc[1])) / away
    return pixel.real, pixel.imag * np.sign(away.real)


def by_definition(u, v):
    """{region: which pixels are in it}, each told by itself."""
    disc = (np.hypot(u, v) <= 2 / 5) & (u < CHORD)
    macula = (np.hypot(u - 1, v) <= 2 / 3) & (u >= CHORD)
    temporal = (u >= 1) & (abs(v) <= 2 / 3) & ~macula
    nasal = (u < 0) & ~disc
    rest = ~(disc | macula | temporal | nasal)
    return {
        "superior disc": disc & (v >= 0),
        "inferior disc": disc & (v < 0),
        "macula": macula,
        "temporal": temporal,
        "superonasal": nasal & (v >= 0),
        "inferonasal": nasal & (v < 0),
        "superotemporal": rest & (v >= 0),
        "inferotemporal": rest & (v < 0),
    }


@settings(max_examples=200, deadline=None)
@given(eyes())
def test_every_pixel_is_in_exactly_one_region(eye):
    found = region_map((HEIGHT, WIDTH), *eye)
    u, v = turned(*eye)
    expected = by_definition(u, v)
    assert list(expected) == list(REGIONS)
    assert (np.sum(list(expected.values()), axis=0) == 1).all()
    borders = [v, u, u - 1, u - CHORD, np.hypot(u, v) - 2 / 5, np.hypot(u - 1, v) - 2 / 3, abs(v) - 2 / 3]
    clear = np.min(np.abs(borders), axis=0) > 1e-9  # else the last digit decides
    for k, (name, there) in enumerate(expected.items()):
        np.testing.assert_array_equal((found == k)[clear], there[clear], err_msg=name)
    assert found.dtype == np.uint8
    assert (found < len(REGIONS)).all()


@settings(max_examples=100, deadline=None)
@given(eyes())
def test_the_other_eye_is_the_mirror_image(eye):
    mirrored = [(WIDTH - 1 - x, y) for x, y in eye]
    np.testing.assert_array_equal(region_map((HEIGHT, WIDTH), *mirrored), region_map((HEIGHT, WIDTH), *eye)[:, ::-1])


@settings(max_examples=50, deadline=None)
@given(eyes(), st.sampled_from([0.5, 2.0]))
def test_a_picture_of_another_size_has_the_same_regions(eye, factor):
    rows, columns = np.mgrid[:HEIGHT, :WIDTH]
    points = np.stack([columns, rows], axis=-1)
    scaled = [tuple(factor * value for value in place) for place in eye]
    np.testing.assert_array_equal(regions_at(factor * points, *scaled), regions_at(points, *eye))


@settings(max_examples=50, deadline=None)
@given(eyes())
def test_lines_run_where_regions_meet_and_names_stand_inside(eye):
    disc, fovea = eye
    found = region_map((HEIGHT, WIDTH), disc, fovea).astype(int)
    beside = np.ones((HEIGHT + 8, WIDTH + 8), np.uint8)
    for line in region_lines(disc, fovea):
        cv2.polylines(beside, [np.round((line + 4) * 16).astype(np.int32)], False, 0, 1, shift=4)
    away = cv2.distanceTransform(beside, cv2.DIST_L2, 5)[4:-4, 4:-4]
    meets = np.zeros((HEIGHT, WIDTH), bool)
    meets[:, :-1] |= found[:, :-1] != found[:, 1:]
    meets[:-1] |= found[:-1] != found[1:]
    distance = np.hypot(fovea[0] - disc[0], fovea[1] - disc[1])
    if distance > 20:  # of smaller eyes lines end within the picture
        assert (away[meets] <= 2).all()
    names = region_names_at(disc, fovea)
    assert [REGIONS[regions_at(np.array(place), disc, fovea)] for place in names.values()] == list(names)


def test_the_chord_and_the_axes():
    assert pytest.approx(0.3578, abs=5e-5) == CHORD
    right, left = ((70.0, 30.0), (30.0, 40.0)), ((30.0, 30.0), (70.0, 40.0))
    for disc, fovea in (right, left):
        np.testing.assert_allclose(place_in_eye(np.array([disc, fovea]), disc, fovea), [[0, 0], [1, 0]], atol=1e-12)
        assert place_in_eye(np.array([50.0, 0.0]), disc, fovea)[1] > 0  # above


@pytest.mark.parametrize("fovea", [(3.0, 9.0), (3.0, 4.0), (np.nan, 4.0)])
def test_an_eye_without_sides_is_refused(fovea):
    with pytest.raises(ValueError, match=r"to the left or to the right of the optic disc\. Received: disc \(3.0, 4.0"):
        region_map((4, 4), (3.0, 4.0), fovea)


def test_disc_and_fovea_are_found_by_their_codes():
    fovea, disc = (
        PointFinding("p", "fundus", code, code, *at) for code, at in (("FOVEA", (9.0, 5.0)), ("DISC", (2, 4)))
    )
    assert eye_in([fovea, disc]) == ((2, 4), (9.0, 5.0))
    for some in ([fovea], [disc], [fovea, PointFinding("p", "fundus", "DISC", "disc")]):
        assert eye_in(some) is None
    assert eye_in([fovea, PointFinding("p", "fundus", "DISC", "disc", 9.0, 3.0)]) is None
