"""Synthetic colour fundus photographs of 45 to 50 degrees with exact truth: fovea, optic disc, cup, class.

An eye is drawn in the same retina coordinates as an ultra-widefield phantom (`phantom`) and seen closer, through a
fundus camera. A seed is an eye, `view` numbers the photographs of it, which differ in camera, gaze, light, colours,
focus and noise. The pictures are drawn by hand; they carry no clinical evidence.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import cv2
import numpy as np

from keras_realmnet.tasks.vocabulary import PALM
from training.phantoms.drawing.canvas import Canvas
from training.phantoms.drawing.colour.atrophy import paint_lesions
from training.phantoms.drawing.colour.background import paint_background, paint_reflexes
from training.phantoms.drawing.colour.camera import draw_camera, expose, photograph_canvas
from training.phantoms.drawing.colour.disc import draw_disc, paint_disc
from training.phantoms.drawing.colour.glaucoma import draw_wedge, paint_wedge, with_cup
from training.phantoms.drawing.colour.lesions import paint_deep, paint_superficial
from training.phantoms.drawing.colour.retinopathy import Retinopathy, draw_retinopathy
from training.phantoms.drawing.colour.vessels import paint_vessels
from training.phantoms.drawing.findings import paint_findings
from training.phantoms.drawing.staphyloma import draw_staphyloma, paint_staphyloma
from training.phantoms.drawing.streams import Streams
from training.phantoms.files import encode_jpeg
from training.phantoms.grading import icdr_grade
from training.phantoms.phantom import DISC

__all__ = ["ColourPhantom", "render_photograph"]

POOR = 0.12  # of photographs are dark, blurred or veiled where the caller does not say


@dataclass(frozen=True)
class ColourPhantom:
    """A drawn photograph and its truth.

    `image` is uint8 RGB (h, w, 3). `fovea` and `disc_centre` (the centre of gravity of the whole disc) are (x, y) in
    pixels, the centre of the first pixel at 0; either may lie outside of the field: see `shows`. `disc_mask` and
    `cup_mask` are uint8 (h, w), 1 inside; they end at the field, and the cup is part of the disc. `field_mask` is bool
    (h, w). `label` is a code of `PALM` ("N", "H", "P"), `eye` "OD" or "OS". `poor`: drawn dark, blurred or veiled.

    With retinopathy, `lesions` are masks as that of the disc, under the codes MA, HE, EX, SE, PHE and NV of
    `training.data.lesions.vocabulary`, and `grade` is what the lesions in the field make it, 0 to 4; else there is no
    mask and no grade.

    `atrophy_mask` is where chorioretinal atrophy lies, bool (h, w), within the field; nowhere without pathologic
    myopia. The crescent beside the disc, which other eyes have, too, is not part of it.

    Of an eye that was drawn with or without glaucoma, `defect_mask` is where nerve fibres are missing, as that of the
    disc, and `glaucoma` says which it is; else they are None.
    """

    image: np.ndarray
    fovea: tuple[float, float]
    disc_centre: tuple[float, float]
    disc_mask: np.ndarray
    cup_mask: np.ndarray
    field_mask: np.ndarray
    atrophy_mask: np.ndarray
    label: str
    eye: str
    poor: bool
    lesions: Mapping[str, np.ndarray] = field(default_factory=dict)
    grade: int | None = None
    defect_mask: np.ndarray | None = None
    glaucoma: bool | None = None

    def shows(self, point: tuple[float, float]) -> bool:
        """Whether a point (x, y) lies within the field."""
        height, width = self.field_mask.shape
        x, y = round(point[0]), round(point[1])
        return 0 <= x < width and 0 <= y < height and bool(self.field_mask[y, x])


def render_photograph(
    seed: int | Sequence[int],
    *,
    width: int = 512,
    label: str | None = None,
    eye: str | None = None,
    view: int = 0,
    poor: bool | None = None,
    retinopathy: int | None = None,
    glaucoma: bool | None = None,
    off: float | None = None,
) -> ColourPhantom:
    """One photograph of one synthetic eye.

    Args:
        seed: the eye: a non-negative integer or several.
        width: pixels, at least 64; the height, 0.66 to 1 of it, is the camera's. The same seed and view show the same
            at every width.
        label: the class, a code of `PALM`; None draws it uniformly.
        eye: "OD" or "OS"; None draws it.
        view: the number of the photograph of this eye.
        poor: whether it is dark, blurred or veiled; None makes one in eight so.
        retinopathy: the grade of diabetic retinopathy that the eye is to have, 0 (none) to 4 (proliferative); what
            of it lies in the field may be less. None: findings of other eyes, without truth.
        glaucoma: True: a cup of three quarters of the disc's height or more, and in two of three eyes a wedge of
            missing nerve fibres, which the field may not show; False: a cup of .55 at most. None: a cup of any size.
        off: how far beside the fovea the camera looks, in radii of the field; None: wherever cameras look.

    Raises:
        ValueError: for a width, label, eye, view, grade or `off` out of range.
    """
    if width < 64:
        raise ValueError(f"`width` must be at least 64 pixels. Received: {width!r}")
    if label not in (None, *PALM.codes):
        raise ValueError(f"`label` must be one of {', '.join(PALM.codes)} or None. Received: {label!r}")
    if eye not in (None, "OD", "OS"):
        raise ValueError(f"`eye` must be 'OD', 'OS' or None. Received: {eye!r}")
    if view < 0:
        raise ValueError(f"`view` must be 0 or more. Received: {view!r}")
    if retinopathy not in (None, 0, 1, 2, 3, 4):
        raise ValueError(f"`retinopathy` must be a grade from 0 to 4 or None. Received: {retinopathy!r}")
    if off is not None and not 0 <= off <= 2:
        raise ValueError(f"`off` must be a number of radii from 0 to 2, or None. Received: {off!r}")
    streams = Streams(seed, view)
    draw = streams["labels"]
    drawn = (str(draw.choice(PALM.codes)), str(draw.choice(["OD", "OS"])))
    grade, bulges = int(draw.choice([2, 3, 4], p=[0.4, 0.4, 0.2])), bool(draw.random() < 0.4)
    label = drawn[0] if label is None else label
    eye = drawn[1] if eye is None else eye

    anatomy = streams["anatomy"]
    about = DISC + anatomy.uniform(-0.006, 0.006, 2)
    fovea = -DISC + anatomy.uniform(-0.006, 0.006, 2)
    disc, nerve = draw_disc(anatomy, about, label), streams["glaucoma"]
    if glaucoma is not None:
        disc = with_cup(nerve, disc, glaucoma)
    pathologic = label == "P"
    pit = draw_staphyloma(streams["staphyloma"], about, fovea) if pathologic and bulges else None

    rng = streams["field"]
    camera = draw_camera(rng)
    drawn_poor, quality = bool(rng.random() < POOR), int(rng.integers(70, 96))
    poor = drawn_poor if poor is None else poor
    height = round(width * camera.form.aspect)
    canvas = photograph_canvas(width, height, camera, eye, streams["gaze"], about, fovea, off)

    picture, choroid, mottle = paint_background(canvas, streams, about, fovea, label)
    if pit is not None:
        paint_staphyloma(canvas, picture, pit)
    atrophy = np.zeros((height, width), bool)
    if pathologic:
        atrophy = paint_lesions(canvas, picture, streams, about, fovea, grade, choroid, mottle)
    disc_mask, cup_mask = paint_disc(canvas, picture, anatomy, disc, choroid, mottle)
    wedge = np.zeros_like(disc_mask)
    if glaucoma and nerve.random() < 2 / 3:
        wedge = paint_wedge(canvas, picture, nerve, draw_wedge(nerve, disc))
    lesions: dict[str, np.ndarray] = {}
    diabetic, rng = None, streams["retinopathy"]
    if retinopathy is not None:
        diabetic = draw_retinopathy(rng, about, fovea, retinopathy)
        lesions = paint_deep(canvas, picture, rng, diabetic)
    paint_vessels(canvas, picture, streams["vessels"], about, fovea, pit)
    if diabetic is not None:
        above = paint_superficial(canvas, picture, rng, diabetic)
        lesions = {**above, **lesions, "HE": lesions["HE"] | above["HE"]}
    paint_findings(canvas, picture, streams["findings"], fovea, diabetic=diabetic is not None)
    if not pathologic:
        paint_reflexes(canvas, picture, anatomy, about, fovea)

    image, field_seen = expose(canvas, picture, camera, streams, poor)
    image = _compressed(image, quality)
    x, y = canvas.to_pixels(fovea)
    disc_x, disc_y = canvas.to_pixels(disc.centre)
    return ColourPhantom(
        image=image,
        fovea=(float(x), float(y)),
        disc_centre=(float(disc_x), float(disc_y)),
        disc_mask=(disc_mask & field_seen).astype(np.uint8),
        cup_mask=(cup_mask & field_seen).astype(np.uint8),
        field_mask=field_seen,
        atrophy_mask=atrophy & field_seen,
        label=label,
        eye=eye,
        poor=poor,
        lesions={code: (mask & field_seen).astype(np.uint8) for code, mask in lesions.items()},
        grade=None if diabetic is None else _grade(canvas, field_seen, diabetic),
        defect_mask=None if glaucoma is None else (wedge & field_seen).astype(np.uint8),
        glaucoma=glaucoma,
    )


def _grade(canvas: Canvas, seen: np.ndarray, eye: Retinopathy) -> int:
    """By the lesions whose centres the field shows."""
    middle = np.argwhere(seen).mean(axis=0)[::-1]

    def shown(centres: Sequence[np.ndarray]) -> np.ndarray:
        points = canvas.to_pixels(np.array(centres).reshape(-1, 2))
        x, y = np.rint(points).astype(int).T
        inside = (x >= 0) & (x < seen.shape[1]) & (y >= 0) & (y < seen.shape[0])
        inside[inside] = seen[y[inside], x[inside]]
        return np.asarray(points[inside] - middle)

    return icdr_grade(
        microaneurysms=len(shown([spot.centre for spot in eye.microaneurysms])),
        haemorrhages=shown([spot.centre for spot in (*eye.blots, *eye.flames)]),
        exudates=len(shown([spot.centre for spot in (*eye.exudates, *eye.cotton_wool)])),
        proliferative=len(
            shown([*(spot.centre for spot in eye.preretinal), *(each[:, 0].mean(axis=0) for each in eye.tufts)])
        ),
    )


def _compressed(image: np.ndarray, quality: int) -> np.ndarray:
    """The image after it was a JPEG file: uint8 RGB (h, w, 3)."""
    data = np.frombuffer(encode_jpeg(image, quality), np.uint8)
    return np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR_RGB), np.uint8)
