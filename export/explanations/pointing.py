"""Do class maps lie on the lesion? Drawn pictures know where theirs is.

Two measures of a label that is found, beside two baselines that know nothing of the picture:

- The pointing game (Zhang et al., arXiv 1608.00507): whether the map has its peak on the label's lesion. A peak up to
  half a cell of the map beside it counts. "random" is a place drawn uniformly from the field, so the share of the field
  that would count; "centre" is the middle of the field.
- Energy (the energy-based pointing game of Score-CAM, arXiv 1910.01279): the share of the map that lies inside of the
  lesion, exactly. "random" is a map that is the same everywhere, "centre" a Gaussian around the middle of the field.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from export.explanations.explained import Found
from export.explanations.means import by_label, means
from export.explanations.pictures import Picture
from keras_realmnet.screening.overlay import draw_levels
from keras_realmnet.screening.preprocessing import FieldGeometry
from training.report.plots.class_maps import Example
from training.scoring.statistics.bootstrap import Interval

__all__ = ["Pointing", "energy_inside", "examples", "pointing", "points_at", "widened"]

CENTRE_SD = 0.25  # of the square's side: the standard deviation of the Gaussian


@dataclass(frozen=True)
class Pointing:
    """One label's maps, or all labels' together: `maps` of found labels, on images of `patients` patients.

    `hits` and `energy`: by kind of map, then by baseline; `hit_differences` and `energy_differences`: of the shown maps
    to each of the others, paired; all shares, with 95 % intervals by patient.
    """

    maps: int
    patients: int
    hits: dict[str, Interval]
    hit_differences: dict[str, Interval]
    energy: dict[str, Interval]
    energy_differences: dict[str, Interval]


def points_at(class_map: NDArray[np.floating], geometry: FieldGeometry, target: NDArray[np.bool_]) -> bool:
    """Whether the peak of a class map (h', w') lies within `target`, bool of the source image's shape."""
    laid_back = geometry.map_to_source(class_map)
    return bool(laid_back.max() > 0 and target[np.unravel_index(laid_back.argmax(), laid_back.shape)])


def energy_inside(
    class_map: NDArray[np.floating], geometry: FieldGeometry, field: NDArray[np.bool_], lesion: NDArray[np.bool_]
) -> float:
    """The share of what a class map (h', w') has within the field that lies within the lesion; 0 of an empty map."""
    laid_back = np.maximum(geometry.map_to_source(class_map), 0.0)
    whole = float(laid_back[field].sum())
    return float(laid_back[field & lesion].sum()) / whole if whole > 0 else 0.0


def widened(lesion: NDArray[np.bool_], geometry: FieldGeometry, cells: int) -> NDArray[np.bool_]:
    """`lesion` with half a cell around it."""
    radius = round(geometry.size / cells / geometry.scale[0] / 2)
    disk = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius + 1, 2 * radius + 1))
    return cv2.dilate(lesion.astype(np.uint8), disk).astype(bool)


def pointing(found: Sequence[Found], replicates: int) -> dict[str, Pointing]:
    """By label that has maps, and "all"."""
    measured = [_measured(each) for each in found]
    groups = by_label([each.code for each in found])
    return {
        code: _group([measured[i] for i in members], [found[i].picture.patient for i in members], replicates)
        for code, members in groups.items()
    }


def _group(
    measured: Sequence[tuple[dict[str, float], dict[str, float]]], patients: Sequence[str], replicates: int
) -> Pointing:
    names, found = list(measured[0][0]), []
    for k in (0, 1):  # hits, energy
        values = np.array([[each[k][name] for name in names] for each in measured])
        of_all = means(np.concatenate([values, values[:, :1] - values[:, 1:]], axis=1), patients, replicates)
        found += [dict(zip(names, of_all, strict=False)), dict(zip(names[1:], of_all[len(names) :], strict=True))]
    return Pointing(len(measured), len(set(patients)), *found)


def _measured(found: Found) -> tuple[dict[str, float], dict[str, float]]:
    """Hit and energy of one label's maps and of the baselines."""
    geometry, field, lesion = found.picture.geometry, found.picture.field_mask, found.lesion
    target = widened(lesion, geometry, max(found.shown.shape))
    hits = {kind: float(points_at(class_map, geometry, target)) for kind, class_map in found.maps.items()}
    energy = {kind: energy_inside(class_map, geometry, field, lesion) for kind, class_map in found.maps.items()}
    x, y = geometry.centre
    rows, columns = np.indices(field.shape)
    away = ((columns - x) * geometry.scale[0]) ** 2 + ((rows - y) * geometry.scale[1]) ** 2
    around = np.exp(-away / (2 * (CENTRE_SD * geometry.size) ** 2)) * field
    hits |= {"centre": float(target[round(y), round(x)]), "random": float(target[field].mean())}
    energy |= {"centre": float(around[lesion].sum() / around.sum()), "random": float(lesion[field].mean())}
    return hits, energy


def examples(found: Sequence[Found]) -> dict[str, dict[str, Example | None]]:
    """By label and kind, the maps of median probability, on the network's square with its lesion outlined."""
    shown: dict[str, dict[str, Example | None]] = {}
    for code in sorted({each.code for each in found}):
        of_code = sorted((each for each in found if each.code == code), key=lambda each: each.probability)
        chosen = of_code[len(of_code) // 2]
        square = _outlined(chosen.picture, chosen.lesion)
        shown[code] = {kind: Example(square, each, chosen.probability) for kind, each in chosen.maps.items()}
    return shown


def _outlined(picture: Picture, lesion: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """The network's square with a lesion outlined."""
    geometry, square = picture.geometry, picture.square.copy()
    (x0, y0, x1, y1), (left, top), (width, height) = geometry.box, geometry.pad, geometry.content
    inside = cv2.resize(lesion.astype(np.uint8)[y0:y1, x0:x1], (width, height), interpolation=cv2.INTER_NEAREST)
    within = np.zeros(square.shape[:2], np.float32)
    within[top : top + height, left : left + width] = inside
    draw_levels(square, within, (0, 0, 0), (255, 255, 255))
    return square
