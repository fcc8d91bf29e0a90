import cv2
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from keras_realmnet.errors import DataSetError
from tests.training.data.glaucoma.made_up import drawn_on, ellipse, save
from training.data.files.mask_codings import IGNORE
from training.data.files.outlines import OutlineCoding, enclosed
from training.phantoms.photograph import render_photograph

FUNDUS = render_photograph(3, width=400, poor=False).image[100:280, 100:300].copy()  # without its black corners


def dice(one, other):
    return 2 * (one & other).sum() / (one.sum() + other.sum())


def jpeg(pixels, quality):
    return cv2.imdecode(cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, quality])[1], cv2.IMREAD_COLOR)


@settings(max_examples=25)
@given(
    centre=st.tuples(st.floats(70, 130), st.floats(70, 110)),
    axes=st.tuples(st.floats(42, 60), st.floats(42, 60)),
    angle=st.floats(0, 180),
    ratio=st.floats(0.35, 0.85),
    off=st.tuples(st.floats(-0.6, 0.6), st.floats(-0.6, 0.6)),
    colour=st.sampled_from([(0, 0, 0), (0, 255, 0), (255, 255, 255)]),
    thickness=st.integers(1, 3),
    quality=st.sampled_from([None, 95]),
)
def test_what_two_ellipses_enclose(centre, axes, angle, ratio, off, colour, thickness, quality):
    """Wherever the cup lies in the disc, if its line leaves some rim; lossless and as JPEG."""
    # Smoothed lines are two pixels wider than their thickness, four where JPEG smears them: else they are one.
    assume(min(axes) * (1 - ratio) > thickness + (6.5 if quality else 4.5))
    room = min(axes) * (1 - ratio) - 6
    inner = tuple(c + o * max(room, 0) / 0.85 for c, o in zip(centre, off, strict=True))
    small = tuple(ratio * each for each in axes)
    ellipses = (centre, axes, angle), (inner, small, angle)
    marked, picture = drawn_on(FUNDUS, *ellipses, colour=colour, thickness=thickness), FUNDUS
    if quality:
        marked, picture = jpeg(marked, quality), jpeg(picture, quality)
    masks = enclosed(marked, picture)
    shape = FUNDUS.shape[:2]
    assert dice(masks[..., 0] == 1, ellipse(centre, axes, angle, shape)) > 0.97
    assert dice(masks[..., 1] == 1, ellipse(inner, small, angle, shape)) > 0.93  # a pixel of a cup of fifteen
    assert not ((masks[..., 1] == 1) & (masks[..., 0] != 1)).any()


def test_a_rim_as_narrow_as_a_line_is_a_rim():
    disc, cup = ((100, 90), (42, 42), 0), ((100, 90), (34, 34), 0)
    masks = enclosed(drawn_on(FUNDUS, disc, cup, thickness=3), FUNDUS)
    for k, drawn in enumerate((disc, cup)):
        assert dice(masks[..., k] == 1, ellipse(*drawn, (180, 200))) > 0.97


def test_lines_that_touch_cut_a_crescent_off():
    marked = drawn_on(FUNDUS, ((100, 90), (60, 60), 0), ((125, 90), (35, 40), 0))
    masks = enclosed(marked, FUNDUS)
    assert dice(masks[..., 0] == 1, ellipse((100, 90), (60, 60), 0, (180, 200))) > 0.97
    assert dice(masks[..., 1] == 1, ellipse((125, 90), (35, 40), 0, (180, 200))) > 0.95


def test_gaps_are_closed_and_specks_left_out():
    marked = drawn_on(FUNDUS, ((100, 90), (60, 60), 0), ((100, 90), (30, 30), 0))
    marked[86:92] = FUNDUS[86:92]  # a vessel as dark as the line, across both
    marked[5:7, 5:7] = 255
    masks = enclosed(marked, FUNDUS)
    assert dice(masks[..., 0] == 1, ellipse((100, 90), (60, 60), 0, (180, 200))) > 0.97
    assert dice(masks[..., 1] == 1, ellipse((100, 90), (30, 30), 0, (180, 200))) > 0.93


@pytest.mark.parametrize(
    ("marked", "known"),
    [
        (FUNDUS, [False, False]),
        (drawn_on(FUNDUS, ((100, 90), (60, 60), 0)), [True, False]),
        (cv2.ellipse(FUNDUS.copy(), (100, 90), (60, 60), 0, 0, 220, (0, 0, 0), 2), [False, False]),
    ],
    ids=["nothing drawn", "one line", "an open line"],
)
def test_what_is_not_closed_is_not_known(marked, known):
    masks = enclosed(marked, FUNDUS)
    assert (masks != IGNORE).all(axis=(0, 1)).tolist() == known
    assert (masks == IGNORE).all(axis=(0, 1)).tolist() == [not each for each in known]


def test_the_picture_lies_beside_the_copy(tmp_path, capsys):
    marked = drawn_on(FUNDUS, ((100, 90), (60, 60), 0))
    save(tmp_path / "A" / "image7prime.tif", FUNDUS)
    save(tmp_path / "A" / "Image7-3.png", marked)
    masks = OutlineCoding().read(tmp_path / "A" / "Image7-3.png", (200, 180))
    np.testing.assert_array_equal(masks, enclosed(marked, FUNDUS))
    assert (
        "outlines that could not be told, of which nothing is known: 1 (A/Image7-3.png: cup)" in capsys.readouterr().err
    )
    with pytest.raises(DataSetError, match=r"Image7-3\.png: has 200 x 180 pixels; expected those of its picture, 6"):
        OutlineCoding().read(tmp_path / "A" / "Image7-3.png", (60, 50))
    (tmp_path / "A" / "image7prime.tif").unlink()
    with pytest.raises(DataSetError, match=r"Image7-3\.png: expected one picture image7prime beside it\. Found: 0"):
        OutlineCoding().read(tmp_path / "A" / "Image7-3.png", (200, 180))
