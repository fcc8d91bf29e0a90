"""Do class maps point at the lesion? Phantoms know where theirs is.

The pointing game (Zhang et al., arXiv 1608.00507) on held-out phantoms: of the images whose label is found, the share
whose map has its peak on the label's lesion. A peak up to half a cell of the map beside it counts; chance is the share
of the field that would count.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import keras
import numpy as np
from numpy.typing import NDArray
from rich.table import Table

from export.contract.keras_source import load_realmnet
from keras_realmnet import RealMNet
from keras_realmnet.errors import RealMNetError
from keras_realmnet.models.heads import ClassMaps
from keras_realmnet.models.map_offset import FOUND
from keras_realmnet.screening.bundle.bundle import Bundle
from keras_realmnet.screening.overlay import draw_levels
from keras_realmnet.screening.preprocessing import FieldGeometry, PreprocessSpec, preprocess
from training.data.parallel import in_parallel
from training.datasets.phantom import PhantomDataSet
from training.phantoms.cohorts import PhantomCase
from training.report.plots.class_maps import Example, class_maps
from training.report.plots.files import png
from training.scoring.bootstrap import Interval, draws, interval

__all__ = ["KINDS", "LESION_OF", "Localization", "Pointing", "localize", "points_at", "table", "write"]

# What the bundle shows, the same without moving it back by the network's own offset, and the publication's.
KINDS = ("class maps", "not moved back", "Grad-CAM++")

LESION_OF = {"S1": "staphyloma", "A2": "diffuse_atrophy", "A3": "patchy_atrophy", "A4": "macular_atrophy"}
BATCH = 16


@dataclass(frozen=True)
class Pointing:
    """One label's maps, or all labels' together: `maps` of found labels, on as many images of `patients` patients.

    `hits`: share that points at the lesion, by kind of map; `difference`: first kind − last kind, paired; both with
    patient-level 95 % intervals. `chance`: share of the field that counts as a hit, mean over the maps.
    """

    maps: int
    patients: int
    chance: float
    hits: dict[str, Interval]
    difference: Interval


@dataclass(frozen=True)
class Localization:
    """`labels`: by code, and "all". `examples`: of median probability, by code and kind, the lesion outlined."""

    bundle: str
    offset: tuple[float, float]
    data: str
    labels: dict[str, Pointing]
    examples: dict[str, dict[str, Example]] = field(repr=False)

    def to_dict(self) -> dict[str, Any]:
        labels = {code: asdict(pointing) for code, pointing in self.labels.items()}
        return {"bundle": self.bundle, "map_offset": self.offset, "data": self.data, "labels": labels}


@dataclass(frozen=True)
class _Truth:
    """A phantom as the network sees it, and its lesions in its own pixels."""

    square: NDArray[np.uint8]
    geometry: FieldGeometry
    field_mask: NDArray[np.bool_]
    lesions: dict[str, NDArray[np.bool_]]


@dataclass(frozen=True)
class _Map:
    """What one found label's maps gave: `hits` in the order of `KINDS`."""

    code: str
    patient: str
    probability: float
    chance: float
    hits: tuple[bool, ...]
    truth: _Truth = field(repr=False)
    maps: dict[str, NDArray[np.float32]] = field(repr=False)


def points_at(class_map: NDArray[np.floating], geometry: FieldGeometry, target: NDArray[np.bool_]) -> bool:
    """Whether the peak of a class map (h', w') lies within `target`, bool of the source image's shape."""
    laid_back = geometry.map_to_source(class_map)
    return bool(laid_back.max() > 0 and target[np.unravel_index(laid_back.argmax(), laid_back.shape)])


def _widened(lesion: NDArray[np.bool_], geometry: FieldGeometry, cells: int) -> NDArray[np.bool_]:
    """`lesion` with half a cell around it."""
    radius = round(geometry.size / cells / geometry.scale[0] / 2)
    disk = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius + 1, 2 * radius + 1))
    return cv2.dilate(lesion.astype(np.uint8), disk).astype(bool)


def _draw(case: PhantomCase, width: int, spec: PreprocessSpec) -> _Truth:
    phantom = case.render(width)
    square, geometry = preprocess(phantom.image, spec)
    codes = PhantomDataSet().task.label_set.codes
    carried = {code for code, present in zip(codes, case.labels, strict=True) if present}
    masks = {code: phantom.lesion_masks[name] for code, name in LESION_OF.items() if code in carried}
    return _Truth(square, geometry, phantom.field_mask, {code: mask for code, mask in masks.items() if mask.any()})


def _explained(model: RealMNet) -> Any:
    """Images → logits, and the class maps of each of `KINDS`."""
    layers = (
        ClassMaps(model.head, offset=model.map_offset),
        ClassMaps(model.head),
        ClassMaps(model.head, "grad_cam_plus_plus"),
    )
    return keras.Model(model.input, [model.output, *(layer(model.feature_map) for layer in layers)])


def _found(explained: Any, truths: Sequence[_Truth], patients: Sequence[str]) -> Iterator[_Map]:
    """The maps of every label of these images that has a lesion and is found."""
    logits, *maps = map(np.asarray, explained.predict_on_batch(np.stack([t.square for t in truths]).astype(np.float32)))
    probabilities = 1 / (1 + np.exp(-logits))
    for i, (truth, patient) in enumerate(zip(truths, patients, strict=True)):
        for code, lesion in truth.lesions.items():
            k = PhantomDataSet().task.label_set.codes.index(code)
            if probabilities[i, k] < FOUND:
                continue
            of_label = {kind: of_kind[i, ..., k] for kind, of_kind in zip(KINDS, maps, strict=True)}
            target = _widened(lesion, truth.geometry, max(maps[0].shape[1:3]))
            hits = tuple(points_at(of_label[kind], truth.geometry, target) for kind in KINDS)
            chance = float(target[truth.field_mask].mean())
            yield _Map(code, patient, float(probabilities[i, k]), chance, hits, truth, of_label)


def _pointing(maps: Sequence[_Map], replicates: int) -> Pointing:
    patients, unit = np.unique([m.patient for m in maps], return_inverse=True)
    hits = np.array([m.hits for m in maps], np.float64)  # (maps, kinds)
    hits = np.column_stack([hits, hits[:, 0] - hits[:, -1]])
    blocks = list(draws(len(patients), len(patients), replicates, seed=0)) if replicates else []
    weights = np.concatenate([block[unit] for block in blocks], axis=1) if blocks else np.empty((len(maps), 0))
    shares = hits.T @ weights / weights.sum(axis=0)  # (kinds + 1, replicates)
    *by_kind, difference = (
        interval(float(value), drawn, "patient") for value, drawn in zip(hits.mean(axis=0), shares, strict=True)
    )
    return Pointing(
        maps=len(maps),
        patients=len(patients),
        chance=float(np.mean([m.chance for m in maps])),
        hits=dict(zip(KINDS, by_kind, strict=True)),
        difference=difference,
    )


def _examples(maps: Sequence[_Map]) -> dict[str, Example]:
    """The maps of median probability, by kind, on the network's square with its lesion outlined."""
    chosen = sorted(maps, key=lambda m: m.probability)[len(maps) // 2]
    geometry, square = chosen.truth.geometry, chosen.truth.square.copy()
    lesion = chosen.truth.lesions[chosen.code].astype(np.uint8)
    (x0, y0, x1, y1), (left, top), (width, height) = geometry.box, geometry.pad, geometry.content
    inside = cv2.resize(lesion[y0:y1, x0:x1], (width, height), interpolation=cv2.INTER_NEAREST)
    within = np.zeros(square.shape[:2], np.float32)
    within[top : top + height, left : left + width] = inside
    draw_levels(square, within, (0, 0, 0), (255, 255, 255))
    return {kind: Example(square, chosen.maps[kind], chosen.probability) for kind in KINDS}


def localize(bundle: Bundle, data: PhantomDataSet, replicates: int = 1000) -> Localization:
    """The pointing game of a bundle's network on the test phantoms of `data`.

    Raises:
        RealMNetError: a bundle for other images or labels than the phantoms', one stripped of its Keras model, or a
            network that finds no label that has a lesion.
    """
    if (bundle.task.modality, bundle.task.name) != (data.task.modality, data.task.name):
        raise RealMNetError(
            f"{bundle.directory}: phantoms are {data.task.modality} images with {data.task.name} labels. "
            f"Received: a bundle for {bundle.task.modality} with {bundle.task.name}"
        )
    model = load_realmnet(bundle)
    explained = _explained(model)
    cases, patients = data.cases("test")
    draw = partial(_draw, width=data.width, spec=bundle.spec)
    maps: list[_Map] = []
    truths: list[_Truth] = []
    for i, truth in enumerate(in_parallel(draw, cases, "drawing and asking", chunk=BATCH), start=1):
        truths.append(truth)
        if len(truths) == BATCH or i == len(cases):
            maps += _found(explained, truths, patients[i - len(truths) : i])
            truths = []
    if not maps:
        raise RealMNetError(f"{bundle.directory}: no label with a lesion is found on any of {len(cases)} phantoms")
    by_code = {code: [m for m in maps if m.code == code] for code in LESION_OF}
    by_code = {code: found for code, found in by_code.items() if found}
    return Localization(
        bundle=f"{bundle.name} {bundle.version}",
        offset=model.map_offset,
        data=f"{len(cases)} held-out phantoms of {len(set(patients))} synthetic patients",
        labels={code: _pointing(found, replicates) for code, found in {**by_code, "all": maps}.items()},
        examples={code: _examples(found) for code, found in by_code.items()},
    )


def table(found: Localization) -> Table:
    """To print."""
    table = Table(title=f"maps that point at the lesion: {found.bundle}, {found.data}")
    for column in ("label", "maps", "patients", "chance", *KINDS, "difference"):
        table.add_column(column, justify="left" if column == "label" else "right", no_wrap=True)
    for code, pointing in found.labels.items():
        shares = [_text(pointing.hits[name]) for name in KINDS]
        row = (code, f"{pointing.maps}", f"{pointing.patients}", f"{pointing.chance:.2f}", *shares)
        table.add_row(*row, _text(pointing.difference))
    return table


def _text(value: Interval) -> str:
    return f"{value.value:.2f}" if value.low is None else f"{value.value:.2f} ({value.low:.2f} to {value.high:.2f})"


def write(found: Localization, folder: Path) -> None:
    """localization.json, and localization.png with an example of each label."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "localization.json").write_text(json.dumps(found.to_dict(), indent=1) + "\n")
    (folder / "localization.png").write_bytes(png(class_maps(found.examples)))
