"""The picture that goes with a record: the image, and beside it where the model found its evidence.

A line is drawn around the evidence for a label that reaches its threshold, and for no other: what the rule did not
find is not outlined as if it had. Structures, lesions and landmarks are marked wherever they were found. Lines can be
read by the colour-blind and on a black-and-white print, and leave the colours of the retina inside of them as they
are; only what branches, as vessels do, is laid over with its colour. Where the model looked for a label that stays
below its threshold, and where evidence is to be seen by degrees (the page's class maps, the heat map), the image is
tinted; never under marks, which are findings.
"""

import io
import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from keras_realmnet.errors import RealMNetError
from keras_realmnet.screening.decision import Analysis, Decision
from keras_realmnet.screening.preprocessing import FieldGeometry
from keras_realmnet.screening.strokes import (
    BLACK,
    Colour,
    dashes,
    draw_line,
    font_of,
    stroke_widths,
    write_centred,
    write_names,
)
from keras_realmnet.tasks.findings import Finding, GradeFinding, LabelFinding, MaskFinding, PointFinding, percent
from keras_realmnet.tasks.outputs import Grades, Labels
from keras_realmnet.tasks.regions import Eye, eye_in, region_lines, region_names_at
from keras_realmnet.tasks.rule import probability_text
from keras_realmnet.tasks.task import Task

__all__ = [
    "COLOUR",
    "COVERED",
    "DIMMED",
    "LEVELS",
    "SHOWN",
    "Evidence",
    "Style",
    "draw",
    "draw_levels",
    "draw_marks",
    "draw_regions",
    "evidence_of",
    "legend",
    "marked",
    "opacity",
    "outlined",
    "panels",
    "strength",
    "styled",
    "tinted",
]


@dataclass(frozen=True)
class Style:
    """How a mask is drawn: its RGB, how long its dashes are in pixels of a picture of PANEL px (0: none), its form.

    form: that of the line around a part of a few pixels.
    """

    colour: tuple[int, int, int]
    dash: int
    form: Literal["round", "square", "diamond"]


# Of the masks of a picture, in their order. The colours are of Okabe and Ito's set, which is made for the colour-blind;
# dashes and forms tell masks apart on a black-and-white print.
STYLES = (
    Style((255, 255, 255), 0, "round"),
    Style((86, 180, 233), 10, "square"),
    Style((240, 228, 66), 5, "diamond"),
    Style((0, 158, 115), 20, "round"),
    Style((230, 159, 0), 3, "square"),
    Style((204, 121, 167), 14, "diamond"),
    Style((0, 114, 178), 7, "round"),
    Style((213, 94, 0), 16, "square"),
)
# Lesions look alike in the pictures of every bundle, by the codes of IDRiD and of retinal-lesions.
LESIONS = {
    code: STYLES[k]
    for k, codes in enumerate(("MA", "HE IHE", "EX HAEX", "SE CWS", "VHE", "PHE", "NV", "FIP"))
    for code in codes.split()
}

PANEL = 1000  # px, longest side of the image in the overlay file where something is marked, with thin lines
SHOWN = 640  # px, of any other: as large as a report shows it
TITLE = 60  # px, height of the line of text above the panels
MARGIN = 12  # px, left and right of it
GAP = 12  # px between the panels
LINE, THIN = 2.0, 1.4  # px in a picture of PANEL px, of a line; THIN where there are many
AROUND = 5.0  # px in a picture of PANEL px between the parts of a mask and the line around them
METRICS = {"round": cv2.DIST_L2, "square": cv2.DIST_C, "diamond": cv2.DIST_L1}
COVERED = 0.6  # opacity of the colour over what branches
CROSS = 14.0  # px in a picture of PANEL px, half an arm of the cross at a point
BETWEEN = STYLES[2].colour  # of the lines between regions
NAME = 22.0  # px in a picture of PANEL px, height of a name beside a finding
COARSE = 4  # the class map, coarse itself, is laid out at this fraction of the panel
LEVELS = (0.5, 0.75)  # of the map's maximum
DIMMED = 0.6  # brightness outside of the first level
QUALITY = 88  # JPEG
# RGB of every class map, the best of a grid of 125 for the pixels of ten real and five synthetic red/green pictures:
# where it lies densest, 95 % of them differ by 42 (CIEDE2000) or more from what they were, to normal eyes and in
# simulated protanopia and deuteranopia (Machado et al. 2009) alike; with cyan by 27, with green by 14. In tritanopia,
# which is rare, it is 14; the lines do not depend on colour.
COLOUR = (192, 0, 255)
FAINTEST = 0.25  # of the map's maximum: less evidence is not tinted
DENSEST = 170  # of 255, where the evidence is greatest: the retina shines through


@dataclass(frozen=True)
class Evidence:
    """What the right panel shows, and one line about it; another one says how the masks that were found are drawn.

    class_map: of shape (h', w') in the model's square, which `geometry` lays on the picture; None: there is none.
    finding: whether the label reaches its threshold; only then is the evidence outlined. marks: findings that may have
    a place. eye: where disc and fovea lie, if the regions around them are to be drawn.
    """

    title: str
    geometry: FieldGeometry
    class_map: NDArray[Any] | None = None
    finding: bool = True
    marks: tuple[MaskFinding | PointFinding, ...] = ()
    eye: Eye | None = None

    @property
    def visible(self) -> bool:
        """Whether there is anything to draw."""
        return self.class_map is not None or any(mark.found for mark in self.marks)


def evidence_of(task: Task, analysis: Analysis, decision: Decision, regions: bool = False) -> Evidence:
    """What the picture of a decided image shows.

    Args:
        regions: also the eight regions of the posterior pole, where optic disc and fovea were found.
    """
    eye = eye_in(decision.findings) if regions else None
    marks = tuple(each for each in decision.findings if isinstance(each, MaskFinding | PointFinding))
    shown = next((each for each in decision.findings if each.code == decision.evidence), None)
    if not isinstance(shown, LabelFinding | GradeFinding):
        grades = [each for each in decision.findings if isinstance(each, GradeFinding)]
        said = [f"{each.name}: probability {each.probability:.2f}" for each in grades]
        said += [each.name for each in marks if isinstance(each, PointFinding) and each.found]
        found = "Found in the picture" if any(each.found for each in marks) else None
        title = ", ".join(said) or found or "Nothing was found that has a place in the picture"
        return Evidence(title, analysis.geometry, marks=marks, eye=eye)
    output = task.outputs[shown.output]
    assert isinstance(output, Labels | Grades)  # what a class map explains
    class_map: NDArray[Any] | None = analysis.predicted[str(task.maps_of(shown.output))][
        ..., output.labels.codes.index(shown.code)
    ]
    is_finding = shown.code in decision.triggered
    if any(mark.found for mark in marks) and not is_finding:
        class_map = None
    title = f"{shown.code} {shown.name}: probability {shown.probability:.2f}"
    if decision.outcome == "uncertain":
        title += ", uncertain: a person must look"
    elif isinstance(shown, LabelFinding) and shown.threshold is not None:
        title += (
            f", {'reaches' if shown.reached else 'no finding, below'} threshold {probability_text(shown.threshold)}"
        )
    return Evidence(title, analysis.geometry, class_map, is_finding, marks, eye)


def draw(path: Path, image: NDArray[np.uint8], evidence: Evidence | None) -> None:
    """Writes the overlay JPEG: what it shows, the image (uint8 RGB, (h, w, 3)) and, given `evidence`, its place."""
    longest = PANEL if evidence is not None and any(mark.found for mark in evidence.marks) else SHOWN
    small = _reduced(image, longest)
    size = small.shape[1], small.shape[0]
    shown = [small]
    if evidence is not None and evidence.visible:
        right = small
        if evidence.class_map is not None:
            weight = strength(evidence.class_map, evidence.geometry, small.shape[:2])
            right = outlined(small, weight, longest / PANEL) if evidence.finding else tinted(small, weight)
        if evidence.eye is not None:
            right = np.array(right)
            draw_regions(right, evidence.eye, evidence.geometry.source)
        shown.append(marked(right, evidence.marks, evidence.geometry.source, 1.3))
    canvas = np.full((TITLE + size[1], len(shown) * (size[0] + GAP) - GAP, 3), 24, np.uint8)
    for i, panel in enumerate(shown):
        canvas[TITLE:, i * (size[0] + GAP) : i * (size[0] + GAP) + size[0]] = panel
    title = "No class map: the image was not given to the model" if evidence is None else evidence.title
    rows: list[list[tuple[Style | None, str]]] = [[(None, title)]]
    if masks := legend(() if evidence is None else evidence.marks):
        shares = {mask.code: "" if mask.share is None else f" {percent(100 * mask.share)}" for mask, _ in masks}
        rows.append([(style, mask.name + shares[mask.code]) for mask, style in masks])
        rows[1] += [(None, "(of the field)")] if any(shares.values()) else []
    for number, row in enumerate(rows):
        _write_row(canvas[:TITLE], row, (TITLE * (number + 0.5) / len(rows)), 24 if len(rows) == 1 else 20)
    temporary = path.with_suffix(".part")
    sampling = "4:4:4" if longest == PANEL else "4:2:0"  # thin lines of marks are told apart by their colours
    Image.fromarray(canvas).save(temporary, "JPEG", quality=QUALITY, subsampling=sampling)
    temporary.replace(path)


def _reduced(image: NDArray[np.uint8], longest: int) -> NDArray[np.uint8]:
    """`image` with its longest side at most `longest` px.

    Halved as often as that is possible, which OpenCV does in a tenth of the time of other averages; the rest, by less
    than two, is interpolated.
    """
    height, width = image.shape[:2]
    scale = min(1.0, longest / max(height, width))
    size = max(1, round(width * scale)), max(1, round(height * scale))
    while min(height, width) >= 2 and max(height, width) >= 2 * longest:
        height, width = height // 2, width // 2
        halves = cv2.resize(image[: 2 * height, : 2 * width], (width, height), interpolation=cv2.INTER_AREA)
        image = np.asarray(halves, np.uint8)
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_LINEAR), np.uint8)


def legend(findings: Sequence[Finding]) -> list[tuple[MaskFinding, Style]]:
    """The masks that were found, each with its style."""
    return [(each, style) for each, style in styled(findings) if isinstance(each, MaskFinding) and each.found]


def _write_row(canvas: NDArray[np.uint8], row: Sequence[tuple[Style | None, str]], middle: float, height: int) -> None:
    """Texts side by side, each behind the form of its style, `height` pixels high, or less where they need it."""
    for size in range(height, 0, -1):
        font = font_of(size)
        widths = [font.getlength(text) + (0 if style is None else 1.5 * size) + size for style, text in row]
        if sum(widths) - size <= canvas.shape[1] - 2 * MARGIN:
            break
    picture, left = Image.fromarray(canvas), float(MARGIN)
    pen = ImageDraw.Draw(picture)
    for (style, text), width in zip(row, widths, strict=True):
        pen.text((left + (0 if style is None else 1.5 * size), middle), text, "white", font, anchor="lm")
        left += width
    canvas[...] = np.asarray(picture)
    left = float(MARGIN)
    for (style, _), width in zip(row, widths, strict=True):
        if style is not None:
            [form] = _around([np.array([[left + size / 2, middle]])], canvas.shape[:2], style, 0.45 * size)
            draw_line(canvas, np.concatenate([form, form[:1]]), style.colour, max(1, size // 8))
        left += width


def marked(
    image: NDArray[np.uint8], findings: Sequence[Finding], source: tuple[int, int], size: float = 1.0
) -> NDArray[np.uint8]:
    """`image`, uint8 RGB (h, w, 3), with `draw_marks` drawn in."""
    picture = np.array(image)
    draw_marks(picture, findings, source, size)
    return picture


def draw_marks(
    picture: NDArray[np.uint8], findings: Sequence[Finding], source: tuple[int, int], size: float = 1.0
) -> None:
    """Draws findings that have a place into `picture`, uint8 RGB or RGBA (h, w, channels), a copy of one of that size.

    A line along the border of a mask of one part, in the mask's style (see `styled`), lines around those of a mask of
    several, the style's colour over a mask that branches, and a cross for each point, on black. A microaneurysm of a
    few pixels is seen so, and is not painted over; one line runs around parts that lie together. The name stands beside
    a point, and beside a mask of one part; what another mask is, a legend tells.

    Args:
        findings: all of the picture; those without a place are passed over, but a mask keeps its style.
        source: (height, width) of the picture that they lie on.
        size: of lines, crosses and names; 1 where the picture is to be seen about as large as a hand.
    """
    unit = size * max(picture.shape[:2]) / PANEL  # px
    factor = np.array([picture.shape[1] / source[1], picture.shape[0] / source[0]])
    opaque = (255,) * (picture.shape[2] - 3)
    names: list[tuple[float, float, float, str]] = []
    lines: list[tuple[NDArray[np.float64], Style, float]] = []  # each with its width in pixels of a picture of PANEL px
    for finding, style in styled(findings):
        if isinstance(finding, MaskFinding) and finding.found:
            parts = [(np.array(outline) + 0.5) * factor - 0.5 for outline in finding.borders]
            if finding.holes is not None:
                _cover(picture, parts, style.colour)
                continue
            if len(parts) == 1:
                x, y = parts[0].T
                names.append((x.min(), x.max(), y.min(), finding.name))
            width = LINE
            distance = max(AROUND * unit, stroke_widths(THIN * unit)[1] / 2 + 2.5)  # no line over the part
            if len(parts) > 1 or np.ptp(parts[0], axis=0).max() < 2 * distance:
                parts, width = _around(parts, picture.shape[:2], style, distance), THIN
            lines += [(np.concatenate([part, part[:1]]), style, width) for part in parts]
        elif isinstance(finding, PointFinding) and finding.x is not None and finding.y is not None:
            centre = (np.array([finding.x, finding.y]) + 0.5) * factor - 0.5
            for arm in np.array([[CROSS, 0.0], [0.0, CROSS]]) * unit:
                lines.append((np.array([centre - arm, centre + arm]), style, LINE))
            half = CROSS * unit / 2
            names.append((centre[0] - half, centre[0] + half, centre[1] + half, finding.name))
    for line, style, width in lines:
        inner, outer = stroke_widths(width * unit)
        draw_line(picture, line, (*BLACK, *opaque), outer)
        for dash in dashes(line, style.dash * unit):
            draw_line(picture, dash, (*style.colour, *opaque), inner)
    if names:
        write_names(picture, names, NAME * unit)


def _cover(picture: NDArray[np.uint8], borders: Sequence[NDArray[np.float64]], colour: Colour) -> None:
    """Lays a colour over what lies inside of an odd number of polygons, (n, 2) each."""
    part = 1 << (bits := 4)  # of a pixel
    inside = np.zeros(picture.shape[:2], np.uint8)
    cv2.fillPoly(inside, [np.round(border * part).astype(np.int32) for border in borders], 255, cv2.LINE_AA, bits)
    weight = (inside * np.float32(COVERED / 255))[..., None]
    if picture.shape[2] == 3:
        picture[...] = picture * (1 - weight) + np.array(colour, np.float32) * weight + 0.5
    else:  # over a picture that lies below
        picture[inside > 0, :3] = colour
        picture[..., 3] = np.maximum(picture[..., 3], weight[..., 0] * 255 + 0.5)


def draw_regions(picture: NDArray[np.uint8], eye: Eye, source: tuple[int, int]) -> None:
    """Draws where the eight regions meet, with their names, into `picture`, uint8 RGB (h, w, 3).

    Args:
        eye: disc and fovea. source: (height, width) of the picture that they lie on.
    """
    unit = max(picture.shape[:2]) / PANEL  # px
    factor = np.array([picture.shape[1] / source[1], picture.shape[0] / source[0]])
    inner, outer = stroke_widths(THIN * unit)
    for line in region_lines(*eye):
        line = (line + 0.5) * factor - 0.5
        draw_line(picture, line, BLACK, outer)
        draw_line(picture, line, BETWEEN, inner)
    places = {name: (np.array(place) + 0.5) * factor - 0.5 for name, place in region_names_at(*eye).items()}
    write_centred(picture, {name: (float(x), float(y)) for name, (x, y) in places.items()}, NAME * unit)


def _around(
    parts: Sequence[NDArray[np.float64]], size_hw: tuple[int, int], style: Style, distance: float
) -> list[NDArray[np.float64]]:
    """The lines at that distance, in pixels, around polygons, (n, 2) each, with corners by the form of the style."""
    reach = distance * np.sqrt(2) if style.form == "diamond" else distance  # in the form's metric
    room = int(reach) + 2  # beside the picture
    beside = np.ones((size_hw[0] + 2 * room, size_hw[1] + 2 * room), np.uint8)
    for part in parts:
        cv2.fillPoly(beside, [np.round(part + room).astype(np.int32)], 0)
    near = (cv2.distanceTransform(beside, METRICS[style.form], 3) <= reach).astype(np.uint8)
    found, _ = cv2.findContours(near, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    return [cv2.approxPolyDP(line, 0.5, closed=True)[:, 0].astype(np.float64) - room for line in found]


def styled(findings: Sequence[Finding]) -> list[tuple[MaskFinding | PointFinding, Style]]:
    """Findings that may have a place, each with its style.

    A lesion has that of LESIONS, any other mask the next one of STYLES that no lesion has, in the order of the masks,
    found or not; a point is white.
    """
    located = [each for each in findings if isinstance(each, MaskFinding | PointFinding)]
    fixed = {each.code: LESIONS.get(each.code.upper()) for each in located if isinstance(each, MaskFinding)}
    others = itertools.cycle([style for style in STYLES if style not in fixed.values()] or STYLES)
    return [
        (each, (fixed[each.code] or next(others)) if isinstance(each, MaskFinding) else STYLES[0]) for each in located
    ]


def panels(path: Path, count: int, longest: int) -> list[bytes]:
    """The `count` panels of an overlay file without its text, as JPEGs whose longest side is at most `longest` px."""
    try:
        with Image.open(path) as picture:
            canvas = picture.convert("RGB")
    except OSError as error:
        raise RealMNetError(f"{path}: cannot read the overlay ({error})") from error
    width = (canvas.width - (count - 1) * GAP) // count
    boxes = [(i * (width + GAP), TITLE, i * (width + GAP) + width, canvas.height) for i in range(count)]
    return [_thumbnail(canvas.crop(box), longest) for box in boxes]


def _thumbnail(panel: Image.Image, longest: int) -> bytes:
    panel.thumbnail((longest, longest), Image.Resampling.BOX, reducing_gap=None)
    buffer = io.BytesIO()
    panel.save(buffer, "JPEG", quality=80)
    return buffer.getvalue()


def strength(class_map: NDArray[Any], geometry: FieldGeometry, size_hw: tuple[int, int]) -> NDArray[np.float32]:
    """The positive evidence of a class map of shape (h', w'), laid smoothly on the image: shape `size_hw`, 1 at most.

    All zero where no place speaks for the label, or where the map is not finite.
    """
    if not np.isfinite(class_map).all():
        return np.zeros(size_hw, np.float32)
    height, width = size_hw
    shape = (-(-height // COARSE), -(-width // COARSE))
    coarse = geometry.map_to_source(np.maximum(class_map, 0.0), shape)
    cell = geometry.size / max(class_map.shape) / geometry.scale[0] * shape[1] / geometry.source[1]
    rounded = cv2.GaussianBlur(coarse, (0, 0), max(0.5, 0.35 * cell))  # rounds the corners of the cells
    smooth = np.asarray(cv2.resize(rounded, (width, height), interpolation=cv2.INTER_LINEAR), np.float32)
    peak = float(smooth.max())
    return smooth / peak if peak > 0.0 else np.zeros(size_hw, np.float32)


def draw_levels(
    picture: NDArray[np.uint8], evidence: NDArray[np.float32], black: Colour, white: Colour, size: float = 1.0
) -> None:
    """Draws a line around each of LEVELS of `evidence`, seen on dark and on bright, into `picture` (h, w, channels).

    size: of the lines; 1 in a picture of PANEL px.
    """
    for level, thickness in zip(LEVELS, (1, 3), strict=True):
        lines, _ = cv2.findContours((evidence >= level).astype(np.uint8), cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
        lines = [cv2.approxPolyDP(line, 0.5, closed=True) for line in lines]  # a thick line takes time by its corners
        inner = max(1, round(thickness * size))
        for colour, width in ((black, inner + round(4 * size)), (white, inner)):
            cv2.drawContours(picture, lines, -1, colour, width, cv2.LINE_AA)


def outlined(image: NDArray[np.uint8], evidence: NDArray[np.float32], size: float = 1.0) -> NDArray[np.uint8]:
    """`image` dimmed where there is less than half of the most `evidence` (see `strength`), with a line at each level.

    The image itself where there is no positive evidence anywhere. size: of the lines, see `draw_levels`.
    """
    if not evidence.any():
        return image
    picture = np.asarray(cv2.convertScaleAbs(image, alpha=DIMMED), np.uint8)
    cv2.copyTo(image, (evidence >= LEVELS[0]).astype(np.uint8), picture)
    draw_levels(picture, evidence, (0, 0, 0), (255, 255, 255), size)
    return picture


def opacity(evidence: NDArray[np.float32]) -> NDArray[np.uint8]:
    """How densely COLOUR lies over each pixel, of 255: by evidence (see `strength`) above FAINTEST."""
    return np.asarray(np.maximum(0.0, evidence - FAINTEST) / (1.0 - FAINTEST) * DENSEST, np.uint8)


def tinted(image: NDArray[np.uint8], evidence: NDArray[np.float32]) -> NDArray[np.uint8]:
    """`image`, uint8 RGB of shape (h, w, 3), with COLOUR laid over it by `opacity`."""
    weight = opacity(evidence) / np.float32(255)
    layer = cv2.merge([np.full(weight.shape, value, np.uint8) for value in COLOUR])
    return np.asarray(cv2.blendLinear(image, layer, 1 - weight, weight), np.uint8)
