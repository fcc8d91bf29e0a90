"""Simulated annotators, who look at drawn findings: they overlook small ones, and see some where there are none.

No reader was measured for this. What they miss follows from how much there is in a region, so that they agree on what
is plain and differ where little is to be seen.
"""

import numpy as np
from numpy.typing import NDArray

from keras_realmnet.tasks.regions import REGIONS, Eye, region_map

__all__ = ["simulated_marks"]

ANNOTATORS = ("A", "B", "C")
PLAIN = 3e-4  # of the field: of so much in a region 1 − 1/e of the annotators see something
IMAGINED = 0.02  # of the pictures in which an annotator marks a region that has none


def simulated_marks(
    mask: NDArray[np.bool_], field: NDArray[np.bool_], eye: Eye, rng: np.random.Generator
) -> dict[str, tuple[str, ...]]:
    """{annotator: the regions that he marks}.

    A region is marked with the probability 1 − exp(−s / PLAIN), s being the share of the field that the finding covers
    in it: of s = .0003 with .63, of s = .0009 with .95.

    Args:
        mask: (h, w), where the finding is. field: (h, w), what the picture shows of the eye. eye: disc and fovea.
    """
    regions = region_map(mask.shape, *eye)
    shares = np.bincount(regions[mask & field], minlength=len(REGIONS)) / max(1, int(field.sum()))
    shown = np.flatnonzero(np.bincount(regions[field], minlength=len(REGIONS)))
    marks = {}
    for annotator in ANNOTATORS:
        seen = rng.random(len(REGIONS)) < 1 - np.exp(-shares / PLAIN)
        if rng.random() < IMAGINED and len(shown):
            seen[rng.choice(shown)] = True
        marks[annotator] = tuple(name for name, there in zip(REGIONS, seen, strict=True) if there)
    return marks
