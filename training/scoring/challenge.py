"""How good what is handed in to REFUGE is, by the challenge's own measures, in the pictures' own pixels."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from keras_realmnet.errors import DataSetError
from training.data.files.challenge_list import picture_size
from training.data.glaucoma.refuge import read_refuge
from training.data.glaucoma.submission import (
    CLASSIFICATION,
    FOVEA_LOCATION,
    SEGMENTATION,
    read_classification,
    read_fovea_locations,
    read_segmentations,
)
from training.data.glaucoma.table import GlaucomaTable
from training.scoring.by_kind.sums import Means, unit_count
from training.scoring.statistics.arrays import Array
from training.scoring.statistics.bootstrap import Bootstrap, Scorer, with_intervals
from training.scoring.statistics.ranking import Ranking
from training.scoring.statistics.scores import as_json

__all__ = ["score_refuge", "vertical_cup_to_disc_ratio"]


def score_refuge(folder: Path, data: Path, part: str = "test", replicates: int = 1000) -> dict[str, Any]:
    """Scores those of the three answers that are there, with 95 % intervals from resampling pictures; JSON-safe.

    - auroc: of the risks of glaucoma.
    - dice_disc, dice_cup: means over the pictures with that structure; the cup is a part of the disc.
    - mean_error_vcdr: mean absolute error of the vertical cup-to-disc ratio.
    - mean_distance: of the fovea, Euclidean, in pixels.

    As the challenge's public program computes them (github.com/ignaciorlando/refuge-evaluation). A picture of which an
    answer is not known does not count for it.

    Args:
        folder: what is handed in, see `training.data.glaucoma.submission`.
        data: REFUGE's pictures with their truth. part: "train", "validation" or "test": those that were asked about.

    Returns:
        "pictures"; "bootstrap"; "counts": how many pictures each answer is scored on; "scores", {score: fields of
        `Interval`}.

    Raises:
        DataSetError: there is no such picture or no answer, or one is not what the challenge takes.
    """
    table = read_refuge(data)
    rows = [k for k, each in enumerate(table.sets or ()) if each == part]
    if not rows:
        raise DataSetError(f"{data}: no pictures for {part}. Found: {', '.join(sorted(set(table.sets or ())))}")
    names = [table.paths[k].name for k in rows]
    sizes = [picture_size(table.paths[k]) for k in rows]
    columns: dict[str, Array] = {}
    risks: Array | None = None
    if (folder / CLASSIFICATION).is_file():
        risks = read_classification(folder / CLASSIFICATION, names)
    if (folder / FOVEA_LOCATION).is_file():
        points = read_fovea_locations(folder / FOVEA_LOCATION, names, sizes)
        columns["mean_distance"] = np.linalg.norm(points - table.fovea[rows, 0, :2], axis=-1)
    if (folder / SEGMENTATION).is_dir():
        columns |= _segmentation(read_segmentations(folder, names, sizes), table, rows)
    if risks is None and not columns:
        expected = f"{CLASSIFICATION}, {FOVEA_LOCATION} or {SEGMENTATION}/"
        raise DataSetError(f"{folder}: nothing that is handed in; expected {expected}")
    glaucoma = table.glaucoma[rows].astype(np.float64)

    def make(units: Array) -> Scorer:
        means, ranking = Means(columns, units), None
        if risks is not None:
            ranking = Ranking(glaucoma, risks, units, unit_count(units))

        def scorer(weights: Array) -> Mapping[str, Array]:
            return ({} if ranking is None else {"auroc": ranking(weights)[0]}) | means(weights)

        return scorer

    bootstrap = Bootstrap("image", replicates)
    counts = {name: int((~np.isnan(values)).sum()) for name, values in columns.items()}
    return {
        "pictures": len(rows),
        "bootstrap": bootstrap.describe(),
        "counts": counts if risks is None else {"auroc": int((~np.isnan(glaucoma)).sum()), **counts},
        "scores": as_json(with_intervals(make, np.array(names), bootstrap)),
    }


def _segmentation(said: Iterable[Array], table: GlaucomaTable, rows: list[int]) -> dict[str, Array]:
    """Of each picture the Dice of disc and cup and the error of their ratio, (n,); NaN where that is not known."""
    found = np.full((len(rows), 3), np.nan)
    for n, (k, mask) in enumerate(zip(rows, said, strict=True)):
        if not table.masks.known[k].all():
            continue
        true = table.masks.read(k, (mask.shape[1], mask.shape[0])) == 1
        for j in range(2):
            if true[..., j].any():
                both = (mask[..., j] & true[..., j]).sum()
                found[n, j] = 2 * both / (mask[..., j].sum() + true[..., j].sum())
        found[n, 2] = abs(vertical_cup_to_disc_ratio(mask) - vertical_cup_to_disc_ratio(true))
    return dict(zip(("dice_disc", "dice_cup", "mean_error_vcdr"), found.T, strict=True))


def vertical_cup_to_disc_ratio(mask: Array) -> float:
    """REFUGE's, of a mask, bool (h, w, 2), of disc and cup: a diameter is the most pixels that any column has.

    0 where there is no disc. That is not the ratio of the heights, which the box states (`VerticalRatio`), where the
    highest and the lowest point do not lie above each other: a disc of 100 rows that leans may have 96 in any column.
    """
    disc, cup = mask.sum(axis=0).max(axis=0)
    return float(cup / disc) if disc else 0.0
