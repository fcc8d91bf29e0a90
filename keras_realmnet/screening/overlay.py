"""The picture that goes with a record: the image, and beside it where the model found its evidence.

A line is drawn around the evidence for a label that reaches its threshold, and for no other: what the rule did not
find is not outlined as if it had. Lines can be read by the colour-blind and on a black-and-white print, and leave the
colours of the retina inside of them as they are. Where the model looked for a label that stays below its threshold,
and where evidence is to be seen by degrees (the page's class maps, the heat map), the image is tinted.
"""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from keras_realmnet.errors import RealMNetError
from keras_realmnet.screening.decision import Analysis, Decision
from keras_realmnet.screening.preprocessing import FieldGeometry
from keras_realmnet.tasks.findings import Finding, GradeFinding, LabelFinding, MaskFinding, PointFinding
from keras_realmnet.tasks.outputs import Grades, Labels
from keras_realmnet.tasks.task import Task

__all__ = [
    "COLOUR",
    "DIMMED",
    "LEVELS",
    "Evidence",
    "draw",
    "draw_levels",
    "evidence_of",
    "marked",
    "opacity",
    "outlined",
    "panels",
    "strength",
    "tinted",
]

Colour = tuple[int, ...]

PANEL = 1000  # px, longest side of the image in the overlay file
TITLE = 60  # px, height of the line of text above the panels
MARGIN = 12  # px, left and right of it
GAP = 12  # px between the panels
CROSS = 14.0  # px, half an arm of the cross at a point
NAME = 20  # px, height of a name beside a finding
WHITE, BLACK = (255, 255, 255), (0, 0, 0)
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
    """What the right panel shows, and one line about it.

    class_map: of shape (h', w') in the model's square, which `geometry` lays on the picture; None: there is none.
    finding: whether the label reaches its threshold; only then is the evidence outlined. marks: findings with a place.
    """

    title: str
    geometry: FieldGeometry
    class_map: NDArray[Any] | None = None
    finding: bool = True
    marks: tuple[Finding, ...] = ()

    @property
    def visible(self) -> bool:
        """Whether there is anything to draw."""
        return self.class_map is not None or bool(self.marks)


def evidence_of(task: Task, analysis: Analysis, decision: Decision) -> Evidence:
    """What the picture of a decided image shows."""
    marks = tuple(each for each in decision.findings if isinstance(each, MaskFinding | PointFinding) and each.found)
    shown = next((each for each in decision.findings if each.code == decision.evidence), None)
    if not isinstance(shown, LabelFinding | GradeFinding):
        title = ", ".join(each.name for each in marks) or "Nothing was found that has a place in the picture"
        return Evidence(title, analysis.geometry, marks=marks)
    output = task.outputs[shown.output]
    assert isinstance(output, Labels | Grades)  # what a class map explains
    class_map = analysis.predicted[str(task.maps_of(shown.output))][..., output.labels.codes.index(shown.code)]
    title = f"{shown.code} {shown.name}: probability {shown.probability:.2f}"
    if isinstance(shown, LabelFinding) and shown.threshold is not None:
        title += f", {'reaches' if shown.reached else 'no finding, below'} threshold {shown.threshold:.2f}"
    return Evidence(title, analysis.geometry, class_map, shown.code in decision.triggered, marks)


def draw(path: Path, image: NDArray[np.uint8], evidence: Evidence | None) -> None:
    """Writes the overlay JPEG: a line of text, the image (uint8 RGB, (h, w, 3)) and, given `evidence`, its place."""
    height, width = image.shape[:2]
    scale = min(1.0, PANEL / max(height, width))
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    small = np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)
    shown = [small]
    if evidence is not None and evidence.visible:
        right = small
        if evidence.class_map is not None:
            mark = outlined if evidence.finding else tinted
            right = mark(small, strength(evidence.class_map, evidence.geometry, small.shape[:2]))
        shown.append(marked(right, evidence.marks, (height, width)))
    canvas = np.full((TITLE + size[1], len(shown) * (size[0] + GAP) - GAP, 3), 24, np.uint8)
    for i, panel in enumerate(shown):
        canvas[TITLE:, i * (size[0] + GAP) : i * (size[0] + GAP) + size[0]] = panel
    picture = Image.fromarray(canvas)
    title = "No class map: the image was not given to the model" if evidence is None else evidence.title
    pen = ImageDraw.Draw(picture)
    fonts: Any = (ImageFont.load_default(size=size) for size in range(24, 0, -1))
    font = next((font for font in fonts if pen.textlength(title, font) <= canvas.shape[1] - 2 * MARGIN), None)
    pen.text((MARGIN, TITLE / 2), title, fill="white", font=font, anchor="lm")
    temporary = path.with_suffix(".part")
    picture.save(temporary, "JPEG", quality=QUALITY)
    temporary.replace(path)


def marked(image: NDArray[np.uint8], findings: Sequence[Finding], source: tuple[int, int]) -> NDArray[np.uint8]:
    """`image`, uint8 RGB (h, w, 3), a copy of a picture of the size `source`, (height, width), with findings drawn in.

    An outline for each part of a mask, a cross for each point, both white on black, with the name beside them.
    """
    picture = np.array(image)
    factor = np.array([image.shape[1] / source[1], image.shape[0] / source[0]])

    def place(x: float, y: float) -> NDArray[np.float64]:
        return np.asarray((np.array([x, y]) + 0.5) * factor - 0.5)

    names: list[tuple[NDArray[np.float64], str]] = []
    for finding in findings:
        lines: list[NDArray[np.float64]] = []
        if isinstance(finding, MaskFinding):
            lines = [np.array([place(*corner) for corner in outline]) for outline in finding.outlines]
            corners = np.concatenate(lines) if lines else np.zeros((0, 2))
            if len(corners):
                names.append((np.array([corners[:, 0].max(), corners[:, 1].min()]), finding.name))
        elif isinstance(finding, PointFinding) and finding.x is not None and finding.y is not None:
            centre = place(finding.x, finding.y)
            arms = np.array([[CROSS, 0.0], [0.0, CROSS]])
            lines = [np.array([centre - arm, centre + arm]) for arm in arms]
            names.append((centre + CROSS / 2, finding.name))
        for colour, width in ((BLACK, 4), (WHITE, 2)):
            for line in lines:  # in sixteenths of a pixel
                fine = np.round(line * 16).astype(np.int32)[:, None]
                cv2.polylines(picture, [fine], isinstance(finding, MaskFinding), colour, width, cv2.LINE_AA, shift=4)
    for at, name in names:
        _write(picture, at, name)
    return picture


def _write(picture: NDArray[np.uint8], at: NDArray[np.float64], text: str) -> None:
    """A name below and to the right of a place, or as far to the left as it must be to lie inside."""
    font = ImageFont.load_default(size=NAME)
    left, top, right, bottom = font.getbbox(text, stroke_width=2)
    x = float(np.clip(at[0] + 4, 0, max(0.0, picture.shape[1] - (right - left) - 4)))
    y = float(np.clip(at[1] + 4, 0, max(0.0, picture.shape[0] - (bottom - top) - 4)))
    canvas = Image.fromarray(picture)
    ImageDraw.Draw(canvas).text((x, y), text, WHITE, font, stroke_width=2, stroke_fill=BLACK)
    picture[...] = np.asarray(canvas)


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


def draw_levels(picture: NDArray[np.uint8], evidence: NDArray[np.float32], black: Colour, white: Colour) -> None:
    """Draws a line around each of LEVELS of `evidence`, seen on dark and on bright, into `picture` (h, w, channels)."""
    for level, thickness in zip(LEVELS, (1, 3), strict=True):
        lines, _ = cv2.findContours((evidence >= level).astype(np.uint8), cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
        for colour, width in ((black, thickness + 4), (white, thickness)):
            cv2.drawContours(picture, lines, -1, colour, width, cv2.LINE_AA)


def outlined(image: NDArray[np.uint8], evidence: NDArray[np.float32]) -> NDArray[np.uint8]:
    """`image` dimmed where there is less than half of the most `evidence` (see `strength`), with a line at each level.

    The image itself where there is no positive evidence anywhere.
    """
    if not evidence.any():
        return image
    picture = np.asarray(cv2.convertScaleAbs(image, alpha=DIMMED), np.uint8)
    cv2.copyTo(image, (evidence >= LEVELS[0]).astype(np.uint8), picture)
    draw_levels(picture, evidence, (0, 0, 0), (255, 255, 255))
    return picture


def opacity(evidence: NDArray[np.float32]) -> NDArray[np.uint8]:
    """How densely COLOUR lies over each pixel, of 255: by evidence (see `strength`) above FAINTEST."""
    return np.asarray(np.maximum(0.0, evidence - FAINTEST) / (1.0 - FAINTEST) * DENSEST, np.uint8)


def tinted(image: NDArray[np.uint8], evidence: NDArray[np.float32]) -> NDArray[np.uint8]:
    """`image`, uint8 RGB of shape (h, w, 3), with COLOUR laid over it by `opacity`."""
    weight = opacity(evidence)[..., None] / np.float32(255)
    return np.asarray(image * (1 - weight) + np.array(COLOUR, np.float32) * weight + 0.5, np.uint8)
