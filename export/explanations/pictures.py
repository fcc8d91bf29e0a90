"""Drawn pictures of the kind that a bundle screens, as its network sees them, with their lesions."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from keras_realmnet.errors import RealMNetError
from keras_realmnet.screening.bundle.bundle import Bundle
from keras_realmnet.screening.preprocessing import FieldGeometry, PreprocessSpec, preprocess
from training.data.parallel import in_parallel
from training.datasets.found.palm import PalmDataSet
from training.datasets.made.phantom import PhantomDataSet
from training.phantoms.cohorts import PhantomCase
from training.phantoms.photograph import render_photograph

__all__ = ["LESION_OF", "DrawnPictures", "Picture", "drawn_for"]

LESION_OF = {"S1": "staphyloma", "A2": "diffuse_atrophy", "A3": "patchy_atrophy", "A4": "macular_atrophy"}
PHOTOGRAPHS = 3031  # seed of the drawn photographs, on which no network is trained
WIDTH = 384  # px, of a drawn photograph


@dataclass(frozen=True)
class Picture:
    """A drawn picture: `square` is what the network sees, uint8 (size, size, 3).

    `field_mask` and `lesions`, {code of the label: mask}, are bool of the drawing's own shape, on which `geometry`
    lays the square.
    """

    patient: str
    square: NDArray[np.uint8] = field(repr=False)
    geometry: FieldGeometry
    field_mask: NDArray[np.bool_] = field(repr=False)
    lesions: dict[str, NDArray[np.bool_]] = field(repr=False)


@dataclass(frozen=True)
class DrawnPictures:
    """Pictures that are yet to be drawn: `draw` makes one `Picture` of each of `items`."""

    description: str
    items: Sequence[Any]
    draw: Callable[[Any], Picture]

    def drawn(self, workers: int | None = None) -> list[Picture]:
        """All of them, by so many processes, by default one per core."""
        return list(in_parallel(self.draw, self.items, "drawing", workers, chunk=16))


def drawn_for(bundle: Bundle, patients: int) -> DrawnPictures:
    """The held-out pictures of so many synthetic patients on which labels of the bundle have lesions.

    Ultra-widefield phantoms of PSMM's labels, about five of a patient, of which those without lesion are left out; or
    photographs of eyes with pathologic myopia, one of a patient, whose lesion is the atrophy: a staphyloma fills most
    of a photograph.

    Raises:
        RealMNetError: a bundle for other images or labels.
    """
    asked = (bundle.task.modality, bundle.task.name)
    known = {(data.task.modality, data.task.name): data for data in (PhantomDataSet(), PalmDataSet())}
    if asked not in known:
        listed = " or ".join(f"{modality} images with {name} labels" for modality, name in known)
        raise RealMNetError(
            f"{bundle.directory}: what is drawn here with lesions are {listed}. "
            f"Received: a bundle for {asked[0]} with {asked[1]}"
        )
    if isinstance(known[asked], PalmDataSet):
        return DrawnPictures(
            f"{patients} drawn photographs of as many synthetic eyes with pathologic myopia",
            range(patients),
            partial(_photograph, spec=bundle.spec),
        )
    data = PhantomDataSet(test_patients=patients)
    codes = data.task.label_set.codes
    shown = [
        (case, patient)
        for case, patient in zip(*data.cases("test"), strict=True)
        if any(present and code in LESION_OF for code, present in zip(codes, case.labels, strict=True))
    ]
    return DrawnPictures(
        f"{len(shown)} held-out phantoms with lesions of {len({patient for _, patient in shown})} synthetic patients",
        shown,
        partial(_phantom, width=data.width, spec=bundle.spec, codes=codes),
    )


def _phantom(item: tuple[PhantomCase, str], width: int, spec: PreprocessSpec, codes: Sequence[str]) -> Picture:
    case, patient = item
    phantom = case.render(width)
    square, geometry = preprocess(phantom.image, spec)
    carried = [code for code, present in zip(codes, case.labels, strict=True) if present and code in LESION_OF]
    masks = {code: phantom.lesion_masks[LESION_OF[code]] for code in carried}
    return Picture(patient, square, geometry, phantom.field_mask, {code: m for code, m in masks.items() if m.any()})


def _photograph(number: int, spec: PreprocessSpec) -> Picture:
    drawn = render_photograph((PHOTOGRAPHS, number), width=WIDTH, label="P")
    square, geometry = preprocess(drawn.image, spec)
    lesions = {"P": drawn.atrophy_mask} if drawn.atrophy_mask.any() else {}
    return Picture(f"eye-{number}", square, geometry, drawn.field_mask, lesions)
