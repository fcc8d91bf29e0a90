"""Whether what arrives is still like the reference pictures of a bundle, in light, colour, features and outcomes.

Two questions are asked of each sender's pictures. Of the last `IMAGES`: do they lie in the same bins as the reference's
(population stability index)? Of the feature distances in the order of receipt: has their level risen (one-sided
cumulative sum, Page, Biometrika 41, 1954)? Numbers over many pictures alone are looked at, nothing of a patient.
docs/distribution.md tells how often each is wrong, and how soon right.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from edge_app.store.records import Measured
from edge_app.store.store import Store
from keras_realmnet.screening.bundle.bundle import Bundle
from keras_realmnet.tasks.reference import Reference

__all__ = ["Drift", "cumulative_sum", "drift_of", "drifts", "normal_scores", "psi", "psi_limit", "warnings"]

IMAGES = 100  # the last ones of a sender, whose shares are compared
HISTORY = 500  # so many of its pictures the sum looks back
# The sum grows by the normal score less the allowance: tuned to a rise by one standard deviation. At 10 a sum of
# normal scores gives one false alarm in 140,000 pictures (Siegmund's approximation); that of ranks among a few hundred
# pictures gives more, see docs/distribution.md. It ends at twice that, so that it falls once pictures are as before.
ALLOWANCE, SUM_LIMIT = 0.5, 10.0
# An index above 0.25 is a change by custom; that of few pictures is as large by chance alone, see `psi_limit`.
PSI_LIMIT, PSI_TAIL = 0.25, 1e-5
DISTANCE, OUTCOMES = "feature distance", "outcomes"


@dataclass(frozen=True)
class Drift:
    """How the last pictures of a sender compare with a bundle's reference.

    images: how many, `IMAGES` at most. indices: {what is compared: (population stability index, its limit)}; empty
    below `IMAGES` pictures. sum: of the feature distances; warns above `SUM_LIMIT`.
    """

    bundle: str
    sender: str
    images: int
    indices: Mapping[str, tuple[float, float]]
    sum: float

    @property
    def changed(self) -> tuple[str, ...]:
        """What is no longer as in the reference."""
        changed = [name for name, (index, limit) in self.indices.items() if index > limit]
        return tuple(dict.fromkeys([*([DISTANCE] if self.sum > SUM_LIMIT else []), *changed]))

    @property
    def warning(self) -> str | None:
        """A line for people; None where nothing has changed."""
        if not self.changed:
            return None
        names = ", ".join(name.replace("_", " ") for name in self.changed)
        camera = self.changed != (OUTCOMES,)  # else the pictures look as ever
        look = "camera, lens and export settings" if camera else "who is photographed, and at the results"
        return (
            f"pictures from {self.sender} are no longer like the reference pictures of {self.bundle}: {names}. "
            f"Look at {look}"
        )


def drifts(store: Store, bundles: Iterable[Bundle]) -> list[Drift]:
    """Of each bundle with a reference and each sender of pictures that it has analysed."""
    return [
        drift_of(bundle.name, sender, bundle.task.reference, pictures)
        for bundle in bundles
        if bundle.task.reference is not None
        for sender, pictures in store.measured(bundle.digest, HISTORY).items()
    ]


def warnings(found: Iterable[Drift]) -> list[str]:
    """A line for each sender and bundle where something has changed."""
    return [each.warning for each in found if each.warning is not None]


def drift_of(bundle: str, sender: str, reference: Reference, pictures: Sequence[Measured]) -> Drift:
    """`pictures`: of the sender, in the order of receipt."""
    analysed = [each for each in pictures if each.distance is not None]
    distances = np.array([each.distance for each in analysed], np.float64)
    total = cumulative_sum(normal_scores(reference.distances, distances))[-1] if len(distances) else 0.0
    indices = {}
    if len(analysed) >= IMAGES:
        last = analysed[-IMAGES:]
        for name, usual in reference.measures.items():
            values = np.array([each.quality[name] for each in last if each.quality.get(name) is not None])
            indices[name] = _compared(np.array(usual.shares) * usual.number, usual.counts(values))
    outcomes = [each.outcome for each in pictures if each.outcome != "not_analysed"][-IMAGES:]
    if len(outcomes) >= IMAGES and reference.outcomes:
        kinds = sorted({*reference.outcomes, *outcomes})
        usual_counts = np.array([reference.outcomes.get(kind, 0) for kind in kinds])
        indices[OUTCOMES] = _compared(usual_counts, np.array([outcomes.count(kind) for kind in kinds]))
    return Drift(bundle, sender, min(len(analysed), IMAGES), indices, float(total))


def _compared(usual: NDArray[np.floating | np.integer], counts: NDArray[np.integer]) -> tuple[float, float]:
    return float(psi(usual, counts)), psi_limit(len(usual), int(usual.sum()), int(counts.sum()))


def psi(usual: NDArray[np.floating | np.integer], counts: NDArray[np.integer]) -> NDArray[np.float64]:
    """The population stability index of counts (..., bins) against usual ones (bins,): Σ (p − q) ln (p / q).

    Half a picture is added to each bin, so that an empty one has a share.
    """
    p, q = ((each + 0.5) / (each.sum(-1, keepdims=True) + each.shape[-1] / 2) for each in (counts, usual))
    return np.asarray(((p - q) * np.log(p / q)).sum(-1))


def psi_limit(bins: int, usual: int, images: int) -> float:
    """Above which an index tells of a change, in so many pictures of the reference and of now.

    Without a change the index is 1 / usual + 1 / images times a chi-squared number with bins − 1 degrees of freedom
    (Yurdakul, Western Michigan University 2018). Its quantile is Wilson and Hilferty's (PNAS 17, 1931).
    """
    freedom = max(bins - 1, 1)
    part = 2 / (9 * freedom)
    quantile = freedom * (1 - part + NormalDist().inv_cdf(1 - PSI_TAIL) * part**0.5) ** 3
    return float(max(PSI_LIMIT, (1 / usual + 1 / max(images, 1)) * quantile))


def normal_scores(usual: Sequence[float], values: NDArray[np.floating]) -> NDArray[np.float64]:
    """Which standard normal number has the rank of each value (n,) among usual ones, ascending; bounded by how many
    these are, so that one odd picture is no change."""
    ranks = (np.searchsorted(usual, values, side="left") + np.searchsorted(usual, values, side="right")) / 2
    scores = [NormalDist().inv_cdf((rank + 0.5) / (len(usual) + 1)) for rank in ranks.tolist()]
    return np.array(scores, np.float64)


def cumulative_sum(scores: NDArray[np.floating]) -> NDArray[np.float64]:
    """The sum after each score (..., n): S = min(max(0, S + score − ALLOWANCE), 2 SUM_LIMIT)."""
    total = np.zeros(scores.shape[:-1])
    sums = np.empty(scores.shape)
    for n in range(scores.shape[-1]):
        total = np.clip(total + scores[..., n] - ALLOWANCE, 0, 2 * SUM_LIMIT)
        sums[..., n] = total
    return sums
