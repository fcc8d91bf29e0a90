"""Scores of points: how far from the truth, and how many are missed."""

from collections.abc import Mapping

import numpy as np

from keras_realmnet.tasks.vocabulary import LabelSet
from training.scoring.by_kind.sums import sums_by_unit, unit_count
from training.scoring.statistics.arrays import Array, ratio

__all__ = ["LOWER_IS_BETTER", "PointScorer"]

LOWER_IS_BETTER = ("mean_", "median_", "missed", "spurious")  # how the names of all its scores begin


class PointScorer:
    """Of numbers of n images and the points.

    "distance", (n, points): in fractions of the square's side, NaN where no place is known. "visible", (n, points): 1,
    0, NaN where not known. "found", bool (n, points): whether the network says that it is there. "diameter", (n,), may
    be missing: of the optic disc, in fractions of the square's side, NaN where not known. "side", (n,), may be missing,
    too: the square's side in longer sides of the picture, NaN where not known. "longer_side", (n,), as "side": the
    latter in pixels of the picture.

    - mean_distance, median_distance: of all points whose place is known, found or not.
    - mean_diameters, median_diameters: the same in diameters of the disc, where that is known.
    - mean_picture_distance, median_picture_distance: the same in longer sides of the picture, black borders included,
      where that is known: what PALM's and IDRiD's distances are, once they are divided by a picture's width.
    - mean_pixels, median_pixels: the same in pixels of the picture, REFUGE's measure.
    - missed: share of visible points that are not found. spurious: share of those not visible that are found.

    Each also of one point, with its code behind.
    """

    def __init__(self, points: LabelSet, cases: Mapping[str, Array], units: Array):
        visible, found = cases["visible"], cases["found"]
        self.codes = points.codes
        self.columns = {
            "visible": sums_by_unit(visible == 1, units),
            "absent": sums_by_unit(visible == 0, units),
            "missed": sums_by_unit((visible == 1) & ~found, units),
            "spurious": sums_by_unit((visible == 0) & found, units),
        }
        distances = {"distance": cases["distance"].astype(np.float64)}
        if "diameter" in cases:
            distances["diameters"] = distances["distance"] / cases["diameter"][:, None]
        if "side" in cases:
            distances["picture_distance"] = distances["distance"] * cases["side"][:, None]
        if "longer_side" in cases:
            distances["pixels"] = distances["picture_distance"] * cases["longer_side"][:, None]
        self.sorted = {name: _Sorted(values, units) for name, values in distances.items()}
        self.sorted |= {
            f"{name}_{code}": _Sorted(values[:, [k]], units)
            for name, values in distances.items()
            for k, code in enumerate(self.codes)
        }

    def __call__(self, weights: Array) -> dict[str, Array]:
        scores: dict[str, Array] = {}
        for name, values in self.sorted.items():
            scores[f"mean_{name}"], scores[f"median_{name}"] = values(weights)
        total = {name: sums @ weights for name, sums in self.columns.items()}  # (points, replicates)
        for name, among in (("missed", "visible"), ("spurious", "absent")):
            scores[name] = ratio(total[name].sum(axis=0), total[among].sum(axis=0))
            shares = ratio(total[name], total[among])
            scores |= {f"{name}_{code}": share for code, share in zip(self.codes, shares, strict=True)}
        return scores


class _Sorted:
    """Mean and median of numbers (n, k), without those that are NaN, for many weightings of the units at once."""

    def __init__(self, values: Array, units: Array):
        flat, units = values.ravel(), np.repeat(units, values.shape[1])
        order = np.argsort(flat, kind="stable")[: int((~np.isnan(flat)).sum())]  # NaN comes last
        self.values, self.units, self.count = flat[order], units[order], unit_count(units)

    def __call__(self, weights: Array) -> tuple[Array, Array]:
        """Both (replicates,), for whole numbers (units, replicates); NaN where nothing is drawn."""
        nothing = np.full(weights.shape[1], np.nan)
        if not len(self.values):
            return nothing, nothing
        passed = np.cumsum(weights[self.units], axis=0)  # (values, replicates)
        total = passed[-1]
        # The two in the middle, one of them twice where their number is odd: of 1, 2, 4, 8 the second and the third.
        middle = [(passed > place).argmax(axis=0) for place in (np.floor((total - 1) / 2), np.ceil((total - 1) / 2))]
        median = np.where(total > 0, self.values[middle].mean(axis=0), np.nan)
        return ratio(self.values @ weights[self.units], total), median
