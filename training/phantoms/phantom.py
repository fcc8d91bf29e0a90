"""Synthetic red/green ultra-widefield fundus images (Optos-like) with exact truth.

Everything is drawn in retina coordinates (unit: the image width; origin between disc and fovea; x towards the disc,
y down) and mapped to pixels by the view's gaze, so one seed gives one picture whatever the width. A seed is an eye:
its vessels, disc, choroid and lesions; `view` numbers the exposures of that eye, which differ in gaze, lids and
lashes, exposure, colour, focus and noise. Labels choose lesions and nothing else: every other draw comes from
streams of random numbers that no label touches, so nothing but the lesions can tell them.

The pictures are drawn by hand to look like the modality and to be learnable; the posterior pole is enlarged about
1.5 times against a real 200 degree image. They carry no clinical evidence.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from keras_realmnet.tasks.vocabulary import PSMM
from training.phantoms.drawing.atrophy import paint_atrophy
from training.phantoms.drawing.canvas import Canvas
from training.phantoms.drawing.device import expose
from training.phantoms.drawing.findings import paint_findings
from training.phantoms.drawing.fundus import paint_background, paint_disc
from training.phantoms.drawing.staphyloma import draw_staphyloma, paint_staphyloma
from training.phantoms.drawing.streams import Streams
from training.phantoms.drawing.vessels import paint_vessels

__all__ = ["LESIONS", "Phantom", "label_vector", "render"]

LESIONS = ("diffuse_atrophy", "patchy_atrophy", "macular_atrophy", "staphyloma", "hemorrhage", "hard_exudate")

DISC = np.array([0.062, -0.008])  # centre of the optic disc; the fovea lies at about minus this


@dataclass(frozen=True)
class Phantom:
    """A rendered image and its truth.

    `image` is uint8 RGB (h, w, 3); `labels` uint8 (7,) in the order of `PSMM.codes`; `eye` "OD" or "OS"; all masks
    are bool (h, w), including those of lesions the eye does not have (all False); `fovea` is (x, y) in pixels.
    The truth is what lies on the retina: lids and lashes, `lid_mask`, may cover some of it. Masks end at the field.
    """

    image: np.ndarray
    labels: np.ndarray
    eye: str
    field_mask: np.ndarray
    lid_mask: np.ndarray
    disc_mask: np.ndarray
    cup_mask: np.ndarray
    artery_mask: np.ndarray
    vein_mask: np.ndarray
    lesion_masks: dict[str, np.ndarray]
    fovea: tuple[float, float]

    @property
    def vessel_mask(self) -> np.ndarray:
        """Arteries and veins, bool (h, w)."""
        return self.artery_mask | self.vein_mask


def label_vector(staphyloma: bool, grade: int) -> np.ndarray:
    """The uint8 (7,) label vector S0, S1, A0..A4 of an eye."""
    labels = np.zeros(len(PSMM), np.uint8)
    labels[int(staphyloma)] = 1
    labels[2 + grade] = 1
    return labels


def render(
    seed: int | Sequence[int],
    *,
    width: int = 512,
    height: int | None = None,
    staphyloma: bool | None = None,
    grade: int | None = None,
    eye: str | None = None,
    view: int = 0,
) -> Phantom:
    """One exposure of one synthetic eye.

    Args:
        seed: the eye: a non-negative integer or several.
        width, height: pixels, at least 64; the height defaults to 3072/3900 of the width. The same seed, view and
            aspect give the same picture at every width.
        staphyloma: posterior staphyloma or not; None draws it with probability 1/2.
        grade: META-PM category 0..4 of the myopic maculopathy; None draws it uniformly.
        eye: "OD" or "OS"; None draws it.
        view: the number of the exposure of this eye.

    Raises:
        ValueError: for a size, grade, eye or view out of range.
    """
    height = round(width * 3072 / 3900) if height is None else height
    if width < 64 or height < 64:
        raise ValueError(f"A phantom is at least 64 pixels wide and high. Received: {width} x {height}")
    if grade not in (None, 0, 1, 2, 3, 4):
        raise ValueError(f"grade is a META-PM category 0..4 or None. Received: {grade!r}")
    if eye not in (None, "OD", "OS"):
        raise ValueError(f"eye is 'OD', 'OS' or None. Received: {eye!r}")
    if view < 0:
        raise ValueError(f"view counts the exposures of an eye from 0. Received: {view!r}")
    streams = Streams(seed, view)
    draw = streams["labels"]
    drawn = (bool(draw.random() < 0.5), int(draw.integers(5)), str(draw.choice(["OD", "OS"])))
    staphyloma = drawn[0] if staphyloma is None else bool(staphyloma)
    grade = drawn[1] if grade is None else int(grade)
    eye = drawn[2] if eye is None else eye

    canvas = Canvas.gazing(width, height, eye, streams["gaze"])
    anatomy = streams["anatomy"]
    disc = DISC + anatomy.uniform(-0.006, 0.006, 2)
    fovea = -DISC + anatomy.uniform(-0.006, 0.006, 2)
    pit = draw_staphyloma(streams["staphyloma"], disc, fovea) if staphyloma else None

    picture, choroid, mottle = paint_background(canvas, streams, fovea, grade)
    lesions = {name: np.zeros((height, width), bool) for name in LESIONS}
    if pit is not None:
        lesions["staphyloma"] = paint_staphyloma(canvas, picture, pit)
    lesions |= paint_atrophy(canvas, picture, streams, disc, fovea, grade, choroid, mottle)
    disc_mask, cup_mask = paint_disc(canvas, picture, anatomy, disc, grade, mottle)
    artery_mask, vein_mask = paint_vessels(canvas, picture, streams["vessels"], disc, fovea, pit)
    lesions |= paint_findings(canvas, picture, streams["findings"], fovea)

    image, field, lids = expose(canvas, picture, streams)
    x, y = canvas.to_pixels(fovea)
    return Phantom(
        image=image,
        labels=label_vector(staphyloma, grade),
        eye=eye,
        field_mask=field,
        lid_mask=lids & field,
        disc_mask=disc_mask & field,
        cup_mask=cup_mask & field,
        artery_mask=artery_mask & field,
        vein_mask=vein_mask & field,
        lesion_masks={name: mask & field for name, mask in lesions.items()},
        fovea=(float(x), float(y)),
    )
