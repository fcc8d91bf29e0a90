"""Marked regions: where annotators saw a finding, which holds back a network's activation map elsewhere."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from keras_realmnet.tasks.outputs import Masks
from training.scoring.by_kind.regions import RegionScorer, activation_in_regions
from training.scoring.statistics.bootstrap import Scorer
from training.tasks.kind import Array, Cases
from training.tasks.masks import MasksKind, pixels_of_labels

__all__ = ["RegionsKind"]


class RegionsKind(MasksKind):
    """The masks of `keras_realmnet.tasks.guidance.marked_regions`: 1 in the regions in which any annotator marked the
    label, 0 elsewhere, 255 where that is not known.

    They are told, moved and kept as other masks, but the network's map is not to find them: it is to stay inside.
    """

    losses = ("Guidance",)
    figures: ClassVar = {"air": True}

    def losses_of(self, output: Masks) -> Mapping[str, Mapping[str, Any]]:
        return {name: {} for name in self.losses}

    def cases(self, output: Masks, truth: Array, predicted: Array) -> dict[str, Array]:
        """ "air" and, bool (n, labels), "marked" and "known": whether the label was marked, and anything is known."""
        air, marked, known = [], [], []
        for mask, activation in zip(truth, predicted, strict=True):
            asked, inside = pixels_of_labels(output, mask)
            air.append(activation_in_regions(activation, inside, asked))
            marked.append(inside.any(axis=(0, 1)))
            known.append(asked.any(axis=(0, 1)))
        return {"air": np.stack(air), "marked": np.stack(marked), "known": np.stack(known)}

    def scorer(self, output: Masks, cases: Cases, units: Array) -> Scorer:
        return RegionScorer(output.labels, cases, units)

    def counts(self, output: Masks, cases: Cases) -> dict[str, Any]:
        """Of each label in how many images it was marked, or not, or nothing is known of it; and, where the labels are
        known, the threshold, and how many with it are found and missed by it, as in `RegionScorer`."""
        found: dict[str, dict[str, Any]] = {}
        for k, code in enumerate(output.labels.codes):
            marked, known = cases["marked"][:, k], cases["known"][:, k]
            found[code] = {
                "with": int(marked.sum()),
                "without": int((known & ~marked).sum()),
                "unknown": int((~known).sum()),
            }
            if "present" in cases:
                present, said = cases["present"][:, k] == 1, cases["said"][:, k]
                threshold = float(cases["threshold"][0, k])
                found[code] |= {
                    "threshold": None if np.isnan(threshold) else threshold,
                    "true positives": int((present & said).sum()),
                    "false negatives": int((present & ~said).sum()),
                }
        return found

    def curves(self, output: Masks, cases: Cases) -> dict[str, Any]:
        return {}

    def columns(self, name: str, output: Masks, cases: Cases) -> dict[str, Sequence[str]]:
        """CODE_air, nothing in images in which the label was not marked."""
        return {
            f"{code}_air": ["" if np.isnan(value) else str(value) for value in cases["air"][:, k]]
            for k, code in enumerate(output.labels.codes)
        }
