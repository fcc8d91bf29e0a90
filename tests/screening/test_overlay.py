"""The overlay picture: layout, and a contour where the class map is high and nowhere else."""

import io
from dataclasses import replace

import cv2
import numpy as np
import pytest
from PIL import Image

from keras_realmnet.errors import RealMNetError
from keras_realmnet.screening.image_io import read_image
from keras_realmnet.screening.overlay import (
    COLOUR,
    COVERED,
    DENSEST,
    GAP,
    LESIONS,
    MARGIN,
    PANEL,
    SHOWN,
    STYLES,
    TITLE,
    Evidence,
    draw,
    draw_marks,
    legend,
    marked,
    panels,
    styled,
)
from keras_realmnet.screening.preprocessing import FieldGeometry
from keras_realmnet.tasks.findings import MaskFinding, PointFinding

SIZE = (600, 800)  # (h, w)


def opened(jpeg: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(jpeg)).convert("RGB")).astype(int)


def drawn(tmp_path, class_map, finding=True) -> tuple[np.ndarray, np.ndarray]:
    geometry = FieldGeometry(source=SIZE, box=(0, 0, SIZE[1], SIZE[0]), size=64)
    path = tmp_path / "overlay.jpg"
    evidence = Evidence("A3: title", geometry, np.asarray(class_map, np.float32), finding)
    draw(path, np.full((*SIZE, 3), 90, np.uint8), evidence)
    with Image.open(path) as picture:
        assert picture.size == (2 * SHOWN + GAP, SHOWN * SIZE[0] // SIZE[1] + TITLE)
    original, outlined = (opened(jpeg) for jpeg in panels(path, 2, 2000))
    return original, outlined


def test_the_peak_is_outlined_and_the_rest_dimmed(tmp_path):
    class_map = np.full((8, 8), -1.0)
    class_map[2, 5] = 3.0
    original, outlined = drawn(tmp_path, class_map)
    assert original.shape == outlined.shape == (480, 640, 3)
    assert np.abs(original - 90).max() < 6
    y, x = 2.5 / 8 * 640 - 80, 5.5 / 8 * 640  # the square is 640 px high, 80 px of it padding above the image
    assert np.abs(outlined[int(y), int(x)] - 90).max() < 12  # as bright as before inside
    assert np.abs(outlined[400, 80] - 54).max() < 12  # dimmed far away
    white = np.argwhere((outlined > 230).all(axis=-1))
    assert len(white) > 50
    assert np.linalg.norm(white - (y, x), axis=1).max() < 120
    assert np.abs(white.mean(axis=0) - (y, x)).max() < 8


@pytest.mark.parametrize("finding", [True, False])
@pytest.mark.parametrize("value", [0.0, -2.0, np.nan, np.inf])
def test_without_evidence_nothing_is_marked(tmp_path, value, finding):
    original, marked = drawn(tmp_path, np.full((8, 8), value), finding)
    assert np.abs(original - marked).max() < 6


def test_what_is_no_finding_is_tinted_but_not_outlined(tmp_path):
    class_map = np.full((8, 8), -1.0)
    class_map[2, 5] = 3.0
    original, tinted = drawn(tmp_path, class_map, finding=False)
    assert not (tinted > 230).all(axis=-1).any()
    assert tinted.min(axis=(0, 1))[0] > 60  # and nothing is black
    y, x = int(2.5 / 8 * 640 - 80), int(5.5 / 8 * 640)
    assert np.abs(tinted[y, x] - (90 / 3 + np.array(COLOUR) * 2 / 3)).max() < 12
    assert np.abs(tinted[400, 80] - original[400, 80]).max() < 6


# Simulations of colour vision on linear RGB: Machado, Oliveira, Fernandes 2009, severity 1.
VISIONS = {
    "normal": np.eye(3),
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.01182, 0.04294, 0.968881]],
}


def seen(rgb: np.ndarray, vision: np.ndarray) -> np.ndarray:
    """CIELAB of sRGB values of shape (n, 3) as that vision has them."""
    value = rgb / 255
    value = np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4) @ np.asarray(vision).T
    value = np.clip(value, 0, 1)
    value = np.where(value <= 0.0031308, 12.92 * value, 1.055 * value ** (1 / 2.4) - 0.055)
    return cv2.cvtColor(value.astype(np.float32)[None], cv2.COLOR_RGB2LAB)[0]


@pytest.mark.parametrize("vision", VISIONS)
def test_the_colour_of_the_maps_is_seen_on_red_green_pictures(samples, vision):
    """Everywhere on the retina, and by the colour-blind; cyan and green, for comparison, are not."""

    def contrast(colour: tuple[int, int, int]) -> float:
        """5th percentile of the CIE76 difference that the colour, densely laid over it, makes to the retina."""
        found = []
        for file in ("PHANTOM-0001_OD_2026-03-02_1.jpg", "PHANTOM-0001_OS_2026-03-02_1.jpg"):
            pixels = read_image(samples / file).pixels[::8, ::8]
            pixels = pixels[pixels.max(axis=-1) > 16].astype(np.float64)
            mixed = pixels + (np.array(colour) - pixels) * DENSEST / 255
            difference = seen(pixels, VISIONS[vision]) - seen(mixed, VISIONS[vision])
            found.append(np.percentile(np.linalg.norm(difference, axis=-1), 5))
        return float(min(found))

    assert contrast(COLOUR) > 60
    assert contrast(COLOUR) > 1.3 * max(contrast((0, 225, 255)), contrast((0, 255, 0)))


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
        assert picture.size == (SHOWN, 504 + TITLE)
    [panel] = panels(tmp_path / "one.jpg", 1, 320)
    assert max(opened(panel).shape) <= 320


def test_a_picture_with_marks_is_larger_for_their_thin_lines(tmp_path):
    geometry = FieldGeometry(source=(3072, 3900), box=(0, 0, 3900, 3072), size=64)
    for mark, side in ((box_mask("M", 200, 150, 80), PANEL), (MaskFinding("masks", "set", "M", "M", ()), SHOWN)):
        evidence = Evidence("title", geometry, np.ones((2, 2), np.float32), marks=(mark,))
        draw(tmp_path / "two.jpg", np.zeros((3072, 3900, 3), np.uint8), evidence)
        with Image.open(tmp_path / "two.jpg") as picture:
            assert picture.width == 2 * side + GAP


@pytest.mark.parametrize("size", [(3072, 3900), (1537, 1951), (700, 900)])
def test_a_place_of_the_image_is_at_the_same_place_of_the_overlay(tmp_path, size):
    """However often it was halved: a bright square in the middle, and one at the lower right."""
    image = np.zeros((*size, 3), np.uint8)
    height, width = size
    for y, x in ((height // 2, width // 2), (height - 100, width - 100)):
        image[y - 60 : y + 60, x - 60 : x + 60] = 255
    draw(tmp_path / "one.jpg", image, None)
    [panel] = panels(tmp_path / "one.jpg", 1, SHOWN)
    shown = opened(panel)
    assert shown.shape[:2] == (round(height * SHOWN / width), SHOWN)
    count, _, _, middles = cv2.connectedComponentsWithStats((shown.max(axis=-1) > 127).astype(np.uint8))
    assert count == 3
    expected = (np.array([[width // 2, height // 2], [width - 100, height - 100]]) - 0.5) * SHOWN / width
    assert np.abs(middles[1:] - expected).max() < 1


def test_tiny_images_are_drawn_too(tmp_path):
    draw(tmp_path / "tiny.jpg", np.zeros((1, 3, 3), np.uint8), None)
    assert panels(tmp_path / "tiny.jpg", 1, 640)


def test_a_missing_overlay_is_our_own_error(tmp_path):
    with pytest.raises(RealMNetError, match="absent"):
        panels(tmp_path / "absent.jpg", 1, 640)


def box_mask(code: str, x: float, y: float, side: float) -> MaskFinding:
    corners = ((x, y), (x + side, y), (x + side, y + side), (x, y + side))
    return MaskFinding("masks", "set", code, code, (corners,))


def test_marks_lie_where_the_findings_do_on_a_copy_of_any_size():
    """A mask's outline and a point's cross, drawn on half the picture and twice as large."""
    findings = (box_mask("M", 200, 150, 80), PointFinding("points", "set", "P", "P", 500.0, 400.0))
    for factor in (0.5, 2):
        height, width = int(SIZE[0] * factor), int(SIZE[1] * factor)
        picture = marked(np.full((height, width, 3), 90, np.uint8), findings, SIZE)
        white = (picture > 200).all(axis=-1)
        for x, y in ((200, 190), (280, 190), (240, 150), (240, 230), (495, 400), (500, 395)):
            at = (np.array([y, x]) + 0.5) * factor - 0.5
            row, column = np.round(at).astype(int)
            assert white[row - 1 : row + 2, column - 1 : column + 2].any(), (x, y)
        assert (picture[int(190 * factor), int(240 * factor)] == 90).all()  # inside it stays as it is
        assert (picture[: int(140 * factor)] == 90).all()


def test_masks_are_told_apart_by_colour_and_dashes():
    masks = [box_mask(f"M{number}", 20 + 100 * number, 50, 60) for number in range(len(STYLES) + 1)]
    styles = [style for _, style in styled(masks)]
    assert styles == [*STYLES, STYLES[0]]
    assert len({style.colour for style in STYLES}) == len({style.dash for style in STYLES}) == len(STYLES)
    not_found = MaskFinding("masks", "set", "gone", "gone", ())
    assert [style for _, style in styled([not_found, *masks])][1] == STYLES[1]  # found or not, it keeps its style
    picture = np.zeros((150, 800, 4), np.uint8)
    draw_marks(picture, masks[:3], (150, 800))
    assert (picture[50, 25:75, :3].min(axis=-1) > 200).all()  # the first is not dashed
    dashed = picture[50, 125:175, :3].max(axis=-1) > 150
    assert 0.2 < dashed.mean() < 0.8
    assert (picture[..., 3] == 0).mean() > 0.8  # transparent where nothing is marked


def test_a_name_is_written_beside_its_mark_inside_of_the_picture():
    corner = PointFinding("points", "set", "P", "A landmark with a long name", 795.0, 595.0)
    picture = np.full((*SIZE, 3), 90, np.uint8)
    draw_marks(picture, (corner,), SIZE)
    rows, columns = np.nonzero((picture > 240).all(axis=-1))
    assert columns.min() < 700  # to the left of the cross, as there is no room on the right
    assert rows.max() < SIZE[0]


def test_a_lesion_has_its_own_style_whatever_else_is_there():
    masks = [box_mask(code, 20, 50, 60) for code in ("disc", "HE", "cup", "MA")]
    styles = [style for _, style in styled(masks)]
    assert styles[1::2] == [LESIONS["HE"], LESIONS["MA"]]
    assert styles[0::2] == [style for style in STYLES if style not in styles[1::2]][:2]
    assert LESIONS["iHE".upper()] == LESIONS["HE"]


def several(code: str, places: list[tuple[float, float]], side: float) -> MaskFinding:
    outlines = [box_mask(code, x, y, side).outlines[0] for x, y in places]
    return MaskFinding("masks", "set", code, code, tuple(outlines), share=0.0123)


def test_what_branches_is_covered_and_what_it_encloses_is_not():
    """A frame of 10 px of 60, on grey and on a transparent layer; it has no name and no line."""
    frame = replace(box_mask("VES", 100, 100, 60), holes=box_mask("VES", 110, 110, 40).outlines)
    assert not frame.in_parts
    [(_, style)] = styled([frame])
    for factor in (1, 2):
        height, width = SIZE[0] * factor, SIZE[1] * factor
        picture = marked(np.full((height, width, 3), 90, np.uint8), (frame,), SIZE)
        layer = np.zeros((height, width, 4), np.uint8)
        draw_marks(layer, (frame,), SIZE)
        for drawn in ((picture != 90).any(axis=-1), layer[..., 3] > 0):
            assert drawn[104 * factor, 130 * factor]
            assert not drawn[130 * factor, 130 * factor]
        assert layer[..., 3].sum() / (COVERED * 255) == pytest.approx(
            (60**2 - 40**2) * factor**2, rel=0.15
        )  # a line more
        covered = COVERED * np.array(style.colour) + (1 - COVERED) * 90
        np.testing.assert_allclose(picture[104 * factor, 130 * factor], covered, atol=1)
        np.testing.assert_allclose(layer[104 * factor, 130 * factor], [*style.colour, COVERED * 255], atol=1)


@pytest.mark.parametrize("code", ["MA", "HE", "EX"])
def test_a_part_of_a_few_pixels_is_surrounded_and_stays_as_it_is(code):
    """On a copy of half the size, where it is one pixel; parts beside each other have one line around them."""
    lesion = several(code, [(200, 150), (600, 300), (606, 300)], 2)
    for factor in (0.5, 1):
        height, width = int(SIZE[0] * factor), int(SIZE[1] * factor)
        picture = marked(np.full((height, width, 3), 90, np.uint8), (lesion,), SIZE)
        drawn = (picture != 90).any(axis=-1)
        for x, y in ((201, 151), (601, 301), (607, 301)):
            assert not drawn[int(y * factor), int(x * factor)]
        count, _, boxes, _ = cv2.connectedComponentsWithStats(drawn.astype(np.uint8), connectivity=8)
        assert count == 3  # nothing, the line around the first part, that around the others
        assert boxes[1:, 2:4].max() < max(25, 40 * factor)  # a line has its least width
        lines = picture[drawn]
        assert (np.abs(lines.astype(int) - LESIONS[code].colour).max(axis=-1) < 40).mean() > 0.2


def test_the_legend_names_each_mask_that_was_found_with_its_share(tmp_path):
    geometry = FieldGeometry(source=SIZE, box=(0, 0, SIZE[1], SIZE[0]), size=64)
    found = several("MA", [(200, 150), (600, 300)], 4)
    missing = MaskFinding("masks", "set", "HE", "HE", ())
    draw(tmp_path / "a.jpg", np.full((*SIZE, 3), 90, np.uint8), Evidence("Mild", geometry, marks=(found, missing)))
    draw(tmp_path / "b.jpg", np.full((*SIZE, 3), 90, np.uint8), Evidence("Mild", geometry, marks=(missing,)))
    first, second = (np.asarray(Image.open(tmp_path / f"{name}.jpg"))[:TITLE].max(axis=-1) > 150 for name in "ab")
    assert first[TITLE // 2 :].sum() > 100  # the second line
    assert not second[TITLE - 12 :].any()
    assert [style for _, style in legend((found, missing))] == [LESIONS["MA"]]


@pytest.mark.parametrize("vision", VISIONS)
def test_lesions_are_told_apart_by_colour_whatever_the_vision(vision):
    """The four that are common by far; the others differ in dashes and forms, too."""
    common = [LESIONS[code] for code in ("MA", "HE", "EX", "SE")]
    lab = seen(np.array([style.colour for style in common], np.float64), VISIONS[vision])
    apart = np.linalg.norm(lab[:, None] - lab[None], axis=-1)[np.triu_indices(4, 1)]
    assert apart.min() > 40  # CIE76; 2.3 is just seen
    assert len({(style.dash, style.form) for style in STYLES}) == len(STYLES)


def test_regions_are_drawn_around_disc_and_fovea(tmp_path):
    geometry = FieldGeometry(source=SIZE, box=(0, 0, SIZE[1], SIZE[0]), size=64)
    disc, fovea = (600.0, 300.0), (300.0, 300.0)
    marks = tuple(
        PointFinding("landmarks", "fundus", code, code.title(), *place)
        for code, place in (("DISC", disc), ("FOVEA", fovea))
    )
    pictures = []
    for eye in (None, (disc, fovea)):
        path = tmp_path / "overlay.jpg"
        draw(path, np.full((*SIZE, 3), 90, np.uint8), Evidence("title", geometry, marks=marks, eye=eye))
        pictures.append(opened(panels(path, 2, 2000)[1]))
    without, shown = pictures
    drawn = np.abs(shown - without).max(axis=-1) > 60
    for x, y in ((300, 500), (600, 420), (600, 30), (700, 300), (50, 100), (493, 320)):  # circles, lines, the chord
        assert drawn[y - 4 : y + 5, x - 4 : x + 5].any(), (x, y)
    for x, y in ((300, 360), (600, 280), (40, 300), (700, 60)):  # within regions
        assert not drawn[y - 4 : y + 5, x - 4 : x + 5].any(), (x, y)
    assert drawn[110:220, 200:400].sum() > 100  # the name of the macula, above the fovea
