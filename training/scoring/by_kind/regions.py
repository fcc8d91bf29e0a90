"""Scores of activation maps: how much of them lies in the regions in which a finding was marked."""

from collections.abc import Mapping

import numpy as np

from keras_realmnet.tasks.vocabulary import LabelSet
from training.scoring.by_kind.sums import Means, mean_of, sums_by_unit
from training.scoring.statistics.arrays import Array, ratio

__all__ = ["RegionScorer", "activation_in_regions"]


def activation_in_regions(activation: Array, inside: Array, known: Array) -> Array:
    """The AIR of one image, Σ A·M / Σ A, float64 (labels,); NaN of a label that was marked nowhere.

    Args:
        activation: A, (h, w, labels), 0 to 1. inside, known: (height, width, labels), bool, whether a pixel lies in a
            marked region, and whether that is known; whole multiples of h and w. What is not known does not count.

    Source: Son et al., Classification of Findings with Localized Lesions in Fundoscopic Images using a Regionally
    Guided CNN (OMIA 2018): the activation in region.
    """
    (height, width, labels), (rows, columns) = activation.shape, inside.shape[:2]
    if rows % height or columns % width:
        raise ValueError(f"regions must be whole multiples of {height} × {width}. Received: {rows} × {columns}")
    cells = (height, rows // height, width, columns // width, labels)
    shares = [(each & known).reshape(cells).mean(axis=(1, 3)) for each in (inside, known)]
    in_regions, total = ((activation.astype(np.float64) * share).sum(axis=(0, 1)) for share in shares)
    return np.where((inside & known).any(axis=(0, 1)), ratio(in_regions, total), np.nan)


class RegionScorer:
    """Of numbers of n images and the labels.

    "air", (n, labels): see `activation_in_regions`. What may be missing, and is of the output of labels that the
    regions belong to: "present", (n, labels), 1, 0 or NaN; "said", bool (n, labels), whether its probability reaches
    the threshold with the best harmonic mean of sensitivity and specificity, which is chosen on all of the images and
    stays in every resample.

    - air_CODE: the mean over the images in which the label was marked, but those that "present" does not know.
    - air_tp_CODE, air_fn_CODE: over those that have it and are found (true positives), or are not (false negatives).
    - sensitivity_CODE, specificity_CODE: at that threshold.
    - each without a code: the mean over the labels.
    """

    def __init__(self, labels: LabelSet, cases: Mapping[str, Array], units: Array):
        self.codes = labels.codes
        air = {"air": cases["air"].astype(np.float64)}
        self.rates: dict[str, tuple[Array, Array]] = {}
        if "present" in cases:
            present, said = cases["present"], cases["said"]
            air["air"] = np.where(np.isnan(present), np.nan, air["air"])
            air["air_tp"] = np.where((present == 1) & said, air["air"], np.nan)
            air["air_fn"] = np.where((present == 1) & ~said, air["air"], np.nan)
            for name, value, right in (("sensitivity", 1, said), ("specificity", 0, ~said)):
                among = present == value
                self.rates[name] = sums_by_unit(among & right, units), sums_by_unit(among, units)
        self.names = (*air, *self.rates)
        columns = {f"{name}_{code}": values[:, k] for name, values in air.items() for k, code in enumerate(self.codes)}
        self.means = Means(columns, units)
        self.there = {name: ~np.isnan(values).all(axis=0) for name, values in air.items()}
        self.there |= {name: among.sum(axis=-1) > 0 for name, (_, among) in self.rates.items()}

    def __call__(self, weights: Array) -> dict[str, Array]:
        of_labels = self.means(weights)
        for name, (right, among) in self.rates.items():
            shares = ratio(right @ weights, among @ weights)
            of_labels |= {f"{name}_{code}": share for code, share in zip(self.codes, shares, strict=True)}
        together = {
            name: mean_of([of_labels[f"{name}_{code}"] for code in self.codes], self.there[name]) for name in self.names
        }
        return together | of_labels
