"""Synthetic colour fundus photographs of 45 to 50 degrees with exact truth: fovea, optic disc, cup, class.

An eye is drawn in the same retina coordinates as an ultra-widefield phantom (`phantom`) and seen closer, through a
fundus camera. A seed is an eye, `view` numbers the photographs of it, which differ in camera, gaze, light, colours,
focus and noise. The pictures are drawn by hand; they carry no clinical evidence.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from keras_realmnet.tasks.vocabulary import PALM
from training.phantoms.drawing.colour.atrophy import paint_lesions
from training.phantoms.drawing.colour.background import paint_background, paint_reflexes
from training.phantoms.drawing.colour.camera import draw_camera, expose, photograph_canvas
from training.phantoms.drawing.colour.disc import draw_disc, paint_disc
from training.phantoms.drawing.colour.vessels import paint_vessels
from training.phantoms.drawing.findings import paint_findings
from training.phantoms.drawing.staphyloma import draw_staphyloma, paint_staphyloma
from training.phantoms.drawing.streams import Streams
from training.phantoms.files import encode_jpeg
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
    """

    image: np.ndarray
    fovea: tuple[float, float]
    disc_centre: tuple[float, float]
    disc_mask: np.ndarray
    cup_mask: np.ndarray
    field_mask: np.ndarray
    label: str
    eye: str
    poor: bool

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

    Raises:
        ValueError: for a width, label, eye or view out of range.
    """
    if width < 64:
        raise ValueError(f"`width` must be at least 64 pixels. Received: {width!r}")
    if label not in (None, *PALM.codes):
        raise ValueError(f"`label` must be one of {', '.join(PALM.codes)} or None. Received: {label!r}")
    if eye not in (None, "OD", "OS"):
        raise ValueError(f"`eye` must be 'OD', 'OS' or None. Received: {eye!r}")
    if view < 0:
        raise ValueError(f"`view` must be 0 or more. Received: {view!r}")
    streams = Streams(seed, view)
    draw = streams["labels"]
    drawn = (str(draw.choice(PALM.codes)), str(draw.choice(["OD", "OS"])))
    grade, bulges = int(draw.choice([2, 3, 4], p=[0.4, 0.4, 0.2])), bool(draw.random() < 0.4)
    label = drawn[0] if label is None else label
    eye = drawn[1] if eye is None else eye

    anatomy = streams["anatomy"]
    about = DISC + anatomy.uniform(-0.006, 0.006, 2)
    fovea = -DISC + anatomy.uniform(-0.006, 0.006, 2)
    disc = draw_disc(anatomy, about, label)
    pathologic = label == "P"
    pit = draw_staphyloma(streams["staphyloma"], about, fovea) if pathologic and bulges else None

    rng = streams["field"]
    camera = draw_camera(rng)
    drawn_poor, quality = bool(rng.random() < POOR), int(rng.integers(70, 96))
    poor = drawn_poor if poor is None else poor
    height = round(width * camera.form.aspect)
    canvas = photograph_canvas(width, height, camera, eye, streams["gaze"], about, fovea)

    picture, choroid, mottle = paint_background(canvas, streams, about, fovea, label)
    if pit is not None:
        paint_staphyloma(canvas, picture, pit)
    if pathologic:
        paint_lesions(canvas, picture, streams, about, fovea, grade, choroid, mottle)
    disc_mask, cup_mask = paint_disc(canvas, picture, anatomy, disc, choroid, mottle)
    paint_vessels(canvas, picture, streams["vessels"], about, fovea, pit)
    paint_findings(canvas, picture, streams["findings"], fovea)
    if not pathologic:
        paint_reflexes(canvas, picture, anatomy, about, fovea)

    image, field = expose(canvas, picture, camera, streams, poor)
    image = _compressed(image, quality)
    x, y = canvas.to_pixels(fovea)
    disc_x, disc_y = canvas.to_pixels(disc.centre)
    return ColourPhantom(
        image=image,
        fovea=(float(x), float(y)),
        disc_centre=(float(disc_x), float(disc_y)),
        disc_mask=(disc_mask & field).astype(np.uint8),
        cup_mask=(cup_mask & field).astype(np.uint8),
        field_mask=field,
        label=label,
        eye=eye,
        poor=poor,
    )


def _compressed(image: np.ndarray, quality: int) -> np.ndarray:
    """The image after it was a JPEG file: uint8 RGB (h, w, 3)."""
    data = np.frombuffer(encode_jpeg(image, quality), np.uint8)
    return np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR_RGB), np.uint8)
